//! The detector on simulated nodes, from seeds: every pause is detected, and no other event is classified as
//! a pause. A node that breaks a rule prints the command that replays it.

use std::time::Duration;

use drift_agent::os::signals::Signals;
use drift_agent::sim::node::{Hardware, Node, Second};
use drift_core::resume::{Class, Detection, Detector, Disruption, PauseEvidence, Signal};
use drift_core::time::{Measurement, Mono, Offset, Ppb};

use crate::support::seeds::for_seeds;

const MS: i64 = 1_000_000;
/// By then the RTC is known to 4 ms.
const RTC_SETTLES_WITHIN: Duration = Duration::from_secs(12);
/// By then a pause is detected: the RTC's second, and what timers and reads add.
const PAUSE_FOUND_WITHIN: Duration = Duration::from_millis(1_100);
/// By then a pause that looked like an RTC write at first is reported as a pause.
const WRITE_RECLASSIFIED_WITHIN: Duration = Duration::from_millis(5_500);

/// The detections, and when they were made by true time.
type Detections = Vec<(Duration, Detection)>;

/// A detector on a simulated node, read as the agent reads it.
struct DetectorHarness {
    node: Node,
    detector: Detector,
    rng: fastrand::Rng,
    /// The most by which timers are late: 2 ms, or much more on a busy node.
    late: Duration,
    reported: Detections,
    reads: u64,
}

impl DetectorHarness {
    fn new(seed: u64, hardware: Hardware) -> Self {
        let mut node = Node::new(hardware, seed);
        // A daemon keeps the wall clock at the rate of the RTC, so that the gap between them stays as it is.
        node.slew(disciplined(hardware));
        Self {
            node,
            detector: Detector::new(),
            rng: fastrand::Rng::with_seed(seed ^ 0x5eed),
            late: Duration::from_millis(2),
            reported: Vec::new(),
            reads: 0,
        }
    }

    fn settled(seed: u64, hardware: Hardware) -> Self {
        let mut harness = Self::new(seed, hardware);
        harness.run(RTC_SETTLES_WITHIN);
        // Then at any instant of the second, and of the agent's own sleep.
        let some = micros(&mut harness.rng, 0..1_000_000);
        harness.run(some);
        harness
    }

    /// The agent runs for `span`, then in the middle of its sleep `happens`, then it runs on.
    fn run(&mut self, span: Duration) {
        self.run_then(span, |_| {});
    }

    fn run_then(&mut self, span: Duration, happens: impl FnOnce(&mut Node)) {
        let end = self.node.elapsed() + span;
        let mut happens = Some(happens);
        while happens.is_some() {
            let now = self.node.reading().raw;
            let idle = self.detector.poll_timeout(now);
            let wake = self.node.elapsed() + idle + self.late.mul_f64(self.rng.f64());
            if wake >= end {
                self.node.pass(end.saturating_sub(self.node.elapsed()));
                if let Some(happens) = happens.take() {
                    happens(&mut self.node);
                }
                // The rest of that sleep.
                self.node.pass(wake.saturating_sub(end));
            } else {
                self.node.pass(wake.saturating_sub(self.node.elapsed()));
            }
            self.observe(now.plus(idle));
        }
    }

    fn observe(&mut self, due: Mono) {
        let observation = self.node.observe(due);
        self.reads += 1;
        if let Some(detection) = self.detector.handle_observation(&observation) {
            self.reported.push((self.node.elapsed(), detection));
        }
    }

    fn take(&mut self) -> Detections {
        std::mem::take(&mut self.reported)
    }
}

fn disciplined(hardware: Hardware) -> Ppb {
    Ppb(hardware.rtc.0 - hardware.raw.0)
}

fn micros(rng: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_micros(rng.u64(range))
}

fn millis(rng: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    micros(rng, range.start * 1_000..range.end * 1_000)
}

/// A node whose RTC is `gap` ahead of its wall clock. The two oscillators are up to 590 ppm apart.
fn hardware(rng: &mut fastrand::Rng, gap: std::ops::Range<i64>) -> Hardware {
    let raw = rng.i64(-200..200);
    Hardware {
        raw: Ppb::from_ppm(raw),
        rtc: Ppb::from_ppm(raw + rng.i64(-590..590)),
        gap: Offset::from_nanos(rng.i64(gap.start * MS..gap.end * MS)),
        second: Second::RESTARTS,
        latency: micros(rng, 10..1_500),
        vmclock: false,
    }
}

