//! The machine's state at one instant, computed when it is asked for.

use std::time::Duration;

use super::Machine;
use crate::estimate::majority;
use crate::ntp::pool::Pool;
use crate::ntp::server::Server;
use crate::report::history::History;
use crate::report::snapshot::{Counts, PoolSnapshot, ServerSnapshot, Snapshot, StepSnapshot};
use crate::time::line::{Frequency, Interval};
use crate::time::{Measurement, Mono, Reading};

impl Machine {
    /// Everything that is known at `now`.
    pub fn snapshot(&self, now: Reading) -> Snapshot {
        let measured = self.estimate.measured(now);
        let coarse = self.coarse(now);
        let known = measured.filter(|_| self.verdict.state().has_offset());
        let mut leeway = self.settings.leeway.recommend(known.or(coarse.offset()));
        if known.is_none() && coarse.offset().is_some() {
            leeway.reason.push_str("; coarse, by HTTP Date headers alone");
        }
        let reference = self.estimate.reference(now);
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
            pools_agreeing: self.estimate.pools_agreeing(),
            frequency: Some(self.estimate.frequency()).filter(|f| f.is_precise()).map(Frequency::middle),
            threshold: self.settings.threshold,
            pools: self.rounds.pools.iter().map(|p| self.pool_snapshot(p, now)).collect(),
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

    /// Offset, bound and verdict of the last two hours, and the events in them.
    pub fn history(&self) -> &History {
        &self.history
    }

    pub(super) fn record_history(&mut self, now: Reading) {
        let reference = self.estimate.reference(now);
        let measured = self.estimate.measured(now);
        self.history.note(now, self.verdict.state(), measured, reference);
    }

    fn pool_snapshot(&self, pool: &Pool, now: Reading) -> PoolSnapshot {
        let frequency = self.estimate.frequency();
        let stale_after = self.settings.stale_after;
        let leaders: Vec<_> =
            pool.servers.iter().filter_map(|s| s.leader(now.raw, frequency, stale_after)).collect();
        let intervals: Vec<Interval> = leaders.iter().map(|l| l.interval).collect();
        let best = leaders.iter().min_by_key(|l| l.interval.bound()).map(|l| l.sample);
        PoolSnapshot {
            name: pool.name.clone(),
            measured: majority(&intervals).map(|i| offset_of(i, now)),
            round_trip: best.map(|s| s.round_trip),
            root_distance: best.map(|s| s.root_distance),
            stratum: best.map(|s| s.stratum),
            sample_age: pool
                .servers
                .iter()
                .filter_map(Server::newest_sample)
                .max()
                .map(|at| now.raw.since(at)),
            resolve_error: pool.resolve_error.clone(),
            servers: pool.servers.iter().map(|s| self.server_snapshot(s, now)).collect(),
        }
    }

    fn server_snapshot(&self, server: &Server, now: Reading) -> ServerSnapshot {
        let frequency = self.estimate.frequency();
        let leader = server.leader(now.raw, frequency, self.settings.stale_after);
        let agreed = self.estimate.agreed(now.raw);
        ServerSnapshot {
            address: server.address,
            state: server.state(now.raw),
            is_falseticker: leader.zip(agreed).is_some_and(|(l, a)| !l.interval.meets(a)),
            measured: leader.map(|l| offset_of(l.interval, now)),
            last: server.last,
            rejected: server.rejected.map(|(at, reason)| (now.raw.since(at), reason)),
        }
    }

    /// Has the first burst ended, or the burst after a resume? `check` ends then.
    pub fn has_settled(&self, now: Mono) -> bool {
        self.rounds.has_settled(now)
    }
}

fn offset_of(interval: Interval, now: Reading) -> Measurement {
    Measurement::new(interval.middle().minus(now.origin()), interval.bound())
}
