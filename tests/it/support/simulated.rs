//! Agents in simulated worlds, whose metrics a real Prometheus can scrape: each scrape is half a minute later for them.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use drift_agent::http::metrics;
use drift_agent::os::timex::KernelClock;
use drift_agent::sim::behaviour::{Behaviour, ServerModel};
use drift_agent::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::resume::Signal;
use drift_core::step::policy::Mode;
use drift_core::step::time_daemon::{Daemon, DaemonReport};
use drift_core::time::{Offset, Ppb, Wall};

use crate::support::monitoring::Target;

/// Between two scrapes, to the world.
const SCRAPE: Duration = Duration::from_secs(30);
/// Every so many scrapes the machine of a busy agent is paused.
const PAUSES: u64 = 24;

/// An agent, the world around it, and what happens there.
pub struct SimulatedAgent {
    node: &'static str,
    world: World,
    scrapes: u64,
    is_paused_at_times: bool,
}

impl SimulatedAgent {
    fn new(node: &'static str, offset: Offset, second_pool: Behaviour, mode: Mode) -> Self {
        let host = |behaviour| Host {
            model: ServerModel::new(behaviour),
            path: Path {
                there: Duration::from_micros(100),
                back: Duration::from_micros(200),
                jitter: Duration::from_micros(20),
                loss: 0.02,
            },
        };
        let mut settings = default_settings();
        settings.step.mode = mode;
        let error = Ppb::from_ppm(20);
        let mut world = World::new(Plan {
            seed: node.bytes().map(u64::from).sum(),
            present: Wall::from_secs(1_795_341_600),
            offset,
            oscillator: Oscillator { error, swing: Ppb(0), period: Duration::from_secs(3_600) },
            rtc_ahead: Offset::ZERO,
            pools: vec![vec![host(Behaviour::Honest); 2], vec![host(second_pool); 2]],
            settings,
            api_errors: 0.0,
            steps_work: true,
        });
        world.slew_wall(Ppb(-error.0));
        Self { node, world, scrapes: 0, is_paused_at_times: false }
    }

    /// It is paused for three seconds now and then, and steps its clock.
    pub fn busy(node: &'static str) -> Self {
        let agent = Self::new(node, Offset::ZERO, Behaviour::Honest, Mode::Kernel);
        Self { is_paused_at_times: true, ..agent }
    }

    /// Its clock is 150 ms behind.
    pub fn behind(node: &'static str) -> Self {
        Self::new(node, Offset::from_nanos(150_000_000), Behaviour::Honest, Mode::Off)
    }

    /// One of its pools never answers.
    pub fn half_deaf(node: &'static str) -> Self {
        Self::new(node, Offset::ZERO, Behaviour::Silent, Mode::Off)
    }

    /// What it exports half a minute later.
    pub fn exposition(&mut self) -> String {
        self.scrapes += 1;
        if self.is_paused_at_times && self.scrapes % PAUSES == PAUSES / 2 {
            self.world.pause(Duration::from_secs(3));
        }
        let until = self.world.elapsed() + SCRAPE;
        self.world.run_until(until, |_| Ok(())).expect("no check fails");
        let mut snapshot = self.world.snapshot();
        // A simulated world has no daemon, and does not report which signals it has.
        let (believes, update_age) = (Some(Offset::from_nanos(20_000)), Some(Duration::from_secs(64)));
        snapshot.daemon =
            Some(DaemonReport { daemon: Daemon::Chrony, believes, update_age, ..DaemonReport::NONE });
        snapshot.signals =
            Some(Signal::LOCAL.into_iter().filter(|signal| *signal != Signal::Vmclock).collect());
        let kernel = KernelClock {
            synchronized: true,
            max_error: Duration::from_millis(1),
            frequency: Ppb::from_ppm(-20),
            ..KernelClock::default()
        };
        metrics::render(&snapshot, Some(kernel))
    }

    /// Answers every request with its metrics, for as long as the test's process lives.
    pub fn serve(mut self) -> Served {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let served = Served { node: self.node, port: listener.local_addr().expect("bound").port() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(&stream, &self.exposition());
            }
        });
        served
    }
}

fn answer(mut stream: &TcpStream, body: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close";
    write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Where a simulated agent answers.
pub struct Served {
    node: &'static str,
    port: u16,
}

impl Served {
    /// As a target of Prometheus.
    pub fn target(&self) -> Target {
        Target { labels: format!("cluster: simulated, node: {}", self.node), port: self.port }
    }
}
