//! A disruption with its data, and the text by which it is reported.

use std::fmt;
use std::time::Duration;

use super::classify::Class;
use super::rtc_write::is_by_zones;
use super::signal::Signal;
use crate::time::{Bound, Measurement, Offset, OffsetRange, Span};

/// What stopped or moved a clock. No number in it is a correction of the clock: only NTP measures one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disruption {
    /// The machine was suspended, and the kernel knows.
    Suspend {
        /// For how long.
        slept: Duration,
    },
    /// The machine was paused, restored or migrated, and the kernel does not know.
    Pause(PauseEvidence),
    /// The RTC was set: by the kernel (every 11 minutes, or after a step), or by another process.
    RtcWrite {
        /// How far; positive: forward.
        by: Measurement,
    },
    /// Another process set the wall clock.
    ClockSet {
        /// How far; positive: forward.
        by: Measurement,
        /// The kernel has notified the agent. If not, only the wall clock itself shows it.
        is_notified: bool,
    },
    /// The agent was stalled: stopped, throttled, or paused with the machine.
    Stall {
        /// How much later it ran than planned.
        late: Duration,
    },
}

/// What shows a pause. `lost` is the time for which the RTC ran and the machine did not; negative where the
/// RTC went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseEvidence {
    /// The hypervisor's disruption marker. It has no length.
    Hypervisor,
    /// The RTC, which no write can have set to the time it shows.
    Rtc {
        /// By the RTC.
        lost: Measurement,
    },
    /// The RTC, which a write might have set to the time it shows, and at least two NTP pools.
    RtcAndNtp {
        /// By the servers of the pools.
        lost: Measurement,
    },
    /// The servers of at least two NTP pools, on a machine without another signal.
    Ntp {
        /// By the servers of the pools.
        lost: Measurement,
    },
}

/// A disruption that was detected, to be reported once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detection {
    /// What was disrupted, and by how much.
    pub disruption: Disruption,
    /// The same event was reported before, as this class. That report was wrong, or is now known better.
    pub reclassifies: Option<Class>,
}

impl Detection {
    /// Takes it a reported pause back? NTP shows that no time was lost.
    pub fn refutes_pause(self) -> bool {
        self.reclassifies == Some(Class::Pause) && self.disruption.class() == Class::RtcWrite
    }
}

/// The disruption, and whether it takes a reported pause back.
impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refuted = if self.refutes_pause() { "; first taken for a pause, which NTP refutes" } else { "" };
        write!(f, "{}{refuted}", self.disruption)
    }
}

impl Disruption {
    /// Its class.
    pub const fn class(self) -> Class {
        match self {
            Self::Suspend { .. } => Class::Suspend,
            Self::Pause(_) => Class::Pause,
            Self::RtcWrite { .. } => Class::RtcWrite,
            Self::ClockSet { .. } => Class::ClockSet,
            Self::Stall { .. } => Class::Stall,
        }
    }

    /// The signal that shows it best.
    pub const fn signal(self) -> Signal {
        match self {
            Self::Suspend { .. } => Signal::Suspend,
            Self::Pause(PauseEvidence::Hypervisor) => Signal::Vmclock,
            Self::Pause(PauseEvidence::Rtc { .. }) | Self::RtcWrite { .. } => Signal::Rtc,
            Self::Pause(PauseEvidence::RtcAndNtp { .. } | PauseEvidence::Ntp { .. }) => Signal::Pools,
            Self::ClockSet { is_notified: true, .. } => Signal::ClockSet,
            Self::ClockSet { is_notified: false, .. } => Signal::Wall,
            Self::Stall { .. } => Signal::LateTick,
        }
    }

    /// A full sentence for an event: `The machine was suspended for 11 s.`
    pub fn sentence(self) -> String {
        format!("The {} was {}.", self.subject(), self.predicate())
    }

