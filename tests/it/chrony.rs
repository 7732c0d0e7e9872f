//! Against a real chronyd, as a server and as a second opinion: same offset, same meaning of its sign.
//! It never touches the clock: `-x` and `-Q` see to that.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use drift_agent::config::Settings;
use drift_agent::config::raw::{self, ConfigText, RawConfig};
use drift_agent::os::chrony::Tracking;
use drift_agent::os::clock::{LinuxClock, ShiftedClock};
use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::TimeScale;
use drift_agent::sources::ntp::Ntp;
use drift_agent::step::ClockStepper;
use drift_core::ntp::sample::Limits;
use drift_core::ntp::server::{Answer, Ask};
use drift_core::step::audit::Finding;
use drift_core::step::time_daemon::Daemon;
use drift_core::time::Offset;
use serde_json::Value;

use crate::support::chronyd::{Chronyd, source};
use crate::support::{
    BackgroundRuntime, Folder, Process, drift_agent, finish, free_udp_port, pool, tool, wait_for,
};

/// What chronyd's own measurement over loopback may add.
const CHRONY: f64 = 0.001;

/// Without privileges, without a control socket, and without the machine's own configuration.
fn chronyd(dir: &Path, name: &str, options: &[&str], directives: &[&str]) -> Command {
    let user = finish(Command::new("id").arg("-un"), "").stdout;
    let mut command = Command::new(tool("chronyd"));
    command.args(["-U", "-u", user.trim()]).args(options);
    let pid_file = dir.join(name).with_extension("pid");
    command
        .args(["cmdport 0", "bindcmdaddress /", &format!("pidfile {}", pid_file.display())])
        .args(directives);
    command
}

/// A server of this machine's own time; ready when it answers.
fn serve(background: &BackgroundRuntime, dir: &Path, name: &str) -> (Process, String) {
    let port = free_udp_port();
    let listen = format!("port {port}");
    let directives = ["local stratum 1", "allow 127.0.0.1", "bindaddress 127.0.0.1", &listen];
    let process = Process::start(&mut chronyd(dir, name, &["-x", "-d"], &directives), dir, name);
    let limits = Limits {
        max_round_trip: Duration::from_millis(200),
        max_root_distance: Duration::from_secs(1),
        root_distance: None,
    };
    let ntp = Ntp::new(Arc::new(LinuxClock), limits);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait_for("chronyd to answer", || {
        let answer = background.runtime().block_on(ntp.ask(address, Ask::Sample));
        matches!(answer, Answer::Sample(_)).then_some(())
    });
    (process, address.to_string())
}

