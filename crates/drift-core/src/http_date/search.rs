//! Looking for the instant at which the server's second turns: several answers tell where in its second the node's clock is.
//!
//! Each answer halves what is open when its request arrives as the middle of it predicts the turn. Everything is laid on the raw
//! clock, so that a step or a slew in between changes nothing.

use std::time::Duration;

use crate::time::line::{Frequency, Interval};
use crate::time::{Bound, Measurement, Mono, NANOS_PER_SEC, Offset, Reading, Wall, nanos};

/// Servers make the header once a second, at any time in it, and use it until the next: it may be a second older than the
/// answer, and never newer. So the truth is later than it says, by half of that, give or take this; no claim is better.
pub const MAX_HEADER_AGE: Bound = Bound::HALF_SECOND;

/// What the answers of one URL leave open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Every origin that is possible, as of the raw time beside it.
    open: Option<(Mono, Interval)>,
    /// Of the quickest exchange.
    round_trip: Duration,
    answers: u32,
    is_contradicted: bool,
}

/// Two answers that no clock can have given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

/// When to send the next request: at this place of every second of the raw clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendPhase(i64);

impl SendPhase {
    /// How long until then.
    pub fn wait(self, now: Mono) -> Duration {
        let wait = (i128::from(self.0) - i128::from(now.as_nanos())).rem_euclid(i128::from(NANOS_PER_SEC));
        Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
    }
}

impl Search {
    /// Takes an answer in: `date` was written between `sent` and `received`.
    ///
    /// One that contradicts those before is where the search begins anew; nothing is claimed until another bears it out.
    pub fn on(&mut self, date: Wall, sent: Mono, received: Mono) -> Result<(), Contradiction> {
        let round_trip = received.since(sent);
        let origin = |at: Wall, raw: Mono| Wall::from_nanos(at.as_nanos().saturating_sub(raw.as_nanos()));
        let end = date.plus(Offset::from_nanos(NANOS_PER_SEC));
        let told = Interval { low: origin(date, sent.plus(round_trip)), high: origin(end, sent) };
        let before = self.open.map(|(at, open)| Frequency::UNKNOWN.carry(open, at, received));
        match before {
            Some(before) if !before.meets(told) => {
                *self = Self { open: Some((received, told)), round_trip, answers: 1, is_contradicted: true };
                return Err(Contradiction);
            }
            Some(before) => {
                let both = Interval { low: before.low.max(told.low), high: before.high.min(told.high) };
                self.open = Some((received, both));
                self.round_trip = self.round_trip.min(round_trip);
            }
            None => (self.open, self.round_trip) = (Some((received, told)), round_trip),
        }
        self.answers = self.answers.saturating_add(1);
        self.is_contradicted = false;
        Ok(())
    }

    /// When to send the next request, so that its answer halves what is open; `None`: any time is as good.
    pub fn aim(&self) -> Option<SendPhase> {
        let (_, open) = self.open?;
        let there = nanos(self.round_trip / 2);
        let second = |nanos: i64| nanos.rem_euclid(NANOS_PER_SEC);
        // At the turn, origin + raw time is a whole second.
        Some(SendPhase(second(-second(open.middle().as_nanos()) - second(there))))
    }

    /// Answers that agree with each other.
    pub fn answers(&self) -> u32 {
        self.answers
    }

    /// Does the newest answer contradict those before, and has none borne it out yet?
    pub fn is_contradicted(&self) -> bool {
        self.is_contradicted
    }

