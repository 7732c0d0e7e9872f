//! `drift-agent demo`: the whole agent against two pools on loopback, whose time is what drifts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::{CommandError, Exit, block_on, print};
use crate::agent::{Agent, AgentHandle};
use crate::config::pool::PoolName;
use crate::config::raw::{ConfigText, RawConfig};
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

/// Two pools, as in the default; `.invalid` so that nobody takes them for real.
const POOLS: [&str; 2] = ["pool-a.invalid", "pool-b.invalid"];
const TEN_SECONDS_OFF: Behaviour = Behaviour::Offset(Offset::from_nanos(10_000_000_000));
const SERVERS_PER_POOL: usize = 3;
/// How long a scene stays before the next one.
const PAUSE: Duration = Duration::from_secs(3);
/// No scene takes longer; one that does is a fault.
const SCENE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Stay up after the story, to look at the metrics
    #[arg(long)]
    serve: bool,
}

pub(super) fn run(DemoArgs { serve }: DemoArgs) -> Result<Exit, CommandError> {
    block_on(async {
        let stage = Stage::set_up()
            .await
            .map_err(|e| CommandError::software("cannot start NTP servers on loopback", e))?;
        play(stage, serve).await.map(|()| Exit::Ok)
    })
}

/// The servers of both pools.
struct Stage {
    time: TimeScale,
    pools: [Vec<Server>; 2],
}

/// Knows the demo's names and nothing else.
#[derive(Clone)]
struct Names([Vec<SocketAddr>; 2]);

impl Stage {
    async fn set_up() -> std::io::Result<Self> {
        let time = TimeScale::new(Offset::ZERO);
        let mut pools = [Vec::new(), Vec::new()];
        for pool in &mut pools {
            for _ in 0..SERVERS_PER_POOL {
                pool.push(Server::start(time.clone(), Behaviour::Honest).await?);
            }
        }
        Ok(Self { time, pools })
    }

    fn names(&self) -> Names {
        Names(self.pools.each_ref().map(|pool| pool.iter().map(Server::address).collect()))
    }
}

impl Resolve for Names {
    async fn resolve(&self, pool: PoolName) -> Result<Resolution, String> {
        let index = POOLS.iter().position(|name| *name == pool.to_string());
        let addresses = index.and_then(|i| self.0.get(i)).cloned().ok_or("no such name")?;
        Ok(Resolution { addresses, ttl: None })
    }
}

async fn play(stage: Stage, serve: bool) -> Result<(), CommandError> {
    let text = |value: &str| Some(ConfigText(value.to_owned()));
    let raw = RawConfig {
        pools: Some(POOLS.map(|name| ConfigText(name.to_owned())).to_vec()),
        interval: text("1s"),
        stale_after: text("10s"),
        max_round_trip: text("250ms"),
        ..RawConfig::default()
    };
    let settings = Settings::new(raw, RawConfig::default())?;
    let listen = Listen { host: Some([127, 0, 0, 1].into()), port: 0 };
    let listener =
        server::bind(listen).await.map_err(|e| CommandError::software("cannot listen on 127.0.0.1", e))?;
    let url = server::local_url(&listener);

    let mut agent = Agent::new(&settings, Arc::new(LinuxClock), stage.names(), None);
    let shared = agent.shared();
    let http = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
    let unread = Notify::new();
    let teller = Teller { style: Style::for_stdout(), started: now(), unread: &unread };
    let mut outcome = Ok(());
    let story = async {
        outcome = tell(&stage, &shared, teller, &url).await;
        if serve && outcome.is_ok() {
            teller.scene("Staying up (--serve). End with Ctrl-C.");
            let _ = tokio::signal::ctrl_c().await;
        }
    };
    // Nobody is left to tell it to: that ends it too.
    let end = async {
        tokio::select! {
            () = story => {}
            () = unread.notified() => {}
        }
    };
    agent.run(end, |effect| teller.show(effect)).await;
    http.abort();
    outcome
}

