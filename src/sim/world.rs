//! A seeded world in virtual time: an oscillator, a network, servers, an API server, and the agent's machine.
//!
//! The same plan and seed give the same run, to the nanosecond.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::behaviour::ServerModel;
use super::service::{Moment, Service};
use crate::config::{self, raw::RawConfig};
use drift_core::http_date::DateSample;
use drift_core::http_date::coarse::HttpDateError;
use drift_core::io::{Effect, Input, LogEvent};
use drift_core::machine::{Machine, Settings};
use drift_core::ntp::cross_check::CrossCheck;
use drift_core::ntp::packet::{NtpTimestamp, request};
use drift_core::ntp::pool::Resolution;
use drift_core::ntp::reject::RejectReason;
use drift_core::ntp::sample::Exchange;
use drift_core::ntp::server::{Answer, Ask, ServerId, ServerState};
use drift_core::report::node::Prior;
use drift_core::report::publish::ApiError;
use drift_core::report::snapshot::Snapshot;
use drift_core::resume::{Observation, RtcRead, RtcSetBehavior};
use drift_core::step::outcome::Method;
use drift_core::step::stepper::StepDone;
use drift_core::step::time_daemon::{Daemon, DaemonReport};
use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Ppb, Reading, Wall, nanos};

/// The node's oscillator.
#[derive(Clone, Copy, Debug)]
pub struct Oscillator {
    /// Constant frequency error; positive: fast.
    pub error: Ppb,
    /// Amplitude of the change with temperature, around the constant error.
    pub swing: Ppb,
    /// Period of the change with temperature.
    pub period: Duration,
}

/// The network path to one server and back.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Shortest delay of a request.
    pub there: Duration,
    /// Shortest delay of an answer. No client can measure a difference between the two.
    pub back: Duration,
    /// Mean of the additional, exponentially distributed delay, by which packets can overtake each other.
    pub jitter: Duration,
    /// Share of the packets that are lost, 0 to 1.
    pub loss: f64,
}

/// One NTP server and the path to it.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Clock and behaviour.
    pub model: ServerModel,
    /// The path.
    pub path: Path,
}

/// An HTTP server that is asked for its `Date`, and the path to it.
#[derive(Clone, Copy, Debug)]
pub struct DateHost {
    /// How far its clock is ahead.
    pub ahead: Offset,
    /// The age of its header.
    pub header_age: Duration,
    /// The path.
    pub path: Path,
}

/// The properties of a world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of all random values.
    pub seed: u64,
    /// Reference time at the start.
    pub present: Wall,
    /// Reference time - node time at the start.
    pub offset: Offset,
    /// The node's oscillator.
    pub oscillator: Oscillator,
    /// Hardware clock - wall clock at the start.
    pub rtc_ahead: Offset,
    /// The pools' servers.
    pub pools: Vec<Vec<Host>>,
    /// The agent's settings; the names of the pools are made from `pools`.
    pub settings: Settings,
    /// Share of the writes to the API server that fail.
    pub api_errors: f64,
    /// Do steps move the clock? If not, they are reported as done all the same.
    pub steps_work: bool,
}

/// The default settings, without the pools, which [`World::new`] names.
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "constants that a test of the configuration checks"
)]
pub fn default_settings() -> Settings {
    let defaults = config::Settings::new(RawConfig::default(), RawConfig::default());
    Settings { pools: Vec::new(), ..defaults.expect("valid defaults").core }
}

/// The running world.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    /// True time since the start.
    elapsed: Duration,
    wall: WallClock,
    suspended: Duration,
    /// Time in pauses that the kernel did not notice.
    paused: Duration,
    /// The sum of all changes by setting the hardware clock, ns.
    rtc_written: i64,
    /// The wall clock was set since the last observation.
    clock_was_set: bool,
    hosts: BTreeMap<SocketAddr, (Service, Path)>,
    /// The HTTP servers in the order of the settings; without one, requests time out.
    pub date_hosts: Vec<DateHost>,
    /// When each HTTP request was sent, and the index of its server.
    pub date_requests: Vec<(Duration, usize)>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    inputs: BTreeMap<u64, Pending>,
    next_id: u64,
    rng: fastrand::Rng,
    /// The agent's machine.
    pub machine: Machine,
    /// The machine's effects other than requests to servers, and when each was carried out.
    pub effects: Vec<(Duration, Effect)>,
}

