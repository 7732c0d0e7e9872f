//! A seeded world in virtual time: a node's clocks, a network, servers, an API server, and the agent's machine.
//!
//! The same plan and seed give the same run, to the nanosecond.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use super::behaviour::ServerModel;
use super::clocks::NodeClocks;
pub use super::clocks::Oscillator;
use super::dns::Zone;
use super::events::{Event, Kind};
use super::exchange::{Flight, Pending};
pub use super::network::{Host, Path};
use super::network::{Network, address};
pub use super::plan::{DateHost, Plan, Surroundings, default_settings};
use super::steps::AppliedStep;
use drift_core::io::{Effect, Input, LogEvent};
use drift_core::machine::{Machine, Settings};
use drift_core::report::node::{ConditionStatus, NodeReport, Prior};
use drift_core::report::publish::ApiError;
use drift_core::report::snapshot::Snapshot;
use drift_core::resume::{Clocksource, Observation, RtcRead, RtcSetBehavior};
use drift_core::step::time_daemon::DaemonReport;
use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Ppb, Reading, Wall};

/// The agent observes its clocks at least this often.
const TICK: Duration = Duration::from_secs(1);

/// The running world.
#[derive(Debug)]
pub struct World {
    pub(super) plan: Plan,
    pub(super) surroundings: Surroundings,
    pub(super) clocks: NodeClocks,
    /// The wall clock was set since the last observation.
    pub(super) clock_was_set: bool,
    /// The disruption marker of the vmclock.
    pub(super) marker: u64,
    /// Number of the clocksource in use.
    pub(super) clocksource: u32,
    /// The servers, and what was exchanged with them.
    pub network: Network,
    pub(super) zones: Vec<Zone>,
    /// Look-ups fail, whatever the zones say.
    pub(super) names_fail: bool,
    /// Look-ups of each name so far.
    lookups: Vec<usize>,
    /// What happens in the midst of the next exchange, and after which share of it, in percent.
    pub(super) in_exchange: Option<(u8, Event)>,
    /// The steps that the agent has made.
    pub steps: Vec<AppliedStep>,
    /// What has happened, and when.
    pub happened: Vec<(Duration, Kind)>,
    /// The pauses so far: when each was over, and how long it was.
    pub pauses: Vec<(Duration, Duration)>,
    /// The HTTP servers in the order of the settings; without one, requests time out.
    pub date_hosts: Vec<DateHost>,
    /// When each HTTP request was sent, and the index of its server.
    pub date_requests: Vec<(Duration, usize)>,
    /// What is due when; equal times in the order of their numbers.
    pub(super) queue: BinaryHeap<Reverse<(Duration, u64)>>,
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) flights: BTreeMap<u64, Flight>,
    /// Requests since the last check: to whom, when the one before was sent, and when this one, by the raw clock.
    pub(super) asked: Vec<(SocketAddr, Option<Mono>, Mono)>,
    /// Samples that the agent was given.
    pub(super) samples: u64,
    pub(super) next_id: u64,
    pub(super) rng: fastrand::Rng,
    /// The agent's machine.
    pub machine: Machine,
    /// The raw clock as of the machine's last input.
    fed: Mono,
    /// Something has happened while the effects of the last input were carried out.
    pub(super) is_torn: bool,
    /// The last report that is on the Node.
    written: Option<NodeReport>,
    /// The machine's effects other than requests to servers, and when each was carried out.
    pub effects: Vec<(Duration, Effect)>,
}

impl World {
    /// The world at its start.
    pub fn new(plan: Plan) -> Self {
        Self::with(plan, Surroundings::default())
    }

