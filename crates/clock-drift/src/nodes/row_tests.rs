use super::*;
use crate::nodes::now::Source;
use crate::nodes::samples::{NOW, node, now};
use proptest::prelude::*;
use serde_json::json;

#[test]
fn nodes_without_annotations_of_the_agent_have_no_agent() {
    for metadata in [
        json!({"name": "n0"}),
        json!({"name": "n0", "annotations": {"x": "y"}}),
        json!({"annotations": null}),
    ] {
        let row = Row::read(serde_json::from_value(json!({"metadata": metadata})).unwrap());
        assert_eq!(row.reported, ReportedState::NoAgent);
        assert!(row.unreadable().is_empty() && row.measured().is_none());
    }
    let some = node("n0", &[("offset-seconds", "0.1")]);
    assert_eq!(
        some.reported,
        ReportedState::Unrecognised(String::new()),
        "an annotation of the agent is present, but no state"
    );
}

#[test]
fn unreadable_annotations_are_listed_and_not_used() {
    for (key, text) in [
        ("clock-state", "fine"),
        ("clock-state", "Drifting"),
        ("offset-seconds", "132ms"),
        ("offset-seconds", "NaN"),
        ("offset-seconds", "inf"),
        ("offset-seconds", "1e300"),
        ("offset-seconds", ""),
        ("offset-bound-seconds", "-0.1"),
        ("observed-at", "yesterday"),
        ("exceeded-since", "2026-13-01T00:00:00Z"),
        ("last-step", "once"),
    ] {
        let whole = [
            ("clock-state", "in-sync"),
            ("offset-seconds", "0.1"),
            ("offset-bound-seconds", "0.1"),
            ("observed-at", NOW),
        ];
        let mut all: Vec<_> = whole.into_iter().filter(|(k, _)| *k != key).collect();
        all.push((key, text));
        let row = node("n0", &all);
        assert_eq!(row.unreadable(), [(key, text)]);
        let uses = ["clock-state", "exceeded-since", "last-step"].contains(&key);
        assert_eq!(row.current(&now()).is_some(), uses, "{key}");
    }
}

#[test]
fn measurements_are_stale_after_two_heartbeats() {
    let at = |seconds: i64| {
        let observed = now().at.plus(Offset::from_nanos(-seconds * 1_000_000_000)).rfc3339(0);
        node(
            "n0",
            &[
                ("clock-state", "in-sync"),
                ("offset-seconds", "0.1"),
                ("offset-bound-seconds", "0"),
                ("observed-at", &observed),
            ],
        )
    };
    assert_eq!(STALE_AFTER.as_secs(), 1_320);
    for (seconds, stale) in [(0, false), (1_320, false), (1_321, true), (-3_600, false)] {
        assert_eq!(
            (at(seconds).is_stale(&now()), at(seconds).current(&now()).is_none()),
            (stale, stale),
            "{seconds}"
        );
    }
    let undated =
        node("n0", &[("clock-state", "in-sync"), ("offset-seconds", "0.1"), ("offset-bound-seconds", "0")]);
    assert!(undated.is_stale(&now()), "its age is unknown");
    let never = node("n0", &[("clock-state", "unknown"), ("pools", "a=unknown")]);
    assert!(!never.is_stale(&now()), "no measurement, so none that is stale");
}

#[test]
fn control_and_direction_characters_are_escaped() {
    assert_eq!(
        escape_for_terminal("\u{1b}[2J\r\n\u{202e}abc\u{9b}", 99),
        "\\u{1b}[2J\\r\\n\\u{202e}abc\\u{9b}"
    );
    assert_eq!(escape_for_terminal("3 ms (±41 µs)", 99), "3 ms (±41 µs)");
    assert_eq!(escape_for_terminal("abcdef", 3), "abc…");
    let row = node("n0", &[("clock-state", "\u{1b}]0;x\u{7}")]);
    assert_eq!(row.reported, ReportedState::Unrecognised("\\u{1b}]0;x\\u{7}".into()));
}

proptest! {
    #[test]
    fn reading_any_annotations_never_panics_and_escapes_them(texts in proptest::collection::vec("\\PC{0,80}|.{0,80}|[-+0-9.eE]{0,20}|20[0-9TZ:.+-]{0,24}", 8), at: i64) {
        let keys = ["clock-state", "offset-seconds", "offset-bound-seconds", "observed-at", "exceeded-since", "pools", "last-step", "step-result"];
        let all: Vec<(&str, &str)> = keys.into_iter().zip(texts.iter().map(String::as_str)).collect();
        let row = node("n0", &all);
        let now = Now { at: Wall::from_nanos(at), by: Source::ApiServer, machine: None };
        let _ = (row.current(&now), row.is_stale(&now), row.observed(&now).map(Age::in_words));
        let shown: String = row.unreadable().iter().map(|(_, text)| *text).collect();
        prop_assert!(shown.chars().all(|c| matches!(c, ' '..='~' | '±' | 'µ' | '…')));
        // Cut off, with an ellipsis.
        prop_assert!(row.unreadable().iter().all(|(_, text)| text.chars().count() <= CELL_CHARS_MAX + 1));
        prop_assert!(row.bound.value().is_none_or(|bound| texts[2].parse::<f64>().unwrap() > -1e-9 && bound.as_nanos() >= 0));
    }
}
