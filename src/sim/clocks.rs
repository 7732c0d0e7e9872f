//! A simulated node's clocks in virtual time: the oscillator, the wall clock on it, and the hardware clock.

use std::time::Duration;

use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Ppb, Reading, Wall, nanos};

/// The raw clock at the start: any number but 0.
const RAW_START: Mono = Mono::from_nanos(1_234_567_890_123);

/// The node's oscillator.
#[derive(Clone, Copy, Debug)]
pub struct Oscillator {
    /// Constant frequency error; positive: fast.
    pub error: Ppb,
    /// Amplitude of the change with temperature, around the constant error.
    pub swing: Ppb,
    /// Period of the change with temperature.
    pub period: Duration,
}

/// The clocks. Time passes only by [`NodeClocks::pass`] and what stops the node.
#[derive(Clone, Debug)]
pub struct NodeClocks {
    /// Reference time at the start.
    reference: Wall,
    /// The wall clock at the start.
    wall_start: Wall,
    oscillator: Oscillator,
    /// True time since the start.
    elapsed: Duration,
    /// Time in suspend, which the kernel counts.
    suspended: Duration,
    /// Time in pauses that the kernel did not notice.
    paused: Duration,
    /// When the constant error last changed, in time awake, and what the raw clock had counted without the swing, ns.
    rate_since: (Duration, i64),
    wall: WallClock,
    rtc: HardwareClock,
}

/// What other processes and the kernel do to the wall clock, in addition to the oscillator.
#[derive(Clone, Copy, Debug, Default)]
struct WallClock {
    /// Wall time - wall time by the oscillator alone, ns.
    moved: i64,
    slew: Ppb,
    /// In time awake: a slew stands still while the node does.
    since: Duration,
}

#[derive(Clone, Copy, Debug)]
struct HardwareClock {
    start: Wall,
    /// Its own frequency error; `None`: it runs as fast as the raw clock.
    rate: Option<Ppb>,
    /// The sum of all changes by setting it, ns.
    written: i64,
    /// What it shows since it stands still.
    stopped: Option<Wall>,
}

/// How much faster reference time runs than a raw clock with this error.
pub fn of_reference(error: Ppb) -> Ppb {
    let (error, second) = (i128::from(error.0), i128::from(NANOS_PER_SEC));
    let rate = -error * second / (second + error).max(1);
    Ppb(i64::try_from(rate).unwrap_or(i64::MAX))
}

impl NodeClocks {
    /// Reference time, the true offset, and hardware clock - wall clock, all at the start. `rtc_rate`: the frequency
    /// error of the hardware clock; `None`: it runs as fast as the raw clock.
    pub fn new(
        reference: Wall,
        offset: Offset,
        oscillator: Oscillator,
        rtc_ahead: Offset,
        rtc_rate: Option<Ppb>,
    ) -> Self {
        let wall_start = reference.plus(Offset::from_nanos(-offset.as_nanos()));
        Self {
            reference,
            wall_start,
            oscillator,
            elapsed: Duration::ZERO,
            suspended: Duration::ZERO,
            paused: Duration::ZERO,
            rate_since: (Duration::ZERO, 0),
            wall: WallClock::default(),
            rtc: HardwareClock {
                start: wall_start.plus(rtc_ahead),
                rate: rtc_rate,
                written: 0,
                stopped: None,
            },
        }
    }

    /// True time since the start.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Time passes until so long after the start, while the node runs; none if that is over.
    pub fn pass_until(&mut self, elapsed: Duration) {
        self.elapsed = self.elapsed.max(elapsed);
    }

    /// How long the node has run.
    fn awake(&self) -> Duration {
        self.elapsed.saturating_sub(self.suspended + self.paused)
    }

    /// What the raw clock has counted without the swing after so long awake, ns.
    fn counted(&self, awake: Duration) -> i64 {
        let (since, before) = self.rate_since;
        let span = awake.saturating_sub(since);
        before.saturating_add(nanos(span)).saturating_add(self.oscillator.error.over(span))
    }

