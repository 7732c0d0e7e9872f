//! One Node's clock as its annotations tell it, read without trust: whoever may write to the Node can write them.

use std::time::Duration;

use serde::Deserialize;

use super::now::{Age, Now};
use drift_core::report::publish::HEARTBEAT;
use drift_core::step::last_step::LastStep;
use drift_core::time::{Bound, Measurement, Offset, Wall};
use drift_core::verdict::State;

/// An agent that lives writes every ten minutes, give or take a tenth. After two such times it is dead or cut off.
pub const STALE: Duration = Duration::from_secs(HEARTBEAT.as_secs() * 11 / 10 * 2);
/// No cell of the table is wider; what others wrote is cut off there.
const CELL: usize = 60;
/// A message is longer, and still no book.
pub const MESSAGE: usize = 1_000;

/// The part of a Node that is read; the rest is skipped while it is parsed.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Item {
    /// Name, labels and annotations.
    #[serde(default)]
    pub metadata: Metadata,
    /// Only there when the whole Node was asked for.
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
    /// From where a watch goes on.
    pub resource_version: Option<String>,
    labels: Option<Labels>,
    annotations: Option<Annotations>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Labels {
    #[serde(rename = "topology.kubernetes.io/zone")]
    zone: Option<String>,
}

/// Ours, by the names in the README.
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
}

/// Of an [`Item`] that was asked for as a whole.
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

/// An annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<T> {
    /// It is not there.
    Absent,
    /// It is not what the agent writes: its text, fit for a terminal.
    Unreadable(String),
    /// What it says.
    Value(T),
}

/// What a Node says of its clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The Node's name.
    pub name: String,
    /// The verdict.
    pub says: ReportedState,
    /// Positive: the node is behind.
    pub offset: Field<Offset>,
    /// The true offset was inside offset ± bound at `observed_at`.
    pub bound: Field<Bound>,
    /// When it was measured, in reference time.
    pub observed_at: Field<Wall>,
    /// Since when it drifts.
    pub exceeded_since: Field<Wall>,
    /// What each pool says, as it stands there.
    pub pools: Option<String>,
    /// The last step of the clock.
    pub last_step: Field<LastStep>,
    /// The answer to the last request for a step.
    pub step_result: Option<String>,
    /// The label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// The message of the condition `ClockDrift`; only when the whole Node was asked for.
    pub message: Option<String>,
}

/// The verdict of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportedState {
    /// One of the agent's.
    State(State),
    /// Nothing: no agent has written to this Node.
    NoAgent,
    /// Something that no agent writes, or nothing beside other annotations of ours.
    Unrecognised(String),
}

impl Row {
    /// Reads a Node.
    pub fn read(item: Item) -> Self {
        let Item { metadata: Metadata { name, labels, annotations, .. }, status } = item;
        let all = annotations.unwrap_or_default();
        let says = match &all.clock_state {
            Some(text) => {
                let known = State::ALL.into_iter().find(|state| state.label() == text);
                known.map_or_else(
                    || ReportedState::Unrecognised(escape_for_terminal(text, CELL)),
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
        } = all;
        let seconds = |text: &str| text.parse().ok().and_then(Offset::from_secs_f64);
        let conditions = status.and_then(|s| s.conditions).unwrap_or_default();
        let condition = conditions.into_iter().find(|c| c.kind == drift_core::report::names::CONDITION);
        Self {
            name: escape_for_terminal(&name, usize::MAX),
            says,
            offset: Field::read(offset, seconds),
            bound: Field::read(bound, |text| {
                seconds(text).filter(|b| b.as_nanos() >= 0).map(|b| Bound::from_nanos(b.as_nanos()))
            }),
            observed_at: Field::read(observed_at, Wall::parse_rfc3339),
            exceeded_since: Field::read(exceeded_since, Wall::parse_rfc3339),
            pools: pools.map(|text| escape_for_terminal(&text, MESSAGE)),
            last_step: Field::read(last_step, |text| text.parse().ok()),
            step_result: step_result.map(|text| escape_for_terminal(&text, MESSAGE)),
            zone: labels
                .and_then(|l| l.zone)
                .filter(|z| !z.is_empty())
                .map(|z| escape_for_terminal(&z, CELL)),
            message: condition.and_then(|c| c.message).map(|text| escape_for_terminal(&text, MESSAGE)),
        }
    }

    /// Offset and bound, when both are there and can be read.
    pub fn measured(&self) -> Option<Measurement> {
        Some(Measurement::new(*self.offset.value()?, *self.bound.value()?))
    }

    /// How long ago it was measured.
    pub fn observed(&self, now: &Now) -> Option<Age> {
        Some(now.since(*self.observed_at.value()?))
    }

    /// Offset, bound and age, when all three are known and recent enough to say something of now.
    pub fn current(&self, now: &Now) -> Option<(Offset, Bound, Age)> {
        let Measurement { offset, bound } = self.measured()?;
        let age = self.observed(now)?;
        (age.as_secs() <= STALE.as_secs()).then_some((offset, bound, age))
    }

    /// Has something been measured, but too long ago, or nobody can say when?
    pub fn is_stale(&self, now: &Now) -> bool {
        let measured = self.offset != Field::Absent || self.observed_at != Field::Absent;
        measured && self.observed(now).is_none_or(|age| age.as_secs() > STALE.as_secs())
    }

    /// Does it say that it drifts? It counts also when that is long ago: nobody has said otherwise since.
    pub fn drifts(&self) -> bool {
        self.says == ReportedState::State(State::Drifting)
    }

    /// Names and texts of the annotations that cannot be read.
    pub fn unreadable(&self) -> Vec<(&'static str, &str)> {
        let state = match &self.says {
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
        ];
        each.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
    }
}

impl ReportedState {
    /// The word in JSON, and the one that is counted.
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
            Some(Err(text)) => Self::Unreadable(escape_for_terminal(&text, CELL)),
        }
    }

    /// The value, if it is there and can be read.
    pub const fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// The text, if it is there and cannot be read.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Unreadable(text) => Some(text),
            Self::Absent | Self::Value(_) => None,
        }
    }
}

/// Text that others wrote, fit for a terminal: all that is not plain is shown as its escape, so that nothing moves the cursor,
/// hides, or turns the text around. Cut off after `longest` characters.
pub fn escape_for_terminal(text: &str, longest: usize) -> String {
    let mut clean = String::new();
    let mut length = 0;
    for c in text.chars() {
        // Our own words hold these two.
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
