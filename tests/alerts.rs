//! From a node's clock to the on-call notification: agents, a real Prometheus with the chart's rules, a real Alertmanager with
//! the routes of docs/alertmanager.md, and a webhook. All of it: `make e2e-alerts`.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test has a real clock, and panics to fail"
)]

#[path = "it/support/mod.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod support;

use std::path::PathBuf;
use std::process::Command;

use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_core::time::Offset;
use serde_json::{Value, json};
use support::monitoring::{
    Alertmanager, Notification, Prometheus, Target, Webhook, blocks, chart_rules, read, repository,
};
use support::{BackgroundRuntime, Folder, RunningAgent, finish, pool, tool, wait_for};

/// The routes that we recommend, with the webhook behind every receiver, and with times for a test.
fn alertmanager_config(folder: &Folder, webhook: u16) -> PathBuf {
    let documented = blocks(&read("docs/alertmanager.md"), "yaml");
    assert_eq!(documented.len(), 1, "docs/alertmanager.md has one configuration");
    let quick = documented[0].replacen("route:\n", "route:\n  group_wait: 1s\n  group_interval: 1s\n", 1);
    let receivers: String = ["team", "on-call"]
        .map(|name| {
            format!("  - name: {name}\n    webhook_configs: [{{url: 'http://127.0.0.1:{webhook}/'}}]\n")
        })
        .concat();
    let file = folder.path().join("alertmanager.yml");
    std::fs::write(&file, format!("{quick}receivers:\n  - name: nobody\n{receivers}"))
        .expect("a configuration");
    let check = finish(Command::new(tool("amtool")).arg("check-config").arg(&file), "");
    assert_eq!(check.code, 0, "{}{}", check.stdout, check.stderr);
    file
}

/// A node: its agent, and two pools of its own, whose time can be moved.
struct Node {
    name: &'static str,
    time: TimeScale,
    agent: RunningAgent,
    _servers: [Server; 2],
}

impl Node {
    fn start(name: &'static str, background: &BackgroundRuntime, folder: &Folder) -> Self {
        let time = TimeScale::new(Offset::ZERO);
        let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
        let arguments = ["--kubernetes", "off"];
        let agent = RunningAgent::start(folder.path(), &servers.each_ref().map(pool), &arguments, |_| {});
        Self { name, time, agent, _servers: servers }
    }

    /// Moves its pools' time, so that the node is behind by so much (or ahead, below 0).
    fn put_behind(&self, millis: i64) {
        self.time.set(Offset::from_nanos(millis * 1_000_000));
    }

    fn target(&self) -> Target {
        Target { labels: format!("node: {}", self.name), port: self.agent.port }
    }
}

/// The milliseconds in a summary such as "Clock of node n2 of cluster e2e is 250.1ms behind."
fn millis_in(alert: &Value, before: &str, after: &str) -> f64 {
    let summary = alert["annotations"]["summary"].as_str().expect("a summary");
    let length = summary.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    let length = length.unwrap_or_else(|| panic!("{summary:?} is not {before:?}…{after:?}"));
    let (number, factor) = match length.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => (length.strip_suffix('s').expect("a unit"), 1000.0),
    };
    number.parse::<f64>().expect("a number") * factor
}

fn is_of(alert: &Value, name: &str, severity: &str) -> bool {
    alert["labels"]["alertname"] == name && alert["labels"]["severity"] == severity
}

/// Does it contain this alert, in this status?
fn contains(notification: &Notification, status: &str, name: &str, severity: &str) -> bool {
    notification.alerts.iter().any(|a| a["status"] == status && is_of(a, name, severity))
}

#[test]
#[ignore = "half a minute: make e2e-alerts"]
fn drift_alerts_notify_the_team_then_on_call_and_then_resolve() {
    const ALERT: &str = "ClockDriftExceeded";
    let (background, folder, webhook) = (BackgroundRuntime::new(), Folder::new("alerts"), Webhook::start());
    let alertmanager = Alertmanager::start(&folder, &alertmanager_config(&folder, webhook.port));
    let [one, two] = ["n1", "n2"].map(|name| Node::start(name, &background, &folder));
    let rules = chart_rules(&folder, &["--set", "prometheusRule.for.ClockDriftExceeded=2s"]);
    let targets = [one.target(), two.target()];
    let prometheus = Prometheus::start(&folder, &targets, Some(&rules), Some(&alertmanager));
    wait_for("two nodes within the threshold", || {
        let within = prometheus.query("cluster_node:drift_agent_certain_excess_seconds:max < 0");
        (within.len() == 2).then_some(())
    });
    assert!(webhook.received().is_empty(), "{:?}", webhook.received());

    // A quarter of a second: a warning, for the team.
    two.put_behind(250);
    let notified = webhook.wait_for("a warning", |n| contains(n, "firing", ALERT, "warning"));
    assert_eq!(
        (notified.receiver.as_str(), notified.status.as_str(), notified.alerts.len()),
        ("team", "firing", 1),
        "{notified:?}"
    );
    let alert = &notified.alerts[0];
    let labels = json!({"alertname": ALERT, "severity": "warning", "component": "drift-agent", "node": "n2", "cluster": "e2e"});
    assert_eq!(alert["labels"], labels);
    let late = millis_in(alert, "Clock of node n2 of cluster e2e is ", " behind.");
    assert!((late - 250.0).abs() < 10.0, "{alert:#}");
    let description = alert["annotations"]["description"].as_str().unwrap();
    assert!(
        description.starts_with("Even at the near end of its bound the offset is over the threshold by 1"),
        "{description}"
    );
    let runbook = alert["annotations"]["runbook_url"].as_str().unwrap();
    assert!(repository().join(runbook).is_file(), "{runbook}");
    eprintln!("{:#}", alert["annotations"]);

    two.put_behind(0);
    let over = webhook.wait_for("the end of it", |n| contains(n, "resolved", ALERT, "warning"));
    assert_eq!((over.receiver.as_str(), &over.alerts[0]["labels"]), ("team", &labels));

    // Three seconds ahead: critical, for the on-call receiver. The warning about the same node is kept back.
    let before = webhook.received().len();
    two.put_behind(-3000);
    let notified = webhook.wait_for("a call", |n| contains(n, "firing", ALERT, "critical"));
    assert_eq!((notified.receiver.as_str(), notified.alerts.len()), ("on-call", 1), "{notified:?}");
    let early = millis_in(&notified.alerts[0], "Clock of node n2 of cluster e2e is ", " ahead.");
    assert!((early - 3000.0).abs() < 10.0, "{early}");
    wait_for("the warning to be inhibited", || {
        let alerts = alertmanager.alerts();
        let warning = alerts.iter().find(|a| is_of(a, ALERT, "warning"))?;
        (warning["status"]["state"] == "suppressed").then_some(())
    });
    two.put_behind(0);
    webhook.wait_for("the end of it", |n| contains(n, "resolved", ALERT, "critical"));

    let all = webhook.received();
    assert!(all[before..].iter().all(|n| !contains(n, "firing", ALERT, "warning")), "{all:#?}");
    let nodes = all.iter().flat_map(|n| &n.alerts).map(|a| &a["labels"]["node"]);
    assert!(nodes.clone().all(|node| node == "n2"), "n1 was never off: {all:#?}");
}

