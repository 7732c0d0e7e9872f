//! Steps on request.

use std::time::Instant;

use serde_json::Value;

use crate::guest::scenario::GuestScenario;
use crate::guest::{HOST, Spec};
use crate::is_about;
use crate::support::cluster::Cluster;
use crate::support::test_node::{TestNode, annotation};
use crate::support::wait_for;

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn step_requests_by_annotation_are_carried_out_through_a_real_api_server() {
    let node = TestNode::new(Cluster::shared(), "guest", 0);
    node.allow_watching();
    let text = std::fs::read_to_string(&node.kubeconfig).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let cluster = &mut config["clusters"][0]["cluster"];
    let authority = std::fs::read_to_string(cluster["certificate-authority"].as_str().unwrap()).unwrap();
    cluster["server"] = cluster["server"].as_str().unwrap().replace("127.0.0.1", HOST).into();
    cluster["certificate-authority"] = "/tmp/authority".into();
    // As which the host's loopback is not in the server's certificate.
    cluster["tls-server-name"] = "kubernetes".into();

    let mut scenario = GuestScenario::prepared(Spec::new("request"), |guest| {
        guest.write("/tmp/authority", &authority);
        guest.write("/tmp/kubeconfig", &config.to_string());
        "--step-mode kernel --step-on-request true --kubernetes on --node-name guest".to_owned()
    });
    node.wait_for_written("in-sync");
    scenario.guest.step(3.0);
    node.wait_for_written("drifting");
    assert_eq!(scenario.metrics().unwrap().count("steps_total", &[]), 0, "no step was requested");

    let asked = Instant::now();
    node.cluster.kubectl(&["annotate", "node", "guest", "drift-agent.io/step-request=window-7"]);
    let truth = scenario.guest.truth.wait_for("the clock to be right", asked, |offset| offset.abs() < 0.1);
    println!(
        "3 s ahead, step-request: right {:.2} s after kubectl was called",
        (truth.at - asked).as_secs_f64()
    );
    let written = node.wait_for_node("an answer", |n| annotation(n, "step-result").is_some());
    let answer = annotation(&written, "step-result").unwrap();
    assert!(answer.starts_with("window-7: The clock was 3.00 s ahead and was stepped by kernel"), "{answer}");
    assert!(is_about(scenario.guest.truth.now().offset, 0.0));
    node.wait_for_event("ClockStepped");
    node.wait_for_written("in-sync");

    // The same request again is the same request.
    scenario.guest.step(3.0);
    node.wait_for_written("drifting");
    node.cluster.kubectl(&[
        "annotate",
        "--overwrite",
        "node",
        "guest",
        "drift-agent.io/step-request=window-7",
    ]);
    let count = wait_for("another measurement", || scenario.metrics().map(|m| m.count("steps_total", &[])));
    assert_eq!(count, 1);
    assert!(is_about(scenario.guest.truth.now().offset, -3.0));
}
