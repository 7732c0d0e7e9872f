//! The skew between the clocks of two Nodes.

use std::time::Duration;

use super::now::{Age, Now};
use super::row::Row;
use drift_core::time::{Bound, NANOS_PER_SEC, Offset, Ppb};

/// How fast a Node's clock is taken to run away from what its agent published. Faster ones change the state, and are
/// published again.
const UNDISCIPLINED: Ppb = Ppb::from_ppm(200);

/// One second, in nanoseconds. Times in tokens are mostly cut off to whole seconds, which hides up to one
/// second of being ahead.
const WHOLE_SECOND: i64 = NANOS_PER_SEC;

/// The skew between the clocks of two Nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// The first Node's clock minus the second's. Positive: the first is ahead.
    pub ahead: Offset,
    /// The sum of both bounds, each at the time of its own measurement.
    pub measured: Bound,
    /// The same, plus what both oscillators may have drifted since.
    pub now: Bound,
}

/// Whether a token verifies at the moment at which it is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// It is valid at once.
    Valid,
    /// It is not valid yet, even if its times are cut off to whole seconds.
    NotYet,
    /// Either is possible, because of the bounds or of whole seconds.
    Open,
}

impl Skew {
    /// The first Node's clock minus the second's; `None` unless both were measured recently.
    pub fn between(first: &Row, second: &Row, now: &Now) -> Option<Self> {
        let (first, first_age) = first.current(now)?;
        let (second, second_age) = second.current(now)?;
        // Node time is reference time minus offset.
        let ahead = Offset::from_nanos(second.offset.as_nanos().saturating_sub(first.offset.as_nanos()));
        let now = Self::aged(first.bound, first_age) + Self::aged(second.bound, second_age);
        Some(Self { ahead, measured: first.bound + second.bound, now })
    }

    /// A bound after the growth of `age`. An undisciplined oscillator may be off by 200 ppm. A step by
    /// another process is not visible here; the agent publishes it as soon as it measures it.
    pub fn aged(bound: Bound, age: Age) -> Bound {
        // One second for times that are cut off to seconds.
        let age = Duration::from_secs(age.as_secs().saturating_add(1));
        bound + Bound::from_nanos(UNDISCIPLINED.over(age))
    }

    /// Whether the second Node accepts a token of the first at once: `iat` and `nbf` without leeway.
    pub fn fresh(&self) -> Fresh {
        let (ahead, bound) = (self.ahead.as_nanos(), self.now.as_nanos());
        match () {
            () if ahead.saturating_add(bound) <= 0 => Fresh::Valid,
            () if ahead.saturating_sub(bound) >= WHOLE_SECOND => Fresh::NotYet,
            () => Fresh::Open,
        }
    }

    /// The most by which the first Node may be ahead; 0 when it is certainly behind.
    pub fn most_ahead(&self) -> Duration {
        positive(self.ahead.as_nanos().saturating_add(self.now.as_nanos()))
    }

    /// The most by which the first Node may be behind; 0 when it is certainly ahead.
    pub fn most_behind(&self) -> Duration {
        positive(self.now.as_nanos().saturating_sub(self.ahead.as_nanos()))
    }
}

fn positive(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
