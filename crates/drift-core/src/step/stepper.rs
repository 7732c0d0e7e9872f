//! A trigger's way over time: it waits for its burst, a step is carried out, and a measurement confirms the
//! step.
//!
//! ```text
//!           trigger + evidence               handle_done                   evidence
//!   Idle ----------------------> Stepping ----------------> Confirming ----------------> Idle
//!    |                              |                                                     ^
//!    | refused, not needed          | dry run, failed                                     |
//!    +------------------------------+-----------------------------------------------------+
//! ```
//!
//! [`policy`] decides whether to step, and the agent carries the step out. A trigger is used once. A trigger
//! that comes during a step waits until that step has ended.

use std::time::Duration;

use super::budget::StepLedger;
use super::last_step::LastStep;
use super::outcome::{Method, Outcome, StepCounts, StepResult, zero_counts};
use super::policy::{self, Decision, Evidence, Mode, RequestedBy, Settings, StepRefusal, Trigger};
use crate::time::{Mono, Offset, Reading, Wall};

/// A step to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOrder {
    /// By how much, as it was measured; positive is forward.
    pub offset: Offset,
    /// Wall time at which the raw clock read 0 when the step was decided. If it differs by the time of the
    /// step, another process has set the clock.
    pub origin: Wall,
    /// Do everything but the step itself.
    pub dry_run: bool,
}

/// How an order was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepDone {
    /// The clock was stepped.
    Stepped(Method),
    /// The clock would have been stepped.
    DryRun(Method),
    /// Nothing was changed, and why.
    Failed(String),
    /// Something was changed before an error occurred, and which error.
    PartlyApplied(Method, String),
}

/// What follows from a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// Carry a step out; answer with [`Stepper::handle_done`].
    Step(StepOrder),
    /// The trigger has ended.
    Finished(Outcome),
}

/// What follows from [`Stepper::handle_done`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum AfterStep {
    /// Ask every server for a burst: the step is to be confirmed.
    Measure,
    /// The trigger has ended.
    Finished(Outcome),
    /// No step was under way.
    NotOrdered,
}

/// Whether a trigger asks every server for a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Burst {
    /// The trigger was accepted and waits for new measurements.
    Wanted,
    /// The trigger does not count, or is under way already.
    NotWanted,
}

/// Stepping over time.
#[derive(Debug)]
pub struct Stepper {
    settings: Settings,
    /// How long a trigger or a step waits for a network that is not back yet.
    network_wait: Duration,
    phase: Phase,
    queued: Option<QueuedTrigger>,
    ledger: StepLedger,
    requests: Requests,
    counts: StepCounts,
    version: u64,
}

/// Where the trigger in use is on its way.
#[derive(Clone, Debug)]
enum Phase {
    /// No step is under way.
    Idle,
    /// An order was given; its [`StepDone`] is awaited.
    Stepping { trigger: Trigger, order: StepOrder },
    /// The clock was stepped; measurements from `since` on confirm it.
    Confirming {
        trigger: Trigger,
        order: StepOrder,
        method: Method,
        since: Mono,
        /// The error of a step that was applied partly.
        trouble: Option<String>,
    },
}

/// A trigger that waits for measurements from `since` on.
#[derive(Clone, Debug)]
struct QueuedTrigger {
    trigger: Trigger,
    since: Mono,
}

/// Requests by the Node's annotation.
#[derive(Debug, Default)]
struct Requests {
    /// The answers of an earlier run are known.
    is_restored: bool,
    /// A request that came before that.
    early: Option<String>,
    /// The annotation `step-result`: `ID: sentence`.
    answer: Option<String>,
}

impl Requests {
    fn is_answered(&self, id: &str) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.starts_with(&answer_prefix(id)))
    }
}

/// How the answer to a request begins.
fn answer_prefix(id: &str) -> String {
    format!("{id}: ")
}

impl Phase {
    const fn trigger(&self) -> Option<&Trigger> {
        match self {
            Self::Idle => None,
            Self::Stepping { trigger, .. } | Self::Confirming { trigger, .. } => Some(trigger),
        }
    }
}

