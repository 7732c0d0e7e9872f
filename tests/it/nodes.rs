//! `kubectl clock-drift` against a real API server: output, exit codes, requests, and error messages.

use drift_core::time::Measurement;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};

use drift_agent::kubernetes::api::{Access, NodeApi};
use drift_core::report::node::{NodeReport, Reason};
use drift_core::time::{Bound, Offset, Wall};
use drift_core::verdict::State;
use serde_json::{Value, json};

use crate::support::api_stub::{Answer, Stub};
use crate::support::cluster::{AGENTS, Cluster, STRANGERS};
use crate::support::fleet::{account, ago, create, large, measured, node};
use crate::support::{DEADLINE, Ended, Folder, Process, drift_agent, finish, free_tcp_port, tool, wait_for};

const OK: i32 = 0;
const DRIFTS: i32 = 1;
const NOTHING: i32 = 3;
const USAGE: i32 = 64;
const FAILED: i32 = 70;
const CONFIG: i32 = 78;
const LARGE: usize = 5_000;

/// An API server apart from the other tests' one: its Nodes are counted and listed, and there are thousands of them.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start("nodes"))
}

/// An account that may read Nodes.
fn reader() -> &'static Path {
    static READER: OnceLock<PathBuf> = OnceLock::new();
    READER.get_or_init(|| account(cluster(), "reader", &["get", "list", "watch"]))
}

fn nodes(kubeconfig: &Path, arguments: &[&str]) -> Command {
    let mut command = drift_agent();
    for proxy in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(proxy);
    }
    command.arg("nodes").args(arguments).arg("--kubeconfig").arg(kubeconfig);
    command
}

fn run(arguments: &[&str]) -> Ended {
    finish(&mut nodes(reader(), arguments), "")
}

/// The whole answer is this one line on standard error.
fn assert_fails(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "one line: {ended:?}");
    assert!(ended.stderr.starts_with("drift-agent: "), "{ended:?}");
    for text in texts {
        assert!(ended.stderr.contains(text), "{text:?} is missing: {ended:?}");
    }
}

fn create_list(items: &[Value]) {
    cluster().create(&json!({"apiVersion": "v1", "kind": "List", "items": items}));
}

