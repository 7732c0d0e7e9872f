//! Whether the pools are independent: two names may lead to one clock, as when a router answers all NTP itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::select::{Candidate, Combined, combine};
use crate::ntp::sample::Source;

/// Rounds in a row in which two pools must look like one clock.
const ROUNDS_TO_SUSPECT: u8 = 3;
/// Rounds in a row in which they must not, to be independent again: one clock shows two times of correction when it is
/// corrected in the midst of a round.
const ROUNDS_TO_CLEAR: u8 = 8;

/// Which pools look like one clock.
#[derive(Clone, Debug, Default)]
pub struct Independence {
    /// By pair of pools, the lower index first.
    pairs: BTreeMap<(usize, usize), Pair>,
}

/// Two pools that were compared.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    /// Rounds in a row in which they looked like one clock.
    same: u8,
    /// Rounds in a row in which they did not.
    different: u8,
    /// Rounds in which they were compared.
    compared: u8,
    finding: Finding,
}

/// What is known of two pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Finding {
    /// They are two clocks, as far as their answers show it.
    #[default]
    Two,
    /// They have looked like one clock lately, but not often enough.
    Doubtful,
    /// They are one clock.
    One,
}

impl Pair {
    fn record(&mut self, is_same: bool) {
        self.compared = self.compared.saturating_add(1);
        if is_same {
            (self.same, self.different) = (self.same.saturating_add(1), 0);
            let found = if self.same >= ROUNDS_TO_SUSPECT { Finding::One } else { Finding::Doubtful };
            self.finding = self.finding.max(found);
        } else {
            (self.same, self.different) = (0, self.different.saturating_add(1));
            if self.different >= ROUNDS_TO_CLEAR {
                self.finding = Finding::Two;
            }
        }
    }
}

impl Independence {
    /// Takes the sources of the samples of one round, by pool; a sample that shows none has `None`.
    pub fn record(&mut self, sources: &[(usize, Option<Source>)]) {
        let pools: BTreeSet<usize> = sources.iter().map(|(pool, _)| *pool).collect();
        let of = |pool: usize| sources.iter().filter(move |(own, _)| *own == pool).map(|(_, source)| source);
        for &first in &pools {
            for &second in pools.range(first + 1..) {
                let is_same = is_one_clock(&of(first).collect::<Vec<_>>(), &of(second).collect::<Vec<_>>());
                self.pairs.entry((first, second)).or_default().record(is_same);
            }
        }
    }

    /// Are the pools independent, as far as their answers show it? `None`: no two were compared often enough yet.
    pub fn verdict(&self) -> Option<bool> {
        let is_compared = self.pairs.values().any(|pair| pair.compared >= ROUNDS_TO_SUSPECT);
        is_compared.then(|| self.shared().next().is_none())
    }

    /// What the pools give together, where pools that are one clock have one vote.
    pub fn combine(&self, candidates: &[Candidate], tolerance: Duration) -> Combined {
        let mut first_of = BTreeMap::new();
        for (first, second) in self.shared() {
            let first = first_of.get(&first).copied().unwrap_or(first);
            first_of.entry(second).or_insert(first);
        }
        combine(candidates, tolerance, |pool| first_of.get(&pool).copied().unwrap_or(pool))
    }

    /// Did two pools look like one clock in any of the last rounds in which both answered?
    pub fn is_doubtful(&self) -> bool {
        self.pairs.values().any(|pair| pair.finding > Finding::Two)
    }

    /// Pairs of pools that look like one clock, by index.
    pub fn shared(&self) -> impl Iterator<Item = (usize, usize)> {
        self.pairs.iter().filter(|(_, pair)| pair.finding == Finding::One).map(|(pair, _)| *pair)
    }
}

