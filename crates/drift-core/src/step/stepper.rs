//! Stepping over time: which trigger waits for its burst, what is being carried out, and what became of it.
//!
//! It decides nothing by itself ([`crate::step::policy`] does) and does nothing (the effects do): it keeps the two in order.
//! A trigger is used once. While a step is under way nothing else is begun.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::report::node::EventReason;
use crate::step::last_step::LastStep;
use crate::step::policy::{self, Decision, Evidence, HOUR, Mode, Past, Settings, StepRefusal, Trigger};
use crate::time::{Mono, Offset, Reading, Wall};

/// Who steps the clock; the label `method` of `drift_agent_steps_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// chrony, over its command socket.
    Chrony,
    /// The kernel.
    Kernel,
}

/// A step to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// How far, as it was measured; positive is forward.
    pub offset: Offset,
    /// Wall time at which the raw clock read 0 when this was decided. If it is another by now, somebody else was faster.
    pub origin: Wall,
    /// Go all the way, but do not step.
    pub dry_run: bool,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The clock was stepped.
    Stepped(Method),
    /// It would have been.
    DryRun(Method),
    /// Nothing was changed.
    Failed(String),
    /// Something was changed, but it did not end well.
    Broken(Method, String),
}

/// What came of a trigger; the label `result` of `drift_agent_steps_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepResult {
    /// Stepped, and measured again: it helped.
    Stepped,
    /// Everything but the step.
    DryRun,
    /// The clock was within `minOffset`.
    NotNeeded,
    /// Not allowed, or not sure enough.
    Refused,
    /// Tried, without success.
    Failed,
}

/// What is told of each trigger: an audit line, the answer to a request, and mostly an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// In a word.
    pub result: StepResult,
    /// Who stepped; `None` when nobody did.
    pub method: Option<Method>,
    /// What asked for it.
    pub trigger: Trigger,
    /// Offset before, as measured after the trigger.
    pub before: Option<Offset>,
    /// Offset measured afterwards.
    pub after: Option<Offset>,
    /// Why, for people.
    pub reason: String,
}

/// What to do after a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Carry a step out; answer with [`Stepper::done`].
    Order(Order),
    /// It is over.
    Over(Outcome),
}

/// A trigger that waits for its burst.
#[derive(Clone, Debug)]
struct Pending {
    trigger: Trigger,
    since: Mono,
}

/// A step that is under way or wants to be confirmed.
#[derive(Clone, Debug)]
struct Begun {
    trigger: Trigger,
    order: Order,
    /// Who did it, and since when it wants to be confirmed; `None` while it is under way.
    stepped: Option<(Method, Mono, Option<String>)>,
}

/// Stepping over time.
#[derive(Debug)]
pub struct Stepper {
    settings: Settings,
    /// How long a network that is not back yet is waited for.
    patience: Duration,
    past: Past,
    pending: Option<Pending>,
    begun: Option<Begun>,
    /// Request that came before it was known which ones were answered.
    asked: Option<String>,
    answered: Option<String>,
    last: Option<LastStep>,
    /// An annotation that we cannot read; it is kept as it is.
    unreadable: Option<String>,
    counts: BTreeMap<(Option<Method>, StepResult), u64>,
    version: u64,
}

impl Method {
    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Chrony => "chrony",
            Self::Kernel => "kernel",
        }
    }
}

impl StepResult {
    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stepped => "stepped",
            Self::DryRun => "dry-run",
            Self::NotNeeded => "not-needed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Outcome {
    /// The event it deserves; what needed nothing deserves none.
    pub const fn event(&self) -> Option<EventReason> {
        match self.result {
            StepResult::Stepped => Some(EventReason::ClockStepped),
            StepResult::Refused => Some(EventReason::ClockStepRefused),
            StepResult::Failed => Some(EventReason::ClockStepFailed),
            StepResult::DryRun | StepResult::NotNeeded => None,
        }
    }

