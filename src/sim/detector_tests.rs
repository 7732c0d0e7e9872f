//! The detector of disruptions on a simulated machine: its RTC, its kernel, its hypervisor.

use std::time::Duration;

use drift_core::estimate::Candidate;
use drift_core::ntp::server::ServerId;
use drift_core::resume::{
    Class, Detection, Detector, Observation, RtcFault, RtcRead, RtcSetBehavior, Signal, SignalSet,
};
use drift_core::time::interval::Interval;
use drift_core::time::rate::Rate;
use drift_core::time::{Bound, Mono, Offset, Ppb, Reading, Wall};
use proptest::prelude::*;

use super::node::{Hardware, Node, Second};
use crate::os::signals::Signals;

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);
/// The longest wait for a confirmation by NTP.
const MAX_WAIT: Duration = Duration::from_secs(128);

/// A node and its detector, driven by hand.
struct DetectorHarness {
    node: Node,
    detector: Detector,
    reported: Vec<(Class, Signal)>,
    /// For each report, the class that it reclassifies.
    reclassified: Vec<Option<Class>>,
}

impl DetectorHarness {
    /// The RTC is known to milliseconds.
    fn new() -> Self {
        let hardware = Hardware {
            raw: Ppb::default(),
            rtc: Ppb::default(),
            gap: Offset::ZERO,
            second: Second::RESTARTS,
            latency: MS,
            vmclock: true,
        };
        let mut harness = Self {
            node: Node::new(hardware, 1),
            detector: Detector::new(),
            reported: Vec::new(),
            reclassified: Vec::new(),
        };
        harness.run(SEC * 12);
        harness
    }

    fn observation(&mut self) -> Observation {
        let now = self.node.reading().raw;
        Observation { late: Duration::ZERO, ..self.node.observe(now) }
    }

    fn handle(&mut self, observation: &Observation) {
        let detection = self.detector.handle_observation(observation);
        self.reported.extend(detection.map(class_and_signal));
        self.reclassified.extend(detection.map(|d| d.reclassifies));
    }

    fn run(&mut self, span: Duration) {
        let end = self.node.elapsed() + span;
        while self.node.elapsed() < end {
            let idle = self.detector.poll_timeout(self.node.reading().raw);
            self.node.pass(idle.min(end.saturating_sub(self.node.elapsed())));
            let observation = self.observation();
            self.handle(&observation);
        }
    }

    fn take(&mut self) -> Vec<(Class, Signal)> {
        std::mem::take(&mut self.reported)
    }

    fn step(&mut self, millis: i64) {
        self.node.step(Offset::from_nanos(millis * 1_000_000));
    }

    /// A round ends in which both pools show a loss of so many milliseconds.
    fn confirm(&mut self, lost: i64, is_complete: bool) -> Option<Detection> {
        self.detector.confirm_pause(
            &servers(lost),
            Rate::exactly(Ppb(0)),
            is_complete,
            MAX_WAIT,
            self.node.reading().raw,
        )
    }
}

fn class_and_signal(detection: Detection) -> (Class, Signal) {
    (detection.disruption.class(), detection.disruption.signal())
}

/// Two pools of one server, whose time is so many milliseconds later than it was at first.
fn servers(later: i64) -> Vec<Candidate> {
    let origin = Wall::from_nanos(1_795_341_600_000_000_000 + later * 1_000_000);
    let interval = Interval::around(origin, Bound::from(MS));
    [0, 1]
        .map(|pool| Candidate {
            pool: pool as usize,
            server: ServerId(pool),
            interval,
            newest: Mono::from_nanos(0),
        })
        .to_vec()
}

#[test]
fn stronger_classes_reclassify_a_weaker_report() {
    let mut harness = DetectorHarness::new();
    harness.step(3_000);
    harness.run(MS * 300);
    harness.node.suspend(SEC * 11, SEC);
    harness.run(SEC * 5);
    assert_eq!(harness.take(), [(Class::ClockSet, Signal::ClockSet), (Class::Suspend, Signal::Suspend)]);

    harness.run(SEC * 10);
    harness.step(3_000);
    harness.run(MS * 100);
    harness.node.disrupt();
    harness.run(SEC * 5);
    assert_eq!(harness.take(), [(Class::ClockSet, Signal::ClockSet), (Class::Pause, Signal::Vmclock)]);
    assert_eq!(
        harness.reclassified,
        [None, None, None, Some(Class::ClockSet)],
        "a second notification is a second event"
    );
}

