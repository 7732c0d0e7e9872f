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
            // A suspend shows whole in the second reading at the latest; the first may have been held up
            // between its clocks.
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

    /// The class that was reported last for a jump that looked like a write. A stall at the same moment has
    /// reclassified it.
    fn class_of_rtc_write(&self) -> Class {
        let of_rtc = self.event.filter(|event| event.signals.contains(Signal::Rtc));
        of_rtc.map_or(Class::RtcWrite, |event| event.reported)
    }
}
