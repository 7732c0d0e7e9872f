//! How a token is judged: by which clocks, with which leeway, and as which kind of token.

use std::time::Duration;

use super::date::NumericDate;
use drift_core::time::{Bound, Measurement, NANOS_PER_SEC, Wall};

/// One second in nanoseconds.
pub(super) const SECOND: i128 = NANOS_PER_SEC as i128;

/// The purpose of a token; it decides the longest lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Gives access to an API.
    Access,
    /// Identifies a user to the client.
    Id,
    /// Is exchanged for new tokens.
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

    /// With its article, for text.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Access => "an access token",
            Self::Id => "an ID token",
            Self::Refresh => "a refresh token",
        }
    }

    /// The longest lifetime without a warning.
    pub const fn longest_life(self) -> Duration {
        Duration::from_secs(match self {
            Self::Access => 15 * 60,
            Self::Id => 3_600,
            Self::Refresh => 30 * 86_400,
        })
    }
}

/// Measured true time, with its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// The middle of the interval.
    pub at: Wall,
    /// True time is inside `at` ± `bound`.
    pub bound: Bound,
}

/// The clocks by which a token is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// This machine's clock, and true time at the same instant if it was measured.
    Here {
        /// The reading of this machine's clock.
        clock: Wall,
        /// True time; `None` when it was not measured.
        truth: Option<Truth>,
    },
    /// A time from the command line: no clock was read.
    Given(Wall),
}

/// How a token is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The clocks.
    pub now: Now,
    /// How far a verifier's clock may be off from the issuer's before it rejects the token.
    pub leeway: Duration,
    /// The purpose of the token.
    pub kind: Kind,
    /// Above this offset, this machine's clock is a finding of its own.
    /// Unused without a measurement.
    pub threshold: Duration,
}

impl Truth {
    /// Has `edge` been reached? `None` when it lies inside the bound.
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
    /// The time by which a verifier on this machine judges.
    pub fn here(&self) -> NumericDate {
        match self {
            Self::Here { clock, .. } | Self::Given(clock) => NumericDate::from(*clock),
        }
    }

    /// True time; `None` when it was not measured.
    pub const fn truth(&self) -> Option<Truth> {
        match self {
            Self::Here { truth, .. } => *truth,
            Self::Given(_) => None,
        }
    }

    /// How far this machine's clock is off; `None` when that was not measured.
    pub(super) fn measured(&self) -> Option<Measurement> {
        let Self::Here { clock, truth } = self else { return None };
        truth.map(|truth| Measurement::new(truth.at.minus(*clock), truth.bound))
    }

    /// True time if it was measured, otherwise this machine's clock or the given time.
    pub(super) fn best(&self) -> NumericDate {
        self.truth().map_or_else(|| self.here(), |truth| NumericDate::from(truth.at))
    }
}

/// The leeway in nanoseconds.
pub(super) fn leeway_nanos(question: &Question) -> i128 {
    i128::try_from(question.leeway.as_nanos()).unwrap_or(i128::MAX)
}
