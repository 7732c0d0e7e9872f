//! What is published about the Node, as values. The agent gives them their Kubernetes form.

use crate::report::snapshot::Snapshot;
use crate::step::audit::Audit;
use crate::step::outcome::StepResult;
use crate::time::{Measurement, Offset, Wall};
use crate::verdict::State;

/// Prefix of a source of last resort in [`NodeReport::pools`].
pub const COARSE: &str = "http-date:";

/// The reason of the condition `ClockDrift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// In sync.
    WithinThreshold,
    /// Drifting.
    OffsetExceedsThreshold,
    /// The servers contradict each other.
    PoolsDisagree,
    /// No measurement that is young and precise enough.
    NoAgreedMeasurement,
    /// The machine was suspended or paused, and the clock has not been measured since.
    ClockDisrupted,
}

/// The status of a condition; `True` is the problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// The clock drifts.
    True,
    /// The clock is in sync.
    False,
    /// Not known. Pools that contradict each other are no drift.
    Unknown,
}

/// The node's state as it is published.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// The verdict.
    pub state: State,
    /// Its reason, as one word.
    pub reason: Reason,
    /// The verdict in words: [`Snapshot::message`].
    pub message: String,
    /// Offset and bound, if they are known.
    pub measured: Option<Measurement>,
    /// Reference time of the measurement or the contradiction; `None`: there is neither.
    pub observed_at: Option<Wall>,
    /// [`Snapshot::best_time`]: the API server requires a time in any case.
    pub heartbeat: Wall,
    /// When the condition's status last changed.
    pub transition: Wall,
    /// Since when the node drifts; `None` unless it does.
    pub exceeded_since: Option<Wall>,
    /// Name and offset of each pool. While NTP gives nothing, also of each source of last resort, with
    /// [`COARSE`] before its name.
    pub pools: Vec<(String, Option<Offset>)>,
    /// The last step, as [`crate::step::last_step::LastStep`] writes it.
    pub last_step: Option<String>,
    /// The answer to the last `step-request`.
    pub step_result: Option<String>,
    /// The audit of the node's own time daemon; `None`: nothing of it is visible.
    pub audit: Option<Audit>,
}

/// What an earlier run has left on the Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prior {
    /// Status of the condition, and since when it has it.
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
    /// The reason that `kubectl` shows and filters by.
    pub reason: EventReason,
    /// A sentence for operators.
    pub note: String,
    /// Reference time at which it happened.
    pub at: Wall,
}

/// The reason of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventReason {
    /// The offset is over the threshold.
    ClockDriftExceeded,
    /// The offset is within the threshold again.
    ClockDriftCleared,
    /// The machine was suspended, paused or restored, and has resumed.
    VMResumeDetected,
    /// A pause that was reported was none, as NTP shows.
    VMResumeRefuted,
    /// The clock was stepped, and it helped.
    ClockStepped,
    /// A trigger was refused.
    ClockStepRefused,
    /// The step failed, or did not help.
    ClockStepFailed,
}

impl Reason {
    /// The reason of a state.
    pub const fn of(state: State) -> Self {
        match state {
            State::InSync => Self::WithinThreshold,
            State::Drifting => Self::OffsetExceedsThreshold,
            State::Disagree => Self::PoolsDisagree,
            State::Unknown => Self::NoAgreedMeasurement,
            State::Disrupted => Self::ClockDisrupted,
        }
    }

    /// The name in the condition.
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
    /// The status of a state.
    pub const fn of(state: State) -> Self {
        match state {
            State::Drifting => Self::True,
            State::InSync => Self::False,
            State::Disagree | State::Unknown | State::Disrupted => Self::Unknown,
        }
    }

    /// The name in the condition.
    pub const fn label(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// The status with this name.
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::True, Self::False, Self::Unknown].into_iter().find(|s| s.label() == label)
    }
}

impl EventReason {
    /// The event of a trigger that has ended like this; `None`: not worth one.
    pub const fn of_step(result: StepResult) -> Option<Self> {
        match result {
            StepResult::Stepped => Some(Self::ClockStepped),
            StepResult::Deferred | StepResult::Refused => Some(Self::ClockStepRefused),
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
            Self::VMResumeRefuted => "VMResumeRefuted",
            Self::ClockStepped => "ClockStepped",
            Self::ClockStepRefused => "ClockStepRefused",
            Self::ClockStepFailed => "ClockStepFailed",
        }
    }

    /// `Normal` or `Warning`.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::ClockDriftCleared | Self::VMResumeRefuted => "Normal",
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

    /// The report of a snapshot.
    pub fn new(snapshot: &Snapshot, transition: Wall, exceeded_since: Option<Wall>) -> Self {
        let pools = snapshot.pools.iter().map(|p| (p.name.clone(), p.measured.map(|m| m.offset)));
        let coarse = snapshot.coarse.0.iter();
        let coarse = coarse.map(|s| (format!("{COARSE}{}", s.source.host), s.measured.map(|m| m.offset)));
        Self {
            state: snapshot.state,
            reason: Reason::of(snapshot.state),
            message: snapshot.message(),
            measured: snapshot.measured,
            // A contradiction is an observation, too.
            observed_at: snapshot
                .reference
                .filter(|_| snapshot.measured.is_some() || snapshot.state == State::Disagree),
            heartbeat: snapshot.best_time(),
            transition,
            exceeded_since: exceeded_since.filter(|_| snapshot.state == State::Drifting),
            pools: pools.chain(coarse).collect(),
            last_step: snapshot.step.last_text.clone(),
            step_result: snapshot.step.answer.clone(),
            audit: snapshot.daemon.as_ref().map(|d| d.audit).filter(|audit| audit.is_visible()),
        }
    }
}
