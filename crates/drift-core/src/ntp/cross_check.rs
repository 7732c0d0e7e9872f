//! The cross-check: now and then rsntp asks a server, too, as an independent implementation of the protocol.
//!
//! It can only cast doubt. Its measurement is no sample, its failure no miss, and its kiss-o'-death decides
//! nothing.

use crate::ntp::sample::{SERVER_ERROR_MIN, Sample};
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
        const CLOCK_SET_TOLERANCE: i64 = 1_000_000;
        let elapsed = received.raw.since(sent.raw);
        let moved = received.origin().minus(sent.origin()).as_nanos().saturating_abs();
        let is_set = moved > CLOCK_SET_TOLERANCE.saturating_add(nanos(elapsed) / 10);
        if is_set || sent.suspended != received.suspended {
            return None;
        }
        // rsntp does not check that it is positive.
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
