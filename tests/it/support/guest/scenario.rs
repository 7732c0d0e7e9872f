//! A guest with the agent in it and two pools on the host, and what happened to its clock.

use std::fmt;
use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_core::time::Offset;

use super::serial::Line;
use super::{Guest, HOST, Spec};
use crate::support::{
    BackgroundRuntime, DEADLINE, Exposition, Process, finish, free_udp_port, get, tool, wait_as_long,
    wait_for,
};

/// Within so many seconds a clock counts as right again.
pub const NEAR: f64 = 0.1;

/// On a busy host the first burst may be too imprecise: then the next round counts, or the one after it.
const FIRST_VERDICT: Duration = Duration::from_secs(150);

/// Servers of a pool that is spread over several addresses, and their port in the guest.
const SPREAD: (u8, u16) = (4, 11_123);

/// The server of a pool.
enum Source {
    Chronyd(#[allow(dead_code, reason = "it lives as long as the pool")] Process),
    /// One that can become a falseticker or silent.
    Simulated(Server),
}

/// Two pools of one server each, on two ports of the host's loopback.
pub struct Pools {
    sources: [Source; 2],
    ports: [u16; 2],
    names: [String; 2],
    /// One that never answers.
    dead: Option<UdpSocket>,
    _background: BackgroundRuntime,
}

impl Pools {
    /// Real chronyd that serve the host's time; those that are simulated can become falsetickers or silent.
    pub fn new(guest: &Guest, simulated: [bool; 2]) -> Self {
        let background = BackgroundRuntime::new();
        let time = TimeScale::new(Offset::ZERO);
        let [first, second] = simulated.map(|simulated| {
            if simulated {
                let server = background.server(&time, Behaviour::Honest);
                let port = server.address().port();
                (Source::Simulated(server), port)
            } else {
                let port = free_udp_port();
                (Source::Chronyd(chronyd(guest, port)), port)
            }
        });
        let ports = [first.1, second.1];
        let names = ports.map(|port| format!("{HOST}:{port}"));
        Self { sources: [first.0, second.0], ports, names, dead: None, _background: background }
    }

    /// Sets how the simulated pools behave from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        for source in &self.sources {
            if let Source::Simulated(server) = source {
                server.behave(behaviour);
            }
        }
    }

    /// Their ports on [`HOST`].
    pub fn ports(&self) -> [u16; 2] {
        self.ports
    }

    /// Gives each pool a name with four addresses in the guest, which lead to its server, but for one of the eight: nothing answers
    /// there.
    fn spread(&mut self, guest: &mut Guest) {
        let dead = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
        let silent = dead.local_addr().expect("bound").port();
        self.dead = Some(dead);
        let (servers, port) = SPREAD;
        let mut hosts = Vec::new();
        for (pool, target) in (1..).zip(self.ports) {
            for server in 1..=servers {
                let target = if (pool, server) == (2, servers) { silent } else { target };
                let address = format!("127.0.{pool}.{server}");
                guest.start_relay(&format!("{address}:{port}"), target);
                hosts.push(format!("{address} pool-{pool}.test"));
            }
        }
        guest.write("/etc/hosts", &hosts.join("\n"));
        guest.write("/etc/resolv.conf", "nameserver 127.0.0.1\n");
        self.names = [1, 2].map(|pool| format!("pool-{pool}.test:{port}"));
    }
}

/// Serves the host's clock and never touches it.
fn chronyd(guest: &Guest, port: u16) -> Process {
    let user = finish(Command::new("id").arg("-un"), "").stdout;
    let mut command = Command::new(tool("chronyd"));
    let pid_file = guest.folder().join(format!("chronyd-{port}.pid"));
    command.args(["-U", "-u", user.trim(), "-x", "-d", "cmdport 0", "bindcmdaddress /", "local stratum 1"]);
    command.args(["allow 127.0.0.1", "bindaddress 127.0.0.1", &format!("port {port}")]);
    command.arg(format!("pidfile {}", pid_file.display()));
    Process::start(&mut command, &guest.folder(), &format!("chronyd-{port}"))
}

