//! What is known of the time daemon that disciplines this clock, and whether we could step it.

use std::time::Duration;

use crate::time::{Measurement, Offset};

/// Who disciplines the clock; the label `daemon` of `drift_agent_time_daemon_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// chrony: it answers on its command socket.
    Chrony,
    /// Somebody: the kernel's `STA_UNSYNC` is clear. Who, cannot be seen from here.
    Unknown,
    /// Nobody.
    None,
}

/// One look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonReport {
    /// Who it is.
    pub daemon: Daemon,
    /// What it takes the clock's offset for; positive: the node is behind.
    pub believes: Option<Offset>,
    /// Could the clock be stepped as the settings have it? If not, what is missing.
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

/// Does a daemon believe that the clock is within the threshold, while what was measured certainly says otherwise?
pub fn is_deceived(believes: Offset, measured: Measurement, threshold: Duration) -> bool {
    believes.magnitude() <= threshold && measured.certainly_exceeds(threshold)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Bound;

    #[test]
    fn a_daemon_is_deceived_only_when_it_feels_well_and_certainly_is_not() {
        let of = |believes: i64, offset: i64, bound: i64| {
            let [believes, offset] = [believes, offset].map(|millis| Offset::from_nanos(millis * 1_000_000));
            is_deceived(
                believes,
                Measurement::new(offset, Bound::from_nanos(bound * 1_000_000)),
                Duration::from_millis(100),
            )
        };
        assert!(of(0, 20_000, 5) && of(-100, -20_000, 5));
        assert!(!of(19_999, 20_000, 5), "it knows");
        assert!(!of(0, 103, 5), "it may be right");
    }
}
