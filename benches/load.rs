//! The endpoint under load: requests, clients that are stuck, clients that send too much. `make bench-load` runs it and writes the
//! tables in benches/LOAD.md.
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

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::process::{cpu, machine, memory};
use support::{
    Exposition, Folder, Process, drift_agent, finish, free_tcp_port, free_udp_port, get, tool, wait_for,
};
use tokio::net::TcpSocket;

/// Requests a second.
const RATE: u32 = 5_000;
const CLIENTS: u32 = 16;
/// How long each phase of the measuring takes; a round of exchanges a second.
const PHASE: Duration = Duration::from_secs(30);
const STUCK: usize = 10_000;
/// How long stuck clients are looked at.
const STUCK_FOR: Duration = Duration::from_secs(20);

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let folder = Folder::new("load");
    let agent = Agent::start(&folder);
    let measuring = measuring(&agent);
    let costs = costs(&agent);
    let clients = clients(&agent);
    let document = document(&measuring, &costs, &clients);
    print!("{document}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/LOAD.md");
    std::fs::write(&path, document).expect("benches/LOAD.md");
}

/// The agent on a core of its own, and two real NTP servers.
struct Agent {
    process: Process,
    port: u16,
    _servers: [Process; 2],
}

impl Agent {
    fn start(folder: &Folder) -> Self {
        let mut pools = Vec::new();
        let servers = [0, 1].map(|n| {
            let port = free_udp_port();
            pools.push(format!("127.0.0.1:{port}"));
            let user = finish(Command::new("id").arg("-un"), "").stdout;
            let pid = folder.path().join(format!("{n}.pid"));
            let mut command = Command::new(tool("chronyd"));
            // It never touches the clock: `-x` sees to that.
            command.args(["-U", "-x", "-d", "-u", user.trim(), "local stratum 1", "allow 127.0.0.1"]);
            command.args(["bindaddress 127.0.0.1", "cmdport 0", "bindcmdaddress /", &format!("port {port}")]);
            command.arg(format!("pidfile {}", pid.display()));
            Process::start(&mut command, folder.path(), &format!("chronyd-{n}"))
        });
        let port = free_tcp_port();
        // Every address: the clients spread over 127.0.0.0/8, or they would run out of ports.
        let listen = format!("0.0.0.0:{port}");
        let mut command = drift_agent();
        command.args(["run", "--kubernetes", "off", "--interval", "1s", "--listen", &listen]);
        command.args(pools.iter().flat_map(|pool| ["--pool", pool]));
        let process = Process::start(&mut command, folder.path(), "agent");
        pin(process.id(), 0);
        let agent = Self { process, port, _servers: servers };
        wait_for("its oscillator known", || agent.metrics()?.value("drift_agent_frequency_error_ratio"));
        agent
    }

    fn metrics(&self) -> Option<Exposition> {
        get(self.port, "/metrics").map(|(_, text)| Exposition(text))
    }

    /// Exchanges that were accepted, and those that were not.
    fn exchanges(&self) -> (f64, f64) {
        let text = self.metrics().expect("the agent").0;
        let counts = text.lines().filter_map(|line| {
            let (labels, count) = line.strip_prefix("drift_agent_samples_total")?.rsplit_once(' ')?;
            Some((labels.contains("\"accepted\""), count.parse::<f64>().ok()?))
        });
        counts.fold(
            (0.0, 0.0),
            |(yes, no), (accepted, count)| if accepted { (yes + count, no) } else { (yes, no + count) },
        )
    }
}

/// Keeps a process on one core, so that "one core" means one.
fn pin(process: u32, core: usize) {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    let process = rustix::thread::Pid::from_raw(process.cast_signed());
    rustix::thread::sched_setaffinity(process, &cores).expect("a core to be had");
}

/// What was seen of the clock during a phase.
struct Phase {
    offsets: Vec<f64>,
    bounds: Vec<f64>,
    latencies: Vec<Duration>,
    failures: u32,
    elapsed: Duration,
    cpu: Duration,
    exchanges: (f64, f64),
    memory: u64,
}