/// What other processes and the kernel do to the wall clock, in addition to the oscillator.
#[derive(Clone, Copy, Debug, Default)]
struct WallClock {
    /// Wall time - wall time by the oscillator alone, ns.
    moved: i64,
    slew: Ppb,
    since: Duration,
}

/// An input on its way. An answer is validated when it arrives, with the clocks of that moment.
#[derive(Clone, Debug)]
enum Pending {
    Ready(Input),
    /// An HTTP request that waits for its send phase.
    AskDate {
        source: usize,
        request: u32,
    },
    /// The answer to an HTTP request.
    Date {
        source: usize,
        request: u32,
        date: Wall,
        sent: Mono,
    },
    /// The packets that come in an NTP exchange; none: its time-out.
    Arrival {
        server: ServerId,
        ask: Ask,
        before: Reading,
        nonce: NtpTimestamp,
        packets: Vec<Vec<u8>>,
    },
}

impl WallClock {
    fn at(&self, elapsed: Duration) -> i64 {
        self.moved.saturating_add(self.slew.over(elapsed.saturating_sub(self.since)))
    }
}

impl Oscillator {
    /// Nanoseconds that the raw clock counts in `elapsed`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a swing is a few microseconds an hour"
    )]
    fn counts(&self, elapsed: Duration) -> i64 {
        let period = self.period.as_secs_f64().max(1.0);
        let phase = std::f64::consts::TAU * elapsed.as_secs_f64() / period;
        let swing = self.swing.0 as f64 * period / std::f64::consts::TAU * (1.0 - phase.cos());
        nanos(elapsed).saturating_add(self.error.over(elapsed)).saturating_add(swing as i64)
    }
}

impl World {
    /// The world at its start.
    pub fn new(mut plan: Plan) -> Self {
        plan.settings.pools = (0..plan.pools.len()).map(|n| format!("pool-{n}.invalid")).collect();
        let mut hosts = BTreeMap::new();
        for (pool, servers) in plan.pools.iter().enumerate() {
            for (index, host) in servers.iter().enumerate() {
                let address = address(pool, index);
                hosts.insert(address, (Service::new(host.model, name(address)), host.path));
            }
        }
        let start = Reading {
            wall: plan.present.plus(Offset::from_nanos(-plan.offset.as_nanos())),
            raw: RAW_START,
            suspended: Duration::ZERO,
        };
        Self {
            machine: Machine::new(plan.settings.clone(), plan.seed, start),
            rng: fastrand::Rng::with_seed(plan.seed),
            elapsed: Duration::ZERO,
            wall: WallClock::default(),
            suspended: Duration::ZERO,
            paused: Duration::ZERO,
            rtc_written: 0,
            clock_was_set: false,
            hosts,
            date_hosts: Vec::new(),
            date_requests: Vec::new(),
            queue: BinaryHeap::new(),
            inputs: BTreeMap::new(),
            next_id: 0,
            effects: Vec::new(),
            plan,
        }
    }

    /// True time since the start.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Reference time now.
    pub fn reference(&self) -> Wall {
        self.plan.present.plus(Offset::from_nanos(nanos(self.elapsed)))
    }

    /// The node's clocks now.
    pub fn reading(&self) -> Reading {
        // The raw clock does not count during suspend; the kernel sets the wall clock afterwards.
        let awake = self.elapsed.saturating_sub(self.suspended + self.paused);
        let raw = RAW_START.plus(Duration::from_nanos(self.plan.oscillator.counts(awake).unsigned_abs()));
        let start = self.wall_at_start();
        let counted = nanos(raw.since(RAW_START)).saturating_add(nanos(self.suspended));
        let wall = start.plus(Offset::from_nanos(counted.saturating_add(self.wall.at(self.elapsed))));
        Reading { wall, raw, suspended: self.suspended }
    }

    /// The true offset now.
    pub fn truth(&self) -> Offset {
        self.reference().minus(self.reading().wall)
    }

