//! The chart, its admission policies and the agent's own writes against the API servers of several Kubernetes minors: the
//! one that tests/tools/k8s holds, the newest that builds here (tests/tools/k8s-newest), and, when asked, the oldest that the
//! chart is for (tests/tools/k8s-oldest): `tests/tools/install kube-apiserver-oldest`, then
//! `cargo test --test it kubernetes_versions:: -- --ignored`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, STRANGERS};
use crate::support::test_node::{TestNode, annotation, condition};
use crate::support::{finish, tool, wait_for};

/// Namespaces that enforce a level of Pod Security, by its name.
const LEVELS: [&str; 2] = ["restricted", "privileged"];
const REGION: &str = "topology.kubernetes.io/region";

fn older() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| start("kube-apiserver", "older"))
}

fn oldest() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| start("kube-apiserver-oldest", "oldest"))
}

fn newest() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| start("kube-apiserver-newest", "newest"))
}

fn start(program: &'static str, name: &str) -> Cluster {
    let cluster = Cluster::of(program, name);
    for level in LEVELS {
        let labels = json!({"pod-security.kubernetes.io/enforce": level});
        cluster.create(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": level, "labels": labels}}),
        );
        let account = json!({"name": "default", "namespace": level});
        cluster.create(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}));
    }
    cluster
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Such as (1, 34).
fn minor(cluster: &Cluster) -> (u32, u32) {
    let version: Value = serde_json::from_str(&cluster.kubectl(&["get", "--raw=/version"])).unwrap();
    let number = |key: &str| version[key].as_str().unwrap().parse().unwrap();
    (number("major"), number("minor"))
}

/// helm, which asks this cluster and keeps its files in the test's folder.
fn helm(cluster: &Cluster, arguments: &[&str]) -> String {
    let mut command = Command::new(tool("helm"));
    for key in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(key, cluster.folder().join("helm"));
    }
    command.env("KUBECONFIG", cluster.admin()).args(arguments);
    let ended = finish(&mut command, "");
    assert_eq!(ended.code, 0, "helm {arguments:?}: {}", ended.stderr);
    ended.stdout
}

/// The objects that the chart makes for this cluster: `helm template --dry-run=server` asks it which kinds it has.
fn render(cluster: &Cluster, namespace: &str, arguments: &[&str]) -> String {
    let chart = root().join("charts/drift-agent");
    // The monitors' kinds belong to another project.
    let own = [
        "template",
        "profile",
        chart.to_str().unwrap(),
        "--dry-run=server",
        "--namespace",
        namespace,
        "--set=podMonitor.enabled=false,serviceMonitor.enabled=false",
    ];
    helm(cluster, &[&own[..], arguments].concat())
}

/// What the API server would make of these objects, by server-side apply; nothing is stored.
fn dry_run(cluster: &Cluster, yaml: &str) -> Vec<Value> {
    let arguments = ["apply", "--server-side", "--dry-run=server", "--output=json", "--filename=-"];
    let answer = cluster.try_kubectl(&arguments, yaml).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
    let list: Value = serde_json::from_str(&answer).unwrap();
    list["items"].as_array().expect("a list").clone()
}

/// The one `DaemonSet` among them.
fn daemon_set(objects: &[Value]) -> &Value {
    let [one] = objects.iter().filter(|o| o["kind"] == "DaemonSet").collect::<Vec<_>>()[..] else {
        panic!("one DaemonSet: {objects:#?}")
    };
    one
}

/// A pod as the `DaemonSet`'s controller makes it, but for the affinity that names its node, and of the account `default`:
/// after a dry run, its own is not there.
fn pod_of(daemon_set: &Value, namespace: &str, name: &str) -> Value {
    let mut pod = daemon_set["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["namespace"] = namespace.into();
    pod["spec"]["serviceAccountName"] = "default".into();
    pod["spec"]["serviceAccount"] = "default".into();
    pod
}

/// The profiles that the chart comes with: name and values.
fn profiles() -> Vec<(String, PathBuf)> {
    let folder = root().join("charts/drift-agent/ci");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            (name.strip_suffix("-values.yaml").expect("a file of values").to_owned(), path)
        })
        .collect();
    all.sort();
    assert!(all.len() >= 5, "{all:?}");
    all
}

