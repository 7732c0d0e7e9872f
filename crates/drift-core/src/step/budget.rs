//! What earlier steps have cost, and the annotation `last-step` that carries it over a restart.

use std::time::Duration;

use super::last_step::LastStep;
use super::outcome::Method;
use super::policy::Trigger;
use crate::time::{HOUR, NANOS_PER_SEC, Offset, Wall, nanos};

/// Automatic steps in [`HOUR`] at most; a request of an operator is not limited.
pub const MAX_STEPS_PER_HOUR: usize = 3;
/// Sizes of all automatic steps together at most, until an operator requests a step.
pub const MAX_TOTAL: Duration = Duration::from_secs(24 * 3_600);
/// A maintenance window, with a cool-down of its own, begins and ends at the turn of a minute.
const MINUTE: Duration = Duration::from_secs(60);

/// What earlier steps have cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepBudget {
    /// Reference times of the last steps, oldest first; those of the last hour at least.
    pub recent: Vec<Wall>,
    /// Sizes of all steps together since an operator last requested one.
    pub total: Duration,
    /// What is known of the steps of earlier runs.
    pub annotation: Annotation,
    /// The last step did not help.
    pub is_locked: bool,
}

/// What is known of the annotation `last-step` of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Annotation {
    /// It was not read yet.
    Unread,
    /// It cannot be parsed.
    Unparsable,
    /// It was read, or is of this run.
    #[default]
    Known,
}

/// The budget, and the last step as the annotation `last-step` keeps both.
#[derive(Debug)]
pub(super) struct StepLedger {
    budget: StepBudget,
    last: Option<LastStep>,
    /// An annotation that cannot be parsed. It is written back as it is until the next step.
    unreadable: Option<String>,
}

/// Time from `now` until a cool-down has passed since the last step. `cooldown_at`: the one in force at a reference
/// time; a shorter one may come into force before the present one has ended.
pub(super) fn cooling(last: Wall, now: Wall, cooldown_at: impl Fn(Wall) -> Duration) -> Duration {
    let ago = Duration::from_nanos(u64::try_from(now.minus(last).as_nanos()).unwrap_or(0));
    let left_after = |wait: Duration| {
        let cooldown = cooldown_at(now.plus(Offset::from_nanos(nanos(wait))));
        cooldown.saturating_sub(ago.saturating_add(wait))
    };
    let left = left_after(Duration::ZERO);
    let in_minute = now.as_nanos().rem_euclid(60 * NANOS_PER_SEC).unsigned_abs();
    let mut turn = MINUTE.saturating_sub(Duration::from_nanos(in_minute));
    while turn < left {
        let then = left_after(turn);
        if then < MINUTE {
            return left.min(turn + then);
        }
        turn += MINUTE;
    }
    left
}

impl StepBudget {
    /// Before the annotation is read.
    const UNKNOWN: Self =
        Self { recent: Vec::new(), total: Duration::ZERO, annotation: Annotation::Unread, is_locked: false };

    fn restored(step: &LastStep) -> Self {
        Self {
            // The policy counts no further than the limit, and anyone who may write to the Node chooses the
            // number.
            recent: vec![step.at; step.in_hour.min(MAX_STEPS_PER_HOUR)],
            total: step.total.min(MAX_TOTAL),
            annotation: Annotation::Known,
            is_locked: step.is_latched,
        }
    }

    fn spend(&mut self, offset: Offset, at: Wall) {
        self.recent.retain(|step| Duration::from_nanos(at.minus(*step).as_nanos().unsigned_abs()) < HOUR);
        self.recent.push(at);
        self.total = self.total.saturating_add(offset.magnitude());
    }
}

impl StepLedger {
    /// An empty ledger with an unknown budget.
    pub(super) fn new() -> Self {
        Self { budget: StepBudget::UNKNOWN, last: None, unreadable: None }
    }

    pub(super) fn budget(&self) -> &StepBudget {
        &self.budget
    }

    pub(super) fn last(&self) -> Option<&LastStep> {
        self.last.as_ref()
    }

    /// The annotation `last-step`.
    pub(super) fn annotation(&self) -> Option<String> {
        self.unreadable.clone().or_else(|| self.last.as_ref().map(ToString::to_string))
    }

    /// Takes over the annotation of an earlier run, unless this run has stepped already.
    pub(super) fn restore(&mut self, annotation: Option<&str>) {
        if self.last.is_some() {
            return;
        }
        match annotation.map(|text| (text, text.parse::<LastStep>())) {
            None => self.budget.annotation = Annotation::Known,
            Some((_, Ok(step))) => {
                self.budget = StepBudget::restored(&step);
                self.last = Some(step);
            }
            Some((text, Err(_))) => {
                self.budget.annotation = Annotation::Unparsable;
                self.unreadable = Some(text.to_owned());
            }
        }
    }

    /// No step was made in the future. Whoever wrote such a time into the annotation, or a clock that was wrong then,
    /// must not hold back steps until it has come: it counts as `now`, in reference time, for ever after. Returns
    /// whether the annotation has changed.
    pub(super) fn clamp(&mut self, now: Wall) -> bool {
        self.budget.recent.iter_mut().for_each(|at| *at = (*at).min(now));
        let last = self.last.as_mut().filter(|last| last.at > now);
        last.map(|last| last.at = now).is_some()
    }

