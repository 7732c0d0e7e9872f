//! Events about the Node, written by ourselves: kube's `Recorder` would stamp them with the node's wrong clock.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use drift_core::report::node::NodeEvent;

/// Where events about cluster-wide objects live.
pub const NAMESPACE: &str = "default";
/// Who reports.
const CONTROLLER: &str = "drift-agent.io/agent";
/// The API server refuses longer notes.
const LONGEST_NOTE: usize = 1_000;

/// The event as it is sent.
pub fn build(node: &str, event: &NodeEvent) -> Event {
    let mut text = event.note.clone();
    text.truncate(text.floor_char_boundary(LONGEST_NOTE));
    Event {
        // The time is part of the name, as the kubelet does it: one name, one event, also when it is sent twice.
        metadata: ObjectMeta {
            name: Some(format!("{node}.{:x}", event.at.as_nanos())),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        action: Some("Measure".to_owned()),
        event_time: event.at.rfc3339(6).parse().ok().map(MicroTime),
        note: Some(text),
        reason: Some(event.reason.label().to_owned()),
        // The kubelet's own events carry the node's name for its uid, and `kubectl describe node` looks for that.
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            uid: Some(node.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(node.to_owned()),
        type_: Some(event.reason.kind().to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drift_core::report::node::EventReason;
    use drift_core::time::Wall;

    #[test]
    fn it_carries_the_time_that_was_measured_and_not_the_nodes() {
        let at = Wall::parse_rfc3339("2026-11-22T10:00:00.25Z").unwrap();
        let event = NodeEvent { reason: EventReason::ClockDriftExceeded, note: "ä".repeat(2_000), at };
        let built = serde_json::to_value(build("n0", &event)).unwrap();
        assert_eq!(built["eventTime"], "2026-11-22T10:00:00.250000Z");
        assert_eq!(built["type"], "Warning");
        assert_eq!(built["reason"], "ClockDriftExceeded");
        assert!(built["note"].as_str().unwrap().len() <= LONGEST_NOTE);
        assert_eq!(built["metadata"]["namespace"], "default");
    }
}
