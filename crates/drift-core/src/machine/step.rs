//! What the machine does about stepping: it gathers the evidence, and carries what [`Stepper`] says to the effects.
//!
//! [`Stepper`]: crate::step::stepper::Stepper

use std::time::Duration;

use super::Machine;
use crate::estimate::{Candidate, Combined, combine, majority};
use crate::io::{Effect, LogEvent};
use crate::step::policy::{Evidence, LEAP_SHADOW, Mode};
use crate::step::stepper::{Done, Next, Outcome};
use crate::step::time_daemon::DaemonReport;
use crate::time::line::{Frequency, Interval};
use crate::time::{Measurement, Mono, Reading};

/// chrony takes a few seconds, and is given up on after half a minute.
const STEP_TAKES: Duration = Duration::from_secs(40);

impl Machine {
    /// A round has ended: is there a trigger that waited for it, or a step to confirm?
    pub(crate) fn consider_step(&mut self, now: Reading, out: &mut Vec<Effect>) {
        if self.rounds.announces_leap() {
            self.leap_seen = Some(now.raw);
        }
        // Until the time daemon was looked at, nobody can say how to step: the next round is soon enough.
        let Some((since, report)) = self.stepper.wants().zip(self.daemon.as_ref()) else { return };
        let evidence = self.evidence(since, now);
        let more = self.rounds.in_burst(now.raw);
        let ready = report.ready.as_ref().copied().map_err(String::as_str);
        match self.stepper.consider(&evidence, more, ready, now) {
            Some(Next::Order(order)) => {
                self.detector.own_step(order.offset, now.raw, STEP_TAKES);
                out.push(Effect::Step(order));
            }
            Some(Next::Over(outcome)) => self.told(outcome, now, out),
            None => {}
        }
    }

    /// What was measured after `since`, and only that: a sample from before says nothing about a machine that stood still.
    fn evidence(&self, since: Mono, now: Reading) -> Evidence {
        let candidates = self.measured_since(since, now);
        let combined = combine(&candidates);
        let offset = |interval: Interval| -> Measurement {
            Measurement::new(interval.middle().minus(now.origin()), interval.bound())
        };
        let agreed = match combined {
            Combined::Agree { interval, .. } => Some(offset(interval)),
            Combined::Nothing | Combined::Disagree => None,
        };
        let pools = (0..self.settings.pools.len()).map(|pool| {
            let own: Vec<Interval> =
                candidates.iter().filter(|c| c.pool == pool).map(|c| c.interval).collect();
            majority(&own).map(offset)
        });
        Evidence {
            agreed,
            contradiction: combined == Combined::Disagree,
            pools: pools.collect(),
            leap: self.leap_seen.is_some_and(|at| now.raw.since(at) < LEAP_SHADOW),
            reference: agreed.map(|Measurement { offset, .. }| now.wall.plus(offset)),
        }
    }

    /// What each server says that was heard after `since`.
    pub(crate) fn measured_since(&self, since: Mono, now: Reading) -> Vec<Candidate> {
        // What was learned of the oscillator may be void too.
        self.rounds.candidates(now.raw, Frequency::UNKNOWN, now.raw.since(since)).0
    }

    /// What came of an order.
    pub(crate) fn stepped(&mut self, done: Done, now: Reading, out: &mut Vec<Effect>) {
        if matches!(done, Done::DryRun(_) | Done::Failed(_)) {
            self.detector.own_step_failed();
        }
        let (confirm, outcome) = self.stepper.done(done, now.raw);
        if confirm {
            self.rounds.request_burst();
        }
        if let Some(outcome) = outcome {
            self.told(outcome, now, out);
        }
    }

    fn told(&mut self, outcome: Outcome, now: Reading, out: &mut Vec<Effect>) {
        self.history.stepped(&outcome, now);
        if let Some(reason) = outcome.event() {
            self.raise(reason, outcome.sentence(), now);
        }
        out.push(Effect::LogStep(outcome));
    }

    /// The time daemon was looked at. What is missing for a step is told when it begins to be missing, and not each time.
    pub(crate) fn looked_at_daemon(&mut self, report: DaemonReport, out: &mut Vec<Effect>) {
        if self.settings.step.mode != Mode::Off {
            let before = self.daemon.as_ref().map(|d| d.ready.clone());
            let note = match (&before, &report.ready) {
                (Some(before), now) if before == now => None,
                (_, Err(missing)) => Some(LogEvent::StepUnavailable { reason: missing.clone() }),
                (_, Ok(())) => Some(LogEvent::StepAvailable),
            };
            out.extend(note.map(Effect::Log));
        }
        self.daemon = Some(report);
    }
}