#[test]
fn later_signals_of_the_same_event_are_not_reported_and_of_another_event_are() {
    let mut harness = DetectorHarness::new();
    // The guest's tools set the clock right after the pause, before the next observation.
    harness.node.disrupt();
    harness.run(MS * 200);
    harness.step(20_000);
    harness.run(SEC * 5);
    assert_eq!(harness.take(), [(Class::Pause, Signal::Vmclock)]);
    // Much later it is another event.
    harness.node.disrupt();
    harness.run(MS * 1_500);
    harness.step(20_000);
    harness.run(SEC * 5);
    assert_eq!(harness.take(), [(Class::Pause, Signal::Vmclock), (Class::ClockSet, Signal::ClockSet)]);
    // The same signal again is another event, however soon.
    harness.node.disrupt();
    harness.run(MS * 500);
    harness.node.disrupt();
    harness.run(SEC * 5);
    assert_eq!(harness.take(), [(Class::Pause, Signal::Vmclock); 2]);
    assert!(harness.reclassified.iter().all(Option::is_none), "each is an event of its own");
}

/// Right after an RTC write was reported: forward by 3 s, by which the wall clock was stepped ten seconds
/// before. Both pools were measured in between.
fn after_rtc_write() -> DetectorHarness {
    let mut harness = DetectorHarness::new();
    harness.step(3_000);
    harness.run(SEC * 2);
    harness.detector.record_round(servers(0), Rate::exactly(Ppb(0)), harness.node.reading().raw);
    harness.run(SEC * 8);
    harness.take();
    harness.node.write_rtc(Duration::ZERO);
    while harness.reported.is_empty() {
        harness.run(MS * 10);
    }
    assert_eq!(harness.take(), [(Class::RtcWrite, Signal::Rtc)]);
    harness
}

#[test]
fn confirmed_pauses_are_not_reported_again_by_later_signals() {
    for is_confirmed in [true, false] {
        let mut harness = after_rtc_write();
        if is_confirmed {
            let pause = harness.confirm(3_000, true).expect("two pools lost what the RTC shows");
            assert_eq!(class_and_signal(pause), (Class::Pause, Signal::Pools));
            assert_eq!(pause.reclassifies, Some(Class::RtcWrite));
        }
        harness.run(MS * 500);
        harness.node.disrupt();
        harness.run(SEC * 5);
        let later = (!is_confirmed).then_some((Class::Pause, Signal::Vmclock));
        assert_eq!(harness.take(), later.as_slice());
    }
}

#[test]
fn confirmed_pauses_hide_no_other_event() {
    let mut harness = after_rtc_write();
    harness.run(MS * 1_500);
    let late = Observation { late: SEC * 2, ..harness.observation() };
    harness.handle(&late);
    let pause = harness.confirm(3_000, true);
    let reclassifies = pause.and_then(|d| d.reclassifies);
    assert_eq!(reclassifies, Some(Class::RtcWrite), "the stall is another event");
    harness.node.pause(SEC * 3);
    harness.run(SEC * 5);
    assert_eq!(harness.take(), [(Class::Stall, Signal::LateTick), (Class::Pause, Signal::Rtc)]);
}

#[test]
fn confirmed_pauses_reclassify_the_class_that_was_reported_last() {
    let mut harness = after_rtc_write();
    let late = Observation { late: SEC * 2, ..harness.observation() };
    harness.handle(&late);
    assert_eq!(harness.take(), [(Class::Stall, Signal::LateTick)]);
    let pause = harness.confirm(3_000, true);
    assert_eq!(pause.and_then(|d| d.reclassifies), Some(Class::Stall), "of the same event");
}

#[test]
fn rtc_writes_await_a_confirmation_until_a_complete_round_shows_no_loss() {
    let mut harness = after_rtc_write();
    for is_complete in [false, true] {
        assert!(harness.detector.pause_unconfirmed_since().is_some());
        assert_eq!(harness.confirm(0, is_complete), None);
    }
    assert_eq!(harness.detector.pause_unconfirmed_since(), None);
    assert_eq!(harness.confirm(3_000, true), None);
}

#[test]
fn pauses_are_not_confirmed_after_the_longest_wait() {
    for (waited, is_confirmed) in [(MAX_WAIT.mul_f64(0.99), true), (MAX_WAIT.mul_f64(1.01), false)] {
        let mut harness = after_rtc_write();
        harness.run(waited);
        assert_eq!(harness.confirm(3_000, false).is_some(), is_confirmed, "{waited:?}");
        assert_eq!(harness.detector.pause_unconfirmed_since(), None);
    }
}

#[test]
fn pauses_are_not_confirmed_once_another_process_has_set_the_clock() {
    let mut harness = after_rtc_write();
    harness.step(500);
    harness.run(SEC * 3);
    assert_eq!(harness.confirm(3_000, true), None);
    assert_eq!(harness.detector.pause_unconfirmed_since(), None);
}

