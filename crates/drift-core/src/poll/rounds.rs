//! When NTP servers are asked: as far as possible all of a node in one round, so that their samples are
//! compared at one instant.
//!
//! After a start and after a disruption the rounds come soon and then ever more slowly: the next one after as
//! long as was measured so far, so that a rate that is not known yet does not widen the bound by more than
//! the samples did.

mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::io::{Effect, LogEvent};
use crate::ntp::manners::{MIN_SPACING, MannersMemory};
use crate::ntp::pool::{Pool, Resolution, take_id};
use crate::ntp::reject::RejectReason;
use crate::ntp::sample::Sample;
use crate::ntp::server::{Answer, Ask, Pace, Server, ServerId};
use crate::time::rate::Rate;
use crate::time::{Measurement, Mono, Reading};

/// How long after the time-out of its exchanges a round ends without the missing answers.
const ROUND_GRACE: Duration = Duration::from_millis(500);
/// Rounds after a request for quick ones that count as quick: at 0, 2, 4 and 8 s.
const QUICK_ROUNDS: u8 = 4;
/// Exchanges without a sample after which a pool without any is given up for the first verdict. A server with
/// a rate limit may answer only the third.
const ATTEMPTS_TO_SETTLE: u8 = 3;

/// What a round gave, when it is time to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Every pool with a reachable server has given a new sample since the last such judgement, as far as it still
    /// answers.
    pub is_complete: bool,
}

/// The pools, and the round that is under way.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// The pools in the order of the settings.
    pub pools: Vec<Pool>,
    pace: Pace,
    time_out: Duration,
    round: Option<Round>,
    /// The last round in which all servers were asked.
    last_regular: Option<Mono>,
    /// The first round with a sample, since the start or the last request for quick rounds.
    measuring_since: Option<Mono>,
    /// Quick rounds that are left.
    quick_left: u8,
    /// A round is due at once.
    is_due: bool,
    /// The phase of the node: polls at the full interval come at this time, modulo the interval.
    phase: Mono,
    /// Pools whose first look-up has neither succeeded nor failed: the first round waits for them.
    unresolved: BTreeSet<usize>,
    /// Pools that have given a sample since the last complete judgement.
    fresh: BTreeSet<usize>,
    /// When that was, and when the one before it was.
    completed: (Mono, Mono),
    /// By pool: since the start or the last disruption, exchanges without a sample in a row; `None` once there was one.
    attempts: Vec<Option<u8>>,
    /// By pool: it gave no sample the last time that it was asked, or was to be asked. A round is complete without it.
    has_missed: Vec<bool>,
    manners: MannersMemory,
    next_id: u32,
}

/// A round that is under way.
#[derive(Clone, Debug)]
struct Round {
    started: Mono,
    /// Servers that have not answered yet.
    waiting: BTreeSet<ServerId>,
    pools: Vec<PoolRound>,
    has_new: bool,
    is_judged: bool,
    /// It was judged complete. A round counts once.
    was_complete: bool,
}

/// One pool's part of a round: numbers of servers.
#[derive(Clone, Copy, Debug, Default)]
struct PoolRound {
    asked: u32,
    /// Those that answered the last time, so that a sample is expected.
    expected: u32,
    /// Those that gave a sample.
    given: u32,
}

impl Rounds {
    /// No round is under way; every name is due to be resolved.
    ///
    /// `limit`: servers per pool; `seed`: of the node's random phase.
    pub fn new(names: &[String], limit: usize, pace: Pace, time_out: Duration, seed: u64, now: Mono) -> Self {
        // Each node has a random phase: a fleet that starts at one instant does not ask in step ever after.
        let phase = now.plus(pace.interval.mul_f64(fastrand::Rng::with_seed(seed).f64()));
        Self {
            pools: names.iter().map(|n| Pool::new(n.clone(), limit, now)).collect(),
            pace,
            time_out,
            round: None,
            last_regular: None,
            measuring_since: None,
            quick_left: QUICK_ROUNDS,
            is_due: true,
            phase,
            unresolved: (0..names.len()).collect(),
            fresh: BTreeSet::new(),
            completed: (now, now),
            attempts: vec![Some(0); names.len()],
            has_missed: vec![false; names.len()],
            manners: MannersMemory::default(),
            next_id: 0,
        }
    }

