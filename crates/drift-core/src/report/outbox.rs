//! What goes to the API server: the Node's status and events, when, and in which order.
//!
//! One status write and one event are under way at most. Changes are written at once, as far as the token
//! buckets allow; errors back off. The first request of a run reads the Node, so that the condition and the
//! events continue where an earlier run ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::node::{ConditionStatus, EventReason, NodeEvent, NodeReport, Prior};
use super::publish::{ApiError, Publisher, WRITTEN};
use super::snapshot::Snapshot;
use crate::time::backoff::{Backoff, Bucket};
use crate::time::{HOUR, Mono, Offset, Wall, nanos};
use crate::verdict::State;

/// How long an event waits for reference time after a disruption.
const EVENT_TIME_WAIT: Duration = Duration::from_secs(10);
/// Events that wait for the API server at most; the oldest are dropped.
const MAX_WAITING_EVENTS: usize = 4;
/// How often in an hour a write is due only because pools were lost or came back: others go with the next write.
const POOL_CHANGES_AN_HOUR: usize = 2;

/// What makes a status write due when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The verdict.
    pub state: State,
    /// Pools with a reachable server inside the estimate.
    pub pools_agreeing: usize,
    /// [`crate::step::stepper::Stepper::version`].
    pub step_version: u64,
    /// When the clock was last stepped. An agent that ends before it is written would step again too soon.
    pub last_step: Option<Wall>,
    /// The clock could be stepped, or that is not known yet.
    pub can_step: bool,
    /// There is an offset by HTTP `Date` headers.
    pub is_coarse: bool,
}

/// The time to publish with an event.
#[derive(Clone, Copy, Debug)]
pub struct EventTime {
    /// [`Snapshot::best_time`] now.
    pub best: Wall,
    /// Is it reference time, measured by NTP?
    pub is_reference: bool,
}

/// A request about the Node's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRequest {
    /// Read what an earlier run left.
    Read,
    /// Write [`Outbox::report`].
    Write,
}

/// An event that waits for the API server.
#[derive(Clone, Debug)]
struct WaitingEvent {
    /// When it happened, while its time is not final.
    undated_since: Option<Mono>,
    event: NodeEvent,
}

/// The Node's status and events on their way to the API server.
#[derive(Debug)]
pub struct Outbox {
    publisher: Publisher,
    /// The Node was read: what an earlier run left is known.
    is_restored: bool,
    last_published: Option<Published>,
    /// Writes of the last hour that were due only because the number of pools had changed.
    pool_changes: VecDeque<Mono>,
    /// The condition's status, and since when.
    transition: Option<(ConditionStatus, Wall)>,
    exceeded_since: Option<Wall>,
    write_error: Option<ApiError>,

    waiting: VecDeque<WaitingEvent>,
    sending: Option<NodeEvent>,
    event_bucket: Bucket,
    event_backoff: Backoff,
    /// No event is sent before.
    events_from: Mono,
    event_error: Option<ApiError>,

    requests: BTreeMap<&'static str, u64>,
    rng: fastrand::Rng,
}

