//! How a simulated node carries steps out: also slowly, partly, against another process, or not at all.

use std::time::Duration;

use super::events::Event;
use super::exchange::Pending;
use super::world::World;
use drift_core::io::Input;
use drift_core::step::outcome::Method;
use drift_core::step::stepper::{StepDone, StepOrder};
use drift_core::time::Offset;

/// A clock that has moved by more since the order was set by another process; as the agent judges.
const CLOCK_MOVED_MIN: Duration = Duration::from_millis(10);

/// Shares of the steps that do not go as ordered.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepFaults {
    /// The kernel denies them, and nothing is changed.
    pub denied: f64,
    /// Another process corrects the clock by as much just before.
    pub raced: f64,
    /// Another process corrects the clock by as much just after.
    pub doubled: f64,
    /// The clock is stepped, and what had to follow fails.
    pub partly: f64,
    /// Nothing is stepped, though something else was changed.
    pub without_effect: f64,
    /// A time daemon carries them out: it measures for so long, and steps by what it has measured.
    pub daemon: Option<Duration>,
}

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepFate {
    /// It is carried out.
    Done,
    /// As in [`StepFaults`].
    Denied,
    /// As in [`StepFaults`].
    Raced,
    /// As in [`StepFaults`].
    Doubled,
    /// As in [`StepFaults`].
    Partly,
    /// As in [`StepFaults`].
    WithoutEffect,
}

/// A step that the agent has made.
#[derive(Clone, Copy, Debug)]
pub struct AppliedStep {
    /// When, since the start.
    pub at: Duration,
    /// The true offset just before.
    pub before: Offset,
    /// The true offset just after.
    pub after: Offset,
}

impl StepFaults {
    /// Draws what becomes of the next order.
    fn draw(&self, rng: &mut fastrand::Rng) -> StepFate {
        let fates = [
            (self.denied, StepFate::Denied),
            (self.raced, StepFate::Raced),
            (self.doubled, StepFate::Doubled),
            (self.partly, StepFate::Partly),
            (self.without_effect, StepFate::WithoutEffect),
        ];
        let mut left = rng.f64();
        for (share, fate) in fates {
            if left < share {
                return fate;
            }
            left -= share;
        }
        StepFate::Done
    }
}

impl World {
    /// An order was given; it is carried out a moment later.
    pub(super) fn order_step(&mut self, order: StepOrder) {
        let StepFaults { daemon, .. } = self.surroundings.step_faults;
        let fate = self.surroundings.step_faults.draw(&mut self.rng);
        self.after(daemon.unwrap_or(Duration::from_millis(1)), Pending::Step(order, fate));
    }

    /// Carries an order out, and reports that.
    pub(super) fn carry_out_step(&mut self, order: &StepOrder, fate: StepFate) -> Input {
        let daemon = self.surroundings.step_faults.daemon;
        let method = if daemon.is_some() { Method::Chrony } else { Method::Kernel };
        Input::Stepped(match fate {
            _ if order.dry_run => StepDone::DryRun(method),
            StepFate::Denied => StepDone::Failed("the simulated kernel denies it".to_owned()),
            StepFate::WithoutEffect => StepDone::PartlyApplied(method, "no time source answers".to_owned()),
            StepFate::Partly => {
                self.apply(order, method);
                StepDone::PartlyApplied(method, "the rule could not be restored".to_owned())
            }
            StepFate::Raced => {
                self.happen(Event::Step(order.offset));
                self.apply(order, method)
            }
            StepFate::Doubled => {
                let done = self.apply(order, method);
                let soon = self.elapsed() + Duration::from_millis(self.rng.u64(1..3_000));
                self.schedule(soon, Event::Step(order.offset));
                done
            }
            StepFate::Done => self.apply(order, method),
        })
    }

    fn apply(&mut self, order: &StepOrder, method: Method) -> StepDone {
        let before = self.truth();
        let by = match method {
            // It steps by what it has measured itself.
            Method::Chrony => Offset::from_nanos(before.as_nanos() + self.rng.i64(-500_000..500_000)),
            Method::Kernel if self.reading().origin().minus(order.origin).magnitude() > CLOCK_MOVED_MIN => {
                return StepDone::Failed("another process set the clock in the meantime".to_owned());
            }
            Method::Kernel => order.offset,
        };
        if self.plan.steps_work {
            self.clocks.step_wall(by);
            self.clock_was_set = true;
            self.steps.push(AppliedStep { at: self.elapsed(), before, after: self.truth() });
        }
        StepDone::Stepped(method)
    }
}