/// A Node that was measured, with more annotations.
fn with(
    name: &str,
    suite: &str,
    mut annotations: Vec<(&'static str, String)>,
    more: &[(&'static str, &str)],
) -> Value {
    annotations.extend(more.iter().map(|(key, text)| (*key, (*text).to_owned())));
    let borrowed: Vec<(&str, &str)> = annotations.iter().map(|(key, text)| (*key, text.as_str())).collect();
    node(name, suite, &borrowed)
}

/// A few Nodes of every state, created once.
fn every_state() {
    static CREATED: OnceLock<()> = OnceLock::new();
    CREATED.get_or_init(|| {
        let last = format!(
            "{} before=+20.0013 after=+0.0002 method=kernel trigger=pause in-hour=1 total=20.0013",
            ago(4 * 3_600 + 5)
        );
        let mut zoned = with(
            "n-behind",
            "states",
            measured("drifting", "3.000400", "0.002000", 725),
            &[("exceeded-since", &ago(3 * 3_600 + 20 * 60 + 5)), ("last-step", &last)],
        );
        zoned["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!("eu-1a");
        create_list(&[
            zoned,
            with(
                "n-ahead",
                "states",
                measured("drifting", "-0.250165", "0.001752", 725),
                &[("exceeded-since", &ago(9 * 3_600))],
            ),
            with("n-good", "states", measured("in-sync", "0.000216", "0.001000", 725), &[]),
            with("n-old", "states", measured("in-sync", "0.040000", "0.003000", 3 * 86_400 + 60), &[]),
            node(
                "n-disagree",
                "states",
                &[("clock-state", "disagree"), ("observed-at", &ago(725)), ("pools", "a=-0.5000 b=+0.5000")],
            ),
            node("n-disrupted", "states", &[("clock-state", "disrupted"), ("pools", "a=unknown b=unknown")]),
            node("n-unknown", "states", &[("clock-state", "unknown"), ("pools", "a=unknown b=unknown")]),
            node(
                "n-odd",
                "states",
                &[("clock-state", "fine\u{1b}[2J"), ("offset-seconds", "132ms"), ("last-step", "once")],
            ),
            node("n-none", "states", &[]),
        ]);
    });
}

/// `±292 ms by now` grows by the second: it is taken out and handed back, in ms.
fn without_growth(text: &str) -> (String, f64) {
    let (before, rest) = text.split_once("when measured, ±").expect("a worst pair");
    let (grown, after) = rest.split_once(" ms by now").expect("in ms");
    (format!("{before}when measured, ±N ms by now{after}"), grown.parse().expect("a number"))
}

#[test]
fn the_table_lists_every_state_worst_first() {
    every_state();
    let ended = run(&["--selector", "suite=states"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (DRIFTS, ""), "{ended:?}");
    let (stdout, grown) = without_growth(&ended.stdout);
    assert_eq!(
        stdout,
        "\
NODE         STATE             OFFSET         BOUND    SINCE       OBSERVED        LAST STEP                ZONE
n-behind     drifting          3.00 s behind  ±2 ms    3 h 20 min  12 min          20.0 s forward, 4 h ago  eu-1a
n-ahead      drifting          250 ms ahead   ±1.8 ms  9 h         12 min          -                        -
n-old        in-sync           40 ms behind   ±3 ms    -           3 days (stale)  -                        -
n-disagree   disagree          -              -        -           12 min          -                        -
n-disrupted  disrupted         -              -        -           -               -                        -
n-odd        \"fine\\u{1b}[2J\"?  \"132ms\"?       -        -           - (stale)       \"once\"?                  -
n-unknown    unknown           -              -        -           -               -                        -
n-good       in-sync           216 µs behind  ±1 ms    -           12 min          -                        -
n-none       no agent          -              -        -           -               -                        -

9 Nodes: 2 drifting, 1 disagree, 1 disrupted, 1 unknown, 1 unreadable, 2 in-sync, 1 without an agent; 2 stale.
Worst pair: n-behind (3.00 s behind) and n-ahead (250 ms ahead), 3.25 s apart (±3.8 ms when measured, ±N ms by now).
Without an agent: n-none.
Recommended leeway for verifiers of tokens: 5 s, as far as 3 of 9 Nodes are measured.
"
    );
    // 200 ppm of twelve minutes, twice, and a minute for a slow machine.
    assert!((292.0..318.0).contains(&grown), "{grown}");
}

#[test]
fn json_and_wide_output_agree_with_the_table() {
    every_state();
    let of = |arguments: &[&str]| {
        let ended = run(&[&["-l", "suite=states"], arguments].concat());
        assert_eq!((ended.code, ended.stderr.as_str()), (DRIFTS, ""), "{arguments:?}: {ended:?}");
        ended.stdout
    };
    let json: Value = serde_json::from_str(&of(&["-o", "json"])).unwrap();
    assert_eq!((json["nowBy"].as_str(), json["summary"]["nodes"].as_u64()), (Some("api-server"), Some(9)));
    assert!(
        json["thisMachineOffsetSeconds"].as_f64().unwrap().abs() < 10.0,
        "one machine, one clock: {json}"
    );
    let first = &json["nodes"][0];
    assert_eq!(first["name"], "n-behind");
    assert_eq!((&first["offsetSeconds"], &first["offsetBoundSeconds"]), (&json!(3.0004), &json!(0.002)));
    assert_eq!((&first["lastStep"]["method"], &first["zone"]), (&json!("kernel"), &json!("eu-1a")));
    assert_eq!(
        json["nodes"][5]["unreadable"],
        json!({"clock-state": "fine\\u{1b}[2J", "offset-seconds": "132ms", "last-step": "once"})
    );
    assert_eq!(json["summary"]["worstPair"]["behind"], "n-behind");
    assert_eq!(json["summary"]["worstPair"]["skewSeconds"], 3.250_565);

    let yaml: Value = serde_saphyr::from_str(&of(&["-o", "yaml"])).unwrap();
    assert_eq!(
        (&yaml["nodes"][0]["lastStep"], &yaml["summary"]["states"]),
        (&first["lastStep"], &json["summary"]["states"])
    );
    assert_eq!(of(&["-o", "name", "--worst", "2"]), "node/n-behind\nnode/n-ahead\n");
    let wide = of(&["-o", "wide", "--no-headers", "--worst", "1"]);
    assert!(
        wide.lines()
            .next()
            .unwrap()
            .ends_with("eu-1a  time.google.com=3.000400 time.cloudflare.com=3.000400"),
        "{wide}"
    );
    assert!(wide.contains("9 Nodes: 2 drifting") && wide.contains("The 1 worst are shown."), "{wide}");
}

#[test]
fn exit_codes_reflect_drifting_and_unmeasured_nodes() {
    create_list(&[
        with("codes-good", "codes-good", measured("in-sync", "0.001", "0.001", 60), &[]),
        node("codes-good-too", "codes-good", &[]),
        with("codes-old", "codes-old", measured("in-sync", "0.001", "0.001", 7_200), &[]),
        node("codes-none", "codes-none", &[]),
        with("codes-bad", "codes-bad", measured("drifting", "1", "0.001", 7_200), &[]),
    ]);
    for (suite, code, text) in [
        ("codes-good", OK, "as far as 1 of 2 Nodes are measured"),
        ("codes-old", NOTHING, "No leeway is recommended: nothing is measured."),
        ("codes-none", NOTHING, "Without an agent: codes-none."),
        ("codes-absent", NOTHING, "No Node matches."),
        ("codes-bad", DRIFTS, "1 drifting; 1 stale"),
    ] {
        let ended = run(&["-l", &format!("suite={suite}")]);
        assert_eq!((ended.code, ended.stderr.as_str()), (code, ""), "{suite}: {ended:?}");
        assert!(ended.stdout.contains(text), "{suite}: {ended:?}");
    }
    assert_eq!(run(&["explain", "codes-good"]).code, OK);
    assert_eq!(run(&["explain", "codes-old"]).code, NOTHING);
    assert_eq!(run(&["explain", "codes-none"]).code, NOTHING);
    assert_eq!(run(&["explain", "codes-bad"]).code, DRIFTS);
    assert_eq!(run(&["between", "codes-good", "codes-none"]).code, NOTHING);
    assert_eq!(run(&["between", "codes-good", "codes-bad"]).code, DRIFTS);
}

/// Written by the agent's own code, read by ours.
#[test]
fn nodes_written_by_the_agent_are_explained_and_compared() {
    let cluster = cluster();
    for name in ["agent-a", "agent-b"] {
        create_list(&[node(name, "agent", &[])]);
    }
    let kubeconfig = cluster.kubeconfig(AGENTS, "writer", "agent-a");
    let at = |seconds| Wall::parse_rfc3339(&ago(seconds)).unwrap();
    let report = |state, millis: i64| NodeReport {
        state,
        reason: Reason::of(state),
        message: "The clock is 3 s behind (±2 ms), over the threshold of 100 ms.".into(),
        measured: Some(Measurement::new(
            Offset::from_nanos(millis * 1_000_000),
            Bound::from_nanos(2_000_000),
        )),
        observed_at: Some(at(0)),
        heartbeat: at(0),
        transition: at(725),
        exceeded_since: (state == State::Drifting).then(|| at(725)),
        pools: vec![
            ("time.google.com".into(), Some(Offset::from_nanos(millis * 1_000_000))),
            ("b.example".into(), None),
        ],
        last_step: None,
        step_result: None,
        audit: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, report) in
        [("agent-a", report(State::Drifting, 3_000)), ("agent-b", report(State::InSync, -12))]
    {
        runtime.block_on(async {
            let api = NodeApi::new(Access::File(kubeconfig.clone()), name.into()).await.unwrap();
            api.write(&report).await.unwrap();
        });
    }
    let ended = run(&["explain", "agent-a"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (DRIFTS, ""), "{ended:?}");
    for line in [
        "What    agent-a's clock is off: 3 s behind (±2 ms).\n        Measured ",
        "\nSince   20",
        ", 12 min ago.\n",
        "\nWhy     The agent reports: The clock is 3 s behind (±2 ms), over the threshold of 100 ms.\n",
        "\n        By time.google.com the clock is 3 s behind.\n        b.example reports no offset.\n",
        "\nTokens  Issued elsewhere, verified here: 3 s in the future when new (iat, nbf), and accepted 3 s too long (exp).\n",
        "\nSteps   The agent has never stepped this clock.\n",
        "\n          kubectl annotate node agent-a --overwrite drift-agent.io/step-request=$(date +%s)\n",
    ] {
        assert!(ended.stdout.contains(line), "{line:?} is missing in\n{}", ended.stdout);
    }
    let ended = run(&["between", "agent-b", "agent-a"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (DRIFTS, ""), "{ended:?}");
    for line in [
        "So agent-b is 3.01 s ahead of agent-a: ±4 ms when measured, ",
        "\nA token issued on agent-b, verified on agent-a:\n  It does not verify at once: there it was issued in the future (iat, nbf), for 3.01 s (±",
        "\n  A leeway of 4 s is enough for iat and nbf, none for exp.\n",
        "\nA token issued on agent-a, verified on agent-b:\n  It verifies at once, without leeway (iat, nbf).\n",
        "\nRecommended leeway: 5 s.\n",
    ] {
        assert!(ended.stdout.contains(line), "{line:?} is missing in\n{}", ended.stdout);
    }
}

#[test]
fn failures_are_reported_in_one_line_with_the_reason() {
    let cluster = cluster();
    let stranger = cluster.kubeconfig(STRANGERS, "stranger", "n");
    let list_with = |kubeconfig: &Path, arguments: &[&str]| finish(&mut nodes(kubeconfig, arguments), "");
    let denied =
        ["nodes is forbidden", "cannot list resource", "needs get, list and, with --watch, watch on nodes"];
    assert_fails(&list_with(&stranger, &[]), FAILED, &denied);
    assert_fails(&list_with(&stranger, &["--watch"]), FAILED, &["cannot list resource"]);
    assert_fails(&list_with(&stranger, &["explain", "n"]), FAILED, &["cannot get resource"]);

    let folder = Folder::new("nodes-configs");
    let write = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(reader()).unwrap()).unwrap();
        change(&mut config);
        let file = folder.path().join(name);
        std::fs::write(&file, config.to_string()).unwrap();
        file
    };
    let cluster_of =
        |config: &mut Value, key: &str, value: Value| config["clusters"][0]["cluster"][key] = value;
    let unknown = write("unknown", &|c| c["users"][0]["user"]["token"] = json!("nonsense"));
    assert_fails(
        &list_with(&unknown, &[]),
        FAILED,
        &["does not accept these credentials (401)", "log in again"],
    );
    let port = free_tcp_port();
    let nowhere = write("nowhere", &|c| cluster_of(c, "server", json!(format!("https://127.0.0.1:{port}"))));
    assert_fails(
        &list_with(&nowhere, &[]),
        FAILED,
        &[&format!("cannot reach https://127.0.0.1:{port}/: "), "Connection refused"],
    );
    assert_fails(&list_with(&nowhere, &["--watch"]), FAILED, &["cannot reach"]);
    let untrusted = write("untrusted", &|c| {
        c["clusters"][0]["cluster"] = json!({"server": c["clusters"][0]["cluster"]["server"]});
    });
    assert_fails(&list_with(&untrusted, &[]), FAILED, &["cannot reach", "certificate"]);
    let broken = write("broken", &|_| ());
    std::fs::write(&broken, "clusters: 7").unwrap();
    assert_fails(&list_with(&broken, &[]), CONFIG, &["broken: "]);
    assert_fails(&list_with(&folder.path().join("missing"), &[]), CONFIG, &["missing: ", "No such file"]);
    let without = write("without", &|c| c["current-context"] = json!(""));
    assert_fails(&list_with(&without, &[]), CONFIG, &["no context is set", "--context", "there are c"]);
    assert_eq!(list_with(&without, &["--context", "c", "-l", "suite=absent"]).code, NOTHING);
    assert_fails(
        &list_with(reader(), &["--context", "x\u{1b}"]),
        USAGE,
        &["context \"x\\u{1b}\" does not exist: there are c"],
    );

    let failing = write("failing", &|c| {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", "echo no session >&2; exit 5"], "interactiveMode": "Never"});
        c["users"][0]["user"] = json!({"exec": exec});
    });
    assert_fails(
        &list_with(&failing, &[]),
        CONFIG,
        &["the credential plugin \"sh\" that the kubeconfig names failed: no session"],
    );
    let absent = write("absent", &|c| {
        let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-plugin", "interactiveMode": "Never"});
        c["users"][0]["user"] = json!({"exec": exec});
    });
    assert_fails(
        &list_with(&absent, &[]),
        CONFIG,
        &["\"no-such-plugin\" that the kubeconfig names cannot be run: No such file"],
    );

    assert_fails(&run(&["explain", "absent"]), USAGE, &["nodes \"absent\" not found"]);
    assert_fails(&run(&["explain", "../pods"]), USAGE, &["invalid Node name \"../pods\""]);
    assert_fails(&run(&["--selector", "a in b"]), USAGE, &["the request was rejected: "]);
    assert_fails(&run(&["between", "a", "a"]), USAGE, &["the same Node twice"]);
    assert_fails(&run(&["--watch", "-o", "json"]), USAGE, &["--watch: prints a table"]);
    assert_fails(&run(&["-l", "a=b", "explain", "n"]), USAGE, &["take only --kubeconfig and --context"]);
    for wrong in [&["--worst", "0"][..], &["--output", "xml"], &["between", "a"]] {
        assert_eq!(run(wrong).code, USAGE, "{wrong:?}");
    }
}

#[test]
fn kubeconfigs_are_found_by_the_rules_of_kubectl() {
    let folder = Folder::new("nodes-rules");
    let path = |name: &str| folder.path().join(name);
    let whole: Value = serde_json::from_str(&std::fs::read_to_string(reader()).unwrap()).unwrap();
    let token = whole["users"][0]["user"]["token"].as_str().unwrap();
    let list_with = |prepare: &dyn Fn(&mut Command)| {
        let mut command = drift_agent();
        command
            .args(["nodes", "-l", "suite=absent"])
            .env("HOME", folder.path())
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy");
        prepare(&mut command);
        finish(&mut command, "")
    };
    assert_fails(&list_with(&|_| ()), CONFIG, &["there is no kubeconfig", "--kubeconfig"]);
    assert_fails(
        &list_with(&|c| {
            c.args(["--context", "c"]);
        }),
        USAGE,
        &["context \"c\": there is no kubeconfig"],
    );

    // The first file names the context, the second has the rest; one that is not there is passed over, as is an empty name.
    std::fs::write(path("first"), json!({"current-context": "c", "contexts": whole["contexts"]}).to_string())
        .unwrap();
    let exec = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", "interactiveMode": "Never",
        "env": [{"name": "TOKEN", "value": token}],
    });
    let second = json!({"current-context": "other", "clusters": whole["clusters"], "users": [{"name": "u", "user": {"exec": exec}}]});
    std::fs::write(path("second"), second.to_string()).unwrap();
    let plugin = "#!/bin/sh\nprintf '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"%s\"}}' \"$TOKEN\"\n";
    std::fs::write(path("plugin"), plugin).unwrap();
    std::fs::set_permissions(path("plugin"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let list =
        format!("{}::{}:{}", path("none").display(), path("first").display(), path("second").display());
    let ended = list_with(&|c| {
        c.env("KUBECONFIG", &list);
    });
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (NOTHING, ""),
        "a credential plugin, as managed clusters have it: {ended:?}"
    );

    std::fs::create_dir(path(".kube")).unwrap();
    std::fs::copy(reader(), path(".kube/config")).unwrap();
    assert_eq!(list_with(&|_| ()).code, NOTHING, "the file in the home directory");
    assert_eq!(
        list_with(&|c| {
            c.env("KUBECONFIG", path("none"));
        })
        .code,
        CONFIG,
        "KUBECONFIG wins, also when nothing is there"
    );
    let flag = |c: &mut Command| {
        c.env("KUBECONFIG", path("none")).arg("--kubeconfig").arg(reader());
    };
    assert_eq!(list_with(&flag).code, NOTHING, "the flag wins over all");
}

/// What a proxy was asked for, line by line; it carries bytes until one end closes.
fn proxy() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, lines) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, asked) = (client.unwrap(), asked.clone());
            std::thread::spawn(move || carry(client, &asked));
        }
    });
    (port, lines)
}