    /// The offset and its bound, as long as the server's header is at most a second old and its clock is right.
    pub fn measured(&self, now: Reading) -> Option<Measurement> {
        let (at, open) = self.open.filter(|_| !self.is_contradicted)?;
        let open = Frequency::UNKNOWN.carry(open, at, now.raw);
        let middle = open.middle().plus(Offset::from_nanos(MAX_HEADER_AGE.as_nanos()));
        Some(Measurement::new(middle.minus(now.origin()), open.bound() + MAX_HEADER_AGE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    /// A server and the way to it. Its header is `kept` old.
    #[derive(Clone, Copy, Debug)]
    struct World {
        truth: Offset,
        kept: i64,
        now: Reading,
    }

    impl World {
        fn new(truth: i64, kept: i64) -> Self {
            let wall = Wall::from_nanos(1_795_341_600_123_456_789);
            let now = Reading { wall, raw: Mono::from_nanos(987_654_321), suspended: Duration::ZERO };
            Self { truth: Offset::from_nanos(truth), kept, now }
        }

        fn pass(&mut self, nanos: i64) {
            let span = Duration::from_nanos(nanos.unsigned_abs());
            self.now.wall = self.now.wall.plus(Offset::from_nanos(nanos));
            self.now.raw = self.now.raw.plus(span);
        }

        /// One exchange as the search wants it, with so long a way there and back.
        fn ask(&mut self, search: &mut Search, (there, back): (i64, i64)) -> Result<(), Contradiction> {
            self.pass(search.aim().map_or(0, |aim| nanos(aim.wait(self.now.raw))));
            let sent = self.now.raw;
            self.pass(there);
            let written = self.now.wall.plus(self.truth).plus(Offset::from_nanos(-self.kept));
            let date = Wall::from_secs(written.as_nanos().div_euclid(NANOS_PER_SEC));
            self.pass(back);
            search.on(date, sent, self.now.raw)
        }
    }

    #[test]
    fn one_answer_leaves_a_second_and_a_round_trip_open() {
        let (mut search, mut world) = (Search::default(), World::new(0, 0));
        assert_eq!((search.aim(), search.measured(world.now)), (None, None));
        world.ask(&mut search, (40 * MS, 60 * MS)).unwrap();
        let Measurement { bound, .. } = search.measured(world.now).unwrap();
        assert_eq!(bound.as_nanos(), 550 * MS + MAX_HEADER_AGE.as_nanos());
    }

    #[test]
    fn a_server_that_tells_two_times_is_not_believed_until_it_tells_one() {
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
    fn a_step_of_the_nodes_clock_shows_at_once_and_is_no_contradiction() {
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
    fn what_is_open_grows_with_its_age() {
        let (mut search, mut world) = (Search::default(), World::new(0, 0));
        world.ask(&mut search, (MS, MS)).unwrap();
        let Measurement { bound: before, .. } = search.measured(world.now).unwrap();
        world.pass(1_000 * NANOS_PER_SEC);
        let Measurement { bound: after, .. } = search.measured(world.now).unwrap();
        assert_eq!(after.as_nanos() - before.as_nanos(), 200 * MS, "200 ppm");
    }

    proptest! {
        #[test]
        fn the_truth_is_inside_and_each_answer_halves_what_is_open(
            truth in -9_000_000_000_000i64..9_000_000_000_000,
            ways in proptest::collection::vec((MS..30 * MS, MS..30 * MS), 6),
            kept in 0..1_000 * MS,
        ) {
            let (mut search, mut world) = (Search::default(), World::new(truth, kept));
            for way in &ways {
                prop_assert_eq!(world.ask(&mut search, *way), Ok(()), "a header of one age, whatever the jitter");
                let Measurement { offset, bound } = search.measured(world.now).unwrap();
                prop_assert!(bound >= MAX_HEADER_AGE);
                prop_assert!((offset.as_nanos() - truth).abs() <= bound.as_nanos(), "{:?} {:?}", offset, bound);
            }
            // The five after the first leave 1/32 s; and the way there is known to a round trip only.
            let Measurement { bound, .. } = search.measured(world.now).unwrap();
            let half = bound.as_nanos() - MAX_HEADER_AGE.as_nanos();
            prop_assert!(half <= NANOS_PER_SEC / 64 + 65 * MS, "{half}");
        }

        #[test]
        fn no_wait_is_longer_than_a_second_and_no_answer_is_a_panic(date: i64, sent: i64, received: i64, again: i64, now: i64) {
            let mut search = Search::default();
            let _ = search.on(Wall::from_nanos(date), Mono::from_nanos(sent), Mono::from_nanos(received));
            let _ = search.on(Wall::from_nanos(again), Mono::from_nanos(received), Mono::from_nanos(now));
            let raw = Mono::from_nanos(now);
            if let Some(aim) = search.aim() {
                prop_assert!(aim.wait(raw) < Duration::from_secs(1));
            }
            let _ = search.measured(Reading { wall: Wall::from_nanos(date), raw, suspended: Duration::ZERO });
        }
    }
}
