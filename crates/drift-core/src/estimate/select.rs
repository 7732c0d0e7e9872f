//! Which servers are truechimers: the intersection of intervals (Marzullo; RFC 5905 section 11.2.1).
//!
//! One interval of each reachable server goes in; the interval of the majority of pools, or a disagreement,
//! comes out.
//! This room never reads a clock and never asks a server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ntp::server::ServerId;
use crate::time::interval::Interval;
use crate::time::{Mono, nanos};

/// The interval of one reachable server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of its pool.
    pub pool: usize,
    /// The server.
    pub server: ServerId,
    /// The origins that it reports as possible (origin: see [`crate::time::line`]).
    pub interval: Interval,
    /// When its newest sample was taken.
    pub newest: Mono,
}

/// What all pools give together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Combined {
    /// No server is reachable.
    Nothing,
    /// No strict majority of the reachable pools agrees.
    Disagree {
        /// All that any server of them allows.
        hull: Interval,
    },
    /// A strict majority of the reachable pools agrees.
    Agree {
        /// Holds the true origin if most servers of most reachable pools are truechimers.
        interval: Interval,
        /// The pools that agree, by index.
        pools: BTreeSet<usize>,
        /// The reachable pools that do not.
        falsetickers: BTreeSet<usize>,
    },
}

impl Combined {
    /// What a majority agrees on, if one does.
    pub fn agreed(&self) -> Option<Interval> {
        match self {
            Self::Agree { interval, .. } => Some(*interval),
            Self::Nothing | Self::Disagree { .. } => None,
        }
    }
}

/// What the servers of one pool give together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolInterval {
    /// What a strict majority of its reachable servers allows; `None`: they contradict each other.
    pub majority: Option<Interval>,
    /// All that any of them allows.
    pub hull: Interval,
}

/// What each pool's reachable servers give together; a pool without one is missing.
pub fn pool_intervals(candidates: &[Candidate], tolerance: Duration) -> BTreeMap<usize, PoolInterval> {
    let mut servers: BTreeMap<usize, Vec<(ServerId, Interval)>> = BTreeMap::new();
    for candidate in candidates {
        servers.entry(candidate.pool).or_default().push((candidate.server, candidate.interval));
    }
    let combine = |own: &[(ServerId, Interval)]| {
        let hull = own.iter().map(|(_, interval)| *interval).reduce(Interval::hull)?;
        Some(PoolInterval { majority: agreement(own, own.len(), tolerance).map(|(agreed, _)| agreed), hull })
    };
    servers.into_iter().filter_map(|(pool, own)| Some((pool, combine(&own)?))).collect()
}

/// Combines the reachable servers of all pools: the servers of a pool vote in their pool, and the pools with
/// each other, so that a far pool with many servers does not drown a near one with few.
///
/// Pools that contradict each other never give an offset. Near a leap second this happens without a fault:
/// some pools smear it, and differ from the others by up to 0.5 s.
///
/// `vote_of`: pools with the same number are one clock, and have one vote.
pub fn combine(candidates: &[Candidate], tolerance: Duration, vote_of: impl Fn(usize) -> usize) -> Combined {
    let pools = pool_intervals(candidates, tolerance);
    let Some(hull) = pools.values().map(|pool| pool.hull).reduce(Interval::hull) else {
        return Combined::Nothing;
    };
    let mut votes: BTreeMap<usize, Vec<(usize, Option<Interval>)>> = BTreeMap::new();
    for (pool, own) in &pools {
        votes.entry(vote_of(*pool)).or_default().push((*pool, own.majority));
    }
    // A pool that contradicts itself counts as a pool, and agrees with none.
    let decided: Vec<(usize, Interval)> = votes
        .iter()
        .filter_map(|(vote, own)| Some((*vote, agreement(&with_majority(own), own.len(), tolerance)?.0)))
        .collect();
    let Some((interval, agreeing)) = agreement(&decided, votes.len(), tolerance) else {
        return Combined::Disagree { hull };
    };
    let (agreeing, falsetickers) = pools.keys().partition(|pool| agreeing.contains(&vote_of(**pool)));
    Combined::Agree { interval, pools: agreeing, falsetickers }
}