fn carry(mut client: TcpStream, asked: &Sender<String>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    asked.send(head.lines().next().unwrap().to_owned()).unwrap();
    let mut server = TcpStream::connect(head.split_whitespace().nth(1).unwrap()).unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut server, &mut client);
}

#[test]
fn proxies_are_used_where_kubectl_uses_them() {
    let (port, asked) = proxy();
    let url = format!("http://127.0.0.1:{port}");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(reader()).unwrap()).unwrap();
    let server = config["clusters"][0]["cluster"]["server"]
        .as_str()
        .unwrap()
        .trim_start_matches("https://")
        .to_owned();
    let list_with = |kubeconfig: &Path, environment: &[(&str, &str)]| {
        let ended = finish(nodes(kubeconfig, &["-l", "suite=absent"]).envs(environment.iter().copied()), "");
        assert_eq!((ended.code, ended.stderr.as_str()), (NOTHING, ""), "{ended:?}");
    };
    list_with(reader(), &[("HTTPS_PROXY", &url)]);
    assert!(asked.try_recv().is_err(), "never for loopback");
    // The same server under a name that is not loopback's to the rules.
    config["clusters"][0]["cluster"]["tls-server-name"] = json!("127.0.0.1");
    let folder = Folder::new("nodes-proxy");
    let file = folder.path().join("config");
    config["clusters"][0]["cluster"]["server"] =
        json!(format!("https://{}", server.replace("127.0.0.1", "[::ffff:127.0.0.1]")));
    std::fs::write(&file, config.to_string()).unwrap();
    list_with(&file, &[("HTTPS_PROXY", &url)]);
    assert!(asked.recv_timeout(DEADLINE).unwrap().starts_with("CONNECT [::ffff:127.0.0.1]:"));
    list_with(&file, &[("HTTPS_PROXY", &url), ("NO_PROXY", "example.com,::ffff:127.0.0.1")]);
    assert!(asked.try_recv().is_err(), "NO_PROXY names it");
    list_with(&file, &[("HTTPS_PROXY", &url), ("NO_PROXY", "127.0.0.1")]);
    assert!(asked.recv_timeout(DEADLINE).is_ok(), "NO_PROXY names the proxy, which is not the server");
    config["clusters"][0]["cluster"]["proxy-url"] = json!(url);
    std::fs::write(&file, config.to_string()).unwrap();
    list_with(&file, &[("NO_PROXY", "*")]);
    assert!(
        asked.recv_timeout(DEADLINE).unwrap().starts_with("CONNECT "),
        "the kubeconfig's own proxy has no exceptions"
    );
}

