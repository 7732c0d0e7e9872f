//! The clock of one Node against that of another.

use std::time::Duration;

use super::now::{Age, Now};
use super::row::Row;
use drift_core::time::line::FREQUENCY_UNKNOWN;
use drift_core::time::{Bound, NANOS_PER_SEC, Offset};

/// Times in tokens are mostly whole seconds, cut off: that hides up to one second of being ahead.
pub(super) const WHOLE: i64 = NANOS_PER_SEC;

/// The clock of one Node against that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// The first Node's clock minus the second's. Positive: the first is ahead.
    pub ahead: Offset,
    /// The sum of both bounds, each at the time of its own measurement.
    pub measured: Bound,
    /// The same with what both oscillators may have done since.
    pub now: Bound,
}

/// What can be said of a token at the moment it is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// It is valid at once.
    Valid,
    /// It is not valid yet, also when its times are cut off to whole seconds.
    NotYet,
    /// The bounds, or the whole seconds, leave both open.
    Open,
}

impl Skew {
    /// `None` when one of them was not measured recently.
    pub fn between(first: &Row, second: &Row, now: &Now) -> Option<Self> {
        let (offset_1, bound_1, age_1) = first.current(now)?;
        let (offset_2, bound_2, age_2) = second.current(now)?;
        // Node time is reference time minus offset.
        let ahead = Offset::from_nanos(offset_2.as_nanos().saturating_sub(offset_1.as_nanos()));
        let now = Self::aged(bound_1, age_1) + Self::aged(bound_2, age_2);
        Some(Self { ahead, measured: bound_1 + bound_2, now })
    }

    /// What a bound has grown to. An oscillator that nobody disciplines may be off by 200 ppm; that someone has set the clock since
    /// cannot be seen from here, but the agent would have written.
    pub fn aged(bound: Bound, age: Age) -> Bound {
        // One second for times that are cut off to seconds.
        let age = Duration::from_secs(age.as_secs().saturating_add(1));
        bound + Bound::from_nanos(FREQUENCY_UNKNOWN.over(age))
    }

    /// A token of the first Node, seen by the second at once: `iat` and `nbf` without leeway.
    pub fn fresh(&self) -> Fresh {
        let (ahead, bound) = (self.ahead.as_nanos(), self.now.as_nanos());
        match () {
            () if ahead.saturating_add(bound) <= 0 => Fresh::Valid,
            () if ahead.saturating_sub(bound) >= WHOLE => Fresh::NotYet,
            () => Fresh::Open,
        }
    }

    /// By how much the first Node may be ahead at most; 0 when it is certainly behind.
    pub fn most_ahead(&self) -> Duration {
        positive(self.ahead.as_nanos().saturating_add(self.now.as_nanos()))
    }

    /// By how much the first Node may be behind at most; 0 when it is certainly ahead.
    pub fn most_behind(&self) -> Duration {
        positive(self.now.as_nanos().saturating_sub(self.ahead.as_nanos()))
    }
}

fn positive(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