/// A guest whose clock is right, and an agent in it that has found it so.
pub struct GuestScenario {
    pub guest: Guest,
    pub pools: Pools,
}

impl GuestScenario {
    /// Boots it with two honest pools and an agent with these arguments.
    pub fn new(spec: Spec, arguments: &str) -> Self {
        Self::with_pools(spec, [false, false], arguments)
    }

    /// The same; `simulated` pools can become falsetickers or silent.
    pub fn with_pools(spec: Spec, simulated: [bool; 2], arguments: &str) -> Self {
        Self::start(Guest::boot(spec), simulated, arguments)
    }

    /// The same; what has to be done in the guest first, done by `prepare`, leads to the agent's arguments.
    pub fn prepared(spec: Spec, prepare: impl FnOnce(&mut Guest) -> String) -> Self {
        let mut guest = Guest::boot(spec);
        let arguments = prepare(&mut guest);
        Self::start(guest, [false, false], &arguments)
    }

    /// The same; each pool has four servers, and one of the eight is dead.
    pub fn with_a_dead_server_of_eight(spec: Spec, arguments: &str) -> Self {
        let mut guest = Guest::boot(spec);
        let mut pools = Pools::new(&guest, [false, false]);
        pools.spread(&mut guest);
        let mut scenario = Self { guest, pools };
        scenario.start_agent(arguments);
        scenario.wait_for("seven of eight servers", |now| {
            let servers = ["reachable", "unreachable"]
                .map(|state| now.count("pool_servers", &[&format!("state=\"{state}\"")]));
            (servers == [7, 1]).then_some(())
        });
        scenario
    }

    fn start(guest: Guest, simulated: [bool; 2], arguments: &str) -> Self {
        let pools = Pools::new(&guest, simulated);
        let mut scenario = Self { guest, pools };
        scenario.start_agent(arguments);
        scenario
    }

    /// Starts an agent, and waits until all its pools agree that the clock is right.
    pub fn start_agent(&mut self, arguments: &str) {
        let [a, b] = &self.pools.names;
        // A kubeconfig is used where the test has written one.
        let config = "KUBECONFIG=$(ls /tmp/kubeconfig 2>/dev/null)";
        let log = "/dev/ttyS0 2>&1 &";
        self.guest.run(&format!("{config} drift-agent run --pool {a} --pool {b} {arguments} >{log}"));
        wait_as_long(FIRST_VERDICT, "a first verdict", || {
            let now = self.metrics()?;
            (now.is_state("in-sync") && now.count("pools_agreeing", &[]) == 2).then_some(())
        });
    }

    /// Ends the agent and starts another: it knows nothing of what was.
    pub fn restart_agent(&mut self, arguments: &str) {
        self.guest.run("killall drift-agent; while pidof drift-agent; do sleep 0.05; done");
        self.start_agent(arguments);
    }

    /// Waits for an exposition in which something is to be found.
    pub fn wait_for<T>(&self, what: &str, look: impl Fn(&Metrics) -> Option<T>) -> T {
        wait_for(what, || look(&self.metrics()?))
    }

    /// Waits until the hardware clock is known so well that half a second cannot be a write.
    pub fn rtc_is_known(&self) {
        self.wait_for("the RTC to be known", |now| {
            now.value("resume_rtc_uncertainty_seconds").filter(|seconds| *seconds < 0.01)
        });
    }

    /// The metrics of the agent now; `None` while it does not answer.
    pub fn metrics(&self) -> Option<Metrics> {
        let (status, text) = get(self.guest.http, "/metrics")?;
        (status == 200).then_some(Metrics(Exposition(text)))
    }

    /// What has happened since a resume, once the agent has logged it: no process has stepped the clock so far.
    pub fn detected(&self, since: Instant) -> Seen {
        let detected = self.wait_for_detection(DEADLINE, since);
        self.seen(since, Some(detected), None)
    }

    /// The same, once the clock is within 100 ms.
    pub fn stepped(&self, since: Instant) -> Seen {
        self.stepped_within(DEADLINE, since)
    }

