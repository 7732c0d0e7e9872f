//! How fast the RTC runs against the base clock: two oscillators, neither disciplined by the kernel.
//!
//! In: RTC - base as a range, whenever it is known better. Out: the range at another time. Two ranges far apart
//! bound the mean rate between them: no regression, true for any noise. The bound narrows as the base line
//! grows, and follows the temperature, since the base line moves on.

use std::time::Duration;

use super::tracker::RTC_JUMP_MIN;
use crate::time::rate::MAX_RATE;
use crate::time::{Mono, NANOS_PER_SEC, OffsetRange, Ppb, nanos};

/// The most that the two run apart on ordinary hardware: the kernel corrects a clock by 500 ppm at most, and an
/// RTC is within 100 ppm.
const ORDINARY: Ppb = Ppb::from_ppm(600);
/// No raw clock is further off, and no RTC by more than 100 ppm beyond that.
const EXTREME: Ppb = Ppb(MAX_RATE.0 + 100_000);
/// Each refutation of a rate that is not learned yet allows one so many times larger.
const ESCALATION: i64 = 16;
/// What the rate may differ from the mean over the base line: the temperature makes some ppm, and another crystal
/// may make more, which is seen before it has made [`RTC_JUMP_MIN`](super::tracker::RTC_JUMP_MIN).
const SLACK: Ppb = Ppb::from_ppm(100);
/// From then on the rate counts as learned: reads of so long have not contradicted it, while the RTC was known to
/// [`NARROW`].
const LEARNED_AFTER: Duration = Duration::from_secs(8);
const NARROW: i64 = 64_000_000;
/// The same, however well the RTC was known: on a busy node.
const LEARNED_ANYHOW_AFTER: Duration = Duration::from_secs(120);
/// The base line is between one and two of these long.
const BASE_LINE: Duration = Duration::from_secs(1_200);
/// Two ranges nearer to each other in time show no rate.
const BASE_LINE_MIN: Duration = Duration::from_secs(1);
/// A begin of the base line that is wider than this is replaced once the RTC is known twice as well.
const ANCHOR_WIDTH: i64 = 4_000_000;

/// The rate at which the RTC gains on the base clock: an interval, ppb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    low: i64,
    high: i64,
}

/// RTC - base at one instant.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    at: Mono,
    range: OffsetRange,
}

/// The rate at which the RTC gains on the base clock, as far as it is known. All times are of the base clock.
#[derive(Clone, Copy, Debug)]
pub struct RtcRate {
    /// What it may be, whatever the base line shows.
    limits: Bounds,
    /// What the base line allows of that.
    measured: Bounds,
    /// Where base lines begin, older first.
    anchors: [Option<Anchor>; 2],
    /// Since when nothing has contradicted it, and since when while the RTC was known well.
    since: Option<Mono>,
    narrow_since: Option<Mono>,
}

impl Default for RtcRate {
    fn default() -> Self {
        let limits = Bounds::within(ORDINARY.0);
        Self { limits, measured: limits, anchors: [None; 2], since: None, narrow_since: None }
    }
}

impl RtcRate {
    /// Where a range lies later, from `from` to `to`.
    pub fn carry(&self, range: OffsetRange, from: Mono, to: Mono) -> OffsetRange {
        let Bounds { low, high } = self.measured.widened(SLACK.0);
        range.plus(OffsetRange { low: Ppb(low).over(to.since(from)), high: Ppb(high).over(to.since(from)) })
    }

    /// By how much a range widens in `span`, ns.
    pub fn growth(&self, span: Duration) -> i64 {
        let Bounds { low, high } = self.measured.widened(SLACK.0);
        Ppb(high.saturating_sub(low)).over(span)
    }

    /// The same at any rate that a raw clock may have.
    pub fn carry_at_any_rate(range: OffsetRange, from: Mono, to: Mono) -> OffsetRange {
        range.widened(EXTREME.over(to.since(from)))
    }

    /// Have reads of some seconds not contradicted it? Before, a contradiction may be the rate.
    pub fn is_learned(&self, now: Mono) -> bool {
        let is_since = |since: Option<Mono>, span| since.is_some_and(|since| now.since(since) >= span);
        is_since(self.narrow_since, LEARNED_AFTER) || is_since(self.since, LEARNED_ANYHOW_AFTER)
    }

    /// RTC - base is `range` now, by reads that agree with all before.
    pub fn learn(&mut self, at: Mono, range: OffsetRange) {
        self.since.get_or_insert(at);
        if range.width() <= NARROW {
            self.narrow_since.get_or_insert(at);
        }
        let here = Some(Anchor { at, range });
        for anchor in &mut self.anchors {
            let is_better = |anchor: Anchor| {
                anchor.range.width() > ANCHOR_WIDTH && range.width() <= anchor.range.width() / 2
            };
            if anchor.is_none_or(is_better) {
                *anchor = here;
            }
        }
        let means = self.anchors.into_iter().flatten().filter_map(|anchor| anchor.mean_to(at, range));
        self.measured = means.fold(self.limits, |all, mean| all.intersection(mean).unwrap_or(mean));
        if let [_, Some(newer)] = self.anchors
            && at.since(newer.at) >= BASE_LINE
        {
            self.anchors = [Some(newer), here];
        }
    }

    /// A read contradicts the rate by less than a jump: it has changed. The base line begins again.
    pub fn refute(&mut self, now: Mono) {
        if !self.is_learned(now) {
            self.narrow_since = None;
        }
        self.limits = self.measured.widened(ORDINARY.0);
        (self.measured, self.anchors) = (self.limits, [None; 2]);
    }

