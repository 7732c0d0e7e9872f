//! A node's clocks in virtual time, as a fake of [`Signals`]: the test pauses, suspends, steps and slews the
//! node and sets its hardware clock.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::os::signals::Signals;
use drift_core::resume::{Observation, RtcRead, RtcSetBehavior};
use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Ppb, Reading, Wall, nanos};

/// The properties of a node's hardware.
#[derive(Clone, Copy, Debug)]
pub struct Hardware {
    /// Frequency error of the raw clock; positive: fast.
    pub raw: Ppb,
    /// Frequency error of the hardware clock; positive: fast.
    pub rtc: Ppb,
    /// Hardware clock - wall clock at the start.
    pub gap: Offset,
    /// How setting the hardware clock changes its fraction of a second.
    pub second: Second,
    /// The longest time that reading the hardware clock takes.
    pub latency: Duration,
    /// Does the hypervisor report disruptions by a vmclock?
    pub vmclock: bool,
}

/// How setting the hardware clock changes its fraction of a second.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    /// Setting it begins a new second; otherwise the fraction is kept.
    pub restarts: bool,
    /// The agent knows the behaviour: a PC's CMOS clock. The kernel writes it half a second after the
    /// beginning of the written second, and any other clock 5 ms before it.
    pub is_known: bool,
}

impl Second {
    /// A PC's CMOS clock.
    pub const RESTARTS: Self = Self { restarts: true, is_known: true };
    /// The CMOS clock of a PC with an AMD processor.
    pub const GOES_ON: Self = Self { restarts: false, is_known: true };

    fn rtc_set_behavior(self) -> RtcSetBehavior {
        match self {
            Self { is_known: false, .. } => RtcSetBehavior::Unknown,
            Self { restarts: true, .. } => RtcSetBehavior::ResetsSubsecond,
            Self { restarts: false, .. } => RtcSetBehavior::KeepsSubsecond,
        }
    }

    /// How long after a second's beginning the kernel writes that second, ns.
    const fn delay(self) -> i64 {
        if self.is_known { NANOS_PER_SEC / 2 } else { -5_000_000 }
    }
}

/// The node. Time passes only by its methods.
#[derive(Clone, Debug)]
pub struct Node {
    hardware: Hardware,
    rng: fastrand::Rng,
    /// True time since the start, ns.
    elapsed: i64,
    /// The part of `elapsed` in which only the hardware clock ran, ns.
    stopped: i64,
    /// The part of `stopped` that the kernel added to the wall clock, because it knew of the suspend, ns.
    slept: i64,
    /// The sum of all steps and slews of the wall clock, ns.
    stepped: i64,
    slew: Ppb,
    /// The sum of all changes by setting the hardware clock, ns.
    written: i64,
    /// What the hardware clock has gained until its rate last changed, and when that was, ns.
    gained: (i64, i64),
    /// The wall clock was set since the last observation.
    cancelled: bool,
    /// The disruption marker of the vmclock.
    marker: u64,
}

const START: Wall = Wall::from_secs(1_795_341_600);
const RAW_START: Mono = Mono::from_nanos(1_234_567_890_123);

impl Node {
    /// A node whose random values come from `seed`.
    pub fn new(hardware: Hardware, seed: u64) -> Self {
        Self {
            hardware,
            rng: fastrand::Rng::with_seed(seed),
            elapsed: 0,
            stopped: 0,
            slept: 0,
            stepped: 0,
            slew: Ppb(0),
            written: 0,
            gained: (0, 0),
            cancelled: false,
            marker: 1,
        }
    }

