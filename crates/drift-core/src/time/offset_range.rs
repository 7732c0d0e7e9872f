//! A range of offsets: the difference between two clocks, as far as it is known.

use super::{Bound, Measurement, NANOS_PER_SEC, Offset};

/// Every difference between two clocks that is possible, in nanoseconds, from `low` to `high`, both included.
///
/// All arithmetic saturates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// Lower end, ns.
    pub low: i64,
    /// Upper end, ns; not below `low`.
    pub high: i64,
}

impl OffsetRange {
    /// A difference that is known exactly, in ns.
    pub const fn exact(nanos: i64) -> Self {
        Self { low: nanos, high: nanos }
    }

    /// Upper end - lower end, ns.
    pub fn width(self) -> i64 {
        self.high.saturating_sub(self.low)
    }

    /// Wider by `by` ns at both ends.
    #[must_use]
    pub fn widened(self, by: i64) -> Self {
        Self { low: self.low.saturating_sub(by), high: self.high.saturating_add(by) }
    }

    /// The gap between the two ranges, ns; 0 when they share a point.
    pub fn distance(self, other: Self) -> i64 {
        other.low.saturating_sub(self.high).max(self.low.saturating_sub(other.high)).max(0)
    }

    /// The smallest range that contains both.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// The part of this range that `other` allows. Where the two share no point: the end of this range next
    /// to `other`.
    #[must_use]
    pub fn narrowed_by(self, other: Self) -> Self {
        Self { low: other.low.clamp(self.low, self.high), high: other.high.clamp(self.low, self.high) }
    }

    /// The sums of a point of this range and a point of `other`.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { low: self.low.saturating_add(other.low), high: self.high.saturating_add(other.high) }
    }

    /// The differences between a point of this range and a point of `other`: this - other.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { low: self.low.saturating_sub(other.high), high: self.high.saturating_sub(other.low) }
    }

    /// The smallest magnitude in the range, ns.
    pub fn min_magnitude(self) -> i64 {
        self.distance(Self::exact(0))
    }

    /// The largest magnitude in the range, ns.
    pub fn max_magnitude(self) -> i64 {
        self.high.max(self.low.saturating_neg())
    }

    /// Does the range contain a whole number of seconds other than 0?
    pub fn has_whole_seconds(self) -> bool {
        let first = self.low.div_euclid(NANOS_PER_SEC) + i64::from(self.low.rem_euclid(NANOS_PER_SEC) != 0);
        let last = self.high.div_euclid(NANOS_PER_SEC);
        first <= last && (first != 0 || last != 0)
    }

    /// The middle, with half the width as its bound, rounded up.
    pub fn measurement(self) -> Measurement {
        let width = self.width();
        let middle = self.low.saturating_add(width / 2);
        Measurement::new(Offset::from_nanos(middle), Bound::from_nanos(width / 2 + width % 2))
    }
}

impl From<Measurement> for OffsetRange {
    fn from(Measurement { offset, bound }: Measurement) -> Self {
        Self::exact(offset.as_nanos()).widened(bound.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: i64 = NANOS_PER_SEC;

    fn range(low: i64, high: i64) -> OffsetRange {
        OffsetRange { low, high }
    }

    #[test]
    fn distances_are_between_the_ends_that_face_each_other() {
        assert_eq!(range(0, 10).distance(range(15, 20)), 5);
        assert_eq!(range(15, 20).distance(range(0, 10)), 5);
        assert_eq!(range(0, 10).distance(range(10, 20)), 0);
        let around_zero = [range(3, 9), range(-9, -3), range(-3, 9)];
        assert_eq!(around_zero.map(OffsetRange::min_magnitude), [3, 3, 0]);
        assert_eq!(around_zero.map(OffsetRange::max_magnitude), [9, 9, 9]);
    }

    #[test]
    fn sums_differences_and_joined_ranges_contain_all_that_is_possible() {
        assert_eq!(range(5, 8).minus(range(1, 2)), range(3, 7));
        assert_eq!(range(5, 8).plus(range(1, 2)), range(6, 10));
        assert_eq!(range(5, 8).joined(range(1, 6)), range(1, 8));
    }

    #[test]
    fn narrowing_never_leaves_the_known_range() {
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
    fn measurements_keep_their_range_and_round_the_bound_up() {
        assert_eq!(OffsetRange::from(range(3, 9).measurement()), range(3, 9));
        assert_eq!(OffsetRange::from(range(3, 8).measurement()), range(2, 8));
    }

    #[test]
    fn extreme_numbers_never_panic() {
        let all = range(i64::MIN, i64::MAX);
        let _ = (all.width(), all.widened(1), all.min_magnitude(), all.max_magnitude(), all.plus(all));
        let _ = (all.has_whole_seconds(), all.measurement(), all.minus(all), all.distance(range(1, 2)));
    }
}