impl Stepper {
    /// Without a trigger. The budget and the answers of an earlier run are unknown before [`Self::restore`].
    pub fn new(settings: Settings, interval: Duration) -> Self {
        Self {
            settings,
            network_wait: interval * 2,
            phase: Phase::Idle,
            queued: None,
            ledger: StepLedger::new(),
            requests: Requests::default(),
            counts: zero_counts(),
            version: 0,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The last step, if there was one.
    pub fn last(&self) -> Option<&LastStep> {
        self.ledger.last()
    }

    /// The annotation `last-step`.
    pub fn last_text(&self) -> Option<String> {
        self.ledger.annotation()
    }

    /// The annotation `step-result`.
    pub fn answer(&self) -> Option<&String> {
        self.requests.answer.as_ref()
    }

    /// How the triggers so far have ended.
    pub fn counts(&self) -> &StepCounts {
        &self.counts
    }

    /// Grows with each change of what is published.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes over what an earlier run left on the Node: the annotations `last-step` and `step-result`. What
    /// this run has written already is newer and stays. A request that came earlier is handled now.
    #[must_use]
    pub fn restore(&mut self, last_step: Option<&str>, answer: Option<&str>, now: Mono) -> Burst {
        self.ledger.restore(last_step);
        if self.requests.answer.is_none() {
            self.requests.answer = answer.map(str::to_owned);
        }
        self.requests.is_restored = true;
        match self.requests.early.take() {
            Some(id) => self.request(id, now),
            None => Burst::NotWanted,
        }
    }

    /// An operator requests a step by annotation. An ID that was answered is not answered again.
    #[must_use]
    pub fn request(&mut self, id: String, now: Mono) -> Burst {
        if !self.requests.is_restored {
            self.requests.early = Some(id);
            return Burst::NotWanted;
        }
        if self.requests.is_answered(&id) {
            return Burst::NotWanted;
        }
        let trigger = Trigger::Operator(RequestedBy::Annotation(id));
        let queued = self.queued.as_ref().map(|q| &q.trigger);
        if self.phase.trigger() == Some(&trigger) || queued == Some(&trigger) {
            return Burst::NotWanted;
        }
        self.trigger(trigger, now)
    }

    /// Queues a trigger. It replaces a queued disruption; a queued request of an operator stays, since its
    /// operator waits for an answer.
    pub fn trigger(&mut self, trigger: Trigger, now: Mono) -> Burst {
        let is_accepted = match &trigger {
            Trigger::Disruption(class) => class.may_step() && self.settings.mode != Mode::Off,
            Trigger::Operator(_) => true,
        };
        if !is_accepted {
            return Burst::NotWanted;
        }
        let trigger = match self.queued.take() {
            Some(QueuedTrigger { trigger: earlier, .. }) if earlier.is_operator() => earlier,
            _ => trigger,
        };
        self.queued = Some(QueuedTrigger { trigger, since: now });
        Burst::Wanted
    }

    /// From when on measurements are awaited; `None`: none are.
    pub fn awaiting_since(&self) -> Option<Mono> {
        match &self.phase {
            Phase::Idle => self.queued.as_ref().map(|q| q.since),
            Phase::Stepping { .. } => None,
            Phase::Confirming { since, .. } => Some(*since),
        }
    }

    /// A round has ended. `evidence` was measured from [`Self::awaiting_since`] on; `more`: the burst goes
    /// on; `ready`: the clock can be stepped, or what is missing. Returns `None` while more measurements are
    /// awaited.
    pub fn consider(
        &mut self,
        evidence: &Evidence,
        more: bool,
        ready: Result<(), &str>,
        now: Reading,
    ) -> Option<Decided> {
        match self.phase {
            Phase::Idle => self.decide(evidence, more, ready, now),
            Phase::Stepping { .. } => None,
            Phase::Confirming { .. } => self.confirm(evidence, more, now.raw).map(Decided::Finished),
        }
    }

    fn decide(
        &mut self,
        evidence: &Evidence,
        more: bool,
        ready: Result<(), &str>,
        now: Reading,
    ) -> Option<Decided> {
        let QueuedTrigger { trigger, since } = self.queued.take()?;
        let before = evidence.agreed.map(|m| m.offset);
        let (result, reason) = match policy::decide(&trigger, evidence, self.ledger.budget(), &self.settings)
        {
            Decision::Step(offset) => match ready {
                Ok(()) => {
                    let order = StepOrder { offset, origin: now.origin(), dry_run: self.settings.dry_run };
                    self.phase = Phase::Stepping { trigger, order: order.clone() };
                    return Some(Decided::Step(order));
                }
                Err(missing) => (StepResult::Refused, Some(missing.to_owned())),
            },
            Decision::NotNeeded(_) => (StepResult::NotNeeded, None),
            Decision::Refuse(why) if why.may_pass() && (more || self.awaits_network(why, since, now.raw)) => {
                self.queued = Some(QueuedTrigger { trigger, since });
                return None;
            }
            Decision::Refuse(why) => (StepResult::Refused, Some(why.to_string())),
        };
        let outcome = Outcome { result, method: None, trigger, before, after: None, reason };
        Some(Decided::Finished(self.finish(outcome)))
    }

    /// After a resume the network is often the last to come back.
    fn awaits_network(&self, why: StepRefusal, since: Mono, now: Mono) -> bool {
        matches!(why, StepRefusal::NotMeasured | StepRefusal::NotAllPools)
            && now.since(since) < self.network_wait
    }

    /// An order was carried out, or not.
    pub fn handle_done(&mut self, done: StepDone, now: Mono) -> AfterStep {
        let (trigger, order) = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Stepping { trigger, order } => (trigger, order),
            other => {
                self.phase = other;
                return AfterStep::NotOrdered;
            }
        };
        let (method, trouble) = match done {
            StepDone::Stepped(method) => (method, None),
            StepDone::PartlyApplied(method, trouble) => (method, Some(trouble)),
            StepDone::DryRun(method) => {
                return self.end_unstepped(StepResult::DryRun, Some(method), trigger, &order, None);
            }
            StepDone::Failed(reason) => {
                return self.end_unstepped(StepResult::Failed, None, trigger, &order, Some(reason));
            }
        };
        // Reference time by what the order was made from: after another resume there may be no newer
        // estimate.
        let at = order.origin.plus(order.offset).plus(Offset::from_nanos(now.as_nanos()));
        self.ledger.record(order.offset, method, &trigger, at);
        self.version += 1;
        self.phase = Phase::Confirming { trigger, order, method, since: now, trouble };
        AfterStep::Measure
    }

    fn end_unstepped(
        &mut self,
        result: StepResult,
        method: Option<Method>,
        trigger: Trigger,
        order: &StepOrder,
        reason: Option<String>,
    ) -> AfterStep {
        let before = Some(order.offset);
        AfterStep::Finished(self.finish(Outcome { result, method, trigger, before, after: None, reason }))
    }

    /// Did the step help? Only measurements after the step count, and a step without any did not help.
    fn confirm(&mut self, evidence: &Evidence, more: bool, now: Mono) -> Option<Outcome> {
        let Phase::Confirming { trigger, order, method, since, trouble } = self.phase.clone() else {
            return None;
        };
        let after = evidence.agreed.filter(|_| !evidence.contradiction).map(|m| m.offset);
        if after.is_none() && (more || now.since(since) < self.network_wait) {
            return None;
        }
        self.phase = Phase::Idle;
        // At least half of the offset must be gone: two measurements of one clock always differ a little.
        let helped = after.is_some_and(|after| after.magnitude() < order.offset.magnitude() / 2);
        let reason = (!helped).then(|| trouble.unwrap_or_else(|| unconfirmed(after)));
        self.ledger.confirm(after, helped);
        let result = if helped { StepResult::Stepped } else { StepResult::Failed };
        let (method, before) = (Some(method), Some(order.offset));
        Some(self.finish(Outcome { result, method, trigger, before, after, reason }))
    }

    /// Counts the outcome, and keeps it as the answer to a request.
    fn finish(&mut self, outcome: Outcome) -> Outcome {
        *self.counts.entry((outcome.method, outcome.result)).or_default() += 1;
        if let Trigger::Operator(RequestedBy::Annotation(id)) = &outcome.trigger {
            self.requests.answer = Some(format!("{}{}", answer_prefix(id), outcome.sentence()));
        }
        self.version += 1;
        outcome
    }
}

/// Why a step did not help.
fn unconfirmed(after: Option<Offset>) -> String {
    let after = after.map_or("not measured".to_owned(), Offset::in_words);
    format!("offset afterwards: {after}; automatic steps are disabled until an operator requests one")
}

#[cfg(test)]
mod tests;