    /// The machine's snapshot now.
    pub fn snapshot(&self) -> Snapshot {
        self.machine.snapshot(self.reading())
    }

    /// Another process steps the wall clock; positive: forward.
    pub fn step_wall(&mut self, by: Offset) {
        self.wall = WallClock {
            moved: self.wall.at(self.elapsed).saturating_add(by.as_nanos()),
            since: self.elapsed,
            ..self.wall
        };
        self.clock_was_set = true;
    }

    /// Another process slews the wall clock from now on.
    pub fn slew_wall(&mut self, rate: Ppb) {
        self.wall = WallClock { moved: self.wall.at(self.elapsed), slew: rate, since: self.elapsed };
    }

    /// The node is suspended; the kernel notices, and leaves the wall clock this far behind.
    pub fn sleep(&mut self, span: Duration, left_behind: Duration) {
        self.suspended += span;
        self.elapsed += span;
        self.step_wall(Offset::from_nanos(-nanos(left_behind)));
    }

    /// The hypervisor pauses the node; its kernel does not notice, and the hardware clock continues.
    pub fn pause(&mut self, span: Duration) {
        self.paused += span;
        self.elapsed += span;
    }

    /// The hardware clock is set to the wall clock plus `ahead`, as another process may do; by the kernel it
    /// is zero.
    pub fn write_rtc(&mut self, ahead: Offset) {
        self.rtc_written += ahead.as_nanos() - self.rtc_ahead().as_nanos();
    }

    /// Hardware clock - wall clock.
    pub fn rtc_ahead(&self) -> Offset {
        self.rtc().minus(self.reading().wall)
    }

    /// The hardware clock. It has the frequency of the raw clock and is read without delay; `sim::node` has
    /// less ideal ones.
    fn rtc(&self) -> Wall {
        let ran = nanos(self.reading().raw.since(RAW_START)) + nanos(self.suspended + self.paused);
        let start = self.wall_at_start().plus(self.plan.rtc_ahead);
        start.plus(Offset::from_nanos(ran.saturating_add(self.rtc_written)))
    }

    fn wall_at_start(&self) -> Wall {
        self.plan.present.plus(Offset::from_nanos(-self.plan.offset.as_nanos()))
    }

    /// What the signals report.
    fn observe(&mut self) -> Observation {
        let now = self.reading();
        let rtc = RtcRead {
            seconds: self.rtc().as_nanos().div_euclid(NANOS_PER_SEC),
            before: now.raw,
            after: now.raw,
            set_behavior: RtcSetBehavior::ResetsSubsecond,
        };
        let clock_set = Some(std::mem::take(&mut self.clock_was_set));
        Observation { now, rtc: Some(rtc), clock_set, vmclock: None, clocksource: None, late: Duration::ZERO }
    }

    /// Replaces the model of a server.
    pub fn change(&mut self, pool: usize, index: usize, model: ServerModel) {
        if let Some((service, _)) = self.hosts.get_mut(&address(pool, index)) {
            service.model = model;
        }
    }

    /// How many reachable servers of the agent are honest, and how many are not.
    pub fn reachable(&self) -> (usize, usize) {
        let snapshot = self.snapshot();
        let reachable =
            snapshot.pools.iter().flat_map(|p| &p.servers).filter(|s| s.state == ServerState::Reachable);
        let honest = |s: &SocketAddr| self.hosts.get(s).is_some_and(|(service, _)| service.model.is_honest());
        reachable
            .fold((0, 0), |(good, bad), s| if honest(&s.address) { (good + 1, bad) } else { (good, bad + 1) })
    }

    /// Requests to each server.
    pub fn served(&self) -> impl Iterator<Item = u64> {
        self.hosts.values().map(|(service, _)| service.served())
    }

    /// Runs until `end`, and checks the world after each input.
    pub fn run_until(
        &mut self,
        end: Duration,
        mut check: impl FnMut(&Self) -> Result<(), String>,
    ) -> Result<(), String> {
        while self.elapsed < end {
            let idle = self.machine.poll_timeout(self.reading().raw).clamp(Duration::from_micros(1), TICK);
            let tick = self.elapsed + idle;
            let next = self.queue.peek().map(|Reverse((at, _))| *at).filter(|at| *at <= tick);
            self.elapsed = self.elapsed.max(next.unwrap_or(tick));
            let input = match next {
                Some(_) => self.arrive(),
                None => Some(Input::Observed(self.observe())),
            };
            if let Some(input) = input {
                self.feed(input);
            }
            check(self)?;
        }
        Ok(())
    }

