//! From the evidence of one instant to a disruption: the strongest that the evidence allows.

use std::time::Duration;

use super::disruption::{Disruption, PauseEvidence};
use super::signal::{Signal, SignalSet};
use super::wall::WallStep;
use crate::time::Measurement;

/// The kind of a disruption, as a label and an index. In order of strength: the evidence of a stronger one
/// explains a weaker one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The machine was suspended, and the kernel knows.
    Suspend,
    /// The machine was paused, restored or migrated, and the kernel does not know.
    Pause,
    /// Only the RTC was set: by the kernel (every 11 minutes, or after a step), or by another process.
    RtcWrite,
    /// Another process set the wall clock.
    ClockSet,
    /// The agent did not run for a second or more.
    Stall,
}

/// What the signals show at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The time for which the kernel reports that the machine was suspended.
    pub slept: Option<Duration>,
    /// Has the hypervisor's disruption marker changed?
    pub is_marker_changed: bool,
    /// What the RTC shows.
    pub rtc: RtcFinding,
    /// How another process set the wall clock.
    pub wall_step: Option<WallStep>,
    /// How late the agent was, where that is a stall.
    pub late: Option<Duration>,
}

/// What the RTC shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcFinding {
    /// No jump.
    Steady,
    /// A jump that no write can have made.
    Jumped {
        /// How far; positive: forward.
        by: Measurement,
    },
    /// A jump that was reported as a write before; the RTC is known better now, and no write can have made
    /// it.
    NotWritten {
        /// How far; positive: forward.
        by: Measurement,
    },
    /// A jump that a write may have made.
    MaybeWritten {
        /// How far; positive: forward.
        by: Measurement,
    },
}

impl Class {
    /// All classes, strongest first.
    pub const ALL: [Self; 5] = [Self::Suspend, Self::Pause, Self::RtcWrite, Self::ClockSet, Self::Stall];

    /// As the label `class` and in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Pause => "pause",
            Self::RtcWrite => "rtc-write",
            Self::ClockSet => "clock-set",
            Self::Stall => "stall",
        }
    }

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// May it trigger a step? A clock that another process or an operator has set is left to them.
    pub const fn may_step(self) -> bool {
        match self {
            Self::Suspend | Self::Pause | Self::Stall => true,
            Self::RtcWrite | Self::ClockSet => false,
        }
    }

    /// Is it worth a report after the same event was reported as `reported`? Yes if it is stronger, or if it
    /// may trigger a step and `reported` may not.
    pub fn upgrades(self, reported: Self) -> bool {
        self < reported || (self.may_step() && !reported.may_step())
    }
}

impl Evidence {
    /// The strongest disruption that the evidence allows; `None` without evidence.
    pub fn disruption(&self) -> Option<Disruption> {
        match *self {
            Self { slept: Some(slept), .. } => Some(Disruption::Suspend { slept }),
            Self { is_marker_changed: true, .. } => Some(Disruption::Pause(PauseEvidence::Hypervisor)),
            Self { rtc: RtcFinding::Jumped { by } | RtcFinding::NotWritten { by }, .. } => {
                Some(Disruption::Pause(PauseEvidence::Rtc { lost: by }))
            }
            Self { rtc: RtcFinding::MaybeWritten { by }, .. } => Some(Disruption::RtcWrite { by }),
            Self { wall_step: Some(WallStep { by, is_notified, .. }), .. } => {
                Some(Disruption::ClockSet { by, is_notified })
            }
            Self { late: Some(late), .. } => Some(Disruption::Stall { late }),
            Self { rtc: RtcFinding::Steady, .. } => None,
        }
    }

