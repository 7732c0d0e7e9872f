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

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::{Bound, Measurement, Mono, Offset, Ppb, Reading, Wall, nanos};

/// The largest frequency error of an undisciplined oscillator. RFC 5905's 15 ppm (PHI) is for a disciplined
/// one.
pub const FREQUENCY_UNKNOWN: Ppb = Ppb::from_ppm(200);
/// How far a frequency may change after it was measured, with temperature.
const FREQUENCY_WANDER: Ppb = Ppb::from_ppm(5);
/// A frequency is precise when its interval is at most ± this.
const PRECISE_WITHIN: Ppb = Ppb::from_ppm(20);
/// Points that a [`FrequencyTracker`] keeps.
const MAX_POINTS: usize = 32;

/// An interval of origins: every reference time at which the raw clock may have read 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Lower end.
    pub low: Wall,
    /// Upper end.
    pub high: Wall,
}

/// How much faster reference time runs than the raw clock, as an interval.
///
/// Positive: the node's oscillator is slow, and without discipline the node falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    low: Ppb,
    high: Ppb,
}

/// Reference time over the raw clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    at: Mono,
    origin: Interval,
    frequency: Frequency,
    newest_sample: Mono,
}

/// Earlier points of the line, from which the frequency is measured.
#[derive(Clone, Debug, Default)]
pub struct FrequencyTracker {
    points: VecDeque<(Mono, Interval)>,
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
}

impl Frequency {
    /// Not measured: within ±[`FREQUENCY_UNKNOWN`].
    pub const UNKNOWN: Self = Self { low: Ppb(-FREQUENCY_UNKNOWN.0), high: FREQUENCY_UNKNOWN };

    /// The middle of the interval.
    pub fn middle(self) -> Ppb {
        Ppb(i64::midpoint(self.low.0, self.high.0))
    }

    /// Was it measured?
    pub fn is_known(self) -> bool {
        self != Self::UNKNOWN
    }

    /// Is it precise enough to be shown without its bound (±20 ppm)?
    pub fn is_precise(self) -> bool {
        self.high.0 - self.low.0 <= 2 * PRECISE_WITHIN.0
    }

    /// How fast a bound grows: half the width of the interval + wander, at most [`FREQUENCY_UNKNOWN`].
    pub fn ageing(self) -> Ppb {
        let half_width = Ppb((self.high.0 - self.low.0 + 1) / 2);
        if self.is_known() {
            Ppb((half_width.0 + FREQUENCY_WANDER.0).min(FREQUENCY_UNKNOWN.0))
        } else {
            FREQUENCY_UNKNOWN
        }
    }

    /// Where an interval measured at `at` lies at `now`, earlier or later.
    pub fn carry(self, interval: Interval, at: Mono, now: Mono) -> Interval {
        let (span, forward) = if now >= at { (now.since(at), true) } else { (at.since(now), false) };
        let drift = self.middle().over(span);
        let middle = interval.middle().plus(Offset::from_nanos(if forward { drift } else { -drift }));
        Interval::around(middle, interval.bound() + Bound::from_nanos(self.ageing().over(span)))
    }
}

impl Line {
    /// A line through `origin` at `at`; `newest_sample`: when the newest sample behind it was taken.
    pub fn new(at: Mono, origin: Interval, frequency: Frequency, newest_sample: Mono) -> Self {
        Self { at, origin, frequency, newest_sample }
    }

    /// Offset and bound for these readings.
    pub fn offset(&self, now: Reading) -> Measurement {
        let here = self.frequency.carry(self.origin, self.at, now.raw);
        Measurement::new(here.middle().minus(now.origin()), here.bound())
    }

    /// Reference time at these readings.
    pub fn reference(&self, now: Reading) -> Wall {
        now.wall.plus(self.offset(now).offset)
    }

    /// Age of the newest sample behind the line.
    pub fn age(&self, now: Mono) -> Duration {
        now.since(self.newest_sample)
    }

    /// The frequency the line runs at.
    pub fn frequency(&self) -> Frequency {
        self.frequency
    }
}

impl FrequencyTracker {
    /// Takes in the line's origin at `at`. A point closer than `spacing` to the last one is skipped.
    ///
    /// If no oscillator could lead from the last point to this one, the raw clock or the servers' time
    /// jumped: all earlier points are removed.
    pub fn push(&mut self, at: Mono, origin: Interval, spacing: Duration) {
        let frequency = self.frequency();
        if let Some(&(last, interval)) = self.points.back() {
            if !frequency.carry(interval, last, at).meets(origin) {
                self.points.clear();
            } else if at.since(last) < spacing {
                return;
            }
        }
        if self.points.len() == MAX_POINTS {
            self.points.pop_front();
        }
        self.points.push_back((at, origin));
    }

    /// Removes all points: the raw clock did not count all of the time.
    pub fn clear(&mut self) {
        self.points.clear();
    }

    /// The narrowest interval of frequencies that a pair of an earlier point and the newest allows.
    ///
    /// Not a regression: two true intervals bound the mean frequency between them, for any noise.
    pub fn frequency(&self) -> Frequency {
        let Some(&(now, newest)) = self.points.back() else { return Frequency::UNKNOWN };
        self.points
            .iter()
            .filter_map(|&(at, older)| between(at, older, now, newest))
            .min_by_key(|f| f.high.0 - f.low.0)
            .and_then(|f| {
                let low = f.low.max(Frequency::UNKNOWN.low);
                let high = f.high.min(Frequency::UNKNOWN.high);
                (low <= high).then_some(Frequency { low, high })
            })
            .unwrap_or(Frequency::UNKNOWN)
    }
}