    /// The same for a step that may have to wait so long.
    pub fn stepped_within(&self, span: Duration, since: Instant) -> Seen {
        let detected = self.wait_for_detection(span, since);
        let is_right = |offset: f64| offset.abs() < NEAR;
        let stepped = self.guest.truth.wait_as_long(span, "the clock to be right", since, is_right);
        self.seen(since, Some(detected), Some(stepped.at))
    }

    /// The same, once the agent has logged that it does not step, or not yet (`audit`). Also its line about that.
    pub fn unstepped(&self, audit: &str, since: Instant) -> (Seen, String) {
        let detected = self.wait_for_detection(DEADLINE, since);
        let (_, why) = self.guest.console.wait_for(since, &[&format!("audit=\"{audit}\"")]);
        (self.seen(since, Some(detected), None), why)
    }

    fn wait_for_detection(&self, span: Duration, since: Instant) -> Instant {
        // A pause may be taken for a write of the hardware clock at the first look.
        let is_logged =
            |line: &Line| line.1.contains("disruption detected") && !line.1.contains("class=\"rtc-write\"");
        wait_as_long(span, "a log line about the resume", || {
            self.guest.console.since(since).into_iter().find(is_logged)
        })
        .0
    }

    fn seen(&self, since: Instant, detected: Option<Instant>, stepped: Option<Instant>) -> Seen {
        let truth = &self.guest.truth;
        let before = truth.wait_for("the clock after the resume", since, |_| true).offset;
        let after = truth.now();
        let gap = truth.widest_gap(since, stepped.unwrap_or(after.at));
        let seconds = |at: Instant| at.duration_since(since).as_secs_f64();
        Seen {
            before,
            detected: detected.map(seconds),
            stepped: stepped.map(seconds),
            after: after.offset,
            gap,
        }
    }
}

/// What happened to a clock, in seconds; by the host's clock, not by the agent's report (but for `detected`).
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Offset right after the resume; positive, the guest is behind.
    pub before: f64,
    /// From the resume to the agent's line about it.
    pub detected: Option<f64>,
    /// From the resume until the clock is within 100 ms.
    pub stepped: Option<f64>,
    /// Offset at the end.
    pub after: f64,
    /// The longest time in between in which the host could not read the guest's clock.
    pub gap: Duration,
}

impl Seen {
    /// The step was made before the host read the guest's clock for the first time.
    pub fn was_stepped_unseen(&self) -> bool {
        self.stepped.is_some() && self.before.abs() < NEAR
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |seconds: Option<f64>| seconds.map_or("never".to_owned(), |s| format!("{s:.2} s"));
        write!(
            f,
            "offset before {:+.3} s, detected after {}, stepped after {}, offset after {:+.4} s (read every {:.0} ms at worst)",
            self.before,
            time(self.detected),
            time(self.stepped),
            self.after,
            self.gap.as_secs_f64() * 1e3
        )
    }
}

/// The agent's metrics that the scenarios look at; series are named without their prefix.
pub struct Metrics(pub Exposition);

impl Metrics {
    pub fn is_state(&self, state: &str) -> bool {
        self.0.is_state(state)
    }

    /// A gauge; `None` when it is absent.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.0.value(&format!("drift_agent_{series}"))
    }

    /// Something that is counted: the sum over the series of that name with all these labels.
    pub fn count(&self, name: &str, labels: &[&str]) -> u64 {
        let prefix = format!("drift_agent_{name}");
        let series = self.0.0.lines().filter_map(|line| line.strip_prefix(&prefix)?.rsplit_once(' '));
        let wanted = series.filter(|(given, _)| {
            (given.is_empty() || given.starts_with('{')) && labels.iter().all(|label| given.contains(label))
        });
        wanted.filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
    }

    /// Resume signals of a class so far.
    pub fn signals(&self, class: &str) -> u64 {
        self.count("resume_signals_total", &[&format!("class=\"{class}\"")])
    }

    /// Steps with this result so far, by whatever method.
    pub fn steps(&self, result: &str) -> u64 {
        self.count("steps_total", &[&format!("result=\"{result}\"")])
    }
}