    /// A read contradicts a rate that is not learned yet: it may be a larger one.
    pub fn escalate(&mut self) {
        let widest = self.limits.high.max(-self.limits.low).saturating_mul(ESCALATION).min(EXTREME.0);
        *self = Self { limits: Bounds::within(widest), measured: Bounds::within(widest), ..Self::default() };
    }

    /// The RTC has jumped, which does not change its rate. The base line begins again.
    pub fn forget_base_line(&mut self) {
        self.limits = self.measured.widened(SLACK.0);
        self.anchors = [None; 2];
    }
}

impl Bounds {
    const fn within(limit: i64) -> Self {
        Self { low: -limit, high: limit }
    }

    const fn widened(self, by: i64) -> Self {
        Self { low: self.low.saturating_sub(by), high: self.high.saturating_add(by) }
    }

    fn intersection(self, other: Self) -> Option<Self> {
        let both = Self { low: self.low.max(other.low), high: self.high.min(other.high) };
        (both.low <= both.high).then_some(both)
    }
}

impl Anchor {
    /// The mean rate from here to there.
    fn mean_to(self, at: Mono, range: OffsetRange) -> Option<Bounds> {
        let span = at.since(self.at);
        if span < BASE_LINE_MIN {
            return None;
        }
        // A write may have moved the RTC by less than a jump.
        let moved = range.minus(self.range).widened(nanos(RTC_JUMP_MIN));
        let ppb = |by: i64| {
            let rate = i128::from(by).saturating_mul(i128::from(NANOS_PER_SEC)) / i128::from(nanos(span));
            i64::try_from(rate).ok()
        };
        Some(Bounds { low: ppb(moved.low)?.saturating_sub(1), high: ppb(moved.high)?.saturating_add(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn at(seconds: i64) -> Mono {
        Mono::from_nanos(seconds * NANOS_PER_SEC)
    }

    /// After reads that know RTC - base to 4 ms, every ten seconds up to `seconds`, at a rate of `ppm`.
    fn learned(ppm: i64, seconds: i64) -> RtcRate {
        let mut rate = RtcRate::default();
        for second in (0..=seconds).step_by(10) {
            let range = OffsetRange::exact(ppm * 1_000 * second).widened(2 * MS);
            rate.learn(at(second), range);
        }
        rate
    }

    #[test]
    fn ranges_widen_by_the_prior_at_first_and_by_the_slack_once_the_rate_is_learned() {
        let growth = |rate: &RtcRate| rate.growth(Duration::from_secs(1));
        assert_eq!(growth(&RtcRate::default()), 1_400_000);
        // Twice 4 ms and 10 ms in 1,200 to 2,400 s, and twice the slack.
        let known = growth(&learned(-400, 3_600));
        assert!((211_000..224_000).contains(&known), "{known}");
        let carried = learned(-400, 3_600).carry(OffsetRange::exact(0), at(3_600), at(3_700));
        assert!(carried.low < -40 * MS && carried.high > -40 * MS, "{carried:?}");
        assert!(carried.width() < 23 * MS, "{carried:?}");
    }

    #[test]
    fn rates_count_as_learned_after_eight_seconds_without_a_contradiction() {
        let mut rate = learned(50, 10);
        assert!(!RtcRate::default().is_learned(at(100)) && rate.is_learned(at(8)) && !rate.is_learned(at(7)));
        rate.forget_base_line();
        assert!(rate.is_learned(at(10)), "a jump changes no rate");
        rate.escalate();
        assert!(!rate.is_learned(at(100)));
    }

    #[test]
    fn refuted_rates_allow_another_crystal_and_escalated_ones_any_raw_clock() {
        let mut rate = learned(50, 3_600);
        rate.refute(at(3_600));
        let carried = rate.carry(OffsetRange::exact(0), at(0), at(1_000));
        assert!(carried.low < -600 * MS && carried.high > 700 * MS && carried.width() < 1_500 * MS);
        let mut rate = RtcRate::default();
        let growths: Vec<i64> = (0..4)
            .map(|_| {
                rate.escalate();
                rate.growth(Duration::from_secs(1)) / 1_000
            })
            .collect();
        assert_eq!(growths, [19_400, 240_400, 240_400, 240_400]);
    }

    proptest! {
        /// Whatever the constant rate, how well the RTC is known, and a swing of 10 ppm over hours.
        #[test]
        fn carried_ranges_hold_the_truth(
            ppm in -600i64..=600, width in 0..40 * MS, share in 0.0f64..1.0, swing in -10_000.0f64..10_000.0,
            hours in 1.0f64..12.0, steps in proptest::collection::vec(1i64..600, 1..60),
        ) {
            let truth = |second: i64| {
                let seconds = f64::from(i32::try_from(second).unwrap());
                let angular = std::f64::consts::TAU / (hours * 3_600.0);
                let swung = swing / angular * (1.0 - (angular * seconds).cos());
                #[expect(clippy::cast_possible_truncation, reason = "milliseconds")]
                let swung = swung as i64;
                ppm * 1_000 * second + swung
            };
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "milliseconds")]
            let below = (width as f64 * share) as i64;
            let (mut rate, mut second) = (RtcRate::default(), 0);
            for step in steps {
                let range = |second| OffsetRange { low: truth(second) - below, high: truth(second) - below + width };
                rate.learn(at(second), range(second));
                let carried = rate.carry(range(second), at(second), at(second + step));
                second += step;
                prop_assert!(carried.distance(OffsetRange::exact(truth(second))) == 0, "{second} s: {carried:?}");
            }
        }
    }
}