    /// True time since the start.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.unsigned_abs())
    }

    /// Time passes while the node runs.
    pub fn pass(&mut self, span: Duration) {
        self.elapsed += nanos(span);
        self.stepped += self.slew.over(span);
    }

    /// The hypervisor pauses the node; its kernel does not notice.
    pub fn pause(&mut self, span: Duration) {
        self.elapsed += nanos(span);
        self.stopped += nanos(span);
    }

    /// The node is suspended. Its kernel measures this by the hardware clock, in whole seconds: `missed` is
    /// not counted.
    pub fn suspend(&mut self, span: Duration, missed: Duration) {
        self.pause(span);
        self.slept += nanos(span.saturating_sub(missed));
        self.cancelled = true;
    }

    /// Another process steps the wall clock; positive: forward.
    pub fn step(&mut self, by: Offset) {
        self.stepped += by.as_nanos();
        self.cancelled = true;
    }

    /// Another process slews the wall clock from now on.
    pub fn slew(&mut self, rate: Ppb) {
        self.slew = rate;
    }

    /// The hardware clock runs at another rate from now on.
    pub fn set_rtc_rate(&mut self, rate: Ppb) {
        self.gained = (self.rtc_gained(), self.elapsed);
        self.hardware.rtc = rate;
    }

    /// Another process sets the hardware clock to the wall clock plus `ahead`.
    pub fn set_rtc(&mut self, ahead: Offset) {
        self.written += ahead.as_nanos() - self.gap().as_nanos();
    }

    /// What the hardware clock has gained by its rate, ns.
    fn rtc_gained(&self) -> i64 {
        let (before, since) = self.gained;
        let span = Duration::from_nanos(self.elapsed.saturating_sub(since).unsigned_abs());
        before + self.hardware.rtc.over(span)
    }

    /// The kernel sets the hardware clock to the wall clock, `late` after the right instant.
    pub fn write_rtc(&mut self, late: Duration) {
        let wall = self.reading().wall.as_nanos();
        let shown = self.rtc();
        let wanted = if self.hardware.second.restarts {
            wall - nanos(late)
        } else {
            let second = (wall - self.hardware.second.delay() + NANOS_PER_SEC / 2).div_euclid(NANOS_PER_SEC);
            second * NANOS_PER_SEC + shown.rem_euclid(NANOS_PER_SEC)
        };
        self.written += wanted - shown;
    }

    /// How long until the instant of the second at which the kernel sets the hardware clock.
    pub fn until_write(&self) -> Duration {
        let now = self.reading().wall.as_nanos();
        Duration::from_nanos((self.hardware.second.delay() - now).rem_euclid(NANOS_PER_SEC).unsigned_abs())
    }

    /// The hypervisor reports a disruption by the vmclock.
    pub fn disrupt(&mut self) {
        self.marker += 1;
    }

    /// Hardware clock - wall clock.
    pub fn gap(&self) -> Offset {
        Offset::from_nanos(self.rtc() - self.reading().wall.as_nanos())
    }

    /// The clocks now.
    pub fn reading(&self) -> Reading {
        let awake = self.elapsed - self.stopped;
        let counted = awake + self.hardware.raw.over(Duration::from_nanos(awake.unsigned_abs()));
        Reading {
            wall: START.plus(Offset::from_nanos(counted + self.slept + self.stepped)),
            raw: RAW_START.plus(Duration::from_nanos(counted.unsigned_abs())),
            suspended: Duration::from_nanos(self.slept.unsigned_abs()),
        }
    }

    /// The hardware clock in ns; reading it gives whole seconds only.
    fn rtc(&self) -> i64 {
        START.as_nanos() + self.hardware.gap.as_nanos() + self.elapsed + self.rtc_gained() + self.written
    }

    fn read_rtc(&mut self) -> RtcRead {
        let before = self.reading().raw;
        // Most reads are fast; one in 16 takes up to the full latency.
        let most = if self.rng.u8(0..16) == 0 { self.hardware.latency } else { self.hardware.latency / 16 };
        let mut part =
            || Duration::from_nanos(self.rng.u64(0..=u64::try_from(most.as_nanos() / 2).unwrap_or(0)));
        let (first, second) = (part(), part());
        self.pass(first);
        // The kernel waits for a CMOS clock that is about to update, at most 2 ms.
        let until_tick = NANOS_PER_SEC - self.rtc().rem_euclid(NANOS_PER_SEC);
        if until_tick < 250_000 {
            self.pass(Duration::from_nanos(until_tick.unsigned_abs() + 1_000_000));
        }
        let seconds = self.rtc().div_euclid(NANOS_PER_SEC);
        self.pass(second);
        RtcRead {
            seconds,
            before,
            after: self.reading().raw,
            set_behavior: self.hardware.second.rtc_set_behavior(),
        }
    }
}

impl Signals for Node {
    fn observe(&mut self, due: Mono) -> Observation {
        let rtc = Some(self.read_rtc());
        let mut now = self.reading();
        if self.rng.u8(0..8) == 0 {
            // `CLOCK_BOOTTIME` and `CLOCK_MONOTONIC` are read one after the other, and the reader may be
            // preempted between them.
            now.suspended = now.suspended.saturating_sub(Duration::from_micros(self.rng.u64(0..200_000)));
        }
        let clock_set = Some(std::mem::take(&mut self.cancelled));
        let vmclock = self.hardware.vmclock.then_some(self.marker);
        Observation { now, rtc, clock_set, vmclock, clocksource: None, late: now.raw.since(due) }
    }

    fn waker(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
