//! What is asked about a token: by which clocks, with which leeway, and what it is for.

use std::time::Duration;

use super::date::NumericDate;
use drift_core::time::{Bound, NANOS_PER_SEC, Wall};

pub(super) const SECOND: i128 = NANOS_PER_SEC as i128;

/// What a token is for: it decides how long it may live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It opens an API.
    Access,
    /// It tells who somebody is.
    Id,
    /// It gets new tokens.
    Refresh,
}

impl Kind {
    /// As in `--kind`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Id => "id",
            Self::Refresh => "refresh",
        }
    }

    /// With its article.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Access => "an access token",
            Self::Id => "an ID token",
            Self::Refresh => "a refresh token",
        }
    }

    /// The longest life that needs no explanation.
    pub const fn longest_life(self) -> Duration {
        Duration::from_secs(match self {
            Self::Access => 15 * 60,
            Self::Id => 3_600,
            Self::Refresh => 30 * 86_400,
        })
    }
}

/// Where true time lies: measured, with its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The middle of it.
    pub at: Wall,
    /// True time is inside `at` ± `bound`.
    pub bound: Bound,
}

/// By which clocks a token is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// This machine's, and true time at the same instant when it was measured.
    Here {
        /// What this machine's clock reads.
        clock: Wall,
        /// True time.
        truth: Option<Truth>,
    },
    /// A time that somebody gave: no clock was read.
    Given(Wall),
}

/// What is asked about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// By which clocks.
    pub now: Now,
    /// How far a verifier's clock may be off from the issuer's before it refuses.
    pub leeway: Duration,
    /// What the token is for.
    pub kind: Kind,
    /// From this offset on the machine's clock is a finding of its own.
    pub threshold: Duration,
}

impl Truth {
    /// Has `edge` been reached? `None` when the bound leaves it open.
    pub(super) fn has_reached(&self, edge: NumericDate) -> Option<bool> {
        let (at, bound) = (NumericDate::from(self.at), self.bound.as_duration());
        match (at.minus(bound) >= edge, at.plus(bound) >= edge) {
            (true, true) => Some(true),
            (false, false) => Some(false),
            _ => None,
        }
    }
}

impl Now {
    /// What a verifier on this machine goes by.
    pub fn here(&self) -> NumericDate {
        match self {
            Self::Here { clock, .. } | Self::Given(clock) => NumericDate::from(*clock),
        }
    }

    /// True time, when it was measured.
    pub const fn truth(&self) -> Option<Truth> {
        match self {
            Self::Here { truth, .. } => *truth,
            Self::Given(_) => None,
        }
    }

    /// The best that is known of the time.
    pub(super) fn best(&self) -> NumericDate {
        self.truth().map_or_else(|| self.here(), |truth| NumericDate::from(truth.at))
    }
}

pub(super) fn leeway_nanos(question: &Question) -> i128 {
    i128::try_from(question.leeway.as_nanos()).unwrap_or(i128::MAX)
}
