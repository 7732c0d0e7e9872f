use super::*;
use crate::nodes::samples::{measured, node, now};
use crate::test_support::Reached;
use drift_core::time::Measurement;
use proptest::prelude::*;

fn of(a: &Row, b: &Row) -> String {
    text(a, b, &now()).unwrap()
}

#[test]
fn tokens_of_the_node_that_is_ahead_do_not_verify_at_once() {
    let (slow, right) =
        (measured("slow", "drifting", 3_000, 2, 59), measured("right", "in-sync", -12, 3, 119));
    assert_eq!(
        of(&right, &slow),
        "right was 12 ms ahead (±3 ms), measured 119 s ago; slow was 3 s behind (±2 ms), measured 59 s ago.\n\
         So right is 3.01 s ahead of slow: ±5 ms when measured, ±41 ms with what the clocks may have done since.\n\
         \n\
         A token issued on right, verified on slow:\n  \
           It does not verify at once: there it was issued in the future (iat, nbf), for 3.01 s (±41 ms).\n  \
           It expires there up to 3.05 s late (exp).\n  \
           A leeway of 4 s is enough for iat and nbf, none for exp.\n\
         \n\
         A token issued on slow, verified on right:\n  \
           It verifies at once, without leeway (iat, nbf).\n  \
           It may expire there up to 3.05 s early (exp); one that lives no longer is never valid.\n  \
           It needs no leeway for iat and nbf, 4 s for exp.\n\
         \n\
         Recommended leeway: 5 s.\n"
    );
}

#[test]
fn statements_inside_the_bounds_are_conditional() {
    let (a, b) = (measured("a", "in-sync", 10, 2, 599), measured("b", "in-sync", 12, 3, 599));
    let text = of(&a, &b);
    assert!(text.contains("±5 ms when measured, ±245 ms with"), "200 ppm of 600 s, twice: {text}");
    let open = "It may not verify at once: there it may be issued up to 247 ms in the future (iat, nbf).";
    assert!(text.contains(open), "{text}");
    assert!(text.contains("It may expire there up to 243 ms early"), "{text}");
    assert!(text.contains("whole seconds"), "{text}");
    assert!(text.contains("A leeway of 1 s is enough for iat and nbf, 1 s for exp."), "{text}");
}

#[test]
fn skews_below_a_second_are_open_because_of_whole_seconds() {
    let fresh = |millis| {
        let (a, b) = (measured("a", "in-sync", 0, 1, 0), measured("b", "in-sync", millis, 1, 0));
        Skew::between(&a, &b, &now()).unwrap().fresh()
    };
    assert_eq!(
        (fresh(500), fresh(1_001), fresh(1_003), fresh(-4)),
        (Fresh::Open, Fresh::Open, Fresh::NotYet, Fresh::Valid)
    );
}

#[test]
fn recommended_leeway_is_at_most_30_s() {
    let (a, b) = (measured("a", "drifting", 40_000, 2, 0), measured("b", "in-sync", 0, 3, 0));
    assert!(of(&a, &b).contains("Recommended leeway: 30 s, which is too little here"));
}

#[test]
fn nodes_without_a_recent_measurement_are_named() {
    let good = measured("good", "in-sync", 1, 1, 0);
    for (other, why) in [
        (node("x", &[]), "x has no measured offset (no-agent)"),
        (node("x", &[("clock-state", "disagree")]), "x has no measured offset (disagree)"),
        (measured("x", "in-sync", 1, 1, 7_200), "x was last measured 2 h ago"),
        (
            node("x", &[("clock-state", "in-sync"), ("offset-seconds", "0"), ("offset-bound-seconds", "0")]),
            "when x was measured is not known",
        ),
    ] {
        for output in [text(&good, &other, &now()), text(&other, &good, &now())] {
            let output = output.unwrap_err();
            assert!(output.starts_with(&format!("Cannot tell: {why}")), "{output}");
        }
    }
    let both = text(&node("x", &[]), &node("y", &[]), &now()).unwrap_err();
    assert!(both.contains("x has no") && both.contains("y has no"), "{both}");
}

fn row() -> impl Strategy<Value = Row> {
    (-5_000i64..5_000, 0i64..2_000, 0i64..1_300)
        .prop_map(|(offset, bound, ago)| measured("n", "in-sync", offset, bound, ago))
}

