//! The rules about steps.
//!
//! * No step leads away from the truth while less pools are wrong than a step needs.
//! * A step needs a disruption or an operator's request, and each of them leads to one step; only one that failed, that
//!   could not be confirmed, or that another process has spoilt is followed by another.
//! * Cool-down and hourly limit hold, also over a restart, unless an operator requests the step.
//! * A clock that a reported disruption has left off by more than `minOffset` is within it soon after the budget allows
//!   it, whatever came before.

use std::time::Duration;

use super::health::{Health, steps_can_mislead};
use super::{SECOND, at};
use crate::sim::events::Kind;
use crate::sim::world::World;
use drift_core::io::{Effect, LogEvent};
use drift_core::report::node::EventReason;
use drift_core::report::snapshot::StepSnapshot;
use drift_core::step::budget::{MAX_STEPS_PER_HOUR, MAX_TOTAL};
use drift_core::step::outcome::{Outcome, StepResult};
use drift_core::step::policy::Mode;
use drift_core::step::stepper::StepOrder;
use drift_core::time::HOUR;

/// The oscillator may move the clock by so much between a measurement and a step.
const DRIFT: Duration = Duration::from_millis(30);
/// No signal shows a pause sooner.
const UNNOTICED: Duration = SECOND;
/// The farthest that a drawn server is wrong.
const WRONG_BY: Duration = Duration::from_secs(20);
/// Attempts for one disruption.
const ATTEMPTS: u32 = 3;

/// A clock that has to be stepped.
#[derive(Clone, Copy, Debug)]
struct Obligation {
    /// When the disruption was reported.
    since: Duration,
    /// The time since then in which a step was possible.
    possible: Duration,
    /// Attempts that have failed since then.
    failures: u32,
    /// No other disruption was left to be corrected before.
    is_alone: bool,
}

/// Checks the steps of a world.
#[derive(Debug, Default)]
pub(super) struct StepRules {
    /// Of the world: steps and events that were seen.
    steps: usize,
    events: usize,
    /// Disruptions and requests that have led to no step yet, and steps that may follow another.
    triggers: u32,
    /// Requests of operators, which no budget limits.
    requests: u32,
    orders: u32,
    /// Until when wrong pools may lead a step away.
    misled_until: Duration,
    /// No step is possible before, by the budget.
    limited_until: Duration,
    /// What earlier steps cost is not known to the agent, or is enough to end all steps.
    is_budget_lost: bool,
    obligation: Option<Obligation>,
    /// Clocks that were off by more than `minOffset` after a disruption, and were corrected.
    pub(super) corrected: u64,
}

impl StepRules {
    /// Checks the world after an input. `effects`: those since the last look; `span`: the time since then.
    pub(super) fn check(
        &mut self,
        effects: &[(Duration, Effect)],
        span: Duration,
        world: &World,
    ) -> Result<(), String> {
        if world.settings().step.mode == Mode::Off {
            return Ok(());
        }
        self.note_events(world);
        if steps_can_mislead(world) {
            self.misled_until = world.elapsed() + world.settings().interval * 3;
        }
        for (_, effect) in effects {
            match effect {
                Effect::Log(LogEvent::Disrupted(detection)) if detection.refutes_pause() => {
                    self.obligation.take_if(|obligation| obligation.is_alone);
                }
                Effect::Log(LogEvent::Disrupted(detection)) if detection.disruption.class().may_step() => {
                    self.begin(world);
                }
                Effect::LogStep(outcome) => self.note_outcome(outcome, world),
                Effect::Step(order) => self.note_order(order, world)?,
                _ => {}
            }
        }
        self.check_steps(world)?;
        self.check_obligation(span, world)
    }

    fn note_events(&mut self, world: &World) {
        for (_, kind) in world.happened.get(self.events..).unwrap_or_default() {
            match kind {
                Kind::Pause | Kind::Suspend | Kind::Stall => self.triggers += 1,
                Kind::Request => {
                    self.triggers += 1;
                    self.requests += 1;
                }
                // What it waited for, an agent that starts again does not know.
                Kind::Restart => self.obligation = None,
                _ => {}
            }
        }
        self.events = world.happened.len();
        // Without an answer of the API server there is no budget.
        self.is_budget_lost |= world.api_errors() > 0.0;
    }

    fn begin(&mut self, world: &World) {
        let is_usual = world.truth().magnitude() <= world.settings().step.max_offset;
        let since = world.elapsed();
        let is_alone = self.obligation.is_none();
        self.obligation =
            is_usual.then_some(Obligation { since, possible: Duration::ZERO, failures: 0, is_alone });
        // What an earlier run has spent counts from now at the latest.
        if world.steps.is_empty() && world.snapshot().step.last.is_some() {
            self.limited_until = self.limited_until.max(since + HOUR.max(world.settings().step.cooldown));
        }
    }