    /// The world at its start, with these surroundings.
    pub fn with(mut plan: Plan, surroundings: Surroundings) -> Self {
        plan.settings.pools = (0..plan.pools.len()).map(|n| format!("pool-{n}.invalid")).collect();
        let Plan { present, offset, oscillator, rtc_ahead, .. } = plan;
        let clocks = NodeClocks::new(present, offset, oscillator, rtc_ahead, surroundings.rtc_rate);
        let mut network = Network::new(&plan.pools);
        network.lost_max = surroundings.lost_max;
        let mut zones = surroundings.zones.clone();
        zones.resize(plan.pools.len(), Zone::default());
        Self {
            machine: Machine::new(plan.settings.clone(), plan.seed, clocks.reading()),
            fed: clocks.reading().raw,
            rng: fastrand::Rng::with_seed(plan.seed),
            clocks,
            is_torn: false,
            clock_was_set: false,
            marker: 1,
            clocksource: 0,
            network,
            lookups: vec![0; plan.pools.len()],
            zones,
            names_fail: false,
            in_exchange: None,
            steps: Vec::new(),
            happened: Vec::new(),
            pauses: Vec::new(),
            date_hosts: Vec::new(),
            date_requests: Vec::new(),
            queue: BinaryHeap::new(),
            pending: BTreeMap::new(),
            flights: BTreeMap::new(),
            asked: Vec::new(),
            samples: 0,
            next_id: 0,
            written: None,
            effects: Vec::new(),
            surroundings,
            plan,
        }
    }

    /// The agent's settings.
    pub fn settings(&self) -> &Settings {
        &self.plan.settings
    }

    /// How a pool's name is answered now.
    pub fn zone(&self, pool: usize) -> Option<Zone> {
        self.zones.get(pool).copied()
    }

    /// Does a pool's name resolve?
    pub fn resolves(&self, pool: usize) -> bool {
        !self.names_fail && self.zone(pool).is_some_and(|zone| !zone.fails)
    }

    /// How many servers the plan has for a pool.
    pub fn hosts(&self, pool: usize) -> usize {
        self.plan.pools.get(pool).map_or(0, Vec::len)
    }

    /// Share of the requests to the API server that fail.
    pub fn api_errors(&self) -> f64 {
        self.plan.api_errors
    }

    /// Is an exchange under way?
    pub fn is_exchanging(&self) -> bool {
        !self.flights.is_empty()
    }

    /// Has the machine no signal that shows pauses?
    pub fn is_blind(&self) -> bool {
        !self.surroundings.has_rtc && !self.surroundings.has_vmclock
    }

    /// How many pools there are.
    pub fn pools(&self) -> usize {
        self.plan.pools.len()
    }

    /// True time since the start.
    pub fn elapsed(&self) -> Duration {
        self.clocks.elapsed()
    }

    /// Reference time now.
    pub fn reference(&self) -> Wall {
        self.clocks.reference()
    }

    /// The node's clocks now.
    pub fn reading(&self) -> Reading {
        self.clocks.reading()
    }

    /// The clocks as the agent reads them: one after the other, so that after a suspend the time in it may appear
    /// shorter by as long as the reader was preempted.
    pub(super) fn read_clocks(&mut self) -> Reading {
        let now = self.reading();
        if now.suspended.is_zero() || self.rng.u8(0..64) > 0 {
            return now;
        }
        let between = Duration::from_micros(self.rng.u64(0..200_000));
        Reading { suspended: now.suspended.saturating_sub(between), ..now }
    }

    /// The true offset now.
    pub fn truth(&self) -> Offset {
        self.clocks.truth()
    }

    /// The machine's snapshot now.
    pub fn snapshot(&self) -> Snapshot {
        self.machine.snapshot(self.reading())
    }

    /// Another process steps the wall clock; positive: forward.
    pub fn step_wall(&mut self, by: Offset) {
        self.happen(Event::Step(by));
    }

    /// Another process slews the wall clock from now on.
    pub fn slew_wall(&mut self, rate: Ppb) {
        self.happen(Event::Slew(rate));
    }

    /// The node is suspended; the kernel notices, and leaves the wall clock this far behind.
    pub fn sleep(&mut self, span: Duration, left_behind: Duration) {
        self.happen(Event::Suspend { span, left_behind });
    }

