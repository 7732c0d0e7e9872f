//! The cross-check: now and then rsntp asks a server, too, as an independent implementation of the protocol.
//!
//! It can only cast doubt. Its measurement is no sample, its failure no miss, and its kiss-o'-death decides
//! nothing.

use crate::ntp::sample::{SERVER_ERROR_MIN, Sample, was_suspended};
use crate::time::interval::Interval;
use crate::time::{Bound, Mono, NANOS_PER_SEC, Offset, Reading, Wall, nanos};

/// Exchanges by the agent's own client between two cross-checks, at least.
const EXCHANGES_BETWEEN: u8 = 16;
/// rsntp resolves the era of a timestamp for these years only, and panics before 1970.
const SECS_HANDLED: std::ops::Range<i64> = 0..4_233_462_144;

/// What rsntp measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossCheck {
    /// When, on the raw clock.
    pub at: Mono,
    /// The origins that its exchange allows, without the server's own error.
    pub interval: Interval,
}

/// What a cross-check showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The two clients measure the same.
    None,
    /// They contradict each other, for the first time: the server may have several clocks.
    First,
    /// They contradicted each other twice in a row.
    Confirmed,
}

/// When a server is cross-checked, and what the last one showed.
#[derive(Clone, Copy, Debug)]
pub struct CrossChecks {
    exchanges_left: u8,
    has_contradicted: bool,
}

/// Can rsntp be called with this wall clock?
pub fn is_clock_in_range(wall: Wall) -> bool {
    SECS_HANDLED.contains(&wall.as_nanos().div_euclid(NANOS_PER_SEC))
}

impl CrossCheck {
    /// From an exchange between two readings. `None`: the wall clock, by which rsntp measures, was set in the
    /// midst of it, or the numbers are impossible.
    pub fn new(sent: Reading, received: Reading, offset: Offset, round_trip: Offset) -> Option<Self> {
        const TOLERANCE: i64 = 1_000_000;
        let elapsed = received.raw.since(sent.raw);
        let moved = received.origin().minus(sent.origin()).as_nanos().saturating_abs();
        let tolerance = TOLERANCE.saturating_add(nanos(elapsed) / 10);
        let is_set = moved > tolerance;
        // rsntp accepts any round trip, and takes a timestamp of zero for a time in 2036.
        let is_possible =
            (-tolerance..=nanos(elapsed).saturating_add(tolerance)).contains(&round_trip.as_nanos());
        if is_set || !is_possible || was_suspended(sent, received) {
            return None;
        }
        let half = round_trip.as_nanos().max(0) / 2;
        Some(Self {
            at: sent.raw.plus(elapsed / 2),
            interval: Interval::around(
                sent.origin().plus(offset),
                Bound::from_nanos(half.saturating_add(moved)),
            ),
        })
    }
}

impl CrossChecks {
    /// The first cross-check comes after 16 exchanges, and up to 8 more by `spread` (0..8), so that several
    /// servers do not have theirs in one round.
    pub fn new(spread: u8) -> Self {
        Self { exchanges_left: EXCHANGES_BETWEEN + spread, has_contradicted: false }
    }

    /// The agent's own client takes a sample.
    pub fn note_sample(&mut self) {
        self.exchanges_left = self.exchanges_left.saturating_sub(1);
    }

    /// Is one due?
    pub fn is_due(&self) -> bool {
        self.exchanges_left == 0
    }

    /// One is sent.
    pub fn note_asked(&mut self) {
        self.exchanges_left = EXCHANGES_BETWEEN;
    }

    /// Compares its result with what the server's window allows at that time.
    pub fn compare(&mut self, check: CrossCheck, own: Interval, newest: &Sample) -> Doubt {
        let server_error = nanos(newest.root_distance).saturating_add(SERVER_ERROR_MIN);
        let contradicts = !check.interval.widened(server_error).meets(own);
        match (contradicts, std::mem::replace(&mut self.has_contradicted, contradicts)) {
            (false, _) => Doubt::None,
            (true, false) => Doubt::First,
            (true, true) => Doubt::Confirmed,
        }
    }

    /// Starts again, without a contradiction.
    pub fn reset(&mut self) {
        *self = Self::new(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: i64 = 1_000_000;

    fn reading(ms: i64, wall_ahead_ms: i64) -> Reading {
        Reading {
            wall: Wall::from_nanos((1_000_000 + ms + wall_ahead_ms) * MS),
            raw: Mono::from_nanos(ms * MS),
            suspended: Duration::ZERO,
        }
    }

    fn check(received: Reading, offset_ms: i64, round_trip_ms: i64) -> Option<CrossCheck> {
        let [offset, round_trip] = [offset_ms, round_trip_ms].map(|ms| Offset::from_nanos(ms * MS));
        CrossCheck::new(reading(0, 0), received, offset, round_trip)
    }

    #[test]
    fn an_exchange_by_rsntp_gives_the_origins_within_half_its_round_trip() {
        let found = check(reading(20, 0), 250, 18).unwrap();
        let truth = Wall::from_nanos((1_000_000 + 250) * MS);
        assert_eq!(found.at, Mono::from_nanos(10 * MS));
        assert_eq!(found.interval, Interval::around(truth, Bound::from_nanos(9 * MS)));
        // A slew within the limits makes it wider.
        let slewed = check(reading(20, 2), 250, 18).unwrap();
        assert_eq!(slewed.interval, Interval::around(truth, Bound::from_nanos(11 * MS)));
    }

    #[test]
    fn clocks_that_were_set_and_impossible_round_trips_measure_nothing() {
        assert!(check(reading(20, 3), 0, 20).is_some() && check(reading(20, -3), 0, 20).is_some());
        assert_eq!((check(reading(20, 4), 0, 20), check(reading(20, -4), 0, 20)), (None, None), "set");
        let suspended = Reading { suspended: Duration::from_secs(1), ..reading(20, 0) };
        assert_eq!(check(suspended, 0, 20), None);
        assert!(check(reading(20, 0), 0, -3).is_some() && check(reading(20, 0), 0, 23).is_some());
        assert_eq!((check(reading(20, 0), 0, -4), check(reading(20, 0), 0, 24)), (None, None));
    }

    #[test]
    fn rsntp_handles_clocks_from_1970_to_2104() {
        let is_handled = |secs: i64| is_clock_in_range(Wall::from_nanos(secs * NANOS_PER_SEC));
        assert!(is_handled(0) && is_handled(4_233_462_143));
        assert!(!is_handled(-1) && !is_handled(4_233_462_144));
        assert!(!is_clock_in_range(Wall::from_nanos(-1)));
    }
}
