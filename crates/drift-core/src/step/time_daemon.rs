//! The time daemon that disciplines this clock, and whether the agent could step the clock.

use std::time::Duration;

use super::audit::Audit;
use super::discipline::Discipline;
use crate::time::{Measurement, Offset};

/// Which process disciplines the clock; the label `daemon` of `drift_agent_time_daemon_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// chrony: it answers on its command socket, or by UDP on this machine.
    Chrony,
    /// systemd-timesyncd: the file that it touches is as old as the kernel's last update.
    Timesyncd,
    /// A process that the agent cannot identify, or perhaps none: the kernel's state cannot be read.
    Unknown,
    /// No process, as the kernel reports; or none has updated the clock for two hours.
    None,
}

/// The time daemon at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonReport {
    /// Which daemon it is.
    pub daemon: Daemon,
    /// The offset that the daemon itself reports; positive: the node is behind. It may be wrong.
    pub believes: Option<Offset>,
    /// For how long no process has updated the clock, at least. `None`: no process disciplines it, or the
    /// kernel's state cannot be read.
    pub update_age: Option<Duration>,
    /// What the daemon has of what a node should have.
    pub audit: Audit,
    /// Whether the clock could be stepped with the settings in force; if not, what is missing.
    pub ready: Result<(), String>,
}

impl DaemonReport {
    /// No daemon, on a clock that may be stepped.
    pub const NONE: Self = Self {
        daemon: Daemon::None,
        believes: None,
        update_age: None,
        audit: Audit::NOT_VISIBLE,
        ready: Ok(()),
    };
}

impl Daemon {
    /// Every label.
    pub const ALL: [Self; 4] = [Self::Chrony, Self::Timesyncd, Self::Unknown, Self::None];

    /// Who disciplines the clock: chrony where chronyd answers, and else whatever the kernel reports. chronyd
    /// counts even while it is not synchronised, because it may step or slew the clock as soon as it is.
    /// `timesyncd_updated`: the last update of the kernel's state was systemd-timesyncd's.
    pub const fn identify(chrony_answers: bool, kernel: Discipline, timesyncd_updated: bool) -> Self {
        match kernel {
            _ if chrony_answers => Self::Chrony,
            Discipline::Active if timesyncd_updated => Self::Timesyncd,
            Discipline::Active | Discipline::Unreadable => Self::Unknown,
            Discipline::Absent | Discipline::Silent => Self::None,
        }
    }

    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Chrony => "chrony",
            Self::Timesyncd => "timesyncd",
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

    const KERNELS: [Discipline; 4] =
        [Discipline::Unreadable, Discipline::Absent, Discipline::Silent, Discipline::Active];

    #[test]
    fn chrony_that_answers_disciplines_the_clock_whatever_the_kernel_reports() {
        for kernel in KERNELS {
            assert_eq!(Daemon::identify(true, kernel, true), Daemon::Chrony);
        }
    }

    #[test]
    fn without_chrony_the_kernel_shows_whether_a_process_disciplines_the_clock() {
        let of = |kernel| Daemon::identify(false, kernel, false);
        assert_eq!(KERNELS.map(of), [Daemon::Unknown, Daemon::None, Daemon::None, Daemon::Unknown]);
    }

    #[test]
    fn timesyncd_is_recognised_only_while_the_kernel_shows_that_it_is_alive() {
        let of = |kernel| Daemon::identify(false, kernel, true);
        assert_eq!(KERNELS.map(of), [Daemon::Unknown, Daemon::None, Daemon::None, Daemon::Timesyncd]);
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
