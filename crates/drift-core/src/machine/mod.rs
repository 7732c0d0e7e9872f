//! The machine: the only mutable state. Inputs go in, effects come out; it never waits and never asks what time it is.

mod disruption;
mod snapshot;
mod step;

use std::collections::VecDeque;
use std::time::Duration;

use self::disruption::Bursts;
use crate::estimate::{Combined, combine};
use crate::http_date::coarse::{CoarseReadings, HttpSource};
use crate::io::{Effect, Input, LogEvent};
use crate::ntp::reject::RejectReason;
use crate::ntp::sample::Limits;
use crate::ntp::server::{Answer, ServerId};
use crate::poll::fallback::Fallback;
use crate::poll::rounds::Rounds;
use crate::report::history::History;
use crate::report::leeway;
use crate::report::node::{ConditionStatus, EventReason, NodeEvent, NodeReport, Prior};
use crate::report::publish::{ApiError, Publisher};
use crate::report::snapshot::Counts;
use crate::resume::{Class, Detector};
use crate::step::policy::{self, Trigger};
use crate::step::stepper::Stepper;
use crate::step::time_daemon::DaemonReport;
use crate::time::backoff::{Backoff, Bucket};
use crate::time::line::{Frequency, FrequencyTracker, Interval, Line};
use crate::time::{Measurement, Mono, Offset, Reading, Wall, nanos};
use crate::verdict::{Finding, Occasion, State, Verdict};

/// How long an event waits for somebody to say what time it is.
const EVENTS_WAIT: Duration = Duration::from_secs(10);
/// Events that wait for the API server.
const EVENTS_KEPT: usize = 4;
/// The label `result` of an accepted sample.
pub const ACCEPTED: &str = "accepted";
/// The label `result` of a write that worked.
pub const WRITTEN: &str = "ok";

/// What the core needs to know; validated by `config`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Names of the pools.
    pub pools: Vec<String>,
    /// Time between two rounds.
    pub interval: Duration,
    /// Offset from which a node drifts.
    pub threshold: Duration,
    /// Age from which an estimate is worth nothing.
    pub stale_after: Duration,
    /// Addresses asked per pool.
    pub servers_per_pool: usize,
    /// What counts as a sample.
    pub limits: Limits,
    /// Who is asked for the time by HTTP while no NTP server gives an estimate.
    pub last_resort: Vec<HttpSource>,
    /// Whether and how the clock may be stepped.
    pub step: policy::Settings,
    /// What to recommend to verifiers of tokens.
    pub leeway: leeway::Settings,
}

/// What the offset rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Basis {
    Nothing,
    Line(Line),
    Contradiction,
    Disruption,
}

/// The agent's whole state.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    rounds: Rounds,
    oscillator: FrequencyTracker,
    basis: Basis,
    /// The last good line, for the times that we publish; it outlives a contradiction.
    times: Option<Line>,
    /// What the live servers agreed on in the last round, to tell who is outvoted.
    agreement: Option<(Mono, Interval)>,
    pools_agreeing: usize,
    fallback: Fallback,
    verdict: Verdict,
    ready: bool,
    last_confirmation: Option<Mono>,
    begun: bool,
    detector: Detector,
    bursts: Bursts,
    stepper: Stepper,
    daemon: Option<DaemonReport>,
    leap_seen: Option<Mono>,
    history: History,
    publisher: Publisher,
    events: Bucket,
    restored: bool,
    writes_fail: Option<ApiError>,
    events_fail: Option<ApiError>,
    told: Option<(State, usize, u64, bool, bool)>,
    transition: Option<(ConditionStatus, Wall)>,
    exceeded_since: Option<Wall>,
    /// Events that wait for the API server; and those that still want a time, when they happened.
    waiting: VecDeque<(Option<Mono>, NodeEvent)>,
    sending: Option<NodeEvent>,
    events_after: Mono,
    events_backoff: Backoff,
    counts: Counts,
    rng: fastrand::Rng,
}