    fn feed(&mut self, input: Input) {
        let now = self.reading();
        for effect in self.machine.handle(input, now) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Resolve { pool } => {
                let servers = self.plan.pools.get(pool).map_or(0, Vec::len);
                let addresses = (0..servers).map(|index| address(pool, index)).collect();
                let answer = Ok(Resolution { addresses, ttl: Some(Duration::from_secs(300)) });
                self.after(Duration::from_millis(12), Pending::Ready(Input::Resolved { pool, answer }));
            }
            Effect::Query { server, address, ask, .. } => self.send(server, address, ask),
            Effect::FetchHttpDate { source, request, phase } => {
                let wait = phase.map_or(Duration::ZERO, |phase| phase.wait(self.reading().raw));
                self.after(wait, Pending::AskDate { source, request });
            }
            Effect::ReadNode => {
                self.after(Duration::from_millis(8), Pending::Ready(Input::NodeRead(Ok(Prior::default()))));
            }
            Effect::WriteNode(_) => {
                let fails = self.rng.f64() < self.plan.api_errors;
                let result = if fails { Err(ApiError::Server(None)) } else { Ok(()) };
                self.after(Duration::from_millis(15), Pending::Ready(Input::NodeWritten(result)));
                self.effects.push((self.elapsed, effect));
            }
            Effect::SendEvent(_) => {
                self.after(Duration::from_millis(15), Pending::Ready(Input::EventSent(Ok(()))));
                self.effects.push((self.elapsed, effect));
            }
            Effect::InspectDaemon => {
                let report = DaemonReport { daemon: Daemon::None, believes: None, ready: Ok(()) };
                self.after(Duration::from_millis(1), Pending::Ready(Input::DaemonInspected(report)));
            }
            Effect::Step(ref order) => {
                if self.plan.steps_work {
                    self.step_wall(order.offset);
                }
                let done = Input::Stepped(StepDone::Stepped(Method::Kernel));
                self.after(Duration::from_millis(1), Pending::Ready(done));
                self.effects.push((self.elapsed, effect));
            }
            // One for each exchange would only take room.
            Effect::Log(
                LogEvent::SampleAccepted { .. }
                | LogEvent::SampleRejected { .. }
                | LogEvent::CrossChecked { .. },
            ) => {}
            Effect::LogStep(_) | Effect::Log(_) => self.effects.push((self.elapsed, effect)),
        }
    }

    /// Sends a request: the answer is made now and validated when it arrives.
    fn send(&mut self, server: ServerId, address: SocketAddr, ask: Ask) {
        let before = self.reading();
        let time_out = self.plan.settings.limits.max_round_trip;
        let nonce = NtpTimestamp(self.rng.u64(..));
        let arrival = |packets| Pending::Arrival { server, ask, before, nonce, packets };
        let Some(path) = self.hosts.get(&address).map(|(_, path)| *path) else {
            return self.after(time_out, arrival(Vec::new()));
        };
        let (there, processing) =
            (path.there + self.jitter(path), Duration::from_micros(self.rng.u64(5..200)));
        let at_server = self.reference().plus(Offset::from_nanos(nanos(there)));
        let leaves = at_server.plus(Offset::from_nanos(nanos(processing)));
        let moment = Moment { receive: at_server, transmit: leaves, uptime: self.elapsed + there };
        let packets = match self.hosts.get_mut(&address) {
            Some((service, _)) => service.serve(&request(nonce), CLIENT, moment),
            None => Vec::new(),
        };
        let back = path.back + self.jitter(path);
        let arrives = there + processing + back;
        let is_lost = self.rng.f64() < path.loss;
        let is_answer = |bytes: &Vec<u8>| Exchange::complete(nonce, before, before, bytes).is_ok();
        // The agent listens until the time-out for an answer.
        let waits = !packets.iter().any(is_answer) || arrives > time_out;
        match packets.is_empty() || is_lost {
            true => self.after(time_out, arrival(Vec::new())),
            false if arrives > time_out => self.after(time_out, arrival(Vec::new())),
            false => self.after(if waits { time_out } else { arrives }, arrival(packets)),
        }
    }

    /// Sends an HTTP request; one without a server times out.
    fn send_date(&mut self, source: usize, request: u32) -> Option<Input> {
        let sent = self.reading().raw;
        self.date_requests.push((self.elapsed, source));
        let Some(DateHost { ahead, header_age, path }) = self.date_hosts.get(source).copied() else {
            return Some(Input::HttpDateFetched { source, request, answer: Err(HttpDateError::TimedOut) });
        };
        let there = path.there + self.jitter(path);
        let shift = nanos(there).saturating_sub(nanos(header_age)).saturating_add(ahead.as_nanos());
        let written = self.reference().plus(Offset::from_nanos(shift));
        let date = Wall::from_secs(written.as_nanos().div_euclid(NANOS_PER_SEC));
        let back = path.back + self.jitter(path);
        self.after(there + back, Pending::Date { source, request, date, sent });
        None
    }

    fn jitter(&mut self, path: Path) -> Duration {
        path.jitter.mul_f64(-(1.0 - self.rng.f64()).ln())
    }

    fn after(&mut self, delay: Duration, pending: Pending) {
        self.next_id += 1;
        self.queue.push(Reverse((self.elapsed + delay, self.next_id)));
        self.inputs.insert(self.next_id, pending);
    }

    fn arrive(&mut self) -> Option<Input> {
        let Reverse((_, id)) = self.queue.pop()?;
        let after = self.reading();
        let limits = self.plan.settings.limits;
        Some(match self.inputs.remove(&id)? {
            Pending::Ready(input) => input,
            Pending::AskDate { source, request } => return self.send_date(source, request),
            Pending::Date { source, request, date, sent } => Input::HttpDateFetched {
                source,
                request,
                answer: Ok(DateSample { date, sent, received: after.raw }),
            },
            Pending::Arrival { server, ask, before, nonce, packets } => {
                let exchange = first_answer(nonce, before, after, &packets);
                let answer = match ask {
                    Ask::Sample => {
                        let sample = exchange.and_then(|exchange| exchange.sample(limits));
                        sample.map_or_else(Answer::Rejected, Answer::Sample)
                    }
                    Ask::CrossCheck => {
                        // A stray packet ends the exchange of rsntp.
                        let exchange = exchange.ok().filter(|_| packets.len() == 1);
                        Answer::CrossChecked(exchange.and_then(|e| cross_check(&e)))
                    }
                };
                Input::Answered { server, answer }
            }
        })
    }
}

