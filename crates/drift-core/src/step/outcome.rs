//! How a trigger ended, in types and in words.

use std::collections::BTreeMap;

use super::policy::Trigger;
use crate::time::{Measurement, Offset};

/// How the clock was stepped; the label `method` of `drift_agent_steps_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// By chrony, over its command socket.
    Chrony,
    /// By the kernel.
    Kernel,
}

/// How a trigger ended; the label `result` of `drift_agent_steps_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepResult {
    /// The clock was stepped, and a measurement afterwards confirmed that it helped.
    Stepped,
    /// Everything was done but the step.
    DryRun,
    /// The clock was within `minOffset`.
    NotNeeded,
    /// A rule does not allow the step yet: the trigger waits.
    Deferred,
    /// A rule did not allow the step.
    Refused,
    /// The step failed, or no measurement confirmed that it helped.
    Failed,
}

/// Triggers so far, by method (`None`: no step was made) and result.
pub type StepCounts = BTreeMap<(Option<Method>, StepResult), u64>;

/// The end of a trigger, as it is published: in the audit log, as the answer to a request, and mostly as an
/// event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub result: StepResult,
    /// How the clock was stepped, or would be; `None`: no step was made.
    pub method: Option<Method>,
    /// What triggered it.
    pub trigger: Trigger,
    /// Offset before, as measured after the trigger; positive: the node was behind.
    pub before: Option<Offset>,
    /// What was measured after the step.
    pub after: Option<Measurement>,
    /// Why it was deferred or refused, has failed, or why the effect of a step is not known.
    pub reason: Option<String>,
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
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Outcome {
    /// `The clock was 20.0 s behind and was stepped by kernel (pause); now it is 200 µs behind (±1.2 ms).`
    pub fn sentence(&self) -> String {
        let before = self.before.map_or("unknown".to_owned(), Offset::in_words);
        let method = self.method.map_or("no method", Method::label);
        let reason = self.reason.as_deref().unwrap_or("unknown reason");
        let trigger = self.trigger.label();
        match self.result {
            StepResult::Stepped => {
                let after = match (self.after, &self.reason) {
                    (Some(after), _) => format!("; now it is {after}"),
                    (None, Some(reason)) => format!("; {reason}"),
                    (None, None) => String::new(),
                };
                format!("The clock was {before} and was stepped by {method} ({trigger}){after}.")
            }
            StepResult::DryRun => {
                format!(
                    "The clock is {before} and would be stepped by {method} ({trigger}); this is a dry run."
                )
            }
            StepResult::NotNeeded => format!("No step is needed ({trigger}): the clock is {before}."),
            StepResult::Deferred => format!("The clock is not stepped yet ({trigger}): {reason}."),
            StepResult::Refused => format!("The clock is not stepped ({trigger}): {reason}."),
            StepResult::Failed if self.method.is_some() => {
                format!(
                    "A step by {method} ({trigger}) is not confirmed; before it the clock was {before}; {reason}."
                )
            }
            StepResult::Failed => format!("The clock could not be stepped ({trigger}): {reason}."),
        }
    }
}

/// Every series there can be, at 0: an alert on a counter that first appears with its first event would miss
/// that event.
pub(super) fn zero_counts() -> StepCounts {
    let without_step = [StepResult::NotNeeded, StepResult::Deferred, StepResult::Refused, StepResult::Failed]
        .map(|result| (None, result));
    let with_step = [Method::Chrony, Method::Kernel].into_iter().flat_map(|method| {
        [StepResult::Stepped, StepResult::DryRun, StepResult::Failed].map(|result| (Some(method), result))
    });
    without_step.into_iter().chain(with_step).map(|key| (key, 0)).collect()
}
