//! What a fleet of a thousand agents costs the API server: the real writer code, no measuring. `make bench-fleet` runs it and writes
//! the table in benches/FLEET.md.
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

use std::path::Path;
use std::time::{Duration, Instant};

use drift_agent::kubernetes::api::{Access, NodeApi};
use drift_core::report::node::{EventReason, NodeEvent, NodeReport, Reason};
use drift_core::report::publish::ApiError;
use drift_core::time::backoff::Backoff;
use drift_core::time::{Bound, Measurement, Offset, Wall};
use drift_core::verdict::State;
use serde_json::{Value, json};
use support::cluster::{AGENTS, Cluster};
use support::get;

const NODES: usize = 1_000;
/// How long the steady state is watched.
const STEADY: Duration = Duration::from_secs(60);
/// What one node writes when nothing happens: a heartbeat every ten minutes.
const HEARTBEAT: Duration = Duration::from_secs(600);

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let cluster = Cluster::start("fleet");
    let kubeconfig = populate(&cluster);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let rows = runtime.block_on(measure(&cluster, &kubeconfig));
    let table = rows.join("\n");
    println!("{table}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/FLEET.md");
    std::fs::write(&path, document(&table)).expect("benches/FLEET.md");
}

/// Nodes of an ordinary size: what the kubelet writes is what etcd stores again with each of our writes.
fn populate(cluster: &Cluster) -> std::path::PathBuf {
    let images: Vec<Value> = (0..50)
        .map(|n| json!({"names": [format!("registry.example/team-{n}/service@sha256:{:064x}", n), format!("registry.example/team-{n}/service:v1.{n}")], "sizeBytes": 123_456_789}))
        .collect();
    let nodes: Vec<Value> = (0..NODES)
        .map(|n| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name(n)}, "status": {"images": images}}))
        .collect();
    cluster.create(&json!({"apiVersion": "v1", "kind": "List", "items": nodes}));
    cluster.kubeconfig(AGENTS, "fleet", &name(0))
}

fn name(n: usize) -> String {
    format!("node-{n}")
}

