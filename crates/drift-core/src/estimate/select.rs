//! Which servers are truechimers: the intersection of intervals (Marzullo; RFC 5905 section 11.2.1).
//!
//! One interval of each reachable server goes in; the interval of the majority, or a disagreement, comes out.
//! This room never reads a clock and never asks a server.

use crate::ntp::server::ServerId;
use crate::time::Wall;
use crate::time::line::Interval;

/// The interval of one reachable server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of its pool.
    pub pool: usize,
    /// The server.
    pub server: ServerId,
    /// The origins that it reports as possible (origin: see [`crate::time::line`]).
    pub interval: Interval,
}

/// What all reachable servers give together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combined {
    /// No server is reachable.
    Nothing,
    /// No strict majority shares a point, or a reachable pool has no server whose interval meets theirs.
    Disagree,
    /// A strict majority shares a point, and every reachable pool has a server whose interval meets theirs.
    Agree {
        /// Holds the true origin if most of the reachable servers are truechimers.
        interval: Interval,
        /// Pools with a reachable server in it.
        pools: usize,
    },
}

/// From the lowest to the highest point that a strict majority of the intervals holds; `None`: there is none.
///
/// Not the points that most intervals hold: a falseticker that overlaps one truechimer could exclude the
/// truth that way. If most intervals hold the truth, it lies between these two points.
pub fn majority(intervals: &[Interval]) -> Option<Interval> {
    // At equal places lower ends come first: intervals that touch share that point.
    let mut edges: Vec<(Wall, bool)> =
        intervals.iter().flat_map(|i| [(i.low, false), (i.high, true)]).collect();
    edges.sort_unstable();
    let needed = intervals.len() / 2 + 1;
    let (mut depth, mut low, mut high) = (0_usize, None, None);
    for (place, is_end) in edges {
        if is_end {
            if depth >= needed {
                high = Some(place);
            }
            depth = depth.saturating_sub(1);
        } else {
            depth += 1;
            if depth >= needed && low.is_none() {
                low = Some(place);
            }
        }
    }
    Some(Interval { low: low?, high: high? })
}