/// The receivers of the documented routes.
#[test]
fn alerts_are_routed_to_a_receiver_by_severity() {
    let folder = Folder::new("alert-routes");
    let config = alertmanager_config(&folder, 1);
    let receiver = |labels: &[&str]| {
        let mut command = Command::new(tool("amtool"));
        command
            .args(["config", "routes", "test"])
            .arg(format!("--config.file={}", config.display()))
            .args(labels);
        finish(&mut command, "").stdout.trim().to_owned()
    };
    let ours = |severity: &str| receiver(&["component=drift-agent", &format!("severity={severity}")]);
    assert_eq!(["critical", "warning", "info"].map(ours), ["on-call", "team", "nobody"]);
    assert_eq!(receiver(&["severity=critical"]), "team", "others' alerts go where they went");
}

/// Which of these alerts are kept back while the others fire, by a real Alertmanager.
#[test]
fn fleet_alerts_inhibit_the_alerts_of_their_nodes() {
    let (folder, webhook) = (Folder::new("alert-inhibitions"), Webhook::start());
    let alertmanager = Alertmanager::start(&folder, &alertmanager_config(&folder, webhook.port));
    // Name, severity, cluster, node, and whether it is kept back.
    let alerts = [
        ("ClockDriftBudgetBurn", "critical", "a", None, false),
        ("ClockDriftBudgetBurn", "warning", "a", None, true),
        ("ClockDriftExceeded", "warning", "a", Some("n1"), true),
        ("TimeDaemonDeceived", "warning", "a", Some("n1"), true),
        ("ClockDriftExceeded", "critical", "a", Some("n2"), false),
        ("ClockDriftExceeded", "warning", "b", Some("n1"), false),
        ("ClockPoolUnreachable", "warning", "b", None, false),
        ("ClockNotMeasured", "warning", "b", Some("n2"), true),
        ("ClockNotMeasured", "warning", "a", Some("n2"), false),
        ("VMResumeUncorrected", "critical", "c", Some("n1"), false),
        ("ClockDriftExceeded", "critical", "c", Some("n1"), true),
        ("ClockDriftExceeded", "critical", "c", Some("n2"), false),
        ("ClockFrequencyHigh", "warning", "c", Some("n1"), false),
        ("DriftAgentDown", "critical", "d", None, false),
        ("DriftAgentDown", "warning", "d", Some("n1"), true),
    ];
    for (name, severity, cluster, node, _) in alerts {
        let mut labels = vec![
            format!("alertname={name}"),
            format!("severity={severity}"),
            format!("cluster={cluster}"),
            "component=drift-agent".to_owned(),
        ];
        labels.extend(node.map(|node| format!("node={node}")));
        alertmanager.add(&labels.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let state = |known: &[Value],
                 (name, severity, cluster, node, _): (&str, &str, &str, Option<&str>, bool)| {
        let alert = known.iter().find(|a| {
            is_of(a, name, severity)
                && a["labels"]["cluster"] == cluster
                && a["labels"]["node"].as_str() == node
        });
        alert.and_then(|a| a["status"]["state"].as_str().map(str::to_owned))
    };
    // Alertmanager reports "unprocessed" until it has come to an alert.
    let known = wait_for("each alert to be processed", || {
        let known = alertmanager.alerts();
        let settled = |a| matches!(state(&known, a).as_deref(), Some("active" | "suppressed"));
        alerts.into_iter().all(settled).then_some(known)
    });
    for alert in alerts {
        let expected = if alert.4 { "suppressed" } else { "active" };
        assert_eq!(state(&known, alert).as_deref(), Some(expected), "{alert:?}");
    }
}