    /// Reference time now.
    pub fn reference(&self) -> Wall {
        self.reference.plus(Offset::from_nanos(nanos(self.elapsed)))
    }

    /// The true offset now.
    pub fn truth(&self) -> Offset {
        self.reference().minus(self.reading().wall)
    }

    /// The clocks now. The raw clock does not count during suspend; the kernel sets the wall clock afterwards.
    pub fn reading(&self) -> Reading {
        let awake = self.awake();
        let counted = self.counted(awake).saturating_add(self.oscillator.swing_over(awake));
        let on_wall = counted.saturating_add(nanos(self.suspended)).saturating_add(self.wall.at(awake));
        Reading {
            wall: self.wall_start.plus(Offset::from_nanos(on_wall)),
            raw: RAW_START.plus(Duration::from_nanos(counted.unsigned_abs())),
            suspended: self.suspended,
        }
    }

    /// True time in which the raw clock counts `span`, and a little more.
    pub fn until_counted(&self, span: Duration) -> Duration {
        // At the slowest.
        let off = self.oscillator.error.0.saturating_sub(self.oscillator.swing.0.saturating_abs());
        span.mul_f64(1.0 / (1.0 + Ppb(off.max(-900_000_000)).as_ratio())) + Duration::from_nanos(2)
    }

    /// The oscillator has another constant error from now on.
    pub fn set_rate(&mut self, error: Ppb) {
        let awake = self.awake();
        self.rate_since = (awake, self.counted(awake));
        self.oscillator.error = error;
    }

    /// The constant error of the oscillator.
    pub fn rate(&self) -> Ppb {
        self.oscillator.error
    }

    /// Another process steps the wall clock; positive: forward.
    pub fn step_wall(&mut self, by: Offset) {
        let awake = self.awake();
        let moved = self.wall.at(awake).saturating_add(by.as_nanos());
        self.wall = WallClock { moved, since: awake, ..self.wall };
    }

    /// Another process slews the wall clock from now on.
    pub fn slew_wall(&mut self, rate: Ppb) {
        let awake = self.awake();
        self.wall = WallClock { moved: self.wall.at(awake), slew: rate, since: awake };
    }

    /// The node is suspended; the kernel notices, and leaves the wall clock this far behind.
    pub fn suspend(&mut self, span: Duration, left_behind: Duration) {
        self.suspended += span;
        self.elapsed += span;
        self.step_wall(Offset::from_nanos(-nanos(left_behind)));
    }

    /// The hypervisor pauses the node; its kernel does not notice, and the hardware clock continues.
    pub fn pause(&mut self, span: Duration) {
        self.paused += span;
        self.elapsed += span;
    }

    /// The hardware clock is set to the wall clock plus `ahead`, as another process may do; by the kernel it
    /// is zero.
    pub fn write_rtc(&mut self, ahead: Offset) {
        self.rtc.written += ahead.as_nanos() - self.rtc_ahead().as_nanos();
    }

    /// The hardware clock stands still from now on.
    pub fn stop_rtc(&mut self) {
        self.rtc.stopped = Some(self.rtc());
    }

    /// Hardware clock - wall clock.
    pub fn rtc_ahead(&self) -> Offset {
        self.rtc().minus(self.reading().wall)
    }

    /// The hardware clock; `sim::node` has less ideal ones.
    pub fn rtc(&self) -> Wall {
        if let Some(stopped) = self.rtc.stopped {
            return stopped;
        }
        let ran = match self.rtc.rate {
            Some(rate) => nanos(self.elapsed).saturating_add(rate.over(self.elapsed)),
            None => nanos(self.reading().raw.since(RAW_START)) + nanos(self.suspended + self.paused),
        };
        self.rtc.start.plus(Offset::from_nanos(ran.saturating_add(self.rtc.written)))
    }
}

impl WallClock {
    fn at(&self, awake: Duration) -> i64 {
        self.moved.saturating_add(self.slew.over(awake.saturating_sub(self.since)))
    }
}

