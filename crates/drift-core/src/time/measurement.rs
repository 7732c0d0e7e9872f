//! An offset with its bound: the result of every measurement of a clock.

use std::fmt;
use std::time::Duration;

use super::{Bound, Offset, nanos};

/// An offset and how far it may be from the truth (RFC 5905 sections 8 and 11.2: theta and lambda).
///
/// The true offset is inside `offset` ± `bound`, if most of the servers behind it are truechimers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Measurement {
    /// Reference time - node time; positive: the node is behind.
    pub offset: Offset,
    /// Half the width of the interval that holds the true offset.
    pub bound: Bound,
}

impl Measurement {
    /// `offset` ± `bound`.
    pub const fn new(offset: Offset, bound: Bound) -> Self {
        Self { offset, bound }
    }

    /// Without uncertainty.
    pub const fn exact(offset: Offset) -> Self {
        Self { offset, bound: Bound::ZERO }
    }

    /// The smallest and the largest offset that it allows, in ns.
    pub(crate) const fn edges(self) -> (i64, i64) {
        let (middle, half) = (self.offset.as_nanos(), self.bound.as_nanos());
        (middle.saturating_sub(half), middle.saturating_add(half))
    }

    /// Is the true offset larger than `limit` on one side, wherever it lies inside the bound?
    pub fn certainly_exceeds(self, limit: Duration) -> bool {
        let ((low, high), limit) = (self.edges(), nanos(limit));
        low > limit || high < -limit
    }

    /// Is the true offset at most `limit`, wherever it lies inside the bound?
    pub fn certainly_within(self, limit: Duration) -> bool {
        let ((low, high), limit) = (self.edges(), nanos(limit));
        low >= -limit && high <= limit
    }

    /// Does the whole interval lie beyond `limit`, on the side on which `limit` lies?
    pub const fn certainly_beyond(self, limit: Offset) -> bool {
        let (low, high) = self.edges();
        if limit.as_nanos() >= 0 { low > limit.as_nanos() } else { high < limit.as_nanos() }
    }

    /// Is there an offset that both allow?
    pub const fn overlaps(self, other: Self) -> bool {
        let ((low, high), (other_low, other_high)) = (self.edges(), other.edges());
        low <= other_high && other_low <= high
    }
}

/// `3 s behind (±1.6 ms)`: the direction in words, never a sign.
impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (±{})", self.offset.in_words(), self.bound.in_words())
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    fn of(offset: i64, bound: i64) -> Measurement {
        Measurement::new(Offset::from_nanos(offset), Bound::from_nanos(bound))
    }

    const LIMIT: Duration = Duration::from_nanos(100);

    #[test]
    fn measurements_are_displayed_with_direction_and_bound() {
        assert_eq!(of(3_000_000_000, 1_600_000).to_string(), "3 s behind (±1.6 ms)");
        assert_eq!(of(-132_000_000, 0).to_string(), "132 ms ahead (±0 s)");
        assert_eq!(of(0, 2_000_000).to_string(), "on time (±2 ms)");
    }

    #[test]
    fn certainly_exceeds_begins_one_nanosecond_past_the_limit() {
        assert!(of(106, 5).certainly_exceeds(LIMIT) && of(-106, 5).certainly_exceeds(LIMIT));
        assert!(!of(105, 5).certainly_exceeds(LIMIT) && !of(-105, 5).certainly_exceeds(LIMIT));
        assert!(!of(0, 1_000).certainly_exceeds(LIMIT), "the interval holds both sides");
    }

    #[test]
    fn certainly_within_includes_the_limit() {
        assert!(of(95, 5).certainly_within(LIMIT) && of(-95, 5).certainly_within(LIMIT));
        assert!(!of(96, 5).certainly_within(LIMIT) && !of(0, 101).certainly_within(LIMIT));
    }

    #[test]
    fn certainly_beyond_is_on_the_side_of_its_limit() {
        let half = Offset::from_nanos(50);
        assert!(of(56, 5).certainly_beyond(half) && !of(55, 5).certainly_beyond(half));
        assert!(!of(-56, 5).certainly_beyond(half));
        let half = Offset::from_nanos(-50);
        assert!(of(-56, 5).certainly_beyond(half) && !of(-55, 5).certainly_beyond(half));
    }

    /// Each statement is exact, too: what is not certain is false for an offset within the bound.
    #[test]
    fn certain_statements_hold_for_each_offset_within_the_bound() {
        let reached = Reached::new([
            ("certainly exceeds", 8),
            ("certainly within", 8),
            ("certainly beyond", 8),
            ("no overlap", 10),
            ("an end of the bound is a limit", 3),
        ]);
        // Most of the true offsets are an end of the bound, and many of these a limit or one past it.
        let bound = 0i64..100;
        let offset = prop_oneof![
            -250i64..250,
            (99i64..102, any::<bool>()).prop_map(|(end, ahead)| if ahead { -end } else { end })
        ];
        proptest!(|(near in offset, bound in bound, outwards in -1i64..=1, inside in -200i64..=200, other in -250i64..250, width in 0i64..100)| {
            let (measured, other) = (of(near + outwards * bound, bound), of(other, width));
            let truth = near + outwards * bound + inside.clamp(-bound, bound);
            let ends = [measured.offset.as_nanos() - bound, measured.offset.as_nanos() + bound];
            reached.case("an end of the bound is a limit", ends.iter().any(|end| end.abs() == 100));
            if reached.case("certainly exceeds", measured.certainly_exceeds(LIMIT)) {
                prop_assert!(truth.abs() > 100);
            }
            if reached.case("certainly within", measured.certainly_within(LIMIT)) {
                prop_assert!(truth.abs() <= 100);
            }
            if reached.case("certainly beyond", measured.certainly_beyond(Offset::from_nanos(50))) {
                prop_assert!(truth > 50);
            }
            prop_assert_eq!(measured.overlaps(other), other.overlaps(measured));
            if reached.case("no overlap", !measured.overlaps(other)) {
                prop_assert!((truth - other.offset.as_nanos()).abs() > width);
            }
            let whole = ends[0]..=ends[1];
            prop_assert_eq!(measured.certainly_exceeds(LIMIT), whole.clone().all(|o| o > 100) || whole.clone().all(|o| o < -100));
            prop_assert_eq!(measured.certainly_within(LIMIT), whole.clone().all(|o| o.abs() <= 100));
            prop_assert_eq!(measured.certainly_beyond(Offset::from_nanos(50)), whole.clone().all(|o| o > 50));
        });
    }

    proptest! {
        #[test]
        fn never_panics_for_extreme_numbers(offset: i64, bound: i64, limit: u64) {
            let (measured, limit) = (of(offset, bound), Duration::from_nanos(limit));
            let _ = (measured.certainly_exceeds(limit), measured.certainly_within(limit), measured.overlaps(of(bound, offset)));
            let _ = (measured.certainly_beyond(Offset::from_nanos(bound)), measured.to_string());
        }
    }
}
