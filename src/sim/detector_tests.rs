//! The detector of disruptions on a simulated machine: its RTC, its kernel, its hypervisor.

use std::time::Duration;

use drift_core::resume::{Class, Detection, Detector, Observation, RtcRead, RtcSetBehavior, Signal};
use drift_core::time::{Mono, Offset, Ppb, Reading, Wall};
use proptest::prelude::*;

use super::node::{Hardware, Node, Second};
use crate::os::signals::Signals;

const MS: Duration = Duration::from_millis(1);
const SEC: Duration = Duration::from_secs(1);

/// A node and its detector, driven by hand.
struct Desk {
    node: Node,
    detector: Detector,
    told: Vec<(Class, Signal)>,
    /// Of each, is it a better word for the one before?
    replaces: Vec<Option<Class>>,
}

impl Desk {
    fn new() -> Self {
        let hardware = Hardware {
            raw: Ppb::default(),
            rtc: Ppb::default(),
            gap: Offset::ZERO,
            second: Second::RESTARTS,
            latency: MS,
            vmclock: true,
        };
        let mut desk = Self {
            node: Node::new(hardware, 1),
            detector: Detector::new(),
            told: Vec::new(),
            replaces: Vec::new(),
        };
        desk.run(SEC * 12);
        desk
    }

    fn look(&mut self) -> Observation {
        let now = self.node.reading().raw;
        Observation { late: Duration::ZERO, ..self.node.observe(now) }
    }

    fn tell(&mut self, seen: &Observation) {
        let told = self.detector.on(seen);
        self.told.extend(told.map(|d| (d.class, d.by)));
        self.replaces.extend(told.map(|d| d.replaces));
    }

    fn run(&mut self, span: Duration) {
        let end = self.node.elapsed() + span;
        while self.node.elapsed() < end {
            let idle = self.detector.next(self.node.reading().raw);
            self.node.pass(idle.min(end.saturating_sub(self.node.elapsed())));
            let seen = self.look();
            self.tell(&seen);
        }
    }

    fn take(&mut self) -> Vec<(Class, Signal)> {
        std::mem::take(&mut self.told)
    }

    fn step(&mut self, millis: i64) {
        self.node.step(Offset::from_nanos(millis * 1_000_000));
    }
}

#[test]
fn the_weaker_word_first_and_the_stronger_after_it() {
    let mut desk = Desk::new();
    desk.step(3_000);
    desk.run(MS * 300);
    desk.node.suspend(SEC * 11, SEC);
    desk.run(SEC * 5);
    assert_eq!(desk.take(), [(Class::ClockSet, Signal::ClockSet), (Class::Suspend, Signal::Suspend)]);

    desk.run(SEC * 10);
    desk.step(3_000);
    desk.run(MS * 100);
    desk.node.disrupt();
    desk.run(SEC * 5);
    assert_eq!(desk.take(), [(Class::ClockSet, Signal::ClockSet), (Class::Pause, Signal::Vmclock)]);
    assert_eq!(
        desk.replaces,
        [None, None, None, Some(Class::ClockSet)],
        "the notice that came twice tells of two events"
    );
}

#[test]
fn what_follows_of_the_same_event_is_silent_and_of_another_is_not() {
    let mut desk = Desk::new();
    // The guest's tools set the clock right after the pause, before anybody asked.
    desk.node.disrupt();
    desk.run(MS * 200);
    desk.step(20_000);
    desk.run(SEC * 5);
    assert_eq!(desk.take(), [(Class::Pause, Signal::Vmclock)]);
    // Much later it is not theirs.
    desk.node.disrupt();
    desk.run(MS * 1_500);
    desk.step(20_000);
    desk.run(SEC * 5);
    assert_eq!(desk.take(), [(Class::Pause, Signal::Vmclock), (Class::ClockSet, Signal::ClockSet)]);
    // The same signal again is another event, however soon.
    desk.node.disrupt();
    desk.run(MS * 500);
    desk.node.disrupt();
    desk.run(SEC * 5);
    assert_eq!(desk.take(), [(Class::Pause, Signal::Vmclock); 2]);
    assert!(desk.replaces.iter().all(Option::is_none), "they are all events of their own");
}

/// The RTC is written; what was told of it takes that of the steps before away.
fn written() -> Desk {
    let mut desk = Desk::new();
    desk.step(-3_000);
    desk.run(SEC * 5);
    desk.take();
    desk.node.write_rtc(Duration::ZERO);
    while desk.told.is_empty() {
        desk.run(MS * 10);
    }
    assert_eq!(desk.take(), [(Class::RtcWrite, Signal::Rtc)]);
    desk
}

