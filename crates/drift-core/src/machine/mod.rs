//! The machine: the only mutable state. Inputs go in, effects come out; it never waits and never reads a
//! clock.

mod disruption;
mod outbox;
mod snapshot;
mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use self::disruption::{Bursts, ReportedSignals};
use crate::estimate::{Candidate, Combined, Estimate, Independence};
use crate::http_date::coarse::{CoarseReadings, HttpSource};
use crate::io::{Effect, Input, LogEvent};
use crate::ntp::reject::RejectReason;
use crate::ntp::sample::Limits;
use crate::ntp::server::{Answer, Pace, ServerId};
use crate::poll::fallback::Fallback;
use crate::poll::rounds::{Judged, Rounds};
use crate::report::history::History;
use crate::report::leeway;
use crate::report::outbox::Outbox;
use crate::report::snapshot::ACCEPTED;
use crate::resume::{Class, Detector};
use crate::step::policy;
use crate::step::stepper::Stepper;
use crate::step::time_daemon::DaemonReport;
use crate::time::rate::Refuted;
use crate::time::{Mono, Reading};
use crate::verdict::{Finding, Next, Occasion, State, Verdict};

/// Quick rounds that confirm a change come once in this many intervals at most. They are a few exchanges with
/// each server, so a clock near the threshold doubles the load on the servers, and no more.
const CONFIRMATION_INTERVALS: u32 = 4;
/// Pools agree as long as they miss each other by this at most, or by a tenth of the threshold: servers
/// understate their error by as much, and it changes no verdict.
const TOLERANCE_MAX: Duration = Duration::from_millis(50);
/// A node is published after this time at the latest, though no verdict was possible.
const FIRST_VERDICT_WITHIN: Duration = Duration::from_secs(60);
/// Makes the outbox's random numbers differ from those of the rooms that get the same seed.
const OUTBOX_SEED: u64 = 0x005e_ed0f_face;

/// What the core needs to know. The configuration validates it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Names of the pools.
    pub pools: Vec<String>,
    /// By index of a pool, the root distance that an operator promises in place of what its servers declare.
    pub root_distances: BTreeMap<usize, Duration>,
    /// Time between two rounds.
    pub interval: Duration,
    /// A node drifts when its offset is over this.
    pub threshold: Duration,
    /// A measurement of this age or older gives no offset.
    pub stale_after: Duration,
    /// Addresses asked per pool.
    pub servers_per_pool: usize,
    /// Which exchanges are accepted as samples.
    pub limits: Limits,
    /// Servers asked for the time by HTTP while no NTP server gives an estimate.
    pub last_resort: Vec<HttpSource>,
    /// Whether and how the clock may be stepped.
    pub step: policy::Settings,
    /// Limits of the leeway that is recommended to verifiers of tokens.
    pub leeway: leeway::Settings,
}

impl Settings {
    /// Which exchanges with this pool's servers are accepted.
    pub fn limits_of(&self, pool: usize) -> Limits {
        Limits { root_distance: self.root_distances.get(&pool).copied(), ..self.limits }
    }
}

/// The agent's whole state, without any input or output.
///
/// # Calls
///
/// 1. [`Machine::new`] takes a reading of the clocks.
/// 2. [`Machine::handle`] takes one [`Input`] and a reading of the clocks as of that input. The caller
///    carries out every [`Effect`] that it returns, in this order. The doc of an effect names the input that
///    answers it, if there is one: that input follows once, also when the effect failed or timed out.
///    Answers may come in any order. The next Node request, the next event and the next step wait for the
///    answer to the one before.
/// 3. [`Machine::poll_timeout`], called after `handle`, gives the time until [`Input::Tick`] or
///    [`Input::Observed`] is due. One of them must come once a second at least: tokens refill, and the wall
///    clock is compared with the others.
/// 4. [`Machine::snapshot`], [`Machine::history`], [`Machine::settings`] and [`Machine::has_settled`] read.
///    They may be called at any time, and change nothing.
///
/// # Clocks
///
/// A [`Reading`] must be taken at one instant. Its `raw` and `suspended` must never run backwards from call
/// to call; its `wall` may jump either way. Inputs are handled in the order of their readings.
///
/// The same seed and the same inputs give the same effects.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    /// Pools, servers, and the round that is under way.
    rounds: Rounds,
    /// The HTTP `Date` headers, used while NTP gives nothing.
    fallback: Fallback,
    estimate: Estimate,
    independence: Independence,
    verdict: Verdict,
    /// A first verdict was reached, or the first quick rounds have ended without one.
    ready: bool,
    /// When quick rounds to confirm a change were last requested.
    last_confirmation: Option<Mono>,
    /// In the last round, the newest samples of the only pool that answers contradicted what was measured before.
    is_contradicted_by_one: bool,
    /// An input was handled.
    has_started: bool,
    /// When it was made (raw clock).
    made_at: Mono,

    detector: Detector,
    bursts: Bursts,
    reported_signals: ReportedSignals,

    stepper: Stepper,
    daemon: Option<DaemonReport>,
    /// When most servers of a pool last announced a leap second, and the index of the pool.
    leap_seen: Option<(Mono, usize)>,

    history: History,
    outbox: Outbox,
    counts: MachineCounts,
}