/// Watches `/v1/clock` for a phase, by `clients` who ask it `rate` times a second together.
fn watch(agent: &Agent, clients: u32, rate: u32) -> Phase {
    let (accepted, refused) = agent.exchanges();
    let (started, used) = (Instant::now(), cpu(agent.process.id()));
    let threads: Vec<_> = (0..clients)
        .map(|n| {
            let (port, every) = (agent.port, Duration::from_secs(1) * clients / rate);
            std::thread::spawn(move || ask_for(PHASE, port, n, every))
        })
        .collect();
    let mut phase = Phase {
        offsets: Vec::new(),
        bounds: Vec::new(),
        latencies: Vec::new(),
        failures: 0,
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
        exchanges: (0.0, 0.0),
        memory: 0,
    };
    for thread in threads {
        let (answers, failures) = thread.join().expect("a client");
        for (offset, bound, latency) in answers {
            phase.offsets.push(offset);
            phase.bounds.push(bound);
            phase.latencies.push(latency);
        }
        phase.failures += failures;
    }
    phase.elapsed = started.elapsed();
    phase.cpu = cpu(agent.process.id()).saturating_sub(used);
    phase.memory = memory(agent.process.id());
    let (now_accepted, now_refused) = agent.exchanges();
    phase.exchanges = (now_accepted - accepted, now_refused - refused);
    phase.offsets.sort_by(f64::total_cmp);
    phase.bounds.sort_by(f64::total_cmp);
    phase.latencies.sort();
    phase
}

type Answer = (f64, f64, Duration);

/// One client: a connection for each request, on time, and as soon as it can when it is late.
fn ask_for(span: Duration, port: u16, client: u32, every: Duration) -> (Vec<Answer>, u32) {
    let host = std::net::Ipv4Addr::new(127, 0, 1, u8::try_from(client + 1).expect("few clients"));
    let begun = Instant::now();
    let (mut answers, mut failures, mut due) = (Vec::new(), 0, every * client / CLIENTS);
    while due < span {
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let asked = Instant::now();
        match ask(host, port) {
            Some((offset, bound)) => answers.push((offset, bound, asked.elapsed())),
            None => failures += 1,
        }
        due += every;
    }
    (answers, failures)
}

fn ask(host: std::net::Ipv4Addr, port: u16) -> Option<(f64, f64)> {
    let mut stream = TcpStream::connect((host, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(b"GET /v1/clock HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let clock: Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    Some((clock["offsetSeconds"].as_f64()?, clock["boundSeconds"].as_f64()?))
}

/// The clock as it is seen in calm and under load.
fn measuring(agent: &Agent) -> Vec<String> {
    let phases = [watch(agent, 1, 10), watch(agent, CLIENTS, RATE), watch(agent, 1, 10)];
    let row = |what: &str, show: &dyn Fn(&Phase) -> String| {
        let cells: Vec<String> = phases.iter().map(show).collect();
        format!("| {what} | {} |", cells.join(" | "))
    };
    let micros = |seconds: f64| format!("{:.0} µs", seconds * 1e6);
    let at = |percent: usize, values: &[f64]| values[(values.len() - 1) * percent / 100];
    let latency = |percent: usize, phase: &Phase| {
        let index = (phase.latencies.len() - 1) * percent / 100;
        format!("{:.2} ms", phase.latencies[index].as_secs_f64() * 1e3)
    };
    vec![
        row("Answers a second", &|p| format!("{:.0}", p.latencies.len() as f64 / p.elapsed.as_secs_f64())),
        row("Requests without an answer", &|p| p.failures.to_string()),
        row("Offset, from the smallest to the largest", &|p| {
            micros(p.offsets[p.offsets.len() - 1] - p.offsets[0])
        }),
        row("Offset, the middle 90 %", &|p| micros(at(95, &p.offsets) - at(5, &p.offsets))),
        row("Bound, median", &|p| micros(at(50, &p.bounds))),
        row("Bound, largest", &|p| micros(at(100, &p.bounds))),
        row("Exchanges accepted, rejected", &|p| format!("{:.0}, {:.0}", p.exchanges.0, p.exchanges.1)),
        row("Answer, median", &|p| latency(50, p)),
        row("Answer, 99 %", &|p| latency(99, p)),
        row("CPU of the agent", &|p| {
            format!("{:.1} % of its core", p.cpu.as_secs_f64() / p.elapsed.as_secs_f64() * 100.0)
        }),
        row("Resident memory at the end", &|p| mebibytes(p.memory)),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// What one request costs the agent, connection included.
fn costs(agent: &Agent) -> Vec<String> {
    const REQUESTS: u32 = 500;
    let mut rows = Vec::new();
    for (path, accept) in [("/v1/clock", "*/*"), ("/metrics", "*/*"), ("/", "text/html"), ("/healthz", "*/*")]
    {
        let (used, mut length) = (cpu(agent.process.id()), 0);
        for _ in 0..REQUESTS {
            let mut stream = TcpStream::connect(("127.0.0.1", agent.port)).expect("the agent");
            write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n").expect("sent");
            length = stream.read_to_end(&mut Vec::new()).expect("an answer");
        }
        let each = cpu(agent.process.id()).saturating_sub(used) / REQUESTS;
        let each = format!("{:.3} ms", each.as_secs_f64() * 1e3);
        rows.push(format!("| `{path}` ({accept}) | {:.1} KB | {each} |", length as f64 / 1e3));
    }
    rows
}

/// What clients do who want no answer.
#[derive(Clone, Copy)]
enum Nuisance {
    Silent,
    HalfAHead,
    NeverReads,
    OversizedHead,
    OversizedBody,
}

/// Memory before, at most, and after; the slowest probe.
fn clients(agent: &Agent) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    [
        (Nuisance::Silent, "connections that send nothing"),
        (Nuisance::HalfAHead, "connections with 15 KiB of a head that does not end"),
        (Nuisance::NeverReads, "connections that ask for the page and never read"),
        (Nuisance::OversizedHead, "requests with a head of 1 MiB"),
        (Nuisance::OversizedBody, "requests with a body of 1 MiB"),
    ]
    .into_iter()
    .map(|(nuisance, what)| {
        let before = memory(agent.process.id());
        let done = AtomicBool::new(false);
        let (most, probes) = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut most, mut probes) = (0, Vec::new());
                while !done.load(Ordering::Relaxed) {
                    most = memory(agent.process.id()).max(most);
                    let asked = Instant::now();
                    probes.push(get(agent.port, "/healthz").map(|(status, _)| (status, asked.elapsed())));
                    std::thread::sleep(Duration::from_millis(50));
                }
                (most, probes)
            });
            runtime.block_on(bother(agent.port, nuisance));
            done.store(true, Ordering::Relaxed);
            watcher.join().expect("the watcher")
        });
        let answered: Vec<Duration> =
            probes.iter().flatten().filter(|(status, _)| *status == 200).map(|(_, t)| *t).collect();
        let slowest = answered.iter().max().map_or(0.0, Duration::as_secs_f64);
        format!(
            "| {STUCK} {what} | {} | {} | {} | {} of {}, the slowest after {:.0} ms |",
            mebibytes(before),
            mebibytes(most),
            mebibytes(memory(agent.process.id())),
            answered.len(),
            probes.len(),
            slowest * 1e3
        )
    })
    .collect()
}