    /// The hypervisor pauses the node; its kernel does not notice, and the hardware clock continues.
    pub fn pause(&mut self, span: Duration) {
        self.happen(Event::Pause { span, is_marked: false });
    }

    /// The hardware clock is set to the wall clock plus `ahead`, as another process may do; by the kernel it
    /// is zero.
    pub fn write_rtc(&mut self, ahead: Offset) {
        self.happen(Event::WriteRtc(ahead));
    }

    /// Hardware clock - wall clock.
    pub fn rtc_ahead(&self) -> Offset {
        self.clocks.rtc_ahead()
    }

    /// Replaces the model of a server.
    pub fn change(&mut self, pool: usize, index: usize, model: ServerModel) {
        if let Some(endpoint) = self.network.endpoints.get_mut(&address(pool, index)) {
            endpoint.service.model = model;
        }
    }

    pub(super) fn reroute(&mut self, pool: usize, index: usize, path: Path) {
        if let Some(endpoint) = self.network.endpoints.get_mut(&address(pool, index)) {
            endpoint.path = path;
        }
    }

    pub(super) fn set_api_errors(&mut self, share: f64) {
        self.plan.api_errors = share;
    }

    /// Requests to each server.
    pub fn served(&self) -> impl Iterator<Item = u64> {
        self.network.endpoints.values().map(|endpoint| endpoint.service.served())
    }

    /// This happens so long after the start.
    pub fn schedule(&mut self, at: Duration, event: Event) {
        self.push(at, Pending::Event(event));
    }

    /// Runs until `end`, and checks the world after each input.
    pub fn run_until(
        &mut self,
        end: Duration,
        mut check: impl FnMut(&Self) -> Result<(), String>,
    ) -> Result<(), String> {
        while self.elapsed() < end {
            let due = self.fed.plus(self.machine.poll_timeout(self.fed).min(TICK));
            let idle = self.clocks.until_counted(due.since(self.reading().raw)).max(Duration::from_micros(1));
            let tick = self.elapsed() + idle;
            let next = self.queue.peek().map(|Reverse((at, _))| *at).filter(|at| *at <= tick);
            self.clocks.pass_until(next.unwrap_or(tick));
            let input = match next {
                Some(_) => match self.arrive() {
                    Some(input) => Some(input),
                    None => continue,
                },
                None => None,
            };
            // As the agent does: an input that waited through a stall must not hide it.
            if input.is_none() || self.reading().raw > due {
                let observed = self.observe(due);
                self.feed(observed, &mut check)?;
            }
            if let Some(input) = input {
                self.feed(input, &mut check)?;
            }
        }
        Ok(())
    }

    /// What the signals report. `due`: when they were to be read.
    fn observe(&mut self, due: Mono) -> Input {
        let now = self.read_clocks();
        let rtc = self.surroundings.has_rtc.then(|| RtcRead {
            seconds: {
                let seconds = self.clocks.rtc().as_nanos().div_euclid(NANOS_PER_SEC);
                seconds - seconds.rem_euclid(self.surroundings.rtc_resolution)
            },
            before: now.raw,
            after: now.raw,
            set_behavior: RtcSetBehavior::ResetsSubsecond,
        });
        let clock_set = Some(std::mem::take(&mut self.clock_was_set));
        let vmclock = self.surroundings.has_vmclock.then_some(self.marker);
        Input::Observed(Observation {
            now,
            rtc,
            clock_set,
            vmclock,
            clocksource: Some(Clocksource::from_name(&self.clocksource.to_string())),
            late: now.raw.since(due),
        })
    }