impl Oscillator {
    /// What the change with temperature has made the raw clock gain in `awake`, ns.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a swing is some microseconds an hour"
    )]
    fn swing_over(&self, awake: Duration) -> i64 {
        let period = self.period.as_secs_f64().max(1.0);
        let phase = std::f64::consts::TAU * awake.as_secs_f64() / period;
        (self.swing.0 as f64 * period / std::f64::consts::TAU * (1.0 - phase.cos())) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn clocks(ppm: i64, swing: i64) -> NodeClocks {
        let oscillator =
            Oscillator { error: Ppb::from_ppm(ppm), swing: Ppb::from_ppm(swing), period: HOUR * 4 };
        NodeClocks::new(Wall::from_secs(1_795_341_600), Offset::ZERO, oscillator, Offset::ZERO, Some(Ppb(0)))
    }

    fn passed(ppm: i64, span: Duration) -> NodeClocks {
        let mut clocks = clocks(ppm, 0);
        clocks.pass_until(span);
        clocks
    }

    fn off_ms(clocks: &NodeClocks) -> i64 {
        clocks.truth().as_nanos() / MS
    }

    #[test]
    fn oscillators_gain_what_their_error_says_also_after_it_has_changed() {
        let mut clocks = passed(100, HOUR);
        assert_eq!(off_ms(&clocks), -360);
        clocks.set_rate(Ppb::from_ppm(-50_000));
        clocks.pass_until(HOUR + Duration::from_secs(10));
        assert_eq!(off_ms(&clocks), -360 + 500);
        assert_eq!(clocks.reading().raw.since(RAW_START).as_millis(), 3_600_360 + 9_500);
    }

    #[test]
    fn swings_change_the_rate_by_their_amplitude_and_return() {
        let mut clocks = clocks(0, 10);
        let mut gains = Vec::new();
        for minute in 1..=240 {
            let before = clocks.truth();
            clocks.pass_until(Duration::from_secs(60) * minute);
            gains.push(before.minus_offset(clocks.truth()));
        }
        assert!((590_000..600_001).contains(gains.iter().max().unwrap()), "{gains:?}");
        assert!(clocks.truth().magnitude() < Duration::from_micros(1), "{:?}", clocks.truth());
    }

    trait Minus {
        fn minus_offset(self, other: Self) -> i64;
    }

    impl Minus for Offset {
        fn minus_offset(self, other: Self) -> i64 {
            self.as_nanos() - other.as_nanos()
        }
    }

    #[test]
    fn slews_stand_still_while_the_node_does() {
        let mut clocks = passed(0, HOUR);
        clocks.slew_wall(Ppb::from_ppm(83_333));
        clocks.pause(Duration::from_secs(100));
        assert_eq!(off_ms(&clocks), 100_000);
        clocks.suspend(Duration::from_secs(100), Duration::from_millis(300));
        assert_eq!(off_ms(&clocks), 100_300, "the kernel counts a suspend");
        clocks.pass_until(clocks.elapsed() + Duration::from_secs(12));
        assert_eq!(off_ms(&clocks), 99_300);
    }

    #[test]
    fn hardware_clocks_run_at_their_own_rate_through_pauses() {
        let mut clocks = passed(100, HOUR);
        clocks.pause(HOUR);
        assert_eq!(clocks.rtc_ahead().as_nanos() / MS, 3_600_000 - 360);
        clocks.write_rtc(Offset::from_nanos(MS));
        assert_eq!(clocks.rtc_ahead(), Offset::from_nanos(MS));
        clocks.stop_rtc();
        let before = clocks.rtc();
        clocks.pass_until(HOUR * 3);
        assert_eq!(clocks.rtc(), before);
    }

    #[test]
    fn the_raw_clock_counts_a_span_in_the_time_that_is_foretold() {
        for ppm in [-100_000, -300, 0, 300, 100_000] {
            let mut clocks = passed(ppm, HOUR);
            let (before, span) = (clocks.reading().raw, Duration::from_secs(1));
            clocks.pass_until(HOUR + clocks.until_counted(span));
            let counted = clocks.reading().raw.since(before);
            assert!((span..span + Duration::from_micros(1)).contains(&counted), "{ppm}: {counted:?}");
        }
    }
}
