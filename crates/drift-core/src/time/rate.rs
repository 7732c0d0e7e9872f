//! How fast the node's raw clock runs against reference time, and how far an interval moves and grows in a
//! span of it.
//!
//! No oscillator is assumed: a guest's clock may be 7% fast. The rate is what the intervals that the servers
//! agreed on show, as an interval of its own.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::interval::Interval;
use super::{Mono, NANOS_PER_SEC, Offset, Ppb, Wall, nanos};

/// No raw clock is taken to be further off: reference time gains 11.1% on a clock that is 10% slow.
pub const MAX_RATE: Ppb = Ppb::from_ppm(120_000);
/// How fast every rate may change, per hour: with the temperature.
const WANDER: Ppb = Ppb::from_ppm(20);
/// Two points of one round show no rate.
const BASE_MIN: Duration = Duration::from_secs(1);
/// Points before the one that gives a first rate that is not [`ORDINARY`]. Two servers' times in turn give a rate,
/// too, and the third point shows that it is none.
const POINTS_TO_LEARN: u8 = 2;
/// Oscillators are seldom further off: the kernel corrects no more (MAXFREQ in linux/timex.h).
const ORDINARY: Ppb = Ppb::from_ppm(500);
/// Points that must agree with a widened rate before later ones narrow it: it may be as before at any time.
const POINTS_TO_NARROW: u8 = 2;
/// How far the rate may differ after a pause: the machine may run on other hardware. The kernel corrects no
/// clock by more (MAXFREQ in linux/timex.h).
const AFTER_PAUSE: Ppb = Ppb::from_ppm(500);
/// Points that a [`RateTracker`] keeps.
const MAX_POINTS: usize = 32;
/// How often in an hour a refuted rate is measured from the start again. After that it widens.
const RESTARTS_AN_HOUR: usize = 3;
/// A pause is found out about within this time, by the hardware clock or by the servers.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(300);
/// How far the rate may have stepped since an older sample, without any sign: a machine that was migrated runs on
/// another crystal.
const STEP: Ppb = Ppb::from_ppm(100);
/// How far one of several pools may bend the rate that they agree on, within their intervals.
const DOUBT: Ppb = Ppb::from_ppm(200);
const HOUR: Duration = Duration::from_secs(3_600);

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

/// The rate over time.
#[derive(Clone, Debug)]
pub struct RateTracker {
    rate: Rate,
    /// What the servers agreed on, oldest first.
    points: VecDeque<Point>,
    /// When the rate was measured again from the start, in the last hour.
    restarts: VecDeque<Mono>,
    /// Points until the rate is narrowed again.
    hold: u8,
    /// When the wander last changed.
    wander_changed: Mono,
    /// The rate before it was last refuted, and when that was. A pause that is found out about later explains
    /// it.
    before: Option<(Mono, Rate)>,
}

/// What the servers agreed on.
#[derive(Clone, Debug)]
struct Point {
    at: Mono,
    origin: Interval,
    pools: BTreeSet<usize>,
}

/// What a refuted rate leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Refuted {
    /// It is measured again: polls start from the shortest wait.
    Restart,
    /// It was refuted too often: it is taken to change faster.
    Widened,
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

impl Default for RateTracker {
    fn default() -> Self {
        Self {
            rate: Rate::UNKNOWN,
            points: VecDeque::new(),
            restarts: VecDeque::new(),
            hold: POINTS_TO_LEARN,
            wander_changed: Mono::from_nanos(0),
            before: None,
        }
    }
}