/// Is each server of one of the two pools the same clock as a server of the other?
fn is_one_clock(first: &[&Option<Source>], second: &[&Option<Source>]) -> bool {
    let is_in = |own: &Option<Source>, others: &[&Option<Source>]| {
        own.is_some_and(|own| others.iter().any(|other| other.is_some_and(|other| own.is_same_clock(&other))))
    };
    let covers = |own: &[&Option<Source>], others: &[&Option<Source>]| {
        !own.is_empty() && own.iter().all(|source| is_in(source, others))
    };
    covers(first, second) || covers(second, first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::sample::tests::source_of_reference;
    use crate::ntp::server::ServerId;
    use crate::time::interval::Interval;
    use crate::time::{Bound, Mono, Wall};

    fn source(reference: u64) -> Source {
        source_of_reference(reference)
    }

    #[test]
    fn two_pools_are_one_clock_after_three_rounds_in_a_row() {
        let mut independence = Independence::default();
        assert_eq!(independence.verdict(), None);
        let one = [(0, Some(source(7))), (1, Some(source(7)))];
        independence.record(&one);
        independence.record(&one);
        assert_eq!((independence.verdict(), independence.is_doubtful()), (None, true));
        independence.record(&[(0, Some(source(7))), (1, Some(source(8)))]);
        assert_eq!(independence.verdict(), Some(true));
        independence.record(&one);
        independence.record(&one);
        assert_eq!(independence.verdict(), Some(true), "in a row");
        independence.record(&one);
        assert_eq!(independence.verdict(), Some(false));
        assert_eq!(independence.shared().collect::<Vec<_>>(), [(0, 1)]);
        independence.record(&[(0, Some(source(7)))]);
        assert_eq!(independence.verdict(), Some(false), "a round without the other shows nothing");
    }

    #[test]
    fn one_clock_that_is_corrected_in_the_midst_of_a_round_stays_one() {
        let mut independence = Independence::default();
        let one = [(0, Some(source(7))), (1, Some(source(7)))];
        let two = [(0, Some(source(7))), (1, Some(source(8)))];
        (0..2).for_each(|_| independence.record(&two));
        assert!(!independence.is_doubtful());
        independence.record(&one);
        for _ in 0..7 {
            independence.record(&two);
            assert!(independence.is_doubtful() && independence.verdict() == Some(true));
        }
        independence.record(&two);
        assert!(!independence.is_doubtful(), "eight rounds in a row");
        (0..3).for_each(|_| independence.record(&one));
        for _ in 0..7 {
            independence.record(&two);
            assert!(independence.is_doubtful() && independence.verdict() == Some(false));
        }
        independence.record(&one);
        (0..7).for_each(|_| independence.record(&two));
        assert_eq!(independence.verdict(), Some(false), "in a row");
        independence.record(&[(0, Some(source(7))), (1, None)]);
        assert_eq!((independence.verdict(), independence.is_doubtful()), (Some(true), false));
    }

    #[test]
    fn pools_that_share_some_of_their_servers_only_are_independent() {
        let mut independence = Independence::default();
        for _ in 0..9 {
            independence.record(&[
                (0, Some(source(7))),
                (0, Some(source(8))),
                (1, Some(source(7))),
                (1, Some(source(9))),
            ]);
        }
        assert_eq!(independence.verdict(), Some(true));
        for _ in 0..3 {
            independence.record(&[(0, Some(source(7))), (0, Some(source(8))), (1, Some(source(7)))]);
        }
        assert_eq!(
            independence.verdict(),
            Some(false),
            "all that the second pool has is a server of the first"
        );
    }

    #[test]
    fn pools_that_are_one_clock_have_one_vote() {
        let reports = |pool: usize, secs: i64| Candidate {
            pool,
            server: ServerId(u32::try_from(pool).unwrap()),
            interval: Interval::around(Wall::from_secs(secs), Bound::from_nanos(1_000_000)),
            newest: Mono::from_nanos(0),
        };
        let candidates = [reports(0, 10), reports(1, 0), reports(2, 10)];
        let combine = |independence: &Independence| independence.combine(&candidates, Duration::ZERO);
        let mut independence = Independence::default();
        let Combined::Agree { falsetickers, .. } = combine(&independence) else { panic!() };
        assert_eq!(falsetickers, BTreeSet::from([1]));
        let one = [(0, Some(source(7))), (1, Some(source(8))), (2, Some(source(7)))];
        (0..3).for_each(|_| independence.record(&one));
        assert!(matches!(combine(&independence), Combined::Disagree { .. }), "one against one");
        let with_fourth = [candidates.as_slice(), &[reports(3, 10)]].concat();
        let Combined::Agree { pools, falsetickers, .. } = independence.combine(&with_fourth, Duration::ZERO)
        else {
            panic!()
        };
        assert_eq!((pools, falsetickers), (BTreeSet::from([0, 2, 3]), BTreeSet::from([1])));
    }

    #[test]
    fn answers_that_show_no_source_are_no_evidence() {
        let mut independence = Independence::default();
        for _ in 0..9 {
            independence.record(&[(0, None), (1, None), (2, Some(source(7)))]);
        }
        assert_eq!(independence.verdict(), Some(true));
    }
}
