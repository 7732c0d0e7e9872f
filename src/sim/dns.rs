//! The name server of the simulated world: which of a pool's servers its name has, and for how long.

use std::time::Duration;

/// How a pool's name is answered.
#[derive(Clone, Copy, Debug)]
pub struct Zone {
    /// Time to live of an answer.
    pub ttl: Duration,
    /// The first server that the name has, of all that the plan has for the pool; the name moves to others when
    /// this changes.
    pub first: usize,
    /// Servers that it has, from there on; more than there are: all.
    pub servers: usize,
    /// Servers in one answer.
    pub in_answer: usize,
    /// Which of them an answer has.
    pub rotation: Rotation,
    /// How long a look-up takes.
    pub delay: Duration,
    /// Look-ups fail.
    pub fails: bool,
}

/// Which servers an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Always the first ones.
    Fixed,
    /// The next ones at each look-up.
    EachLookup,
    /// The next ones after each such span, as in the cache of a resolver.
    Every(Duration),
    /// Some at random, in a random order.
    Random,
}

impl Default for Zone {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            first: 0,
            servers: usize::MAX,
            in_answer: usize::MAX,
            rotation: Rotation::Fixed,
            delay: Duration::from_millis(12),
            fails: false,
        }
    }
}

impl Zone {
    /// The servers that the name has now, out of `total`.
    pub fn members(&self, total: usize) -> std::ops::Range<usize> {
        let first = self.first.min(total);
        first..first.saturating_add(self.servers).min(total)
    }

    /// The servers in an answer, by their index, out of `total`; `None`: the look-up fails.
    pub fn answer(
        &self,
        total: usize,
        lookups: usize,
        elapsed: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Vec<usize>> {
        if self.fails {
            return None;
        }
        let mut members: Vec<usize> = self.members(total).collect();
        if members.is_empty() {
            return Some(members);
        }
        let count = self.in_answer.min(members.len());
        let turns = match self.rotation {
            Rotation::Fixed => 0,
            Rotation::EachLookup => lookups,
            Rotation::Every(span) => {
                usize::try_from(elapsed.as_nanos() / span.as_nanos().max(1)).unwrap_or(usize::MAX)
            }
            Rotation::Random => {
                rng.shuffle(&mut members);
                0
            }
        };
        let by = turns.wrapping_mul(count) % members.len();
        members.rotate_left(by);
        members.truncate(count);
        Some(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(zone: Zone, secs: [u64; 4]) -> Vec<Option<Vec<usize>>> {
        let mut rng = fastrand::Rng::with_seed(1);
        (0..).zip(secs).map(|(n, at)| zone.answer(6, n, Duration::from_secs(at), &mut rng)).collect()
    }

    #[test]
    fn rotating_names_give_other_servers_each_time_or_after_a_while() {
        let fixed = Zone { in_answer: 4, ..Zone::default() };
        assert_eq!(answers(fixed, [0; 4]), vec![Some(vec![0, 1, 2, 3]); 4]);
        let each = Zone { rotation: Rotation::EachLookup, ..fixed };
        let wanted = [vec![0, 1, 2, 3], vec![4, 5, 0, 1], vec![2, 3, 4, 5], vec![0, 1, 2, 3]];
        assert_eq!(answers(each, [0; 4]), wanted.map(Some));
        let every = Zone { rotation: Rotation::Every(Duration::from_secs(150)), in_answer: 2, ..fixed };
        let wanted = [vec![0, 1], vec![0, 1], vec![2, 3], vec![4, 5]];
        assert_eq!(answers(every, [0, 149, 150, 300]), wanted.map(Some));
    }

    #[test]
    fn random_answers_have_different_servers_of_the_name() {
        let zone = Zone { rotation: Rotation::Random, in_answer: 3, first: 2, ..Zone::default() };
        let mut seen = std::collections::BTreeSet::new();
        for answer in answers(zone, [0; 4]).into_iter().flatten() {
            assert_eq!(std::collections::BTreeSet::from_iter(&answer).len(), 3);
            seen.extend(answer);
        }
        assert!(seen.is_subset(&(2..6).collect()));
    }

    #[test]
    fn names_move_fail_and_become_empty() {
        let moved = Zone { first: 4, servers: 2, ..Zone::default() };
        assert_eq!(answers(moved, [0; 4])[0], Some(vec![4, 5]));
        assert_eq!(answers(Zone { fails: true, ..moved }, [0; 4])[0], None);
        assert_eq!(answers(Zone { servers: 0, ..moved }, [0; 4])[0], Some(vec![]));
    }
}