/// A Node that was measured at 10:00 on some day in the past.
const MEASURED_AT_TEN: &str = r#"{"metadata": {}, "items": [{"metadata": {"name": "n0", "annotations": {
    "drift-agent.io/clock-state": "in-sync", "drift-agent.io/offset-seconds": "0.001000",
    "drift-agent.io/offset-bound-seconds": "0.001000", "drift-agent.io/observed-at": "2024-05-01T10:00:00Z"}}}]}"#;

#[test]
fn ages_use_the_clock_of_the_api_server_and_requests_ask_for_metadata_only() {
    let folder = Folder::new("nodes-date");
    let stub = Stub::start(|_, _| Answer::DateSample("Wed, 01 May 2024 10:07:30 GMT", MEASURED_AT_TEN));
    let ended = finish(&mut nodes(&stub.kubeconfig(folder.path()), &["--no-headers"]), "");
    // This machine's clock is years later; by it the Node would be stale, and nothing measured.
    assert_eq!(ended.code, OK, "{ended:?}");
    assert!(ended.stdout.starts_with("n0  in-sync  1 ms behind  ±1 ms  -  7 min"), "{ended:?}");
    // Whole Nodes are ten times as large.
    let asked = stub.requests();
    assert!(
        !asked.is_empty() && asked.iter().all(|r| r.accept.contains("as=PartialObjectMetadataList")),
        "{asked:?}"
    );
}

