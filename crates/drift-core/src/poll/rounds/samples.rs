//! What the servers' samples show: their intervals for the estimate, and which servers are falsetickers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Rounds;
use crate::estimate::{Candidate, Combined};
use crate::ntp::pool::Pool;
use crate::ntp::sample::Source;
use crate::ntp::server::{MISSES_TO_ABSTAIN, Server, ServerId};
use crate::time::rate::Rate;
use crate::time::{Bound, Mono};

impl Rounds {
    /// The interval of each reachable server now, by samples younger than `max_age`.
    pub fn candidates(&self, now: Mono, rate: Rate, max_age: Duration) -> Vec<Candidate> {
        let max_age = max_age.min(self.pace.stale_after);
        let candidate = |pool: usize, server: &Server| {
            let interval = server.interval(now, rate, max_age)?;
            Some(Candidate { pool, server: server.id, interval, newest: server.newest_sample()?.at })
        };
        self.by_pool().filter_map(|(pool, server)| candidate(pool, server)).collect()
    }

    /// The same, by the newest sample of each server alone, if it was taken since `since`: of the pools for which most of
    /// the servers speak that can. If the others have lost a packet, a falseticker must not speak for its pool. A server
    /// that contradicts itself gives all that its samples allow.
    pub fn newest(&self, since: Mono, now: Mono, rate: Rate) -> Vec<Candidate> {
        let max_age = self.pace.stale_after;
        let has_spoken = |server: &Server| server.newest_sample().is_some_and(|sample| sample.at >= since);
        let can_speak = |server: &&Server| {
            has_spoken(server) || (server.is_reachable(now, max_age) && server.misses() < MISSES_TO_ABSTAIN)
        };
        let is_heard = |pool: &Pool| {
            let spoken = pool.servers.iter().filter(|server| has_spoken(server)).count();
            spoken * 2 > pool.servers.iter().filter(can_speak).count()
        };
        let candidate = |pool: usize, server: &Server| {
            let sample = server.newest_sample().filter(|sample| sample.at >= since)?;
            let interval = if server.is_inconsistent() {
                server.interval(now, rate, max_age)?
            } else {
                rate.carry(sample.interval(rate), sample.at, now)
            };
            Some(Candidate { pool, server: server.id, interval, newest: sample.at })
        };
        let heard = self.pools.iter().enumerate().filter(|(_, pool)| is_heard(pool));
        heard.flat_map(|(index, pool)| pool.servers.iter().filter_map(move |s| candidate(index, s))).collect()
    }

    /// When the newest sample of all was taken.
    pub fn newest_at(&self) -> Option<Mono> {
        self.newest_samples().map(|(_, sample)| sample.at).max()
    }

    /// The smallest bound of a newest sample, without what the rate of the raw clock adds.
    pub fn best_bound(&self) -> Option<Bound> {
        self.newest_samples().map(|(_, sample)| sample.bound).min()
    }

    /// The clocks behind these samples, by pool.
    pub fn newest_sources(&self, since: Mono) -> Vec<(usize, Option<Source>)> {
        let young = self.newest_samples().filter(|(_, sample)| sample.at >= since);
        young.map(|(pool, sample)| (pool, sample.source)).collect()
    }

    /// The newest samples are those since the last complete judgement but one.
    pub fn newest_since(&self) -> Mono {
        self.completed.1
    }

    /// Marks the falsetickers after a round, for their replacement.
    ///
    /// Where the pools contradict each other, those servers that the fewest others support: which of them are
    /// right is not known, and another server of the pool may decide it.
    pub fn mark_falsetickers(&mut self, candidates: &[Candidate], combined: &Combined, is_complete: bool) {
        if !is_complete {
            return;
        }
        let is_false: BTreeSet<ServerId> = match combined {
            Combined::Nothing => return,
            Combined::Agree { interval, .. } => {
                candidates.iter().filter(|c| !c.interval.meets(*interval)).map(|c| c.server).collect()
            }
            Combined::Disagree { .. } => {
                let support =
                    |c: &Candidate| candidates.iter().filter(|o| o.interval.meets(c.interval)).count();
                let (least, most) =
                    (candidates.iter().map(support).min(), candidates.iter().map(support).max());
                let is_weak = |c: &&Candidate| least == most || Some(support(c)) != most;
                candidates.iter().filter(is_weak).map(|c| c.server).collect()
            }
        };
        for server in self.servers_mut() {
            server.false_rounds =
                if is_false.contains(&server.id) { server.false_rounds.saturating_add(1) } else { 0 };
        }
    }

    /// The first pool that announces a leap second, by index.
    pub fn leap_pool(&self, now: Mono) -> Option<usize> {
        self.pools.iter().position(|pool| self.announces_leap(pool, now))
    }

    /// Do most reachable servers of this pool announce a leap second? One server whose flag is stuck is no
    /// announcement.
    pub fn announces_leap(&self, pool: &Pool, now: Mono) -> bool {
        let reachable =
            || pool.servers.iter().filter(|server| server.is_reachable(now, self.pace.stale_after));
        reachable().filter(|server| server.announces_leap()).count() * 2 > reachable().count()
    }
}