#[test]
fn clocks_set_by_another_process_are_known_even_if_not_reported() {
    let mut harness = after_rtc_write();
    let before = harness.node.reading().raw;
    assert!(!harness.detector.was_set_since(before));
    harness.step(500);
    harness.run(SEC * 3);
    assert_eq!(harness.take(), [], "it may be of the same event");
    let after = harness.node.reading().raw;
    assert!(harness.detector.was_set_since(before) && !harness.detector.was_set_since(after));
}

#[test]
fn first_observations_show_nothing() {
    let mut node = DetectorHarness::new().node;
    node.suspend(SEC * 100, Duration::ZERO);
    node.disrupt();
    let _ = node.observe(Mono::from_nanos(0));
    let now = node.reading().raw;
    assert_eq!(Detector::new().handle_observation(&node.observe(now)), None);
}

#[test]
fn steps_show_in_the_readings_from_20_ms_and_in_the_notification_at_any_size() {
    for (millis, is_notified, wanted) in [
        (150, false, Some(Signal::Wall)),
        (-150, false, Some(Signal::Wall)),
        (15, false, None),
        (15, true, Some(Signal::ClockSet)),
        (3_000, true, Some(Signal::ClockSet)),
    ] {
        let mut harness = DetectorHarness::new();
        harness.step(millis);
        let seen = Observation { clock_set: Some(is_notified), ..harness.observation() };
        harness.handle(&seen);
        harness.run(SEC * 5);
        assert_eq!(
            harness.take(),
            wanted.map(|signal| (Class::ClockSet, signal)).as_slice(),
            "{millis} ms, notification {is_notified}"
        );
    }
}

#[test]
fn fastest_slews_are_no_steps() {
    let mut harness = DetectorHarness::new();
    for ppm in [100_000, -100_000] {
        harness.node.slew(Ppb::from_ppm(ppm));
        harness.run(SEC * 30);
    }
    assert_eq!(harness.take(), []);
}

#[test]
fn stalls_are_later_than_a_second_and_the_weakest_class() {
    let mut harness = DetectorHarness::new();
    for (late, clock_set, wanted) in [
        (SEC, false, None),
        (SEC + MS, false, Some((Class::Stall, Signal::LateTick))),
        (SEC * 9, true, Some((Class::ClockSet, Signal::ClockSet))),
    ] {
        harness.run(SEC * 2);
        let seen = Observation { late, clock_set: Some(clock_set), ..harness.observation() };
        harness.handle(&seen);
        assert_eq!(harness.take(), wanted.as_slice(), "{late:?}");
    }
}

#[test]
fn single_garbled_reads_are_ignored() {
    let mut harness = DetectorHarness::new();
    for wrong in [-60, 60, 1, -1, i64::MAX] {
        let mut seen = harness.observation();
        seen.rtc = seen.rtc.map(|read| RtcRead { seconds: read.seconds.saturating_add(wrong), ..read });
        harness.handle(&seen);
        harness.node.pass(MS);
        harness.run(SEC * 3);
    }
    assert_eq!(harness.take(), []);
}

fn has_rtc(detector: &Detector) -> bool {
    detector.available().is_some_and(|signals| signals.contains(Signal::Rtc))
}

#[test]
fn stopped_rtcs_are_soon_unavailable_without_a_report_and_used_again_once_they_move() {
    let mut harness = DetectorHarness::new();
    let stuck = harness.observation().rtc.map(|read| read.seconds).unwrap_or_default();
    assert!(has_rtc(&harness.detector) && harness.detector.rtc_fault().is_none());
    let start = harness.node.elapsed();
    let mut until_fault = None;
    while harness.node.elapsed() < start + SEC * 1_500 {
        harness.node.pass(harness.detector.poll_timeout(harness.node.reading().raw));
        let mut seen = harness.observation();
        seen.rtc = seen.rtc.map(|read| RtcRead { seconds: stuck, ..read });
        harness.handle(&seen);
        assert!(until_fault.is_none() || !has_rtc(&harness.detector), "not for a moment");
        if !has_rtc(&harness.detector) {
            until_fault.get_or_insert(harness.node.elapsed().saturating_sub(start));
        }
    }
    assert!(until_fault.is_some_and(|after| after < SEC * 5), "{until_fault:?}");
    assert_eq!(harness.detector.rtc_fault(), Some(RtcFault::StandsStill));
    assert_eq!(harness.take(), []);
    assert_eq!(harness.detector.poll_timeout(harness.node.reading().raw), SEC);
    harness.run(SEC * 610);
    assert!(has_rtc(&harness.detector) && harness.detector.rtc_fault().is_none());
    assert_eq!(harness.take(), []);
    harness.run(SEC * 12);
    harness.node.pause(MS * 50);
    harness.run(SEC * 3);
    assert_eq!(harness.take(), [(Class::Pause, Signal::Rtc)]);
}

