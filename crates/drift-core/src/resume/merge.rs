//! One event shows in several signals, over about a second: which evidence belongs to an event that was
//! reported?
//!
//! In: the class and the signals of some evidence. Out: whether to report it, and what it reclassifies. The
//! first evidence is reported. What *other* signals show within [`SAME_EVENT_MAX`] belongs to the same event;
//! it is reported only if its class [upgrades](Class::upgrades) the reported one. The same signal twice is
//! two events.

use std::time::Duration;

use super::classify::Class;
use super::signal::{Signal, SignalSet};
use crate::time::Mono;

/// The longest time over which the signals of one event come in: the RTC, the slowest of them, ticks once a
/// second.
pub const SAME_EVENT_MAX: Duration = Duration::from_millis(1_100);

/// What to do about evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Report it: it is another event.
    NewEvent,
    /// Report it: it reclassifies an event that was reported as this class.
    Reclassifies(Class),
    /// Do not report it: it adds nothing to an event that was reported.
    AlreadyReported,
}

/// An event that was reported, and of which more signals may come in.
#[derive(Clone, Copy, Debug)]
struct Event {
    until: Mono,
    signals: SignalSet,
    reported: Class,
}

/// Remembers the event that was reported last. All times are of the base clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventMerger {
    event: Option<Event>,
}

impl EventMerger {
    /// Takes evidence of `class` by `signals`: merges it into the last event, or starts another one.
    pub fn merge_or_start_event(&mut self, class: Class, signals: SignalSet, at: Mono) -> Merge {
        match &mut self.event {
            // The first reading after a suspend may show only a part of it, if the reader was held up between
            // its two clocks. The second one shows the rest.
            Some(event)
                if at <= event.until && event.reported == Class::Suspend && class == Class::Suspend =>
            {
                Merge::AlreadyReported
            }
            Some(event) if at <= event.until && !event.signals.intersects(signals) => {
                event.signals = event.signals.union(signals);
                if class.upgrades(event.reported) {
                    Merge::Reclassifies(std::mem::replace(&mut event.reported, class))
                } else {
                    Merge::AlreadyReported
                }
            }
            event => {
                *event = Some(Event { until: at.plus(SAME_EVENT_MAX), signals, reported: class });
                Merge::NewEvent
            }
        }
    }

    /// As [`Self::merge_or_start_event`], for evidence that a reported RTC write was none, however long ago
    /// that report was.
    pub fn reclassify_rtc_write(&mut self, class: Class, signals: SignalSet, at: Mono) -> Merge {
        let reported = self.class_of_rtc_write();
        self.event = None;
        self.merge_or_start_event(class, signals, at);
        Merge::Reclassifies(reported)
    }

    /// NTP has confirmed that a reported RTC write was a pause. Further evidence of the same event adds
    /// nothing to that. Returns the class that was reported last.
    pub fn confirm_pause(&mut self) -> Class {
        let reported = self.class_of_rtc_write();
        if let Some(event) = self.event.as_mut().filter(|event| event.signals.contains(Signal::Rtc)) {
            event.reported = event.reported.min(Class::Pause);
        }
        reported
    }

    /// NTP has refuted a pause that the RTC alone had shown.
    pub fn refute_pause(&mut self) {
        if let Some(event) = self.event.as_mut().filter(|event| event.signals.contains(Signal::Rtc)) {
            event.reported = Class::RtcWrite;
        }
    }

