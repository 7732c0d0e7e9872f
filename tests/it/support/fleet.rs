//! A fleet of Nodes as a cluster has them: labels, annotations of several owners, a status, and the managed fields of all that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use drift_core::time::{Offset, Wall, nanos};
use k8s_openapi::api::core::v1::Node;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Map, Value, json};

use crate::support::cluster::{AGENTS, Cluster};

/// Requests under way at once.
const AT_ONCE: usize = 32;

/// Reference time, so many seconds ago, as the agent writes it.
pub fn ago(seconds: u64) -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let back = Offset::from_nanos(-nanos(Duration::from_secs(seconds)));
    Wall::from_nanos(nanos(since)).plus(back).rfc3339(0)
}

/// A Node with this label `suite`, and these annotations of ours.
pub fn node(name: &str, suite: &str, annotations: &[(&str, &str)]) -> Value {
    let ours = annotations.iter().map(|(key, text)| (format!("drift-agent.io/{key}"), json!(text)));
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"suite": suite}, "annotations": ours.collect::<Map<_, _>>()},
    })
}

/// The annotations of a Node that was measured so many seconds ago.
pub fn measured(state: &str, offset: &str, bound: &str, seconds: u64) -> Vec<(&'static str, String)> {
    vec![
        ("clock-state", state.to_owned()),
        ("offset-seconds", offset.to_owned()),
        ("offset-bound-seconds", bound.to_owned()),
        ("observed-at", ago(seconds)),
        ("pools", format!("time.google.com={offset} time.cloudflare.com={offset}")),
    ]
}

/// Node number `n` of a large cluster, with what else stands on a Node: about 4 KB of metadata.
pub fn large(n: usize, suite: &str, annotations: &[(&str, String)]) -> Value {
    let borrowed: Vec<(&str, &str)> = annotations.iter().map(|(key, text)| (*key, text.as_str())).collect();
    let mut node = node(&format!("{suite}-{n:04}"), suite, &borrowed);
    let metadata = &mut node["metadata"];
    metadata["labels"]["topology.kubernetes.io/zone"] = json!(format!("zone-{}", n % 3));
    for label in 0..20 {
        metadata["labels"][format!("cloud.example/some-property-{label}")] = json!(format!("its-value-{n}"));
    }
    for annotation in 0..8 {
        metadata["annotations"][format!("network.example/some-state-{annotation}")] = json!("x".repeat(120));
    }
    let kinds = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready", "NetworkUnavailable"];
    let condition =
        |kind| json!({"type": kind, "status": "False", "reason": "KubeletHas", "message": "kubelet has"});
    let image = |i| json!({"names": [format!("registry.example/image-{i}:v1")], "sizeBytes": 1_000_000});
    node["status"] = json!({
        "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"},
        "allocatable": {"cpu": "8", "memory": "30Gi", "pods": "110", "ephemeral-storage": "90Gi"},
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "x"}],
    });
    node["status"]["conditions"] = kinds.map(condition).into();
    node["status"]["images"] = (0..20).map(image).collect();
    node
}

/// A kubeconfig of a service account of its own that may do this with Nodes.
pub fn account(cluster: &Cluster, name: &str, verbs: &[&str]) -> PathBuf {
    let rbac = "rbac.authorization.k8s.io";
    cluster.create(&json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{"apiGroups": [""], "resources": ["nodes", "nodes/status"], "verbs": verbs}],
        },
        {
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": AGENTS}],
        },
    ]}));
    cluster.kubeconfig(AGENTS, name, "some-node")
}

/// Creates all of them, many at once.
pub fn create(kubeconfig: &Path, nodes: impl Iterator<Item = Value>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a config");
        let api: Api<Node> = Api::all(Client::try_from(config).expect("a client"));
        let mut under_way = tokio::task::JoinSet::new();
        for node in nodes {
            if under_way.len() >= AT_ONCE {
                under_way.join_next().await.expect("one is under way").expect("no panic");
            }
            let api = api.clone();
            under_way.spawn(async move {
                let node: Node = serde_json::from_value(node).expect("a Node");
                api.create(&PostParams::default(), &node).await.expect("created");
            });
        }
        while let Some(done) = under_way.join_next().await {
            done.expect("no panic");
        }
    });
}