/// Every object of every profile is taken, and its pods where Pod Security allows them: those that only observe, under
/// `restricted`; those that share the node's network or may step its clock, not.
fn every_object_of_every_profile_is_accepted(cluster: &Cluster) {
    for (name, values) in profiles() {
        let values = format!("--values={}", values.display());
        let objects = dry_run(cluster, &render(cluster, "restricted", &[&values]));
        let kinds: Vec<_> = objects.iter().map(|o| o["kind"].as_str().unwrap()).collect();
        assert!(kinds.contains(&"DaemonSet") && kinds.contains(&"ConfigMap"), "{name}: {kinds:?}");
        let policies = kinds.iter().filter(|kind| **kind == "ValidatingAdmissionPolicy").count();
        assert_eq!(policies, if name == "metrics-only" { 0 } else { 2 }, "{name}: {kinds:?}");

        let pod = |level| {
            let pod = pod_of(daemon_set(&objects), level, "one");
            cluster.try_kubectl(&["create", "--dry-run=server", "--filename=-"], &pod.to_string())
        };
        assert_eq!(pod("privileged").as_deref(), Ok("pod/one created (server dry run)\n"), "{name}");
        let privileged = name == "host-network" || name.starts_with("step-");
        match pod("restricted") {
            Ok(_) => assert!(!privileged, "{name}"),
            Err(e) => assert!(privileged && e.contains("violates PodSecurity \"restricted"), "{name}: {e}"),
        }
    }
    cluster.kubectl(&["create", "namespace", "drift-agent"]);
    let manifests = root().join("manifests");
    // By force: the tests' own roles have the same names.
    let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--kustomize"];
    let taken = cluster.kubectl(&[&arguments[..], &[manifests.to_str().unwrap()]].concat());
    assert!(taken.contains("daemonset.apps/drift-agent serverside-applied"), "{taken}");
}