    /// Enters a step that was made at `at`, in reference time. A request of an operator starts the budget
    /// again.
    pub(super) fn record(&mut self, offset: Offset, method: Method, trigger: &Trigger, at: Wall) {
        if trigger.is_operator() {
            self.budget = StepBudget::default();
        }
        self.budget.spend(offset, at);
        self.unreadable = None;
        self.last = Some(LastStep {
            at,
            before: offset,
            after: None,
            method: method.label().to_owned(),
            trigger: trigger.label().to_owned(),
            in_hour: self.budget.recent.len(),
            total: self.budget.total,
            is_latched: false,
        });
    }

    /// Enters what was measured after the last step, and whether that locks the budget.
    pub(super) fn confirm(&mut self, after: Option<Offset>, is_locked: bool) {
        self.budget.is_locked = is_locked;
        if let Some(last) = &mut self.last {
            (last.after, last.is_latched) = (after, is_locked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::Class;
    use crate::step::policy::RequestedBy;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    const RESUME: Trigger = Trigger::Disruption(Class::Pause);
    const OFFSET: Offset = Offset::from_nanos(-20_000_000_000);

    fn at(secs: i64) -> Wall {
        Wall::from_secs(1_795_341_600 + secs)
    }

    #[test]
    fn steps_add_up_until_an_operator_requests_one() {
        let mut ledger = StepLedger::new();
        ledger.restore(None);
        for secs in [0, 3_600, 4_000] {
            ledger.record(OFFSET, Method::Kernel, &RESUME, at(secs));
        }
        assert_eq!(ledger.budget().recent, [at(3_600), at(4_000)], "an hour ago no longer counts");
        assert_eq!(ledger.budget().total, Duration::from_secs(60));
        ledger.record(OFFSET, Method::Kernel, &Trigger::Operator(RequestedBy::Cli), at(4_001));
        assert_eq!(ledger.budget().recent, [at(4_001)]);
        assert_eq!(ledger.budget().total, Duration::from_secs(20));
    }

    #[test]
    fn a_step_that_did_not_help_locks_the_budget_and_the_lock_survives_a_restart() {
        let mut ledger = StepLedger::new();
        ledger.record(OFFSET, Method::Chrony, &RESUME, at(0));
        ledger.confirm(Some(OFFSET), true);
        let mut next = StepLedger::new();
        next.restore(ledger.annotation().as_deref());
        assert!(next.budget().is_locked && next.budget().annotation == Annotation::Known);
        assert_eq!(next.last().unwrap().after, Some(OFFSET));
    }

    #[test]
    fn an_unreadable_annotation_is_kept_until_the_next_step() {
        let mut ledger = StepLedger::new();
        ledger.restore(Some("whatever"));
        assert_eq!(ledger.budget().annotation, Annotation::Unparsable);
        assert_eq!(ledger.annotation().as_deref(), Some("whatever"));
        ledger.record(OFFSET, Method::Kernel, &Trigger::Operator(RequestedBy::Cli), at(0));
        assert!(ledger.annotation().unwrap().contains("before=-20.0000"));
    }

    #[test]
    fn restoring_an_absurd_number_of_steps_takes_bounded_memory_and_spends_the_budget() {
        for in_hour in ["5000000", "100000000000", "18446744073709551615", "18446744073709551616"] {
            let text = format!("2026-11-22T10:00:00Z before=+1 in-hour={in_hour} total=1");
            let mut ledger = StepLedger::new();
            ledger.restore(Some(&text));
            let budget = ledger.budget();
            assert!(budget.recent.len() <= MAX_STEPS_PER_HOUR, "{text}");
            assert!(
                budget.annotation == Annotation::Unparsable || budget.recent.len() == MAX_STEPS_PER_HOUR,
                "{text}"
            );
        }
    }

    #[test]
    fn restoring_any_annotation_keeps_memory_bounded() {
        let reached = Reached::new([("restored", 10), ("more steps than the limit", 8), ("unreadable", 30)]);
        proptest!(|(
            in_hour in prop_oneof![1 => "[0-9]{1,40}|-1", 2 => "[0-9]{1,9}"],
            total in prop_oneof![1 => "[0-9]{1,40}(\\.[0-9]{1,9})?|1e308|inf|-0", 2 => "[0-9]{1,6}"],
            arbitrary in ".{0,300}",
        )| {
            let built = format!("2026-11-22T10:00:00Z before=+1 in-hour={in_hour} total={total}");
            for text in [&built, &arbitrary] {
                let mut ledger = StepLedger::new();
                ledger.restore(Some(text));
                let is_known = ledger.budget().annotation == Annotation::Known;
                reached.case("restored", is_known);
                reached.case("unreadable", !is_known);
                let in_hour = ledger.last().map_or(0, |step| step.in_hour);
                reached.case("more steps than the limit", in_hour > MAX_STEPS_PER_HOUR);
                prop_assert!(ledger.budget().recent.capacity() <= 2 * MAX_STEPS_PER_HOUR);
                ledger.record(OFFSET, Method::Kernel, &RESUME, at(0));
                prop_assert!(ledger.annotation().is_some());
            }
        });
    }
}
