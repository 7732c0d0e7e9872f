use super::*;
use crate::nodes::samples::{measured, node, now};

const STATES: [&str; 5] = ["in-sync", "drifting", "unknown", "disagree", "disrupted"];

#[test]
fn drifting_nodes_are_explained_with_every_section() {
    let mut row = measured("n1", "drifting", 3_000, 2, 59);
    row.exceeded_since = Field::Value(now().at.plus(Offset::from_nanos(-720_000_000_000)));
    row.message = Some("The clock is 3 s behind (±2 ms), over the threshold of 100 ms.".into());
    row.pools = Some("a.example=+3.0001 b.example=unknown".into());
    let last =
        "2026-11-22T07:00:00Z before=+20.0013 method=kernel trigger=pause in-hour=1 total=20.0013 latched";
    row.last_step = Field::Value(last.parse().unwrap());
    row.step_result = Some("7 refused: cool-down".into());
    assert_eq!(
        text(&row, &now()),
        "\
What    n1's clock is off: 3 s behind (±2 ms).
        Measured 59 s ago.
Since   2026-11-22T09:48:00Z, 12 min ago.
Why     The agent reports: The clock is 3 s behind (±2 ms), over the threshold of 100 ms.
        By a.example the clock is 3.00 s behind.
        b.example reports no offset.
Tokens  Issued elsewhere, verified here: 3 s in the future when new (iat, nbf), and accepted 3 s too long (exp).
        Issued here, verified elsewhere: expired 3 s early.
        A leeway of 5 s covers it.
Steps   3 h ago by kernel (trigger: pause): 20.0 s behind before, not measured afterwards.
        It had no effect: automatic steps are disabled until an operator requests one.
        Result of the last request: 7 refused: cool-down
To do   On the node: is there a time daemon, and does it reach its servers (chronyc tracking, timedatectl)?
        To have the agent step it, where step.mode and step.onRequest allow:
          kubectl annotate node n1 --overwrite drift-agent.io/step-request=$(date +%s)
        Until then, keep what issues or verifies tokens away: kubectl cordon does for new pods.
"
    );
}

#[test]
fn the_audit_of_the_nodes_daemon_is_shown_where_there_is_one() {
    let audit = "sources=fulfilled makestep=not-fulfilled rtcsync=not-visible near=fulfilled";
    let explained = text(&node("n1", &[("clock-state", "in-sync"), ("time-daemon-audit", audit)]), &now());
    let expected = "\
Daemon  two reachable sources or more: fulfilled
        steps at any time (makestep 1 -1): not fulfilled
        hardware clock kept correct (rtcsync): not visible from here
        near source (round trip to the reference up to 20 ms): fulfilled
To do ";
    assert!(explained.contains(expected), "{explained}");
    assert!(!text(&node("n1", &[("clock-state", "in-sync")]), &now()).contains("Daemon"));
}

#[test]
fn known_sizes_of_an_offset_are_named_without_advice_on_leeway() {
    for (offset_ms, what, to_do) in [
        (-37_000, "off by 37 s, as far as TAI is ahead of UTC", "PTP clock"),
        (-18_010, "off by 18 s, as far as GPS time is ahead of UTC", "GPS receiver"),
        (
            25_199_600,
            "7 h behind (±2 ms), off by 7 h to within a second or two, as local time",
            "hardware clock",
        ),
    ] {
        let text = text(&measured("n1", "drifting", offset_ms, 2, 59), &now());
        assert!(text.contains(what) && text.contains(to_do), "{text}");
        assert!(text.contains("No leeway is for ") && !text.contains("A leeway of"), "{text}");
        assert!(!text.contains("step-request"), "{text}");
    }
}

#[test]
fn drifting_without_a_measurement_does_not_suggest_a_step_request() {
    let coarse = text(&node("n1", &[("clock-state", "drifting")]), &now());
    assert!(
        coarse.contains("the agent would refuse to step") && !coarse.contains("step-request"),
        "{coarse}"
    );
}

#[test]
fn every_state_has_its_own_explanation_and_advice() {
    let part = |row: &Row, heading: &str| {
        let text = text(row, &now());
        let lines = text.lines().skip_while(|line| !line.starts_with(heading)).enumerate();
        lines
            .take_while(|(n, line)| *n == 0 || line.starts_with(' '))
            .map(|(_, line)| line[8..].to_owned())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let mut seen = std::collections::BTreeSet::new();
    for state in STATES {
        let row = node("n1", &[("clock-state", state)]);
        assert!(seen.insert(part(&row, "What")) && seen.insert(part(&row, "To do")), "{state}");
        assert!(part(&row, "Tokens").contains("is not known"), "{state}");
    }
    for row in
        [node("n1", &[]), node("n1", &[("clock-state", "fine")]), measured("n1", "in-sync", 1, 1, 7_200)]
    {
        assert!(seen.insert(part(&row, "What")), "{row:?}");
        assert!(part(&row, "To do").contains("--field-selector spec.nodeName=n1"), "{row:?}");
    }
    assert!(part(&node("n1", &[("pools", "a=1")]), "What").contains("but no state"));
}

#[test]
fn effect_on_tokens_has_the_correct_direction() {
    let of = |offset, bound| text(&measured("n1", "drifting", offset, bound, 0), &now());
    assert!(of(-2_000, 1).contains("Issued elsewhere, verified here: expired 2 s early."));
    assert!(of(-2_000, 1).contains("Issued here, verified elsewhere: 2 s in the future when new"));
    assert!(of(2_000, 1).contains("Issued here, verified elsewhere: expired 2 s early."));
    assert!(of(2, 5).contains("No certain effect: the clock is correct to within 7.2 ms."), "{}", of(2, 5));
    assert!(of(40_000, 1).contains("A leeway of 30 s is not enough"));
}

#[test]
fn untrusted_annotations_cannot_move_the_cursor() {
    let evil = "\u{1b}[2J\u{202e}\r\n";
    let step = "2026-11-22T09:00:00Z before=+1.0 in-hour=1 total=1.0 method=\u{1b}[2J trigger=\u{9b}1m";
    for key in [
        "clock-state",
        "offset-seconds",
        "offset-bound-seconds",
        "observed-at",
        "exceeded-since",
        "pools",
        "last-step",
        "step-result",
        "time-daemon-audit",
    ] {
        for value in [evil, step, &format!("a={evil}"), &format!("{evil}=+1")] {
            let output = text(&node("n1", &[(key, value)]), &now());
            assert!(
                output.chars().all(|c| c == '\n' || matches!(c, ' '..='~' | '±' | 'µ' | '…')),
                "{key}: {output:?}"
            );
        }
    }
}

#[test]
fn measurements_in_the_future_are_flagged() {
    let output = text(&measured("n1", "in-sync", 1, 1, -60), &now());
    assert!(output.contains("It was measured in the future (in 1 min)"), "{output}");
}
