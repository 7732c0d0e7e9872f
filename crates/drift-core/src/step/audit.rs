//! The audit of the node's own time daemon: what a node should have so that its clock stays right, each as
//! fulfilled, not fulfilled, or not visible from here.
//!
//! Each finding rests on a fact that the agent has read. What it cannot read is not visible: it is never
//! taken for a fault.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::time_daemon::Daemon;

/// The daemon should reach so many sources: with one, nothing shows that it is wrong.
pub const SOURCES_MIN: u32 = 2;
/// The longest round trip to a reference that counts as near: within a region it is a few milliseconds,
/// between continents over 60. Half of it is the error that a path of unequal directions may cause.
pub const NEAR_ROUND_TRIP: Duration = Duration::from_millis(20);

/// One finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The node has it.
    Fulfilled,
    /// The node lacks it.
    NotFulfilled,
    /// The agent cannot read it here.
    NotVisible,
}

/// What was read about the daemon; `None`: it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who disciplines the clock.
    pub daemon: Daemon,
    /// Sources that answered at least one of the daemon's last eight polls.
    pub reachable_sources: Option<u32>,
    /// Whether chrony's `makestep` is without a limit (`1 -1`).
    pub steps_always: Option<bool>,
    /// Whether the kernel copies the time to the hardware clock: `STA_UNSYNC` is clear.
    pub rtc_sync: Option<bool>,
    /// Round trip to the reference of the source in use.
    pub root_delay: Option<Duration>,
}

/// All findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// [`SOURCES_MIN`] reachable sources or more.
    pub sources: Finding,
    /// The daemon steps a large offset at any time, and not only after its start.
    pub makestep: Finding,
    /// The hardware clock is kept correct, so that the next boot begins with the right time.
    pub rtcsync: Finding,
    /// The source in use is near, like a pool of the region.
    pub near: Finding,
}

impl Finding {
    /// Every finding.
    pub const ALL: [Self; 3] = [Self::Fulfilled, Self::NotFulfilled, Self::NotVisible];

    /// The label in JSON and in the annotation.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fulfilled => "fulfilled",
            Self::NotFulfilled => "not-fulfilled",
            Self::NotVisible => "not-visible",
        }
    }

    /// The words for a text.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Fulfilled => "fulfilled",
            Self::NotFulfilled => "not fulfilled",
            Self::NotVisible => "not visible from here",
        }
    }

    fn of(fact: Option<bool>) -> Self {
        match fact {
            Some(true) => Self::Fulfilled,
            Some(false) => Self::NotFulfilled,
            None => Self::NotVisible,
        }
    }
}

impl Audit {
    /// Nothing could be read.
    pub const NOT_VISIBLE: Self = Self {
        sources: Finding::NotVisible,
        makestep: Finding::NotVisible,
        rtcsync: Finding::NotVisible,
        near: Finding::NotVisible,
    };

    /// The findings of these facts.
    pub fn new(facts: Facts) -> Self {
        // systemd-timesyncd follows one server at a time, and steps from 0.4 s on, at any time.
        let is_timesyncd = facts.daemon == Daemon::Timesyncd;
        let sources = facts.reachable_sources.or(is_timesyncd.then_some(1));
        Self {
            sources: Finding::of(sources.map(|count| count >= SOURCES_MIN)),
            makestep: Finding::of(facts.steps_always.or(is_timesyncd.then_some(true))),
            rtcsync: Finding::of(facts.rtc_sync),
            near: Finding::of(facts.root_delay.map(|delay| delay <= NEAR_ROUND_TRIP)),
        }
    }

    /// Each finding with its key, and with what is wanted in words.
    pub const fn findings(self) -> [(&'static str, &'static str, Finding); 4] {
        [
            ("sources", "two reachable sources or more", self.sources),
            ("makestep", "steps at any time (makestep 1 -1)", self.makestep),
            ("rtcsync", "hardware clock kept correct (rtcsync)", self.rtcsync),
            ("near", "near source (round trip to the reference up to 20 ms)", self.near),
        ]
    }