fn with_majority(pools: &[(usize, Option<Interval>)]) -> Vec<(usize, Interval)> {
    pools.iter().filter_map(|(pool, own)| Some((*pool, (*own)?))).collect()
}

/// What a strict majority of `voters` agrees on, and who is in it.
///
/// Intervals that miss each other by `tolerance` at most agree on their hull: servers understate their error
/// by as much.
fn agreement<T: Copy>(
    intervals: &[(T, Interval)],
    voters: usize,
    tolerance: Duration,
) -> Option<(Interval, Vec<T>)> {
    let within = |by: i64| {
        let widened: Vec<Interval> = intervals.iter().map(|(_, interval)| interval.widened(by)).collect();
        // Not the points that the most hold: a falseticker that overlaps one truechimer could exclude the truth
        // that way. If most intervals hold the truth, it lies between the ends of this.
        let agreed = Interval::shared_by(voters / 2 + 1, &widened)?;
        let inside = intervals.iter().copied().filter(|(_, interval)| interval.widened(by).meets(agreed));
        Some((agreed, inside.collect::<Vec<_>>()))
    };
    if let Some((agreed, inside)) = within(0) {
        return Some((agreed, inside.into_iter().map(|(who, _)| who).collect()));
    }
    // Half of the tolerance at each end.
    let (_, inside) = within(nanos(tolerance) / 2)?;
    let hull = inside.iter().map(|(_, interval)| *interval).reduce(Interval::hull)?;
    Some((hull, inside.into_iter().map(|(who, _)| who).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use crate::time::{Bound, Wall};
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn candidate(pool: usize, middle_ms: i64, half_ms: i64) -> Candidate {
        Candidate {
            pool,
            server: ServerId(0),
            interval: Interval::around(Wall::from_nanos(middle_ms * MS), Bound::from_nanos(half_ms * MS)),
            newest: Mono::from_nanos(0),
        }
    }

    /// Pools nearer than this agree on their hull.
    const TOLERANCE: Duration = Duration::from_millis(10);

    fn combine(candidates: &[Candidate]) -> Combined {
        super::combine(candidates, TOLERANCE, |pool| pool)
    }

    fn agreed(low_ms: i64, high_ms: i64, pools: &[usize], falsetickers: &[usize]) -> Combined {
        Combined::Agree {
            interval: Interval { low: Wall::from_nanos(low_ms * MS), high: Wall::from_nanos(high_ms * MS) },
            pools: pools.iter().copied().collect(),
            falsetickers: falsetickers.iter().copied().collect(),
        }
    }

    fn hull(low_ms: i64, high_ms: i64) -> Combined {
        Combined::Disagree {
            hull: Interval { low: Wall::from_nanos(low_ms * MS), high: Wall::from_nanos(high_ms * MS) },
        }
    }

    #[test]
    fn two_pools_agree_on_their_intersection() {
        assert_eq!(combine(&[candidate(0, 0, 10), candidate(1, 10, 5)]), agreed(5, 10, &[0, 1], &[]));
        assert_eq!(
            combine(&[candidate(0, 0, 5), candidate(1, 10, 5)]),
            agreed(5, 5, &[0, 1], &[]),
            "intervals that touch share a point"
        );
    }

    #[test]
    fn intervals_nearer_than_the_tolerance_agree_on_their_hull() {
        assert_eq!(combine(&[candidate(0, 0, 4), candidate(1, 18, 4)]), agreed(-4, 22, &[0, 1], &[]));
        assert_eq!(combine(&[candidate(0, 0, 4), candidate(1, 19, 4)]), hull(-4, 23), "11 ms apart");
        let of_one_pool = [candidate(0, 0, 4), candidate(0, 18, 4), candidate(1, 9, 30)];
        assert_eq!(combine(&of_one_pool), agreed(-4, 22, &[0, 1], &[]));
    }

    #[test]
    fn half_of_the_servers_of_a_pool_are_no_majority() {
        let halves = [candidate(0, 0, 1), candidate(0, 50, 1), candidate(1, 0, 1), candidate(1, 50, 1)];
        assert_eq!(combine(&halves), hull(-1, 51));
        let one = [candidate(0, 0, 1), candidate(0, 50, 1), candidate(1, 0, 1)];
        assert_eq!(combine(&one), hull(-1, 51), "one of two pools contradicts itself");
    }

    #[test]
    fn one_falseticker_in_each_pool_changes_nothing() {
        let mut servers: Vec<Candidate> = [(0, 0), (0, 1), (0, -1), (1, 1), (1, 0), (1, 0)]
            .map(|(pool, middle)| candidate(pool, middle, 3))
            .to_vec();
        servers.extend([candidate(0, 9_000, 1), candidate(1, -700, 1)]);
        let Combined::Agree { interval, pools, falsetickers } = combine(&servers) else {
            panic!("{:?}", combine(&servers))
        };
        assert_eq!((pools.len(), falsetickers.len()), (2, 0));
        assert!(interval.low <= Wall::from_nanos(0) && Wall::from_nanos(0) <= interval.high);
    }

    #[test]
    fn two_pools_that_contradict_each_other_disagree_however_many_servers_they_have() {
        let servers = [candidate(0, 0, 3), candidate(0, 1, 3), candidate(0, 2, 3), candidate(1, 500, 3)];
        assert_eq!(combine(&servers), hull(-3, 503));
    }

    #[test]
    fn a_far_pool_with_many_servers_does_not_drown_a_near_one() {
        let servers = [[candidate(0, 0, 125); 4].as_slice(), &[candidate(1, 10, 1)]].concat();
        assert_eq!(combine(&servers), agreed(9, 11, &[0, 1], &[]));
    }

    #[test]
    fn a_majority_of_three_pools_names_the_third_a_falseticker() {
        let servers = [candidate(0, 0, 5), candidate(1, 10_000, 5), candidate(2, 3, 5)];
        assert_eq!(combine(&servers), agreed(-2, 5, &[0, 2], &[1]));
        let undecided = [servers.as_slice(), &[candidate(1, 5_000, 5)]].concat();
        assert_eq!(combine(&undecided), agreed(-2, 5, &[0, 2], &[1]), "a pool that contradicts itself, too");
        assert_eq!(combine(&[candidate(0, 0, 5), candidate(1, 100, 5), candidate(2, 200, 5)]), hull(-5, 205));
    }

    #[test]
    fn pools_that_are_not_reachable_have_no_vote() {
        assert_eq!(combine(&[candidate(1, 3, 2)]), agreed(1, 5, &[1], &[]));
        assert_eq!(combine(&[]), Combined::Nothing);
    }

    /// A falseticker: often near enough to overlap truechimers.
    fn false_interval() -> impl Strategy<Value = (i64, i64)> {
        prop_oneof![1 => (-1_000i64..1_000, 0i64..400), 3 => (-100i64..100, 0i64..80)]
            .prop_filter("holds the truth", |(error, half)| error.abs() > *half)
    }

    /// Does a falseticker hold some, but not all of what the truechimers agree on? Then the deepest region may
    /// exclude the truth.
    fn cuts_in(all: &[Candidate], is_honest: impl Fn(&Candidate) -> bool) -> bool {
        let (honest, others): (Vec<Candidate>, Vec<Candidate>) =
            all.iter().partition(|candidate| is_honest(candidate));
        let low = honest.iter().map(|c| c.interval.low).max();
        let high = honest.iter().map(|c| c.interval.high).min();
        let Some((low, high)) = low.zip(high) else { return false };
        others.iter().any(|c| c.interval.meets(Interval { low, high }))
    }

    fn holds_truth(candidate: &Candidate) -> bool {
        candidate.interval.low <= Wall::from_nanos(0) && candidate.interval.high >= Wall::from_nanos(0)
    }

    #[test]
    fn majorities_of_truechimers_hold_the_truth() {
        let reached = Reached::new([
            ("a falseticker overlaps what the truechimers agree on", 5),
            ("all but half are falsetickers", 8),
        ]);
        proptest!(|(
            honest in proptest::collection::vec((-100i64..100, 0i64..50), 1..9),
            false_intervals in proptest::collection::vec(false_interval(), 0..8),
            order: u64,
        )| {
            let false_intervals = &false_intervals[..false_intervals.len().min(honest.len() - 1)];
            let mut all: Vec<Candidate> = honest.iter().map(|&(error, slack)| candidate(0, error, error.abs() + slack)).collect();
            all.extend(false_intervals.iter().map(|&(error, half)| candidate(0, error, half)));
            fastrand::Rng::with_seed(order).shuffle(&mut all);
            reached.case("a falseticker overlaps what the truechimers agree on", cuts_in(&all, holds_truth));
            reached.case("all but half are falsetickers", honest.len() > 1 && false_intervals.len() == honest.len() - 1);
            match combine(&all) {
                Combined::Agree { interval, .. } => prop_assert!(interval.low <= Wall::from_nanos(0) && interval.high >= Wall::from_nanos(0)),
                other => prop_assert!(false, "a majority of truechimers shares the truth, yet {other:?}"),
            }
        });
    }

    /// Whatever less than half of the pools report, whatever less than half of the servers of each other pool.
    #[test]
    fn majorities_of_pools_hold_the_truth() {
        let reached = Reached::new([
            ("a false pool", 20),
            ("a false pool overlaps what the true pools agree on", 5),
            ("false servers in a true pool", 20),
            ("one more true pool than false ones", 10),
        ]);
        let honest = (proptest::collection::vec((-100i64..100, 0i64..50), 1..4), false_interval());
        proptest!(|(
            honest in proptest::collection::vec(honest, 2..5),
            false_pools in proptest::collection::vec(false_interval(), 0..4),
        )| {
            let mut all = Vec::new();
            for (pool, (servers, (error, half))) in (0..).zip(&honest) {
                all.extend(servers.iter().map(|&(error, slack)| candidate(pool, error, error.abs() + slack)));
                if servers.len() > 1 {
                    all.push(candidate(pool, *error, *half));
                }
            }
            reached.case("false servers in a true pool", all.iter().any(|c| !holds_truth(c)));
            let false_pools = &false_pools[..false_pools.len().min(honest.len() - 1)];
            all.extend((10..).zip(false_pools).map(|(pool, &(error, half))| candidate(pool, error, half)));
            reached.case("a false pool", !false_pools.is_empty());
            let servers: Vec<Candidate> = all.iter().copied().filter(|c| c.pool >= 10 || holds_truth(c)).collect();
            reached.case("a false pool overlaps what the true pools agree on", cuts_in(&servers, |c| c.pool < 10));
            reached.case("one more true pool than false ones", false_pools.len() + 1 == honest.len());
            match combine(&all) {
                Combined::Agree { interval, .. } => prop_assert!(interval.low <= Wall::from_nanos(0) && interval.high >= Wall::from_nanos(0)),
                other => prop_assert!(false, "a majority of truechimers shares the truth, yet {other:?}"),
            }
        });
    }

    #[test]
    fn majority_is_that_of_a_brute_force_search() {
        let reached = Reached::new([("none", 8), ("with a gap", 2)]);
        proptest!(|(intervals in proptest::collection::vec((-10i64..10, 0i64..8), 1..8))| {
            let intervals: Vec<Interval> = intervals.into_iter().map(|(m, h)| candidate(0, m, h).interval).collect();
            let allowed = |p: i64| intervals.iter().filter(|i| i.low.as_nanos() <= p * MS && p * MS <= i.high.as_nanos()).count() > intervals.len() / 2;
            let points: Vec<i64> = (-40..40).filter(|&p| allowed(p)).collect();
            let expected = points.first().zip(points.last()).map(|(a, b)| (a * MS, b * MS));
            reached.case("none", expected.is_none());
            reached.case("with a gap", points.windows(2).any(|pair| pair[1] > pair[0] + 1));
            prop_assert_eq!(Interval::shared_by(intervals.len() / 2 + 1, &intervals).map(|i| (i.low.as_nanos(), i.high.as_nanos())), expected);
        });
    }
}
