//! The agent against a real API server, with a token bound to its pod and no right but the two that it needs.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use drift_agent::os::clock::{Clock, LinuxClock};
use drift_agent::sim::behaviour::Behaviour;
use drift_core::time::Wall;
use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::test_node::{TestNode, annotation, condition, millis, number, time};
use crate::support::{Process, RunningAgent, wait_for};

const OK: &str = "drift_agent_kubernetes_requests_total{result=\"ok\"}";

/// Waits until the agent has measured so often again.
fn measures_on(agent: &RunningAgent, test_node: &TestNode, times: f64) {
    let series =
        format!("drift_agent_samples_total{{pool=\"{}\",result=\"accepted\"}}", test_node.pools.names()[0]);
    let before = agent.metric(&series).expect("it has measured");
    agent.wait_for_metric(&series, |value| value >= before + times);
}

/// The time of the pools now, when they are ahead of this machine by so much.
fn pool_time(ahead_ms: i64) -> Wall {
    LinuxClock.read().wall.plus(millis(ahead_ms))
}

#[test]
fn drift_is_written_to_the_node_and_cleared_when_it_ends() {
    let test_node = TestNode::new(Cluster::shared(), "drifts", 250);
    let agent = test_node.start_agent();

    let node = test_node.wait_for_written("drifting");
    let (offset, bound) = (number(&node, "offset-seconds"), number(&node, "offset-bound-seconds"));
    assert!((offset - 0.25).abs() <= bound, "{offset} ± {bound}");
    assert!(bound > 0.0 && bound < 0.05, "{bound}");
    let pools = annotation(&node, "pools").unwrap();
    for name in test_node.pools.names() {
        assert!(pools.contains(&format!("{name}=+0.2")), "{pools}");
    }
    let drift = condition(&node, "ClockDrift");
    assert_eq!((&drift["status"], &drift["reason"]), (&json!("True"), &json!("OffsetExceedsThreshold")));
    assert!(drift["message"].as_str().unwrap().contains("ms behind"), "{drift}");
    assert_eq!(annotation(&node, "observed-at"), drift["lastHeartbeatTime"].as_str());
    assert!(
        time(&node["metadata"]["annotations"]["drift-agent.io/exceeded-since"])
            <= time(&drift["lastHeartbeatTime"])
    );

    let event = test_node.wait_for_event("ClockDriftExceeded");
    assert_eq!(event["metadata"]["namespace"], "default");
    assert_eq!(
        (&event["type"], &event["reportingController"]),
        (&json!("Warning"), &json!("drift-agent.io/agent"))
    );
    let described = test_node.cluster.kubectl(&["describe", "node", test_node.name]);
    let (_, events) = described.split_once("Events:").expect("a section for events");
    assert!(events.contains("ClockDriftExceeded") && events.contains("ms behind"), "{described}");
    assert!(described.contains("drift-agent.io/clock-state: drifting"), "{described}");
    assert!(
        described.lines().any(|l| l.contains("ClockDrift ") && l.contains("OffsetExceedsThreshold")),
        "{described}"
    );

    test_node.pools.set(0);
    let node = test_node.wait_for_written("in-sync");
    assert_eq!(annotation(&node, "exceeded-since"), None);
    assert!(number(&node, "offset-seconds").abs() <= number(&node, "offset-bound-seconds"));
    let ended = condition(&node, "ClockDrift");
    assert_eq!((&ended["status"], &ended["reason"]), (&json!("False"), &json!("WithinThreshold")));
    assert!(time(&ended["lastTransitionTime"]) <= time(&ended["lastHeartbeatTime"]));
    assert_eq!(test_node.wait_for_event("ClockDriftCleared")["type"], "Normal");

    // All that was asked: both kinds of request were seen, and no other.
    agent.wait_for_metric(OK, |writes| writes >= 4.0);
    let asked: BTreeSet<String> = test_node.requests().into_iter().collect();
    assert_eq!(
        asked.iter().map(String::as_str).collect::<Vec<_>>(),
        ["create /apis/events.k8s.io/v1/namespaces/default/events", "patch /api/v1/nodes/drifts/status"]
    );
    assert_eq!(test_node.request_counts(), (3, 2), "a read and two writes; two events");
    let log = agent.process.output();
    assert!(!log.contains("cannot update Node status"), "{log}");
}

