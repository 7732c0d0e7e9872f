//! A pool: one configured name, the servers behind it, and which addresses are in use.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ntp::server::{Server, ServerId, ServerState};
use crate::time::Mono;

/// The shortest time between two look-ups of one name, for shorter TTLs too.
const MIN_TTL: Duration = Duration::from_secs(60);
/// The longest time between two look-ups of one name, for longer TTLs too.
const MAX_TTL: Duration = Duration::from_secs(3_600);
/// The first wait after a failed look-up; doubled for each further one, up to [`MIN_TTL`].
const RESOLVE_RETRY_MIN: Duration = Duration::from_secs(2);

/// What a name resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Addresses, the preferred ones first.
    pub addresses: Vec<SocketAddr>,
    /// How long the answer is valid; `None` for a configured address, which needs no look-up.
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
    /// Why the last look-up failed; `None` after a success.
    pub resolve_error: Option<String>,
    /// Servers in use at most.
    limit: usize,
    spares: Vec<Server>,
    resolve_at: Option<Mono>,
    failures: u32,
}

impl Pool {
    /// A pool without servers, to be resolved at `now`.
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

    /// Starts a look-up that is due: `true` once, until its result has come through
    /// [`Self::handle_resolved`].
    pub fn take_resolve(&mut self, now: Mono) -> bool {
        let due = self.resolve_at.is_some_and(|at| at <= now);
        if due {
            self.resolve_at = None;
        }
        due
    }

    /// When the name is looked up next; `None` during a look-up, and for a configured address.
    pub fn resolve_at(&self) -> Option<Mono> {
        self.resolve_at
    }