#[test]
fn watch_repaints_on_changes_and_sends_no_requests_in_between() {
    let cluster = Cluster::start("watch");
    let kubeconfig = account(&cluster, "watcher", &["list", "watch"]);
    cluster.create(&with("w0", "watch", measured("in-sync", "0.001", "0.001", 725), &[]));
    let folder = Folder::new("nodes-watch");
    let process = Process::start(&mut nodes(&kubeconfig, &["--watch"]), folder.path(), "watch");
    process.wait_for_output("1 Node: 1 in-sync.");
    for n in 1..=3 {
        cluster.create(&with(&format!("w{n}"), "watch", measured("drifting", "1", "0.001", 725), &[]));
        process.wait_for_output(&format!("{} Nodes: {n} drifting, 1 in-sync.", n + 1));
    }
    cluster.kubectl(&["delete", "node", "w3"]);
    wait_for("a Node less", || {
        process
            .output()
            .rsplit_once("\n\n")
            .is_some_and(|(_, last)| last.starts_with("3 Nodes:"))
            .then_some(())
    });
    cluster.kubectl(&["label", "node", "w0", "color=red"]);
    let requests = || {
        let all = cluster.requests_of("watcher");
        let of = |verb: &str| {
            all.iter().filter(|line| line["verb"] == verb && line["stage"] == "ResponseComplete").count()
        };
        let uris: std::collections::BTreeSet<String> =
            all.iter().map(|l| l["requestURI"].as_str().unwrap().to_owned()).collect();
        (of("list"), uris)
    };
    let (lists, uris) = requests();
    assert_eq!(lists, 1, "one list, and then only the watch: {uris:?}");
    assert_eq!(
        uris.iter()
            .filter(|uri| uri.contains("watch=true") && uri.contains("allowWatchBookmarks=true"))
            .count(),
        1,
        "{uris:?}"
    );
    assert!(!process.output().contains('\u{1b}'), "no terminal, no colours");
    assert_eq!(
        process.output().matches("NODE  STATE").count(),
        5,
        "a label is no change: {}",
        process.output()
    );

    // It reports the lost connection, and continues by itself.
    cluster.kill();
    process.wait_for_output("Out of date, trying again: ");
    cluster.serve();
    cluster.create(&with("w9", "watch", measured("drifting", "9", "0.001", 725), &[]));
    process.wait_for_output("4 Nodes: 3 drifting, 1 in-sync.");
}