#[test]
fn fields_of_other_owners_on_the_node_are_kept() {
    let test_node = TestNode::new(Cluster::shared(), "shared-node", 250);
    let theirs = json!({
        "metadata": {"annotations": {"example.com/x": "1"}, "labels": {"example.com/zone": "a"}},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready"}],
            "capacity": {"cpu": "4"},
        },
    });
    for arguments in [&["patch", "node"][..], &["patch", "node", "--subresource=status"]] {
        test_node
            .cluster
            .kubectl(&[arguments, &[test_node.name, "--type=merge", "-p", &theirs.to_string()]].concat());
    }
    let before = test_node.node();
    assert_eq!(condition(&before, "Ready")["status"], "True");

    let _agent = test_node.start_agent();
    test_node.wait_for_written("drifting");
    test_node.pools.set(0);
    let after = test_node.wait_for_written("in-sync");

    let strip = |node: &Value| {
        let mut node = node.clone();
        let metadata = node["metadata"].as_object_mut().unwrap();
        let ours = |entry: &Value| entry["manager"] == "drift-agent";
        metadata["managedFields"].as_array_mut().unwrap().retain(|entry| !ours(entry));
        metadata["annotations"].as_object_mut().unwrap().retain(|key, _| !key.starts_with("drift-agent.io/"));
        metadata.remove("resourceVersion");
        node["status"]["conditions"].as_array_mut().unwrap().retain(|c| c["type"] != "ClockDrift");
        node
    };
    assert_eq!(strip(&after), strip(&before), "only the agent's fields have changed, and no other's owner");

    let managers = after["metadata"]["managedFields"].as_array().unwrap();
    let ours: Vec<&Value> = managers.iter().filter(|m| m["manager"] == "drift-agent").collect();
    let [ours] = ours.as_slice() else { panic!("one entry: {managers:#?}") };
    assert_eq!((&ours["operation"], &ours["subresource"]), (&json!("Apply"), &json!("status")));
    assert_eq!(
        ours["fieldsV1"],
        json!({
            "f:metadata": {"f:annotations": {
                "f:drift-agent.io/clock-state": {},
                "f:drift-agent.io/observed-at": {},
                "f:drift-agent.io/offset-bound-seconds": {},
                "f:drift-agent.io/offset-seconds": {},
                "f:drift-agent.io/pools": {},
            }},
            "f:status": {"f:conditions": {"k:{\"type\":\"ClockDrift\"}": {
                ".": {}, "f:lastHeartbeatTime": {}, "f:lastTransitionTime": {}, "f:message": {}, "f:reason": {},
                "f:status": {}, "f:type": {},
            }}},
        })
    );
}

#[test]
fn fields_overwritten_by_another_client_are_restored() {
    let test_node = TestNode::new(Cluster::shared(), "contested", 250);
    let _agent = test_node.start_agent();
    test_node.wait_for_written("drifting");
    let theirs = json!({
        "metadata": {"annotations": {"drift-agent.io/clock-state": "fine", "drift-agent.io/exceeded-since": "never"}},
        "status": {"conditions": [{"type": "ClockDrift", "status": "False", "reason": "Fine"}]},
    });
    let patch = theirs.to_string();
    test_node.cluster.kubectl(&["patch", "node", "--subresource=status", test_node.name, "-p", &patch]);
    assert_eq!(condition(&test_node.node(), "ClockDrift")["reason"], "Fine");

    test_node.pools.set(0);
    let node = test_node.wait_for_written("in-sync");
    assert_eq!(condition(&node, "ClockDrift")["reason"], "WithinThreshold");
}

#[test]
fn published_times_are_reference_time_on_a_node_an_hour_behind() {
    let hour = 3_600_000;
    let test_node = TestNode::new(Cluster::shared(), "an-hour-behind", hour);
    let before = pool_time(hour);
    let _agent = test_node.start_agent();
    let node = test_node.wait_for_written("drifting");
    let event = test_node.wait_for_event("ClockDriftExceeded");
    let after = pool_time(hour);

    let drift = condition(&node, "ClockDrift");
    let annotations = &node["metadata"]["annotations"];
    // All but the event's are cut off to the second; and a second is left for the bound.
    let slack = millis(2_000);
    for (name, at) in [
        ("observed-at", &annotations["drift-agent.io/observed-at"]),
        ("exceeded-since", &annotations["drift-agent.io/exceeded-since"]),
        ("lastHeartbeatTime", &drift["lastHeartbeatTime"]),
        ("lastTransitionTime", &drift["lastTransitionTime"]),
        ("eventTime", &event["eventTime"]),
    ] {
        let at = time(at);
        assert!(
            at.plus(slack) >= before && at <= after.plus(slack),
            "{name} {at:?} is not in {before:?} to {after:?}"
        );
    }
    assert!((number(&node, "offset-seconds") - 3_600.0).abs() <= number(&node, "offset-bound-seconds"));
    assert!(drift["message"].as_str().unwrap().contains("behind"), "{drift}");
}