async fn measure(cluster: &Cluster, kubeconfig: &Path) -> Vec<String> {
    let mut fleet = Vec::with_capacity(NODES);
    for n in 0..NODES {
        fleet.push(NodeApi::new(Access::File(kubeconfig.to_owned()), name(n)).await.expect("a client"));
    }
    // The first write of each opens its connection, as at the start of a fleet; four at a time, to be no storm.
    for some in fleet.chunks(4) {
        let writes = some.iter().map(|api| {
            let api = api.clone();
            tokio::spawn(async move { api.write(&report(State::InSync)).await })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.expect("no panic").expect("written");
        }
    }

    let before = Costs::read(cluster);
    let since = Instant::now();
    let mut steady = Vec::new();
    let pause = HEARTBEAT / u32::try_from(NODES).expect("a small fleet");
    let mut turn = tokio::time::interval(pause);
    for api in fleet.iter().cycle() {
        turn.tick().await;
        if since.elapsed() > STEADY {
            break;
        }
        let asked = Instant::now();
        api.write(&report(State::InSync)).await.expect("written");
        steady.push(asked.elapsed());
    }
    let quiet = Costs::read(cluster).since(&before, since.elapsed());

    let (before, since) = (Costs::read(cluster), Instant::now());
    let mut storm = Vec::new();
    let writes: Vec<_> = fleet
        .iter()
        .map(|api| {
            let api = api.clone();
            tokio::spawn(async move {
                let asked = Instant::now();
                let mut refused = until_taken(|| {
                    let api = api.clone();
                    async move { api.write(&report(State::Drifting)).await }
                })
                .await;
                let took = asked.elapsed();
                let note = report(State::Drifting).message;
                let event = NodeEvent { reason: EventReason::ClockDriftExceeded, note, at: now() };
                refused += until_taken(|| {
                    let (api, event) = (api.clone(), event.clone());
                    async move { api.send_event(&event).await }
                })
                .await;
                (took, refused)
            })
        })
        .collect();
    let mut refused = 0;
    for write in writes {
        let (took, attempts) = write.await.expect("no panic");
        storm.push(took);
        refused += attempts;
    }
    let took = since.elapsed();
    let loud = Costs::read(cluster).since(&before, took);

    let per_write = quiet.etcd_bytes / steady.len() as f64;
    let a_day = per_write * 86_400.0 / HEARTBEAT.as_secs_f64();
    let row = |what: &str, seen: String| format!("| {what} | {seen} |");
    vec![
        row(
            "Steady writes of 1,000 nodes",
            format!("{:.2} a second", steady.len() as f64 / STEADY.as_secs_f64()),
        ),
        row("Steady: one write, p50 and p99", quantiles(&mut steady)),
        row("Steady: CPU of kube-apiserver", format!("{:.1} % of one core", quiet.cpu_share * 100.0)),
        row("Bytes that kube-apiserver sent to etcd per write", format!("{:.1} KB", per_write / 1e3)),
        row("The same per node and day, in a quiet fleet", format!("{:.1} MB", a_day / 1e6)),
        row(
            "All 1,000 cross the threshold at once: until the last annotation and event",
            format!("{:.1} s", took.as_secs_f64()),
        ),
        row("All at once: one annotation, p50 and p99", quantiles(&mut storm)),
        row("All at once: rate limited (429) and sent again", format!("{refused} requests")),
        row("All at once: CPU of kube-apiserver", format!("{:.1} s", loud.cpu_seconds)),
    ]
}

/// Tries as the agent does, until it is accepted; how often it was not.
async fn until_taken<F: Future<Output = Result<(), ApiError>>>(write: impl Fn() -> F) -> usize {
    let mut backoff = Backoff::default();
    for refused in 0.. {
        match write().await {
            Ok(()) => return refused,
            Err(error) => tokio::time::sleep(backoff.wait(error.retry_after(), fastrand::f64())).await,
        }
    }
    unreachable!("it tries for ever")
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    format!("{:.1} ms, {:.1} ms", at(50), at(99))
}

fn report(state: State) -> NodeReport {
    let drifts = state == State::Drifting;
    NodeReport {
        state,
        reason: Reason::of(state),
        message: "The clock is 132 ms behind (±2.1 ms), over the threshold of 100 ms.".to_owned(),
        measured: Some(Measurement::new(Offset::from_nanos(132_241_000), Bound::from_nanos(2_100_000))),
        observed_at: Some(now()),
        heartbeat: now(),
        transition: Wall::from_secs(1_795_341_600),
        exceeded_since: drifts.then(now),
        pools: ["time.google.com", "time.cloudflare.com"]
            .map(|p| (p.to_owned(), Some(Offset::from_nanos(132_000_000))))
            .to_vec(),
        last_step: None,
        step_result: None,
        audit: None,
    }
}

fn now() -> Wall {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Wall::from_nanos(drift_core::time::nanos(since))
}

/// The resources that the servers have used so far, by their own metrics.
struct Costs {
    cpu: f64,
    etcd_bytes: f64,
}

/// What they used in between.
struct Spent {
    cpu_seconds: f64,
    cpu_share: f64,
    etcd_bytes: f64,
}

impl Costs {
    fn read(cluster: &Cluster) -> Self {
        let value = |text: &str, metric: &str| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '))
                .expect("the metric");
            line.parse::<f64>().expect("a number")
        };
        let api_server = cluster.kubectl(&["get", "--raw", "/metrics"]);
        let (_, etcd) = get(cluster.etcd_port(), "/metrics").expect("etcd");
        Self {
            cpu: value(&api_server, "process_cpu_seconds_total"),
            etcd_bytes: value(&etcd, "etcd_network_client_grpc_received_bytes_total"),
        }
    }

    fn since(&self, before: &Self, elapsed: Duration) -> Spent {
        let cpu_seconds = self.cpu - before.cpu;
        Spent {
            cpu_seconds,
            cpu_share: cpu_seconds / elapsed.as_secs_f64(),
            etcd_bytes: self.etcd_bytes - before.etcd_bytes,
        }
    }
}

fn document(table: &str) -> String {
    format!(
        "# What a fleet costs\n\nWritten by `make bench-fleet` (`benches/fleet.rs`); not edited by hand. 1,000 Nodes with 50 images each, each with a client of its \
         own, against\none kube-apiserver and etcd on the same two cores as the clients: the figures of the storm are those of this small machine.\n\n\
         | What | Measured |\n|---|---|\n{table}\n\nWrites grow with the number of nodes and nothing else: 5,000 nodes write five times as often when \
         quiet, 15,000 fifteen\ntimes. A node never writes more than three times at once and once a minute after, so a fleet that crosses the threshold together is \
         one\nwrite and one event a node; a write that the server rate limits (429) is sent again after a second or two, then at growing intervals.\n"
    )
}