    const fn subject(self) -> &'static str {
        match self {
            Self::Suspend { .. } | Self::Pause(_) => "machine",
            Self::RtcWrite { .. } => "RTC",
            Self::ClockSet { .. } => "clock",
            Self::Stall { .. } => "agent",
        }
    }

    /// What was done to the subject.
    fn predicate(self) -> String {
        match self {
            Self::Suspend { slept } => format!("suspended for {}", Span(slept)),
            Self::Pause(PauseEvidence::Hypervisor) => {
                "restored or migrated (reported by the hypervisor)".to_owned()
            }
            Self::Pause(PauseEvidence::Rtc { lost }) => paused(lost, "by the RTC"),
            Self::Pause(PauseEvidence::RtcAndNtp { lost }) => paused(lost, "by the RTC and NTP"),
            Self::Pause(PauseEvidence::Ntp { lost }) => paused(lost, "by NTP"),
            Self::RtcWrite { by } => {
                let local =
                    is_by_zones(OffsetRange::from(by)).then(|| "which looks like local time".to_owned());
                let details = in_parentheses(bound_in_words(by.bound).into_iter().chain(local));
                format!("set {} by {}{details}", direction(by), size(by))
            }
            Self::ClockSet { by, .. } if by.offset.magnitude() > by.bound.as_duration() => {
                format!("set {} by {} by another process", direction(by), size(by))
            }
            Self::ClockSet { by, .. } => {
                format!("set by another process, by at most {}", by.bound.in_words())
            }
            Self::Stall { late } => format!("stalled for {}", Span(late)),
        }
    }
}

/// `suspended for 11 s`, `RTC set back by 2.50 s (±500 ms)`: the subject is left out where it is the
/// machine.
impl fmt::Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspend { .. } | Self::Pause(_) => f.write_str(&self.predicate()),
            Self::RtcWrite { .. } | Self::ClockSet { .. } | Self::Stall { .. } => {
                write!(f, "{} {}", self.subject(), self.predicate())
            }
        }
    }
}

fn paused(lost: Measurement, source: &str) -> String {
    let bound = bound_in_words(lost.bound);
    if lost.offset < Offset::ZERO {
        // No pause alone moves the RTC back. A restore may.
        return format!("paused or restored, with the RTC back by {}{}", size(lost), in_parentheses(bound));
    }
    let details = in_parentheses(bound.into_iter().chain([source.to_owned()]));
    format!("paused for {}{details}", size(lost))
}

fn size(by: Measurement) -> String {
    Span(by.offset.magnitude()).to_string()
}

fn direction(by: Measurement) -> &'static str {
    if by.offset >= Offset::ZERO { "forward" } else { "back" }
}

fn bound_in_words(bound: Bound) -> Option<String> {
    (bound != Bound::ZERO).then(|| format!("±{}", bound.in_words()))
}