#[test]
fn what_the_pools_bore_out_is_told_no_more_by_what_shows_later_of_it() {
    for borne_out in [true, false] {
        let mut desk = written();
        if borne_out {
            assert_eq!(desk.detector.was_borne_out(), Class::RtcWrite);
        }
        desk.run(MS * 500);
        desk.node.disrupt();
        desk.run(SEC * 5);
        let later = (!borne_out).then_some((Class::Pause, Signal::Vmclock));
        assert_eq!(desk.take(), later.as_slice());
    }
}

#[test]
fn what_the_pools_bore_out_hides_no_other_event() {
    let mut desk = written();
    desk.run(MS * 1_500);
    let late = Observation { late: SEC * 2, ..desk.look() };
    desk.tell(&late);
    assert_eq!(desk.detector.was_borne_out(), Class::RtcWrite, "the stall is another event");
    desk.node.pause(SEC * 3);
    desk.run(SEC * 5);
    assert_eq!(desk.take(), [(Class::Stall, Signal::LateTick), (Class::Pause, Signal::Rtc)]);
}

#[test]
fn what_the_pools_bore_out_replaces_the_better_word_that_there_was() {
    let mut desk = written();
    let late = Observation { late: SEC * 2, ..desk.look() };
    desk.tell(&late);
    assert_eq!(desk.take(), [(Class::Stall, Signal::LateTick)]);
    assert_eq!(desk.detector.was_borne_out(), Class::Stall, "of the same event");
}

#[test]
fn that_somebody_set_the_clock_is_known_though_it_is_not_told() {
    let mut desk = written();
    let before = desk.node.reading().raw;
    assert!(!desk.detector.was_set_since(before));
    desk.step(500);
    desk.run(SEC * 3);
    assert_eq!(desk.take(), [], "it may be of the same event");
    let after = desk.node.reading().raw;
    assert!(desk.detector.was_set_since(before) && !desk.detector.was_set_since(after));
}

/// What is `Copy` owns nothing: neither looking nor judging can allocate in here.
#[test]
fn nothing_of_a_tick_is_on_the_heap() {
    fn owns_nothing<T: Copy>() {}
    owns_nothing::<Detector>();
    owns_nothing::<Observation>();
    owns_nothing::<Detection>();
}

#[test]
fn the_first_observation_is_only_a_beginning() {
    let mut node = Desk::new().node;
    node.suspend(SEC * 100, Duration::ZERO);
    node.disrupt();
    let _ = node.observe(Mono::from_nanos(0));
    let now = node.reading().raw;
    assert_eq!(Detector::new().on(&node.observe(now)), None);
}

#[test]
fn a_step_shows_in_the_reading_from_20_ms_and_in_the_notice_at_any_size() {
    for (millis, notice, wanted) in [
        (150, false, Some(Signal::Wall)),
        (-150, false, Some(Signal::Wall)),
        (15, false, None),
        (15, true, Some(Signal::ClockSet)),
        (3_000, true, Some(Signal::ClockSet)),
    ] {
        let mut desk = Desk::new();
        desk.step(millis);
        let seen = Observation { clock_set: Some(notice), ..desk.look() };
        desk.tell(&seen);
        desk.run(SEC * 5);
        assert_eq!(
            desk.take(),
            wanted.map(|by| (Class::ClockSet, by)).as_slice(),
            "{millis} ms, notice {notice}"
        );
    }
}

#[test]
fn the_fastest_slew_is_no_step() {
    let mut desk = Desk::new();
    for ppm in [100_000, -100_000] {
        desk.node.slew(Ppb::from_ppm(ppm));
        desk.run(SEC * 30);
    }
    assert_eq!(desk.take(), []);
}

#[test]
fn late_is_later_than_a_second_and_the_weakest_word() {
    let mut desk = Desk::new();
    for (late, clock_set, wanted) in [
        (SEC, false, None),
        (SEC + MS, false, Some((Class::Stall, Signal::LateTick))),
        (SEC * 9, true, Some((Class::ClockSet, Signal::ClockSet))),
    ] {
        desk.run(SEC * 2);
        let seen = Observation { late, clock_set: Some(clock_set), ..desk.look() };
        desk.tell(&seen);
        assert_eq!(desk.take(), wanted.as_slice(), "{late:?}");
    }
}

#[test]
fn a_garbled_read_alone_is_nothing() {
    let mut desk = Desk::new();
    for wrong in [-60, 60, 1, -1, i64::MAX] {
        let mut seen = desk.look();
        seen.rtc = seen.rtc.map(|read| RtcRead { seconds: read.seconds.saturating_add(wrong), ..read });
        desk.tell(&seen);
        desk.node.pass(MS);
        desk.run(SEC * 3);
    }
    assert_eq!(desk.take(), []);
}

