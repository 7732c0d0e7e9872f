use super::*;
use crate::nodes::samples::{measured, node, now};
use drift_core::time::{Bound, Measurement, Offset};

const LAST: &str =
    "2026-11-22T09:00:00Z before=-20.0013 after=+0.0002 method=kernel trigger=pause in-hour=1 total=20.0013";

fn options() -> TableOptions {
    TableOptions { style: Style::PLAIN, wide: false, headers: true, worst: None }
}

fn rows() -> Vec<Row> {
    let mut drifting = measured("n1", "drifting", 3_000, 2, 185);
    drifting.exceeded_since = Field::Value(now().at.plus(Offset::from_nanos(-3_600_000_000_000)));
    drifting.last_step = Field::Value(LAST.parse().unwrap());
    drifting.zone = Some("eu-1a".into());
    drifting.pools = Some("a.example=+3.0001 b.example=+3.0002".into());
    vec![
        node("n5", &[]),
        measured("n2", "in-sync", -12, 3, 60),
        node("n3", &[("clock-state", "unknown"), ("pools", "a.example=unknown")]),
        measured("n4", "in-sync", 40, 3, 7_200 * 10),
        node("n6", &[("clock-state", "\u{1b}[31m"), ("offset-seconds", "\u{7}")]),
        drifting,
    ]
}

#[test]
fn table_lists_every_state_with_its_summary() {
    let fleet = Fleet::new(rows(), now());
    assert_eq!(
        text(&fleet, options()),
        "\
NODE  STATE          OFFSET        BOUND  SINCE  OBSERVED      LAST STEP             ZONE
n1    drifting       3 s behind    ±2 ms  1 h    3 min         20.0 s back, 1 h ago  eu-1a
n4    in-sync        40 ms behind  ±3 ms  -      20 h (stale)  -                     -
n3    unknown        -             -      -      -             -                     -
n6    \"\\u{1b}[31m\"?  \"\\u{7}\"?      -      -      - (stale)     -                     -
n2    in-sync        12 ms ahead   ±3 ms  -      1 min         -                     -
n5    no agent       -             -      -      -             -                     -

6 Nodes: 1 drifting, 1 unknown, 1 unreadable, 2 in-sync, 1 without an agent; 2 stale.
Worst pair: n1 (3 s behind) and n2 (12 ms ahead), 3.01 s apart (±5 ms when measured, ±54 ms by now).
Without an agent: n5.
Recommended leeway for verifiers of tokens: 5 s, as far as 2 of 6 Nodes are measured.
"
    );
}

#[test]
fn wide_worst_and_no_headers_change_the_table() {
    let fleet = Fleet::new(rows(), now());
    let shown = text(&fleet, TableOptions { wide: true, headers: false, worst: Some(1), ..options() });
    let mut lines = shown.lines();
    assert!(lines.next().unwrap().ends_with("eu-1a  a.example=+3.0001 b.example=+3.0002"), "{shown}");
    assert_eq!(lines.next(), Some(""));
    assert!(
        lines.next().unwrap().ends_with("2 stale. The 1 worst are shown."),
        "the summary covers all: {shown}"
    );
}

#[test]
fn colours_are_used_only_with_a_style() {
    let fleet = Fleet::new(rows(), now());
    assert!(!text(&fleet, options()).contains('\u{1b}'));
    let painted = text(&fleet, TableOptions { style: Style::PAINTED, ..options() });
    assert!(painted.contains("n1    \u{1b}[1;31mdrifting\u{1b}[0m "), "{painted}");
    assert!(painted.contains("\u{1b}[1;33m20 h (stale)\u{1b}[0m"), "{painted}");
    let unpainted =
        painted.replace("\u{1b}[1;31m", "").replace("\u{1b}[1;32m", "").replace("\u{1b}[1;33m", "");
    assert_eq!(unpainted.replace("\u{1b}[2m", "").replace("\u{1b}[0m", ""), text(&fleet, options()));
}

#[test]
fn fleets_without_a_measurement_have_no_recommended_leeway() {
    let none = Fleet::new(vec![node("a", &[]), node("b", &[])], now());
    let output = text(&none, options());
    assert!(
        output.contains("2 Nodes: 2 without an agent.\nWithout an agent: a, b.\nNo leeway is recommended"),
        "{output}"
    );
    assert_eq!(text(&Fleet::new(Vec::new(), now()), options()), "No Node matches.\n");
}

#[test]
fn long_lists_are_cut_off_with_a_count() {
    assert_eq!(list(&["a", "b", "c", "d", "e"]), "a, b, c, d, e");
    assert_eq!(list(&["a", "b", "c", "d", "e", "f", "g"]), "a, b, c, d, e and 2 more");
}

#[test]
fn clocks_that_are_certainly_off_are_mentioned() {
    let at = |by, machine, rows: Vec<Row>| clocks(&Fleet { rows, now: Now { by, machine, ..now() } });
    let ms = |offset: i64, bound: i64| {
        Some(Measurement::new(Offset::from_nanos(offset * 1_000_000), Bound::from_nanos(bound * 1_000_000)))
    };
    assert!(at(Source::ApiServer, ms(900, 500), Vec::new()).is_empty());
    assert!(at(Source::ApiServer, ms(-1_500, 500), Vec::new()).is_empty(), "more than 1 s is not certain");
    assert_eq!(
        at(Source::ApiServer, ms(-37_000, 510), Vec::new()),
        ["This machine's clock is 37 s ahead of the API server's (±510 ms): ages are by the API server's."]
    );
    assert_eq!(
        at(Source::ApiServer, ms(37_000, 510), Vec::new()),
        ["This machine's clock is 37 s behind the API server's (±510 ms): ages are by the API server's."]
    );
    let lines = at(
        Source::ThisMachine,
        None,
        vec![measured("n1", "in-sync", 1, 1, -9), measured("n2", "in-sync", 1, 1, -1)],
    );
    assert!(lines[0].starts_with("Ages are by this machine's clock"), "{lines:?}");
    assert!(lines[1].starts_with("Observed in the future: n1."), "{lines:?}");
}
