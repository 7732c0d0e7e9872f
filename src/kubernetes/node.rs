//! The body of the server-side apply to the Node, and how an earlier run's is read back. Pure.

use drift_core::time::Measurement;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use drift_core::report::names::{
    CLOCK_STATE, CONDITION, EXCEEDED_SINCE, LAST_STEP, OBSERVED_AT, OFFSET_BOUND_SECONDS, OFFSET_SECONDS,
    POOLS, STEP_RESULT, TIME_DAEMON_AUDIT,
};
use drift_core::report::node::{COARSE, ConditionStatus, NodeReport, Prior};
use drift_core::time::Wall;

/// The field manager that owns the applied fields.
pub const FIELD_MANAGER: &str = "drift-agent";

/// The body of the apply to `nodes/NAME/status`. The API server removes owned fields that it leaves out.
pub fn patch(node: &str, report: &NodeReport) -> Value {
    let mut annotations = Map::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            annotations.insert(key.to_owned(), Value::String(value));
        }
    };
    put(CLOCK_STATE, Some(report.state.label().to_owned()));
    put(
        OFFSET_SECONDS,
        report.measured.map(|Measurement { offset, .. }| format!("{:.6}", offset.as_secs_f64())),
    );
    put(
        OFFSET_BOUND_SECONDS,
        report.measured.map(|Measurement { bound, .. }| format!("{:.6}", bound.as_secs_f64())),
    );
    put(OBSERVED_AT, report.observed_at.map(|t| t.rfc3339(0)));
    put(EXCEEDED_SINCE, report.exceeded_since.map(|t| t.rfc3339(0)));
    put(POOLS, Some(pools(report)));
    put(LAST_STEP, report.last_step.clone());
    put(STEP_RESULT, report.step_result.clone());
    put(TIME_DAEMON_AUDIT, report.audit.map(|audit| audit.to_string()));
    let condition = NodeCondition {
        type_: CONDITION.to_owned(),
        status: report.status().label().to_owned(),
        reason: Some(report.reason.label().to_owned()),
        message: Some(report.message.clone()),
        last_heartbeat_time: time(report.heartbeat),
        last_transition_time: time(report.transition),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": node, "annotations": annotations },
        "status": { "conditions": [condition] },
    })
}

/// Offsets in seconds: `time.google.com=+0.1322 time.cloudflare.com=+0.1317`; `unknown` for a pool without a
/// measurement. A source of last resort is `http-date:HOST=+12.3`, with the digits that it is good for.
fn pools(report: &NodeReport) -> String {
    let each = report.pools.iter().map(|(name, offset)| match offset {
        Some(offset) if name.starts_with(COARSE) => {
            format!("{name}={:+.1}", (offset.as_secs_f64() * 10.0).round() / 10.0 + 0.0)
        }
        // Adding zero after rounding turns -0.0000 into +0.0000.
        Some(offset) => format!("{name}={:+.4}", (offset.as_secs_f64() * 1e4).round() / 1e4 + 0.0),
        None => format!("{name}=unknown"),
    });
    each.collect::<Vec<_>>().join(" ")
}

fn time(wall: Wall) -> Option<Time> {
    wall.rfc3339(0).parse().ok().map(Time)
}

