//! How fast the node's raw clock runs against reference time, and how far an interval moves and grows in a
//! span of it.
//!
//! No oscillator is assumed: a guest's clock may be 7% fast. The rate is what the intervals that the servers
//! agreed on show, as an interval of its own.

mod tracker;

use std::time::Duration;

pub use self::tracker::{RateTracker, Refuted};
use super::interval::Interval;
use super::{HOUR, Mono, NANOS_PER_SEC, Offset, Ppb, Wall, nanos};

/// No raw clock is taken to be further off: reference time gains 11.1% on a clock that is 10% slow.
pub const MAX_RATE: Ppb = Ppb::from_ppm(120_000);
/// How fast every rate may change, per hour: with the temperature.
const WANDER: Ppb = Ppb::from_ppm(20);
/// Two points of one round show no rate.
const BASE_MIN: Duration = Duration::from_secs(1);
/// Oscillators are seldom further off: the kernel corrects no more (MAXFREQ in linux/timex.h).
const ORDINARY: Ppb = Ppb::from_ppm(500);
/// How far the rate may have stepped since an older sample, without any sign: a machine that was migrated runs on
/// another crystal.
const STEP: Ppb = Ppb::from_ppm(500);
/// How far one of several pools may bend the rate that they agree on, within their intervals.
const DOUBT: Ppb = Ppb::from_ppm(200);

/// How much faster reference time runs than the raw clock: an interval at one instant, and how fast it may
/// change.
///
/// Positive: the node's oscillator is slow, and without discipline the node falls behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    low: Ppb,
    high: Ppb,
    /// When it was so.
    at: Mono,
    /// Change per hour, in either direction.
    wander: Ppb,
}

impl Rate {
    /// Not measured.
    pub const UNKNOWN: Self =
        Self { low: Ppb(-MAX_RATE.0), high: MAX_RATE, at: Mono::from_nanos(0), wander: WANDER };

    /// Exactly this, at any time.
    pub const fn exactly(rate: Ppb) -> Self {
        Self { low: rate, high: rate, at: Mono::from_nanos(0), wander: Ppb(0) }
    }

    /// The middle of the interval.
    pub fn middle(self) -> Ppb {
        Ppb(i64::midpoint(self.low.0, self.high.0))
    }

    /// Half the width of the interval, rounded up.
    pub fn bound(self) -> Ppb {
        Ppb((self.high.0 - self.low.0 + 1) / 2)
    }

    /// How fast it may change, per hour.
    pub(crate) fn wander(self) -> Ppb {
        self.wander
    }

    /// When it was so.
    pub(crate) fn since(self) -> Mono {
        self.at
    }

    /// Was it measured?
    pub fn is_known(self) -> bool {
        (self.low, self.high) != (Self::UNKNOWN.low, Self::UNKNOWN.high)
    }

    /// What reference time gains on the raw clock in `span` at most, ns.
    pub fn high_over(self, span: Duration) -> i64 {
        self.high.over(span)
    }

    fn is_ordinary(self) -> bool {
        self.low <= ORDINARY && self.high.0 >= -ORDINARY.0
    }

    /// The rate as it may be at `now`.
    #[must_use]
    pub fn at(self, now: Mono) -> Self {
        let change = self.wander_over(apart(self.at, now));
        Self { at: now, ..self.widened(change).within_max() }
    }

    /// Wider by what a single pool may have invented.
    #[must_use]
    pub fn doubted(self) -> Self {
        self.widened(DOUBT.0).within_max()
    }

    /// Wider by what a step of the rate may be that nothing has shown yet. Older samples count by this, so that they
    /// cannot exclude the truth after such a step.
    #[must_use]
    pub fn with_step(self) -> Self {
        self.widened(STEP.0).within_max()
    }

    fn widened(self, by: i64) -> Self {
        let (low, high) = (self.low.0.saturating_sub(by), self.high.0.saturating_add(by));
        Self { low: Ppb(low), high: Ppb(high), ..self }
    }

    fn within_max(self) -> Self {
        let limit = |rate: Ppb| Ppb(rate.0.clamp(-MAX_RATE.0, MAX_RATE.0));
        Self { low: limit(self.low), high: limit(self.high), ..self }
    }

    /// The change of the rate in `span` at most, ppb; rounded up.
    fn wander_over(self, span: Duration) -> i64 {
        let change = i128::from(self.wander.0).saturating_mul(i128::from(nanos(span)));
        i64::try_from(change / i128::from(nanos(HOUR)) + 1).unwrap_or(i64::MAX)
    }

    /// Where an interval measured at `from` lies at `to`, earlier or later.
    pub fn carry(self, interval: Interval, from: Mono, to: Mono) -> Interval {
        let span = apart(from, to);
        let (low, high) = (self.low.over(span), self.high.over(span));
        let (low, high) =
            if to >= from { (low, high) } else { (high.saturating_neg(), low.saturating_neg()) };
        let (wander, most) = (self.wander_offset(from, to), MAX_RATE.over(span));
        Interval {
            low: interval.low.plus(Offset::from_nanos(low.saturating_sub(wander).max(most.saturating_neg()))),
            high: interval.high.plus(Offset::from_nanos(high.saturating_add(wander).min(most))),
        }
    }

    /// Where a point lies later, at the middle of the rates.
    pub fn carry_likely(self, point: Wall, from: Mono, to: Mono) -> Wall {
        let gain = self.middle().over(apart(from, to));
        point.plus(Offset::from_nanos(if to >= from { gain } else { gain.saturating_neg() }))
    }

    /// How far reference time may be gained or lost from `from` to `to` because the rate changes, ns: the
    /// integral of the wander since [`Rate::at`] over the span.
    fn wander_offset(self, from: Mono, to: Mono) -> i64 {
        let square = |at: Mono| {
            let away = i128::from(nanos(apart(self.at, at)));
            away.saturating_mul(away)
        };
        let is_between = (from <= self.at) != (to <= self.at);
        let doubled = if is_between {
            square(from).saturating_add(square(to))
        } else {
            square(from).saturating_sub(square(to)).saturating_abs()
        };
        let scale = 2 * i128::from(nanos(HOUR)) * i128::from(NANOS_PER_SEC);
        let offset = i128::from(self.wander.0).saturating_mul(doubled).saturating_add(scale - 1) / scale;
        i64::try_from(offset).unwrap_or(i64::MAX)
    }

    /// The rates that both allow; `None`: there is none.
    pub(crate) fn intersection(self, other: Self) -> Option<Self> {
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        (low <= high).then_some(Self { low, high, ..self })
    }

    fn hull(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high), ..self }
    }
}

fn apart(a: Mono, b: Mono) -> Duration {
    a.since(b).max(b.since(a))
}

/// The rates at `to` that lead from one interval to another; `None`: the two are too near each other in time.
pub(crate) fn mean_rate(from: Mono, older: Interval, to: Mono, newer: Interval, wander: Ppb) -> Option<Rate> {
    let span = nanos(to.since(from));
    if span < nanos(BASE_MIN) {
        return None;
    }
    let ppb = |gain: i64| i64::try_from(i128::from(gain) * i128::from(NANOS_PER_SEC) / i128::from(span)).ok();
    let mean = Rate {
        low: Ppb(ppb(newer.low.minus(older.high).as_nanos())? - 1),
        high: Ppb(ppb(newer.high.minus(older.low).as_nanos())? + 1),
        at: to,
        wander,
    };
    Some(mean.widened(mean.wander_over(to.since(from) / 2)))
}