    /// Hands the machine an input, carries out its effects, and checks the world.
    fn feed(
        &mut self,
        input: Input,
        check: &mut impl FnMut(&Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let (now, happened) = (self.read_clocks(), self.happened.len());
        self.fed = now.raw;
        for effect in self.machine.handle(input, now) {
            self.carry_out(effect);
        }
        // What happened in their midst shows with the next input.
        self.is_torn = self.happened.len() > happened;
        check(self)?;
        self.asked.clear();
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Resolve { pool } => self.resolve(pool),
            Effect::Query { pool, server, address, ask, .. } => self.send(pool, server, address, ask),
            Effect::FetchHttpDate { source, request, phase } => {
                let wait = phase.map_or(Duration::ZERO, |phase| phase.wait(self.reading().raw));
                self.after(wait, Pending::AskDate { source, request });
            }
            Effect::ReadNode => {
                let left = || Prior { last_step: self.surroundings.last_step.clone(), ..Prior::default() };
                let left = self.written.as_ref().map_or_else(left, prior);
                let prior = self.api_result().map(|()| left);
                self.after(Duration::from_millis(8), Pending::Ready(Input::NodeRead(prior)));
            }
            Effect::WriteNode(ref report) => {
                let result = self.api_result();
                if result.is_ok() {
                    self.written = Some(report.clone());
                }
                self.after(Duration::from_millis(15), Pending::Ready(Input::NodeWritten(result)));
                self.effects.push((self.elapsed(), effect));
            }
            Effect::SendEvent(_) => {
                let result = self.api_result();
                self.after(Duration::from_millis(15), Pending::Ready(Input::EventSent(result)));
                self.effects.push((self.elapsed(), effect));
            }
            Effect::InspectDaemon => {
                let inspected = Input::DaemonInspected(DaemonReport::NONE);
                self.after(Duration::from_millis(1), Pending::Ready(inspected));
            }
            Effect::Step(ref order) => {
                self.order_step(order.clone());
                self.effects.push((self.elapsed(), effect));
            }
            // One for each exchange would only take room.
            Effect::Log(
                LogEvent::SampleAccepted { .. }
                | LogEvent::SampleRejected { .. }
                | LogEvent::CrossChecked { .. },
            ) => {}
            Effect::LogStep(_) | Effect::Log(_) => self.effects.push((self.elapsed(), effect)),
        }
    }

    fn resolve(&mut self, pool: usize) {
        let (total, elapsed) = (self.hosts(pool), self.elapsed());
        let Some((zone, lookups)) = self.zones.get(pool).copied().zip(self.lookups.get_mut(pool)) else {
            return;
        };
        let found = zone.answer(total, *lookups, elapsed, &mut self.rng).filter(|_| !self.names_fail);
        *lookups += 1;
        let delay = if self.names_fail { Duration::from_secs(5) } else { zone.delay };
        self.after(delay, Pending::Resolved { pool, found, ttl: zone.ttl });
    }

    /// The result of a request to the API server.
    fn api_result(&mut self) -> Result<(), ApiError> {
        if self.rng.f64() >= self.plan.api_errors {
            return Ok(());
        }
        let errors = [
            ApiError::Server(None),
            ApiError::TooManyRequests(Some(Duration::from_secs(7))),
            ApiError::Unreachable,
            ApiError::Rejected,
        ];
        Err(errors.get(self.rng.usize(0..errors.len())).copied().unwrap_or(ApiError::Unreachable))
    }

    /// The agent ends, and starts again: what was on its way to it is lost, and what it has written is not.
    pub(super) fn restart(&mut self) {
        self.pending.retain(|_, pending| matches!(pending, Pending::Event(_)));
        self.flights.clear();
        // Another run has another seed.
        self.plan.seed = self.plan.seed.wrapping_add(0x9e37_79b9);
        let now = self.reading();
        self.machine = Machine::new(self.plan.settings.clone(), self.plan.seed, now);
        self.fed = now.raw;
    }
}

/// What a report leaves on the Node, as a later run reads it.
fn prior(report: &NodeReport) -> Prior {
    Prior {
        condition: Some((ConditionStatus::of(report.state), report.transition)),
        exceeded_since: report.exceeded_since,
        last_step: report.last_step.clone(),
        step_result: report.step_result.clone(),
    }
}
