//! Several answers of one URL, narrowed to the instant at which the server's second begins.
//!
//! Each answer halves the interval of possible origins, if its request arrives when the middle of the
//! interval predicts that a second begins. All times are on the raw clock, so that a step or a slew of the
//! wall clock between two requests changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::time::interval::Interval;
use crate::time::rate::RateTracker;
use crate::time::{Bound, Measurement, Mono, NANOS_PER_SEC, Offset, Reading, Wall, nanos};

/// How far a header's age may move the offset: half of the largest age, and the smallest bound of any
/// reading.
///
/// Servers make the header once a second, at any time within the second, and send it until they make the
/// next. So it is up to 1 s older than the answer and never newer: reference time is later than the header by
/// half a second, ± half a second.
pub const MAX_HEADER_AGE: Bound = Bound::HALF_SECOND;

/// The origins that all answers of one URL allow (origin: see [`crate::time::line`]).
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The possible origins, as of the raw time beside them.
    open: Option<(Mono, Interval)>,
    /// Round trip of the quickest exchange.
    round_trip: Duration,
    answers: u32,
    is_contradicted: bool,
    /// How fast the raw clock runs, as far as the answers show it.
    rate: RateTracker,
}

/// Two answers that no single offset agrees with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

/// When to send the next request: at this phase of a second of the raw clock, ns from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendPhase(i64);

impl SendPhase {
    /// How long until the next such instant; below 1 s.
    pub fn wait(self, now: Mono) -> Duration {
        let wait = (i128::from(self.0) - i128::from(now.as_nanos())).rem_euclid(i128::from(NANOS_PER_SEC));
        Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
    }
}

impl Search {
    /// Takes an answer in: the server wrote `date` between `sent` and `received` (raw clock).
    ///
    /// An answer that contradicts the earlier ones starts the search again; there is no measurement until
    /// another answer confirms it.
    pub fn handle_answer(&mut self, date: Wall, sent: Mono, received: Mono) -> Result<(), Contradiction> {
        let round_trip = received.since(sent);
        let origin = |at: Wall, raw: Mono| Wall::from_nanos(at.as_nanos().saturating_sub(raw.as_nanos()));
        let end = date.plus(Offset::from_nanos(NANOS_PER_SEC));
        let allowed = Interval { low: origin(date, sent.plus(round_trip)), high: origin(end, sent) };
        let before = self.open.map(|(at, open)| self.rate.rate().carry(open, at, received));
        match before {
            Some(before) if !before.meets(allowed) => {
                let rate = RateTracker::default();
                let open = Some((received, allowed));
                *self = Self { open, round_trip, answers: 1, is_contradicted: true, rate };
                return Err(Contradiction);
            }
            Some(before) => {
                let both = Interval { low: before.low.max(allowed.low), high: before.high.min(allowed.high) };
                self.open = Some((received, both));
                self.round_trip = self.round_trip.min(round_trip);
            }
            None => (self.open, self.round_trip) = (Some((received, allowed)), round_trip),
        }
        // What refutes the rate and not the interval shows at the next answer.
        let _ = self.open.map(|(at, open)| self.rate.push(at, open, &BTreeSet::new()));
        self.answers = self.answers.saturating_add(1);
        self.is_contradicted = false;
        Ok(())
    }

    /// When to send the next request, so that its answer halves the interval; `None`: at any time.
    pub fn send_phase(&self) -> Option<SendPhase> {
        let (_, open) = self.open?;
        let there = nanos(self.round_trip / 2);
        let second = |nanos: i64| nanos.rem_euclid(NANOS_PER_SEC);
        // When a second begins, origin + raw time is a whole second.
        Some(SendPhase(second(-second(open.middle().as_nanos()) - second(there))))
    }

    /// Answers that agree with the newest one, itself included.
    pub fn answers(&self) -> u32 {
        self.answers
    }

    /// Does the newest answer contradict the earlier ones, without another that confirms it?
    pub fn is_contradicted(&self) -> bool {
        self.is_contradicted
    }

