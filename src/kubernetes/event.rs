//! Events about the Node. They are not made by kube's `Recorder`, which would date them by the node's wrong
//! clock.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use drift_core::report::node::NodeEvent;

/// The namespace of events about cluster-scoped objects.
pub const NAMESPACE: &str = "default";
/// The events' `reportingController`.
const CONTROLLER: &str = "drift-agent.io/agent";
/// The API server rejects notes of 1 kB or more.
const NOTE_LIMIT: usize = 1_000;

/// The event to create.
pub fn build(node: &str, event: &NodeEvent) -> Event {
    let mut text = event.note.clone();
    text.truncate(text.floor_char_boundary(NOTE_LIMIT));
    Event {
        // The time is part of the name, as in the kubelet's events: sent twice, it is still one event.
        metadata: ObjectMeta {
            name: Some(format!("{node}.{:x}", event.at.as_nanos())),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        action: Some("Measure".to_owned()),
        event_time: event.at.rfc3339(6).parse().ok().map(MicroTime),
        note: Some(text),
        reason: Some(event.reason.label().to_owned()),
        // The kubelet's events have the node's name as its UID, and `kubectl describe node` selects by that.
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
    fn events_have_the_measured_time_and_a_note_within_the_limit() {
        let at = Wall::parse_rfc3339("2026-11-22T10:00:00.25Z").unwrap();
        let event = NodeEvent { reason: EventReason::ClockDriftExceeded, note: "ä".repeat(2_000), at };
        let built = serde_json::to_value(build("n0", &event)).unwrap();
        assert_eq!(built["eventTime"], "2026-11-22T10:00:00.250000Z");
        assert_eq!(built["type"], "Warning");
        assert_eq!(built["reason"], "ClockDriftExceeded");
        assert!(built["note"].as_str().unwrap().len() <= NOTE_LIMIT);
        assert_eq!(built["metadata"]["namespace"], "default");
    }
}