    /// The class that was reported last for a jump that looked like a write. A stall at the same moment has
    /// reclassified it.
    fn class_of_rtc_write(&self) -> Class {
        let of_rtc = self.event.filter(|event| event.signals.contains(Signal::Rtc));
        of_rtc.map_or(Class::RtcWrite, |event| event.reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn set(signals: &[Signal]) -> SignalSet {
        signals.iter().copied().collect()
    }

    /// What to do about each piece of evidence: its class, one signal, and when it came in, in ms.
    fn merges(evidence: &[(Class, Signal, i64)]) -> Vec<Merge> {
        let mut merger = EventMerger::default();
        let merge = |(class, signal, millis)| merger.merge_or_start_event(class, set(&[signal]), at(millis));
        evidence.iter().copied().map(merge).collect()
    }

    #[test]
    fn other_signals_within_1100_ms_belong_to_the_same_event() {
        let (vmclock, notified) =
            ((Class::Pause, Signal::Vmclock, 0), |millis| (Class::ClockSet, Signal::ClockSet, millis));
        assert_eq!(merges(&[vmclock, notified(1_100)]), [Merge::NewEvent, Merge::AlreadyReported]);
        assert_eq!(merges(&[vmclock, notified(1_101)]), [Merge::NewEvent, Merge::NewEvent]);
    }

    #[test]
    fn same_signal_again_is_another_event_except_for_a_suspend() {
        let marker = |millis| (Class::Pause, Signal::Vmclock, millis);
        assert_eq!(merges(&[marker(0), marker(100)]), [Merge::NewEvent, Merge::NewEvent]);
        let suspend = |millis| (Class::Suspend, Signal::Suspend, millis);
        assert_eq!(merges(&[suspend(0), suspend(100)]), [Merge::NewEvent, Merge::AlreadyReported]);
    }

    #[test]
    fn stronger_evidence_of_the_same_event_reclassifies_it_step_by_step() {
        let merges = merges(&[
            (Class::ClockSet, Signal::ClockSet, 0),
            (Class::RtcWrite, Signal::Rtc, 400),
            (Class::Pause, Signal::Vmclock, 800),
            (Class::Stall, Signal::LateTick, 900),
        ]);
        assert_eq!(
            merges,
            [
                Merge::NewEvent,
                Merge::Reclassifies(Class::ClockSet),
                Merge::Reclassifies(Class::RtcWrite),
                Merge::AlreadyReported,
            ]
        );
    }

    #[test]
    fn refuted_rtc_writes_are_reclassified_however_old_they_are() {
        let mut merger = EventMerger::default();
        merger.merge_or_start_event(Class::RtcWrite, set(&[Signal::Rtc]), at(0));
        let refuted = merger.reclassify_rtc_write(Class::Pause, set(&[Signal::Rtc]), at(4_000));
        assert_eq!(refuted, Merge::Reclassifies(Class::RtcWrite));
        let later = merger.merge_or_start_event(Class::ClockSet, set(&[Signal::Wall]), at(4_500));
        assert_eq!(later, Merge::AlreadyReported, "the pause is the last event");
    }

    #[test]
    fn later_signals_of_a_refuted_pause_are_reported_again() {
        let mut merger = EventMerger::default();
        merger.merge_or_start_event(Class::Pause, set(&[Signal::Rtc]), at(0));
        merger.refute_pause();
        let marker = merger.merge_or_start_event(Class::Pause, set(&[Signal::Vmclock]), at(500));
        assert_eq!(marker, Merge::Reclassifies(Class::RtcWrite));
    }

    #[test]
    fn confirmed_pauses_make_a_pause_of_the_reported_rtc_write_only() {
        let mut merger = EventMerger::default();
        merger.merge_or_start_event(Class::RtcWrite, set(&[Signal::Rtc]), at(0));
        assert_eq!(merger.confirm_pause(), Class::RtcWrite);
        let marker = merger.merge_or_start_event(Class::Pause, set(&[Signal::Vmclock]), at(500));
        assert_eq!(marker, Merge::AlreadyReported);
        merger.merge_or_start_event(Class::ClockSet, set(&[Signal::Wall]), at(5_000));
        assert_eq!(merger.confirm_pause(), Class::RtcWrite);
        let marker = merger.merge_or_start_event(Class::Pause, set(&[Signal::Vmclock]), at(5_500));
        assert_eq!(marker, Merge::Reclassifies(Class::ClockSet), "the set clock is another event");
    }
}
