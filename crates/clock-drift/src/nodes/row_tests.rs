use super::*;
use crate::nodes::now::Source;
use crate::nodes::samples::{NOW, node, now};
use crate::test_support::Reached;
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
        ("time-daemon-audit", "sources=perhaps"),
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
        let uses = ["clock-state", "exceeded-since", "last-step", "time-daemon-audit"].contains(&key);
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

#[test]
fn reading_any_annotations_never_panics_and_escapes_them() {
    let reached = Reached::new([
        ("an offset", 8),
        ("a bound", 8),
        ("a time", 8),
        ("a current measurement", 1),
        ("unreadable text", 30),
        ("text that is cut off", 20),
    ]);
    let text = prop_oneof![
        2 => "\\PC{0,80}|.{0,80}|[-+0-9.eE]{0,20}|20[0-9TZ:.+-]{0,24}",
        1 => "20[0-9]{2}-1[0-2]-[012][1-8]T[01][0-9]:[0-5][0-9]:[0-5][0-9]Z",
        1 => "in-sync|drifting",
    ];
    // Most observations are measured from, within an hour.
    let observed = prop_oneof![
        text.clone().boxed(),
        (-3_600i64..0)
            .prop_map(|secs| now().at.plus(Offset::from_nanos(secs * 1_000_000_000)).rfc3339(0))
            .boxed()
    ];
    let number = "-?[0-9]{1,4}(\\.[0-9]{1,9})?";
    let good = proptest::option::of(("in-sync|drifting", number, number));
    let texts =
        (proptest::collection::vec(text, 8), observed, good).prop_map(|(mut texts, observed, good)| {
            texts[3] = observed;
            if let Some((state, offset, bound)) = good {
                (texts[0], texts[1], texts[2]) = (state, offset, bound);
            }
            texts
        });
    proptest!(|(texts in texts, at in prop_oneof![any::<i64>(), Just(now().at.as_nanos())])| {
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
        reached.case("an offset", row.offset.value().is_some());
        reached.case("a bound", row.bound.value().is_some());
        reached.case("a time", row.observed(&now).is_some());
        reached.case("a current measurement", row.current(&now).is_some());
        reached.case("unreadable text", !row.unreadable().is_empty());
        reached.case("text that is cut off", shown.contains('…'));
    });
}
