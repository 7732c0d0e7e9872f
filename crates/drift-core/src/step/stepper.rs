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
//! [`policy`] decides whether to step, and the agent carries the step out. A trigger is used once. A disruption that is
//! refused waits for what may lift the refusal. A trigger that comes while a step is carried out waits for its end; a
//! disruption that comes while a step is confirmed ends the confirmation, which could not tell the two apart.

use std::time::Duration;

use super::budget::StepLedger;
use super::last_step::LastStep;
use super::outcome::{Method, Outcome, StepCounts, StepResult, zero_counts};
use super::policy::{self, Decision, Evidence, Mode, Settings, Trigger};
use super::queue::{QueuedTrigger, Refused};
use super::requests::Requests;
use crate::resume::Class;
use crate::time::{Measurement, Mono, Offset, Reading, Span, Wall};

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

impl StepOrder {
    /// Reference time by what the order was made from: after another resume there may be no newer estimate.
    fn reference_at(&self, now: Mono) -> Wall {
        self.origin.plus(self.offset).plus(Offset::from_nanos(now.as_nanos()))
    }
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
    /// The trigger has ended, and another waits for new measurements: ask every server for a burst.
    Superseded(Outcome),
    /// No step was under way.
    NotOrdered,
}

/// What follows from a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Triggered {
    /// It waits for new measurements: ask every server for a burst. The step before it, if it ends one.
    Measure(Option<Outcome>),
    /// It does not count, or is under way already.
    Nothing,
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
    Stepping { queued: QueuedTrigger, order: StepOrder },
    /// The clock was stepped; measurements from `since` on confirm it.
    Confirming {
        queued: QueuedTrigger,
        order: StepOrder,
        method: Method,
        since: Mono,
        /// The error of a step that was applied partly.
        trouble: Option<String>,
    },
}

impl Phase {
    const fn trigger(&self) -> Option<&Trigger> {
        match self {
            Self::Idle => None,
            Self::Stepping { queued, .. } | Self::Confirming { queued, .. } => Some(&queued.trigger),
        }
    }