proptest! {
    #[test]
    fn both_directions_mirror_each_other(a in row(), b in row()) {
        let (there, back) = (Skew::between(&a, &b, &now()).unwrap(), Skew::between(&b, &a, &now()).unwrap());
        prop_assert_eq!(there.ahead.as_nanos(), -back.ahead.as_nanos());
        prop_assert_eq!((there.measured, there.now), (back.measured, back.now));
        prop_assert!(there.now > there.measured);
        prop_assert_eq!(there.most_ahead(), back.most_behind());
    }
}

/// Two rows, often as far apart that a statement about a token changes with their drift.
fn rows() -> impl Strategy<Value = (Row, Row)> {
    let place = prop_oneof![
        2 => (-10_000i64..10_000).prop_map(|by| (0, by)),
        3 => (-60_000i64..60_000).prop_map(|by| (0, by)),
        2 => (0i64..600).prop_map(|by| (-1, -by)),
        2 => (0i64..600).prop_map(|by| (1, by)),
        2 => (0i64..600).prop_map(|by| (1, 1_000 + by)),
    ];
    let clock = || (0i64..2_000, 0i64..1_300);
    (-5_000i64..5_000, place, clock(), clock()).prop_map(
        |(offset, (side, by), (own, ago), (other, other_ago))| {
            let apart = side * (own + other) + by;
            (
                measured("a", "in-sync", offset, own, ago),
                measured("b", "in-sync", offset + apart, other, other_ago),
            )
        },
    )
}

/// The clocks may be anywhere inside their bounds, and drift by up to 200 ppm since.
#[test]
fn statements_hold_for_every_clock_within_the_bounds() {
    let reached = Reached::new([
        ("verifies at once", 10),
        ("does not verify at once", 10),
        ("open", 10),
        ("a leeway that suffices", 30),
        ("a leeway that is too little", 3),
        ("as far ahead as stated", 6),
        ("as far behind as stated", 4),
    ]);
    let corner = |sign: f64| Just(([-sign, sign], [-sign * 0.000_2, sign * 0.000_2])).boxed();
    let anywhere =
        (proptest::array::uniform2(-1.0f64..=1.0), proptest::array::uniform2(-0.000_2f64..=0.000_2));
    proptest!(|((a, b) in rows(), (parts, drifts) in prop_oneof![anywhere.boxed(), corner(1.0), corner(-1.0)])| {
        let skew = Skew::between(&a, &b, &now()).unwrap();
        let truth = |row: &Row, part: f64, drift: f64| {
            let (Measurement { offset, bound }, age) = row.current(&now()).unwrap();
            offset.as_secs_f64() + bound.as_secs_f64() * part + f64::from(u32::try_from(age.as_secs()).unwrap()) * drift
        };
        // Both clocks at the moment the token is issued: node time is true time minus offset.
        let (issued, seen) = (-truth(&a, parts[0], drifts[0]), -truth(&b, parts[1], drifts[1]));
        let ahead = issued - seen;
        match skew.fresh() {
            Fresh::Valid => prop_assert!(seen >= issued),
            // iat is cut off to the second, which is less than a second before.
            Fresh::NotYet => prop_assert!(seen <= issued - 1.0),
            Fresh::Open => {}
        }
        reached.case("verifies at once", matches!(skew.fresh(), Fresh::Valid));
        reached.case("does not verify at once", matches!(skew.fresh(), Fresh::NotYet));
        reached.case("open", matches!(skew.fresh(), Fresh::Open));
        let is_end = |most: Duration, really: f64| most > Duration::ZERO && most.as_secs_f64() - really < 0.001;
        reached.case("as far ahead as stated", is_end(skew.most_ahead(), ahead));
        reached.case("as far behind as stated", is_end(skew.most_behind(), -ahead));
        prop_assert!(ahead <= skew.most_ahead().as_secs_f64() + 1e-9);
        prop_assert!(-ahead <= skew.most_behind().as_secs_f64() + 1e-9);
        let leeway = Leeway::covering(skew.ahead.magnitude(), skew.now);
        reached.case("a leeway that is too little", leeway.is_too_little);
        if reached.case("a leeway that suffices", !leeway.is_too_little) {
            prop_assert!(ahead.abs() <= f64::from(u32::try_from(leeway.seconds).unwrap()));
        }
    });
}