#[test]
fn five_thousand_nodes_are_listed_in_pages() {
    let cluster = cluster();
    let admin = account(cluster, "seeder", &["create"]);
    create(
        &admin,
        (0..LARGE).map(|n| {
            let (state, offset) = if n == 4_242 { ("drifting", "7.5") } else { ("in-sync", "0.001") };
            large(n, "large", &measured(state, offset, "0.001", 60))
        }),
    );
    let lister = account(cluster, "lister", &["list"]);
    let ended = finish(&mut nodes(&lister, &["-l", "suite=large"]), "");
    assert_eq!((ended.code, ended.stderr.as_str()), (DRIFTS, ""));
    assert_eq!(ended.stdout.lines().filter(|line| line.starts_with("large-")).count(), LARGE);
    let first = ended.stdout.lines().nth(1).unwrap();
    assert!(first.starts_with("large-4242  drifting  7.50 s behind  ±1 ms  -"), "{first}");
    assert!(first.ends_with("zone-0"), "{first}");
    assert!(
        ended.stdout.contains("\n5000 Nodes: 1 drifting, 4999 in-sync.\n"),
        "{}",
        &ended.stdout[ended.stdout.len() - 600..]
    );
    let asked = wait_for("the last request in the audit log", || {
        let all = cluster.requests_of("lister");
        let uris: Vec<String> = all
            .iter()
            .filter(|l| l["stage"] == "ResponseComplete")
            .map(|l| l["requestURI"].as_str().unwrap().to_owned())
            .collect();
        (uris.len() >= 10).then_some(uris)
    });
    // The server does not know that nothing follows the last full page.
    assert!((10..=11).contains(&asked.len()), "{asked:?}");
    assert!(asked.iter().all(|uri| uri.contains("limit=500")), "{asked:?}");
    let further = asked.iter().filter(|uri| uri.contains("continue=")).count();
    assert_eq!(further, asked.len() - 1, "{asked:?}");
}