    /// Is there anything to report?
    pub fn is_visible(self) -> bool {
        self != Self::NOT_VISIBLE
    }
}

/// The annotation `time-daemon-audit`: `sources=fulfilled makestep=not-visible rtcsync=fulfilled
/// near=fulfilled`.
impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (key, _, finding)) in self.findings().into_iter().enumerate() {
            let space = if n == 0 { "" } else { " " };
            write!(f, "{space}{key}={}", finding.label())?;
        }
        Ok(())
    }
}

/// The text is not an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAudit;

/// Keys that are not known are skipped: a newer agent may have more of them.
impl FromStr for Audit {
    type Err = NoAudit;

    fn from_str(text: &str) -> Result<Self, NoAudit> {
        let mut audit = Self::NOT_VISIBLE;
        for word in text.split_ascii_whitespace() {
            let (key, label) = word.split_once('=').ok_or(NoAudit)?;
            let finding = Finding::ALL.into_iter().find(|f| f.label() == label).ok_or(NoAudit)?;
            match key {
                "sources" => audit.sources = finding,
                "makestep" => audit.makestep = finding,
                "rtcsync" => audit.rtcsync = finding,
                "near" => audit.near = finding,
                _ => {}
            }
        }
        Ok(audit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Finding::{Fulfilled, NotFulfilled, NotVisible};

    const UNREAD: Facts = Facts {
        daemon: Daemon::Unknown,
        reachable_sources: None,
        steps_always: None,
        rtc_sync: None,
        root_delay: None,
    };

    #[test]
    fn facts_that_cannot_be_read_are_not_visible_and_never_a_fault() {
        for daemon in [Daemon::Chrony, Daemon::Unknown, Daemon::None] {
            assert_eq!(Audit::new(Facts { daemon, ..UNREAD }), Audit::NOT_VISIBLE);
        }
    }

    #[test]
    fn each_finding_follows_from_its_own_fact() {
        let sources = |n| Audit::new(Facts { reachable_sources: Some(n), ..UNREAD }).sources;
        assert_eq!([0, 1, 2].map(sources), [NotFulfilled, NotFulfilled, Fulfilled]);
        let makestep = |always| Audit::new(Facts { steps_always: Some(always), ..UNREAD }).makestep;
        assert_eq!([false, true].map(makestep), [NotFulfilled, Fulfilled]);
        let rtcsync = |on| Audit::new(Facts { rtc_sync: Some(on), ..UNREAD }).rtcsync;
        assert_eq!([false, true].map(rtcsync), [NotFulfilled, Fulfilled]);
        let near =
            |millis| Audit::new(Facts { root_delay: Some(Duration::from_millis(millis)), ..UNREAD }).near;
        assert_eq!([0, 20, 21].map(near), [Fulfilled, Fulfilled, NotFulfilled]);
    }

    #[test]
    fn timesyncd_follows_one_server_and_steps_at_any_time() {
        let audit = Audit::new(Facts { daemon: Daemon::Timesyncd, ..UNREAD });
        assert_eq!((audit.sources, audit.makestep, audit.near), (NotFulfilled, Fulfilled, NotVisible));
    }

    #[test]
    fn annotations_are_read_back_with_newer_keys_and_other_texts_are_none() {
        let audit = Audit { sources: Fulfilled, makestep: NotFulfilled, ..Audit::NOT_VISIBLE };
        let text = audit.to_string();
        assert_eq!(text, "sources=fulfilled makestep=not-fulfilled rtcsync=not-visible near=not-visible");
        assert_eq!(text.parse(), Ok(audit));
        assert_eq!(format!("{text} later=fulfilled").parse(), Ok(audit));
        assert_eq!("sources=perhaps".parse::<Audit>(), Err(NoAudit));
        assert_eq!("sources".parse::<Audit>(), Err(NoAudit));
    }
}
