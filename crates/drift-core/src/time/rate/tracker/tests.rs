//! Rates over time: what points show, what refutes them, and that carried intervals hold the truth.

use super::*;
use crate::test_support::Reached;
use crate::time::Bound;
use crate::time::rate::*;
use proptest::prelude::*;

const MS: i64 = 1_000_000;
const SEC: i64 = 1_000 * MS;

fn interval(middle: i64, half: i64) -> Interval {
    Interval::around(Wall::from_nanos(middle), Bound::from_nanos(half))
}

fn at(secs: i64) -> Mono {
    Mono::from_nanos(secs * SEC)
}

fn pools() -> BTreeSet<usize> {
    BTreeSet::from([0, 1])
}

/// A tracker after these points: seconds, middle and half the width in ms.
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
        assert_eq!(tracker.push(at(1_000 + n * 64), interval(origin, MS), &pools()), Err(Refuted::Restart));
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
    let mut tracker = after(&[(0, 0, 1), (500, 1_500, 1), (1_000, 3_000, 1), (1_400, 4_200, 1)]);
    let before = tracker.rate();
    tracker.handle_pause(at(1_401));
    let after = tracker.rate();
    assert_eq!(before.middle(), after.middle());
    assert!((after.bound().0 - before.bound().0 - AFTER_PAUSE.0).abs() < 10);
    assert_eq!(
        tracker.push(at(1_402), interval(90 * SEC, MS), &pools()),
        Ok(()),
        "the jump of the pause shows no rate"
    );
    tracker.reset(at(1_403));
    assert!(!tracker.rate().is_known());
}

/// A pause that is found out about late, and that begins before a rate is known, looks like a rate.
#[test]
fn rates_that_are_not_ordinary_are_not_kept_after_a_pause_soon_after_they_were_learnt() {
    let learnt = |ppm: i64, found_out: i64| {
        let points = [0, 500, 1_000].map(|secs| (secs, secs * ppm / 1_000, 1));
        let mut tracker = after(&points);
        assert!(tracker.rate().is_known());
        tracker.handle_pause(at(1_000 + found_out));
        tracker.rate().is_known()
    };
    assert!(!learnt(3_000, 1) && !learnt(3_000, 299));
    assert!(learnt(3_000, 300) && learnt(300, 1));
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
    let young = tracker.points.iter().filter(|point| at(599 * 60).since(point.at) < Duration::from_secs(600));
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
    let mut tracker = after(&[(0, 0, 1), (1_000, 0, 1), (1_100, 0, 1)]);
    let before = tracker.rate();
    tracker.handle_pause(at(1_100));
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

#[test]
fn a_rate_learnt_in_the_minutes_before_it_is_refuted_is_that_of_the_clock_only_if_it_is_ordinary() {
    // Ordinary by the first two points, which are wide; the third makes it what it is.
    let if_paused = |gained: i64| {
        let mut tracker = after(&[(0, 0, 40), (20, gained, 40), (40, 2 * gained, 1)]);
        let learnt = tracker.rate();
        let _ = tracker.push(at(60), interval(20 * SEC, MS), &pools());
        (learnt, tracker.rate_if_paused(at(61)))
    };
    let (learnt, rate) = if_paused(0);
    assert!(learnt.is_known());
    assert_eq!(rate, learnt);
    let (learnt, rate) = if_paused(60);
    assert!(!learnt.is_ordinary(), "{learnt:?}");
    assert!(!rate.is_known(), "it may be that of a pause: {rate:?}");
}

#[test]
fn a_pause_after_a_change_of_the_clock_brings_no_old_rate_back() {
    let mut tracker = after(&[(0, 0, 1), (1_000, 0, 1)]);
    let _ = tracker.push(at(1_064), interval(20 * SEC, MS), &pools());
    tracker.reset(at(1_070));
    tracker.handle_pause(at(1_080));
    assert!(!tracker.rate().is_known(), "{:?}", tracker.rate());
}

#[test]
fn a_pause_that_has_bent_a_wide_rate_brings_the_wide_one_back() {
    // ±2,000 ppm, and then 20 ms lost within 30 s before the pause is known.
    let bent = || after(&[(0, 0, 10), (10, 0, 10), (40, 20, 1)]);
    let mut tracker = bent();
    assert!(tracker.rate().intersection(Rate::exactly(Ppb(0))).is_none(), "{:?}", tracker.rate());
    tracker.handle_pause(at(41));
    let rate = tracker.rate();
    assert!(
        rate.intersection(Rate::exactly(Ppb(0))).is_some() && rate.bound() > Ppb::from_ppm(1_000),
        "{rate:?}"
    );
    let mut tracker = bent();
    tracker.handle_pause(at(101));
    assert!(tracker.rate().bound() < Ppb::from_ppm(1_000), "a minute later: {:?}", tracker.rate());
}
