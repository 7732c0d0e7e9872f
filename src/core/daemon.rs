//! What is known of the time daemon that disciplines this clock, and whether we could step it.

use super::time::Offset;

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
