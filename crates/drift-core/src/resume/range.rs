//! An interval of nanoseconds: a difference between two clocks, as far as it is known.

use crate::time::{Bound, Measurement, NANOS_PER_SEC, Offset};

/// From `low` to `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Lower end, ns.
    pub low: i64,
    /// Upper end, ns; not below `low`.
    pub high: i64,
}

impl Range {
    /// Upper end - lower end, ns.
    pub fn width(self) -> i64 {
        self.high.saturating_sub(self.low)
    }

    /// Wider by `by` at both ends.
    pub fn widened(self, by: i64) -> Self {
        Self { low: self.low.saturating_sub(by), high: self.high.saturating_add(by) }
    }

    /// How far the two are apart; 0 when they share a point.
    pub fn distance(self, other: Self) -> i64 {
        other.low.saturating_sub(self.high).max(self.low.saturating_sub(other.high)).max(0)
    }

    /// The least that has both inside.
    pub fn joined(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// The part that `other` allows. Where the two share no point, the end next to it.
    pub fn narrowed_by(self, other: Self) -> Self {
        Self { low: other.low.clamp(self.low, self.high), high: other.high.clamp(self.low, self.high) }
    }

    /// The differences from a point of `other` to a point of this one.
    pub fn from(self, other: Self) -> Self {
        Self { low: self.low.saturating_sub(other.high), high: self.high.saturating_sub(other.low) }
    }

    /// The distance to 0 of the point next to it.
    pub fn nearest(self) -> i64 {
        self.distance(Self { low: 0, high: 0 })
    }

    /// The distance to 0 of the point farthest from it.
    pub fn farthest(self) -> i64 {
        self.high.max(self.low.saturating_neg())
    }

    /// Is there a whole number of seconds in it, other than 0?
    pub fn has_whole_seconds(self) -> bool {
        let first = self.low.div_euclid(NANOS_PER_SEC) + i64::from(self.low.rem_euclid(NANOS_PER_SEC) != 0);
        let last = self.high.div_euclid(NANOS_PER_SEC);
        first <= last && (first != 0 || last != 0)
    }

    /// Middle and half the width.
    pub fn as_offset(self) -> Measurement {
        let width = self.width();
        let middle = self.low.saturating_add(width / 2);
        Measurement::new(Offset::from_nanos(middle), Bound::from_nanos(width / 2 + width % 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: i64 = NANOS_PER_SEC;

    fn range(low: i64, high: i64) -> Range {
        Range { low, high }
    }

    #[test]
    fn distances_are_between_the_ends_that_face_each_other() {
        assert_eq!(range(0, 10).distance(range(15, 20)), 5);
        assert_eq!(range(15, 20).distance(range(0, 10)), 5);
        assert_eq!(range(0, 10).distance(range(10, 20)), 0);
        assert_eq!([range(3, 9), range(-9, -3), range(-3, 9)].map(Range::nearest), [3, 3, 0]);
        assert_eq!([range(3, 9), range(-9, -3), range(-3, 9)].map(Range::farthest), [9, 9, 9]);
        assert_eq!(range(5, 8).from(range(1, 2)), range(3, 7));
        assert_eq!(range(5, 8).joined(range(1, 6)), range(1, 8));
    }

    #[test]
    fn narrowing_never_leaves_what_was_known() {
        assert_eq!(range(0, 10).narrowed_by(range(4, 99)), range(4, 10));
        assert_eq!(range(0, 10).narrowed_by(range(12, 99)), range(10, 10));
        assert_eq!(range(0, 10).narrowed_by(range(-9, -5)), range(0, 0));
    }

    #[test]
    fn whole_seconds_are_found_where_they_are() {
        for whole in
            [range(SEC, SEC), range(-SEC - 1, -SEC + 1), range(-1, SEC), range(2 * SEC - 1, 2 * SEC + 1)]
        {
            assert!(whole.has_whole_seconds(), "{whole:?}");
        }
        for none in
            [range(0, 0), range(-1, 1), range(1, SEC - 1), range(-SEC + 1, SEC - 1), range(SEC + 1, SEC + 2)]
        {
            assert!(!none.has_whole_seconds(), "{none:?}");
        }
    }

    #[test]
    fn the_ends_of_the_numbers_do_not_panic() {
        let all = range(i64::MIN, i64::MAX);
        let _ = (all.width(), all.widened(1), all.nearest(), all.farthest());
        let _ = (all.has_whole_seconds(), all.as_offset(), all.from(all), all.distance(range(1, 2)));
    }
}
