//! What is exported in simulated worlds.

use std::time::Duration;

use super::*;
use crate::http::clock::Clock;
use crate::sim::behaviour::{Behaviour, ServerModel};
use crate::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::time::{Ppb, Wall};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// One server for each pool, with this behaviour, without jitter and loss.
fn world(pools: &[Behaviour], round_trip: Duration, interval: Duration, error: Ppb) -> World {
    let path = Path { there: round_trip / 2, back: round_trip / 2, jitter: Duration::ZERO, loss: 0.0 };
    let host = |behaviour| vec![Host { model: ServerModel::new(behaviour), path }];
    let stale_after = interval * 10;
    World::new(Plan {
        seed: 5,
        present: Wall::from_secs(1_795_341_600),
        offset: Offset::ZERO,
        oscillator: Oscillator { error, swing: Ppb(0), period: SECOND },
        rtc_ahead: Offset::ZERO,
        pools: pools.iter().copied().map(host).collect(),
        settings: drift_core::machine::Settings { interval, stale_after, ..default_settings() },
        api_errors: 0.0,
        steps_work: true,
    })
}

/// The same at 2 ms and 64 s, after a minute.
fn after_a_minute(pools: &[Behaviour]) -> Snapshot {
    let mut world = world(pools, MS * 2, SECOND * 64, Ppb(0));
    world.run_until(SECOND * 60, |_| Ok(())).unwrap();
    world.snapshot()
}

fn ahead(millis: i64) -> Behaviour {
    Behaviour::Offset(Offset::from_nanos(millis * 1_000_000))
}

/// The value of this series, without the prefix.
fn value(exposition: &str, series: &str) -> Option<f64> {
    let line = exposition.lines().find_map(|line| line.strip_prefix("drift_agent_")?.strip_prefix(series));
    line?.strip_prefix(' ')?.parse().ok()
}

fn falsetickers(exposition: &str, pools: usize) -> Vec<Option<f64>> {
    (0..pools).map(|n| value(exposition, &format!("pool_falseticker{{pool=\"pool-{n}.invalid\"}}"))).collect()
}

#[test]
fn frequency_and_its_bound_are_exported_from_the_second_measurement_on_at_any_round_trip_and_interval() {
    let mut cases = 0;
    for round_trip in [300, 20_000, 150_000, 700_000].map(Duration::from_micros) {
        for interval in [1, 16, 64, 1_024].map(Duration::from_secs) {
            for ppm in [0_i32, 300, -2_000, 70_000] {
                // Positive: the oscillator is fast.
                let mut world =
                    world(&[Behaviour::Honest; 2], round_trip, interval, Ppb::from_ppm(i64::from(-ppm)));
                let mut second = Vec::new();
                for tenth in 1..=200 {
                    world.run_until(SECOND * tenth / 10, |_| Ok(())).unwrap();
                    second.push(render(&world.snapshot(), None));
                }
                let known = |text: &String| value(text, "frequency_error_ratio").is_some();
                let first = second.iter().position(known).unwrap_or(usize::MAX);
                // Two measurements of a far site, seconds apart, do not show more than the 12% that is assumed.
                let latest = if round_trip > MS * 200 { 120 } else { 45 };
                assert!(
                    first <= latest,
                    "{round_trip:?} {interval:?} {ppm} ppm: after {first} tenths of a second"
                );
                for text in second.iter().skip(first) {
                    let ratio = value(text, "frequency_error_ratio").unwrap();
                    let bound = value(text, "frequency_error_bound_ratio").unwrap();
                    let gained = f64::from(ppm) / (1e6 - f64::from(ppm));
                    assert!((ratio - gained).abs() <= bound, "{ppm} ppm: {ratio} ± {bound}");
                    cases += 1;
                }
                assert!(second.iter().take(first).all(|text| !text.contains("frequency_error_bound_ratio ")));
            }
        }
    }
    assert!(cases > 64 * 100, "{cases}");
}

#[test]
fn pools_outside_the_majority_are_falsetickers_from_three_pools_on() {
    let three = render(&after_a_minute(&[Behaviour::Honest, ahead(10_000), Behaviour::Honest]), None);
    assert_eq!(falsetickers(&three, 3), [0.0, 1.0, 0.0].map(Some));
    assert_eq!(value(&three, "state{state=\"in-sync\"}"), Some(1.0));
    assert_eq!(value(&three, "pools_agreeing"), Some(2.0));
    let two = render(&after_a_minute(&[Behaviour::Honest, ahead(10_000)]), None);
    assert_eq!(
        (falsetickers(&two, 2), value(&two, "pools_agreeing")),
        ([0.0; 2].map(Some).into(), Some(0.0))
    );
    assert_eq!(value(&two, "state{state=\"disagree\"}"), Some(1.0));
}

