//! What `kubectl clock-drift` costs on 5,000 Nodes. `make bench-nodes` runs it and writes the table in benches/NODES.md.
#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that cannot go on ends; clippy knows only tests by themselves"
)]

#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod support;

use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::cluster::Cluster;
use support::drift_agent;
use support::fleet::{account, create, large, measured};

const NODES: usize = 5_000;
const RUNS: usize = 5;

/// One run.
struct Cost {
    cpu: Duration,
    wall: Duration,
    memory: u64,
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let cluster = Cluster::start("bench-nodes");
    let seeder = account(&cluster, "seeder", &["create"]);
    create(&seeder, (0..NODES).map(|n| large(n, "bench", &measured("in-sync", "0.001234", "0.000900", 60))));
    let reader = account(&cluster, "reader", &["list"]);
    let metadata = cluster.get(&["node", "bench-0000"]).expect("a Node")["metadata"].to_string().len();
    let mut costs: Vec<Cost> = (0..RUNS).map(|_| run(&reader)).collect();
    costs.sort_by_key(|cost| cost.cpu);
    let row = |what: &str, seen: String, hold: &str| format!("| {what} | {seen} | {hold} |");
    let cpu = |n: usize| format!("{:.2} s", costs[n].cpu.as_secs_f64());
    let wall = costs.iter().map(|cost| cost.wall).min().expect("a run");
    let memory = costs.iter().map(|cost| cost.memory).max().expect("a run");
    let rows = [
        row("CPU of one table, median of 5 runs", cpu(RUNS / 2), "under 1 s"),
        row("CPU of one table, worst of 5 runs", cpu(RUNS - 1), "under 1 s"),
        row("Time until the table, best of 5 runs", format!("{:.2} s", wall.as_secs_f64()), "-"),
        row("Peak of resident memory", format!("{:.1} MiB", memory as f64 / 1_048_576.0), "-"),
        row("Metadata of one Node, as JSON", format!("{:.1} KB", metadata as f64 / 1e3), "-"),
    ];
    let table = format!("| What | Measured | Figure to hold |\n|---|---|---|\n{}\n", rows.join("\n"));
    print!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/NODES.md");
    std::fs::write(&path, document(&table)).expect("benches/NODES.md");
}

/// The table is far larger than a pipe: so the program still waits for us when its first byte is here, and can be asked.
fn run(kubeconfig: &Path) -> Cost {
    let started = Instant::now();
    let mut command = drift_agent();
    command.arg("nodes").arg("--kubeconfig").arg(kubeconfig);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the binary");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut table = vec![0];
    stdout.read_exact(&mut table).expect("a table");
    let wall = started.elapsed();
    let cpu = cpu(child.id());
    let memory = memory(child.id());
    stdout.read_to_end(&mut table).expect("a table");
    assert_eq!(child.wait().expect("a child of ours").code(), Some(0));
    let table = String::from_utf8(table).expect("text");
    assert!(
        table.contains(&format!("{NODES} Nodes: {NODES} in-sync.")),
        "{}",
        &table[table.len().saturating_sub(400)..]
    );
    Cost { cpu, wall, memory }
}

/// CPU time of all threads, by the scheduler's own count.
fn cpu(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let nanos = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// The most memory that was resident, in bytes.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") * 1_024
}

fn document(table: &str) -> String {
    format!(
        "# What `kubectl clock-drift` costs on 5,000 Nodes\n\nWritten by `make bench-nodes` (`benches/nodes.rs`); not edited by hand. A real \
         kube-apiserver on the same machine, the\nrelease binary, TLS, ten pages of 500 Nodes, metadata only: labels, annotations and managed \
         fields as a cluster has them.\n\n{table}"
    )
}