/// A node whose RTC keeps its subsecond, and is within half a second of the wall clock, as the kernel has
/// written it.
fn with_kept_subsecond(seed: u64, rng: &mut fastrand::Rng) -> DetectorHarness {
    DetectorHarness::settled(seed, Hardware { second: Second::GOES_ON, ..hardware(rng, -500..500) })
}

fn any_second(rng: &mut fastrand::Rng) -> Second {
    Second { restarts: rng.bool(), is_known: rng.bool() }
}

fn classes(reported: &[(Duration, Detection)]) -> Vec<Class> {
    reported.iter().map(|(_, d)| d.disruption.class()).collect()
}

fn expect(got: &[Class], wanted: &[Class], what: &str) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("{what}: {got:?}, not {wanted:?}")) }
}

/// From 20 ms to 20 s, each decade as often.
fn length(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_secs_f64(0.02 * 1_000f64.powf(rng.f64()))
}

/// A pause is reported once, within `found` and with the right size. `may_be_write`: a report as an RTC write
/// may come first.
fn pause_is_found(
    harness: &mut DetectorHarness,
    length: Duration,
    found: Duration,
    may_be_write: bool,
) -> Result<(), String> {
    harness.take();
    let mut from = Duration::ZERO;
    harness.run_then(Duration::from_millis(300), |node| {
        node.pause(length);
        from = node.elapsed();
    });
    harness.run(Duration::from_secs(6));
    let mut reported = harness.take();
    if let ([_, (_, second)], true) = (reported.as_slice(), may_be_write) {
        if second.reclassifies != Some(Class::RtcWrite) {
            return Err(format!("two events in one pause of {length:?}: {reported:?}"));
        }
        expect(
            &classes(&reported.drain(..1).collect::<Detections>()),
            &[Class::RtcWrite],
            "the first report",
        )?;
    }
    expect(&classes(&reported), &[Class::Pause], &format!("a pause of {length:?}, {reported:?}"))?;
    for (at, detection) in reported {
        let after = at.saturating_sub(from);
        if after > found {
            return Err(format!("a pause of {length:?} was found after {after:?}"));
        }
        let Disruption::Pause(PauseEvidence::Rtc { lost: Measurement { offset: lost, bound } }) =
            detection.disruption
        else {
            return Err("its length is not known".into());
        };
        // The drift of the two clocks over the pause is part of neither.
        let slack = Duration::from_millis(5) + length / 1_000;
        if lost < Offset::ZERO || lost.magnitude().abs_diff(length) > bound.as_duration() + slack {
            return Err(format!("a pause of {length:?} was reported as {}", detection.disruption));
        }
    }
    Ok(())
}

#[test]
fn pauses_from_20_ms_are_detected_within_a_second() {
    for_seeds(2_000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let hardware = hardware(&mut rng, -4..3_000);
        let mut harness = DetectorHarness::settled(seed, hardware);
        expect(&classes(&harness.take()), &[], "before it")?;
        for _ in 0..4 {
            let length = length(&mut rng);
            pause_is_found(&mut harness, length, PAUSE_FOUND_WITHIN, false)?;
            // The RTC is ahead by what was lost, or another process has corrected the clock since.
            if rng.bool() {
                let by = harness.node.gap();
                harness.run_then(Duration::from_secs(2), |node| node.step(by));
            }
            harness.run(RTC_SETTLES_WITHIN);
        }
        Ok(())
    });
}

#[test]
fn pauses_are_detected_within_two_seconds_when_rtc_writes_keep_the_subsecond() {
    for_seeds(2_000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut harness = with_kept_subsecond(seed, &mut rng);
        // A pause of whole seconds may be a write.
        let length = length(&mut rng);
        let part = Duration::from_nanos(u64::from(length.subsec_nanos()).clamp(30_000_000, 970_000_000));
        pause_is_found(
            &mut harness,
            Duration::from_secs(length.as_secs()) + part,
            PAUSE_FOUND_WITHIN * 2,
            true,
        )
    });
}