/// What an earlier run left on the Node. What is malformed counts as absent.
pub fn prior(node: &Node) -> Prior {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let condition = conditions.and_then(|all| all.iter().find(|c| c.type_ == CONDITION));
    let since = |c: &NodeCondition| Wall::parse_rfc3339(&c.last_transition_time.as_ref()?.0.to_string());
    let annotation = |key: &str| node.metadata.annotations.as_ref()?.get(key).cloned();
    Prior {
        condition: condition.and_then(|c| Some((ConditionStatus::from_label(&c.status)?, since(c)?))),
        exceeded_since: annotation(EXCEEDED_SINCE).and_then(|text| Wall::parse_rfc3339(&text)),
        last_step: annotation(LAST_STEP),
        step_result: annotation(STEP_RESULT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock_drift::nodes::row::{Field, ReportedState, Row};
    use drift_core::report::node::Reason;
    use drift_core::step::audit::{Audit, Finding};
    use drift_core::time::{Bound, Measurement, Offset};
    use drift_core::verdict::State;

    fn drifting() -> NodeReport {
        let at = Wall::parse_rfc3339("2026-11-22T10:00:00.7Z").unwrap();
        NodeReport {
            state: State::Drifting,
            reason: Reason::of(State::Drifting),
            message: "The clock is 132 ms behind (±2 ms), over the threshold of 100 ms.".into(),
            measured: Some(Measurement::new(Offset::from_nanos(132_241_000), Bound::from_nanos(2_000_000))),
            observed_at: Some(at),
            heartbeat: at,
            transition: at,
            exceeded_since: Some(at),
            pools: vec![
                ("time.google.com".into(), Some(Offset::from_nanos(132_200_000))),
                ("b.example".into(), None),
            ],
            last_step: None,
            step_result: None,
            audit: None,
        }
    }

    #[test]
    fn annotations_that_the_agent_writes_are_read_back_by_the_plugin() {
        let at = Wall::parse_rfc3339("2026-11-22T10:00:00Z").unwrap();
        let last = "2026-11-22T09:00:00Z before=+20.0013 after=+0.0002 method=kernel trigger=pause in-hour=1 total=20.0013";
        let audit = Audit { sources: Finding::NotFulfilled, ..Audit::NOT_VISIBLE };
        let report = NodeReport {
            last_step: Some(last.into()),
            step_result: Some("id-7 refused".into()),
            audit: Some(audit),
            ..drifting()
        };
        let mut written = patch("n0", &report);
        written["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "eu-1a", "other": "x"});
        let row = Row::read(serde_json::from_value(written).unwrap());
        assert_eq!(
            row,
            Row {
                name: "n0".into(),
                reported: ReportedState::State(State::Drifting),
                offset: Field::Value(Offset::from_nanos(132_241_000)),
                bound: Field::Value(Bound::from_nanos(2_000_000)),
                observed_at: Field::Value(at),
                exceeded_since: Field::Value(at),
                pools: Some("time.google.com=+0.1322 b.example=unknown".into()),
                last_step: Field::Value(last.parse().unwrap()),
                step_result: Some("id-7 refused".into()),
                audit: Field::Value(audit),
                zone: Some("eu-1a".into()),
                message: Some("The clock is 132 ms behind (±2 ms), over the threshold of 100 ms.".into()),
            }
        );
        assert!(row.unreadable().is_empty());
    }

    #[test]
    fn patch_equals_the_documented_one() {
        assert_eq!(
            patch("n0", &drifting()),
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": { "name": "n0", "annotations": {
                    "drift-agent.io/clock-state": "drifting",
                    "drift-agent.io/offset-seconds": "0.132241",
                    "drift-agent.io/offset-bound-seconds": "0.002000",
                    "drift-agent.io/observed-at": "2026-11-22T10:00:00Z",
                    "drift-agent.io/exceeded-since": "2026-11-22T10:00:00Z",
                    "drift-agent.io/pools": "time.google.com=+0.1322 b.example=unknown",
                }},
                "status": { "conditions": [{
                    "type": "ClockDrift",
                    "status": "True",
                    "reason": "OffsetExceedsThreshold",
                    "message": "The clock is 132 ms behind (±2 ms), over the threshold of 100 ms.",
                    "lastHeartbeatTime": "2026-11-22T10:00:00Z",
                    "lastTransitionTime": "2026-11-22T10:00:00Z",
                }]},
            })
        );
    }

    #[test]
    fn http_date_sources_are_marked_and_rounded_to_a_tenth_of_a_second() {
        let of = |name: &str, nanos| (name.to_owned(), Some(Offset::from_nanos(nanos)));
        let all = vec![
            ("a.example".to_owned(), None),
            of("http-date:b.example:8080", -12_345_678_901),
            of("http-date:c.example", -1),
            ("http-date:[::1]".to_owned(), None),
        ];
        assert_eq!(
            pools(&NodeReport { pools: all, ..drifting() }),
            "a.example=unknown http-date:b.example:8080=-12.3 http-date:c.example=+0.0 http-date:[::1]=unknown"
        );
    }

    #[test]
    fn unknown_values_are_left_out_of_the_patch() {
        let report = NodeReport {
            measured: None,
            observed_at: None,
            exceeded_since: None,
            state: State::Unknown,
            ..drifting()
        };
        let patch = patch("n0", &report);
        let keys: Vec<&String> = patch["metadata"]["annotations"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["drift-agent.io/clock-state", "drift-agent.io/pools"]);
        assert_eq!(patch["status"]["conditions"][0]["status"], "Unknown", "unknown is not drifting");
    }

    #[test]
    fn values_of_an_earlier_run_are_read_back() {
        let node: Node = serde_json::from_value(patch("n0", &drifting())).unwrap();
        let at = Wall::parse_rfc3339("2026-11-22T10:00:00Z").unwrap();
        let condition = Some((ConditionStatus::True, at));
        assert_eq!(prior(&node), Prior { condition, exceeded_since: Some(at), ..Prior::default() });
        assert_eq!(prior(&Node::default()), Prior::default());
        let mut broken = node;
        broken.metadata.annotations.as_mut().unwrap().insert(EXCEEDED_SINCE.into(), "long ago".into());
        assert_eq!(prior(&broken).exceeded_since, None);
    }
}
