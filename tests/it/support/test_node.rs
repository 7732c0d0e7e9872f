//! A Node, two NTP pools on loopback and an agent between them.

use std::path::PathBuf;

use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_core::time::{Offset, Wall};
use serde_json::{Value, json};

use super::cluster::{AGENTS, Cluster};
use crate::support::{BackgroundRuntime, RunningAgent, pool, wait_for};

/// Two pools of one server each, whose time is this machine's plus an offset.
pub struct Pools {
    time: TimeScale,
    pub servers: [Server; 2],
    _background: BackgroundRuntime,
}

impl Pools {
    /// Starts them, ahead of this machine by so much.
    pub fn start(ahead_ms: i64) -> Self {
        let (time, background) = (TimeScale::new(millis(ahead_ms)), BackgroundRuntime::new());
        let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
        Self { time, servers, _background: background }
    }

    /// Jumps.
    pub fn set(&self, ahead_ms: i64) {
        self.time.set(millis(ahead_ms));
    }

    /// As the `--pool` arguments of the agent.
    pub fn names(&self) -> Vec<String> {
        self.servers.iter().map(pool).collect()
    }
}

/// An offset of so many milliseconds.
pub fn millis(ms: i64) -> Offset {
    Offset::from_nanos(ms * 1_000_000)
}

/// A Node of its own, an account of the same name bound to a pod on it, and pools of its own.
pub struct TestNode<'c> {
    pub cluster: &'c Cluster,
    pub name: &'static str,
    pub pools: Pools,
    pub kubeconfig: PathBuf,
}

impl<'c> TestNode<'c> {
    /// A Node whose agent has the roles that it needs.
    pub fn new(cluster: &'c Cluster, name: &'static str, ahead_ms: i64) -> Self {
        let test_node = Self::without_node(cluster, AGENTS, name, ahead_ms);
        test_node.create_node();
        test_node
    }

    /// An agent whose Node is not there.
    pub fn without_node(cluster: &'c Cluster, namespace: &str, name: &'static str, ahead_ms: i64) -> Self {
        let kubeconfig = cluster.kubeconfig(namespace, name, name);
        Self { cluster, name, pools: Pools::start(ahead_ms), kubeconfig }
    }

    pub fn create_node(&self) {
        // With labels, as a kubelet does: the API server tracks no managers of an object that began empty.
        let labels = json!({"kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux"});
        self.cluster.create(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels},
        }));
    }

    /// Lets the agent read and watch Nodes, as the chart does with `step.onRequest`.
    pub fn allow_watching(&self) {
        let (rbac, name) = ("rbac.authorization.k8s.io", format!("{}-watches", self.name));
        let version = format!("{rbac}/v1");
        self.cluster.create(&json!({
            "apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "watch"]}],
        }));
        self.cluster.create(&json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": AGENTS}],
        }));
    }

    /// Starts the agent on this Node.
    pub fn start_agent(&self) -> RunningAgent {
        let arguments = ["--kubernetes", "on"];
        RunningAgent::start(self.cluster.folder(), &self.pools.names(), &arguments, |command| {
            command.env("KUBECONFIG", &self.kubeconfig).env("NODE_NAME", self.name);
        })
    }

    /// The Node as it is.
    pub fn node(&self) -> Value {
        self.cluster.get(&["node", self.name]).expect("the Node is there")
    }

    /// Waits until the Node fits, and returns it.
    pub fn wait_for_node(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || Some(self.node()).filter(&fits))
    }

    /// Waits until the Node's annotation and condition have this state.
    pub fn wait_for_written(&self, state: &str) -> Value {
        self.wait_for_node(&format!("{state} on the Node"), |node| {
            annotation(node, "clock-state") == Some(state)
        })
    }

    /// Events about this Node with this reason.
    pub fn events(&self, reason: &str) -> Vec<Value> {
        let field = format!("--field-selector=reason={reason},regarding.name={}", self.name);
        let list = self.cluster.get(&["events.v1.events.k8s.io", "--namespace=default", &field]);
        list.and_then(|l| l["items"].as_array().cloned()).unwrap_or_default()
    }

    /// Waits until there is one such event, and returns it.
    pub fn wait_for_event(&self, reason: &str) -> Value {
        wait_for(reason, || self.events(reason).into_iter().next())
    }

    /// What the agent has asked of the API server, each as `verb path`; anything but the two requests that it may make is
    /// a failure, allowed or not.
    pub fn requests(&self) -> Vec<String> {
        let node = format!("patch /api/v1/nodes/{}/status", self.name);
        let event = "create /apis/events.k8s.io/v1/namespaces/default/events".to_owned();
        let all = self.cluster.requests_of(self.name).into_iter().map(|request| {
            let uri = request["requestURI"].as_str().expect("a URI");
            format!(
                "{} {}",
                request["verb"].as_str().expect("a verb"),
                uri.split('?').next().expect("a path")
            )
        });
        all.inspect(|r| assert!(*r == node || *r == event, "the agent asked {r:?}")).collect()
    }

    /// How often the agent has written the Node (and read it: that is an empty patch), and how many events it has sent.
    pub fn request_counts(&self) -> (usize, usize) {
        let requests = self.requests();
        let patches = requests.iter().filter(|r| r.starts_with("patch ")).count();
        (patches, requests.len() - patches)
    }
}

/// An annotation of ours.
pub fn annotation<'n>(node: &'n Value, name: &str) -> Option<&'n str> {
    node["metadata"]["annotations"].get(format!("drift-agent.io/{name}"))?.as_str()
}

/// An annotation of ours that is a number.
pub fn number(node: &Value, name: &str) -> f64 {
    annotation(node, name).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} in {node:#}"))
}

/// A condition; `Null` when there is none.
pub fn condition<'n>(node: &'n Value, kind: &str) -> &'n Value {
    let all = node["status"]["conditions"].as_array().into_iter().flatten();
    all.into_iter().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

/// A time as the API server has it.
pub fn time(text: &Value) -> Wall {
    text.as_str().and_then(Wall::parse_rfc3339).unwrap_or_else(|| panic!("no time: {text}"))
}
