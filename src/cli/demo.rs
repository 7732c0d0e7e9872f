//! `drift-agent demo`: the whole agent against two pools on loopback. The pools' time changes; the machine's
//! clock does not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::check::resolution_in_words;
use super::{CommandError, Exit, block_on, print};
use crate::agent::{Agent, AgentHandle};
use crate::config::pool::PoolName;
use crate::config::raw::{ConfigText, RawConfig, RawPool};
use crate::config::{Listen, Settings};
use crate::http::server;
use crate::kubernetes::node;
use crate::os::clock::LinuxClock;
use crate::sim::behaviour::Behaviour;
use crate::sim::server::{Server, TimeScale};
use crate::sources::dns::Resolve;
use clock_drift::terminal::Style;
use drift_core::io::{Effect, LogEvent};
use drift_core::ntp::pool::Resolution;
use drift_core::report::snapshot::Snapshot;
use drift_core::time::{Offset, Ppb};
use drift_core::verdict::State;

/// Two pools, as in the default. Names under `.invalid` (RFC 2606) cannot be those of real servers.
const POOLS: [&str; 2] = ["pool-a.invalid", "pool-b.invalid"];
const TEN_SECONDS_OFF: Behaviour = Behaviour::Offset(Offset::from_nanos(10_000_000_000));
const SERVERS_PER_POOL: usize = 3;
/// Time to read before the next phase.
const READING_TIME: Duration = Duration::from_secs(3);
/// A phase that has not reached its state by then has failed.
const PHASE_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Keep running after the last phase, so that you can read the metrics
    #[arg(long)]
    serve: bool,
}

pub(super) fn run(DemoArgs { serve }: DemoArgs) -> Result<Exit, CommandError> {
    block_on(async {
        let servers = DemoServers::start()
            .await
            .map_err(|e| CommandError::failure("cannot start NTP servers on loopback", e))?;
        run_demo(servers, serve).await.map(|()| Exit::Ok)
    })
}

/// The servers of both pools, and the time that they report.
struct DemoServers {
    time: TimeScale,
    pools: [Vec<Server>; 2],
}

/// Resolves the demo's two names and no others.
#[derive(Clone)]
struct DemoNames([Vec<SocketAddr>; 2]);

impl DemoServers {
    async fn start() -> std::io::Result<Self> {
        let time = TimeScale::new(Offset::ZERO);
        let mut pools = [Vec::new(), Vec::new()];
        for pool in &mut pools {
            for _ in 0..SERVERS_PER_POOL {
                pool.push(Server::start(time.clone(), Behaviour::Honest).await?);
            }
        }
        Ok(Self { time, pools })
    }

    fn names(&self) -> DemoNames {
        DemoNames(self.pools.each_ref().map(|pool| pool.iter().map(Server::address).collect()))
    }
}

impl Resolve for DemoNames {
    async fn resolve(&self, pool: PoolName) -> Result<Resolution, String> {
        let index = POOLS.iter().position(|name| *name == pool.to_string());
        let addresses = index.and_then(|i| self.0.get(i)).cloned().ok_or("no such name")?;
        Ok(Resolution { addresses, ttl: None })
    }
}

async fn run_demo(servers: DemoServers, serve: bool) -> Result<(), CommandError> {
    let text = |value: &str| Some(ConfigText(value.to_owned()));
    let raw = RawConfig {
        pools: Some(POOLS.map(RawPool::named).to_vec()),
        interval: text("1s"),
        stale_after: text("10s"),
        max_round_trip: text("250ms"),
        ..RawConfig::default()
    };
    let settings = Settings::new(raw, RawConfig::default())?;
    let listen = Listen { host: Some([127, 0, 0, 1].into()), port: 0 };
    let listener =
        server::bind(listen).await.map_err(|e| CommandError::failure("cannot listen on 127.0.0.1", e))?;
    let url = server::local_url(&listener);

    let mut agent = Agent::new(&settings, Arc::new(LinuxClock), servers.names(), None);
    let shared = agent.handle();
    let http = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
    let output_closed = Notify::new();
    let printer = Printer { style: Style::for_stdout(), started: now(), output_closed: &output_closed };
    let mut outcome = Ok(());
    let phases = async {
        outcome = run_phases(&servers, &shared, printer, &url).await;
        if serve && outcome.is_ok() {
            printer.heading("The agent keeps running (--serve). Stop it with Ctrl-C.");
            let _ = tokio::signal::ctrl_c().await;
        }
    };
    let end = async {
        tokio::select! {
            () = phases => {}
            () = output_closed.notified() => {}
        }
    };
    agent.run(end, |effect| printer.show(effect)).await;
    http.abort();
    outcome
}