#[test]
fn restarts_during_a_drift_repeat_no_event() {
    let test_node = TestNode::new(Cluster::shared(), "restarts", 250);
    let agent = test_node.start_agent();
    let first = test_node.wait_for_written("drifting");
    test_node.wait_for_event("ClockDriftExceeded");
    drop(agent); // SIGKILL

    // In another second than the first start's, or the times below would be equal by chance.
    let drift = condition(&first, "ClockDrift");
    let written = time(&drift["lastHeartbeatTime"]).plus(millis(3_000));
    wait_for("the seconds to differ", || (pool_time(0) > written).then_some(()));
    let agent = test_node.start_agent();
    let second = test_node.wait_for_node("a second write", |node| {
        condition(node, "ClockDrift")["lastHeartbeatTime"] != drift["lastHeartbeatTime"]
    });
    assert_eq!(annotation(&second, "clock-state"), Some("drifting"));
    assert_eq!(annotation(&second, "exceeded-since"), annotation(&first, "exceeded-since"));
    assert!(annotation(&second, "exceeded-since").is_some());
    assert_eq!(condition(&second, "ClockDrift")["lastTransitionTime"], drift["lastTransitionTime"]);
    measures_on(&agent, &test_node, 3.0);
    assert_eq!(test_node.events("ClockDriftExceeded").len(), 1);
    assert_eq!(test_node.request_counts(), (4, 1), "a read and a write each; one event");

    // What the second run took over, it also ends.
    test_node.pools.set(0);
    let node = test_node.wait_for_written("in-sync");
    assert_eq!(annotation(&node, "exceeded-since"), None);
    assert_ne!(condition(&node, "ClockDrift")["lastTransitionTime"], drift["lastTransitionTime"]);
    test_node.wait_for_event("ClockDriftCleared");
}

#[test]
fn drift_that_ended_while_no_agent_ran_is_cleared_at_the_next_start() {
    let test_node = TestNode::new(Cluster::shared(), "ended-unseen", 250);
    let agent = test_node.start_agent();
    test_node.wait_for_written("drifting");
    drop(agent);
    test_node.pools.set(0);
    let _agent = test_node.start_agent();
    let node = test_node.wait_for_written("in-sync");
    assert_eq!(annotation(&node, "exceeded-since"), None);
    assert_eq!(condition(&node, "ClockDrift")["status"], "False");
    test_node.wait_for_event("ClockDriftCleared");
}

#[test]
fn silent_pools_are_named_on_the_node_without_changing_the_verdict() {
    let test_node = TestNode::new(Cluster::shared(), "one-silent", 250);
    let agent = test_node.start_agent();
    let before = test_node.wait_for_written("drifting");
    let names = test_node.pools.names();

    test_node.pools.servers[1].behave(Behaviour::Silent);
    agent.wait_for_metric("drift_agent_pools_agreeing", |agreeing| agreeing < 1.5);
    let node = test_node.wait_for_node("the unreachable pool on the Node", |node| {
        condition(node, "ClockDrift")["message"].as_str().unwrap().contains("unreachable")
    });
    let drift = condition(&node, "ClockDrift");
    let message = drift["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("Measured against {} alone: {} is unreachable", names[0], names[1])),
        "{message}"
    );
    let pools = annotation(&node, "pools").unwrap();
    assert!(pools.contains(&format!("{}=+0.2", names[0])), "{pools}");
    assert!(pools.contains(&format!("{}=unknown", names[1])), "{pools}");
    assert_eq!(annotation(&node, "clock-state"), Some("drifting"));
    assert_eq!((&drift["status"], &drift["reason"]), (&json!("True"), &json!("OffsetExceedsThreshold")));
    assert_eq!(drift["lastTransitionTime"], condition(&before, "ClockDrift")["lastTransitionTime"]);
    assert_eq!(annotation(&node, "exceeded-since"), annotation(&before, "exceeded-since"));

    test_node.pools.servers[1].behave(Behaviour::Honest);
    let node = test_node.wait_for_node("its return on the Node", |node| {
        !annotation(node, "pools").unwrap().contains("unknown")
    });
    assert!(!condition(&node, "ClockDrift")["message"].as_str().unwrap().contains("unreachable"));
    assert_eq!(test_node.events("ClockDriftExceeded").len(), 1, "a pool's silence is no new drift");
}