/// Combines the reachable servers of all pools.
///
/// Pools that contradict each other are a disagreement and never give an offset. Near a leap second this
/// happens without a fault: some pools smear it, and differ from the others by up to 0.5 s.
pub fn combine(candidates: &[Candidate]) -> Combined {
    if candidates.is_empty() {
        return Combined::Nothing;
    }
    let intervals: Vec<Interval> = candidates.iter().map(|c| c.interval).collect();
    let Some(interval) = majority(&intervals) else { return Combined::Disagree };
    let distinct =
        |pools: &mut dyn Iterator<Item = usize>| pools.collect::<std::collections::BTreeSet<_>>().len();
    let reachable = distinct(&mut candidates.iter().map(|c| c.pool));
    let inside = distinct(&mut candidates.iter().filter(|c| c.interval.meets(interval)).map(|c| c.pool));
    if inside < reachable { Combined::Disagree } else { Combined::Agree { interval, pools: inside } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Bound;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn candidate(pool: usize, middle_ms: i64, half_ms: i64) -> Candidate {
        Candidate {
            pool,
            server: ServerId(0),
            interval: Interval::around(Wall::from_nanos(middle_ms * MS), Bound::from_nanos(half_ms * MS)),
        }
    }

    fn agreed(middle_ms: i64, half_ms: i64, pools: usize) -> Combined {
        Combined::Agree { interval: candidate(0, middle_ms, half_ms).interval, pools }
    }

    #[test]
    fn two_servers_agree_on_their_intersection() {
        assert_eq!(combine(&[candidate(0, 0, 10), candidate(1, 10, 5)]), agreed(7, 0, 2).map_to(5, 10));
        assert_eq!(
            combine(&[candidate(0, 0, 5), candidate(1, 10, 5)]),
            agreed(5, 0, 2),
            "intervals that touch share a point"
        );
        assert_eq!(combine(&[candidate(0, 0, 4), candidate(1, 10, 5)]), Combined::Disagree);
    }

    #[test]
    fn half_of_the_servers_are_no_majority() {
        let halves = [candidate(0, 0, 1), candidate(0, 50, 1), candidate(1, 0, 1), candidate(1, 50, 1)];
        assert_eq!(combine(&halves), Combined::Disagree);
    }

    #[test]
    fn one_falseticker_in_each_pool_changes_nothing() {
        let honest = [
            candidate(0, 0, 3),
            candidate(0, 1, 3),
            candidate(0, -1, 3),
            candidate(1, 1, 3),
            candidate(1, 0, 3),
            candidate(1, 0, 3),
        ];
        let mut servers = honest.to_vec();
        servers.extend([candidate(0, 9_000, 1), candidate(1, -700, 1)]);
        let Combined::Agree { interval, pools } = combine(&servers) else {
            panic!("{:?}", combine(&servers))
        };
        assert_eq!(pools, 2);
        assert!(interval.low <= Wall::from_nanos(0) && Wall::from_nanos(0) <= interval.high);
    }

    #[test]
    fn reachable_pools_outside_the_majority_are_a_disagreement() {
        let servers = [candidate(0, 0, 3), candidate(0, 1, 3), candidate(0, 2, 3), candidate(1, 500, 3)];
        assert_eq!(combine(&servers), Combined::Disagree);
    }

    #[test]
    fn estimates_without_an_unreachable_pool_count_the_pools_left() {
        assert_eq!(combine(&[candidate(1, 3, 2)]), agreed(3, 2, 1));
        assert_eq!(combine(&[]), Combined::Nothing);
    }

    impl Combined {
        /// The same with other ends: to write an interval by its ends.
        fn map_to(self, low_ms: i64, high_ms: i64) -> Self {
            match self {
                Self::Agree { pools, .. } => Self::Agree {
                    interval: Interval {
                        low: Wall::from_nanos(low_ms * MS),
                        high: Wall::from_nanos(high_ms * MS),
                    },
                    pools,
                },
                other => other,
            }
        }
    }

    proptest! {
        #[test]
        fn majorities_of_truechimers_hold_the_truth(
            honest in proptest::collection::vec((-100i64..100, 0i64..50), 1..9),
            false_intervals in proptest::collection::vec((-1_000i64..1_000, 0i64..400), 0..8),
            order: u64,
        ) {
            let false_intervals = &false_intervals[..false_intervals.len().min(honest.len() - 1)];
            let mut all: Vec<Candidate> = honest.iter().map(|&(error, slack)| candidate(0, error, error.abs() + slack)).collect();
            all.extend(false_intervals.iter().map(|&(error, half)| candidate(0, error, half)));
            fastrand::Rng::with_seed(order).shuffle(&mut all);
            match combine(&all) {
                Combined::Agree { interval, .. } => prop_assert!(interval.low <= Wall::from_nanos(0) && interval.high >= Wall::from_nanos(0)),
                other => prop_assert!(false, "a majority of truechimers shares the truth, yet {other:?}"),
            }
        }

        #[test]
        fn majority_is_that_of_a_brute_force_search(intervals in proptest::collection::vec((-20i64..20, 0i64..8), 1..8)) {
            let intervals: Vec<Interval> = intervals.into_iter().map(|(m, h)| candidate(0, m, h).interval).collect();
            let allowed = |p: i64| intervals.iter().filter(|i| i.low.as_nanos() <= p * MS && p * MS <= i.high.as_nanos()).count() > intervals.len() / 2;
            let points: Vec<i64> = (-40..40).filter(|&p| allowed(p)).collect();
            let expected = points.first().zip(points.last()).map(|(a, b)| (a * MS, b * MS));
            prop_assert_eq!(majority(&intervals).map(|i| (i.low.as_nanos(), i.high.as_nanos())), expected);
        }
    }
}