/// One phase after the other. Each changes what the servers do, and waits until the agent has reacted.
async fn run_phases(
    servers: &DemoServers,
    shared: &AgentHandle,
    printer: Printer<'_>,
    url: &str,
) -> Result<(), CommandError> {
    let [pool_a, pool_b] = &servers.pools;
    let until = async |what: &str, condition: &dyn Fn(&Snapshot) -> bool| wait(shared, what, condition).await;
    let is = |state: State| move |snapshot: &Snapshot| snapshot.state == state;

    printer.heading("Two NTP pools of three servers each, on loopback. No network, no cluster, no root.");
    printer.detail(&format!("metrics: {url}/metrics   for workloads: {url}/v1/clock"));
    until("in sync", &is(State::InSync)).await?;

    printer.heading("Reference time runs away from this machine by 15 ms a second: the node falls behind.");
    servers.time.drift(Ppb::from_ppm(15_000));
    until("drifting", &is(State::Drifting)).await?;
    until("more than 120 ms", &|snapshot| offset_seconds(snapshot) > 0.12).await?;

    printer.heading("Another process slews the clock back.");
    servers.time.drift(Ppb::from_ppm(-60_000));
    until("close again", &|_| servers.time.offset().as_secs_f64() < 0.02).await?;
    servers.time.set(Offset::ZERO);
    until("in sync", &|snapshot| snapshot.state == State::InSync && offset_seconds(snapshot).abs() < 0.01)
        .await?;

    time_to_read().await;
    printer.heading("One server of pool-a reports a time that is 10 s off. The other five agree.");
    all_behave(pool_a.get(..1).unwrap_or_default(), TEN_SECONDS_OFF);
    let falsetickers = |snapshot: &Snapshot| {
        snapshot.pools.iter().flat_map(|p| &p.servers).filter(|s| s.is_falseticker).count()
    };
    until("one falseticker", &|snapshot| falsetickers(snapshot) == 1 && snapshot.state == State::InSync)
        .await?;
    printer.detail("judged: falseticker; the offset is unchanged, and no event was sent");
    all_behave(pool_a, Behaviour::Honest);
    until("all agree", &|snapshot| falsetickers(snapshot) == 0).await?;

    time_to_read().await;
    printer.heading("Pool-b stops answering.");
    all_behave(pool_b, Behaviour::Silent);
    until("one pool left", &|snapshot| {
        snapshot.pools_agreeing == 1 && snapshot.unreachable_pools().count() == 1
    })
    .await?;
    printer.detail(&format!("judged: {}", shared.snapshot().sentence()));

    time_to_read().await;
    printer.heading("Pool-b answers again, but is 10 s off. One of the two pools is wrong, and the agent cannot tell which.");
    all_behave(pool_b, TEN_SECONDS_OFF);
    until("disagreement", &is(State::Disagree)).await?;

    time_to_read().await;
    printer.heading("Pool-b reports the correct time again.");
    all_behave(pool_b, Behaviour::Honest);
    until("in sync", &|snapshot| snapshot.state == State::InSync && snapshot.pools_agreeing == 2).await?;

    printer.heading(
        "That is all. To run the agent on a node: drift-agent run. In a cluster: install the chart.",
    );
    Ok(())
}

async fn time_to_read() {
    sleep(READING_TIME).await;
}

fn all_behave(servers: &[Server], behaviour: Behaviour) {
    for server in servers {
        server.behave(behaviour);
    }
}

fn offset_seconds(snapshot: &Snapshot) -> f64 {
    snapshot.measured.map_or(0.0, |m| m.offset.as_secs_f64())
}

async fn wait(
    shared: &AgentHandle,
    what: &str,
    condition: &dyn Fn(&Snapshot) -> bool,
) -> Result<(), CommandError> {
    let deadline = now() + PHASE_TIMEOUT;
    while !condition(&shared.snapshot()) {
        if now() > deadline {
            let snapshot = shared.snapshot();
            return Err(CommandError::failure(
                &format!("the demo timed out while it waited for: {what}"),
                snapshot.sentence(),
            ));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the time since the demo began, not the time of day")]
fn now() -> Instant {
    Instant::now()
}

#[derive(Clone, Copy)]
struct Printer<'a> {
    style: Style,
    started: Instant,
    /// Notified when standard output was closed: the demo ends then.
    output_closed: &'a Notify,
}

impl Printer<'_> {
    fn line(self, text: &str) {
        let seconds = now().saturating_duration_since(self.started).as_secs_f64();
        self.print(&format!("{} {text}\n", self.style.faint(&format!("{seconds:5.1} s"))));
    }

    fn print(self, text: &str) {
        if !matches!(print(text), Ok(true)) {
            self.output_closed.notify_one();
        }
    }

    fn heading(self, text: &str) {
        self.print("\n");
        self.line(&self.style.bold(text));
    }

    fn detail(self, text: &str) {
        self.line(&format!("  {text}"));
    }

    fn show(self, effect: &Effect) {
        match effect {
            Effect::Log(LogEvent::StateChanged { state, detail, .. }) => {
                self.detail(&format!("{}: {detail}", self.style.state(*state, state.label())));
            }
            Effect::Log(event) => resolution_in_words(event).iter().for_each(|text| self.detail(text)),
            Effect::WriteNode(report) if report.state == State::Drifting => {
                self.detail("to the API server: PATCH /api/v1/nodes/NAME/status");
                let patch = serde_json::to_string_pretty(&node::patch("NAME", report)).unwrap_or_default();
                patch.lines().for_each(|line| self.detail(&self.style.faint(line)));
            }
            Effect::WriteNode(report) => {
                self.detail(&self.style.faint(&format!("annotated: clock-state={}", report.state.label())));
            }
            Effect::SendEvent(event) => {
                self.detail(&format!("event {} ({})", event.reason.label(), event.reason.kind()));
            }
            _ => {}
        }
    }
}
