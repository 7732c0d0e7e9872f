//! The three that measure this machine's clock, each by its own packets on the same path.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use drift_agent::os::chrony::Client;
use drift_agent::os::clock::{Clock, LinuxClock};

use crate::INTERVAL;
use crate::namespace::{SERVERS, address, client_address, pool};
use crate::path::{nanos, stamp};
use crate::support::{Exposition, Folder, Process, clean, finish, free_tcp_port, free_udp_port, get, tool};

/// What the agent publishes at one instant.
pub struct Scrape {
    /// `None`: none of the series is 1.
    pub state: Option<&'static str>,
    /// Offset and bound in seconds.
    pub measured: Option<(f64, f64)>,
}

pub const STATES: [&str; 5] = ["in-sync", "drifting", "disagree", "unknown", "disrupted"];

/// The agent, on two pools of two servers.
pub struct Agent {
    _process: Process,
    port: u16,
}

impl Agent {
    pub fn start(program: &Path, world: usize, folder: &Folder) -> Self {
        let port = free_tcp_port();
        let mut command = clean(program);
        command.args(["run", "--kubernetes", "off", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--interval", &format!("{}s", INTERVAL.as_secs())]);
        command.args((0..SERVERS / 2).flat_map(|number| ["--pool".to_owned(), pool(world, number)]));
        let process = Process::start(&mut command, folder.path(), &format!("agent-{world}"));
        Self { _process: process, port }
    }

    /// `None` while it does not listen.
    pub fn scrape(&self) -> Option<Scrape> {
        let exposition = get(self.port, "/metrics").map(|(_, text)| Exposition(text))?;
        let offset = exposition.value("drift_agent_offset_seconds");
        let measured = offset.zip(exposition.value("drift_agent_offset_bound_seconds"));
        Some(Scrape { state: STATES.into_iter().find(|state| exposition.is_state(state)), measured })
    }
}

/// chronyd, on the same four servers; `-x`: it corrects a clock of its own and never the machine's.
pub struct Chronyd {
    process: Process,
    port: u16,
    runtime: tokio::runtime::Runtime,
}

impl Chronyd {
    pub fn start(world: usize, folder: &Folder) -> Self {
        let port = free_udp_port();
        let poll = INTERVAL.as_secs().ilog2();
        let mut command = Command::new(tool("chronyd"));
        command.args([
            "-x",
            "-d",
            "-U",
            "-u",
            "root",
            "port 0",
            "bindcmdaddress /",
            "bindcmdaddress 127.0.0.1",
        ]);
        command.args([
            format!("cmdport {port}"),
            format!("bindacqaddress {}", client_address(world, 1)),
            format!("pidfile {}", folder.path().join(format!("chronyd-{world}.pid")).display()),
        ]);
        command.args(
            (0..SERVERS)
                .map(|n| format!("server {} iburst minpoll {poll} maxpoll {poll}", address(world, n))),
        );
        let process = Process::start(&mut command, folder.path(), &format!("chronyd-{world}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { process, port, runtime }
    }

    /// The offset in seconds; `None` while it is not synchronised.
    ///
    /// It is "System time" of `chronyc tracking`: all that chronyd would have corrected, frequency included, computed for the instant
    /// of the request. "Last offset" is only what the last update added to it.
    pub fn offset(&self) -> Option<f64> {
        let client = Client::udp((Ipv4Addr::LOCALHOST, self.port).into());
        let tracking = self.runtime.block_on(client.tracking()).ok()?;
        tracking.is_synchronised().then(|| tracking.offset.as_nanos() as f64 / 1e9)
    }

    /// What it reports at the end: `chronyc tracking`, `chronyc sources` and its log.
    pub fn report(&self) -> String {
        let chronyc = |what: &str| {
            let mut command = Command::new(tool("chronyc"));
            finish(command.args(["-n", "-h", "127.0.0.1", "-p", &self.port.to_string(), what]), "").stdout
        };
        format!("{}\n{}\n{}", chronyc("tracking"), chronyc("sources"), self.process.output())
    }
}

/// A plain SNTP client: one exchange with one server per poll, whose offset is used until the next one succeeds.
pub struct OneShot {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    /// Offset and round trip of each exchange that succeeded, in seconds.
    seen: Mutex<Vec<(f64, f64)>>,
}

impl OneShot {
    pub fn start(world: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let sink = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut due = Instant::now();
            while !sink.ended.load(Ordering::Relaxed) {
                sink.seen.lock().unwrap().extend(exchange(client_address(world, 2), address(world, 0)));
                due += INTERVAL;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        Self { shared, thread }
    }

    pub fn offset(&self) -> Option<f64> {
        self.shared.seen.lock().unwrap().last().map(|(offset, _)| *offset)
    }

    /// Ends it; the round trips that it measured.
    pub fn finish(self) -> Vec<f64> {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic in the client");
        self.shared.seen.lock().unwrap().iter().map(|(_, round_trip)| *round_trip).collect()
    }
}

/// Offset and round trip (RFC 5905, section 8); as patient as the agent.
fn exchange(from: Ipv4Addr, server: Ipv4Addr) -> Option<(f64, f64)> {
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect((server, 123)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let wall = || LinuxClock.read().wall.as_nanos();
    let (mut request, mut answer) = ([0; 48], [0; 48]);
    request[0] = 0x23;
    let sent = wall();
    request[40..].copy_from_slice(&stamp(sent));
    socket.send(&request).ok()?;
    let length = socket.recv(&mut answer).ok()?;
    let received = wall();
    if length < answer.len() || answer[24..32] != request[40..] {
        return None;
    }
    let [there, back] = [nanos(&answer[32..40]) - sent, received - nanos(&answer[40..])];
    Some(((there - back) as f64 / 2e9, (there + back) as f64 / 1e9))
}