/// The first packet that is an answer; if none is, why the last is not.
fn first_answer(
    nonce: NtpTimestamp,
    before: Reading,
    after: Reading,
    packets: &[Vec<u8>],
) -> Result<Exchange, RejectReason> {
    let mut result = Err(RejectReason::Timeout);
    for bytes in packets {
        result = Exchange::complete(nonce, before, after, bytes);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// What rsntp makes of an exchange: it measures by the wall clock.
fn cross_check(exchange: &Exchange) -> Option<CrossCheck> {
    let Exchange { sent, received, answer } = exchange;
    answer.validate().ok()?;
    let there = answer.receive.to_wall().minus(sent.wall).as_nanos();
    let back = answer.transmit.to_wall().minus(received.wall).as_nanos();
    let offset = Offset::from_nanos(there.midpoint(back));
    CrossCheck::new(*sent, *received, offset, Offset::from_nanos(there.saturating_sub(back)))
}

/// The raw clock at the start: any number but 0.
const RAW_START: Mono = Mono::from_nanos(1_234_567_890_123);
/// The agent observes its clocks at least this often.
const TICK: Duration = Duration::from_secs(1);

/// The agent's address, as servers see it.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// A number for each server.
fn name(address: SocketAddr) -> u32 {
    match address.ip() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(_) => 0,
    }
}

fn address(pool: usize, index: usize) -> SocketAddr {
    let byte = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, byte(pool), byte(index))), 123)
}