/// What the pods of a profile may do, in short: user, capabilities, folders of the node; tag of the image; verbs on Nodes.
fn privileges(cluster: &Cluster, profile: &str) -> String {
    let values = format!("--values={}/charts/drift-agent/ci/{profile}-values.yaml", root().display());
    let objects = dry_run(cluster, &render(cluster, "privileged", &[&values]));
    let spec = &daemon_set(&objects)["spec"]["template"]["spec"];
    let (pod, container) = (&spec["securityContext"], &spec["containers"][0]);
    let own = &container["securityContext"];
    assert_eq!(
        (&own["allowPrivilegeEscalation"], &own["readOnlyRootFilesystem"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(own["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(pod["runAsNonRoot"], json!(pod["runAsUser"] != 0));
    let folders = spec["volumes"].as_array().unwrap().iter().filter_map(|v| v["hostPath"]["path"].as_str());
    let folders: Vec<_> = folders.collect();
    let mounts = container["volumeMounts"].as_array().unwrap();
    for folder in &folders {
        assert!(mounts.iter().any(|m| m["mountPath"] == **folder), "{folder} is elsewhere in the pod");
    }
    let role = objects.iter().find(|o| o["kind"] == "ClusterRole").unwrap();
    let rules = role["rules"].as_array().unwrap();
    let verbs =
        rules.iter().find(|r| r["resources"] == json!(["nodes"])).map_or(&Value::Null, |r| &r["verbs"]);
    format!(
        "user {} +{} {folders:?} {} {verbs}",
        pod["runAsUser"],
        own["capabilities"]["add"],
        container["image"].as_str().unwrap().trim_start_matches("drift-agent:"),
    )
}

/// The chart installed: with no role but its own and under its policies, the agent writes its Node and sends its event; and
/// the policies allow and deny all that tests/e2e/policy.sh asks.
fn the_policies_allow_the_agent_and_nothing_else(cluster: &'static Cluster) {
    let name = "own-node";
    let test_node = TestNode::without_node(cluster, STRANGERS, name, 250);
    test_node.create_node();
    // As a controller leaves one on every Node.
    let theirs = "volumes.kubernetes.io/controller-managed-attach-detach=true";
    cluster.kubectl(&["annotate", "node", name, theirs]);
    let chart = root().join("charts/drift-agent");
    let account = format!("--set=serviceAccount.create=false,serviceAccount.name={name}");
    helm(cluster, &["install", "prod", chart.to_str().unwrap(), "--namespace", STRANGERS, &account]);
    // The API server needs a moment to see new policies.
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "early", "namespace": "default"},
        "action": "Test", "eventTime": "2026-01-01T00:00:00.000000Z", "reason": "Test", "type": "Normal",
        "regarding": {"apiVersion": "v1", "kind": "Node", "name": name},
        "reportingController": "another", "reportingInstance": name,
    });
    wait_for("the policies", || {
        let kubeconfig = cluster.folder().join(format!("{name}.kubeconfig"));
        let mut command = Command::new(tool("kubectl"));
        command.args(["create", "--dry-run=server", "--filename=-", "--kubeconfig"]).arg(kubeconfig);
        let ended = finish(&mut command, &event.to_string());
        ended.stderr.contains("only report events as itself").then_some(())
    });

    let agent = test_node.start_agent();
    let node = test_node.wait_for_written("drifting");
    assert_eq!(condition(&node, "ClockDrift")["reason"], "OffsetExceedsThreshold");
    assert_eq!(test_node.wait_for_event("ClockDriftExceeded")["regarding"]["name"], name);
    test_node.pools.set(0);
    let node = test_node.wait_for_written("in-sync");
    assert_eq!(annotation(&node, "exceeded-since"), None);
    drop(agent);

    // The script is written for a whole cluster, where the authority has a file of its own.
    let pki = cluster.folder().join("pki");
    std::fs::copy(pki.join("apiserver.crt"), pki.join("ca.crt")).unwrap();
    let script = "set -euo pipefail
        fail() { echo \"$*\"; exit 1; }
        source tests/e2e/policy.sh
        policy_cases \"$@\"
        echo \"$CASES cases\"";
    let bin = tool("kubectl").parent().unwrap().to_owned();
    let path = std::env::join_paths(
        [bin].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    // Half a hundred requests, each by a kubectl of its own: more than one wait.
    let mut command = Command::new("timeout");
    command
        .args(["600", "bash", "-c", script, "policy", STRANGERS, name])
        .current_dir(root())
        .env("PATH", path.unwrap())
        .env("KUBECONFIG", cluster.admin())
        .env("API", cluster.url())
        .env("RUN", cluster.folder())
        .env("NODE", name);
    let ended = command.output().unwrap();
    let [printed, errors] = [&ended.stdout, &ended.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(ended.status.success(), "{printed}{errors}");
    let cases: u32 = printed.trim_end().strip_suffix(" cases").unwrap().parse().unwrap();
    assert!(cases >= 29, "{cases} cases");
}

/// The region of a node as the agent's pod sees it, after the scheduler's binding: the pod's own label, by downward API.
fn region_seen_by_a_pod(cluster: &Cluster) -> Option<String> {
    let node = json!({"name": "in-a-region", "labels": {REGION: "eu-west-1", "kubernetes.io/hostname": "in-a-region"}});
    cluster.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": node}));
    let values = format!("--values={}", root().join("charts/drift-agent/ci/regions-values.yaml").display());
    let objects = dry_run(cluster, &render(cluster, "restricted", &[&values]));
    let pod = pod_of(daemon_set(&objects), "restricted", "bound");
    let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let region = variables.iter().find(|v| v["name"] == "DRIFT_AGENT_REGION").expect("the variable");
    assert_eq!(region["valueFrom"]["fieldRef"]["fieldPath"], format!("metadata.labels['{REGION}']"));
    cluster.create(&pod);
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound", "namespace": "restricted"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "in-a-region"},
    });
    let url = "--raw=/api/v1/namespaces/restricted/pods/bound/binding";
    cluster.try_kubectl(&["create", url, "--filename=-"], &binding.to_string()).unwrap();
    let bound = cluster.get(&["pod", "bound", "--namespace=restricted"]).expect("the pod");
    assert_eq!(bound["spec"]["nodeName"], "in-a-region");
    bound["metadata"]["labels"][REGION].as_str().map(str::to_owned)
}

#[test]
fn the_older_and_newest_api_servers_differ_in_minor_version() {
    let (older, newest) = (minor(older()), minor(newest()));
    assert!(older < newest && newest >= (1, 35), "{older:?}, {newest:?}");
}

#[test]
fn profiles_grant_what_they_need_and_no_more() {
    let version = env!("CARGO_PKG_VERSION");
    for (profile, expected) in [
        ("default", format!("user 65532 +null [] {version} null")),
        ("step-kernel", format!(r#"user 65532 +["SYS_TIME"] [] {version}-step null"#)),
        ("step-chrony", format!(r#"user 0 +["DAC_OVERRIDE"] ["/var/run/chrony"] {version} null"#)),
        (
            "step-auto",
            format!(
                r#"user 113 +["SYS_TIME"] ["/run/chrony", "/run/systemd/timesync"] {version}-step ["get","watch"]"#
            ),
        ),
        (
            "step-timesyncd",
            format!(r#"user 65532 +["SYS_TIME"] ["/run/systemd/timesync"] {version}-step null"#),
        ),
    ] {
        assert_eq!(privileges(older(), profile), expected, "{profile}");
    }
}

#[test]
fn the_older_api_server_accepts_every_object_of_every_profile() {
    every_object_of_every_profile_is_accepted(older());
}

#[test]
fn the_newest_api_server_accepts_every_object_of_every_profile() {
    every_object_of_every_profile_is_accepted(newest());
}

#[test]
#[ignore = "its API server takes minutes to build, for a version that does not change any more"]
fn the_oldest_api_server_accepts_every_object_of_every_profile() {
    every_object_of_every_profile_is_accepted(oldest());
}

#[test]
#[ignore = "its API server takes minutes to build, for a version that does not change any more"]
fn admission_policies_are_enforced_by_the_oldest_api_server() {
    the_policies_allow_the_agent_and_nothing_else(oldest());
}

#[test]
fn admission_policies_are_enforced_by_the_older_api_server() {
    the_policies_allow_the_agent_and_nothing_else(older());
}

#[test]
fn admission_policies_are_enforced_by_the_newest_api_server() {
    the_policies_allow_the_agent_and_nothing_else(newest());
}

#[test]
fn pods_see_the_region_of_their_node_from_1_35_on() {
    for cluster in [older(), newest()] {
        let expected = (minor(cluster) >= (1, 35)).then_some("eu-west-1");
        assert_eq!(region_seen_by_a_pod(cluster).as_deref(), expected, "{:?}", minor(cluster));
    }
}
