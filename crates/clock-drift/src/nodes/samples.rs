//! Nodes, and a fixed present, for the tests of this module.

use serde_json::{Map, Value, json};

use super::now::{Now, Source};
use super::row::Row;
use drift_core::time::{Offset, Wall};

/// The present of the tests.
pub const NOW: &str = "2026-11-22T10:00:00Z";

/// [`NOW`] by the API server's clock.
pub fn now() -> Now {
    Now { at: Wall::parse_rfc3339(NOW).unwrap(), by: Source::ApiServer, machine: None }
}

/// A Node with these annotations of ours.
pub fn node(name: &str, annotations: &[(&str, &str)]) -> Row {
    let all: Map<String, Value> =
        annotations.iter().map(|(key, text)| (format!("drift-agent.io/{key}"), json!(text))).collect();
    Row::read(serde_json::from_value(json!({"metadata": {"name": name, "annotations": all}})).unwrap())
}

/// A Node that was measured: state, offset and bound in ms, and how many seconds ago.
pub fn measured(name: &str, state: &str, offset: i64, bound: i64, ago: i64) -> Row {
    let seconds = |ms: i64| Offset::from_nanos(ms * 1_000_000).as_secs_f64().to_string();
    let observed = now().at.plus(Offset::from_nanos(-ago * 1_000_000_000)).rfc3339(0);
    node(
        name,
        &[
            ("clock-state", state),
            ("offset-seconds", &seconds(offset)),
            ("offset-bound-seconds", &seconds(bound)),
            ("observed-at", &observed),
        ],
    )
}