/// How wrong the clock is according to chronyd: positive, it is behind, as with us.
fn second_opinion(dir: &Path, server: &str) -> f64 {
    let (ip, port) = server.rsplit_once(':').expect("HOST:PORT");
    let directive = format!("server {ip} port {port} iburst maxsamples 1");
    let ended = finish(&mut chronyd(dir, "second-opinion", &["-Q", "-t", "10"], &[&directive]), "");
    let line = ended
        .stderr
        .lines()
        .chain(ended.stdout.lines())
        .find_map(|line| line.split_once("System clock wrong by "));
    let (_, wrong) = line.unwrap_or_else(|| panic!("{ended:?}"));
    assert!(wrong.ends_with(" seconds (ignored)"), "chronyd must not set the clock: {wrong}");
    wrong.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Signs included. A busy machine delays chronyd's only packet now and then: chronyd may look again, the agent may not.
fn assert_chronyd_agrees(dir: &Path, server: &str, (offset, bound): (f64, f64)) {
    let agrees = (0..3).any(|_| {
        let wrong = second_opinion(dir, server);
        eprintln!("agent {offset} ± {bound}, chronyd -Q {wrong}");
        (wrong - offset).abs() <= bound + CHRONY
    });
    assert!(agrees, "none of three second opinions is near {offset} ± {bound}");
}

/// What `run` has of the daemon, with this chronyd: by its socket, and by UDP as a pod on the node's network has it.
#[test]
fn run_sees_chrony_by_udp_where_its_socket_is_not_mounted_and_steps_by_the_socket_only() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-run"));
    let time = TimeScale::new(Offset::from_nanos(30_000_000));
    let servers = [1, 2].map(|host| background.server_on(host, &time, Behaviour::Honest));
    let sources = servers.each_ref().map(|server| source(server.address()));
    let chronyd = Chronyd::start(&background, &folder, &sources.each_ref().map(String::as_str));
    chronyd.wait_for(&background, "an update", Tracking::is_synchronised);
    let inspect = |mode: &str, socket: &Path| {
        let text = |value: &str| Some(ConfigText(value.to_owned()));
        let step = raw::Step { mode: text(mode), ..raw::Step::default() };
        let chrony = raw::Chrony { socket: text(&socket.display().to_string()) };
        let file = RawConfig { step, chrony, ..RawConfig::default() };
        let settings = Settings::new(file, RawConfig::default()).unwrap();
        let clock = Arc::new(ShiftedClock::default());
        let udp = SocketAddr::from(([127, 0, 0, 1], chronyd.udp_port));
        let stepper = ClockStepper::new(&settings, clock.clone(), clock)
            .with_places(udp, &folder.path().join("no-stamp"));
        background.runtime().block_on(stepper.inspect())
    };
    let nowhere = folder.path().join("nowhere/chronyd.sock");
    let reachable = wait_for("both sources", || {
        Some(inspect("off", &nowhere)).filter(|report| report.audit.sources == Finding::Fulfilled)
    });
    assert_eq!(reachable.daemon, Daemon::Chrony);
    let believes = reachable.believes.expect("the offset that chrony reports").as_secs_f64();
    assert!((believes - 0.03).abs() < 0.01, "{believes}");
    assert_eq!(reachable.audit.near, Finding::Fulfilled);
    for (mode, words) in [
        ("auto", "takes commands over its socket only: no socket at"),
        ("kernel", "would take the step back"),
        ("chrony", "step.mode is chrony, but no socket at"),
    ] {
        let missing = inspect(mode, &nowhere).ready.unwrap_err();
        assert!(missing.contains(words), "{mode}: {missing}");
    }
    for mode in ["auto", "chrony"] {
        let report = inspect(mode, &chronyd.socket());
        assert_eq!((report.daemon, report.ready), (Daemon::Chrony, Ok(())), "{mode}");
    }
}

/// The result of `drift-agent check`: the exit code and the JSON.
fn check(pools: &[&str], options: &[&str]) -> (i32, String) {
    let pools = pools.iter().flat_map(|pool| ["--pool", pool]);
    let ended = finish(drift_agent().arg("check").args(options).args(pools), "");
    (ended.code, ended.stdout)
}

fn offset_and_bound(report: &Value) -> (f64, f64) {
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("no {key} in {report}"));
    (number("offsetSeconds"), number("boundSeconds"))
}

#[test]
fn the_clock_that_chronyd_serves_is_in_sync_and_chronyd_measures_the_same_offset() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-pools"));
    let [(_first, a), (_second, b)] = ["a", "b"].map(|name| serve(&background, folder.path(), name));
    let (code, json) = check(&[&a, &b], &["--output", "json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &report["state"]), (0, &Value::from("in-sync")), "{json}");
    let (offset, bound) = offset_and_bound(&report);
    assert!(offset.abs() <= bound, "server and client are one machine: {offset} ± {bound}");
    assert!(bound < 0.05, "{bound}");
    for (pool, address) in report["pools"].as_array().unwrap().iter().zip([&a, &b]) {
        assert_eq!(
            (&pool["name"], &pool["stratum"]),
            (&Value::from(address.as_str()), &Value::from(1)),
            "{json}"
        );
        assert_chronyd_agrees(folder.path(), address, (offset, bound));
    }
}

#[test]
fn chronyd_and_the_agent_agree_on_the_sign_of_a_clock_250_ms_behind() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-sign"));
    let time = TimeScale::new(Offset::from_nanos(250_000_000));
    let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
    let [a, b] = servers.each_ref().map(pool);
    let (code, json) = check(&[&a, &b], &["--output", "json"]);
    let (offset, bound) = offset_and_bound(&serde_json::from_str(&json).unwrap());
    assert_eq!(code, 1, "{json}");
    assert!((offset - 0.25).abs() <= bound && bound < 0.05, "{offset} ± {bound}");
    assert_chronyd_agrees(folder.path(), &a, (offset, bound));
    let (_, table) = check(&[&a, &b], &[]);
    assert!(table.starts_with("drifting: The clock is 2") && table.contains(" ms behind (±"), "{table}");
}