/// A backup that freezes the machine twice; and another process has stepped the wall clock just before.
#[test]
fn consecutive_pauses_are_detected_when_rtc_writes_keep_the_subsecond() {
    for_seeds(2_000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut harness = with_kept_subsecond(seed, &mut rng);
        if rng.bool() {
            harness.node.step(Offset::from_nanos(rng.i64(-450 * MS..450 * MS)));
            harness.run(Duration::from_millis(2_500));
        }
        let (first, between) = (millis(&mut rng, 50..900), millis(&mut rng, 300..3_000));
        let next = millis(&mut rng, 50..900);
        let sum = (first + next).subsec_millis();
        if !(50..950).contains(&sum) {
            // Together they are whole seconds.
            return Ok(());
        }
        harness.take();
        harness.run_then(Duration::from_millis(300), |node| node.pause(first));
        harness.run_then(between, |node| node.pause(next));
        harness.run(Duration::from_secs(8));
        let reported = harness.take();
        if reported.iter().any(|(_, d)| d.disruption.class() == Class::Pause) {
            Ok(())
        } else {
            Err(format!("pauses of {first:?} and, {between:?} later, of {next:?}: {reported:?}"))
        }
    });
}

#[test]
fn pauses_are_detected_with_any_previous_rtc_offset() {
    for_seeds(1_000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        // Behind the wall clock, where a write moves it forward too.
        let hardware = Hardware { second: any_second(&mut rng), ..hardware(&mut rng, -5_000..5_000) };
        let mut harness = DetectorHarness::settled(seed, hardware);
        let length = length(&mut rng);
        let gap = harness.node.gap();
        let mut from = Duration::ZERO;
        harness.run_then(Duration::from_millis(300), |node| {
            node.pause(length);
            from = node.elapsed();
        });
        harness.run(Duration::from_secs(8));
        let reported = harness.take();
        let is_late = |(at, d): &(Duration, Detection)| {
            d.disruption.class() == Class::Pause && *at > from + WRITE_RECLASSIFIED_WITHIN
        };
        if reported.iter().any(is_late) {
            return Err(format!("a pause of {length:?} at {from:?}: {reported:?}"));
        }
        let reported = classes(&reported);
        let after = gap.as_nanos() + i64::try_from(length.as_nanos()).unwrap_or(0);
        // These pauses cannot be distinguished from a write: the RTC was behind by about as much as the pause
        // was long, or it keeps its subsecond, and the pause was whole seconds long.
        let whole = length.as_nanos() % 1_000_000_000;
        let is_whole =
            !(25_000_000..975_000_000).contains(&whole) && (-1_060 * MS..1_060 * MS).contains(&after);
        let most = |least: i64| (gap.as_nanos().abs() / 4).clamp(least, 1_000 * MS) + 10 * MS;
        let closes =
            (-most(50 * MS)..most(20 * MS)).contains(&after) && after.abs() < gap.as_nanos().abs() + 10 * MS;
        let Second { restarts, is_known } = hardware.second;
        let ambiguous = (closes && (restarts || !is_known)) || (is_whole && !(restarts && is_known));
        match (reported.as_slice(), ambiguous) {
            ([Class::Pause] | [Class::RtcWrite, Class::Pause], _) | ([Class::RtcWrite], true) => Ok(()),
            _ => Err(format!("a pause of {length:?}, the RTC {gap:?} before: {reported:?}")),
        }
    });
}

/// Every event that is no pause, one after the other, for ten minutes; often on a busy node.
#[test]
fn steps_slews_rtc_writes_stalls_and_suspends_are_not_pauses() {
    for_seeds(1_000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let hardware = Hardware { second: any_second(&mut rng), ..hardware(&mut rng, -2_000..2_000) };
        let mut harness = DetectorHarness::new(seed, hardware);
        let discipline = disciplined(hardware);
        let mut history = Vec::new();
        while harness.node.elapsed() < Duration::from_secs(600) {
            harness.late = if rng.bool() { Duration::from_millis(2) } else { millis(&mut rng, 3..400) };
            let wait = millis(&mut rng, 500..30_000);
            let before = harness.reported.len();
            let what = happens(&mut harness, &mut rng, discipline, wait);
            history.push((what, harness.reported.get(before..).map(<[_]>::to_vec)));
            if let Some((at, wrong)) =
                harness.reported.iter().find(|(_, d)| d.disruption.class() == Class::Pause)
            {
                return Err(format!("{wrong:?} at {at:?} after {history:#?}"));
            }
        }
        Ok(())
    });
}