impl RateTracker {
    /// The rate, as it was last measured.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes in what the servers agreed on at `now`. `Err`: no rate leads from the earlier points to this
    /// one; the tracker has started again with it.
    ///
    /// `pools`: those that agreed. Earlier points that one of them had no part in do not count any more: most of those
    /// that supported such a point may be wrong although most of these are right.
    ///
    /// Not a regression: two true intervals bound the mean rate between them, for any noise. The rate now
    /// differs from a mean by what it wanders from the middle of the span to its end.
    pub fn push(&mut self, now: Mono, origin: Interval, pools: &BTreeSet<usize>) -> Result<(), Refuted> {
        self.calm_down(now);
        self.points.retain(|point| point.pools.is_superset(pools));
        let rate = self.points.iter().try_fold(self.rate.at(now), |rate, point| {
            match mean_rate(point.at, point.origin, now, origin, self.rate.wander) {
                Some(mean) => rate.intersection(mean),
                None => Some(rate),
            }
        });
        let Some(rate) = rate else { return Err(self.refute(now, origin, pools)) };
        let is_learnt = !self.rate.is_known() && rate.is_known() && rate.is_ordinary();
        if self.hold == 0 || is_learnt {
            (self.rate, self.hold) = (rate, 0);
        }
        if self.points.back().is_none_or(|last| now > last.at) {
            self.hold = self.hold.saturating_sub(1);
            self.points.push_back(Point { at: now, origin, pools: pools.clone() });
        }
        self.thin_out(now);
        Ok(())
    }

    /// What the servers agree on (`origin`) is not where the rate leads to.
    pub fn refute(&mut self, now: Mono, origin: Interval, pools: &BTreeSet<usize>) -> Refuted {
        self.restarts.retain(|at| now.since(*at) < HOUR);
        if self.rate.is_known() {
            self.before = Some((now, self.rate));
        }
        let last = self.points.pop_back();
        self.points.clear();
        self.points.push_back(Point { at: now, origin, pools: pools.clone() });
        if self.restarts.len() < RESTARTS_AN_HOUR {
            self.restarts.push_back(now);
            self.rate = Rate { wander: self.rate.wander, ..Rate::UNKNOWN.at(now) };
            self.hold = POINTS_TO_LEARN;
            return Refuted::Restart;
        }
        let wander = Ppb(self.rate.wander.0.saturating_mul(2).min(MAX_RATE.0));
        self.wander_changed = now;
        self.hold = POINTS_TO_NARROW;
        let seen = last.and_then(|last| mean_rate(last.at, last.origin, now, origin, wander));
        let rate = Rate { wander, ..self.rate.at(now) };
        self.rate =
            seen.map_or(Rate { wander, ..Rate::UNKNOWN.at(now) }, |seen| rate.hull(seen).within_max());
        Refuted::Widened
    }

    /// How often it was measured again from the start in the hour before it was last refuted.
    pub fn restarts(&self) -> usize {
        self.restarts.len()
    }

    /// The raw clock did not count all of the time. The machine may run on other hardware since.
    pub fn handle_pause(&mut self, now: Mono) {
        self.points.clear();
        self.rate = self.rate_if_paused(now).at(now).widened(AFTER_PAUSE.0).within_max();
    }

    /// The rate, if what has refuted it in the last minutes was a pause, which changes no rate.
    pub fn rate_if_paused(&self, now: Mono) -> Rate {
        let before = self.before.filter(|(at, _)| now.since(*at) < EXPLAINED_WITHIN);
        before.map_or(self.rate, |(_, rate)| rate)
    }

    /// Another clock counts now, so nothing is known of its rate.
    pub fn reset(&mut self, now: Mono) {
        self.points.clear();
        (self.rate, self.hold) = (Rate::UNKNOWN.at(now), POINTS_TO_LEARN);
    }

    /// What the servers agreed on so far is no evidence any more: it was made of samples that contradict the new ones.
    pub fn forget_points(&mut self) {
        self.points.clear();
    }

    /// Halves a wander that nothing has refuted for an hour.
    fn calm_down(&mut self, now: Mono) {
        if self.rate.wander > WANDER && now.since(self.wander_changed) >= HOUR {
            self.rate.wander = Ppb((self.rate.wander.0 / 2).max(WANDER.0));
            self.wander_changed = now;
        }
    }