impl Machine {
    /// A machine that knows nothing. The same seed and the same inputs give the same effects.
    pub fn new(settings: Settings, seed: u64, now: Reading) -> Self {
        let rounds = Rounds::new(
            &settings.pools,
            settings.servers_per_pool,
            settings.interval,
            settings.limits.max_round_trip,
            seed,
            now.raw,
        );
        let Settings { interval, stale_after, .. } = settings;
        let fallback = Fallback::new(&settings.last_resort, interval, stale_after, seed, now.raw);
        let results =
            std::iter::once(ACCEPTED).chain(RejectReason::LABELS.iter().copied()).map(|l| (l, 0)).collect();
        let counts = Counts {
            samples: vec![results; settings.pools.len()],
            writes: std::iter::once(WRITTEN).chain(ApiError::LABELS).map(|l| (l, 0)).collect(),
            resumes: [0; Class::ALL.len()],
        };
        Self {
            verdict: Verdict::new(settings.threshold),
            stepper: Stepper::new(settings.step, settings.interval),
            settings,
            rounds,
            oscillator: FrequencyTracker::default(),
            basis: Basis::Nothing,
            times: None,
            agreement: None,
            pools_agreeing: 0,
            fallback,
            ready: false,
            last_confirmation: None,
            begun: false,
            detector: Detector::new(),
            bursts: Bursts::new(now.raw),
            daemon: None,
            leap_seen: None,
            history: History::default(),
            publisher: Publisher::new(now.raw),
            events: Bucket::new(now.raw),
            restored: false,
            writes_fail: None,
            events_fail: None,
            told: None,
            transition: None,
            exceeded_since: None,
            waiting: VecDeque::new(),
            sending: None,
            events_after: now.raw,
            events_backoff: Backoff::default(),
            counts,
            rng: fastrand::Rng::with_seed(seed ^ 0x005e_ed0f_face),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What happened, read at `now`; returns what to do about it.
    pub fn on(&mut self, input: Input, now: Reading) -> Vec<Effect> {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            out.push(Effect::InspectDaemon);
        }
        self.detect_disruption(&input, now, &mut out);
        match input {
            Input::Tick | Input::Observed(_) => {
                if self.rounds.tick(now.raw, &mut out) {
                    self.end_round(now, &mut out);
                }
            }
            Input::Resolved { pool, answer } => {
                self.rounds.handle_resolved(pool, answer, now.raw, &mut out);
                if self.rounds.tick(now.raw, &mut out) {
                    self.end_round(now, &mut out);
                }
            }
            Input::Answered { server, answer } => self.answered(server, answer, now, &mut out),
            Input::HttpDateFetched { source, request, answer } => {
                self.fallback.handle_answer(source, request, answer, now.raw, &mut out);
            }
            Input::NodeRead(Ok(prior)) => {
                self.publisher.done_reading(now.raw);
                self.restore(&prior, now);
            }
            Input::NodeRead(Err(error)) => self.written(Err(error), now, &mut out),
            Input::NodeWritten(result) => self.written(result, now, &mut out),
            Input::NodeWriteSkipped => self.publisher.done(Ok(()), now.raw, self.rng.f64()),
            Input::EventSent(result) => self.sent(result, now, &mut out),
            Input::EventSkipped => self.sending = None,
            Input::DaemonInspected(report) => self.looked_at_daemon(report, &mut out),
            Input::Stepped(done) => self.stepped(done, now, &mut out),
            Input::Requested(id) => {
                if self.stepper.request(&id, self.restored, now.raw) {
                    self.rounds.request_burst();
                }
            }
            Input::Asked => {
                self.stepper.trigger(Trigger::Operator, now.raw);
                self.rounds.request_burst();
            }
            Input::Finish => {
                self.rounds.end_burst();
                self.end_round(now, &mut out);
            }
        }
        if self.rounds.has_settled(now.raw) {
            self.fallback.handle_burst_end();
        }
        self.judge(now, Occasion::Tick, &mut out);
        let is_wanted = self.is_without_ntp(now);
        self.fallback.tick(is_wanted, now.raw, &mut out);
        self.keep_record(now);
        self.publish(now, &mut out);
        out
    }

    /// How long nothing happens of its own accord. A tick is due by then, and once a second anyhow.
    pub fn next(&self, now: Mono) -> Duration {
        let ours = self
            .publisher
            .next(now)
            .min(self.detector.poll_timeout(now))
            .min(self.fallback.poll_timeout(now));
        self.rounds.poll_timeout(now).min(ours)
    }

    fn answered(&mut self, server: ServerId, answer: Answer, now: Reading, out: &mut Vec<Effect>) {
        let (pool, over) = self.rounds.handle_answer(server, answer, now, self.oscillator.frequency(), out);
        let label = match answer {
            Answer::Header(_) => None,
            Answer::Sample(_) => Some(ACCEPTED),
            Answer::Rejected(refusal) => Some(refusal.label()),
        };
        if let Some((results, label)) = pool.and_then(|p| self.counts.samples.get_mut(p)).zip(label) {
            *results.entry(label).or_default() += 1;
        }
        if over {
            self.end_round(now, out);
        }
    }

    fn end_round(&mut self, now: Reading, out: &mut Vec<Effect>) {
        let Settings { interval, stale_after, .. } = self.settings;
        let (candidates, newest) = self.rounds.candidates(now.raw, self.oscillator.frequency(), stale_after);
        // What is known of the oscillator is what the servers agreed on: one of them could have made it up.
        let (by_themselves, _) = self.rounds.candidates(now.raw, Frequency::UNKNOWN, stale_after);
        self.detector.record_round(by_themselves, now.raw);
        match combine(&candidates) {
            // The first burst is under way, and a pool has not spoken yet: nobody is believed alone just for being faster.
            Combined::Agree { pools, .. }
                if pools < self.settings.pools.len()
                    && !matches!(self.basis, Basis::Line(_))
                    && self.rounds.in_burst(now.raw) =>
            {
                return;
            }
            Combined::Agree { interval: agreed, pools } => {
                self.oscillator.push(now.raw, agreed, interval);
                let line = Line::new(now.raw, agreed, self.oscillator.frequency(), newest.unwrap_or(now.raw));
                (self.basis, self.times) = (Basis::Line(line), Some(line));
                (self.agreement, self.pools_agreeing) = (Some((now.raw, agreed)), pools);
            }
            Combined::Disagree => {
                self.basis = Basis::Contradiction;
                (self.agreement, self.pools_agreeing) = (None, 0);
            }
            Combined::Nothing => {
                // A line ages on its own; a contradiction that nobody upholds is no finding any more.
                if self.basis == Basis::Contradiction {
                    self.basis = Basis::Nothing;
                }
                (self.agreement, self.pools_agreeing) = (None, 0);
            }
        }
        self.confirm_pause(now, out);
        self.judge(now, Occasion::Round, out);
        self.consider_step(now, out);
        out.push(Effect::InspectDaemon);
    }

    /// The offset now, if there is a line young enough.
    fn measured(&self, now: Reading) -> Option<Measurement> {
        match self.basis {
            Basis::Line(line) if line.age(now.raw) < self.settings.stale_after => Some(line.offset(now)),
            _ => None,
        }
    }

    /// NTP was heard out, and gives nothing: no estimate that is young enough, and no contradiction.
    fn is_without_ntp(&self, now: Reading) -> bool {
        self.fallback.may_report() && self.basis != Basis::Contradiction && self.measured(now).is_none()
    }

    /// What the sources of last resort say; empty as long as NTP says something.
    fn coarse(&self, now: Reading) -> CoarseReadings {
        if self.is_without_ntp(now) { self.fallback.readings(now) } else { CoarseReadings::default() }
    }

    fn judge(&mut self, now: Reading, occasion: Occasion, out: &mut Vec<Effect>) {
        let finding = match (self.basis, self.measured(now)) {
            (Basis::Contradiction, _) => Finding::Contradiction,
            (_, Some(measured)) => Finding::Measured(measured),
            _ if self.coarse(now).certainly_over(self.settings.threshold).is_some() => Finding::CertainlyOver,
            (Basis::Disruption, None) => Finding::Disruption,
            (_, None) => Finding::Nothing,
        };
        let before = self.verdict.state();
        let unsettled = self.verdict.on(finding, occasion);
        if unsettled && self.may_confirm(now.raw) {
            self.last_confirmation = Some(now.raw);
            self.rounds.request_burst();
        }
        let state = self.verdict.state();
        let first = !self.ready && (state != State::Unknown || self.rounds.has_settled(now.raw));
        self.ready |= first;
        // That nobody was heard at the start is a verdict too, though the state is what it was.
        if state != before || first {
            self.changed(state, now, out);
        }
    }

    /// A burst to confirm a change is four exchanges more; rarely enough, a clock that sits on the threshold costs the
    /// servers no more than twice the usual.
    fn may_confirm(&self, now: Mono) -> bool {
        self.last_confirmation.is_none_or(|at| now.since(at) >= self.settings.interval * 4)
    }

    fn changed(&mut self, state: State, now: Reading, out: &mut Vec<Effect>) {
        let snapshot = self.snapshot(now);
        out.push(Effect::Log(LogEvent::StateChanged {
            state,
            measured: snapshot.measured,
            pools_agreeing: snapshot.pools_agreeing,
            detail: snapshot.sentence(),
        }));
        match state {
            State::Drifting if self.exceeded_since.is_none() => {
                self.exceeded_since = Some(snapshot.best_time());
                self.raise(EventReason::ClockDriftExceeded, snapshot.sentence(), now);
            }
            State::InSync if self.exceeded_since.take().is_some() => {
                self.raise(EventReason::ClockDriftCleared, snapshot.sentence(), now);
            }
            _ => {}
        }
    }

    fn raise(&mut self, reason: EventReason, note: String, now: Reading) {
        let wants_time = self.times.is_none().then_some(now.raw);
        self.waiting.push_back((wants_time, NodeEvent { reason, note, at: self.snapshot(now).best_time() }));
        // Only the newest matter when the API server is away.
        if self.waiting.len() > EVENTS_KEPT {
            self.waiting.pop_front();
        }
    }

    /// Goes on where the last run stopped: what it had already said is not said again.
    fn restore(&mut self, prior: &Prior, now: Reading) {
        self.restored = true;
        if self.stepper.restore(prior.last_step.as_deref(), prior.step_result.as_deref(), now.raw) {
            self.rounds.request_burst();
        }
        self.transition = prior.condition;
        let since =
            prior.exceeded_since.filter(|_| prior.condition.is_some_and(|(s, _)| s == ConditionStatus::True));
        if let Some(since) = since {
            if self.exceeded_since.replace(since).is_some() {
                self.waiting.retain(|(_, e)| e.reason != EventReason::ClockDriftExceeded);
            } else if self.verdict.state() == State::InSync {
                // It ended while no agent ran: who heard of the drift hears of its end.
                self.exceeded_since = None;
                self.raise(EventReason::ClockDriftCleared, self.snapshot(now).sentence(), now);
            }
        }
    }

    fn written(&mut self, result: Result<(), ApiError>, now: Reading, out: &mut Vec<Effect>) {
        self.count_write(result.map_or_else(ApiError::label, |()| WRITTEN));
        self.publisher.done(result, now.raw, self.rng.f64());
        if turns(&mut self.writes_fail, result) {
            out.push(Effect::Log(
                self.writes_fail.map_or(LogEvent::NodeWriteRecovered, LogEvent::NodeWriteFailed),
            ));
        }
    }

    /// What was not taken is sent again before what came later; what was refused for its own sake would be again.
    fn sent(&mut self, result: Result<(), ApiError>, now: Reading, out: &mut Vec<Effect>) {
        self.count_write(result.map_or_else(ApiError::label, |()| WRITTEN));
        if turns(&mut self.events_fail, result) {
            out.push(Effect::Log(self.events_fail.map_or(LogEvent::EventRecovered, LogEvent::EventFailed)));
        }
        let event = self.sending.take();
        match result {
            Ok(()) | Err(ApiError::Rejected) => self.events_backoff = Backoff::default(),
            Err(error) => {
                self.events.put_back();
                self.events_after =
                    now.raw.plus(self.events_backoff.wait(error.retry_after(), self.rng.f64()));
                if let Some(event) = event.filter(|_| self.waiting.len() < EVENTS_KEPT) {
                    self.waiting.push_front((None, event));
                }
            }
        }
    }

    fn count_write(&mut self, label: &'static str) {
        *self.counts.writes.entry(label).or_default() += 1;
    }

    fn publish(&mut self, now: Reading, out: &mut Vec<Effect>) {
        if !self.ready {
            return;
        }
        let can_step = self.daemon.as_ref().is_none_or(|d| d.ready.is_ok());
        let is_coarse = self.coarse(now).offset().is_some();
        let telling =
            (self.verdict.state(), self.pools_agreeing, self.stepper.version(), can_step, is_coarse);
        if self.told.replace(telling) != Some(telling) {
            self.publisher.changed();
        }
        if self.publisher.take(now.raw) {
            out.push(if self.restored { Effect::WriteNode(self.report(now)) } else { Effect::ReadNode });
        }
        let may_send = self.restored && self.sending.is_none() && now.raw >= self.events_after;
        if may_send && self.has_time_for_events(now) && self.events.take(now.raw) {
            self.sending = self.waiting.pop_front().map(|(_, event)| event);
            out.extend(self.sending.clone().map(Effect::SendEvent));
        }
    }

    /// Right after a resume nobody knows what time it is: an event waits a moment for that, so that it does not carry the
    /// time of a clock that stood still.
    fn has_time_for_events(&mut self, now: Reading) -> bool {
        let Some((wants_time, _)) = self.waiting.front() else { return false };
        let Some(ago) = wants_time.map(|happened| now.raw.since(happened)) else { return true };
        if self.times.is_none() && self.basis == Basis::Disruption && ago < EVENTS_WAIT {
            return false;
        }
        let at = self.snapshot(now).best_time().plus(Offset::from_nanos(-nanos(ago)));
        if let Some((wants_time, event)) = self.waiting.front_mut() {
            (event.at, *wants_time) = (at, None);
        }
        true
    }

    fn report(&mut self, now: Reading) -> NodeReport {
        let snapshot = self.snapshot(now);
        let status = ConditionStatus::of(snapshot.state);
        let time = snapshot.best_time();
        let transition = match self.transition {
            Some((before, since)) if before == status => since,
            _ => time,
        };
        self.transition = Some((status, transition));
        NodeReport::new(&snapshot, transition, self.exceeded_since)
    }
}

/// Does a result change whether writes fail, or how?
fn turns(failing: &mut Option<ApiError>, result: Result<(), ApiError>) -> bool {
    let before = std::mem::replace(failing, result.err());
    before.map(ApiError::label) != failing.map(ApiError::label)
}