/// One event that is no pause.
fn happens(
    harness: &mut DetectorHarness,
    rng: &mut fastrand::Rng,
    discipline: Ppb,
    wait: Duration,
) -> &'static str {
    let far = Offset::from_nanos(rng.i64(-5_000 * MS..5_000 * MS));
    let rate = Ppb::from_ppm(rng.i64(-83_333..83_333));
    let (short, long) = (millis(rng, 50..900), millis(rng, 1_000..20_000));
    let held_up = if rng.u8(0..4) == 0 { millis(rng, 0..45) } else { micros(rng, 0..2_000) };
    let write = |harness: &mut DetectorHarness| {
        let until = harness.node.until_write();
        harness.run_then(until, |node| {
            // A write forward by less than the RTC is known to on a busy node is detected late. The wall
            // clock may have been slewed or set by then, and the write could be reported as a pause, which
            // costs a burst.
            let mut written = node.clone();
            written.write_rtc(held_up);
            let forward = written.gap().as_nanos() - node.gap().as_nanos();
            if !(0..80 * MS).contains(&forward) {
                *node = written;
            }
        });
    };
    match rng.u8(0..6) {
        0 => {
            harness.run_then(wait, |node| node.step(far));
            // chrony's rtcsync.
            harness.run(short);
            write(harness);
            "set by another process, and the RTC written"
        }
        1 => {
            harness.run_then(wait, |node| node.slew(rate));
            harness.run(long);
            harness.node.slew(discipline);
            "slewed"
        }
        2 => {
            harness.run(wait);
            write(harness);
            "the RTC written"
        }
        3 => {
            // The agent is stopped, and the machine runs on.
            harness.run_then(wait, |node| node.pass(long));
            "the agent stopped"
        }
        4 => {
            harness.run_then(wait, |node| node.suspend(long, short.min(long)));
            "suspended"
        }
        _ => {
            harness.run(wait);
            "nothing"
        }
    }
}

/// Hours at a constant rate, or at one that swings by 10 ppm: no event, and pauses show as well as ever.
#[test]
fn no_rate_of_the_rtc_is_a_disruption_and_pauses_show_at_every_rate() {
    for_seeds(60, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let hardware = Hardware {
            rtc: Ppb::from_ppm(rng.i64(-600..=600)),
            raw: Ppb(0),
            ..hardware(&mut rng, -4..3_000)
        };
        let mut harness = DetectorHarness::settled(seed, hardware);
        let (swing, period) = (rng.f64() * 10_000.0, 60.0 + rng.f64() * 300.0);
        for minute in 0..120 {
            let phase = std::f64::consts::TAU * f64::from(minute) / period;
            #[expect(clippy::cast_possible_truncation, reason = "at most 10 ppm")]
            let swung = (swing * phase.sin()) as i64;
            harness.node.set_rtc_rate(Ppb(hardware.rtc.0 + swung));
            harness.run(Duration::from_secs(60));
        }
        expect(&classes(&harness.take()), &[], &format!("two hours at {:?}", hardware.rtc))?;
        harness.node.step(harness.node.gap());
        harness.run(Duration::from_secs(3));
        for _ in 0..4 {
            let length = length(&mut rng);
            pause_is_found(&mut harness, length, PAUSE_FOUND_WITHIN, false)?;
            harness.run(RTC_SETTLES_WITHIN);
        }
        Ok(())
    });
}

/// Another crystal counts, as after a migration that nothing shows.
#[test]
fn no_step_of_the_rate_up_to_300_ppm_is_a_disruption() {
    for_seeds(200, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let raw = Ppb::from_ppm(rng.i64(-200..200));
        let rtc = Ppb(raw.0 + rng.i64(-150_000..=150_000));
        let hardware = Hardware { raw, rtc, ..hardware(&mut rng, -4..3_000) };
        let mut harness = DetectorHarness::settled(seed, hardware);
        for _ in 0..6 {
            let span = Duration::from_secs_f64(10.0 * 60f64.powf(rng.f64()));
            harness.run(span);
            harness.node.set_rtc_rate(Ppb(raw.0 + rng.i64(-150_000..=150_000)));
        }
        harness.run(Duration::from_secs(300));
        expect(&classes(&harness.take()), &[], "steps of the rate")
    });
}