    /// Keeps the points spread by their age: half of them are of the last minutes, and the oldest may be of
    /// hours ago. A wide interval needs a long base, a narrow one a short.
    fn thin_out(&mut self, now: Mono) {
        if self.points.len() <= MAX_POINTS {
            return;
        }
        let age = |index: usize| self.points.get(index).map_or(0, |point| nanos(now.since(point.at)));
        let crowded = (1..self.points.len() - 1).min_by_key(|&index| {
            let between = age(index - 1).saturating_sub(age(index + 1));
            i128::from(between) * 1_000_000 / i128::from(age(index).max(1))
        });
        if let Some(index) = crowded {
            self.points.remove(index);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use crate::time::Bound;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const SEC: i64 = 1_000 * MS;

    fn interval(middle: i64, half: i64) -> Interval {
        Interval::around(Wall::from_nanos(middle), Bound::from_nanos(half))
    }

    fn at(secs: i64) -> Mono {
        Mono::from_nanos(secs * SEC)
    }

    /// A tracker after these points: seconds, middle and half the width in ms.
    fn pools() -> BTreeSet<usize> {
        BTreeSet::from([0, 1])
    }

    fn after(points: &[(i64, i64, i64)]) -> RateTracker {
        let mut tracker = RateTracker::default();
        for &(secs, middle, half) in points {
            let _ = tracker.push(at(secs), interval(middle * MS, half * MS), &pools());
        }
        tracker
    }

    #[test]
    fn rates_are_unknown_before_the_second_point_and_bounds_grow_by_12_percent() {
        let rate = after(&[(100, 0, 1)]).rate();
        assert!(!rate.is_known());
        let later = rate.carry(interval(0, MS), at(100), at(102));
        assert!((later.bound().as_nanos() - 241 * MS).abs() < MS / 10, "{later:?}");
    }

    #[test]
    fn points_bound_the_rate_by_their_widths_over_their_distance() {
        let rate = after(&[(0, 0, 1), (100, 40, 1)]).rate();
        assert!((rate.middle().0 - 400_000).abs() < 20, "400 ppm after two points: {rate:?}");
        let first = after(&[(0, 0, 1), (100, 7_000, 1)]).rate();
        assert!(!first.is_known(), "7% need a third: {first:?}");
        let turn = after(&[(0, 0, 1), (2, 30, 1), (4, 0, 1)]).rate();
        assert!(!turn.is_known(), "two times in turn: {turn:?}");
        let rate = after(&[(0, 0, 1), (50, 3_500, 1), (100, 7_000, 1)]).rate();
        assert!((rate.middle().0 - 70_000_000).abs() < 20, "7%: {rate:?}");
        assert!((rate.bound().0 - 20_000 - 277).abs() < 5, "2 ms in 100 s + 20 ppm/h for 50 s: {rate:?}");
    }

    #[test]
    fn all_points_together_bound_the_rate() {
        let wide = after(&[(0, 0, 1), (1_000, 0, 9)]).rate();
        let both = after(&[(0, 0, 1), (500, 0, 1), (1_000, 0, 9)]).rate();
        assert!(both.bound() < wide.bound(), "{both:?} {wide:?}");
    }

    #[test]
    fn carrying_back_and_forth_contains_the_start() {
        let rate = after(&[(0, 0, 1), (500, 1_500, 1), (1_000, 3_000, 1)]).rate();
        let start = interval(5, MS);
        let there = rate.carry(start, at(900), at(2_000));
        assert!((there.middle().as_nanos() - 3 * 1_100 * MS).abs() < 10 * MS, "3,000 ppm for 1,100 s");
        let back = rate.carry(there, at(2_000), at(900));
        assert!(back.low <= start.low && start.high <= back.high);
        let earlier = rate.carry(start, at(2_000), at(900));
        assert!((earlier.middle().as_nanos() + 3 * 1_100 * MS).abs() < 10 * MS);
    }

    #[test]
    fn rates_that_the_points_refute_start_again_three_times_an_hour_and_then_widen() {
        let mut tracker = after(&[(0, 0, 1), (1_000, 0, 1)]);
        let mut origin = 0;
        for n in 1..=3 {
            origin += 20 * SEC;
            assert_eq!(
                tracker.push(at(1_000 + n * 64), interval(origin, MS), &pools()),
                Err(Refuted::Restart)
            );
            assert!(!tracker.rate().is_known());
            // The second point shows a rate again.
            assert_eq!(tracker.push(at(1_000 + n * 64 + 32), interval(origin, MS), &pools()), Ok(()));
            assert!(tracker.rate().is_known());
        }
        let before = tracker.rate();
        assert_eq!(tracker.push(at(1_300), interval(origin + 300 * MS, MS), &pools()), Err(Refuted::Widened));
        let after = tracker.rate();
        assert_eq!(after.wander, Ppb(2 * WANDER.0));
        assert!(after.low <= before.low && after.high.0 > 2_500_000, "300 ms in 76 s are allowed: {after:?}");
        assert_eq!(tracker.push(at(1_300 + 3_600), interval(origin + 300 * MS, MS), &pools()), Ok(()));
        assert_eq!(tracker.rate().wander, WANDER, "an hour later");
    }

    #[test]
    fn rates_are_kept_after_a_pause_and_widened() {
        let mut tracker = after(&[(0, 0, 1), (500, 1_500, 1), (1_000, 3_000, 1)]);
        let before = tracker.rate();
        tracker.handle_pause(at(1_001));
        let after = tracker.rate();
        assert_eq!(before.middle(), after.middle());
        assert!((after.bound().0 - before.bound().0 - AFTER_PAUSE.0).abs() < 10);
        assert_eq!(
            tracker.push(at(1_002), interval(90 * SEC, MS), &pools()),
            Ok(()),
            "the jump of the pause shows no rate"
        );
        tracker.reset(at(1_003));
        assert!(!tracker.rate().is_known());
    }

    #[test]
    fn points_are_kept_for_hours_and_stay_few() {
        let mut tracker = RateTracker::default();
        for minute in 0..600 {
            tracker.push(at(minute * 60), interval(0, 150 * MS), &pools()).unwrap();
        }
        assert_eq!(tracker.points.len(), MAX_POINTS);
        let oldest = tracker.points.front().unwrap().at;
        assert!(at(599 * 60).since(oldest) > HOUR * 3, "{oldest:?}");
        let young =
            tracker.points.iter().filter(|point| at(599 * 60).since(point.at) < Duration::from_secs(600));
        assert!(young.count() >= 5);
        // 300 ms of round trip: the best base is about 3 h long, and gives 2 x 300 ms / 10,400 s + wander.
        assert!(tracker.rate().bound() < Ppb::from_ppm(65), "{:?}", tracker.rate());
    }

    /// For an oscillator that changes by up to 20 ppm an hour, and any true intervals, the carried interval
    /// holds the true origin, and nothing is refuted.
    #[test]
    fn carried_intervals_hold_the_truth() {
        let reached = Reached::new([
            ("outside without the wander since the last point", 20),
            ("outside at the middle of the rates", 20),
            ("more points than are kept", 10),
        ]);
        // Narrow intervals show a change of the rate, wide ones hide it.
        let measurements = proptest::sample::select(vec![1_000i64, 1_000_000, 30_000_000])
            .prop_flat_map(|half| proptest::collection::vec((2i64..300, 1i64..half, -1.0f64..1.0), 2..60));
        proptest!(|(
            ppm in -100_000i64..110_000,
            slope in prop_oneof![-20_000i64..=20_000, Just(-20_000), Just(20_000)],
            measurements in measurements,
            ahead in prop_oneof![0i64..2_000, 0i64..20_000],
        )| {
            let truth = |t: Mono| {
                let secs = t.as_nanos() / SEC;
                // ppb per hour over s^2 / 2.
                let bent = i128::from(slope) * i128::from(secs) * i128::from(secs) / 7_200;
                Wall::from_nanos(Ppb::from_ppm(ppm).over(Duration::from_nanos(t.as_nanos().unsigned_abs())) + i64::try_from(bent).unwrap())
            };
            let mut tracker = RateTracker::default();
            let count = measurements.len();
            let (mut now, mut last) = (at(1), None);
            for (step, half, error) in measurements {
                now = now.plus(Duration::from_secs(step.unsigned_abs()));
                #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a test value")]
                let seen = Interval::around(truth(now).plus(Offset::from_nanos((half as f64 * error) as i64)), Bound::from_nanos(half + 2));
                prop_assert_eq!(tracker.push(now, seen, &pools()), Ok(()));
                last = Some((now, seen));
            }
            let (then, seen) = last.unwrap();
            let later = then.plus(Duration::from_secs(ahead.unsigned_abs()));
            let carried = tracker.rate().carry(seen, then, later);
            let true_then = truth(later);
            prop_assert!(carried.low <= true_then && true_then <= carried.high, "{:?} outside {:?}", true_then, carried);
            let is_outside = |rate: Rate| {
                let carried = rate.carry(seen, then, later);
                true_then < carried.low || carried.high < true_then
            };
            let rate = tracker.rate();
            reached.case("outside without the wander since the last point", is_outside(Rate { wander: Ppb(0), ..rate }));
            reached.case("outside at the middle of the rates", is_outside(Rate::exactly(rate.middle())));
            reached.case("more points than are kept", count > MAX_POINTS);
        });
    }

    /// For points without an order, and for points of one clock and its steps.
    #[test]
    fn trackers_never_panic() {
        let reached =
            Reached::new([("a known rate", 20), ("a refuted rate", 20), ("a rate that is widened", 15)]);
        let anywhere = proptest::collection::vec((any::<i64>(), any::<i64>(), any::<i64>()), 1..40);
        let origin = prop_oneof![5 => 0..MS, 1 => -100 * SEC..100 * SEC];
        let onwards = proptest::collection::vec((0..100 * SEC, origin, 0..MS), 1..40).prop_map(|steps| {
            steps
                .into_iter()
                .scan(0, |then, (step, middle, half)| {
                    *then += step;
                    Some((*then, middle, half))
                })
                .collect::<Vec<_>>()
        });
        proptest!(|(points in prop_oneof![anywhere.boxed(), onwards.boxed()])| {
            let mut tracker = RateTracker::default();
            let mut refuted = Vec::new();
            for (then, middle, half) in points {
                refuted.extend(tracker.push(Mono::from_nanos(then), interval(middle, half), &pools()).err());
                let Rate { low, high, .. } = tracker.rate();
                prop_assert!(-MAX_RATE.0 <= low.0 && low <= high && high <= MAX_RATE);
                let _ = tracker.rate().carry(interval(half, middle), Mono::from_nanos(half), Mono::from_nanos(then));
            }
            reached.case("a known rate", tracker.rate().is_known());
            reached.case("a refuted rate", refuted.contains(&Refuted::Restart));
            reached.case("a rate that is widened", refuted.contains(&Refuted::Widened));
        });
    }

    #[test]
    fn after_a_pause_the_old_rate_is_500_ppm_wider() {
        let mut tracker = after(&[(0, 0, 1), (1_000, 0, 1)]);
        let before = tracker.rate();
        tracker.handle_pause(at(1_000));
        let wider = tracker.rate().bound().0 - before.bound().0;
        assert!((500_000..500_010).contains(&wider), "{wider}");
    }

    #[test]
    fn a_pause_explains_what_refuted_the_rate_in_the_last_five_minutes_only() {
        let refuted = |found_out: i64| {
            let mut tracker = after(&[(0, 0, 1), (1_000, 0, 1)]);
            let _ = tracker.push(at(1_064), interval(20 * SEC, MS), &pools());
            assert!(!tracker.rate().is_known());
            tracker.rate_if_paused(at(1_064 + found_out)).is_known()
        };
        assert!(refuted(1) && refuted(299));
        assert!(!refuted(300) && !refuted(3_000));
    }
}
