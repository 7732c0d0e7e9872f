//! Requests by the Node's annotation, and their answers.

use super::outcome::Outcome;
use super::policy::{RequestedBy, Trigger};

/// Requests by the Node's annotation.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The answers of an earlier run are known.
    is_restored: bool,
    /// A request that came before that.
    early: Option<String>,
    /// The annotation `step-result`: `ID: sentence`.
    answer: Option<String>,
}

impl Requests {
    /// The annotation `step-result`.
    pub(super) fn answer(&self) -> Option<&String> {
        self.answer.as_ref()
    }

    /// Are the annotations of an earlier run known?
    pub(super) fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// Takes over the answer of an earlier run, unless this run has given one. Returns the request that came before
    /// that.
    pub(super) fn restore(&mut self, answer: Option<&str>) -> Option<String> {
        if self.answer.is_none() {
            self.answer = answer.map(str::to_owned);
        }
        self.is_restored = true;
        self.early.take()
    }

    /// The trigger of a request, unless it was answered. One that comes before the answers are known waits for them.
    pub(super) fn accept(&mut self, id: String) -> Option<Trigger> {
        if !self.is_restored {
            self.early = Some(id);
            return None;
        }
        let is_answered = self.answer.as_ref().is_some_and(|answer| answer.starts_with(&answer_prefix(&id)));
        (!is_answered).then_some(Trigger::Operator(RequestedBy::Annotation(id)))
    }

    /// Keeps the outcome as the answer, if a request has led to it.
    pub(super) fn note_outcome(&mut self, outcome: &Outcome) {
        if let Trigger::Operator(RequestedBy::Annotation(id)) = &outcome.trigger {
            self.answer = Some(answer_prefix(id) + &outcome.sentence());
        }
    }
}

/// How the answer to a request begins.
fn answer_prefix(id: &str) -> String {
    format!("{id}: ")
}