#[test]
fn an_rtc_that_stands_still_is_soon_no_clock() {
    let mut desk = Desk::new();
    let stuck = desk.look().rtc.map(|read| read.seconds).unwrap_or_default();
    let rtc =
        |d: &Detector| d.available().into_iter().flatten().any(|(signal, has)| signal == Signal::Rtc && has);
    assert!(rtc(&desk.detector));
    for _ in 0..600 {
        desk.node.pass(desk.detector.next(desk.node.reading().raw));
        let mut seen = desk.look();
        seen.rtc = seen.rtc.map(|read| RtcRead { seconds: stuck, ..read });
        desk.tell(&seen);
    }
    assert!(!rtc(&desk.detector));
    // Six jumps back, each told as a write at first.
    let told = desk.take().len();
    assert!((1..=12).contains(&told), "{told}");
    assert_eq!(desk.detector.next(desk.node.reading().raw), SEC);
    // It is listened to again later, and begins anew.
    desk.run(SEC * 600);
    assert!(rtc(&desk.detector));
    assert_eq!(desk.take(), []);
}

#[test]
fn the_rtc_is_known_to_a_second_at_first_and_soon_to_milliseconds() {
    let mut desk = Desk::new();
    desk.detector = Detector::new();
    let known = |desk: &Desk| desk.detector.rtc_uncertainty(desk.node.reading());
    assert_eq!(known(&desk), None);
    let seen = desk.look();
    desk.tell(&seen);
    assert!(known(&desk) >= Some(SEC), "{:?}", known(&desk));
    desk.run(SEC * 12);
    assert!(known(&desk).is_some_and(|width| width < MS * 10), "{:?}", known(&desk));
}

#[test]
fn without_anything_there_is_a_tick_a_second_and_no_sight_of_pauses() {
    let mut desk = Desk::new();
    assert!(desk.detector.sees_pauses());
    let seen = Observation { rtc: None, vmclock: None, clock_set: None, ..desk.look() };
    desk.tell(&seen);
    assert_eq!(desk.detector.next(seen.now.raw), SEC);
    assert!(!desk.detector.sees_pauses());
    let has: Vec<&str> = desk
        .detector
        .available()
        .into_iter()
        .flatten()
        .filter(|(_, has)| *has)
        .map(|(s, _)| s.label())
        .collect();
    assert_eq!(has, ["suspend", "wall", "late-tick"]);
}

#[test]
fn our_own_step_is_ours_only_once_and_only_that_way() {
    let mut desk = Desk::new();
    let second = Offset::from_nanos(1_000_000_000);
    let ours = |desk: &mut Desk| desk.detector.own_step(second, desk.node.reading().raw, SEC * 10);
    ours(&mut desk);
    desk.step(1_000);
    desk.run(SEC * 3);
    assert_eq!(desk.take(), []);
    desk.step(1_000);
    desk.run(SEC * 3);
    assert_eq!(desk.take(), [(Class::ClockSet, Signal::ClockSet)], "once");
    ours(&mut desk);
    desk.step(-1_000);
    desk.run(SEC * 3);
    assert_eq!(desk.take(), [(Class::ClockSet, Signal::Wall)], "the other way");
    desk.detector.own_step_failed();
    desk.run(SEC * 3);
    desk.step(1_000);
    desk.run(SEC * 3);
    assert_eq!(desk.take(), [(Class::ClockSet, Signal::ClockSet)], "not made");
    ours(&mut desk);
    desk.run(SEC * 11);
    desk.step(1_000);
    desk.run(SEC * 3);
    assert_eq!(desk.take(), [(Class::ClockSet, Signal::ClockSet)], "too late");
}

fn anything() -> impl Strategy<Value = Observation> {
    let on_set = proptest::sample::select(vec![
        RtcSetBehavior::ResetsSubsecond,
        RtcSetBehavior::KeepsSubsecond,
        RtcSetBehavior::Unknown,
    ]);
    let rtc = proptest::option::of((any::<i64>(), any::<i64>(), any::<i64>(), on_set));
    (any::<i64>(), any::<i64>(), any::<u64>(), rtc, any::<Option<bool>>(), any::<Option<u64>>(), any::<u64>())
        .prop_map(|(wall, raw, suspended, rtc, clock_set, vmclock, late)| Observation {
            now: Reading {
                wall: Wall::from_nanos(wall),
                raw: Mono::from_nanos(raw),
                suspended: Duration::from_nanos(suspended),
            },
            rtc: rtc.map(|(seconds, before, after, on_set)| RtcRead {
                seconds,
                before: Mono::from_nanos(before),
                after: Mono::from_nanos(after),
                on_set,
            }),
            clock_set,
            vmclock,
            late: Duration::from_nanos(late),
        })
}

proptest! {
    #[test]
    fn nothing_that_clocks_may_show_makes_it_panic(seen in proptest::collection::vec(anything(), 1..20), step: i64) {
        let mut detector = Detector::new();
        for seen in seen {
            let told = detector.on(&seen).map(|d| d.to_string());
            detector.own_step(Offset::from_nanos(step), seen.now.raw, seen.late);
            let _ = (told, detector.next(seen.now.raw), detector.available());
        }
    }
}
