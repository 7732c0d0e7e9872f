//! One Node's clock, from its annotations. They are not trusted: every account that may write to the Node can
//! write them.

use std::time::Duration;

use serde::Deserialize;

use super::now::{Age, Now};
use drift_core::report::publish::HEARTBEAT;
use drift_core::step::audit::Audit;
use drift_core::step::last_step::LastStep;
use drift_core::time::{Bound, Measurement, Offset, Wall};
use drift_core::verdict::State;

/// A running agent writes every ten minutes, ± 10%. After two heartbeats without a write it has stopped or
/// lost the API server.
pub const STALE_AFTER: Duration = Duration::from_secs(HEARTBEAT.as_secs() * 11 / 10 * 2);
/// At most so many characters of an annotation are shown in a cell of the table.
pub const CELL_CHARS_MAX: usize = 60;
/// At most so many characters of a message are shown.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// The part of a Node that is read; the parser skips the rest.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Item {
    /// Name, labels and annotations.
    #[serde(default)]
    pub metadata: Metadata,
    /// Only present when the whole Node was requested.
    #[serde(default)]
    pub status: Option<NodeStatus>,
}

/// Of an [`Item`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The Node's name.
    #[serde(default)]
    pub name: String,
    /// The version from which a watch continues.
    pub resource_version: Option<String>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Labels {
    #[serde(rename = "topology.kubernetes.io/zone")]
    zone: Option<String>,
}

/// The agent's annotations.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Annotations {
    #[serde(rename = "drift-agent.io/clock-state")]
    clock_state: Option<String>,
    #[serde(rename = "drift-agent.io/offset-seconds")]
    offset: Option<String>,
    #[serde(rename = "drift-agent.io/offset-bound-seconds")]
    bound: Option<String>,
    #[serde(rename = "drift-agent.io/observed-at")]
    observed_at: Option<String>,
    #[serde(rename = "drift-agent.io/exceeded-since")]
    exceeded_since: Option<String>,
    #[serde(rename = "drift-agent.io/pools")]
    pools: Option<String>,
    #[serde(rename = "drift-agent.io/last-step")]
    last_step: Option<String>,
    #[serde(rename = "drift-agent.io/step-result")]
    step_result: Option<String>,
    #[serde(rename = "drift-agent.io/time-daemon-audit")]
    audit: Option<String>,
}

/// Of an [`Item`] that was requested as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct NodeStatus {
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Condition {
    #[serde(rename = "type", default)]
    kind: String,
    message: Option<String>,
}

/// The value of an annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<T> {
    /// The annotation is missing.
    Absent,
    /// The agent does not write such a value: its text, escaped for a terminal.
    Unreadable(String),
    /// The value.
    Value(T),
}

/// What the annotations of a Node report of its clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The Node's name.
    pub name: String,
    /// The state that the agent has reported.
    pub reported: ReportedState,
    /// Positive: the node is behind.
    pub offset: Field<Offset>,
    /// The true offset was inside offset ± bound at `observed_at`.
    pub bound: Field<Bound>,
    /// When it was measured, in reference time.
    pub observed_at: Field<Wall>,
    /// When the clock began to drift.
    pub exceeded_since: Field<Wall>,
    /// The offset that each pool reports, as the annotation has it.
    pub pools: Option<String>,
    /// The last step of the clock.
    pub last_step: Field<LastStep>,
    /// The result of the last request for a step.
    pub step_result: Option<String>,
    /// What the node's own time daemon has of what it should have.
    pub audit: Field<Audit>,
    /// The label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// The message of the condition `ClockDrift`; only when the whole Node was requested.
    pub message: Option<String>,
}

/// The state in the annotation `clock-state` of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportedState {
    /// A state that the agent writes.
    State(State),
    /// No agent has written to this Node: it has none of the agent's annotations.
    NoAgent,
    /// A text that the agent does not write; empty when the annotation is missing while others of the agent's
    /// are present.
    Unrecognised(String),
}

