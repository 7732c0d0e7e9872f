//! How the machine drives the [`Stepper`](crate::step::stepper::Stepper): it gathers the evidence, and turns
//! decisions into effects.

use std::time::Duration;

use super::Machine;
use crate::estimate::{Candidate, Combined, pool_intervals};
use crate::io::{Effect, LogEvent};
use crate::report::node::EventReason;
use crate::step::outcome::Outcome;
use crate::step::policy::{Evidence, LEAP_SHADOW, Mode, RequestedBy, Trigger, pools_needed};
use crate::step::stepper::{AfterStep, Decided, StepDone, Triggered};
use crate::step::time_daemon::DaemonReport;
use crate::time::interval::Interval;
use crate::time::{Measurement, Mono, Reading, Wall};

/// A step takes no longer: chrony needs a few seconds, and times out after half a minute.
const STEP_MAX_TIME: Duration = Duration::from_secs(40);

impl Machine {
    /// An operator requests a step.
    pub(super) fn handle_step_request(&mut self, by: RequestedBy, now: Reading) {
        let triggered = match by {
            RequestedBy::Annotation(id) => self.stepper.request(id, now.raw),
            RequestedBy::Cli => self.stepper.trigger(Trigger::Operator(RequestedBy::Cli), now.raw),
        };
        if triggered != Triggered::Nothing {
            self.rounds.request_quick_rounds(false);
        }
    }

    /// Measures again for a trigger whose wait is over.
    pub(super) fn tick_stepper(&mut self, now: Mono) {
        if self.stepper.take_due(now) {
            self.rounds.request_quick_rounds(false);
        }
    }

    /// A round has ended: is there a trigger that waited for it, or a step to confirm?
    pub(crate) fn consider_step(&mut self, now: Reading, out: &mut Vec<Effect>) {
        if let Some(pool) = self.rounds.leap_pool(now.raw)
            && self.estimate.reference(now).is_some_and(Wall::is_last_day_of_month)
        {
            self.leap_seen = Some((now.raw, pool));
        }
        // How to step is known once the time daemon has been inspected. If it was not yet, the next round is
        // soon enough.
        let Some((since, report)) = self.stepper.awaiting_since().zip(self.daemon.as_ref()) else { return };
        let evidence = self.evidence(since, now);
        let more = self.rounds.is_quick();
        let ready = report.ready.as_ref().copied().map_err(String::as_str);
        match self.stepper.consider(&evidence, more, ready, now) {
            Some(Decided::Step(order)) => {
                self.detector.own_step(order.offset, now.raw, STEP_MAX_TIME);
                out.push(Effect::Step(order));
            }
            Some(Decided::Finished(outcome)) => self.record_outcome(outcome, now, out),
            None => {}
        }
    }

    /// What was measured after `since`, and only that: a sample from before a disruption shows nothing about
    /// the clock after it.
    fn evidence(&self, since: Mono, now: Reading) -> Evidence {
        let mut candidates = self.measured_since(since, now);
        let (configured, assumed) = (self.settings.pools.len(), &self.settings.root_distances);
        if configured.saturating_sub(assumed.len()) >= pools_needed(configured) {
            // A promise has no part in the size of a step, either.
            candidates.retain(|candidate| !assumed.contains_key(&candidate.pool));
        }
        let tolerance = self.tolerance();
        let combined = self.combine(&candidates);
        let offset = |interval: Interval| -> Measurement {
            Measurement::new(interval.middle().minus(now.origin()), interval.bound())
        };
        let mut pools = pool_intervals(&candidates, tolerance);
        if let Combined::Agree { falsetickers, .. } = &combined {
            pools.retain(|pool, _| !falsetickers.contains(pool));
        }
        let own = |pool| pools.get(&pool).and_then(|own| own.majority).map(offset);
        let measured = match &combined {
            Combined::Nothing | Combined::Agree { .. } => combined.agreed().map(offset),
            // Whichever pool is right. One whose own servers contradict each other supports nothing.
            Combined::Disagree { .. } => {
                pools.values().filter_map(|pool| pool.majority).reduce(Interval::hull).map(offset)
            }
        };
        let leap = self.leap_seen.filter(|(at, _)| now.raw.since(*at) < LEAP_SHADOW);
        Evidence {
            measured,
            contradiction: matches!(combined, Combined::Disagree { .. }),
            pools: (0..configured).map(own).collect(),
            assumed: assumed.keys().copied().collect(),
            is_one_server: self.independence.is_doubtful(),
            leap: leap.and_then(|(_, pool)| self.settings.pools.get(pool).cloned()),
            reference: measured.map(|Measurement { offset, .. }| now.wall.plus(offset)),
        }
    }

    /// The interval of each server that has answered after `since`.
    pub(crate) fn measured_since(&self, since: Mono, now: Reading) -> Vec<Candidate> {
        self.rounds.candidates(now.raw, self.estimate.rate(), now.raw.since(since))
    }

    /// An order was carried out, or not.
    pub(super) fn handle_step_done(&mut self, done: StepDone, now: Reading, out: &mut Vec<Effect>) {
        if matches!(done, StepDone::DryRun(_) | StepDone::Failed(_)) {
            self.detector.own_step_failed();
        }
        match self.stepper.handle_done(done, now.raw) {
            AfterStep::Measure => self.rounds.request_quick_rounds(false),
            AfterStep::Finished(outcome) => self.record_outcome(outcome, now, out),
            AfterStep::Superseded(outcome) => {
                self.rounds.request_quick_rounds(false);
                self.record_outcome(outcome, now, out);
            }
            AfterStep::NotOrdered => {}
        }
    }

    pub(super) fn record_outcome(&mut self, outcome: Outcome, now: Reading, out: &mut Vec<Effect>) {
        self.history.stepped(&outcome, now);
        if let Some(reason) = EventReason::of_step(outcome.result) {
            self.raise(reason, outcome.sentence(), now);
        }
        out.push(Effect::LogStep(outcome));
    }

    /// The time daemon was inspected. Whether the clock can be stepped is logged when it changes.
    pub(super) fn handle_daemon(&mut self, report: DaemonReport, out: &mut Vec<Effect>) {
        if self.settings.step.mode != Mode::Off {
            let before = self.daemon.as_ref().map(|d| d.ready.clone());
            let event = match (&before, &report.ready) {
                (Some(before), now) if before == now => None,
                (_, Err(missing)) => Some(LogEvent::StepUnavailable { reason: missing.clone() }),
                (_, Ok(())) => Some(LogEvent::StepAvailable),
            };
            out.extend(event.map(Effect::Log));
        }
        self.daemon = Some(report);
    }
}