/// The help of a command and of its subcommands, with the program's name replaced by `PROGRAM`.
fn help_of(mut command: clap::Command, program: &str) -> Vec<String> {
    command.build();
    let mut pages = vec![command.render_long_help().to_string()];
    for subcommand in command.get_subcommands().filter(|each| each.get_name() != "help") {
        pages.push(subcommand.clone().render_long_help().to_string());
    }
    // The examples are aligned by the length of the name; the agent's subcommands have its version.
    let words = |page: String| {
        let page = page.replace(program, "PROGRAM");
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        page.replace(" -V, --version Print version", "")
    };
    pages.into_iter().map(words).collect()
}

#[test]
fn command_line_of_the_plugin_is_that_of_drift_agent_nodes() {
    let mut agent = drift_agent::cli::command();
    agent.build();
    let nodes = help_of(agent.find_subcommand("nodes").unwrap().clone(), "drift-agent nodes");
    let plugin = help_of(clock_drift::command::plugin_command(), "kubectl clock-drift");
    assert_eq!(nodes.len(), 3, "nodes, explain, between: {nodes:?}");
    for (ours, theirs) in plugin.iter().zip(&nodes) {
        let usage = |page: &str| page[page.find("Usage: PROGRAM").expect(page)..].to_owned();
        assert_eq!(usage(ours), usage(theirs));
    }
}