    /// Interval and age of a stale sample.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Starts what is due. Returns what there is to judge, if this ended a round because its remaining servers did
    /// not answer before the time-out.
    pub fn tick(&mut self, now: Reading, out: &mut Vec<Effect>) -> Option<Judged> {
        let pace = self.pace;
        let probed: BTreeSet<usize> = (0..)
            .zip(&mut self.pools)
            .filter_map(|(index, pool)| pool.take_probe(now.raw, pace).then_some(index))
            .collect();
        for (index, pool) in self.pools.iter_mut().enumerate() {
            if pool.take_resolve(now.raw) {
                out.push(Effect::Resolve { pool: index });
            }
        }
        let may_ask = self.unresolved.is_empty();
        let is_regular = may_ask && self.next_regular(now.raw).is_some_and(|at| at <= now.raw);
        // A server that does not answer for longer than an interval must not keep the round from its end.
        let is_over = self.round.as_ref().is_some_and(|round| is_regular || now.raw >= self.deadline(round));
        let judged = is_over.then(|| self.end_round(now.raw)).flatten();
        if may_ask {
            self.ask(now, is_regular, &probed, out);
        }
        judged
    }

    /// Asks all servers in a regular round, and otherwise those that are probed or new.
    fn ask(&mut self, now: Reading, is_regular: bool, probed: &BTreeSet<usize>, out: &mut Vec<Effect>) {
        let Pace { interval, stale_after } = self.pace;
        let mut asked: Vec<(usize, ServerId, bool)> = Vec::new();
        for (index, pool) in self.pools.iter_mut().enumerate() {
            let client = pool.client;
            let is_urgent = !pool.is_reachable(now.raw, stale_after);
            for server in &mut pool.servers {
                let is_soon = server.soon_at(now.raw, interval).is_some_and(|at| at <= now.raw);
                if !(is_regular || is_soon || probed.contains(&index)) {
                    continue;
                }
                if let Some(ask) = server.ask(now, interval, is_urgent, self.quick_left == 0) {
                    asked.push((index, server.id, ask == Ask::Sample && server.misses() == 0));
                    self.manners.note(server.address, server.manners(), now.raw);
                    let (server, address) = (server.id, server.address);
                    out.push(Effect::Query { pool: index, server, address, client, ask });
                }
            }
        }
        self.note_turns(now.raw, is_regular, probed, &asked);
        if is_regular {
            self.last_regular = Some(now.raw);
            self.is_due = false;
            self.quick_left = self.quick_left.saturating_sub(1);
        }
        if asked.is_empty() {
            return;
        }
        let count = self.pools.len();
        let round = self.round.get_or_insert_with(|| Round {
            started: now.raw,
            waiting: BTreeSet::new(),
            pools: vec![PoolRound::default(); count],
            has_new: false,
            is_judged: false,
            was_complete: false,
        });
        round.started = now.raw;
        for (pool, server, is_expected) in asked {
            round.waiting.insert(server);
            if let Some(pool) = round.pools.get_mut(pool) {
                pool.asked += 1;
                pool.expected += u32::from(is_expected);
            }
        }
    }

    /// A pool of which no server may be asked, because of kisses-o'-death, has had its turn all the same.
    fn note_turns(
        &mut self,
        now: Mono,
        is_regular: bool,
        probed: &BTreeSet<usize>,
        asked: &[(usize, ServerId, bool)],
    ) {
        for (index, pool) in self.pools.iter().enumerate() {
            let is_wanted = is_regular || probed.contains(&index);
            let is_asked = asked.iter().any(|(pool, ..)| *pool == index);
            if !is_wanted || is_asked || !pool.servers.iter().all(|server| server.is_held_back(now)) {
                continue;
            }
            if let Some(Some(attempts)) = self.attempts.get_mut(index) {
                *attempts = attempts.saturating_add(1);
            }
            if let Some(has_missed) = self.has_missed.get_mut(index) {
                *has_missed = true;
            }
        }
    }

