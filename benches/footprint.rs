//! What the agent costs a node: memory, CPU, size, start. `make bench` runs it and writes the table in benches/README.md.
#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that cannot go on ends; clippy knows only tests by themselves"
)]

#[path = "../tests/it/support/release.rs"]
mod release;
#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use drift_agent::sim::behaviour::{Behaviour, ServerModel};
use drift_agent::sim::server::TimeScale;
use drift_agent::sim::world::{Host, Oscillator, Path as Way, Plan, World, default_settings};
use drift_core::time::{Offset, Ppb, Wall};
use serde_json::json;
use support::cluster::{AGENTS, Cluster};
use support::process::{cpu, machine, memory};
use support::{BackgroundRuntime, Folder, Process, clean, free_tcp_port, get, pool, wait_for};

const SCRAPES: u32 = 1_000;
/// How long the agent is left alone at the default interval: two rounds.
const QUIET: Duration = Duration::from_secs(128);
const NODE: &str = "bench";

/// One row of the table: what, as measured, and what it may be.
type Row = (&'static str, String, &'static str);

/// The program of the image.
fn agent() -> PathBuf {
    release::static_build("Cargo.toml", "drift-agent")
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let mut rows = vec![binary_size()];
    rows.extend(running_agent());
    rows.push(simulated_day());
    let table = table(&rows);
    print!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/README.md");
    std::fs::write(&path, document(&table)).expect("benches/README.md");
}

fn binary_size() -> Row {
    let bytes = std::fs::metadata(agent()).expect("the binary").len();
    ("Binary", format!("{:.1} MB", bytes as f64 / 1e6), "under 8 MB")
}

fn running_agent() -> Vec<Row> {
    let folder = Folder::new("bench");
    let background = BackgroundRuntime::new();
    let time = TimeScale::new(Offset::ZERO);
    let servers = [0, 1].map(|_| background.server(&time, Behaviour::Honest));
    let cluster = Cluster::start("bench");
    cluster.create(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}));
    let kubeconfig = cluster.kubeconfig(AGENTS, NODE, NODE);

    let port = free_tcp_port();
    let mut command = clean(&agent());
    command.args([
        "run",
        "--kubernetes",
        "on",
        "--node-name",
        NODE,
        "--listen",
        &format!("127.0.0.1:{port}"),
    ]);
    for server in &servers {
        command.args(["--pool", &pool(server)]);
    }
    command.env("KUBECONFIG", kubeconfig);
    let started = Instant::now();
    let agent = Process::start(&mut command, folder.path(), "agent");
    let in_sync = "drift_agent_state{state=\"in-sync\"} 1";
    wait_for("a first verdict", || get(port, "/metrics").filter(|(_, text)| text.contains(in_sync)));
    let verdict = started.elapsed();
    wait_for("the Node written", || {
        cluster.get(&["node", NODE])?["metadata"]["annotations"]["drift-agent.io/clock-state"]
            .as_str()
            .map(drop)
    });

    let before = cpu(agent.id());
    (0..SCRAPES).for_each(|_| assert_eq!(get(port, "/metrics").map(|(status, _)| status), Some(200)));
    let scrape = cpu(agent.id()).saturating_sub(before) / SCRAPES;
    let memory = memory(agent.id());

    let (before, since) = (cpu(agent.id()), Instant::now());
    std::thread::sleep(QUIET);
    let share = cpu(agent.id()).saturating_sub(before).as_secs_f64() / since.elapsed().as_secs_f64();
    vec![
        (
            "Resident memory, TLS connection to the API server open, after 1,000 scrapes",
            format!("{:.1} MiB", memory as f64 / 1_048_576.0),
            "under 8 MiB",
        ),
        (
            "CPU at the default interval of 64 s",
            format!("{:.3} % of one core", share * 100.0),
            "under 0.05 %",
        ),
        (
            "CPU of one scrape, connection included",
            format!("{:.2} ms", scrape.as_secs_f64() * 1e3),
            "under 0.3 ms",
        ),
        ("Start to first verdict", format!("{:.2} s", verdict.as_secs_f64()), "under 3 s"),
    ]
}

/// How much this process grows while the machine lives through a day.
fn simulated_day() -> Row {
    let way = |micros| Way {
        there: Duration::from_micros(micros),
        back: Duration::from_micros(micros * 2),
        jitter: Duration::from_micros(micros / 4),
        loss: 0.01,
    };
    let host = |micros| Host { model: ServerModel::new(Behaviour::Honest), path: way(micros) };
    let mut world = World::new(Plan {
        seed: 1,
        present: Wall::from_secs(1_795_341_600),
        offset: Offset::ZERO,
        oscillator: Oscillator {
            error: Ppb::from_ppm(30),
            swing: Ppb::from_ppm(1),
            period: Duration::from_secs(86_400),
        },
        rtc_ahead: Offset::ZERO,
        pools: vec![vec![host(4_000); 4], vec![host(7_000); 4]],
        settings: default_settings(),
        api_errors: 0.0,
        steps_work: true,
    });
    let hour = Duration::from_secs(3_600);
    world.run_until(hour, |_| Ok(())).expect("nothing is checked");
    let before = memory(std::process::id());
    world.run_until(hour * 25, |_| Ok(())).expect("nothing is checked");
    let grown = memory(std::process::id()).saturating_sub(before) / 1_024;
    (
        "Growth over 24 simulated hours, the world's own record included",
        format!("{grown} KiB"),
        "none of the agent's",
    )
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec!["| What | Measured | Figure to hold |".to_owned(), "|---|---|---|".to_owned()];
    lines.extend(rows.iter().map(|(what, seen, limit)| format!("| {what} | {seen} | {limit} |")));
    lines.join("\n") + "\n"
}

fn document(table: &str) -> String {
    let machine = machine();
    format!(
        "# What the agent costs\n\nWritten by `make bench` (`benches/footprint.rs`); not edited by hand. A real kube-apiserver, two NTP \
         servers on loopback,\nthe release binary, static as in the image. Figures of one machine: {machine}.\n\n{table}"
    )
}