    /// Takes in the result of a look-up; returns how many servers were added.
    ///
    /// Reachable servers stay in use even when the answer lacks them, since a pool's name gives other
    /// addresses each time. Other servers that it lacks are replaced.
    pub fn handle_resolved(
        &mut self,
        answer: Result<Resolution, String>,
        now: Mono,
        next_id: &mut u32,
    ) -> usize {
        let Resolution { addresses, ttl } = match answer {
            Ok(resolution) => resolution,
            Err(error) => {
                self.resolve_error = Some(error);
                let wait = RESOLVE_RETRY_MIN.saturating_mul(1 << self.failures.min(5)).min(MIN_TTL);
                self.failures = self.failures.saturating_add(1);
                self.resolve_at = Some(now.plus(wait));
                return 0;
            }
        };
        (self.resolve_error, self.failures) = (None, 0);
        self.resolve_at = ttl.map(|ttl| now.plus(ttl.clamp(MIN_TTL, MAX_TTL)));
        // Servers move between use and spare as a whole, so that a spare is still backed off when its turn
        // comes.
        let (stay, leave): (Vec<Server>, Vec<Server>) = std::mem::take(&mut self.servers)
            .into_iter()
            .partition(|s| addresses.contains(&s.address) || s.state(now) == ServerState::Reachable);
        self.servers = stay;
        self.spares.extend(leave);
        self.spares.retain(|s| addresses.contains(&s.address) || s.is_backed_off(now));
        for address in addresses {
            if !self.contains(address) {
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
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.servers.iter().chain(&self.spares).any(|s| s.address == address)
    }

    /// Replaces each server that is unreachable or backed off by a spare, but by none that this call has
    /// replaced.
    pub fn replace_unreachable(&mut self, now: Mono, next_id: &mut u32) {
        let mut candidates = self.spares.len();
        for index in 0..self.servers.len() {
            let is_unusable = self
                .servers
                .get(index)
                .is_some_and(|s| matches!(s.state(now), ServerState::Unreachable | ServerState::BackedOff));
            if !is_unusable {
                continue;
            }
            let Some(fresh) = self.take_spare(candidates, now, next_id) else { return };
            candidates -= 1;
            if let Some(server) = self.servers.get_mut(index) {
                self.spares.push(std::mem::replace(server, fresh));
            }
        }
    }

    /// The first of the first `among` spares that is not backed off.
    fn take_spare(&mut self, among: usize, now: Mono, next_id: &mut u32) -> Option<Server> {
        let index = self.spares.iter().take(among).position(|s| !s.is_backed_off(now))?;
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
    use crate::ntp::reject::RejectReason;
    use crate::ntp::sample::Sample;
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
        assert!(pool.take_resolve(T0) && !pool.take_resolve(T0), "due once");
        assert_eq!(pool.handle_resolved(Ok(resolution(&[1, 2, 3], 150)), T0, &mut ids), 2);
        (pool, ids)
    }

    fn answer(pool: &mut Pool, index: usize, answer: Answer) {
        pool.servers[index].handle_answer(answer, T0, Frequency::UNKNOWN, 0);
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
    fn unreachable_servers_are_replaced_by_spares_in_turn() {
        let (mut pool, mut ids) = pool();
        answer(&mut pool, 1, sample());
        for _ in 0..4 {
            answer(&mut pool, 0, Answer::Rejected(RejectReason::Timeout));
        }
        let before = pool.servers[0].id;
        pool.replace_unreachable(T0, &mut ids);
        assert_eq!(in_use(&pool), [address(3), address(2)]);
        assert_ne!(pool.servers[0].id, before, "a late answer of the old one must not count for the new one");
        for _ in 0..4 {
            answer(&mut pool, 0, Answer::Rejected(RejectReason::Timeout));
        }
        pool.replace_unreachable(T0, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(2)], "each is tried again in turn");
    }

    #[test]
    fn servers_stay_backed_off_while_they_are_spares() {
        let (mut pool, mut ids) = pool();
        let deny = || Answer::Rejected(RejectReason::Kiss(Kiss::Deny));
        for _ in 0..2 {
            answer(&mut pool, 0, deny());
            answer(&mut pool, 1, deny());
        }
        pool.replace_unreachable(T0, &mut ids);
        assert_eq!(
            in_use(&pool),
            [address(3), address(2)],
            "the one spare, and not the server it has just replaced"
        );
        pool.handle_resolved(Ok(resolution(&[3, 4], 150)), T0, &mut ids);
        assert_eq!(in_use(&pool), [address(3), address(4)]);
        pool.handle_resolved(Ok(resolution(&[1, 2], 150)), T0, &mut ids);
        assert!(
            pool.servers.is_empty(),
            "the answer has only servers that are backed off: {:?}",
            in_use(&pool)
        );
        let later = T0.plus(Duration::from_secs(3_601));
        pool.handle_resolved(Ok(resolution(&[1, 2], 150)), later, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(2)]);
    }

    #[test]
    fn duplicate_addresses_are_one_server() {
        let (mut pool, mut ids) = (Pool::new("time.example".into(), 4, T0), 0);
        assert_eq!(pool.handle_resolved(Ok(resolution(&[1, 2, 1], 150)), T0, &mut ids), 2);
    }

    #[test]
    fn reachable_servers_stay_when_the_name_has_other_addresses() {
        let (mut pool, mut ids) = pool();
        answer(&mut pool, 0, sample());
        pool.handle_resolved(Ok(resolution(&[7, 8], 150)), T0, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(7)]);
    }

    #[test]
    fn ttls_are_clamped_to_a_minute_and_an_hour() {
        let (mut pool, mut ids) = pool();
        assert_eq!(pool.resolve_at(), Some(T0.plus(Duration::from_secs(150))));
        pool.handle_resolved(Ok(resolution(&[1], 0)), T0, &mut ids);
        assert_eq!(pool.resolve_at(), Some(T0.plus(MIN_TTL)));
        pool.handle_resolved(Ok(resolution(&[1], 604_800)), T0, &mut ids);
        assert_eq!(pool.resolve_at(), Some(T0.plus(MAX_TTL)));
        pool.handle_resolved(Ok(Resolution { addresses: vec![address(1)], ttl: None }), T0, &mut ids);
        assert_eq!(pool.resolve_at(), None, "an address is not looked up again");
    }

    #[test]
    fn failed_lookups_are_retried_more_slowly_and_keep_the_servers() {
        let (mut pool, mut ids) = pool();
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                pool.handle_resolved(Err("no such name".into()), T0, &mut ids);
                pool.resolve_at().unwrap().since(T0).as_secs()
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(in_use(&pool), [address(1), address(2)]);
    }
}