    /// When all servers are asked next; `None`: not before one of them has answered.
    fn next_regular(&self, now: Mono) -> Option<Mono> {
        let interval = self.pace.interval;
        if self.is_due {
            // At once, or as soon as the manners allow it for one of them.
            return self.servers().filter_map(|s| s.next_at(now, interval)).min();
        }
        let last = self.last_regular?;
        let spacing = MIN_SPACING.min(interval);
        // Before the first sample, pools are probed.
        let wait = self.measuring_since.map_or(interval, |since| last.since(since).clamp(spacing, interval));
        let at = last.plus(wait);
        if wait < interval {
            return Some(at);
        }
        // The first time after `last` that keeps the phase, but not too soon.
        let away = at.as_nanos().wrapping_sub(self.phase.as_nanos());
        let period = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX).max(1);
        let early = Duration::from_nanos(away.rem_euclid(period).unsigned_abs());
        let on_phase =
            Mono::from_nanos(at.as_nanos().saturating_sub(i64::try_from(early.as_nanos()).unwrap_or(0)));
        Some(if on_phase.since(last) >= spacing { on_phase } else { at })
    }

    fn deadline(&self, round: &Round) -> Mono {
        round.started.plus(self.time_out.saturating_add(ROUND_GRACE))
    }

    /// Rounds start at least this often from now on.
    pub fn limit_interval(&mut self, interval: Duration) {
        self.pace.interval = self.pace.interval.min(interval);
    }

    /// Asks all servers as soon as manners allow, and then quickly again. After a disruption (`is_disrupted`)
    /// each may be asked once sooner than that.
    pub fn request_quick_rounds(&mut self, is_disrupted: bool) {
        (self.is_due, self.quick_left, self.measuring_since) = (true, QUICK_ROUNDS, None);
        if is_disrupted {
            self.servers_mut().for_each(Server::grant_extra);
        }
    }

    /// Measures the rate from the start: the next polls come quickly.
    pub fn restart(&mut self, now: Mono) {
        (self.measuring_since, self.quick_left) = (Some(now), QUICK_ROUNDS);
    }

    /// No server counts as one that contradicts itself by what it gave so far.
    pub fn forgive(&mut self) {
        self.servers_mut().for_each(Server::forgive);
    }

    /// Will more rounds come soon, or is one under way that was not judged yet?
    pub fn is_quick(&self) -> bool {
        self.quick_left > 0 || self.round.as_ref().is_some_and(|round| !round.is_judged)
    }

    /// Has every pool given a sample, or been asked often enough, since the start or the last disruption? A
    /// verdict must not rest on one pool because another has lost a packet.
    pub fn is_measured(&self) -> bool {
        // One attempt less where another pool has answered: the clock is measured.
        let enough = ATTEMPTS_TO_SETTLE - u8::from(self.attempts.contains(&None));
        let is_measured = |(pool, attempts): (&Pool, &Option<u8>)| match attempts {
            None => true,
            Some(attempts) => *attempts >= enough || pool.servers.is_empty(),
        };
        self.unresolved.is_empty() && self.pools.iter().zip(&self.attempts).all(is_measured)
    }

    /// The same, and the last round was judged?
    pub fn has_settled(&self) -> bool {
        self.is_measured() && self.round.as_ref().is_none_or(|round| round.is_judged)
    }

    /// There is no time left: pools that have not answered are not waited for.
    pub fn give_up(&mut self) {
        self.quick_left = 0;
        self.unresolved.clear();
        for attempts in self.attempts.iter_mut().flatten() {
            *attempts = ATTEMPTS_TO_SETTLE;
        }
    }

    /// Takes in the result of a look-up.
    pub fn handle_resolved(
        &mut self,
        index: usize,
        answer: Result<Resolution, String>,
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        self.unresolved.remove(&index);
        let answer = answer.and_then(|resolution| self.without_shared_addresses(index, resolution));
        let pace = self.pace;
        let Some(pool) = self.pools.get_mut(index) else { return };
        let before = (pool.servers.is_empty(), pool.resolve_error.clone());
        pool.handle_resolved(answer, now, pace, &mut self.next_id);
        adopt_manners(pool, &self.manners, now);
        let name = pool.name.clone();
        match &pool.resolve_error {
            Some(error) if before.1.as_ref() != Some(error) => {
                out.push(Effect::Log(LogEvent::PoolUnresolved { pool: name, reason: error.clone() }));
            }
            None if before.0 || before.1.is_some() => {
                out.push(Effect::Log(LogEvent::PoolResolved { pool: name, servers: pool.servers.len() }));
            }
            _ => {}
        }
    }

    /// Without the addresses that another pool already has: a server counts once, and a pool cannot confirm
    /// itself.
    fn without_shared_addresses(
        &self,
        index: usize,
        mut resolution: Resolution,
    ) -> Result<Resolution, String> {
        let others =
            || self.pools.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, pool)| pool);
        let before = resolution.addresses.len();
        resolution.addresses.retain(|address| !others().any(|pool| pool.contains(*address)));
        if resolution.addresses.is_empty() && before > 0 {
            return Err("all of its addresses belong to another pool, which cannot confirm itself".to_owned());
        }
        Ok(resolution)
    }

    /// Takes in the result of an exchange. Returns the index of the server's pool, the reason to count, and what there
    /// is to judge now.
    pub fn handle_answer(
        &mut self,
        id: ServerId,
        answer: Answer,
        now: Reading,
        rate: Rate,
        out: &mut Vec<Effect>,
    ) -> Answered {
        let pace = self.pace;
        let found = self.pools.iter_mut().enumerate().find_map(|(index, pool)| {
            let server = pool.servers.iter_mut().find(|s| s.id == id)?;
            let rejected = server.handle_answer(answer, now.raw, rate, pace);
            self.manners.note(server.address, server.manners(), now.raw);
            out.push(Effect::Log(exchange_event(pool.name.clone(), server.address, answer, now)));
            out.extend(server.take_log_change().map(|result| {
                let (pool, server) = (pool.name.clone(), server.address);
                Effect::Log(match result {
                    Ok(()) => LogEvent::ServerAccepted { pool, server },
                    Err(reason) => LogEvent::ServerRejected { pool, server, reason },
                })
            }));
            Some((index, rejected))
        });
        let is_sample = found.is_some() && matches!(answer, Answer::Sample(_));
        let pool = found.map(|(index, _)| index);
        if is_sample && let Some(pool) = pool {
            self.handle_sample(pool, now.raw);
        }
        let judged = self.note_answer(pool, id, is_sample, now.raw);
        Answered { pool, rejected: found.and_then(|(_, rejected)| rejected), judged }
    }

    fn handle_sample(&mut self, pool: usize, now: Mono) {
        self.fresh.insert(pool);
        if let Some(attempts) = self.attempts.get_mut(pool) {
            *attempts = None;
        }
        if let Some(has_missed) = self.has_missed.get_mut(pool) {
            *has_missed = false;
        }
        let started = self.round.as_ref().map_or(now, |round| round.started);
        self.measuring_since = self.measuring_since.or(Some(started));
    }

    fn note_answer(
        &mut self,
        pool: Option<usize>,
        id: ServerId,
        is_sample: bool,
        now: Mono,
    ) -> Option<Judged> {
        let Some(round) = self.round.as_mut() else {
            // It came after its round.
            return is_sample.then(|| self.judge(false, now));
        };
        round.waiting.remove(&id);
        round.has_new |= is_sample;
        if is_sample && let Some(pool) = pool.and_then(|pool| round.pools.get_mut(pool)) {
            pool.given += 1;
        }
        if round.waiting.is_empty() {
            return self.end_round(now);
        }
        // A majority of each pool from which samples are expected.
        let has_majorities =
            round.pools.iter().all(|pool| pool.expected == 0 || pool.given * 2 > pool.expected);
        if round.is_judged || !has_majorities || !round.has_new {
            return None;
        }
        (round.is_judged, round.has_new) = (true, false);
        let was_complete = round.was_complete;
        let judged = self.judge(was_complete, now);
        if let Some(round) = &mut self.round {
            round.was_complete |= judged.is_complete;
        }
        Some(judged)
    }

    /// `None`: everything has been judged already.
    fn end_round(&mut self, now: Mono) -> Option<Judged> {
        let round = self.round.take()?;
        for (attempts, pool) in self.attempts.iter_mut().zip(&round.pools) {
            if let Some(attempts) = attempts
                && pool.asked > 0
            {
                *attempts = attempts.saturating_add(1);
            }
        }
        let judged = (!round.is_judged || round.has_new).then(|| self.judge(round.was_complete, now));
        // Not before: one packet may get lost.
        for (has_missed, pool) in self.has_missed.iter_mut().zip(&round.pools) {
            *has_missed |= pool.asked > 0 && pool.given == 0;
        }
        let pace = self.pace;
        for pool in &mut self.pools {
            pool.replace_unusable(now, pace, &mut self.next_id);
            adopt_manners(pool, &self.manners, now);
        }
        judged
    }

    fn judge(&mut self, was_complete: bool, now: Mono) -> Judged {
        let stale_after = self.pace.stale_after;
        let is_awaited =
            |(pool, has_missed): &(&Pool, &bool)| pool.is_reachable(now, stale_after) && !**has_missed;
        let mut awaited =
            self.pools.iter().zip(&self.has_missed).enumerate().filter(|(_, pool)| is_awaited(pool));
        let is_complete = !self.fresh.is_empty() && awaited.all(|(index, _)| self.fresh.contains(&index));
        if was_complete {
            self.fresh.clear();
            return Judged { is_complete: false };
        }
        if is_complete {
            self.fresh.clear();
            self.completed = (now, self.completed.0);
        }
        Judged { is_complete }
    }

    /// Discards the samples from before `since`: the raw clock, or the time of all servers, has jumped.
    pub fn forget_before(&mut self, since: Mono) {
        self.servers_mut().for_each(|server| server.forget_before(since));
    }

    /// Discards all samples, and the answers that are still on their way: the raw clock did not count all of
    /// the time. Returns the new number of each server, by the old one.
    pub fn discard_samples(&mut self) -> BTreeMap<ServerId, ServerId> {
        self.round = None;
        self.fresh.clear();
        self.attempts.fill(Some(0));
        self.measuring_since = None;
        let mut numbers = BTreeMap::new();
        for pool in &mut self.pools {
            pool.restart_probes();
            for server in &mut pool.servers {
                let id = take_id(&mut self.next_id);
                numbers.insert(server.id, id);
                server.handle_disruption(id);
            }
        }
        numbers
    }

    fn by_pool(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.pools
            .iter()
            .enumerate()
            .flat_map(|(index, pool)| pool.servers.iter().map(move |server| (index, server)))
    }

    fn newest_samples(&self) -> impl Iterator<Item = (usize, &Sample)> {
        self.by_pool().filter_map(|(pool, server)| Some((pool, server.newest_sample()?)))
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.pools.iter().flat_map(|p| &p.servers)
    }

    fn servers_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        self.pools.iter_mut().flat_map(|p| &mut p.servers)
    }

    /// How long until [`Self::tick`] has something to do; [`Duration::MAX`] for never.
    pub fn poll_timeout(&self, now: Mono) -> Duration {
        let interval = self.pace.interval;
        let lookups = self.pools.iter().filter_map(Pool::resolve_at);
        let probes = self.pools.iter().filter_map(Pool::probe_at);
        let asked = self.servers().filter_map(|s| s.soon_at(now, interval)).chain(self.next_regular(now));
        // The first round waits for the names.
        let asked = asked.chain(probes).filter(|_| self.unresolved.is_empty());
        let over = self.round.as_ref().map(|round| self.deadline(round));
        lookups.chain(asked).chain(over).min().map_or(Duration::MAX, |at| at.since(now))
    }
}

