//! The command line: invalid input, exit codes, precedence of settings, output.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_core::time::Offset;
use serde_json::Value;

use crate::support::{
    BackgroundRuntime, Ended, Folder, Process, RunningAgent, drift_agent, finish, free_tcp_port,
    free_udp_port, get, pool, wait_for,
};

const USAGE: i32 = 64;
const CONFIG: i32 = 78;

fn run(arguments: &[&str]) -> Ended {
    finish(drift_agent().args(arguments), "")
}

/// The pools of a command that fails before it polls them.
const POOLS: [&str; 4] = ["--pool", "127.0.0.1:1", "--pool", "127.0.0.1:2"];

/// Asserts one line on standard error that contains all of these texts, and no other output.
fn assert_refused(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (code, ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "one line: {ended:?}");
    assert!(ended.stderr.starts_with("drift-agent: "), "{ended:?}");
    for text in texts {
        assert!(ended.stderr.contains(text), "{text:?} is missing: {ended:?}");
    }
}

/// Runs `drift-agent run` with these arguments, and asserts that it exits and that no port is open.
fn run_refused(command: &mut Command, arguments: &[&str], code: i32, texts: &[&str]) {
    let port = free_tcp_port();
    let listen = format!("127.0.0.1:{port}");
    command.arg("run").args(arguments);
    if !texts.contains(&"listen") {
        command.args(["--listen", &listen]);
    }
    assert_refused(&finish(command, ""), code, texts);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "no server was started");
}

#[test]
fn invalid_flags_are_reported_with_their_value_and_the_valid_range() {
    let whole = [&POOLS[..], &["--kubernetes", "off"]].concat();
    let cases: [(&[&str], &[&str]); 16] = [
        (&["--pool", "a.example"], &["pools", "\"a.example\"", "at least two"]),
        (
            &["--pool", "a.example", "--pool", "A.example:123"],
            &["pools", "\"A.example:123\"", "each pool once"],
        ),
        (&["--pool", "a b", "--pool", "c"], &["pools", "\"a b\"", "HOST:PORT"]),
        (&["--pool", "a:99999", "--pool", "c"], &["pools", "\"a:99999\"", "port from 1 to 65535"]),
        (&["--pool", "10.0.0.256", "--pool", "c"], &["pools", "\"10.0.0.256\"", "IPv4"]),
        (&["--threshold", "0s"], &["threshold", "\"0s\"", "from 1ms to 10s"]),
        (&["--threshold", "-100ms"], &["threshold", "\"-100ms\"", "from 1ms to 10s"]),
        (&["--threshold", "10001ms"], &["threshold", "\"10001ms\"", "from 1ms to 10s"]),
        (&["--threshold", "100"], &["threshold", "\"100\"", "with a unit"]),
        (&["--interval", "999ms"], &["interval", "\"999ms\"", "from 1s"]),
        (&["--interval", "soon"], &["interval", "\"soon\"", "e.g. 64s"]),
        (&["--listen", "localhost"], &["listen", "\"localhost\"", ":10123"]),
        (&["--listen", ":70000"], &["listen", "\":70000\"", ":10123"]),
        (&["--kubernetes", "perhaps"], &["kubernetes", "\"perhaps\"", "auto, on, off"]),
        (&["--log-format", "xml"], &["logFormat", "\"xml\"", "text, json"]),
        (&["--node-name", "Node_1"], &["nodeName", "\"Node_1\"", "name of a Node"]),
    ];
    for (wrong, texts) in cases {
        let others =
            if wrong.contains(&"--pool") || wrong.contains(&"--kubernetes") { &[][..] } else { &whole };
        run_refused(&mut drift_agent(), &[wrong, others].concat(), USAGE, texts);
    }
}