/// The story, scene by scene; each waits for what it announces.
async fn tell(
    stage: &Stage,
    shared: &AgentHandle,
    teller: Teller<'_>,
    url: &str,
) -> Result<(), CommandError> {
    let [pool_a, pool_b] = &stage.pools;
    let until = async |what: &str, condition: &dyn Fn(&Snapshot) -> bool| wait(shared, what, condition).await;
    let is = |state: State| move |snapshot: &Snapshot| snapshot.state == state;

    teller.scene("Two NTP pools of three servers each, on loopback. No network, no cluster, no root.");
    teller.say(&format!("metrics: {url}/metrics   for workloads: {url}/v1/clock"));
    until("in sync", &is(State::InSync)).await?;

    teller.scene("Reference time runs away from this machine by 15 ms a second: the node falls behind.");
    stage.time.drift(Ppb::from_ppm(15_000));
    until("drifting", &is(State::Drifting)).await?;
    until("more than 120 ms", &|snapshot| stage_offset(snapshot) > 0.12).await?;

    teller.scene("Someone slews the clock back.");
    stage.time.drift(Ppb::from_ppm(-60_000));
    until("close again", &|_| stage.time.offset().as_secs_f64() < 0.02).await?;
    stage.time.set(Offset::ZERO);
    until("in sync", &|snapshot| snapshot.state == State::InSync && stage_offset(snapshot).abs() < 0.01)
        .await?;

    time_to_read().await;
    teller.scene("One server of pool-a lies by 10 s. Five others know better.");
    all_behave(pool_a.get(..1).unwrap_or_default(), TEN_SECONDS_OFF);
    let is_falseticker = |snapshot: &Snapshot| {
        snapshot.pools.iter().flat_map(|p| &p.servers).filter(|s| s.is_falseticker).count()
    };
    until("the liar outvoted", &|snapshot| is_falseticker(snapshot) == 1 && snapshot.state == State::InSync)
        .await?;
    teller.say("judged: outvoted; the offset stands, and nothing was announced");
    all_behave(pool_a, Behaviour::Honest);
    until("all agree", &|snapshot| is_falseticker(snapshot) == 0).await?;

    time_to_read().await;
    teller.scene("Pool-b goes silent.");
    all_behave(pool_b, Behaviour::Silent);
    until("one pool left", &|snapshot| {
        snapshot.pools_agreeing == 1 && snapshot.unreachable_pools().count() == 1
    })
    .await?;
    teller.say(&format!("judged: {}", shared.snapshot().sentence()));

    time_to_read().await;
    teller.scene("Pool-b is back, but 10 s off. One of the two pools is wrong, and nobody can say which.");
    all_behave(pool_b, TEN_SECONDS_OFF);
    until("disagreement", &is(State::Disagree)).await?;

    time_to_read().await;
    teller.scene("Pool-b tells the right time again.");
    all_behave(pool_b, Behaviour::Honest);
    until("in sync", &|snapshot| snapshot.state == State::InSync && snapshot.pools_agreeing == 2).await?;

    teller.scene("That is all. On a node: drift-agent run. In a cluster: the DaemonSet.");
    Ok(())
}

async fn time_to_read() {
    sleep(PAUSE).await;
}

fn all_behave(servers: &[Server], behaviour: Behaviour) {
    for server in servers {
        server.behave(behaviour);
    }
}

fn stage_offset(snapshot: &Snapshot) -> f64 {
    snapshot.measured.map_or(0.0, |m| m.offset.as_secs_f64())
}

async fn wait(
    shared: &AgentHandle,
    what: &str,
    condition: &dyn Fn(&Snapshot) -> bool,
) -> Result<(), CommandError> {
    let deadline = now() + SCENE;
    while !condition(&shared.snapshot()) {
        if now() > deadline {
            let snapshot = shared.snapshot();
            return Err(CommandError::software(
                &format!("the demo waited in vain for: {what}"),
                snapshot.sentence(),
            ));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the time of the story, not the time of day")]
fn now() -> Instant {
    Instant::now()
}

#[derive(Clone, Copy)]
struct Teller<'a> {
    style: Style,
    started: Instant,
    unread: &'a Notify,
}

impl Teller<'_> {
    fn line(self, text: &str) {
        let seconds = now().saturating_duration_since(self.started).as_secs_f64();
        self.print(&format!("{} {text}\n", self.style.faint(&format!("{seconds:5.1} s"))));
    }

    fn print(self, text: &str) {
        if !matches!(print(text), Ok(true)) {
            self.unread.notify_one();
        }
    }

    fn scene(self, text: &str) {
        self.print("\n");
        self.line(&self.style.bold(text));
    }

    fn say(self, text: &str) {
        self.line(&format!("  {text}"));
    }

    fn show(self, effect: &Effect) {
        match effect {
            Effect::Log(LogEvent::Verdict { state, sentence }) => {
                self.say(&format!("{}: {sentence}", self.style.state(*state, state.label())));
            }
            Effect::Log(note @ (LogEvent::Resolved { .. } | LogEvent::Unresolved { .. })) => {
                self.say(&note.to_string());
            }
            Effect::WriteNode(report) if report.state == State::Drifting => {
                self.say("to the API server: PATCH /api/v1/nodes/NAME/status");
                let patch = serde_json::to_string_pretty(&node::patch("NAME", report)).unwrap_or_default();
                patch.lines().for_each(|line| self.say(&self.style.faint(line)));
            }
            Effect::WriteNode(report) => {
                self.say(&self.style.faint(&format!("annotated: clock-state={}", report.state.label())));
            }
            Effect::SendEvent(event) => {
                self.say(&format!("event {} ({})", event.reason.label(), event.reason.kind()));
            }
            _ => {}
        }
    }
}