#[test]
fn events_are_reported_once_with_their_class() {
    for_seeds(1_000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let vmclock = Hardware { vmclock: true, ..hardware(&mut rng, 0..40) };
        let mut harness = DetectorHarness::settled(seed, vmclock);
        let mut expect_classes = |harness: &mut DetectorHarness,
                                  wanted: &[Class],
                                  what: &str,
                                  event: &mut dyn FnMut(&mut Node)| {
            harness.take();
            let wait = millis(&mut rng, 2_000..4_000);
            harness.run_then(wait, |node| event(node));
            harness.run(Duration::from_secs(5));
            expect(&classes(&harness.reported), wanted, &format!("{what} {:?}", harness.reported))
        };
        let second = Duration::from_secs(1);
        // The hypervisor reports at once, the RTC shows it at its tick.
        expect_classes(&mut harness, &[Class::Pause], "restored", &mut |node| {
            node.pause(second * 12);
            node.disrupt();
        })?;
        if harness.reported.first().is_some_and(|(_, d)| d.disruption.signal() != Signal::Vmclock) {
            return Err(format!("the marker is there before the RTC ticks: {:?}", harness.reported));
        }
        expect_classes(&mut harness, &[Class::Pause], "a live migration", &mut |node| {
            node.pause(Duration::from_millis(15));
            node.disrupt();
        })?;
        // The notification comes with the suspend, and the RTC is a second off the time that the kernel
        // added.
        expect_classes(&mut harness, &[Class::Suspend], "suspended", &mut |node| {
            node.suspend(second * 12, second);
        })?;
        expect_classes(&mut harness, &[Class::ClockSet], "set", &mut |node| {
            node.step(Offset::from_nanos(3_000 * MS));
        })?;
        expect_classes(&mut harness, &[Class::ClockSet], "set by a little", &mut |node| {
            node.step(Offset::from_nanos(50 * MS));
        })?;
        expect_classes(&mut harness, &[Class::RtcWrite], "the RTC written", &mut |node| {
            node.write_rtc(Duration::ZERO);
        })?;
        expect_classes(&mut harness, &[Class::Stall], "stopped", &mut |node| node.pass(second * 10))?;
        expect_classes(&mut harness, &[], "slewed", &mut |node| node.slew(Ppb::from_ppm(83_333)))?;
        harness.node.slew(Ppb(0));
        harness.run(second * 2);
        expect_classes(&mut harness, &[], "nothing", &mut |_| {})
    });
}

#[test]
fn announced_steps_are_no_event_and_hide_no_other_event() {
    for_seeds(1_000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut harness = DetectorHarness::settled(seed, hardware(&mut rng, 0..40));
        let size = rng.i64(150 * MS..20_000 * MS) * if rng.bool() { 1 } else { -1 };
        let step = Offset::from_nanos(size);
        let by_a_daemon = Offset::from_nanos(size + size / 5);
        let within = Duration::from_secs(10);

        harness.take();
        harness.detector.own_step(step, harness.node.reading().raw, within);
        let wait = millis(&mut rng, 1..5_000);
        harness.run_then(wait, |node| node.step(by_a_daemon));
        harness.run(Duration::from_millis(800));
        expect(&classes(&harness.take()), &[], "our own step")?;
        let until = harness.node.until_write();
        harness.run_then(until, |node| node.write_rtc(Duration::ZERO));
        harness.run(Duration::from_secs(4));
        expect(&classes(&harness.take()), &[Class::RtcWrite], "the RTC written after it")?;

        // Announced again: another process's step of another size is reported, and so is a pause.
        harness.run(RTC_SETTLES_WITHIN);
        harness.take();
        harness.detector.own_step(step, harness.node.reading().raw, within);
        harness.run_then(Duration::from_secs(1), |node| node.step(Offset::from_nanos(-size)));
        harness.run(Duration::from_secs(2));
        expect(&classes(&harness.take()), &[Class::ClockSet], "another process's step")?;
        let after = -harness.node.gap().as_nanos();
        harness.detector.own_step(Offset::from_nanos(after), harness.node.reading().raw, within);
        let length = Duration::from_millis(rng.u64(20..3_000));
        harness.node.step(Offset::from_nanos(harness.node.gap().as_nanos() - 2 * MS));
        harness.run(Duration::from_secs(3));
        harness.take();
        pause_is_found(&mut harness, length, PAUSE_FOUND_WITHIN, false)
    });
}

#[test]
fn the_detector_reads_about_three_times_a_second() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut harness = DetectorHarness::settled(1, hardware(&mut rng, 0..40));
    let before = harness.reads;
    harness.run(Duration::from_secs(1_000));
    let reads = harness.reads - before;
    assert!((2_900..3_600).contains(&reads), "{reads} reads in 1,000 s");
}
