//! How the machine drives the [`Outbox`](crate::report::outbox::Outbox): it hands over what happened, and
//! turns what is due into effects.

use super::Machine;
use crate::io::{Effect, LogEvent};
use crate::report::node::{EventReason, Prior};
use crate::report::outbox::{EventTime, NodeRequest, Published};
use crate::report::publish::ApiError;
use crate::report::snapshot::best_time;
use crate::step::stepper::Triggered;
use crate::time::Reading;

impl Machine {
    /// Queues an event that happened at `now`.
    pub(super) fn raise(&mut self, reason: EventReason, note: String, now: Reading) {
        self.outbox.raise(reason, note, self.event_time(now), now.raw);
    }

    pub(super) fn event_time(&self, now: Reading) -> EventTime {
        let reference = self.reference(now);
        let best = best_time(reference, &self.coarse(now), now.wall);
        EventTime { best, is_reference: reference.is_some() }
    }

    pub(super) fn handle_written(
        &mut self,
        result: Result<(), ApiError>,
        now: Reading,
        out: &mut Vec<Effect>,
    ) {
        out.extend(self.outbox.handle_written(result, now.raw).map(|changed| {
            Effect::Log(changed.map_or_else(LogEvent::NodeWriteFailed, |()| LogEvent::NodeWriteRecovered))
        }));
    }

    pub(super) fn handle_sent(&mut self, result: Result<(), ApiError>, now: Reading, out: &mut Vec<Effect>) {
        out.extend(self.outbox.handle_sent(result, now.raw).map(|changed| {
            Effect::Log(changed.map_or_else(LogEvent::EventFailed, |()| LogEvent::EventRecovered))
        }));
    }

    /// Continues where an earlier run has ended.
    pub(super) fn restore(&mut self, prior: &Prior, now: Reading) {
        let (last_step, answer) = (prior.last_step.as_deref(), prior.step_result.as_deref());
        let triggered = self.stepper.restore(last_step, answer, now.raw);
        if triggered != Triggered::Nothing {
            self.rounds.request_quick_rounds(false);
        }
        let sentence = self.snapshot(now).sentence();
        self.outbox.handle_read(prior, self.verdict.state(), &sentence, self.event_time(now), now.raw);
    }

    /// Reads or writes the Node and sends an event, as far as either is due.
    pub(super) fn publish(&mut self, now: Reading, out: &mut Vec<Effect>) {
        if !self.ready {
            return;
        }
        let published = Published {
            state: self.verdict.state(),
            pools_agreeing: self.pools_agreeing(now),
            step_version: self.stepper.version(),
            last_step: self.stepper.last().map(|step| step.at),
            can_step: self.daemon.as_ref().is_none_or(|d| d.ready.is_ok()),
            is_coarse: self.coarse(now).offset().is_some(),
        };
        match self.outbox.take_request(published, now.raw) {
            Some(NodeRequest::Read) => out.push(Effect::ReadNode),
            Some(NodeRequest::Write) => {
                let snapshot = self.snapshot(now);
                out.push(Effect::WriteNode(self.outbox.report(&snapshot)));
            }
            None => {}
        }
        let (is_disrupted, time) = (self.estimate.is_disrupted(), self.event_time(now));
        out.extend(self.outbox.take_event(is_disrupted, time, now.raw).map(Effect::SendEvent));
    }
}