/// kubectl finds its plugins in PATH.
#[test]
fn kubectl_runs_the_program_as_a_plugin() {
    every_state();
    let folder = Folder::new("nodes-plugin");
    symlink(env!("CARGO_BIN_EXE_drift-agent"), folder.path().join("kubectl-clock_drift")).unwrap();
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(tool("kubectl"));
        command
            .args(arguments)
            .env("PATH", folder.path())
            .env("KUBECONFIG", reader())
            .env("HOME", folder.path());
        finish(&mut command, "")
    };
    let ended = kubectl(&["clock-drift", "-l", "suite=states", "-o", "name"]);
    assert_eq!(
        (ended.code, ended.stdout),
        (DRIFTS, run(&["-l", "suite=states", "-o", "name"]).stdout),
        "{}",
        ended.stderr
    );
    let help = kubectl(&["clock-drift", "--help"]);
    assert!(help.stdout.contains("Usage: kubectl clock-drift [OPTIONS] [COMMAND]"), "{help:?}");
    assert!(
        kubectl(&["clock-drift", "between", "--help"]).stdout.contains("Usage: kubectl clock-drift between"),
        "{help:?}"
    );
    let wrong = kubectl(&["clock-drift", "explain", "absent"]);
    assert_eq!(
        (wrong.code, wrong.stderr.as_str()),
        (USAGE, "kubectl clock-drift: nodes \"absent\" not found\n")
    );
    let listed = kubectl(&["plugin", "list"]);
    assert!(listed.code == 0 && listed.stdout.contains("kubectl-clock_drift"), "{listed:?}");
}