#[test]
fn invalid_config_files_are_reported_with_the_key_value_and_line() {
    let folder = Folder::new("cli-files");
    let file = folder.path().join("config.yaml");
    let cases: [(&[u8], &[&str]); 14] = [
        (b"pools: [a.example]", &["pools", "\"a.example\"", "at least two"]),
        (b"pools: [a.example, b.example, a.example]", &["pools", "\"a.example\"", "each pool once"]),
        (b"pools: a.example", &["config.yaml", "pools", "pools: a.example", "line 1"]),
        (b"# ours\nintervall: 64s", &["config.yaml", "intervall", "interval", "line 2"]),
        (b"threshold: 0", &["threshold", "\"0\"", "from 1ms to 10s"]),
        (b"threshold: -1s", &["threshold", "\"-1s\"", "from 1ms to 10s"]),
        (b"threshold: 1m", &["threshold", "\"1m\"", "from 1ms to 10s"]),
        (b"interval: 0.5s", &["interval", "\"0.5s\"", "from 1s"]),
        (b"interval: [64s]", &["config.yaml", "interval: [64s]", "line 1"]),
        (b"nodeName: ''", &["nodeName", "\"\"", "name of a Node", "configuration file"]),
        (b"listen: 10123", &["listen", "\"10123\"", ":10123"]),
        (b"[no, mapping]", &["config.yaml", "[no, mapping]", "mapping"]),
        (b"pools: [unclosed", &["config.yaml", "pools: [unclosed"]),
        (b"\x7fELF\x02\x01\x01\0\xff\xfe", &["config.yaml", "UTF-8"]),
    ];
    for (text, texts) in cases {
        std::fs::write(&file, text).unwrap();
        let pools = if texts.contains(&"pools") { &[][..] } else { &POOLS };
        let mut command = drift_agent();
        run_refused(
            command.env("DRIFT_AGENT_CONFIG", &file).env("DRIFT_AGENT_KUBERNETES", "off"),
            pools,
            CONFIG,
            texts,
        );
    }
    let path = |path: &Path| path.display().to_string();
    let (missing, directory) = (path(&folder.path().join("missing.yaml")), path(folder.path()));
    run_refused(
        &mut drift_agent(),
        &["--config", &missing],
        CONFIG,
        &[&missing, "cannot be read", "No such file"],
    );
    run_refused(
        &mut drift_agent(),
        &["--config", &directory],
        CONFIG,
        &[&directory, "cannot be read", "directory"],
    );
}

#[test]
fn invalid_environments_are_reported_in_one_line() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let in_use = [&POOLS[..], &["--kubernetes", "off", "--listen", &listen]].concat();
    run_refused(&mut drift_agent(), &in_use, CONFIG, &["listen", &listen, "in use"]);
    let cluster = [&POOLS[..], &["--kubernetes", "on"]].concat();
    run_refused(
        &mut drift_agent(),
        &cluster,
        CONFIG,
        &["kubernetes", "\"on\"", "no API server", "KUBECONFIG"],
    );
    run_refused(drift_agent().env("NODE_NAME", ""), &POOLS, USAGE, &["nodeName", "\"\"", "spec.nodeName"]);
    run_refused(
        drift_agent().env("DRIFT_AGENT_INTERVAL", "1"),
        &POOLS,
        USAGE,
        &["interval", "\"1\"", "environment"],
    );
    run_refused(drift_agent().env("DRIFT_AGENT_POOLS", "a.example"), &[], USAGE, &["pools", "at least two"]);
}

#[test]
fn version_prints_version_and_revision_in_one_line() {
    let ended = finish(drift_agent().arg("version"), "");
    let expected = concat!("drift-agent ", env!("CARGO_PKG_VERSION"), " (revision ");
    assert!(ended.code == 0 && ended.stdout.starts_with(expected), "{ended:?}");
    assert_eq!((ended.stdout.lines().count(), ended.stderr.as_str()), (1, ""), "{ended:?}");
}