#[test]
fn contradicting_pools_that_are_all_over_the_threshold_are_exported_as_one_drift() {
    let snapshot = after_a_minute(&[ahead(5_000), ahead(5_020)]);
    let text = render(&snapshot, None);
    assert_eq!(value(&text, "state{state=\"drifting\"}"), Some(1.0));
    let (offset, bound) =
        (value(&text, "offset_seconds").unwrap(), value(&text, "offset_bound_seconds").unwrap());
    assert!((offset - 5.010).abs() < 0.001 && (0.010..0.05).contains(&bound), "{offset} ± {bound}");
    assert_eq!(value(&text, "pools_agreeing"), Some(0.0), "the contradiction stays visible");
    assert!(value(&text, "estimate_age_seconds").is_some_and(|age| age < 60.0), "{text}");
    let sentence = snapshot.sentence();
    assert!(
        sentence.contains("5.01 s behind (±") && sentence.contains("The pools differ by 20"),
        "{sentence}"
    );
    let Ok(clock) = Clock::new(&snapshot) else { panic!("no clock") };
    assert_eq!(serde_json::to_value(&clock).unwrap()["state"], "drifting");
    assert!(
        snapshot.reference.unwrap().minus(snapshot.node_time).as_nanos() > 5_000_000_000,
        "published times are not the node's"
    );
}

#[test]
fn pools_that_look_like_one_server_are_not_independent() {
    let mut snapshot = after_a_minute(&[Behaviour::Honest; 2]);
    assert_eq!(value(&render(&snapshot, None), "pools_independent"), Some(1.0));
    snapshot.pools_independent = Some(false);
    assert_eq!(value(&render(&snapshot, None), "pools_independent"), Some(0.0));
    snapshot.pools_independent = None;
    assert_eq!(value(&render(&snapshot, None), "pools_independent"), None);
}

#[test]
fn the_leeway_of_a_far_site_rests_on_what_is_known_without_a_verdict() {
    let mut world = world(&[Behaviour::Honest; 2], MS * 260, SECOND * 64, Ppb(0));
    world.run_until(SECOND * 3_600, |_| Ok(())).unwrap();
    let snapshot = world.snapshot();
    let text = render(&snapshot, None);
    assert_eq!(value(&text, "state{state=\"unknown\"}"), Some(1.0));
    assert_eq!(value(&text, "recommended_leeway_seconds"), Some(5.0), "{:?}", snapshot.leeway);
    assert!(snapshot.leeway.reason.starts_with("this clock is "), "{}", snapshot.leeway.reason);
    let sentence = snapshot.sentence();
    assert!(
        sentence.contains("(±13")
            && sentence.ends_with("wider than the threshold of 100 ms, so no verdict is possible."),
        "{sentence}"
    );
}

#[test]
fn one_pool_alone_is_marked_for_scrapes_and_workloads() {
    for (pools, marked) in [(1, true), (2, false)] {
        let snapshot = after_a_minute(&vec![Behaviour::Honest; pools]);
        assert_eq!(value(&render(&snapshot, None), "single_pool"), Some(f64::from(u8::from(marked))));
        let clock = serde_json::to_value(Clock::new(&snapshot).unwrap()).unwrap();
        assert_eq!(clock["singlePool"], marked, "{clock}");
    }
}

#[test]
fn assumed_bounds_are_marked_for_scrapes_and_workloads() {
    let mut snapshot = after_a_minute(&[Behaviour::Honest; 2]);
    for assumed in [None, Some(MS * 20)] {
        snapshot.pools[1].assumed_root_distance = assumed;
        let (text, marked) = (render(&snapshot, None), f64::from(u8::from(assumed.is_some())));
        assert_eq!(value(&text, "offset_bound_is_assumed"), Some(marked));
        let of_pool =
            |n: usize| value(&text, &format!("pool_root_distance_is_assumed{{pool=\"pool-{n}.invalid\"}}"));
        assert_eq!([of_pool(0), of_pool(1)], [Some(0.0), Some(marked)]);
        let clock = serde_json::to_value(Clock::new(&snapshot).unwrap()).unwrap();
        assert_eq!(clock["assumed"], assumed.is_some(), "{clock}");
    }
}
