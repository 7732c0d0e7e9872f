//! A pool: one configured name, the servers behind it, and which addresses are in use.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ntp::server::{Server, ServerId, ServerState};
use crate::time::Mono;

/// No name is asked for more often than this, whatever its TTL says.
const SHORTEST_TTL: Duration = Duration::from_secs(60);
/// And none is kept longer.
const LONGEST_TTL: Duration = Duration::from_secs(3_600);
/// The first wait after a failed look-up; doubled for each further one, up to [`SHORTEST_TTL`].
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// What a name resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Addresses in the order to be preferred.
    pub addresses: Vec<SocketAddr>,
    /// How long the answer holds; `None` for an address that was configured as such.
    pub ttl: Option<Duration>,
}

/// How a pool's servers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Plain NTP (RFC 5905).
    Ntp,
}

/// A configured name and its servers.
#[derive(Clone, Debug)]
pub struct Pool {
    /// The name as configured: the label `pool`.
    pub name: String,
    /// How its servers are asked.
    pub client: Client,
    /// Addresses in use.
    pub servers: Vec<Server>,
    /// Why the name did not resolve the last time.
    pub resolve_error: Option<String>,
    limit: usize,
    spares: Vec<Server>,
    resolve_at: Option<Mono>,
    failures: u32,
}

impl Pool {
    /// A pool that was never resolved; it wants to be at `now`.
    pub fn new(name: String, limit: usize, now: Mono) -> Self {
        Self {
            name,
            client: Client::Ntp,
            servers: Vec::new(),
            resolve_error: None,
            limit,
            spares: Vec::new(),
            resolve_at: Some(now),
            failures: 0,
        }
    }

    /// Is it time to look the name up? Asked once: the answer must come through [`Self::resolved`].
    pub fn take_resolve(&mut self, now: Mono) -> bool {
        let due = self.resolve_at.is_some_and(|at| at <= now);
        if due {
            self.resolve_at = None;
        }
        due
    }

    /// When the name is looked up next; `None` while an answer is awaited, or when never again.
    pub fn resolve_at(&self) -> Option<Mono> {
        self.resolve_at
    }

    /// Takes an answer in; returns how many servers were added.
    ///
    /// Servers that are live stay even when the answer lacks them (a pool's name gives other addresses each time); the
    /// others make room.
    pub fn resolved(&mut self, answer: Result<Resolution, String>, now: Mono, next_id: &mut u32) -> usize {
        let Resolution { addresses, ttl } = match answer {
            Ok(resolution) => resolution,
            Err(error) => {
                self.resolve_error = Some(error);
                let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(5)).min(SHORTEST_TTL);
                self.failures = self.failures.saturating_add(1);
                self.resolve_at = Some(now.plus(wait));
                return 0;
            }
        };
        (self.resolve_error, self.failures) = (None, 0);
        self.resolve_at = ttl.map(|ttl| now.plus(ttl.clamp(SHORTEST_TTL, LONGEST_TTL)));
        // Whole servers move between use and spare, so that one that denied us is not a stranger when its turn comes.
        let (stay, leave): (Vec<Server>, Vec<Server>) = std::mem::take(&mut self.servers)
            .into_iter()
            .partition(|s| addresses.contains(&s.address) || s.state(now) == ServerState::Reachable);
        self.servers = stay;
        self.spares.extend(leave);
        self.spares.retain(|s| addresses.contains(&s.address) || s.is_resting(now));
        for address in addresses {
            if !self.has(address) {
                self.spares.push(Server::new(take_id(next_id), address));
            }
        }
        let before = self.servers.len();
        while self.servers.len() < self.limit
            && let Some(server) = self.take_spare(usize::MAX, now, next_id)
        {
            self.servers.push(server);
        }
        self.servers.len() - before
    }

    /// Is this address in use, or a spare?
    pub fn has(&self, address: SocketAddr) -> bool {
        self.servers.iter().chain(&self.spares).any(|s| s.address == address)
    }

    /// Puts a spare in the place of each server that is silent or resting. None that was put aside by this very call.
    pub fn replace_dead(&mut self, now: Mono, next_id: &mut u32) {
        let mut candidates = self.spares.len();
        for index in 0..self.servers.len() {
            let is_dead = self
                .servers
                .get(index)
                .is_some_and(|s| matches!(s.state(now), ServerState::Unreachable | ServerState::BackedOff));
            if !is_dead {
                continue;
            }
            let Some(fresh) = self.take_spare(candidates, now, next_id) else { return };
            candidates -= 1;
            if let Some(server) = self.servers.get_mut(index) {
                self.spares.push(std::mem::replace(server, fresh));
            }
        }
    }

    /// The first of so many spares that may be asked.
    fn take_spare(&mut self, among: usize, now: Mono, next_id: &mut u32) -> Option<Server> {
        let index = self.spares.iter().take(among).position(|s| !s.is_resting(now))?;
        let mut server = self.spares.remove(index);
        server.reuse(take_id(next_id));
        Some(server)
    }
}

