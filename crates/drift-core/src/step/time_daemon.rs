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
    /// None.
    None,
}

/// The time daemon as inspected once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonReport {
    /// Which daemon it is.
    pub daemon: Daemon,
    /// The offset that the daemon reports; positive: the node is behind.
    pub believes: Option<Offset>,
    /// Whether the clock could be stepped as `step.mode` has it, or what is missing for that.
    pub ready: Result<(), String>,
}

impl Daemon {
    /// Every label.
    pub const ALL: [Self; 3] = [Self::Chrony, Self::Unknown, Self::None];

    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Chrony => "chrony",
            Self::Unknown => "unknown",
            Self::None => "none",
        }
    }
}

/// Does the daemon report an offset within the threshold, while the measured one is certainly over it?
pub fn is_deceived(believes: Offset, measured: Measurement, threshold: Duration) -> bool {
    believes.magnitude() <= threshold && measured.certainly_exceeds(threshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Bound;

    #[test]
    fn a_daemon_is_deceived_only_when_it_reports_a_good_clock_and_the_measurement_is_certainly_over() {
        let of = |believes: i64, offset: i64, bound: i64| {
            let [believes, offset] = [believes, offset].map(|millis| Offset::from_nanos(millis * 1_000_000));
            is_deceived(
                believes,
                Measurement::new(offset, Bound::from_nanos(bound * 1_000_000)),
                Duration::from_millis(100),
            )
        };
        assert!(of(0, 20_000, 5) && of(-100, -20_000, 5));
        assert!(!of(19_999, 20_000, 5), "the daemon reports the offset, too");
        assert!(!of(0, 103, 5), "the daemon may be right");
    }
}
