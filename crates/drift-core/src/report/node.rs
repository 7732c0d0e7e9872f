//! What is published about the Node: the values, not their Kubernetes form (that is `effects::node`).

use crate::report::snapshot::Snapshot;
use crate::step::outcome::StepResult;
use crate::time::{Measurement, Offset, Wall};
use crate::verdict::State;

/// Before the name of a source of last resort.
pub const COARSE: &str = "http-date:";

/// The reason of the condition `ClockDrift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// In sync.
    WithinThreshold,
    /// Drifting.
    OffsetExceedsThreshold,
    /// The pools contradict each other.
    PoolsDisagree,
    /// Nothing to judge by.
    NoAgreedMeasurement,
    /// The machine slept, and was not measured since.
    ClockDisrupted,
}

/// The status of a condition; `True` is the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// The clock drifts.
    True,
    /// It does not.
    False,
    /// Nobody can say. Two pools that contradict each other are no drift.
    Unknown,
}

/// The node's state as it is published.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// The verdict.
    pub state: State,
    /// Why, as one word.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// Offset and bound, when they are known.
    pub measured: Option<Measurement>,
    /// Reference time of what was observed; `None` when nothing was.
    pub observed_at: Option<Wall>,
    /// The same, or node time for want of better: the API server wants a time.
    pub heartbeat: Wall,
    /// When the condition's status last changed.
    pub transition: Wall,
    /// Since when the node drifts; only while it does.
    pub exceeded_since: Option<Wall>,
    /// Each pool's name and offset; while they are all there is, also those of the sources of last resort, with [`COARSE`] before
    /// their names.
    pub pools: Vec<(String, Option<Offset>)>,
    /// The last step, in the words of [`crate::step::last_step::LastStep`].
    pub last_step: Option<String>,
    /// The answer to the last `step-request`.
    pub step_result: Option<String>,
}

/// What an earlier run left on the Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prior {
    /// Status of the condition, and since when.
    pub condition: Option<(ConditionStatus, Wall)>,
    /// The annotation `exceeded-since`.
    pub exceeded_since: Option<Wall>,
    /// The annotation `last-step`.
    pub last_step: Option<String>,
    /// The annotation `step-result`.
    pub step_result: Option<String>,
}

/// An event about the Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// Why: the word that `kubectl` shows and filters by.
    pub reason: EventReason,
    /// For people.
    pub note: String,
    /// Reference time at which it happened.
    pub at: Wall,
}

/// The reason of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventReason {
    /// The node began to drift.
    ClockDriftExceeded,
    /// It drifts no more.
    ClockDriftCleared,
    /// The machine was suspended, paused or restored, and has resumed.
    VMResumeDetected,
    /// The clock was stepped, and it helped.
    ClockStepped,
    /// Something asked for a step, and there was a reason against it.
    ClockStepRefused,
    /// The clock could not be stepped, or it did not help.
    ClockStepFailed,
}

impl Reason {
    /// Of a state.
    pub const fn of(state: State) -> Self {
        match state {
            State::InSync => Self::WithinThreshold,
            State::Drifting => Self::OffsetExceedsThreshold,
            State::Disagree => Self::PoolsDisagree,
            State::Unknown => Self::NoAgreedMeasurement,
            State::Disrupted => Self::ClockDisrupted,
        }
    }

    /// The word in the condition.
    pub const fn label(self) -> &'static str {
        match self {
            Self::WithinThreshold => "WithinThreshold",
            Self::OffsetExceedsThreshold => "OffsetExceedsThreshold",
            Self::PoolsDisagree => "PoolsDisagree",
            Self::NoAgreedMeasurement => "NoAgreedMeasurement",
            Self::ClockDisrupted => "ClockDisrupted",
        }
    }
}

impl ConditionStatus {
    /// Of a state.
    pub const fn of(state: State) -> Self {
        match state {
            State::Drifting => Self::True,
            State::InSync => Self::False,
            State::Disagree | State::Unknown | State::Disrupted => Self::Unknown,
        }
    }

    /// The word in the condition.
    pub const fn label(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// From the word.
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::True, Self::False, Self::Unknown].into_iter().find(|s| s.label() == label)
    }
}

impl EventReason {
    /// The event of a trigger that has ended like this; `None`: not worth one.
    pub const fn of_step(result: StepResult) -> Option<Self> {
        match result {
            StepResult::Stepped => Some(Self::ClockStepped),
            StepResult::Refused => Some(Self::ClockStepRefused),
            StepResult::Failed => Some(Self::ClockStepFailed),
            StepResult::DryRun | StepResult::NotNeeded => None,
        }
    }

    /// The reason's name in the event.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClockDriftExceeded => "ClockDriftExceeded",
            Self::ClockDriftCleared => "ClockDriftCleared",
            Self::VMResumeDetected => "VMResumeDetected",
            Self::ClockStepped => "ClockStepped",
            Self::ClockStepRefused => "ClockStepRefused",
            Self::ClockStepFailed => "ClockStepFailed",
        }
    }

    /// `Normal` or `Warning`.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::ClockDriftCleared => "Normal",
            Self::ClockDriftExceeded
            | Self::VMResumeDetected
            | Self::ClockStepped
            | Self::ClockStepRefused
            | Self::ClockStepFailed => "Warning",
        }
    }
}

impl NodeReport {
    /// The condition's status.
    pub const fn status(&self) -> ConditionStatus {
        ConditionStatus::of(self.state)
    }

    /// From what is known now.
    pub fn new(snapshot: &Snapshot, transition: Wall, exceeded_since: Option<Wall>) -> Self {
        let pools = snapshot.pools.iter().map(|p| (p.name.clone(), p.measured.map(|m| m.offset)));
        let coarse = snapshot.coarse.0.iter();
        let coarse = coarse.map(|s| (format!("{COARSE}{}", s.site.host), s.measured.map(|m| m.offset)));
        Self {
            state: snapshot.state,
            reason: Reason::of(snapshot.state),
            message: snapshot.message(),
            measured: snapshot.measured,
            // Nothing known is nothing observed; a contradiction is.
            observed_at: snapshot
                .reference
                .filter(|_| snapshot.measured.is_some() || snapshot.state == State::Disagree),
            heartbeat: snapshot.best_time(),
            transition,
            exceeded_since: exceeded_since.filter(|_| snapshot.state == State::Drifting),
            pools: pools.chain(coarse).collect(),
            last_step: snapshot.step.last_text.clone(),
            step_result: snapshot.step.answer.clone(),
        }
    }
}