    /// In a sentence.
    pub fn sentence(&self) -> String {
        let was = self.before.map_or("unknown".to_owned(), Offset::in_words);
        let by = self.method.map_or("nobody", Method::label);
        let trigger = self.trigger.label();
        match (self.result, self.after) {
            (StepResult::Stepped, Some(after)) => {
                format!(
                    "The clock was {was} and was stepped by {by} ({trigger}); now it is {}.",
                    after.in_words()
                )
            }
            (StepResult::Stepped, None) => {
                format!("The clock was {was} and was stepped by {by} ({trigger}).")
            }
            (StepResult::DryRun, _) => {
                format!("The clock is {was} and would be stepped by {by} ({trigger}); this is a dry run.")
            }
            (StepResult::NotNeeded, _) => format!("No step is needed ({trigger}): the clock is {was}."),
            (StepResult::Refused, _) => format!("The clock is not stepped ({trigger}): {}.", self.reason),
            (StepResult::Failed, _) => {
                format!("The clock could not be stepped ({trigger}): {}.", self.reason)
            }
        }
    }
}

impl Stepper {
    /// Nothing has asked for a step yet, and what an earlier run did is not known before [`Self::restore`].
    pub fn new(settings: Settings, interval: Duration) -> Self {
        Self {
            settings,
            patience: interval * 2,
            past: Past { is_unknown: true, ..Past::default() },
            pending: None,
            begun: None,
            asked: None,
            answered: None,
            last: None,
            unreadable: None,
            counts: every_count(),
            version: 0,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The last step, if there was one.
    pub fn last(&self) -> Option<&LastStep> {
        self.last.as_ref()
    }

    /// The annotation `last-step`.
    pub fn last_text(&self) -> Option<String> {
        self.unreadable.clone().or_else(|| self.last.as_ref().map(ToString::to_string))
    }

    /// The annotation `step-result`.
    pub fn answer(&self) -> Option<&String> {
        self.answered.as_ref()
    }

    /// What came of the triggers so far.
    pub fn counts(&self) -> &BTreeMap<(Option<Method>, StepResult), u64> {
        &self.counts
    }

    /// Grows with each change of what is published.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes up what an earlier run left on the Node. What this run has done already is newer.
    pub fn restore(&mut self, last: Option<&str>, answered: Option<&str>, now: Mono) -> bool {
        if self.last.is_none() {
            match last.map(|text| (text, text.parse::<LastStep>())) {
                None => self.past.is_unknown = false,
                Some((_, Ok(step))) => {
                    self.past = Past {
                        // More than the policy counts changes nothing, and whoever may write to the Node chose the number.
                        recent: vec![step.at; step.in_hour.min(policy::STEPS_AN_HOUR)],
                        total: step.total,
                        is_unknown: false,
                        is_latched: step.is_latched,
                    };
                    self.last = Some(step);
                }
                Some((text, Err(()))) => self.unreadable = Some(text.to_owned()),
            }
        }
        if self.answered.is_none() {
            self.answered = answered.map(str::to_owned);
        }
        self.asked.take().is_some_and(|id| self.request(&id, true, now))
    }

    /// A person asks by annotation; `true` when a burst is wanted. An ID that was answered is not answered again.
    pub fn request(&mut self, id: &str, restored: bool, now: Mono) -> bool {
        if !restored {
            self.asked = Some(id.to_owned());
            return false;
        }
        let is_answered = self.answered.as_ref().is_some_and(|answer| answer.starts_with(&prefix(id)));
        let is_asked = |t: &Trigger| matches!(t, Trigger::Request(other) if other == id);
        let is_under_way = self.pending.as_ref().is_some_and(|p| is_asked(&p.trigger))
            || self.begun.as_ref().is_some_and(|b| is_asked(&b.trigger));
        !is_answered && !is_under_way && self.trigger(Trigger::Request(id.to_owned()), now)
    }

    /// Something asks for a step; `true` when a burst is wanted. A later trigger takes an earlier one's place, but for a
    /// person's, who waits for an answer.
    pub fn trigger(&mut self, trigger: Trigger, now: Mono) -> bool {
        let asks = match &trigger {
            Trigger::Disruption(class) => class.may_step() && self.settings.mode != Mode::Off,
            Trigger::Request(_) | Trigger::Operator => true,
        };
        if !asks {
            return false;
        }
        let trigger = match self.pending.take() {
            Some(Pending { trigger: earlier, .. }) if earlier.is_operator() => earlier,
            _ => trigger,
        };
        self.pending = Some(Pending { trigger, since: now });
        true
    }

    /// Since when evidence is wanted, if it is.
    pub fn wants(&self) -> Option<Mono> {
        match &self.begun {
            Some(Begun { stepped: Some((_, since, _)), .. }) => Some(*since),
            Some(_) => None,
            None => self.pending.as_ref().map(|p| p.since),
        }
    }

    /// A round has ended, and this is what was measured since [`Self::wants`]. `more`: the burst goes on. `ready`: can the
    /// clock be stepped, or what is missing?
    pub fn consider(
        &mut self,
        evidence: &Evidence,
        more: bool,
        ready: Result<(), &str>,
        now: Reading,
    ) -> Option<Next> {
        if self.begun.is_some() {
            return self.confirm(evidence, more, now);
        }
        let Pending { trigger, since } = self.pending.clone()?;
        let before = evidence.agreed.map(|m| m.offset);
        let (result, reason) = match policy::decide(&trigger, evidence, &self.past, &self.settings) {
            Decision::Step(offset) => match ready {
                Ok(()) => {
                    self.pending = None;
                    let order = Order { offset, origin: now.origin(), dry_run: self.settings.dry_run };
                    self.begun = Some(Begun { trigger, order: order.clone(), stepped: None });
                    return Some(Next::Order(order));
                }
                Err(missing) => (StepResult::Refused, missing.to_owned()),
            },
            Decision::NotNeeded(_) => (StepResult::NotNeeded, String::new()),
            Decision::Refuse(why) if why.may_pass() && (more || self.is_patient(why, since, now.raw)) => {
                return None;
            }
            Decision::Refuse(why) => (StepResult::Refused, why.to_string()),
        };
        self.pending = None;
        Some(self.over(Outcome { result, method: None, trigger, before, after: None, reason }))
    }

    /// After a resume the network is often the last to come back.
    fn is_patient(&self, why: StepRefusal, since: Mono, now: Mono) -> bool {
        matches!(why, StepRefusal::NothingMeasured | StepRefusal::NotAllPools)
            && now.since(since) < self.patience
    }

    /// What came of an order; `true` when a burst is wanted, to confirm it.
    pub fn done(&mut self, done: Done, now: Mono) -> (bool, Option<Outcome>) {
        let Some(Begun { trigger, order, .. }) = self.begun.take() else { return (false, None) };
        let before = Some(order.offset);
        let outcome = |result, method, reason| Outcome {
            result,
            method,
            trigger: trigger.clone(),
            before,
            after: None,
            reason,
        };
        let (method, trouble) = match done {
            Done::DryRun(method) => {
                let outcome = outcome(StepResult::DryRun, Some(method), String::new());
                return (false, Some(self.finish(outcome)));
            }
            Done::Failed(reason) => {
                let outcome = outcome(StepResult::Failed, None, reason);
                return (false, Some(self.finish(outcome)));
            }
            Done::Stepped(method) => (method, None),
            Done::Broken(method, reason) => (method, Some(reason)),
        };
        // By what the order was made from: what is known now may be nothing, after another resume.
        let reference = order.origin.plus(order.offset).plus(Offset::from_nanos(now.as_nanos()));
        self.remember(&order, &trigger, method, reference);
        self.begun = Some(Begun { trigger, order, stepped: Some((method, now, trouble)) });
        (true, None)
    }

    fn remember(&mut self, order: &Order, trigger: &Trigger, method: Method, at: Wall) {
        if trigger.is_operator() {
            self.past = Past::default();
        }
        self.past
            .recent
            .retain(|step| Duration::from_nanos(at.minus(*step).as_nanos().unsigned_abs()) < HOUR);
        self.past.recent.push(at);
        self.past.total = self.past.total.saturating_add(order.offset.magnitude());
        self.unreadable = None;
        self.last = Some(LastStep {
            at,
            before: order.offset,
            after: None,
            method: method.label().to_owned(),
            trigger: trigger.label().to_owned(),
            in_hour: self.past.recent.len(),
            total: self.past.total,
            is_latched: false,
        });
        self.version += 1;
    }

    /// Did the step help? Only what was measured after it counts; who cannot be measured was not helped.
    fn confirm(&mut self, evidence: &Evidence, more: bool, now: Reading) -> Option<Next> {
        let Begun { stepped: Some((method, since, trouble)), order, trigger } = self.begun.clone()? else {
            return None;
        };
        let after = evidence.agreed.filter(|_| !evidence.contradiction).map(|m| m.offset);
        if after.is_none() && (more || now.raw.since(since) < self.patience) {
            return None;
        }
        self.begun = None;
        // By half at least: what is measured twice is never quite the same, and a nanosecond less is no help.
        let helped = after.is_some_and(|after| after.magnitude() < order.offset.magnitude() / 2);
        let reason = match (helped, after, trouble) {
            (true, _, _) => String::new(),
            (false, _, Some(trouble)) => trouble,
            (false, Some(after), None) => {
                format!("afterwards it is {}; no more steps until a person asks", after.in_words())
            }
            (false, None, None) => {
                "nothing could be measured afterwards; no more steps until a person asks".to_owned()
            }
        };
        self.past.is_latched = !helped;
        if let Some(last) = &mut self.last {
            (last.after, last.is_latched) = (after, !helped);
        }
        let result = if helped { StepResult::Stepped } else { StepResult::Failed };
        let (method, before) = (Some(method), Some(order.offset));
        Some(self.over(Outcome { result, method, trigger, before, after, reason }))
    }

    fn over(&mut self, outcome: Outcome) -> Next {
        Next::Over(self.finish(outcome))
    }

    fn finish(&mut self, outcome: Outcome) -> Outcome {
        *self.counts.entry((outcome.method, outcome.result)).or_default() += 1;
        if let Trigger::Request(id) = &outcome.trigger {
            self.answered = Some(format!("{}{}", prefix(id), outcome.sentence()));
        }
        self.version += 1;
        outcome
    }
}

/// Every series there can be, at 0: an alert on a counter that appears with its first event would miss that one.
fn every_count() -> BTreeMap<(Option<Method>, StepResult), u64> {
    let by_nobody =
        [StepResult::NotNeeded, StepResult::Refused, StepResult::Failed].map(|result| (None, result));
    let by_somebody = [Method::Chrony, Method::Kernel].into_iter().flat_map(|method| {
        [StepResult::Stepped, StepResult::DryRun, StepResult::Failed].map(|result| (Some(method), result))
    });
    by_nobody.into_iter().chain(by_somebody).map(|key| (key, 0)).collect()
}

/// How an answer to this request begins.
fn prefix(id: &str) -> String {
    format!("{id}: ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::Class;
    use crate::time::Bound;
    use crate::time::Measurement;
    use proptest::prelude::*;

    const SECOND: i64 = 1_000_000_000;
    const RESUME: Trigger = Trigger::Disruption(Class::Pause);

    fn settings() -> Settings {
        Settings {
            mode: Mode::Auto,
            min_offset: Duration::from_millis(100),
            max_offset: Duration::from_secs(86_400),
            cooldown: Duration::from_secs(300),
            dry_run: false,
            on_request: true,
        }
    }

    fn at(secs: i64) -> Reading {
        let wall = Wall::from_secs(1_795_341_600 + secs);
        Reading { wall, raw: Mono::from_nanos(secs * SECOND), suspended: Duration::ZERO }
    }

    fn restored(settings: Settings) -> Stepper {
        let mut stepper = Stepper::new(settings, Duration::from_secs(64));
        stepper.restore(None, None, at(0).raw);
        stepper
    }

    /// Both pools say this, and nobody contradicts.
    fn measured(offset: i64, now: Reading) -> Evidence {
        let said = Measurement::new(Offset::from_nanos(offset), Bound::from_nanos(1_000_000));
        Evidence {
            agreed: Some(said),
            contradiction: false,
            pools: vec![Some(said), Some(said)],
            leap: false,
            reference: Some(now.wall.plus(said.offset)),
        }
    }

    fn order(next: Option<Next>) -> Order {
        match next {
            Some(Next::Order(order)) => order,
            other => panic!("no order: {other:?}"),
        }
    }

    fn outcome(next: Option<Next>) -> Outcome {
        match next {
            Some(Next::Over(outcome)) => outcome,
            other => panic!("not over: {other:?}"),
        }
    }

    /// From the trigger to the confirmation; what is measured before and after.
    fn whole_step(stepper: &mut Stepper, trigger: Trigger, secs: i64, before: i64, after: i64) -> Outcome {
        assert!(stepper.trigger(trigger, at(secs).raw));
        let order = order(stepper.consider(&measured(before, at(secs)), true, Ok(()), at(secs)));
        assert_eq!(order.offset, Offset::from_nanos(before));
        assert_eq!(stepper.done(Done::Stepped(Method::Kernel), at(secs).raw), (true, None));
        outcome(stepper.consider(&measured(after, at(secs + 1)), true, Ok(()), at(secs + 1)))
    }

    #[test]
    fn a_step_is_ordered_once_confirmed_and_remembered() {
        let mut stepper = restored(settings());
        let done = whole_step(&mut stepper, RESUME, 10, 20 * SECOND, 200_000);
        assert_eq!((done.result, done.method), (StepResult::Stepped, Some(Method::Kernel)));
        assert_eq!(done.event(), Some(EventReason::ClockStepped));
        assert_eq!(
            done.sentence(),
            "The clock was 20 s behind and was stepped by kernel (pause); now it is 200 µs behind."
        );
        assert_eq!(
            stepper.last_text().unwrap(),
            "2026-11-22T10:00:30Z before=+20.0000 after=+0.0002 method=kernel trigger=pause in-hour=1 total=20.0000",
            "in reference time"
        );
        assert_eq!(stepper.wants(), None, "a trigger is used once");
        assert_eq!(stepper.counts()[&(Some(Method::Kernel), StepResult::Stepped)], 1);
    }

    #[test]
    fn a_step_that_did_not_help_latches_until_a_person_asks() {
        let mut stepper = restored(settings());
        let done = whole_step(&mut stepper, RESUME, 10, 20 * SECOND, 20 * SECOND - 100_000);
        assert_eq!((done.result, done.event()), (StepResult::Failed, Some(EventReason::ClockStepFailed)));
        assert!(stepper.last_text().unwrap().ends_with("latched"));
        stepper.trigger(RESUME, at(4_000).raw);
        let refused = outcome(stepper.consider(&measured(SECOND, at(4_001)), true, Ok(()), at(4_001)));
        assert_eq!(refused.result, StepResult::Refused);
        assert!(refused.reason.contains("a person has to ask"), "{}", refused.reason);
        let person = whole_step(&mut stepper, Trigger::Operator, 5_000, 20 * SECOND, 0);
        assert_eq!(person.result, StepResult::Stepped);
        assert_eq!(
            whole_step(&mut stepper, RESUME, 9_000, SECOND, 0).result,
            StepResult::Stepped,
            "and is free again"
        );
    }

    #[test]
    fn who_cannot_be_measured_after_a_step_was_not_helped() {
        let mut stepper = restored(settings());
        stepper.trigger(RESUME, at(10).raw);
        order(stepper.consider(&measured(20 * SECOND, at(10)), true, Ok(()), at(10)));
        stepper.done(Done::Stepped(Method::Chrony), at(11).raw);
        let when = stepper.last().map(|last| last.at);
        assert_eq!(when, Some(at(31).wall), "a second after it was decided, whatever the wall clock says");
        let nothing = Evidence::default();
        assert_eq!(stepper.consider(&nothing, true, Ok(()), at(12)), None, "the burst goes on");
        assert_eq!(stepper.consider(&nothing, false, Ok(()), at(13)), None, "the network may come back");
        let failed = outcome(stepper.consider(&nothing, false, Ok(()), at(11 + 128)));
        assert_eq!(failed.result, StepResult::Failed);
    }

    #[test]
    fn a_refusal_that_more_exchanges_may_lift_waits_for_the_burst_and_a_silent_network_longer() {
        let mut stepper = restored(settings());
        stepper.trigger(RESUME, at(10).raw);
        let contradiction = Evidence { contradiction: true, agreed: None, ..measured(SECOND, at(10)) };
        assert_eq!(stepper.consider(&contradiction, true, Ok(()), at(10)), None);
        let refused = outcome(stepper.consider(&contradiction, false, Ok(()), at(12)));
        assert_eq!(refused.event(), Some(EventReason::ClockStepRefused));
        assert_eq!(refused.reason, "the servers contradict each other");

        stepper.trigger(RESUME, at(20).raw);
        assert_eq!(stepper.consider(&Evidence::default(), false, Ok(()), at(24)), None);
        assert_eq!(
            order(stepper.consider(&measured(SECOND, at(80)), false, Ok(()), at(80))).offset,
            Offset::from_nanos(SECOND),
            "the network is back"
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_what_is_missing_and_what_needs_nothing_is_no_event() {
        let mut stepper = restored(settings());
        stepper.trigger(RESUME, at(10).raw);
        let refused = outcome(stepper.consider(&measured(SECOND, at(10)), true, Err("no SYS_TIME"), at(10)));
        assert_eq!((refused.result, refused.reason.as_str()), (StepResult::Refused, "no SYS_TIME"));
        stepper.trigger(RESUME, at(20).raw);
        let calm = outcome(stepper.consider(&measured(50_000_000, at(20)), true, Err("no SYS_TIME"), at(20)));
        assert_eq!((calm.result, calm.event()), (StepResult::NotNeeded, None));
    }

    #[test]
    fn without_permission_nothing_is_a_trigger_but_a_person_gets_an_answer() {
        let mut stepper = restored(Settings { mode: Mode::Off, ..settings() });
        assert!(!stepper.trigger(RESUME, at(1).raw));
        assert!(!restored(settings()).trigger(Trigger::Disruption(Class::ClockSet), at(1).raw));
        assert!(stepper.request("w42", true, at(1).raw));
        outcome(stepper.consider(&measured(SECOND, at(2)), true, Ok(()), at(2)));
        assert_eq!(
            stepper.answer().unwrap(),
            "w42: The clock is not stepped (step-request): step.mode is off."
        );
    }

    #[test]
    fn a_request_is_answered_once_also_over_a_restart() {
        let mut stepper = restored(settings());
        assert!(stepper.request("a", true, at(1).raw));
        assert!(!stepper.request("a", true, at(1).raw), "it is under way");
        outcome(stepper.consider(&measured(0, at(2)), true, Ok(()), at(2)));
        let answer = stepper.answer().unwrap().clone();
        assert_eq!(answer, "a: No step is needed (step-request): the clock is on time.");
        assert!(!stepper.request("a", true, at(3).raw));
        assert!(stepper.request("b", true, at(3).raw));

        let mut next = Stepper::new(settings(), Duration::from_secs(64));
        assert!(!next.request("a", false, at(0).raw), "nobody knows yet");
        assert!(!next.restore(None, Some(&answer), at(0).raw), "it was answered");
        assert_eq!(next.answer(), Some(&answer));
        let mut other = Stepper::new(settings(), Duration::from_secs(64));
        other.request("c", false, at(0).raw);
        assert!(other.restore(None, Some(&answer), at(0).raw), "this one was not");
    }

    #[test]
    fn a_later_signal_does_not_take_a_persons_turn() {
        let mut stepper = restored(settings());
        stepper.request("a", true, at(1).raw);
        stepper.trigger(RESUME, at(5).raw);
        assert_eq!(stepper.wants(), Some(at(5).raw), "but what was measured before the pause is void");
        outcome(stepper.consider(&measured(0, at(6)), true, Ok(()), at(6)));
        assert!(stepper.answer().is_some());
    }

    #[test]
    fn budgets_survive_a_restart_and_what_cannot_be_read_spends_them() {
        let mut first = restored(settings());
        for secs in [10, 400, 800] {
            assert_eq!(whole_step(&mut first, RESUME, secs, 2 * SECOND, 0).result, StepResult::Stepped);
        }
        let text = first.last_text().unwrap();
        assert!(text.ends_with("in-hour=3 total=6.0000"), "{text}");
        let refusal = |last: Option<&str>, secs: i64| {
            let mut stepper = Stepper::new(settings(), Duration::from_secs(64));
            if let Some(last) = last {
                stepper.restore(Some(last), None, at(0).raw);
            }
            stepper.trigger(RESUME, at(secs).raw);
            match stepper.consider(&measured(SECOND, at(secs)), true, Ok(()), at(secs)) {
                Some(Next::Over(outcome)) => outcome.reason,
                other => format!("{other:?}"),
            }
        };
        assert!(refusal(Some(&text), 1_200).contains("3 steps within an hour"));
        assert!(refusal(Some(&text), 4_500).starts_with("Some(Order"), "an hour later");
        assert!(refusal(Some("whatever"), 1_200).contains("cannot be"));
        assert!(refusal(None, 1_200).contains("not known"), "the Node was not read yet");
        let mut stepper = Stepper::new(settings(), Duration::from_secs(64));
        stepper.restore(Some("whatever"), None, at(0).raw);
        assert_eq!(stepper.last_text().as_deref(), Some("whatever"), "nothing is lost");
    }

    #[test]
    fn absurd_budgets_on_the_node_are_restored_in_bounded_memory_and_refuse_steps() {
        for in_hour in ["5000000", "100000000000", "18446744073709551615", "18446744073709551616"] {
            let text = format!("2026-11-22T10:00:00Z before=+1 in-hour={in_hour} total=1");
            let mut stepper = Stepper::new(settings(), Duration::from_secs(64));
            stepper.restore(Some(&text), None, at(0).raw);
            assert!(stepper.past.recent.len() <= policy::STEPS_AN_HOUR, "{text}");
            let is_spent = stepper.past.is_unknown || stepper.past.recent.len() == policy::STEPS_AN_HOUR;
            assert!(is_spent, "{text}: the budget counts as spent, however large the number");
        }
    }

    proptest! {
        #[test]
        fn restoring_any_annotation_never_panics_and_keeps_memory_bounded(
            date in prop_oneof!["2026-11-22T10:00:00Z", "[0-9]{1,5}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00:00Z"],
            (before, after) in ("[-+]?[0-9]{1,30}(\\.[0-9]{1,9})?", "[-+]?[0-9.e]{0,12}|nan|inf"),
            in_hour in "[0-9]{1,40}|-1",
            total in "[0-9]{1,40}(\\.[0-9]{1,9})?|1e308|inf|-0",
            tail in ".{0,100}",
            arbitrary in ".{0,300}",
        ) {
            let built = format!("{date} before={before} after={after} in-hour={in_hour} total={total} {tail}");
            for text in [&built, &arbitrary] {
                let mut stepper = Stepper::new(settings(), Duration::from_secs(64));
                stepper.restore(Some(text), Some(&arbitrary), at(0).raw);
                prop_assert!(stepper.past.recent.capacity() <= 2 * policy::STEPS_AN_HOUR);
                stepper.trigger(RESUME, at(10).raw);
                let _ = stepper.consider(&measured(SECOND, at(10)), true, Ok(()), at(10));
                let _ = stepper.last_text();
            }
        }
    }

    #[test]
    fn nothing_else_begins_while_a_step_is_under_way_and_a_dry_run_spends_nothing() {
        let mut stepper = restored(Settings { dry_run: true, ..settings() });
        stepper.trigger(RESUME, at(10).raw);
        assert!(order(stepper.consider(&measured(SECOND, at(10)), true, Ok(()), at(10))).dry_run);
        stepper.trigger(RESUME, at(11).raw);
        assert_eq!(stepper.wants(), None);
        let (confirm, told) = stepper.done(Done::DryRun(Method::Chrony), at(12).raw);
        assert!(!confirm && told.unwrap().result == StepResult::DryRun);
        assert_eq!(stepper.wants(), Some(at(11).raw), "the next one's turn");
        assert_eq!(stepper.last(), None);
        order(stepper.consider(&measured(SECOND, at(13)), true, Ok(()), at(13)));
        let (_, told) = stepper.done(Done::Failed("no socket".into()), at(14).raw);
        let told = told.unwrap();
        assert_eq!((told.result, told.event()), (StepResult::Failed, Some(EventReason::ClockStepFailed)));
        assert_eq!(stepper.last(), None, "nothing was changed");
    }
}
