//! An interval of origins.

use super::{Bound, Offset, Wall};

/// Every reference time at which the raw clock may have read 0 (origin: see [`crate::time::line`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Lower end.
    pub low: Wall,
    /// Upper end; not below `low`.
    pub high: Wall,
}

impl Interval {
    /// `middle` ± `bound`.
    pub fn around(middle: Wall, bound: Bound) -> Self {
        let half = bound.as_nanos();
        Self { low: middle.plus(Offset::from_nanos(-half)), high: middle.plus(Offset::from_nanos(half)) }
    }

    /// The point between the ends.
    pub fn middle(self) -> Wall {
        self.low.plus(Offset::from_nanos(self.high.minus(self.low).as_nanos() / 2))
    }

    /// Half the width, rounded up.
    pub fn bound(self) -> Bound {
        let width = self.high.minus(self.low).as_nanos();
        Bound::from_nanos(width / 2 + width % 2)
    }

    /// Do the two share a point?
    pub fn meets(self, other: Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }

    /// The gap between the two, ns; 0 when they share a point.
    pub fn gap(self, other: Self) -> i64 {
        let apart = other.low.minus(self.high).max(self.low.minus(other.high));
        apart.as_nanos().max(0)
    }

    /// The points that both hold; `None`: there is none.
    pub fn intersection(self, other: Self) -> Option<Self> {
        self.meets(other).then(|| Self { low: self.low.max(other.low), high: self.high.min(other.high) })
    }

    /// The smallest interval that contains both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// From the lowest to the highest point that at least `count` of the intervals hold; `None`: there is none.
    pub fn shared_by(count: usize, intervals: &[Self]) -> Option<Self> {
        // At equal places lower ends come first: intervals that touch share that point.
        let mut edges: Vec<(Wall, bool)> =
            intervals.iter().flat_map(|i| [(i.low, false), (i.high, true)]).collect();
        edges.sort_unstable();
        let (mut depth, mut low, mut high) = (0_usize, None, None);
        for (place, is_end) in edges {
            if is_end {
                if depth >= count {
                    high = Some(place);
                }
                depth = depth.saturating_sub(1);
            } else {
                depth += 1;
                if depth >= count && low.is_none() {
                    low = Some(place);
                }
            }
        }
        Some(Self { low: low?, high: high? })
    }

    /// Wider by `by` ns at both ends.
    #[must_use]
    pub fn widened(self, by: i64) -> Self {
        Self {
            low: self.low.plus(Offset::from_nanos(by.saturating_neg())),
            high: self.high.plus(Offset::from_nanos(by)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(low: i64, high: i64) -> Interval {
        Interval { low: Wall::from_nanos(low), high: Wall::from_nanos(high) }
    }

    #[test]
    fn intervals_that_touch_share_a_point() {
        assert_eq!(interval(0, 5).intersection(interval(5, 9)), Some(interval(5, 5)));
        assert_eq!(interval(0, 5).intersection(interval(6, 9)), None);
        assert_eq!((interval(0, 5).gap(interval(9, 12)), interval(9, 12).gap(interval(0, 5))), (4, 4));
        assert_eq!(interval(0, 5).gap(interval(5, 9)), 0);
    }

    #[test]
    fn hulls_contain_both_and_what_is_between() {
        assert_eq!(interval(0, 5).hull(interval(9, 12)), interval(0, 12));
        assert_eq!(interval(3, 5).widened(2), interval(1, 7));
    }

    #[test]
    fn bounds_are_half_the_width_rounded_up() {
        assert_eq!(interval(0, 5).bound(), Bound::from_nanos(3));
        assert_eq!(Interval::around(Wall::from_nanos(4), Bound::from_nanos(2)), interval(2, 6));
    }
}