impl Row {
    /// Reads the annotations, the zone and the condition of a Node.
    pub fn read(item: Item) -> Self {
        let Item { metadata: Metadata { name, labels, annotations, .. }, status } = item;
        let all = annotations.unwrap_or_default();
        let reported = match &all.clock_state {
            Some(text) => {
                let known = State::ALL.into_iter().find(|state| state.label() == text);
                known.map_or_else(
                    || ReportedState::Unrecognised(escape_for_terminal(text, CELL_CHARS_MAX)),
                    ReportedState::State,
                )
            }
            None if all == Annotations::default() => ReportedState::NoAgent,
            None => ReportedState::Unrecognised(String::new()),
        };
        let Annotations {
            clock_state: _,
            offset,
            bound,
            observed_at,
            exceeded_since,
            pools,
            last_step,
            step_result,
            audit,
        } = all;
        let seconds = |text: &str| text.parse().ok().and_then(Offset::from_secs_f64);
        let conditions = status.and_then(|s| s.conditions).unwrap_or_default();
        let condition = conditions.into_iter().find(|c| c.kind == drift_core::report::names::CONDITION);
        Self {
            name: escape_for_terminal(&name, usize::MAX),
            reported,
            offset: Field::read(offset, seconds),
            bound: Field::read(bound, |text| {
                seconds(text).filter(|b| b.as_nanos() >= 0).map(|b| Bound::from_nanos(b.as_nanos()))
            }),
            observed_at: Field::read(observed_at, Wall::parse_rfc3339),
            exceeded_since: Field::read(exceeded_since, Wall::parse_rfc3339),
            pools: pools.map(|text| escape_for_terminal(&text, MESSAGE_CHARS_MAX)),
            last_step: Field::read(last_step, |text| text.parse().ok()),
            step_result: step_result.map(|text| escape_for_terminal(&text, MESSAGE_CHARS_MAX)),
            audit: Field::read(audit, |text| text.parse().ok()),
            zone: labels
                .and_then(|l| l.zone)
                .filter(|z| !z.is_empty())
                .map(|z| escape_for_terminal(&z, CELL_CHARS_MAX)),
            message: condition
                .and_then(|c| c.message)
                .map(|text| escape_for_terminal(&text, MESSAGE_CHARS_MAX)),
        }
    }

    /// The measurement; `None` unless both annotations are present and can be read.
    pub fn measured(&self) -> Option<Measurement> {
        Some(Measurement::new(*self.offset.value()?, *self.bound.value()?))
    }

    /// The age of the measurement.
    pub fn observed(&self, now: &Now) -> Option<Age> {
        Some(now.since(*self.observed_at.value()?))
    }

    /// The measurement and its age; `None` unless both are known and the age is at most [`STALE_AFTER`].
    pub fn current(&self, now: &Now) -> Option<(Measurement, Age)> {
        let measured = self.measured()?;
        let age = self.observed(now)?;
        (age.as_secs() <= STALE_AFTER.as_secs()).then_some((measured, age))
    }

    /// Was the clock measured, but too long ago, or at an unknown time?
    pub fn is_stale(&self, now: &Now) -> bool {
        let measured = self.offset != Field::Absent || self.observed_at != Field::Absent;
        measured && self.observed(now).is_none_or(|age| age.as_secs() > STALE_AFTER.as_secs())
    }

    /// Is the reported state `drifting`? A stale report counts, too, because no later one contradicts it.
    pub fn drifts(&self) -> bool {
        self.reported == ReportedState::State(State::Drifting)
    }

    /// Names and texts of the annotations that cannot be read.
    pub fn unreadable(&self) -> Vec<(&'static str, &str)> {
        let state = match &self.reported {
            ReportedState::Unrecognised(text) => Some(text.as_str()),
            ReportedState::State(_) | ReportedState::NoAgent => None,
        };
        let each = [
            ("clock-state", state),
            ("offset-seconds", self.offset.unreadable()),
            ("offset-bound-seconds", self.bound.unreadable()),
            ("observed-at", self.observed_at.unreadable()),
            ("exceeded-since", self.exceeded_since.unreadable()),
            ("last-step", self.last_step.unreadable()),
            ("time-daemon-audit", self.audit.unreadable()),
        ];
        each.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }
}

impl ReportedState {
    /// The name in JSON and in the summary.
    pub fn label(&self) -> &'static str {
        match self {
            Self::State(state) => state.label(),
            Self::NoAgent => "no-agent",
            Self::Unrecognised(_) => "unreadable",
        }
    }
}

impl<T> Field<T> {
    fn read(text: Option<String>, read: impl Fn(&str) -> Option<T>) -> Self {
        match text.map(|text| read(&text).ok_or(text)) {
            None => Self::Absent,
            Some(Ok(value)) => Self::Value(value),
            Some(Err(text)) => Self::Unreadable(escape_for_terminal(&text, CELL_CHARS_MAX)),
        }
    }

    /// The value; `None` unless it is present and can be read.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// The text of a value that cannot be read.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Unreadable(text) => Some(text),
            Self::Absent | Self::Value(_) => None,
        }
    }
}

/// Untrusted text, escaped for a terminal: every other than a plain character is replaced by its escape, so
/// that it cannot move the cursor, hide text or change the writing direction. Cut off after `longest`
/// characters.
pub fn escape_for_terminal(text: &str, longest: usize) -> String {
    let mut clean = String::new();
    let mut length = 0;
    for c in text.chars() {
        // The agent's own messages contain these two.
        let plain = matches!(c, ' '..='~' | '±' | 'µ');
        let shown = if plain { c.to_string() } else { c.escape_default().to_string() };
        length += shown.chars().count();
        if length > longest {
            clean.push('…');
            break;
        }
        clean.push_str(&shown);
    }
    clean
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