pub(crate) fn take_id(next: &mut u32) -> ServerId {
    *next = next.wrapping_add(1);
    ServerId(*next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::packet::{Kiss, Leap};
    use crate::ntp::sample::{RejectReason, Sample};
    use crate::ntp::server::Answer;
    use crate::time::line::Frequency;
    use crate::time::{Bound, Wall};

    const T0: Mono = Mono::from_nanos(0);

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 123))
    }

    fn resolution(numbers: &[u8], ttl_secs: u64) -> Resolution {
        Resolution {
            addresses: numbers.iter().map(|n| address(*n)).collect(),
            ttl: Some(Duration::from_secs(ttl_secs)),
        }
    }

    fn in_use(pool: &Pool) -> Vec<SocketAddr> {
        pool.servers.iter().map(|s| s.address).collect()
    }

    fn pool() -> (Pool, u32) {
        let (mut pool, mut ids) = (Pool::new("time.example".into(), 2, T0), 0);
        assert!(pool.take_resolve(T0) && !pool.take_resolve(T0), "asked once");
        assert_eq!(pool.resolved(Ok(resolution(&[1, 2, 3], 150)), T0, &mut ids), 2);
        (pool, ids)
    }

    fn hear(pool: &mut Pool, index: usize, answer: Answer) {
        pool.servers[index].answered(answer, T0, Frequency::UNKNOWN, 0);
    }

    fn sample() -> Answer {
        Answer::Sample(Sample {
            at: T0,
            origin: Wall::from_nanos(0),
            bound: Bound::from_nanos(1),
            round_trip: Duration::ZERO,
            root_distance: Duration::ZERO,
            stratum: 1,
            leap: Leap::None,
        })
    }

    #[test]
    fn a_dead_server_is_replaced_by_a_spare_and_keeps_its_turn() {
        let (mut pool, mut ids) = pool();
        hear(&mut pool, 1, sample());
        for _ in 0..4 {
            hear(&mut pool, 0, Answer::Rejected(RejectReason::Timeout));
        }
        let before = pool.servers[0].id;
        pool.replace_dead(T0, &mut ids);
        assert_eq!(in_use(&pool), [address(3), address(2)]);
        assert_ne!(pool.servers[0].id, before, "a late answer of the old one must not count for the new one");
        for _ in 0..4 {
            hear(&mut pool, 0, Answer::Rejected(RejectReason::Timeout));
        }
        pool.replace_dead(T0, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(2)], "round and round");
    }

    #[test]
    fn a_server_that_denied_us_is_remembered_when_it_makes_room() {
        let (mut pool, mut ids) = pool();
        let deny = || Answer::Rejected(RejectReason::Kiss(Kiss::Deny));
        for _ in 0..2 {
            hear(&mut pool, 0, deny());
            hear(&mut pool, 1, deny());
        }
        pool.replace_dead(T0, &mut ids);
        assert_eq!(
            in_use(&pool),
            [address(3), address(2)],
            "the one spare, and not the server it has just replaced"
        );
        pool.resolved(Ok(resolution(&[3, 4], 150)), T0, &mut ids);
        assert_eq!(in_use(&pool), [address(3), address(4)]);
        pool.resolved(Ok(resolution(&[1, 2], 150)), T0, &mut ids);
        assert!(
            pool.servers.is_empty(),
            "the answer leads to those who denied us, and to nobody else: {:?}",
            in_use(&pool)
        );
        let later = T0.plus(Duration::from_secs(3_601));
        pool.resolved(Ok(resolution(&[1, 2], 150)), later, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(2)]);
    }

    #[test]
    fn an_address_that_comes_twice_is_one_server() {
        let (mut pool, mut ids) = (Pool::new("time.example".into(), 4, T0), 0);
        assert_eq!(pool.resolved(Ok(resolution(&[1, 2, 1], 150)), T0, &mut ids), 2);
    }

    #[test]
    fn a_live_server_stays_when_the_name_moves_on() {
        let (mut pool, mut ids) = pool();
        hear(&mut pool, 0, sample());
        pool.resolved(Ok(resolution(&[7, 8], 150)), T0, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(7)]);
    }

    #[test]
    fn the_ttl_is_honoured_within_reason() {
        let (mut pool, mut ids) = pool();
        assert_eq!(pool.resolve_at(), Some(T0.plus(Duration::from_secs(150))));
        pool.resolved(Ok(resolution(&[1], 0)), T0, &mut ids);
        assert_eq!(pool.resolve_at(), Some(T0.plus(SHORTEST_TTL)));
        pool.resolved(Ok(resolution(&[1], 604_800)), T0, &mut ids);
        assert_eq!(pool.resolve_at(), Some(T0.plus(LONGEST_TTL)));
        pool.resolved(Ok(Resolution { addresses: vec![address(1)], ttl: None }), T0, &mut ids);
        assert_eq!(pool.resolve_at(), None, "an address is not looked up again");
    }

    #[test]
    fn a_name_that_does_not_resolve_is_retried_ever_more_slowly_and_its_servers_stay() {
        let (mut pool, mut ids) = pool();
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                pool.resolved(Err("no such name".into()), T0, &mut ids);
                pool.resolve_at().unwrap().since(T0).as_secs()
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(in_use(&pool), [address(1), address(2)]);
    }
}
