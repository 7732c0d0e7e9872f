//! What is told of an event, and in which words.

use std::fmt;

use super::classify::Class;
use crate::time::{Bound, Measurement, Offset, Span};

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `CLOCK_BOOTTIME` against `CLOCK_MONOTONIC`.
    Suspend,
    /// The hypervisor's disruption marker.
    Vmclock,
    /// The hardware clock.
    Rtc,
    /// The kernel's notice that the wall clock was set.
    ClockSet,
    /// The wall clock against the base clock.
    Wall,
    /// The agent's own lateness.
    LateTick,
    /// The pools. They are not watched for pauses, but bear out what the hardware clock shows.
    Pools,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detection {
    /// What kind of event.
    pub class: Class,
    /// The signal that told.
    pub by: Signal,
    /// How much, where the signal says so, **never the correction**: time slept; time lost by the RTC (positive: the
    /// machine fell behind); how far the RTC or the wall clock was set (positive: forward); how late the agent was.
    pub amount: Option<Measurement>,
    /// A better word for an event that was told already, and as what.
    pub replaces: Option<Class>,
}

impl Signal {
    /// As the label `signal` and in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Vmclock => "vmclock",
            Self::Rtc => "rtc",
            Self::ClockSet => "clock-set",
            Self::Wall => "wall",
            Self::LateTick => "late-tick",
            Self::Pools => "pools",
        }
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.amount.map(|Measurement { offset: by, bound }| {
            let size = Span(by.magnitude()).to_string();
            let size =
                if bound == Bound::default() { size } else { format!("{size} ±{}", bound.in_words()) };
            (by >= Offset::ZERO, size)
        });
        match (self.class, amount) {
            (Class::Suspend, Some((_, size))) => write!(f, "the machine slept for {size}"),
            (Class::Suspend, None) => f.write_str("the machine slept"),
            (Class::Pause, Some((_, size))) if self.by == Signal::Pools => {
                write!(f, "the machine was paused: by its hardware clock and by its pools it lost {size}")
            }
            (Class::Pause, Some((true, size))) => {
                write!(f, "the machine was paused: by its hardware clock it lost {size}")
            }
            (Class::Pause, Some((false, size))) => {
                write!(f, "the hardware clock lost {size}: the machine was paused or restored")
            }
            (Class::Pause, None) if self.by == Signal::Vmclock => {
                f.write_str("the hypervisor says that the machine was restored or migrated")
            }
            (Class::Pause, None) => f.write_str("the machine was paused"),
            (Class::RtcWrite, Some((forward, size))) => {
                write!(f, "the hardware clock was set {} by {size}", direction(forward))
            }
            (Class::RtcWrite, None) => f.write_str("the hardware clock was set"),
            (Class::ClockSet, Some((forward, size))) => {
                write!(f, "somebody set the clock {} by {size}", direction(forward))
            }
            (Class::ClockSet, None) => f.write_str("somebody set the clock"),
            (Class::Stall, Some((_, size))) => write!(f, "the agent did not run for {size}"),
            (Class::Stall, None) => f.write_str("the agent did not run for a while"),
        }
    }
}

fn direction(forward: bool) -> &'static str {
    if forward { "forward" } else { "back" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(class: Class, by: Signal, amount: Option<(i64, i64)>) -> String {
        let amount = amount.map(|(by, bound)| {
            Measurement::new(Offset::from_nanos(by * 1_000_000), Bound::from_nanos(bound * 1_000_000))
        });
        Detection { class, by, amount, replaces: None }.to_string()
    }

    #[test]
    fn words_say_who_lost_how_much_and_never_a_sign() {
        assert_eq!(words(Class::Suspend, Signal::Suspend, Some((11_000, 0))), "the machine slept for 11 s");
        assert_eq!(
            words(Class::Pause, Signal::Rtc, Some((20_100, 500))),
            "the machine was paused: by its hardware clock it lost 20.1 s ±500 ms"
        );
        assert_eq!(
            words(Class::Pause, Signal::Rtc, Some((-3_000, 500))),
            "the hardware clock lost 3 s ±500 ms: the machine was paused or restored"
        );
        assert_eq!(
            words(Class::Pause, Signal::Pools, Some((501, 1))),
            "the machine was paused: by its hardware clock and by its pools it lost 501 ms ±1 ms"
        );
        assert_eq!(
            words(Class::Pause, Signal::Vmclock, None),
            "the hypervisor says that the machine was restored or migrated"
        );
        assert_eq!(
            words(Class::RtcWrite, Signal::Rtc, Some((-2_500, 500))),
            "the hardware clock was set back by 2.50 s ±500 ms"
        );
        assert_eq!(
            words(Class::ClockSet, Signal::Wall, Some((3_000, 20))),
            "somebody set the clock forward by 3 s ±20 ms"
        );
        assert_eq!(
            words(Class::Stall, Signal::LateTick, Some((9_800, 0))),
            "the agent did not run for 9.80 s"
        );
    }

    #[test]
    fn labels_are_the_metrics() {
        use Signal::{ClockSet, LateTick, Pools, Rtc, Suspend, Vmclock, Wall};
        let labels = [Suspend, Vmclock, Rtc, ClockSet, Wall, LateTick, Pools].map(Signal::label);
        assert_eq!(labels, ["suspend", "vmclock", "rtc", "clock-set", "wall", "late-tick", "pools"]);
    }
}