/// ` (one, two)`; empty without any.
fn in_parentheses(details: impl IntoIterator<Item = String>) -> String {
    let details: Vec<String> = details.into_iter().collect();
    if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In milliseconds.
    fn measured(offset: i64, bound: i64) -> Measurement {
        Measurement::new(Offset::from_nanos(offset * 1_000_000), Bound::from_nanos(bound * 1_000_000))
    }

    #[test]
    fn texts_name_the_subject_the_size_and_the_source_and_have_no_sign() {
        let pause = Disruption::Pause;
        for (disruption, text, sentence) in [
            (
                Disruption::Suspend { slept: Duration::from_secs(11) },
                "suspended for 11 s",
                "The machine was suspended for 11 s.",
            ),
            (
                pause(PauseEvidence::Rtc { lost: measured(20_100, 500) }),
                "paused for 20.1 s (±500 ms, by the RTC)",
                "The machine was paused for 20.1 s (±500 ms, by the RTC).",
            ),
            (
                pause(PauseEvidence::Rtc { lost: measured(20_000, 0) }),
                "paused for 20 s (by the RTC)",
                "The machine was paused for 20 s (by the RTC).",
            ),
            (
                pause(PauseEvidence::Rtc { lost: measured(-3_000, 500) }),
                "paused or restored, with the RTC back by 3 s (±500 ms)",
                "The machine was paused or restored, with the RTC back by 3 s (±500 ms).",
            ),
            (
                pause(PauseEvidence::RtcAndNtp { lost: measured(501, 1) }),
                "paused for 501 ms (±1 ms, by the RTC and NTP)",
                "The machine was paused for 501 ms (±1 ms, by the RTC and NTP).",
            ),
            (
                pause(PauseEvidence::Ntp { lost: measured(20_000, 8) }),
                "paused for 20 s (±8 ms, by NTP)",
                "The machine was paused for 20 s (±8 ms, by NTP).",
            ),
            (
                Disruption::RtcWrite { by: measured(7 * 3_600_000, 500) },
                "RTC set forward by 7 h (±500 ms, which looks like local time)",
                "The RTC was set forward by 7 h (±500 ms, which looks like local time).",
            ),
            (
                pause(PauseEvidence::Hypervisor),
                "restored or migrated (reported by the hypervisor)",
                "The machine was restored or migrated (reported by the hypervisor).",
            ),
            (
                Disruption::RtcWrite { by: measured(-2_500, 500) },
                "RTC set back by 2.50 s (±500 ms)",
                "The RTC was set back by 2.50 s (±500 ms).",
            ),
            (
                Disruption::ClockSet { by: measured(3_000, 20), is_notified: false },
                "clock set forward by 3 s by another process",
                "The clock was set forward by 3 s by another process.",
            ),
            (
                Disruption::ClockSet { by: measured(-5, 20), is_notified: true },
                "clock set by another process, by at most 20 ms",
                "The clock was set by another process, by at most 20 ms.",
            ),
            (
                Disruption::Stall { late: Duration::from_millis(9_800) },
                "agent stalled for 9.80 s",
                "The agent was stalled for 9.80 s.",
            ),
        ] {
            assert_eq!((disruption.to_string().as_str(), disruption.sentence().as_str()), (text, sentence));
        }
    }

    #[test]
    fn a_write_that_was_taken_for_a_pause_says_so() {
        let write =
            Detection { disruption: Disruption::RtcWrite { by: measured(300, 0) }, reclassifies: None };
        assert_eq!(write.to_string(), "RTC set forward by 300 ms");
        let refuting = Detection { reclassifies: Some(Class::Pause), ..write };
        assert_eq!(
            refuting.to_string(),
            "RTC set forward by 300 ms; first taken for a pause, which NTP refutes"
        );
        assert!(refuting.refutes_pause() && !write.refutes_pause());
    }

    #[test]
    fn classes_and_signals_follow_from_the_evidence() {
        let by = measured(3_000, 20);
        for (disruption, class, signal) in [
            (Disruption::Suspend { slept: Duration::ZERO }, Class::Suspend, Signal::Suspend),
            (Disruption::Pause(PauseEvidence::Hypervisor), Class::Pause, Signal::Vmclock),
            (Disruption::Pause(PauseEvidence::Rtc { lost: by }), Class::Pause, Signal::Rtc),
            (Disruption::Pause(PauseEvidence::RtcAndNtp { lost: by }), Class::Pause, Signal::Pools),
            (Disruption::Pause(PauseEvidence::Ntp { lost: by }), Class::Pause, Signal::Pools),
            (Disruption::RtcWrite { by }, Class::RtcWrite, Signal::Rtc),
            (Disruption::ClockSet { by, is_notified: true }, Class::ClockSet, Signal::ClockSet),
            (Disruption::ClockSet { by, is_notified: false }, Class::ClockSet, Signal::Wall),
            (Disruption::Stall { late: Duration::ZERO }, Class::Stall, Signal::LateTick),
        ] {
            assert_eq!((disruption.class(), disruption.signal()), (class, signal));
        }
    }
}