    fn note_outcome(&mut self, outcome: &Outcome, world: &World) {
        let is_unconfirmed = outcome.after.is_none() && outcome.result == StepResult::Stepped;
        if outcome.result == StepResult::Failed || is_unconfirmed {
            self.triggers += 1;
            let pause = world.settings().step.cooldown.max(SECOND * 60);
            self.limited_until = self.limited_until.max(world.elapsed() + pause);
            if let Some(obligation) = &mut self.obligation {
                obligation.failures += 1;
            }
        }
    }

    fn note_order(&mut self, order: &StepOrder, world: &World) -> Result<(), String> {
        self.orders += 1;
        if self.orders > self.triggers {
            return Err(format!(
                "step {} is ordered after {} disruptions, requests and failures, {}",
                self.orders,
                self.triggers,
                at(world)
            ));
        }
        if order.dry_run == world.settings().step.dry_run {
            Ok(())
        } else {
            Err(format!("a dry run is none, {}", at(world)))
        }
    }

    fn check_steps(&mut self, world: &World) -> Result<(), String> {
        for (nth, step) in world.steps.iter().enumerate().skip(self.steps) {
            let (before, after) = (step.before.magnitude(), step.after.magnitude());
            // A pause that ended just now is not known yet; the clock is measured again as soon as it is.
            let is_known = !world.pauses.iter().any(|(over, _)| step.at.saturating_sub(*over) < UNNOTICED);
            if is_known && step.at >= self.misled_until && after > before + DRIFT {
                return Err(format!(
                    "a step at {:?} leads from {:?} to {:?}",
                    step.at, step.before, step.after
                ));
            }
            let left = |ago: usize, span: Duration| {
                let earlier = nth.checked_sub(ago).and_then(|n| world.steps.get(n));
                earlier.map_or(Duration::ZERO, |earlier| (earlier.at + span).saturating_sub(step.at))
            };
            // By reference time of another measurement, which wrong servers move.
            let slack = if world.has_only_honest_servers() { SECOND } else { WRONG_BY };
            let missing = left(1, world.settings().step.cooldown)
                .max(left(MAX_STEPS_PER_HOUR, HOUR))
                .saturating_sub(slack);
            if !missing.is_zero() && self.requests == 0 && !self.is_budget_lost {
                return Err(format!("a step at {:?} comes {missing:?} too soon", step.at));
            }
            let room =
                world.steps.get((nth + 1).saturating_sub(MAX_STEPS_PER_HOUR)..=nth).unwrap_or_default();
            let full = room.first().filter(|_| room.len() == MAX_STEPS_PER_HOUR).map(|first| first.at + HOUR);
            self.limited_until = self
                .limited_until
                .max(step.at + world.settings().step.cooldown)
                .max(full.unwrap_or_default());
        }
        self.steps = world.steps.len();
        Ok(())
    }

    fn check_obligation(&mut self, span: Duration, world: &World) -> Result<(), String> {
        let Some(obligation) = &mut self.obligation else { return Ok(()) };
        let settings = &world.settings().step;
        let off = world.truth().magnitude();
        if off < settings.min_offset + DRIFT {
            self.corrected += u64::from(world.steps.last().is_some_and(|step| step.at >= obligation.since));
            self.obligation = None;
            return Ok(());
        }
        let is_void = self.is_budget_lost
            || settings.dry_run
            || obligation.failures >= ATTEMPTS
            || off > settings.max_offset;
        if is_void {
            self.obligation = None;
            return Ok(());
        }
        let is_possible = world.elapsed() > self.limited_until
            && world.elapsed() > self.misled_until
            && Health::of(world).allows_step(off, world);
        // Not the time before it was reported, in which the machine may have slept.
        let span = span.min(world.elapsed().saturating_sub(obligation.since));
        obligation.possible = if is_possible { obligation.possible + span } else { Duration::ZERO };
        let longest = world.settings().interval.max(SECOND * 64) * 6;
        if obligation.possible <= longest {
            return Ok(());
        }
        let StepSnapshot { last, last_text, .. } = world.snapshot().step;
        let is_spent = match last {
            Some(last) => last.is_latched || last.total + off > MAX_TOTAL,
            None => last_text.is_some(),
        };
        if is_spent {
            self.is_budget_lost = true;
            return Ok(());
        }
        let outcomes = world.effects.iter().filter(|(when, e)| {
            *when >= obligation.since
                && (matches!(e, Effect::LogStep(_))
                    || matches!(e, Effect::SendEvent(event) if event.reason == EventReason::ClockStepRefused))
        });
        let outcomes: Vec<_> = outcomes.collect();
        Err(format!("off by {off:?} since {:?}, {}: {outcomes:#?}", obligation.since, at(world)))
    }
}
