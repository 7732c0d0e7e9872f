//! The time daemon that disciplines this clock, and whether the agent could step the clock.

use std::time::Duration;

use crate::time::{Measurement, Offset};

/// Which process disciplines the clock; the label `daemon` of `drift_agent_time_daemon_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// chrony: it answers on its command socket.
    Chrony,
    /// A process that the agent cannot identify: the kernel's `STA_UNSYNC` is clear.
    Unknown,
    /// No process, as the kernel reports.
    None,
}

/// The time daemon at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonReport {
    /// Which daemon it is.
    pub daemon: Daemon,
    /// The offset that the daemon itself reports; positive: the node is behind. It may be wrong.
    pub believes: Option<Offset>,
    /// Whether the clock could be stepped with the settings in force; if not, what is missing.
    pub ready: Result<(), String>,
}

impl Daemon {
    /// Every label.
    pub const ALL: [Self; 3] = [Self::Chrony, Self::Unknown, Self::None];

    /// Who disciplines the clock: chrony where chronyd answers, and else whatever the kernel reports. chronyd
    /// counts even while it is not synchronised, because it may step or slew the clock as soon as it is.
    /// `kernel_is_disciplined` is false where the kernel's state cannot be read.
    pub const fn identify(chrony_answers: bool, kernel_is_disciplined: bool) -> Self {
        match (chrony_answers, kernel_is_disciplined) {
            (true, _) => Self::Chrony,
            (false, true) => Self::Unknown,
            (false, false) => Self::None,
        }
    }

    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Chrony => "chrony",
            Self::Unknown => "unknown",
            Self::None => "none",
        }
    }
}

/// Whether a daemon reports an offset within the threshold while the measured offset is certainly outside.
pub fn is_deceived(believes: Offset, measured: Measurement, threshold: Duration) -> bool {
    believes.magnitude() <= threshold && measured.certainly_exceeds(threshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Bound;

    #[test]
    fn chrony_that_answers_disciplines_the_clock_whatever_the_kernel_reports() {
        assert_eq!(Daemon::identify(true, false), Daemon::Chrony);
        assert_eq!(Daemon::identify(true, true), Daemon::Chrony);
    }

    #[test]
    fn without_chrony_the_kernel_shows_whether_a_process_disciplines_the_clock() {
        assert_eq!(Daemon::identify(false, true), Daemon::Unknown);
        assert_eq!(Daemon::identify(false, false), Daemon::None);
    }

    #[test]
    fn a_daemon_is_deceived_only_when_it_reports_a_small_offset_and_the_clock_is_certainly_off() {
        let of = |believes: i64, offset: i64, bound: i64| {
            let [believes, offset] = [believes, offset].map(|millis| Offset::from_nanos(millis * 1_000_000));
            is_deceived(
                believes,
                Measurement::new(offset, Bound::from_nanos(bound * 1_000_000)),
                Duration::from_millis(100),
            )
        };
        assert!(of(0, 20_000, 5) && of(-100, -20_000, 5));
        assert!(!of(19_999, 20_000, 5), "the daemon reports the offset");
        assert!(!of(0, 103, 5), "the daemon may be correct");
    }
}