/// What the machine itself counts since the start.
#[derive(Debug)]
struct MachineCounts {
    /// Exchanges by pool and result.
    samples: Vec<BTreeMap<&'static str, u64>>,
    /// Disruptions by class.
    resumes: [u64; Class::ALL.len()],
}

impl Machine {
    /// A machine without a measurement.
    pub fn new(settings: Settings, seed: u64, now: Reading) -> Self {
        let Settings { interval, stale_after, servers_per_pool, .. } = settings;
        let max_round_trip = settings.limits.max_round_trip;
        let pace = Pace { interval, stale_after };
        let rounds = Rounds::new(&settings.pools, servers_per_pool, pace, max_round_trip, seed, now.raw);
        let results =
            std::iter::once(ACCEPTED).chain(RejectReason::LABELS.iter().copied()).map(|l| (l, 0)).collect();
        Self {
            rounds,
            fallback: Fallback::new(&settings.last_resort, interval, stale_after, seed, now.raw),
            estimate: Estimate::new(stale_after),
            independence: Independence::default(),
            verdict: Verdict::new(settings.threshold, interval),
            ready: false,
            last_confirmation: None,
            is_contradicted_by_one: false,
            has_started: false,
            made_at: now.raw,
            detector: Detector::new(),
            bursts: Bursts::new(now.raw),
            reported_signals: ReportedSignals::default(),
            stepper: Stepper::new(settings.step.clone(), interval),
            daemon: None,
            leap_seen: None,
            history: History::default(),
            outbox: Outbox::new(seed ^ OUTBOX_SEED, now.raw),
            counts: MachineCounts {
                samples: vec![results; settings.pools.len()],
                resumes: [0; Class::ALL.len()],
            },
            settings,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Handles one input, and returns what to do about it, in order.
    pub fn handle(&mut self, input: Input, now: Reading) -> Vec<Effect> {
        let mut out = Vec::new();
        if !std::mem::replace(&mut self.has_started, true) {
            out.push(Effect::InspectDaemon);
        }
        self.detect_disruption(&input, now, &mut out);
        match input {
            Input::Tick | Input::Observed(_) => self.tick_rounds(now, &mut out),
            Input::Resolved { pool, answer } => {
                self.rounds.handle_resolved(pool, answer, now.raw, &mut out);
                self.tick_rounds(now, &mut out);
            }
            Input::Answered { server, answer } => self.handle_answer(server, answer, now, &mut out),
            Input::HttpDateFetched { source, request, answer } => {
                self.fallback.handle_answer(source, request, answer, now.raw, &mut out);
            }
            Input::NodeRead(Ok(prior)) => self.restore(&prior, now),
            Input::NodeRead(Err(error)) => self.handle_written(Err(error), now, &mut out),
            Input::NodeWritten(result) => self.handle_written(result, now, &mut out),
            Input::NodeWriteSkipped => self.outbox.handle_write_skipped(now.raw),
            Input::EventSent(result) => self.handle_sent(result, now, &mut out),
            Input::EventSkipped => self.outbox.handle_send_skipped(),
            Input::DaemonInspected(report) => self.handle_daemon(report, &mut out),
            Input::Stepped(done) => self.handle_step_done(done, now, &mut out),
            Input::StepRequested { by } => self.handle_step_request(by, now),
            Input::Finish => {
                self.rounds.give_up();
                self.judge_round(Judged { is_complete: true }, now, &mut out);
            }
        }
        if self.rounds.has_settled() {
            self.fallback.handle_burst_end();
        }
        self.judge(now, Occasion::Tick, &mut out);
        let is_wanted = self.is_without_ntp(now);
        self.fallback.tick(is_wanted, now.raw, &mut out);
        self.record_history(now);
        self.publish(now, &mut out);
        out
    }

    /// How long nothing happens by itself. A tick is due by then, and once a second anyhow.
    pub fn poll_timeout(&self, now: Mono) -> Duration {
        let outbox = self.outbox.poll_timeout(now);
        self.rounds
            .poll_timeout(now)
            .min(outbox)
            .min(self.detector.poll_timeout(now))
            .min(self.fallback.poll_timeout(now))
    }

    fn tick_rounds(&mut self, now: Reading, out: &mut Vec<Effect>) {
        self.tick_stepper(now.raw);
        if let Some(judged) = self.rounds.tick(now, out) {
            self.judge_round(judged, now, out);
        }
    }

    fn handle_answer(&mut self, server: ServerId, answer: Answer, now: Reading, out: &mut Vec<Effect>) {
        let answered = self.rounds.handle_answer(server, answer, now, self.estimate.rate(), out);
        let label = match answer {
            Answer::Sample(_) => Some(ACCEPTED),
            Answer::Rejected(_) | Answer::CrossChecked(_) => answered.rejected.map(RejectReason::label),
        };
        if let Some((results, label)) = answered.pool.and_then(|p| self.counts.samples.get_mut(p)).zip(label)
        {
            *results.entry(label).or_default() += 1;
        }
        if let Some(judged) = answered.judged {
            self.judge_round(judged, now, out);
        }
    }

    /// A round has ended, or enough of its answers are there.
    fn judge_round(&mut self, judged: Judged, now: Reading, out: &mut Vec<Effect>) {
        if judged.is_complete {
            self.check_newest(now);
        }
        // As of the newest sample: until now the unknown part of the rate would widen all of them.
        let at = self.rounds.newest_at().unwrap_or(now.raw);
        let young = self.settings.stale_after.saturating_sub(now.raw.since(at));
        let mut candidates = self.candidates(at, young);
        self.detector.record_round(candidates.clone(), self.estimate.rate(), at);
        let mut combined = self.combine(&candidates);
        let steady = self.combine(&self.rounds.candidates(at, self.estimate.rate(), young));
        if let Some(refuted) = self.estimate.update(combined.clone(), steady.agreed(), &candidates, at) {
            self.handle_refuted(refuted, self.rounds.newest_since(), now);
            candidates = self.candidates(at, young);
            combined = self.combine(&candidates);
            self.estimate.replace(combined.clone(), &candidates, at);
        }
        self.rounds.mark_falsetickers(&candidates, &combined, judged.is_complete);
        self.confirm_pause(now, out);
        self.watch_pools(now, out);
        self.judge(now, if judged.is_complete { Occasion::Round } else { Occasion::Tick }, out);
        self.consider_step(now, out);
        out.push(Effect::InspectDaemon);
    }

    /// The interval of each reachable server at `at`. Older samples count by what the rate may have stepped since.
    fn candidates(&self, at: Mono, max_age: Duration) -> Vec<Candidate> {
        self.rounds.candidates(at, self.estimate.rate().with_step(), max_age)
    }

    /// What the pools give together.
    pub(crate) fn combine(&self, candidates: &[Candidate]) -> Combined {
        self.independence.combine(candidates, self.tolerance())
    }

    /// Compares the newest samples with what was measured before: where they agree on something else, the
    /// samples before are no evidence for the present.
    fn check_newest(&mut self, now: Reading) {
        let since = self.rounds.newest_since();
        self.independence.record(&self.rounds.newest_sources(since));
        let rate = self.estimate.rate().with_step();
        let newest = self.rounds.newest(since, now.raw, rate);
        if newest.is_empty() {
            // No pool has spoken.
            return;
        }
        let newest = self.combine(&newest);
        let is_contradicted = self.estimate.is_contradicted_by(&newest, now.raw);
        let is_alone = matches!(&newest, Combined::Agree { pools, .. } if pools.len() < 2);
        let is_again = std::mem::replace(&mut self.is_contradicted_by_one, is_contradicted && is_alone);
        if is_contradicted && is_alone && !is_again {
            // One pool alone may have jumped itself. Its next samples show it, and come soon.
            if self.may_confirm(now.raw) {
                self.last_confirmation = Some(now.raw);
                self.rounds.request_quick_rounds(false);
            }
        } else if let Some(refuted) = self.estimate.check_newest(&newest, now.raw) {
            self.handle_refuted(refuted, since, now);
        }
    }

    /// What was measured contradicts the rate that it was carried by: only what was measured since `since` counts.
    fn handle_refuted(&mut self, refuted: Refuted, since: Mono, now: Reading) {
        self.rounds.forget_before(since);
        if refuted == Refuted::Restart {
            self.rounds.restart(now.raw);
            if self.estimate.restarts() == 1 {
                // The node itself has done it: all servers contradict what they gave before.
                self.rounds.forgive();
            }
        }
    }

    /// How far the intervals of pools may be apart: less once they were further apart, so that pools at the limit
    /// do not agree and disagree in turn.
    pub(crate) fn tolerance(&self) -> Duration {
        let tolerance = (self.settings.threshold / 10).min(TOLERANCE_MAX);
        if self.estimate.is_contradiction() { tolerance * 4 / 5 } else { tolerance }
    }

    /// NTP was asked, and gives nothing: no estimate that is young enough, and no contradiction.
    fn is_without_ntp(&self, now: Reading) -> bool {
        self.fallback.may_report()
            && !self.estimate.is_contradiction()
            && self.estimate.measured(now).is_none()
    }

    /// What the HTTP `Date` headers show; empty as long as NTP gives an estimate or a contradiction.
    fn coarse(&self, now: Reading) -> CoarseReadings {
        if self.is_without_ntp(now) { self.fallback.readings(now) } else { CoarseReadings::default() }
    }

    fn finding(&self, now: Reading) -> Finding {
        let is_measured = self.rounds.is_measured();
        if let Some(hull) = self.estimate.contradiction(now).filter(|_| is_measured) {
            Finding::Contradiction(hull)
        } else if let Some(measured) = self.estimate.measured(now).filter(|_| is_measured) {
            Finding::Measured(measured)
        } else if self.coarse(now).certainly_over(self.settings.threshold).is_some() {
            Finding::CertainlyOver
        } else if self.is_disrupted() {
            Finding::Disruption
        } else {
            Finding::Nothing
        }
    }

    /// Was the machine suspended or paused, and not every pool measured since, as far as it answers?
    pub(crate) fn is_disrupted(&self) -> bool {
        let is_partial = self.verdict.state() == State::Disrupted && !self.rounds.is_measured();
        self.estimate.is_disrupted() || is_partial
    }

    fn judge(&mut self, now: Reading, occasion: Occasion, out: &mut Vec<Effect>) {
        let before = self.verdict.state();
        let next = self.verdict.handle(self.finding(now), occasion);
        if next == Next::NeedsConfirmation && self.may_confirm(now.raw) {
            self.last_confirmation = Some(now.raw);
            self.rounds.request_quick_rounds(false);
        }
        let state = self.verdict.state();
        let is_late = now.raw.since(self.made_at) >= FIRST_VERDICT_WITHIN;
        let is_first = !self.ready && (state != State::Unknown || self.has_settled(now) || is_late);
        self.ready |= is_first;
        // First rounds without an answer are a first verdict, too, though the state stays `unknown`.
        if state != before || is_first {
            let snapshot = self.snapshot(now);
            let (measured, pools_agreeing) = (snapshot.measured, snapshot.pools_agreeing);
            let detail = snapshot.sentence();
            self.outbox.handle_verdict(state, &detail, self.event_time(now), now.raw);
            out.push(Effect::Log(LogEvent::StateChanged { state, measured, pools_agreeing, detail }));
        }
    }

    fn may_confirm(&self, now: Mono) -> bool {
        let pause = self.settings.interval * CONFIRMATION_INTERVALS;
        self.last_confirmation.is_none_or(|at| now.since(at) >= pause)
    }
}

#[cfg(test)]
mod tests;
