//! The reference line: reference time as a function of the raw clock, and how fast its uncertainty grows.
//!
//! All samples, intervals and lines are made of one quantity, the *origin*:
//!
//! ```text
//! origin = reference time - raw clock      (reference time at which CLOCK_MONOTONIC_RAW read 0)
//! ```
//!
//! No process steps or slews the raw clock. So the origin of reference time is constant except for the
//! oscillator's frequency error, and samples taken at different times can be compared. The node's own origin
//! is wall clock - raw clock ([`Reading::origin`]); it changes when the wall clock is stepped or slewed. The
//! difference of the two is the offset at any instant, without another exchange:
//!
//! ```text
//! offset = reference time - wall clock = origin of reference time - origin of the node
//! ```

use std::time::Duration;

use crate::time::interval::Interval;
use crate::time::rate::Rate;
use crate::time::{Bound, Measurement, Mono, Reading, Wall};

/// Reference time over the raw clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    at: Mono,
    origin: Interval,
    /// The most likely origin at that time, inside the interval.
    likely: Wall,
    rate: Rate,
    newest_sample: Mono,
}

impl Line {
    /// A line through `origin` at `at`; `newest_sample`: when the newest sample behind it was taken.
    pub fn new(at: Mono, origin: Interval, rate: Rate, newest_sample: Mono) -> Self {
        Self { at, origin, likely: origin.middle(), rate, newest_sample }
    }

    /// The same line, through its most likely point.
    #[must_use]
    pub fn through(self, likely: Wall) -> Self {
        Self { likely, ..self }
    }

    /// The origins that are possible at `now`.
    pub fn origin(&self, now: Mono) -> Interval {
        self.rate.carry(self.origin, self.at, now)
    }

    /// The line until `since`, and from there on at this rate.
    #[must_use]
    pub fn with_rate_from(self, since: Mono, rate: Rate) -> Self {
        Self { at: since, origin: self.origin(since), rate, ..self }
    }

    /// Offset and bound for these readings.
    pub fn offset(&self, now: Reading) -> Measurement {
        let here = self.origin(now.raw);
        let likely = self.rate.carry_likely(self.likely, self.at, now.raw).clamp(here.low, here.high);
        let bound = here.high.minus(likely).max(likely.minus(here.low));
        Measurement::new(likely.minus(now.origin()), Bound::from_nanos(bound.as_nanos()))
    }

    /// Reference time at these readings.
    pub fn reference(&self, now: Reading) -> Wall {
        now.wall.plus(self.offset(now).offset)
    }

    /// Age of the newest sample behind the line.
    pub fn age(&self, now: Mono) -> Duration {
        now.since(self.newest_sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Offset, Ppb};

    const MS: i64 = 1_000_000;
    const SEC: i64 = 1_000 * MS;

    fn at(secs: i64) -> Mono {
        Mono::from_nanos(secs * SEC)
    }

    #[test]
    fn the_bound_reaches_from_the_likely_point_to_the_farther_end() {
        let origin = Interval::around(Wall::from_nanos(1_000 * SEC), Bound::from_nanos(4 * MS));
        let line = Line::new(at(0), origin, Rate::exactly(Ppb(0)), at(0))
            .through(Wall::from_nanos(1_000 * SEC + MS));
        let now = Reading { wall: Wall::from_nanos(1_000 * SEC), raw: at(0), suspended: Duration::ZERO };
        assert_eq!(line.offset(now), Measurement::new(Offset::from_nanos(MS), Bound::from_nanos(5 * MS)));
        let outside = line.through(Wall::from_nanos(0)).offset(now);
        assert_eq!(outside.offset, Offset::from_nanos(-4 * MS), "never outside of the interval");
    }

    #[test]
    fn wall_clock_steps_show_without_another_exchange() {
        let origin = Interval::around(Wall::from_nanos(1_000 * SEC), Bound::from_nanos(MS));
        let line = Line::new(at(0), origin, Rate::exactly(Ppb(0)), at(0));
        let reading = |step: i64| Reading {
            wall: Wall::from_nanos(1_010 * SEC + step),
            raw: at(10),
            suspended: Duration::ZERO,
        };
        assert!(line.offset(reading(0)).offset.magnitude() < Duration::from_nanos(10));
        assert_eq!(line.offset(reading(3 * SEC)).offset, Offset::from_nanos(-3 * SEC), "set 3 s ahead");
        assert_eq!(line.reference(reading(3 * SEC)), Wall::from_nanos(1_010 * SEC));
    }
}
