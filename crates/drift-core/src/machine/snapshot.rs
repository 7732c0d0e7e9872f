//! The machine's state at one instant, computed when it is asked for.

use std::time::Duration;

use super::Machine;
use crate::estimate::{Candidate, PoolInterval, pool_intervals};
use crate::ntp::pool::Pool;
use crate::ntp::server::{Pace, Server};
use crate::report::history::History;
use crate::report::snapshot::{Counts, PoolSnapshot, ServerSnapshot, Snapshot, StepSnapshot};
use crate::time::interval::Interval;
use crate::time::{Bound, Measurement, Reading, Wall};
use crate::verdict::State;

impl Machine {
    /// Everything that is known at `now`.
    pub fn snapshot(&self, now: Reading) -> Snapshot {
        let measured = self.measured(now);
        let coarse = self.coarse(now);
        let mut leeway = self.settings.leeway.recommend(measured.or(coarse.offset()));
        if measured.is_none() && coarse.offset().is_some() {
            leeway.reason.push_str("; coarse, by HTTP Date headers alone");
        }
        let reference = self.reference(now);
        let last_age = self.stepper.last().zip(reference).map(|(last, reference)| {
            Duration::from_nanos(u64::try_from(reference.minus(last.at).as_nanos()).unwrap_or(0))
        });
        Snapshot {
            state: self.verdict.state(),
            ready: self.ready,
            measured,
            reference,
            node_time: now.wall,
            estimate_age: self.estimate.age(now.raw),
            pools_agreeing: self.pools_agreeing(now),
            is_contradiction: self.estimate.is_contradiction(),
            pools_independent: self.independence.verdict(),
            rate: Some(self.estimate.rate().at(now.raw)).filter(|rate| rate.is_known()),
            threshold: self.settings.threshold,
            pools: self.pool_snapshots(now),
            coarse,
            leeway,
            step: StepSnapshot {
                mode: self.settings.step.mode,
                last_text: self.stepper.last_text(),
                last: self.stepper.last().cloned(),
                last_age,
                answer: self.stepper.answer().cloned(),
                counts: self.stepper.counts().clone(),
            },
            daemon: self.daemon.clone(),
            signals: self.detector.available(),
            rtc_uncertainty: self.detector.rtc_uncertainty(now),
            counts: Counts {
                samples: self.counts.samples.clone(),
                writes: self.outbox.requests().clone(),
                resumes: self.counts.resumes,
            },
        }
    }

    /// The verdict in force.
    pub fn state(&self) -> State {
        self.verdict.state()
    }

    /// Offset, bound and verdict of the last two hours, and the events in them.
    pub fn history(&self) -> &History {
        &self.history
    }

    pub(super) fn record_history(&mut self, now: Reading) {
        let (reference, measured) = (self.reference(now), self.measured(now));
        self.history.note(now, self.verdict.state(), measured, reference);
    }

    /// The offset now. Pools that contradict each other give one only where it decides the state: all that any
    /// of them allows.
    pub fn measured(&self, now: Reading) -> Option<Measurement> {
        let decides = || self.verdict.state().has_offset();
        let measured =
            self.estimate.measured(now).or_else(|| self.estimate.contradiction(now).filter(|_| decides()));
        measured.filter(|_| self.rounds.is_measured())
    }

    /// Reference time now, by the last agreement of the servers, however old; without one, by the offset of
    /// pools that contradict each other and decide the state all the same.
    pub(super) fn reference(&self, now: Reading) -> Option<Wall> {
        let by_contradiction = || self.measured(now).map(|measured| now.wall.plus(measured.offset));
        self.estimate.reference(now).or_else(by_contradiction)
    }

    /// How many pools agree on the offset; none, where it has become stale since.
    pub(super) fn pools_agreeing(&self, now: Reading) -> usize {
        self.estimate.measured(now).map_or(0, |_| self.estimate.pools_agreeing())
    }

    fn pool_snapshots(&self, now: Reading) -> Vec<PoolSnapshot> {
        let candidates = self.rounds.candidates(now.raw, self.estimate.rate(), self.settings.stale_after);
        let intervals = pool_intervals(&candidates, self.tolerance());
        let pools = self.rounds.pools.iter().enumerate();
        pools.map(|(n, pool)| self.pool_snapshot(n, pool, intervals.get(&n), &candidates, now)).collect()
    }

    fn pool_snapshot(
        &self,
        index: usize,
        pool: &Pool,
        own: Option<&PoolInterval>,
        candidates: &[Candidate],
        now: Reading,
    ) -> PoolSnapshot {
        let (rate, pace) = (self.estimate.rate(), self.rounds.pace());
        let best_samples = pool.servers.iter().filter_map(|s| s.best_sample(now.raw, rate, pace.stale_after));
        let best = best_samples.min_by_key(|sample| sample.bound);
        let newest = pool.servers.iter().filter_map(Server::newest_sample).map(|sample| sample.at).max();
        let shared = || self.independence.shared().find(|(a, b)| *a == index || *b == index);
        PoolSnapshot {
            name: pool.name.clone(),
            measured: own.and_then(|own| own.majority).map(|i| offset_of(i, now)),
            is_falseticker: self.estimate.is_falseticker(index),
            assumed_root_distance: self.settings.root_distances.get(&index).copied(),
            same_server_as: shared().map(|(a, b)| if a == index { b } else { a }),
            announces_leap: self.rounds.announces_leap(pool, now.raw),
            round_trip: best.map(|s| s.round_trip),
            root_distance: best.map(|s| s.root_distance),
            stratum: best.map(|s| s.stratum),
            sample_age: newest.map(|at| now.raw.since(at)),
            resolve_error: pool.resolve_error.clone(),
            servers: pool.servers.iter().map(|s| self.server_snapshot(s, candidates, pace, now)).collect(),
        }
    }

    fn server_snapshot(
        &self,
        server: &Server,
        candidates: &[Candidate],
        pace: Pace,
        now: Reading,
    ) -> ServerSnapshot {
        let interval = candidates.iter().find(|c| c.server == server.id).map(|c| c.interval);
        let agreed = self.estimate.agreed(now.raw);
        ServerSnapshot {
            address: server.address,
            state: server.state(now.raw, pace),
            is_falseticker: interval.zip(agreed).is_some_and(|(own, agreed)| !own.meets(agreed)),
            measured: interval.map(|interval| offset_of(interval, now)),
            last: server.last,
            rejected: server.rejected.map(|(at, reason)| (now.raw.since(at), reason)),
        }
    }

    /// Has every pool been measured, or been asked often enough, since the start or a disruption, and would
    /// further quick rounds decide nothing? `check` ends then.
    pub fn has_settled(&self, now: Reading) -> bool {
        // Each further sample shows the rate of the raw clock better, and so narrows the bound to that of the
        // best sample.
        let best = self.rounds.best_bound().map(Bound::as_duration);
        let is_decidable =
            self.estimate.measured(now).is_some() && best.is_some_and(|best| best < self.settings.threshold);
        let is_deciding = self.verdict.state() == State::Unknown && is_decidable && self.rounds.is_quick();
        self.rounds.has_settled() && !is_deciding
    }
}

fn offset_of(interval: Interval, now: Reading) -> Measurement {
    Measurement::new(interval.middle().minus(now.origin()), interval.bound())
}