#[test]
fn unknown_values_are_removed_from_the_node() {
    let test_node = TestNode::new(Cluster::shared(), "nothing-known", 250);
    let _agent = test_node.start_agent();
    let drifting = test_node.wait_for_written("drifting");
    let gone = ["offset-seconds", "offset-bound-seconds", "exceeded-since"];
    assert!(gone.iter().all(|name| annotation(&drifting, name).is_some()), "{drifting:#}");

    // One pool ahead and one behind: which of them is right decides the state.
    test_node.pools.servers[1].behave(Behaviour::Offset(millis(-10_000)));
    let node = test_node.wait_for_written("disagree");
    assert!(gone.iter().all(|name| annotation(&node, name).is_none()), "{node:#}");
    let drift = condition(&node, "ClockDrift");
    assert_eq!((&drift["status"], &drift["reason"]), (&json!("Unknown"), &json!("PoolsDisagree")));
    assert_ne!(drift["lastTransitionTime"], Value::Null);

    test_node.pools.servers.iter().for_each(|server| server.behave(Behaviour::Silent));
    let node = test_node.wait_for_written("unknown");
    assert!(gone.iter().all(|name| annotation(&node, name).is_none()), "{node:#}");
    let names = test_node.pools.names();
    assert_eq!(
        annotation(&node, "pools"),
        Some(format!("{}=unknown {}=unknown", names[0], names[1]).as_str())
    );
    let now = condition(&node, "ClockDrift");
    assert_eq!((&now["status"], &now["reason"]), (&json!("Unknown"), &json!("NoAgreedMeasurement")));
    assert_eq!(now["lastTransitionTime"], drift["lastTransitionTime"], "the status is the same");
}

#[test]
fn flapping_clocks_stay_within_the_write_limit_and_end_with_the_newest_state() {
    let test_node = TestNode::new(Cluster::shared(), "flaps", 250);
    let mut watch: Command = test_node.cluster.kubectl_command();
    watch.args([
        "get",
        "node",
        test_node.name,
        "--watch",
        "-o",
        "jsonpath={.metadata.resourceVersion}{\"\\n\"}",
    ]);
    let watch = Process::start(&mut watch, test_node.cluster.folder(), "watch");
    wait_for("the watch", || (!watch.output().is_empty()).then_some(()));

    let begun = Instant::now();
    let agent = test_node.start_agent();
    agent.wait_for_state("drifting");
    let mut flips = 0;
    // Past the first half minute, so that the newest state comes within the longest wait below.
    while flips < 8 || begun.elapsed() < Duration::from_secs(35) {
        let (ahead, state) = if flips % 2 == 0 { (0, "in-sync") } else { (250, "drifting") };
        test_node.pools.set(ahead);
        agent.wait_for_state(state);
        flips += 1;
    }
    let check = || {
        let (patches, events) = test_node.request_counts();
        let versions: BTreeSet<String> = watch.output().lines().map(str::to_owned).collect();
        let (written, counted) = (versions.len() - 1, agent.metric(OK).unwrap());
        let minutes = usize::try_from(begun.elapsed().as_secs() / 60 + 1).unwrap();
        let most = 3 + minutes;
        eprintln!("{flips} flips, {patches} patches, {written} versions, {events} events, {counted} counted");
        assert!((3..=most + 1).contains(&patches), "{patches} patches in {minutes} minutes begun");
        assert!((2..=most).contains(&written), "{written} versions of the Node in {minutes} minutes begun");
        assert!((3..=most).contains(&events), "{events} events in {minutes} minutes begun");
        assert!(counted <= f64::from(u32::try_from(2 * most).unwrap()), "{counted} writes counted");
    };
    check();

    // The Node does not have it yet; the next write is due within a minute of the first.
    let said = test_node.node();
    let (ahead, last, status) = match annotation(&said, "clock-state") {
        Some("drifting") => (0, "in-sync", "False"),
        _ => (250, "drifting", "True"),
    };
    test_node.pools.set(ahead);
    agent.wait_for_state(last);
    let node = test_node.wait_for_written(last);
    assert_eq!(condition(&node, "ClockDrift")["status"], status);
    check();
}