    /// The signals that show something.
    pub fn signals(&self) -> SignalSet {
        let wall = |test: fn(WallStep) -> bool| self.wall_step.is_some_and(test);
        [
            (Signal::Suspend, self.slept.is_some()),
            (Signal::Vmclock, self.is_marker_changed),
            (Signal::Rtc, self.rtc != RtcFinding::Steady),
            (Signal::ClockSet, wall(|step| step.is_notified)),
            (Signal::Wall, wall(|step| step.is_visible)),
            (Signal::LateTick, self.late.is_some()),
        ]
        .into_iter()
        .filter_map(|(signal, shows)| shows.then_some(signal))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Offset;

    const BY: Measurement = Measurement::exact(Offset::from_nanos(1));
    const STEP: WallStep = WallStep { is_visible: true, is_notified: false, by: BY };
    const SPAN: Duration = Duration::from_secs(1);

    /// Every combination of evidence, each piece of it with the class that it has alone, and the signals that
    /// show it.
    fn combinations() -> Vec<(Evidence, Vec<Class>, Vec<Signal>)> {
        let bools = [false, true];
        let rtc = [
            (RtcFinding::Steady, None),
            (RtcFinding::Jumped { by: BY }, Some(Class::Pause)),
            (RtcFinding::NotWritten { by: BY }, Some(Class::Pause)),
            (RtcFinding::MaybeWritten { by: BY }, Some(Class::RtcWrite)),
        ];
        let mut all = Vec::new();
        for (slept, is_marker_changed, clock_set, late) in
            (0..16).map(|n| (bools[n & 1], bools[n >> 1 & 1], bools[n >> 2 & 1], bools[n >> 3]))
        {
            for (rtc, rtc_class) in rtc {
                let evidence = Evidence {
                    slept: slept.then_some(SPAN),
                    is_marker_changed,
                    rtc,
                    wall_step: clock_set.then_some(STEP),
                    late: late.then_some(SPAN),
                };
                let alone = [
                    (slept.then_some(Class::Suspend), Signal::Suspend),
                    (is_marker_changed.then_some(Class::Pause), Signal::Vmclock),
                    (rtc_class, Signal::Rtc),
                    (clock_set.then_some(Class::ClockSet), Signal::Wall),
                    (late.then_some(Class::Stall), Signal::LateTick),
                ];
                let shown =
                    alone.into_iter().filter_map(|(class, signal)| class.map(|class| (class, signal)));
                let (classes, signals) = shown.unzip();
                all.push((evidence, classes, signals));
            }
        }
        all
    }

    #[test]
    fn combined_evidence_has_the_strongest_class_that_a_piece_has_alone() {
        let all = combinations();
        assert_eq!(all.len(), 64);
        for (evidence, classes, _) in all {
            let class = evidence.disruption().map(Disruption::class);
            assert_eq!(class, classes.into_iter().min(), "{evidence:?}");
        }
    }

    #[test]
    fn combined_evidence_has_the_signals_of_all_pieces() {
        for (evidence, _, signals) in combinations() {
            assert_eq!(evidence.signals(), signals.into_iter().collect(), "{evidence:?}");
        }
    }

    #[test]
    fn wall_steps_have_the_signals_that_show_them() {
        let quiet = Evidence {
            slept: None,
            is_marker_changed: false,
            rtc: RtcFinding::Steady,
            wall_step: None,
            late: None,
        };
        for (is_visible, is_notified, shown) in [
            (true, false, [Signal::Wall].as_slice()),
            (false, true, &[Signal::ClockSet]),
            (true, true, &[Signal::Wall, Signal::ClockSet]),
        ] {
            let wall_step = Some(WallStep { is_visible, is_notified, by: BY });
            let signals = Evidence { wall_step, ..quiet }.signals();
            assert_eq!(signals, shown.iter().copied().collect());
        }
    }

    #[test]
    fn class_labels_and_step_rights_are_those_documented() {
        assert_eq!(Class::ALL.map(Class::label), ["suspend", "pause", "rtc-write", "clock-set", "stall"]);
        assert_eq!(Class::ALL.map(Class::may_step), [true, true, false, false, true]);
    }

    #[test]
    fn only_stronger_classes_and_those_that_may_step_upgrade_a_report() {
        use Class::{ClockSet, Pause, RtcWrite, Stall, Suspend};
        let upgrades: Vec<(Class, Class)> = Class::ALL
            .into_iter()
            .flat_map(|reported| Class::ALL.map(|new| (reported, new)))
            .filter(|&(reported, new)| new.upgrades(reported))
            .collect();
        assert_eq!(
            upgrades,
            [
                (Pause, Suspend),
                (RtcWrite, Suspend),
                (RtcWrite, Pause),
                (RtcWrite, Stall),
                (ClockSet, Suspend),
                (ClockSet, Pause),
                (ClockSet, RtcWrite),
                (ClockSet, Stall),
                (Stall, Suspend),
                (Stall, Pause),
                (Stall, RtcWrite),
                (Stall, ClockSet),
            ]
        );
    }
}