/// All of them at once, for as long as they are looked at.
async fn bother(port: u16, nuisance: Nuisance) {
    let much = "x".repeat(1 << 20);
    let request = match nuisance {
        Nuisance::Silent => String::new(),
        Nuisance::HalfAHead => format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}", "x".repeat(15 << 10)),
        Nuisance::NeverReads => "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n".to_owned(),
        Nuisance::OversizedHead => format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {much}\r\n\r\n"),
        Nuisance::OversizedBody => {
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{much}", much.len())
        }
    };
    let request = request.as_bytes();
    let clients = (0..STUCK).map(|n| async move {
        let socket = TcpSocket::new_v4().expect("as many files as clients: ulimit -n");
        let host = [127, 0, 2, u8::try_from(n % 200 + 1).expect("small")];
        let _ = socket.set_recv_buffer_size(4_096);
        let Ok(mut stream) = socket.connect((host, port).into()).await else { return };
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, request).await;
        // It stays open on this side, whatever the other side does.
        tokio::time::sleep(STUCK_FOR).await;
    });
    let _ = tokio::time::timeout(STUCK_FOR, futures_util::future::join_all(clients)).await;
}

fn document(measuring: &[String], costs: &[String], clients: &[String]) -> String {
    let machine = machine();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    format!(
        "# The endpoint under load\n\n\
         Written by `make bench-load` (`benches/load.rs`); not edited by hand. The release binary on one core, two real chronyd, a round of \
         exchanges a second, all on\nloopback; each request on a connection of its own. Figures of one machine: {machine}, \
         load average {load} at the end.\n\n\
         ## Measuring, while `/v1/clock` is requested {RATE} times a second\n\n\
         | | Calm | Under load | Calm again |\n|---|---|---|---|\n{}\n\n\
         ## A request\n\n\
         | Path | Answer | CPU, connection included |\n|---|---|---|\n{}\n\n\
         ## Clients that waste resources\n\n\
         All at once, for {} s, while `/healthz` is requested every 50 ms.\n\n\
         | Who | Memory before | At most | After | `/healthz` answered |\n|---|---|---|---|---|\n{}\n",
        measuring.join("\n"),
        costs.join("\n"),
        STUCK_FOR.as_secs(),
        clients.join("\n")
    )
}