impl Outbox {
    /// Empty. `seed` spreads the requests of a fleet.
    pub fn new(seed: u64, now: Mono) -> Self {
        Self {
            publisher: Publisher::new(now),
            is_restored: false,
            last_published: None,
            pool_changes: VecDeque::new(),
            transition: None,
            exceeded_since: None,
            write_error: None,
            waiting: VecDeque::new(),
            sending: None,
            event_bucket: Bucket::new(now),
            event_backoff: Backoff::default(),
            events_from: now,
            event_error: None,
            requests: std::iter::once(WRITTEN).chain(ApiError::LABELS).map(|label| (label, 0)).collect(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Requests to the API server so far, by result.
    pub fn requests(&self) -> &BTreeMap<&'static str, u64> {
        &self.requests
    }

    /// Queues an event that happened at `now`.
    pub fn raise(&mut self, reason: EventReason, note: String, time: EventTime, now: Mono) {
        let undated_since = (!time.is_reference).then_some(now);
        let event = NodeEvent { reason, note, at: time.best };
        self.waiting.push_back(WaitingEvent { undated_since, event });
        if self.waiting.len() > MAX_WAITING_EVENTS {
            self.waiting.pop_front();
        }
    }

    /// The verdict has changed, or was reached for the first time. The begin and the end of a drift are
    /// events.
    pub fn handle_verdict(&mut self, state: State, sentence: &str, time: EventTime, now: Mono) {
        match state {
            State::Drifting if self.exceeded_since.is_none() => {
                self.exceeded_since = Some(time.best);
                self.raise(EventReason::ClockDriftExceeded, sentence.to_owned(), time, now);
            }
            State::InSync if self.exceeded_since.take().is_some() => {
                self.raise(EventReason::ClockDriftCleared, sentence.to_owned(), time, now);
            }
            _ => {}
        }
    }

    /// The Node was read. The condition's transition goes on, and a drift that an earlier run has reported is
    /// not reported again. `state` and `sentence` are the verdict in force.
    pub fn handle_read(&mut self, prior: &Prior, state: State, sentence: &str, time: EventTime, now: Mono) {
        self.publisher.done_reading(now);
        self.is_restored = true;
        self.transition = prior.condition;
        let was_drifting = prior.condition.is_some_and(|(status, _)| status == ConditionStatus::True);
        let Some(since) = prior.exceeded_since.filter(|_| was_drifting) else { return };
        if self.exceeded_since.replace(since).is_some() {
            self.waiting.retain(|waiting| waiting.event.reason != EventReason::ClockDriftExceeded);
        } else if state == State::InSync {
            // The drift ended while no agent ran: its begin was an event, so its end is one.
            self.exceeded_since = None;
            self.raise(EventReason::ClockDriftCleared, sentence.to_owned(), time, now);
        }
    }

    /// The Node was written, or could not be read or written. Returns `result` when requests began to fail,
    /// or fail in another way than before, or succeed again.
    pub fn handle_written(
        &mut self,
        result: Result<(), ApiError>,
        now: Mono,
    ) -> Option<Result<(), ApiError>> {
        self.count(result);
        self.publisher.done(result, now, self.rng.f64());
        changed_result(&mut self.write_error, result)
    }

    /// There is no API server to write to: as good as written, but not counted.
    pub fn handle_write_skipped(&mut self, now: Mono) {
        self.publisher.done(Ok(()), now, self.rng.f64());
    }

    /// An event was sent, or not. A failed one is sent again before later ones, unless the API server has
    /// rejected this very event. Returns `result` as [`Self::handle_written`] does.
    pub fn handle_sent(&mut self, result: Result<(), ApiError>, now: Mono) -> Option<Result<(), ApiError>> {
        self.count(result);
        let event = self.sending.take();
        match result {
            Ok(()) | Err(ApiError::Rejected) => self.event_backoff = Backoff::default(),
            Err(error) => {
                self.event_bucket.put_back();
                self.events_from = now.plus(self.event_backoff.wait(error.retry_after(), self.rng.f64()));
                if let Some(event) = event.filter(|_| self.waiting.len() < MAX_WAITING_EVENTS) {
                    self.waiting.push_front(WaitingEvent { undated_since: None, event });
                }
            }
        }
        changed_result(&mut self.event_error, result)
    }

    /// There is no API server to send events to.
    pub fn handle_send_skipped(&mut self) {
        self.sending = None;
    }

    /// The request about the Node's status that is due, if one is. It counts as under way from now on.
    pub fn take_request(&mut self, published: Published, now: Mono) -> Option<NodeRequest> {
        let before = self.last_published.replace(published);
        let with_pools = |before| Published { pools_agreeing: published.pools_agreeing, ..before };
        if before.is_some_and(|before| before.last_step != published.last_step) {
            self.publisher.changed_for_good();
        } else if before.map(with_pools) != Some(published)
            || (before != Some(published) && self.may_write_pools(now))
        {
            self.publisher.changed();
        }
        let request = if self.is_restored { NodeRequest::Write } else { NodeRequest::Read };
        self.publisher.take(now).then_some(request)
    }

    /// A pool that is lost and comes back again and again must not have the Node written each time.
    fn may_write_pools(&mut self, now: Mono) -> bool {
        self.pool_changes.retain(|at| now.since(*at) < HOUR);
        let may = self.pool_changes.len() < POOL_CHANGES_AN_HOUR;
        if may {
            self.pool_changes.push_back(now);
        }
        may
    }

    /// What [`NodeRequest::Write`] writes.
    pub fn report(&mut self, snapshot: &Snapshot) -> NodeReport {
        let status = ConditionStatus::of(snapshot.state);
        let since = match self.transition {
            Some((before, since)) if before == status => since,
            _ => snapshot.best_time(),
        };
        self.transition = Some((status, since));
        NodeReport::new(snapshot, since, self.exceeded_since)
    }

    /// The event that is due, if one is. It counts as under way from now on. `is_disrupted`: nothing has been
    /// measured since a disruption, so an event waits up to [`EVENT_TIME_WAIT`] for reference time. It would
    /// carry the time of a clock that did not run otherwise.
    pub fn take_event(&mut self, is_disrupted: bool, time: EventTime, now: Mono) -> Option<NodeEvent> {
        if !self.is_restored || self.sending.is_some() || now < self.events_from {
            return None;
        }
        let first = self.waiting.front_mut()?;
        if let Some(since) = first.undated_since {
            let ago = now.since(since);
            if is_disrupted && ago < EVENT_TIME_WAIT {
                return None;
            }
            first.event.at = time.best.plus(Offset::from_nanos(-nanos(ago)));
            first.undated_since = None;
        }
        if !self.event_bucket.take(now) {
            return None;
        }
        self.sending = self.waiting.pop_front().map(|waiting| waiting.event);
        self.sending.clone()
    }

    /// How long no request becomes due by itself. An event that waits for a token or a time is checked with
    /// each tick.
    pub fn poll_timeout(&self, now: Mono) -> Duration {
        self.publisher.poll_timeout(now)
    }

    fn count(&mut self, result: Result<(), ApiError>) {
        *self.requests.entry(result.map_or_else(ApiError::label, |()| WRITTEN)).or_default() += 1;
    }
}

/// Keeps the error of the newest request. Returns `result` when it is of another kind than the one before.
fn changed_result(
    error: &mut Option<ApiError>,
    result: Result<(), ApiError>,
) -> Option<Result<(), ApiError>> {
    let before = std::mem::replace(error, result.err());
    (before.map(ApiError::label) != error.map(ApiError::label)).then_some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: EventTime = EventTime { best: Wall::from_secs(1_000), is_reference: true };

    fn at(secs: u64) -> Mono {
        Mono::from_nanos(0).plus(Duration::from_secs(secs))
    }

    fn published(state: State) -> Published {
        Published {
            state,
            pools_agreeing: 2,
            step_version: 0,
            last_step: None,
            can_step: true,
            is_coarse: false,
        }
    }

    fn outbox() -> Outbox {
        Outbox::new(1, at(0))
    }

    /// An outbox that has read a Node without annotations.
    fn restored() -> Outbox {
        let mut outbox = outbox();
        outbox.handle_read(&Prior::default(), State::InSync, "", REFERENCE, at(0));
        outbox
    }

    fn drifting_since(since: i64) -> Prior {
        Prior {
            condition: Some((ConditionStatus::True, Wall::from_secs(since))),
            exceeded_since: Some(Wall::from_secs(since)),
            ..Prior::default()
        }
    }

    /// The reasons of the events that are sent from `from` on, once a second, for a minute.
    fn sent(outbox: &mut Outbox, from: u64, result: Result<(), ApiError>) -> Vec<(u64, EventReason)> {
        let mut sent = Vec::new();
        for second in from..from + 60 {
            if let Some(event) = outbox.take_event(false, REFERENCE, at(second)) {
                sent.push((second, event.reason));
                let _ = outbox.handle_sent(result, at(second));
            }
        }
        sent
    }

    #[test]
    fn pools_that_come_and_go_have_the_node_written_twice_an_hour_and_all_else_does_at_once() {
        let mut outbox = restored();
        let mut written = Vec::new();
        for minute in 0..80 {
            let pools_agreeing = if minute % 2 == 0 { 2 } else { 1 };
            let state = if minute < 5 { State::InSync } else { State::Drifting };
            let now = at(minute * 60);
            if outbox.take_request(Published { pools_agreeing, ..published(state) }, now).is_some() {
                written.push(minute);
                let _ = outbox.handle_written(Ok(()), now);
            }
        }
        // Lost, back, the verdict, heartbeats, and again after an hour.
        assert_eq!(written[..4], [0, 1, 2, 5]);
        assert!(written.len() <= 14 && written.contains(&61) && written.contains(&62), "{written:?}");
    }

    #[test]
    fn the_node_is_read_before_it_is_written_and_written_again_only_for_changes() {
        let mut outbox = outbox();
        let (in_sync, drifting) = (published(State::InSync), published(State::Drifting));
        assert_eq!(outbox.take_request(in_sync, at(0)), Some(NodeRequest::Read));
        assert_eq!(outbox.take_request(in_sync, at(1)), None, "the read is under way");
        outbox.handle_read(&Prior::default(), State::InSync, "", REFERENCE, at(1));
        assert_eq!(outbox.take_request(in_sync, at(1)), Some(NodeRequest::Write));
        assert_eq!(outbox.handle_written(Ok(()), at(2)), None);
        assert_eq!(outbox.take_request(in_sync, at(3)), None);
        assert_eq!(outbox.take_request(drifting, at(3)), Some(NodeRequest::Write));
    }

    #[test]
    fn a_failed_read_is_tried_again_as_a_read() {
        let mut outbox = outbox();
        assert_eq!(outbox.take_request(published(State::InSync), at(0)), Some(NodeRequest::Read));
        let forbidden = Err(ApiError::Forbidden);
        assert_eq!(outbox.handle_written(forbidden, at(0)), Some(forbidden));
        assert_eq!(outbox.take_request(published(State::InSync), at(60)), Some(NodeRequest::Read));
        assert_eq!(outbox.handle_written(forbidden, at(60)), None, "reported once");
        assert_eq!((outbox.requests()["forbidden"], outbox.requests()[WRITTEN]), (2, 0));
        assert_eq!(outbox.handle_written(Ok(()), at(61)), Some(Ok(())), "succeeds again");
    }

    #[test]
    fn a_drift_is_an_event_at_its_begin_and_at_its_end_whatever_lies_between() {
        let mut outbox = restored();
        for state in [State::Drifting, State::Unknown, State::Drifting, State::InSync, State::InSync] {
            outbox.handle_verdict(state, "sentence", REFERENCE, at(1));
        }
        let events = sent(&mut outbox, 1, Ok(())).into_iter().map(|(_, reason)| reason);
        let expected = [EventReason::ClockDriftExceeded, EventReason::ClockDriftCleared];
        assert_eq!(events.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_drift_that_an_earlier_run_reported_is_not_reported_again() {
        let mut outbox = outbox();
        outbox.handle_verdict(State::Drifting, "sentence", REFERENCE, at(0));
        outbox.handle_read(&drifting_since(500), State::Drifting, "sentence", REFERENCE, at(0));
        assert_eq!(sent(&mut outbox, 1, Ok(())), []);
        assert_eq!(outbox.exceeded_since, Some(Wall::from_secs(500)));
    }

    #[test]
    fn a_drift_that_ended_while_no_agent_ran_is_reported_as_cleared() {
        let mut outbox = outbox();
        outbox.handle_read(&drifting_since(500), State::InSync, "sentence", REFERENCE, at(0));
        assert_eq!(sent(&mut outbox, 1, Ok(())), [(1, EventReason::ClockDriftCleared)]);
        assert_eq!(outbox.exceeded_since, None);
    }

    #[test]
    fn failed_events_keep_their_order_and_rejected_ones_are_dropped() {
        let raise_two = |outbox: &mut Outbox| {
            for reason in [EventReason::ClockStepFailed, EventReason::ClockStepped] {
                outbox.raise(reason, String::new(), REFERENCE, at(0));
            }
        };
        let mut outbox = restored();
        raise_two(&mut outbox);
        let failed = sent(&mut outbox, 1, Err(ApiError::Unreachable));
        assert!(failed.len() > 3 && failed.iter().all(|(_, reason)| *reason == EventReason::ClockStepFailed));
        let mut outbox = restored();
        raise_two(&mut outbox);
        let rejected = sent(&mut outbox, 1, Err(ApiError::Rejected));
        assert_eq!(rejected, [(1, EventReason::ClockStepFailed), (2, EventReason::ClockStepped)]);
    }

    #[test]
    fn the_oldest_of_more_than_four_waiting_events_is_dropped() {
        let mut outbox = restored();
        outbox.raise(EventReason::ClockStepFailed, String::new(), REFERENCE, at(0));
        for _ in 0..MAX_WAITING_EVENTS {
            outbox.raise(EventReason::ClockStepped, String::new(), REFERENCE, at(0));
        }
        let events = sent(&mut outbox, 1, Ok(()));
        assert_eq!((events.len(), events[0]), (3, (1, EventReason::ClockStepped)), "and one a minute later");
    }

    #[test]
    fn an_event_of_a_disruption_waits_for_reference_time_and_carries_the_time_at_which_it_happened() {
        let stopped = EventTime { best: Wall::from_secs(500), is_reference: false };
        let raised = || {
            let mut outbox = restored();
            outbox.raise(EventReason::VMResumeDetected, String::new(), stopped, at(10));
            outbox
        };
        let mut outbox = raised();
        assert_eq!(outbox.take_event(true, stopped, at(19)), None);
        let event = outbox.take_event(false, REFERENCE, at(19)).expect("measured by now");
        assert_eq!(event.at, Wall::from_secs(991));
        let event = raised().take_event(true, stopped, at(20)).expect("no measurement for 10 s");
        assert_eq!(event.at, Wall::from_secs(490));
    }
}