#[test]
fn unknown_commands_are_usage_errors_and_help_is_not() {
    for wrong in [
        &["--frobnicate"][..],
        &["walk"],
        &["run", "--frobnicate"],
        &["check", "--output", "xml"],
        &["run", "x"],
    ] {
        let ended = run(wrong);
        assert_eq!((ended.code, ended.stdout.as_str()), (USAGE, ""), "{ended:?}");
        assert!(ended.stderr.contains(wrong[wrong.len() - 1]), "{ended:?}");
    }
    assert_eq!(run(&[]).code, USAGE);
    for asked in [&["--help"][..], &["run", "--help"], &["check", "-h"], &["help", "demo"]] {
        let ended = run(asked);
        assert!(
            ended.code == 0 && ended.stdout.contains("Usage: drift-agent") && ended.stderr.is_empty(),
            "{ended:?}"
        );
    }
    let version = run(&["--version"]);
    assert_eq!((version.code, version.stdout), (0, format!("drift-agent {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let folder = Folder::new("cli-precedence");
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, "interval: 128s\nthreshold: 250ms\nkubernetes: off\n").unwrap();
    let printed = |from_file: bool, env: &[(&str, &str)], flags: &[&str]| {
        let mut command = drift_agent();
        command.arg("check-config").args(flags).envs(env.iter().copied());
        if from_file {
            command.arg("--config").arg(&file);
        }
        let ended = finish(&mut command, "");
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
        ended.stdout
    };
    let lines = |text: &str, wanted: &[&str]| wanted.iter().all(|line| text.lines().any(|l| l == *line));
    let text = printed(true, &[], &[]);
    assert!(lines(&text, &["interval: 128s", "threshold: 250ms", "kubernetes: \"off\""]), "{text}");
    let text = printed(true, &[("DRIFT_AGENT_INTERVAL", "32s")], &[]);
    assert!(lines(&text, &["interval: 32s", "threshold: 250ms"]), "{text}");
    let text = printed(true, &[("DRIFT_AGENT_INTERVAL", "32s")], &["--interval", "48s"]);
    assert!(lines(&text, &["interval: 48s", "threshold: 250ms"]), "{text}");

    let all = [
        ("DRIFT_AGENT_POOLS", "a.example,[::1]:1123", "  - \"[::1]:1123\""),
        ("DRIFT_AGENT_INTERVAL", "17s", "interval: 17s"),
        ("DRIFT_AGENT_THRESHOLD", "50ms", "threshold: 50ms"),
        ("DRIFT_AGENT_STALE_AFTER", "5m", "staleAfter: 5m"),
        ("DRIFT_AGENT_SERVERS_PER_POOL", "2", "serversPerPool: 2"),
        ("DRIFT_AGENT_MAX_ROUND_TRIP", "300ms", "maxRoundTrip: 300ms"),
        ("DRIFT_AGENT_MAX_ROOT_DISTANCE", "400ms", "maxRootDistance: 400ms"),
        ("DRIFT_AGENT_LISTEN", "127.0.0.1:9", "listen: \"127.0.0.1:9\""),
        ("NODE_NAME", "node-7.example", "nodeName: \"node-7.example\""),
        ("DRIFT_AGENT_KUBERNETES", "off", "kubernetes: \"off\""),
        ("DRIFT_AGENT_LOG_FORMAT", "json", "logFormat: json"),
        ("DRIFT_AGENT_LOG_LEVEL", "debug", "logLevel: debug"),
    ];
    let text = printed(false, &all.map(|(key, value, _)| (key, value)), &[]);
    assert!(lines(&text, &all.map(|(.., line)| line)), "{text}");
    std::fs::write(&file, &text).unwrap();
    assert_eq!(printed(true, &[], &[]), text, "the printed configuration gives the same settings");
}

#[test]
fn intervals_below_16_s_give_a_warning() {
    let ended = run(&["check-config", "--interval", "15s"]);
    assert!(ended.code == 0 && ended.stdout.contains("interval: 15s"), "{ended:?}");
    assert!(
        ended.stderr.lines().count() == 1 && ended.stderr.contains("warning: interval: 15s"),
        "{ended:?}"
    );
    assert_eq!(run(&["check-config", "--interval", "16s"]).stderr, "");
}

#[test]
fn the_round_trip_up_to_which_the_threshold_is_decidable_is_printed_as_a_comment() {
    for (threshold, said) in [
        ("100ms", "threshold 100 ms: decidable up to a round trip of about 168 ms,"),
        ("10ms", "10 ms: decidable up to a round trip of about 15 ms,"),
    ] {
        let printed = run(&["check-config", "--threshold", threshold]).stdout;
        let last = printed.lines().last().expect("a line");
        assert!(last.starts_with("# ") && last.contains(said), "{last}");
    }
}

fn check(pools: &[String], options: &[&str]) -> Ended {
    let pools = pools.iter().flat_map(|pool| ["--pool", pool]);
    finish(drift_agent().arg("check").args(pools).args(options), "")
}

/// Two pools whose time is `ahead` milliseconds ahead of this machine's.
fn pools(background: &BackgroundRuntime, ahead: [i64; 2]) -> ([Server; 2], [String; 2]) {
    let time = |millis: i64| TimeScale::new(Offset::from_nanos(millis * 1_000_000));
    let servers = ahead.map(|millis| background.server(&time(millis), Behaviour::Honest));
    let names = servers.each_ref().map(pool);
    (servers, names)
}

#[test]
fn check_reports_the_state_as_text_as_json_and_as_exit_code() {
    let background = BackgroundRuntime::new();
    for (ahead, code, state, words) in [
        ([0, 0], 0, "in-sync", "within the threshold of 100 ms"),
        ([250, 250], 1, "drifting", " ms behind (±"),
        ([-250, -250], 1, "drifting", " ms ahead (±"),
        ([0, 10_000], 2, "disagree", "The time servers disagree"),
    ] {
        let (_servers, names) = pools(&background, ahead);
        let table = check(&names, &[]);
        assert_eq!((table.code, table.stderr.as_str()), (code, ""), "{table:?}");
        let (first, rest) = table.stdout.split_once('\n').unwrap();
        assert!(first.starts_with(&format!("{state}: ")) && first.contains(words), "{first}");
        assert!(!table.stdout.contains('\x1b'), "no colours in a pipe: {table:?}");
        for name in &names {
            assert!(rest.contains(name), "{rest}");
        }

        let json = check(&names, &["--output", "json"]);
        let report: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(
            (json.code, json.stderr.as_str(), &report["state"]),
            (code, "", &Value::from(state)),
            "{json:?}"
        );
        let truth = ahead.map(|millis| Offset::from_nanos(millis * 1_000_000).as_secs_f64());
        let is_near = |what: &Value, truth: f64| (what["offsetSeconds"].as_f64().unwrap() - truth).abs();
        if code == 2 {
            assert!(report["offsetSeconds"].is_null() && report["boundSeconds"].is_null(), "{json:?}");
        } else {
            assert!(is_near(&report, truth[0]) <= report["boundSeconds"].as_f64().unwrap(), "{json:?}");
            assert!(report["observedAt"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{json:?}");
        }
        for (index, pool) in report["pools"].as_array().unwrap().iter().enumerate() {
            assert_eq!(
                (&pool["name"], &pool["stratum"]),
                (&Value::from(names[index].as_str()), &Value::from(1))
            );
            assert!(is_near(pool, truth[index]) <= pool["boundSeconds"].as_f64().unwrap(), "{json:?}");
            assert!(pool["roundTripSeconds"].as_f64().unwrap() > 0.0, "{json:?}");
            let server = &pool["servers"][0];
            assert_eq!(
                (&server["address"], &server["result"]),
                (&pool["name"], &Value::from("accepted")),
                "{json:?}"
            );
        }
    }
}

#[test]
fn check_ends_with_unknown_when_no_pool_answers_or_resolves() {
    let background = BackgroundRuntime::new();
    let time = TimeScale::new(Offset::ZERO);
    let servers = [(); 2].map(|()| background.server(&time, Behaviour::Silent));
    let silent = servers.each_ref().map(pool);
    let closed = [(); 2].map(|()| format!("127.0.0.1:{}", free_udp_port()));
    // `.invalid` never leaves the machine, and a dot at the end keeps the search list out of it.
    let nameless = ["a.invalid.", "b.invalid."].map(str::to_owned);
    for (pools, options, why) in [
        (&silent, &[][..], "no answer"),
        (&closed, &[], "no route, or the port is closed"),
        (&nameless, &[], "does not resolve: no such name"),
    ] {
        let ended = check(pools, options);
        assert_eq!((ended.code, ended.stderr.as_str()), (3, ""), "{ended:?}");
        assert!(ended.stdout.starts_with("unknown: Nothing measured yet"), "{ended:?}");
        assert!(
            pools.iter().all(|pool| ended.stdout.contains(pool)) && ended.stdout.contains(why),
            "{ended:?}"
        );
    }
    let before = servers[0].served();
    let ended = check(&silent, &["--max-round-trip", "3s"]);
    assert!(ended.code == 3 && ended.stdout.starts_with("unknown: "), "{ended:?}");
    let asked = servers[0].served() - before;
    assert!((1..4).contains(&asked), "the timeout must end the burst: {asked} exchanges");
    let report: Value = serde_json::from_str(&check(&nameless, &["--output", "json"]).stdout).unwrap();
    assert!(report["offsetSeconds"].is_null() && report["observedAt"].is_null(), "{report}");
    assert!(report["pools"][1]["error"].as_str().unwrap().contains("no such name"), "{report}");
}

#[test]
fn closed_pipes_do_not_change_the_exit_code() {
    let background = BackgroundRuntime::new();
    let (_servers, names) = pools(&background, [250, 250]);
    let mut command = drift_agent();
    command.arg("check").args(names.iter().flat_map(|pool| ["--pool", pool]));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let code = wait_for("the end of check", || child.try_wait().unwrap()).code();
    let stderr = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!((code, stderr.as_str()), (Some(1), ""));
}

#[test]
fn run_exits_with_0_on_sigterm_and_sigint() {
    let folder = Folder::new("cli-signals");
    let background = BackgroundRuntime::new();
    let (_servers, names) = pools(&background, [0, 0]);
    for signal in ["TERM", "INT"] {
        let mut agent = RunningAgent::start(folder.path(), &names, &["--kubernetes", "off"], |_| {});
        wait_for("it to listen", || get(agent.port, "/healthz"));
        let id = agent.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let code = wait_for("its end", || agent.process.exit_code());
        assert_eq!((code, get(agent.port, "/healthz")), (0, None), "SIG{signal}");
        assert!(
            agent.process.output().lines().last().unwrap().contains("INFO shutting down"),
            "{}",
            agent.process.output()
        );
    }
}

#[test]
fn demo_prints_its_phases_and_exits_with_0() {
    let folder = Folder::new("cli-demo");
    let mut demo = Process::start(drift_agent().arg("demo"), folder.path(), "demo");
    let url = wait_for("the URL of the metrics", || {
        demo.output()
            .split_once("metrics: http://127.0.0.1:")?
            .1
            .split_once("/metrics")
            .map(|(port, _)| port.to_owned())
    });
    let (status, metrics) = get(url.parse().unwrap(), "/metrics").unwrap();
    assert!(status == 200 && metrics.contains("drift_agent_state"), "{status}");
    // The demo has its own timeout for each phase.
    for phase in
        ["in-sync", "drifting", "annotated", "falseticker", "stops answering", "disagree", "That is all"]
    {
        demo.wait_for_output(phase);
    }
    assert_eq!(wait_for("the end of the demo", || demo.exit_code()), 0);
    let story = demo.output();
    assert!(!story.contains('\x1b'), "no colours in a file");
    assert!(
        story.contains("drift-agent.io/clock-state") && story.contains("PATCH /api/v1/nodes/"),
        "{story}"
    );
    assert!(!story.contains("WARN") && !story.contains("panicked"), "{story}");
}