    /// The disruption of a step that waits for its confirmation.
    fn disruption(&self) -> Option<Class> {
        match self {
            Self::Confirming { queued, .. } => queued.disruption(),
            Self::Idle | Self::Stepping { .. } => None,
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
        self.requests.answer()
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
    pub fn restore(&mut self, last_step: Option<&str>, answer: Option<&str>, now: Mono) -> Triggered {
        self.ledger.restore(last_step);
        match self.requests.restore(answer) {
            Some(id) => self.request(id, now),
            None if self.take_due(now) => Triggered::Measure(None),
            None => Triggered::Nothing,
        }
    }

    /// An operator requests a step by annotation. An ID that was answered is not answered again.
    pub fn request(&mut self, id: String, now: Mono) -> Triggered {
        let Some(trigger) = self.requests.accept(id) else { return Triggered::Nothing };
        let queued = self.queued.as_ref().map(|q| &q.trigger);
        if self.phase.trigger() == Some(&trigger) || queued == Some(&trigger) {
            return Triggered::Nothing;
        }
        self.trigger(trigger, now)
    }

    /// Queues a trigger. It replaces a queued disruption; a queued request of an operator stays, since its
    /// operator waits for an answer. A disruption behind a request comes back when the request ends without a step.
    pub fn trigger(&mut self, trigger: Trigger, now: Mono) -> Triggered {
        if trigger == Trigger::Disruption(Class::ClockSet) {
            return self.handle_clock_set(now);
        }
        let is_accepted = match &trigger {
            Trigger::Disruption(class) => class.may_step() && self.settings.mode != Mode::Off,
            Trigger::Operator(_) => true,
        };
        if !is_accepted {
            return Triggered::Nothing;
        }
        let in_use = if trigger.is_operator() { None } else { self.phase.disruption() };
        let superseded = if trigger.is_operator() { None } else { self.supersede() };
        let earlier = self.queued.take();
        let other = earlier.as_ref().map_or(in_use, QueuedTrigger::disruption);
        let (trigger, stands_for) = match (trigger, earlier) {
            (new, Some(QueuedTrigger { trigger, .. })) if trigger.is_operator() => {
                let stands_for = if let Trigger::Disruption(class) = new { Some(class) } else { other };
                (trigger, stands_for)
            }
            (new, _) => (new, other),
        };
        let mut queued = QueuedTrigger::new(trigger, now);
        queued.stands_for = stands_for;
        self.queued = Some(queued);
        Triggered::Measure(superseded)
    }

    /// There was no pause: a trigger by one that waits is dropped, unless it has taken the place of another disruption. A
    /// step under way is not tried again.
    pub fn withdraw_pause(&mut self) {
        let is_void = |queued: &mut QueuedTrigger| {
            queued.trigger == Trigger::Disruption(Class::Pause) && queued.stands_for.is_none()
        };
        if self.queued.take_if(is_void).is_some() {
            self.version += 1;
        }
        if let Phase::Stepping { queued, .. } | Phase::Confirming { queued, .. } = &mut self.phase
            && is_void(queued)
        {
            queued.give_up();
        }
    }

    /// Ends a confirmation: the clock was stepped, and has changed again since.
    fn supersede(&mut self) -> Option<Outcome> {
        let Phase::Confirming { queued, order, method, .. } = &self.phase else { return None };
        let outcome = superseded(queued.trigger.clone(), order.offset, *method, "another disruption came");
        self.phase = Phase::Idle;
        Some(self.finish(outcome))
    }

    /// Another process has set the clock. If it corrected the same disruption as a step that is not confirmed yet, the
    /// clock is wrong by as much again: the disruption is measured again.
    fn handle_clock_set(&mut self, now: Mono) -> Triggered {
        let Phase::Confirming { queued, order, method, .. } = &self.phase else { return Triggered::Nothing };
        let outcome =
            superseded(queued.trigger.clone(), order.offset, *method, "another process set the clock");
        if self.queued.is_none() && !queued.trigger.is_operator() {
            let mut again = queued.clone();
            again.measure_anew(now);
            self.queued = Some(again);
        }
        self.phase = Phase::Idle;
        Triggered::Measure(Some(self.finish(outcome)))
    }

    /// Ends a wait that is over. Returns whether every server is to be asked for a burst.
    pub fn take_due(&mut self, now: Mono) -> bool {
        let is_node_read = self.requests.is_restored();
        self.queued.as_mut().is_some_and(|queued| queued.take_due(is_node_read, now))
    }

    /// From when on measurements are awaited; `None`: none are.
    pub fn awaiting_since(&self) -> Option<Mono> {
        match &self.phase {
            Phase::Idle => self.queued.as_ref().and_then(QueuedTrigger::awaiting_since),
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
        let mut queued = self.queued.take_if(|queued| queued.awaiting_since().is_some())?;
        if let Some(reference) = evidence.reference {
            self.version += u64::from(self.ledger.clamp(reference));
        }
        if evidence.measured.is_some() {
            queued.note_measured(now.raw);
        }
        let before = evidence.measured.map(|m| m.offset);
        let decision = policy::decide(&queued.trigger, evidence, self.ledger.budget(), &self.settings);
        let (result, trigger, reason) = match decision {
            Decision::Step(offset) => match ready {
                Ok(()) => {
                    let order = StepOrder { offset, origin: now.origin(), dry_run: self.settings.dry_run };
                    self.phase = Phase::Stepping { queued, order: order.clone() };
                    return Some(Decided::Step(order));
                }
                Err(missing) => {
                    self.queued = queued.behind();
                    (StepResult::Refused, queued.trigger, Some(missing.to_owned()))
                }
            },
            Decision::NotNeeded(_) => (StepResult::NotNeeded, queued.trigger, None),
            Decision::Refuse(why) => match queued.refuse(why.remedy(), more, self.network_wait, now.raw) {
                Refused::Waits(queued) => {
                    self.queued = Some(queued);
                    return None;
                }
                Refused::IsDeferred(queued) => {
                    let trigger = queued.trigger.clone();
                    self.queued = Some(queued);
                    (StepResult::Deferred, trigger, Some(why.to_string()))
                }
                Refused::Ends(queued) => {
                    self.queued = queued.behind();
                    (StepResult::Refused, queued.trigger, Some(why.to_string()))
                }
            },
        };
        let outcome = Outcome { result, method: None, trigger, before, after: None, reason };
        Some(Decided::Finished(self.finish(outcome)))
    }

    /// An order was carried out, or not.
    pub fn handle_done(&mut self, done: StepDone, now: Mono) -> AfterStep {
        let (queued, order) = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Stepping { queued, order } => (queued, order),
            other => {
                self.phase = other;
                return AfterStep::NotOrdered;
            }
        };
        let (method, trouble) = match done {
            StepDone::Stepped(method) => (method, None),
            StepDone::PartlyApplied(method, trouble) => (method, Some(trouble)),
            StepDone::DryRun(method) => {
                return self.end_unstepped(StepResult::DryRun, Some(method), queued.trigger, &order, None);
            }
            StepDone::Failed(reason) => return self.handle_failure(queued, &order, reason, now),
        };
        self.ledger.record(order.offset, method, &queued.trigger, order.reference_at(now));
        self.version += 1;
        if let Some(next) = self.queued.as_mut().filter(|queued| !queued.trigger.is_operator()) {
            // It came during the step, which has changed the clock since.
            next.measure_anew(now);
            return AfterStep::Superseded(self.finish(superseded(
                queued.trigger,
                order.offset,
                method,
                "another disruption came",
            )));
        }
        self.phase = Phase::Confirming { queued, order, method, since: now, trouble };
        AfterStep::Measure
    }

    /// Nothing was changed. Another attempt may succeed: a daemon may have been starting, or another process has set the
    /// clock meanwhile.
    fn handle_failure(
        &mut self,
        queued: QueuedTrigger,
        order: &StepOrder,
        reason: String,
        now: Mono,
    ) -> AfterStep {
        let trigger = queued.trigger.clone();
        let reason = self.retry(queued, order, reason, now);
        self.end_unstepped(StepResult::Failed, None, trigger, order, Some(reason))
    }

    /// Lets a trigger wait for another attempt, unless it had enough of them or a newer one waits. Returns why the last
    /// attempt has failed, and when the next one follows.
    fn retry(&mut self, queued: QueuedTrigger, order: &StepOrder, reason: String, now: Mono) -> String {
        if self.queued.is_some() {
            return reason;
        }
        let (_, cooldown) = self.settings.limits_at(Some(order.reference_at(now)));
        let behind = queued.behind();
        let Some((wait, again)) = queued.retry(cooldown, now) else {
            self.queued = behind;
            return reason;
        };
        self.queued = Some(again);
        format!("{reason}; the next attempt follows in {}", Span(wait))
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

    /// Did the step help? Only measurements after the step count.
    ///
    /// A step that was made and shows no effect locks the budget: something is not as the agent believes. A step that was
    /// made partly, or whose effect could not be measured, is tried again.
    fn confirm(&mut self, evidence: &Evidence, more: bool, now: Mono) -> Option<Outcome> {
        let Phase::Confirming { queued, order, method, since, trouble } = self.phase.clone() else {
            return None;
        };
        // At least half of the offset must be gone: two measurements of one clock always differ a little.
        let half = order.offset.magnitude() / 2;
        let measured = evidence.measured;
        let has_helped = measured.is_some_and(|m| m.certainly_within(half));
        let is_without_effect = measured.is_some_and(|m| m.certainly_exceeds(half));
        if !has_helped && !is_without_effect && (more || now.since(since) < self.network_wait) {
            return None;
        }
        self.phase = Phase::Idle;
        let trigger = queued.trigger.clone();
        let is_locked = is_without_effect && trouble.is_none();
        let reason = match trouble {
            _ if has_helped => None,
            None if is_locked => Some(format!(
                "{}; automatic steps are disabled until an operator requests one",
                afterwards(measured)
            )),
            trouble => Some(self.retry(queued, &order, trouble.unwrap_or_else(|| afterwards(measured)), now)),
        };
        self.ledger.confirm(measured.map(|m| m.offset), is_locked);
        let result = if has_helped { StepResult::Stepped } else { StepResult::Failed };
        let (method, before) = (Some(method), Some(order.offset));
        Some(self.finish(Outcome { result, method, trigger, before, after: measured, reason }))
    }

    /// Counts the outcome, and keeps it as the answer to a request.
    fn finish(&mut self, outcome: Outcome) -> Outcome {
        *self.counts.entry((outcome.method, outcome.result)).or_default() += 1;
        self.requests.note_outcome(&outcome);
        self.version += 1;
        outcome
    }
}

/// A step whose effect is not known, because of `what`.
fn superseded(trigger: Trigger, before: Offset, method: Method, what: &str) -> Outcome {
    let reason = Some(format!("{what} before this was confirmed"));
    let (method, before) = (Some(method), Some(before));
    Outcome { result: StepResult::Stepped, method, trigger, before, after: None, reason }
}

/// What was measured after a step.
fn afterwards(after: Option<Measurement>) -> String {
    format!("offset afterwards: {}", after.map_or("not measured".to_owned(), |after| after.to_string()))
}

#[cfg(test)]
mod tests;