    /// Offset and bound; true if the server's clock is right and its header at most 1 s old. `None` without
    /// answers, or while [`Self::is_contradicted`].
    pub fn measured(&self, now: Reading) -> Option<Measurement> {
        let (at, open) = self.open.filter(|_| !self.is_contradicted)?;
        let open = self.rate.rate().carry(open, at, now.raw);
        let middle = open.middle().plus(Offset::from_nanos(MAX_HEADER_AGE.as_nanos()));
        Some(Measurement::new(middle.minus(now.origin()), open.bound() + MAX_HEADER_AGE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    /// A server and the network path to it.
    #[derive(Clone, Copy, Debug)]
    struct World {
        truth: Offset,
        /// Age of the server's header, ns.
        header_age: i64,
        now: Reading,
    }

    impl World {
        fn new(truth: i64, header_age: i64) -> Self {
            let wall = Wall::from_nanos(1_795_341_600_123_456_789);
            let now = Reading { wall, raw: Mono::from_nanos(987_654_321), suspended: Duration::ZERO };
            Self { truth: Offset::from_nanos(truth), header_age, now }
        }

        fn pass(&mut self, nanos: i64) {
            let span = Duration::from_nanos(nanos.unsigned_abs());
            self.now.wall = self.now.wall.plus(Offset::from_nanos(nanos));
            self.now.raw = self.now.raw.plus(span);
        }

        /// One exchange at the phase that the search asks for, with these delays of the request and the
        /// answer, ns.
        fn ask(&mut self, search: &mut Search, (there, back): (i64, i64)) -> Result<(), Contradiction> {
            self.pass(search.send_phase().map_or(0, |phase| nanos(phase.wait(self.now.raw))));
            let sent = self.now.raw;
            self.pass(there);
            let written = self.now.wall.plus(self.truth).plus(Offset::from_nanos(-self.header_age));
            let date = Wall::from_secs(written.as_nanos().div_euclid(NANOS_PER_SEC));
            self.pass(back);
            search.handle_answer(date, sent, self.now.raw)
        }
    }

    #[test]
    fn one_answer_leaves_an_interval_of_a_second_and_a_round_trip() {
        let (mut search, mut world) = (Search::default(), World::new(0, 0));
        assert_eq!((search.send_phase(), search.measured(world.now)), (None, None));
        world.ask(&mut search, (40 * MS, 60 * MS)).unwrap();
        let Measurement { bound, .. } = search.measured(world.now).unwrap();
        assert_eq!(bound.as_nanos(), 550 * MS + MAX_HEADER_AGE.as_nanos());
    }

    #[test]
    fn contradicting_answers_give_no_measurement_until_one_is_confirmed() {
        let (mut search, mut world) = (Search::default(), World::new(0, 0));
        world.ask(&mut search, (MS, MS)).unwrap();
        world.truth = Offset::from_nanos(3 * NANOS_PER_SEC);
        assert_eq!(world.ask(&mut search, (MS, MS)), Err(Contradiction));
        assert_eq!(search.measured(world.now), None);
        world.ask(&mut search, (MS, MS)).unwrap();
        let Measurement { offset, bound } = search.measured(world.now).unwrap();
        assert!((offset.as_nanos() - 3 * NANOS_PER_SEC).abs() <= bound.as_nanos(), "{offset:?} {bound:?}");
        assert_eq!(search.answers(), 2);
    }

    #[test]
    fn steps_of_the_nodes_clock_show_at_once_and_contradict_no_answer() {
        let (mut search, mut world) = (Search::default(), World::new(0, 0));
        world.ask(&mut search, (MS, MS)).unwrap();
        let Measurement { offset: before, .. } = search.measured(world.now).unwrap();
        world.now.wall = world.now.wall.plus(Offset::from_nanos(20 * NANOS_PER_SEC));
        world.truth = Offset::from_nanos(-20 * NANOS_PER_SEC);
        let Measurement { offset: after, .. } = search.measured(world.now).unwrap();
        assert_eq!(after.as_nanos(), before.as_nanos() - 20 * NANOS_PER_SEC);
        world.ask(&mut search, (MS, MS)).unwrap();
    }

    #[test]
    fn bounds_grow_by_12_percent_until_a_second_answer_shows_the_rate() {
        let (mut search, mut world) = (Search::default(), World::new(0, 0));
        world.ask(&mut search, (MS, MS)).unwrap();
        let Measurement { bound: before, .. } = search.measured(world.now).unwrap();
        world.pass(1_000 * NANOS_PER_SEC);
        let Measurement { bound: after, .. } = search.measured(world.now).unwrap();
        assert!((after.as_nanos() - before.as_nanos() - 120 * NANOS_PER_SEC).abs() < 3 * MS, "{after:?}");
        world.ask(&mut search, (MS, MS)).unwrap();
        let Measurement { bound: before, .. } = search.measured(world.now).unwrap();
        world.pass(1_000 * NANOS_PER_SEC);
        let Measurement { bound: after, .. } = search.measured(world.now).unwrap();
        assert!(
            after.as_nanos() - before.as_nanos() < 3 * NANOS_PER_SEC,
            "1 s in 1,000 s: {before:?} {after:?}"
        );
    }

    proptest! {
        #[test]
        fn bounds_hold_the_true_offset_and_each_answer_halves_them(
            truth in -9_000_000_000_000i64..9_000_000_000_000,
            ways in proptest::collection::vec((MS..30 * MS, MS..30 * MS), 6),
            header_age in 0..1_000 * MS,
        ) {
            let (mut search, mut world) = (Search::default(), World::new(truth, header_age));
            for way in &ways {
                prop_assert_eq!(world.ask(&mut search, *way), Ok(()), "a header of constant age contradicts itself for no jitter");
                let Measurement { offset, bound } = search.measured(world.now).unwrap();
                prop_assert!(bound >= MAX_HEADER_AGE);
                prop_assert!((offset.as_nanos() - truth).abs() <= bound.as_nanos(), "{:?} {:?}", offset, bound);
            }
            // The five answers after the first would leave 1/32 s, but the raw clock is known to 12% only, a
            // second or so between two of them. The request's delay is known to a round trip only.
            let Measurement { bound, .. } = search.measured(world.now).unwrap();
            let half = bound.as_nanos() - MAX_HEADER_AGE.as_nanos();
            prop_assert!(half <= 300 * MS, "{half}");
        }

    }

    /// Of times without an order, and of a server that is right within a second.
    #[test]
    fn waits_are_below_a_second_and_no_answer_panics() {
        let reached = Reached::new([("answers that agree", 15), ("a contradiction", 15), ("a wait", 100)]);
        let any_times = (any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>(), any::<i64>()).boxed();
        let span = || 0..5 * NANOS_PER_SEC;
        let near = (any::<i64>(), any::<i64>(), span(), span(), -NANOS_PER_SEC..NANOS_PER_SEC);
        let near = near.prop_map(|(date, sent, first, second, error)| {
            let received = sent.saturating_add(first);
            (date, sent, received, date.saturating_add(first + error), received.saturating_add(second))
        });
        proptest!(|((date, sent, received, again, now) in prop_oneof![any_times, near.boxed()])| {
            let mut search = Search::default();
            let _ = search.handle_answer(Wall::from_nanos(date), Mono::from_nanos(sent), Mono::from_nanos(received));
            let second = search.handle_answer(Wall::from_nanos(again), Mono::from_nanos(received), Mono::from_nanos(now));
            reached.case("answers that agree", second.is_ok());
            reached.case("a contradiction", second.is_err());
            let raw = Mono::from_nanos(now);
            if reached.case("a wait", search.send_phase().is_some()) {
                prop_assert!(search.send_phase().unwrap().wait(raw) < Duration::from_secs(1));
            }
            let measured = search.measured(Reading { wall: Wall::from_nanos(date), raw, suspended: Duration::ZERO });
            prop_assert_eq!(measured.is_some(), second.is_ok());
        });
    }
}
