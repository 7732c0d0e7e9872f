//! A trigger that waits for what a decision needs.

use std::time::Duration;

use super::policy::{Remedy, Trigger};
use crate::resume::Class;
use crate::time::Mono;

/// How long a disruption is remembered while what is measured allows no step.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// How often a step is tried for one disruption, where carrying it out fails and changes nothing.
const ATTEMPTS: u8 = 3;
/// The least time between two attempts.
const RETRY_MIN: Duration = Duration::from_secs(60);

/// A trigger that waits. What was measured before `since` does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueuedTrigger {
    pub(super) trigger: Trigger,
    /// The clock is as it was since this.
    since: Mono,
    wait: Wait,
    /// When the servers first gave a measurement since then.
    measured: Option<Mono>,
    /// That it waits was published.
    is_deferred: bool,
    /// How often carrying a step out has failed.
    failures: u8,
    /// The disruption whose place it has taken, which calls for a step whatever becomes of this trigger.
    pub(super) stands_for: Option<Class>,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Measurements.
    Measurement,
    /// A limit that ends then.
    Until(Mono),
    /// The Node's annotations.
    Node,
}

/// What becomes of a refused trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It waits.
    Waits(QueuedTrigger),
    /// It waits, and for longer than a few seconds.
    IsDeferred(QueuedTrigger),
    /// It has ended.
    Ends(QueuedTrigger),
}

impl QueuedTrigger {
    /// A trigger that waits for measurements from now on.
    pub(super) fn new(trigger: Trigger, now: Mono) -> Self {
        Self {
            trigger,
            since: now,
            wait: Wait::Measurement,
            measured: None,
            is_deferred: false,
            failures: 0,
            stands_for: None,
        }
    }

    /// From when on measurements are awaited; `None`: none are.
    pub(super) fn awaiting_since(&self) -> Option<Mono> {
        (self.wait == Wait::Measurement).then_some(self.since)
    }

    /// The servers have given a measurement.
    pub(super) fn note_measured(&mut self, now: Mono) {
        self.measured.get_or_insert(now);
    }

    /// The clock has changed; what was measured before does not count any more.
    pub(super) fn measure_anew(&mut self, now: Mono) {
        (self.since, self.wait, self.measured) = (now, Wait::Measurement, None);
    }

    /// The disruption that calls for a step by this trigger or behind it.
    pub(super) fn disruption(&self) -> Option<Class> {
        match self.trigger {
            Trigger::Disruption(class) => Some(class),
            Trigger::Operator(_) => self.stands_for,
        }
    }

    /// The disruption behind this trigger, which has ended without a step.
    pub(super) fn behind(&self) -> Option<Self> {
        let class = self.stands_for.filter(|_| self.trigger.is_operator())?;
        Some(Self::new(Trigger::Disruption(class), self.since))
    }

    /// There was no disruption: a step that fails is not tried again.
    pub(super) fn give_up(&mut self) {
        self.failures = ATTEMPTS;
    }

    /// Carrying a step out has failed and changed nothing. Returns when it may be tried again, and the trigger that waits
    /// for that; `None` if it has ended. An operator gets the answer instead.
    pub(super) fn retry(self, cooldown: Duration, now: Mono) -> Option<(Duration, Self)> {
        let failures = self.failures.saturating_add(1);
        if self.trigger.is_operator() || failures >= ATTEMPTS {
            return None;
        }
        let wait = cooldown.max(RETRY_MIN);
        Some((wait, Self { wait: Wait::Until(now.plus(wait)), failures, ..self }))
    }

    /// Ends the wait if a limit has ended, or if the annotations are known (`is_node_read`). Returns whether it has.
    pub(super) fn take_due(&mut self, is_node_read: bool, now: Mono) -> bool {
        let is_due = match self.wait {
            Wait::Measurement => false,
            Wait::Until(at) => at <= now,
            Wait::Node => is_node_read,
        };
        if is_due {
            self.measure_anew(now);
        }
        is_due
    }

    /// It was refused, with this remedy. `more`: further exchanges come soon; `network_wait`: how long a network may
    /// take to come back after a resume.
    ///
    /// A disruption waits for what may lift the refusal. An operator waits for an answer, and gets it.
    pub(super) fn refuse(self, remedy: Remedy, more: bool, network_wait: Duration, now: Mono) -> Refused {
        let is_network_late = remedy == Remedy::Network && now.since(self.since) < network_wait;
        if matches!(remedy, Remedy::Network | Remedy::Measurement) && (more || is_network_late) {
            return Refused::Waits(self);
        }
        let wait = match remedy {
            _ if self.trigger.is_operator() => return Refused::Ends(self),
            Remedy::Operator => return Refused::Ends(self),
            Remedy::Measurement if self.measured.is_some_and(|at| now.since(at) >= PATIENCE) => {
                return Refused::Ends(self);
            }
            Remedy::Network | Remedy::Measurement => Wait::Measurement,
            Remedy::Wait(left) => Wait::Until(now.plus(left)),
            Remedy::Node => Wait::Node,
        };
        let deferred = Self { wait, is_deferred: true, ..self };
        if self.is_deferred { Refused::Waits(deferred) } else { Refused::IsDeferred(deferred) }
    }
}