/// Servers that are new to a pool are not new to the agent.
fn adopt_manners(pool: &mut Pool, memory: &MannersMemory, now: Mono) {
    for server in &mut pool.servers {
        if let Some(manners) = memory.of(server.address, now) {
            server.adopt(manners);
        }
    }
}

/// What an answer has led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Index of the server's pool; `None`: no such server is asked any more.
    pub pool: Option<usize>,
    /// The reason to count, if anything was rejected.
    pub rejected: Option<RejectReason>,
    /// What there is to judge now.
    pub judged: Option<Judged>,
}

/// One exchange, for the log.
fn exchange_event(pool: String, server: SocketAddr, answer: Answer, now: Reading) -> LogEvent {
    match answer {
        Answer::Sample(sample) => LogEvent::SampleAccepted {
            pool,
            server,
            measured: Measurement::new(sample.origin.minus(now.origin()), sample.bound),
            round_trip: sample.round_trip,
        },
        Answer::Rejected(reason) => LogEvent::SampleRejected { pool, server, reason },
        Answer::CrossChecked(check) => LogEvent::CrossChecked {
            pool,
            server,
            measured: check
                .map(|c| Measurement::new(c.interval.middle().minus(now.origin()), c.interval.bound())),
        },
    }
}

#[cfg(test)]
mod tests;
