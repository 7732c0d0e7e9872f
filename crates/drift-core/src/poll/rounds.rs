//! When NTP servers are asked: all servers of a node in one round, so that their samples are compared at one
//! instant.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::estimate::Candidate;
use crate::io::{Effect, LogEvent};
use crate::ntp::pool::{Pool, Resolution, take_id};
use crate::ntp::server::{Answer, BURST_SPACING, Server, ServerId};
use crate::time::line::Frequency;
use crate::time::{Measurement, Mono, Reading};

/// How long after the time-out of its exchanges a round ends without the missing answers.
const ROUND_GRACE: Duration = Duration::from_millis(500);

/// The pools, and the round that is under way.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// The pools in the order of the settings.
    pub pools: Vec<Pool>,
    interval: Duration,
    time_out: Duration,
    pending: BTreeSet<ServerId>,
    started: Option<Mono>,
    next_regular: Option<Mono>,
    /// Pools whose first look-up has neither succeeded nor failed: the first round waits for them.
    unresolved: BTreeSet<usize>,
    next_id: u32,
    rng: fastrand::Rng,
}

impl Rounds {
    /// No round is under way; every name is due to be resolved.
    ///
    /// `limit`: servers per pool; `seed`: of the node's random phase.
    pub fn new(
        names: &[String],
        limit: usize,
        interval: Duration,
        time_out: Duration,
        seed: u64,
        now: Mono,
    ) -> Self {
        Self {
            pools: names.iter().map(|n| Pool::new(n.clone(), limit, now)).collect(),
            interval,
            time_out,
            pending: BTreeSet::new(),
            started: None,
            next_regular: None,
            unresolved: (0..names.len()).collect(),
            next_id: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Starts what is due; `true` when this ended a round, because its remaining servers did not answer
    /// before the time-out.
    pub fn tick(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        for (pool, p) in self.pools.iter_mut().enumerate() {
            if p.take_resolve(now) {
                out.push(Effect::Resolve { pool });
            }
        }
        if !self.pending.is_empty() {
            let over = self.deadline().is_some_and(|at| at <= now);
            if over {
                self.end_round(now);
            }
            return over;
        }
        if !self.unresolved.is_empty() {
            return false;
        }
        let regular = self.next_regular.is_some_and(|at| at <= now);
        let burst = self.next_of_burst(now).is_some_and(|at| at <= now);
        if regular || burst {
            self.start_round(now, regular, out);
        }
        false
    }

    fn start_round(&mut self, now: Mono, regular: bool, out: &mut Vec<Effect>) {
        // Each node has a random phase: a fleet that starts at one instant does not ask in step ever after.
        let next = self.next_regular.unwrap_or_else(|| now.plus(self.interval.mul_f64(self.rng.f64())));
        self.next_regular = Some(if next <= now { self.next_on_grid(next, now) } else { next });
        self.started = Some(now);
        for (index, pool) in self.pools.iter_mut().enumerate() {
            let client = pool.client;
            for server in &mut pool.servers {
                if let Some(ask) = server.ask(now, regular.then_some(self.interval)) {
                    self.pending.insert(server.id);
                    let (server, address) = (server.id, server.address);
                    out.push(Effect::Query { pool: index, server, address, client, ask });
                }
            }
        }
    }

    /// The first time after `now` that keeps the phase.
    fn next_on_grid(&self, last: Mono, now: Mono) -> Mono {
        let missed = now.since(last).as_nanos() / self.interval.as_nanos().max(1);
        let steps = u32::try_from(missed + 1).unwrap_or(u32::MAX);
        last.plus(self.interval.saturating_mul(steps))
    }

    fn next_of_burst(&self, now: Mono) -> Option<Mono> {
        let wanted = self.servers().any(|s| s.in_burst(now));
        wanted.then(|| self.started.map_or(now, |at| at.plus(BURST_SPACING)))
    }

    fn deadline(&self) -> Option<Mono> {
        self.started.map(|at| at.plus(self.time_out.saturating_add(ROUND_GRACE)))
    }

    /// Rounds start at least this often from now on.
    pub fn limit_interval(&mut self, interval: Duration) {
        self.interval = self.interval.min(interval);
    }

    /// Starts a burst with every server, except those that sent a kiss-o'-death.
    pub fn request_burst(&mut self) {
        self.pools.iter_mut().flat_map(|p| &mut p.servers).for_each(Server::request_burst);
    }

    /// Ends a burst before its time.
    pub fn end_burst(&mut self) {
        self.pools.iter_mut().flat_map(|p| &mut p.servers).for_each(Server::end_burst);
    }

    /// Is a burst under way?
    pub fn in_burst(&self, now: Mono) -> bool {
        self.next_of_burst(now).is_some()
    }

    /// Has every name and every server answered or failed since the start, or since the last disruption?
    pub fn has_settled(&self, now: Mono) -> bool {
        !self.servers().any(Server::awaits_first_exchange)
            && self.unresolved.is_empty()
            && self.pending.is_empty()
            && !self.in_burst(now)
    }

    /// Takes in the result of a look-up.
    pub fn handle_resolved(
        &mut self,
        index: usize,
        answer: Result<Resolution, String>,
        now: Mono,
        out: &mut Vec<Effect>,
    ) {
        let first = self.unresolved.remove(&index);
        let answer = answer.and_then(|resolution| self.without_shared_addresses(index, resolution));
        let Some(pool) = self.pools.get_mut(index) else { return };
        let before = (pool.servers.is_empty(), pool.resolve_error.clone());
        let added = pool.handle_resolved(answer, now, &mut self.next_id);
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
        // A pool without samples is measured at once. Later addresses wait for the next round: otherwise a
        // name that changes fast would be polled fast.
        if (first || before.0) && added > 0 {
            pool.servers.iter_mut().filter(|s| s.last.is_none()).for_each(Server::request_burst);
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

    /// Takes in the result of an exchange. Returns the index of the server's pool, and whether this ended a
    /// round.
    pub fn handle_answer(
        &mut self,
        id: ServerId,
        answer: Answer,
        now: Reading,
        frequency: Frequency,
        out: &mut Vec<Effect>,
    ) -> (Option<usize>, bool) {
        let spread = self.rng.u8(0..8);
        let owner = self.pools.iter_mut().enumerate().find_map(|(index, pool)| {
            let server = pool.servers.iter_mut().find(|s| s.id == id)?;
            server.handle_answer(answer, now.raw, frequency, spread);
            out.push(Effect::Log(exchange_event(pool.name.clone(), server.address, answer, now)));
            out.extend(server.take_log_change(now.raw).map(|result| {
                let (pool, server) = (pool.name.clone(), server.address);
                Effect::Log(match result {
                    Ok(()) => LogEvent::ServerAccepted { pool, server },
                    Err(reason) => LogEvent::ServerRejected { pool, server, reason },
                })
            }));
            Some(index)
        });
        let over = self.pending.remove(&id) && self.pending.is_empty();
        if over {
            self.end_round(now.raw);
        }
        (owner, over)
    }

    fn end_round(&mut self, now: Mono) {
        self.pending.clear();
        for pool in &mut self.pools {
            pool.replace_unreachable(now, &mut self.next_id);
        }
    }

    /// The interval of each reachable server now, and when the newest of their samples was taken.
    pub fn candidates(
        &self,
        now: Mono,
        frequency: Frequency,
        stale_after: Duration,
    ) -> (Vec<Candidate>, Option<Mono>) {
        let mut newest = None;
        let mut candidates = Vec::new();
        for (index, pool) in self.pools.iter().enumerate() {
            for server in &pool.servers {
                if let Some(leader) = server.leader(now, frequency, stale_after) {
                    newest = newest.max(server.newest_sample());
                    let (pool, server, interval) = (index, server.id, leader.interval);
                    candidates.push(Candidate { pool, server, interval });
                }
            }
        }
        (candidates, newest)
    }

    /// Discards all samples, and the answers that are still on their way: the raw clock did not count all of
    /// the time.
    pub fn discard_samples(&mut self) {
        self.pending.clear();
        for server in self.pools.iter_mut().flat_map(|p| &mut p.servers) {
            server.handle_disruption(take_id(&mut self.next_id));
        }
    }

    /// Does any server announce a leap second?
    pub fn announces_leap(&self) -> bool {
        self.servers().any(Server::announces_leap)
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.pools.iter().flat_map(|p| &p.servers)
    }

    /// How long until [`Self::tick`] has something to do; [`Duration::MAX`] for never.
    pub fn poll_timeout(&self, now: Mono) -> Duration {
        let round = if self.pending.is_empty() {
            let rounds = self.next_regular.into_iter().chain(self.next_of_burst(now)).min();
            // The first round waits for the names.
            rounds.filter(|_| self.unresolved.is_empty())
        } else {
            self.deadline()
        };
        let soon = self.pools.iter().filter_map(Pool::resolve_at).chain(round).min();
        soon.map_or(Duration::MAX, |at| at.since(now))
    }
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
        Answer::Header(root) => LogEvent::HeaderRead { pool, server, root_distance: root.distance },
        Answer::Rejected(reason) => LogEvent::SampleRejected { pool, server, reason },
    }
}