/// The frequencies that lead from one interval to another.
fn between(from: Mono, older: Interval, to: Mono, newer: Interval) -> Option<Frequency> {
    let span = nanos(to.since(from));
    if span == 0 {
        return None;
    }
    let ppb = |gain: i64| i64::try_from(i128::from(gain) * 1_000_000_000 / i128::from(span)).ok();
    Some(Frequency {
        low: Ppb(ppb(newer.low.minus(older.high).as_nanos())? - 1),
        high: Ppb(ppb(newer.high.minus(older.low).as_nanos())? + 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const SEC: i64 = 1_000 * MS;

    fn interval(middle: i64, half: i64) -> Interval {
        Interval::around(Wall::from_nanos(middle), Bound::from_nanos(half))
    }

    fn at(secs: i64) -> Mono {
        Mono::from_nanos(secs * SEC)
    }

    #[test]
    fn wall_clock_steps_show_without_another_exchange() {
        let line = Line::new(at(0), interval(1_000 * SEC, MS), Frequency::UNKNOWN, at(0));
        let reading = |step: i64| Reading {
            wall: Wall::from_nanos(1_010 * SEC + step),
            raw: at(10),
            suspended: Duration::ZERO,
        };
        assert_eq!(line.offset(reading(0)).offset, Offset::ZERO);
        assert_eq!(line.offset(reading(3 * SEC)).offset, Offset::from_nanos(-3 * SEC), "set 3 s ahead");
    }

    #[test]
    fn bounds_grow_by_200_ppm_while_the_frequency_is_unknown() {
        let line = Line::new(at(0), interval(0, MS), Frequency::UNKNOWN, at(0));
        let now = Reading { wall: Wall::from_nanos(100 * SEC), raw: at(100), suspended: Duration::ZERO };
        assert_eq!(line.offset(now).bound, Bound::from_nanos(MS + 20 * MS));
    }

    #[test]
    fn bounds_grow_by_the_measured_uncertainty_plus_5_ppm() {
        let mut history = FrequencyTracker::default();
        history.push(at(0), interval(0, MS), Duration::from_secs(64));
        // 100 ppm slow: reference gains 100 ms in 1000 s; +-1 ms at both ends leaves +-2 ppm.
        history.push(at(1_000), interval(100 * MS, MS), Duration::from_secs(64));
        let frequency = history.frequency();
        assert!((frequency.middle().0 - 100_000).abs() <= 1, "{frequency:?}");
        assert!((frequency.ageing().0 - 7_000).abs() <= 2, "2 + 5 ppm, not {:?}", frequency.ageing());
    }

    #[test]
    fn jumps_that_no_oscillator_makes_clear_the_frequency() {
        let mut history = FrequencyTracker::default();
        history.push(at(0), interval(0, MS), Duration::from_secs(64));
        history.push(at(1_000), interval(0, MS), Duration::from_secs(64));
        assert!(history.frequency().is_known());
        history.push(at(1_064), interval(20 * SEC, MS), Duration::from_secs(64));
        assert_eq!(history.frequency(), Frequency::UNKNOWN);
    }

    #[test]
    fn impossible_frequencies_are_not_used() {
        let mut history = FrequencyTracker::default();
        history.push(at(0), interval(0, 0), Duration::from_secs(1));
        history.push(at(10), interval(9 * MS, 0), Duration::from_secs(1));
        assert_eq!(history.frequency(), Frequency::UNKNOWN, "900 ppm");
    }

    proptest! {
        /// For any oscillator within 200 ppm and any true intervals, the carried interval holds the true
        /// origin.
        #[test]
        fn lines_hold_the_true_offset_within_their_bound(
            ppb in -200_000i64..200_000,
            measurements in proptest::collection::vec((1i64..200, 1i64..30_000_000, -1.0f64..1.0), 1..40),
            ahead in 0i64..2_000,
        ) {
            let truth = |t: Mono| Wall::from_nanos(Ppb(ppb).over(Duration::from_nanos(t.as_nanos().unsigned_abs())));
            let mut history = FrequencyTracker::default();
            let (mut now, mut line) = (at(1), None);
            for (step, half, error) in measurements {
                now = now.plus(Duration::from_secs(step.unsigned_abs()));
                #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a test value")]
                let seen = Interval::around(truth(now).plus(Offset::from_nanos((half as f64 * error) as i64)), Bound::from_nanos(half));
                history.push(now, seen, Duration::from_secs(64));
                line = Some(Line::new(now, seen, history.frequency(), now));
            }
            let then = now.plus(Duration::from_secs(ahead.unsigned_abs()));
            let reading = Reading { wall: Wall::from_nanos(then.as_nanos()), raw: then, suspended: Duration::ZERO };
            let Measurement { offset, bound } = line.unwrap().offset(reading);
            let error = offset.as_nanos() - truth(then).as_nanos();
            prop_assert!(error.abs() <= bound.as_nanos() + 2, "off by {error} ns, bound {bound:?}");
        }
    }
}