#[test]
fn rtcs_are_known_to_a_second_at_first_and_soon_to_milliseconds() {
    let mut harness = DetectorHarness::new();
    harness.detector = Detector::new();
    let known = |harness: &DetectorHarness| harness.detector.rtc_uncertainty(harness.node.reading());
    assert_eq!(known(&harness), None);
    let seen = harness.observation();
    harness.handle(&seen);
    assert!(known(&harness) >= Some(SEC), "{:?}", known(&harness));
    harness.run(SEC * 12);
    assert!(known(&harness).is_some_and(|width| width < MS * 10), "{:?}", known(&harness));
}

#[test]
fn machines_without_rtc_and_vmclock_are_observed_every_second_and_see_no_pauses() {
    let mut harness = DetectorHarness::new();
    assert!(harness.detector.sees_pauses());
    let seen = Observation { rtc: None, vmclock: None, clock_set: None, ..harness.observation() };
    harness.handle(&seen);
    assert_eq!(harness.detector.poll_timeout(seen.now.raw), SEC);
    assert!(!harness.detector.sees_pauses());
    let always = SignalSet::from_iter([Signal::Suspend, Signal::Wall, Signal::LateTick]);
    assert_eq!(harness.detector.available(), Some(always));
}

#[test]
fn own_steps_are_expected_once_in_their_direction_and_in_time() {
    let mut harness = DetectorHarness::new();
    let second = Offset::from_nanos(1_000_000_000);
    let announce = |harness: &mut DetectorHarness| {
        harness.detector.own_step(second, harness.node.reading().raw, SEC * 10);
    };
    announce(&mut harness);
    harness.step(1_000);
    harness.run(SEC * 3);
    assert_eq!(harness.take(), []);
    harness.step(1_000);
    harness.run(SEC * 3);
    assert_eq!(harness.take(), [(Class::ClockSet, Signal::ClockSet)], "once");
    announce(&mut harness);
    harness.step(-1_000);
    harness.run(SEC * 3);
    assert_eq!(harness.take(), [(Class::ClockSet, Signal::Wall)], "the other direction");
    harness.detector.own_step_failed();
    harness.run(SEC * 3);
    harness.step(1_000);
    harness.run(SEC * 3);
    assert_eq!(harness.take(), [(Class::ClockSet, Signal::ClockSet)], "not made");
    announce(&mut harness);
    harness.run(SEC * 11);
    harness.step(1_000);
    harness.run(SEC * 3);
    assert_eq!(harness.take(), [(Class::ClockSet, Signal::ClockSet)], "too late");
}

fn any_observation() -> impl Strategy<Value = Observation> {
    let set_behavior = proptest::sample::select(vec![
        RtcSetBehavior::ResetsSubsecond,
        RtcSetBehavior::KeepsSubsecond,
        RtcSetBehavior::Unknown,
    ]);
    let rtc = proptest::option::of((any::<i64>(), any::<i64>(), any::<i64>(), set_behavior));
    (any::<i64>(), any::<i64>(), any::<u64>(), rtc, any::<Option<bool>>(), any::<Option<u64>>(), any::<u64>())
        .prop_map(|(wall, raw, suspended, rtc, clock_set, vmclock, late)| Observation {
            now: Reading {
                wall: Wall::from_nanos(wall),
                raw: Mono::from_nanos(raw),
                suspended: Duration::from_nanos(suspended),
            },
            rtc: rtc.map(|(seconds, before, after, set_behavior)| RtcRead {
                seconds,
                before: Mono::from_nanos(before),
                after: Mono::from_nanos(after),
                set_behavior,
            }),
            clock_set,
            vmclock,
            clocksource: None,
            late: Duration::from_nanos(late),
        })
}

proptest! {
    #[test]
    fn detector_never_panics_for_any_observation(
        observations in proptest::collection::vec(any_observation(), 1..20), step: i64, lost: i64,
    ) {
        let mut detector = Detector::new();
        for seen in observations {
            let detection = detector.handle_observation(&seen);
            let texts = detection.map(|d| (d.disruption.to_string(), d.disruption.sentence()));
            detector.own_step(Offset::from_nanos(step), seen.now.raw, seen.late);
            detector.record_round(servers(0), Rate::UNKNOWN, seen.now.raw);
            let pause = detector.confirm_pause(&servers(lost % 1_000_000), Rate::UNKNOWN, false, seen.late, seen.now.raw);
            let _ = (texts, pause, detector.poll_timeout(seen.now.raw), detector.available());
        }
    }
}
