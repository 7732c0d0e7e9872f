//! A pool: one configured name, the servers behind it, and which addresses are in use.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ntp::server::{Pace, Server, ServerId, ServerState};
use crate::time::Mono;

/// The shortest time between two look-ups of one name, for shorter TTLs too.
const MIN_TTL: Duration = Duration::from_secs(60);
/// The longest time between two look-ups of one name, for longer TTLs too.
const MAX_TTL: Duration = Duration::from_secs(3_600);
/// The first wait after a failed look-up; doubled for each further one, up to [`MIN_TTL`].
const RESOLVE_RETRY_MIN: Duration = Duration::from_secs(2);
/// The first wait until a pool without a reachable server is probed; doubled for each further one, up to the
/// interval.
const PROBE_MIN: Duration = Duration::from_secs(2);
/// An address that the name has not had for so long, and in so many answers, is retired.
const RETIRED_AFTER: (Duration, u16) = (Duration::from_secs(24 * 3_600), 10);
/// Rounds in a row after which a falseticker is replaced.
const FALSE_ROUNDS_MAX: u8 = 3;
/// Addresses of one answer that are used at most.
const MAX_ADDRESSES: usize = 64;

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
    /// The name is a configured address, which needs no look-up.
    is_address: bool,
    is_resolving: bool,
    failures: u32,
    /// Probes since a server was last reachable, and when the next is due.
    probes: (u32, Option<Mono>),
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
            is_address: false,
            is_resolving: false,
            failures: 0,
            probes: (0, None),
        }
    }

    /// Starts a look-up that is due: `true` once, until its result has come through
    /// [`Self::handle_resolved`].
    pub fn take_resolve(&mut self, now: Mono) -> bool {
        let due = self.resolve_at.is_some_and(|at| at <= now);
        if due {
            (self.resolve_at, self.is_resolving) = (None, true);
        }
        due
    }

    /// When the name is looked up next; `None` during a look-up, and for a configured address.
    pub fn resolve_at(&self) -> Option<Mono> {
        self.resolve_at
    }

    /// Is a server reachable?
    pub fn is_reachable(&self, now: Mono, stale_after: Duration) -> bool {
        self.servers.iter().any(|s| s.is_reachable(now, stale_after))
    }

    /// When a pool without a reachable server is probed; `None`: it has one, or no servers at all.
    pub fn probe_at(&self) -> Option<Mono> {
        self.probes.1
    }

    /// Starts a probe that is due: `true`, once. The name is looked up again, too, also where the servers need no
    /// probe any more.
    pub fn take_probe(&mut self, now: Mono, pace: Pace) -> bool {
        if self.servers.is_empty() || self.is_reachable(now, pace.stale_after) {
            self.probes = (0, None);
            return false;
        }
        let (count, at) = self.probes;
        let is_due = at.is_some_and(|at| at <= now);
        let wait = |count: u32| PROBE_MIN.saturating_mul(1 << count.min(16)).min(pace.interval);
        if is_due || at.is_none() {
            // The exchanges that made the servers known come first.
            let next = now.plus(wait(count));
            let next = self.held_back_until(now, pace.interval).map_or(next, |until| until.min(next));
            // A probe that comes before any server may be asked would be lost.
            let next = self.may_be_asked_at(now, pace.interval).map_or(next, |first| first.max(next));
            self.probes = (count.saturating_add(1), Some(next));
        }
        if is_due && !self.is_address && !self.is_resolving {
            self.resolve_at = Some(now);
        }
        // The regular polls come as often as the slowest probes.
        is_due && wait(count.saturating_sub(1)) < pace.interval
    }

    /// When the first server may be asked; `None` unless kisses-o'-death hold all of them back now.
    fn held_back_until(&self, now: Mono, interval: Duration) -> Option<Mono> {
        let are_held_back = self.servers.iter().all(|server| server.is_held_back(now));
        self.may_be_asked_at(now, interval).filter(|at| are_held_back && *at > now)
    }

    /// When the first server may be asked; `None`: an exchange with each is under way, or it is backed off.
    fn may_be_asked_at(&self, now: Mono, interval: Duration) -> Option<Mono> {
        self.servers.iter().filter_map(|server| server.next_at(now, interval)).min()
    }

    /// Probes from the shortest wait again: a disruption has voided what was measured.
    pub fn restart_probes(&mut self) {
        self.probes = (0, None);
    }

    /// Takes in the result of a look-up; returns how many servers were added.
    ///
    /// Reachable servers stay in use even when the answer lacks them, since a pool's name gives other
    /// addresses each time, and new servers stay until they were asked. Other servers that it lacks are
    /// replaced.
    pub fn handle_resolved(
        &mut self,
        answer: Result<Resolution, String>,
        now: Mono,
        pace: Pace,
        next_id: &mut u32,
    ) -> usize {
        self.is_resolving = false;
        let Resolution { mut addresses, ttl } = match answer {
            Ok(resolution) => resolution,
            Err(error) => {
                self.resolve_error = Some(error);
                let wait = RESOLVE_RETRY_MIN.saturating_mul(1 << self.failures.min(5)).min(MIN_TTL);
                self.failures = self.failures.saturating_add(1);
                self.resolve_at = Some(now.plus(wait));
                return 0;
            }
        };
        addresses.truncate(MAX_ADDRESSES);
        (self.resolve_error, self.failures, self.is_address) = (None, 0, ttl.is_none());
        self.resolve_at = ttl.map(|ttl| now.plus(ttl.clamp(MIN_TTL, MAX_TTL)));
        for server in &mut self.servers {
            server.absent = if addresses.contains(&server.address) {
                None
            } else {
                let (since, count) = server.absent.unwrap_or((now, 0));
                Some((since, count.saturating_add(1)))
            };
        }
        let retired = self.retired(&addresses, now, pace);
        // Servers move between use and spare as a whole, so that a spare is still backed off when its turn
        // comes.
        let (stay, leave): (Vec<Server>, Vec<Server>) = std::mem::take(&mut self.servers)
            .into_iter()
            .partition(|s| s.absent.is_none() || (is_worth_keeping(s, now, pace) && Some(s.id) != retired));
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
            && let Some(server) = self.take_spare(usize::MAX, |spare| !spare.is_backed_off(now), next_id)
        {
            self.servers.push(server);
        }
        self.servers.len() - before
    }

    /// The server that has been absent longest, if for long enough, the others can do without it, and another
    /// can take its place.
    fn retired(&self, addresses: &[SocketAddr], now: Mono, pace: Pace) -> Option<ServerId> {
        let has_others = addresses.iter().any(|address| !self.servers.iter().any(|s| s.address == *address));
        if !has_others || !self.servers.iter().all(|s| s.is_reachable(now, pace.stale_after)) {
            return None;
        }
        let (span, answers) = RETIRED_AFTER;
        let absent = self.servers.iter().filter_map(|s| s.absent.map(|(since, count)| (since, count, s.id)));
        let long = absent.filter(|(since, count, _)| now.since(*since) >= span && *count >= answers);
        long.min_by_key(|(since, ..)| *since).map(|(.., id)| id)
    }

    /// Is this address in use, or a spare?
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.servers.iter().chain(&self.spares).any(|s| s.address == address)
    }

    /// Replaces each server that is failing, backed off or a falseticker by a spare, but by none that this
    /// call has replaced.
    pub fn replace_unusable(&mut self, now: Mono, pace: Pace, next_id: &mut u32) {
        let mut candidates = self.spares.len();
        for index in 0..self.servers.len() {
            let is_unusable = self.servers.get(index).is_some_and(|s| {
                s.is_failing()
                    || s.state(now, pace) == ServerState::BackedOff
                    || s.false_rounds >= FALSE_ROUNDS_MAX
                    || (s.false_rounds > 0 && s.absent.is_some())
            });
            if !is_unusable {
                continue;
            }
            // Of spares that kisses-o'-death slow too much, one would only take the place of the other.
            let is_usable = |spare: &Server| spare.state(now, pace) != ServerState::BackedOff;
            let Some(fresh) = self.take_spare(candidates, is_usable, next_id) else { return };
            candidates -= 1;
            if let Some(server) = self.servers.get_mut(index) {
                self.spares.push(std::mem::replace(server, fresh));
            }
        }
    }

    /// The first of the first `among` spares that is usable.
    fn take_spare(
        &mut self,
        among: usize,
        is_usable: impl Fn(&Server) -> bool,
        next_id: &mut u32,
    ) -> Option<Server> {
        let index = self.spares.iter().take(among).position(is_usable)?;
        let mut server = self.spares.remove(index);
        server.reuse(take_id(next_id));
        Some(server)
    }
}

/// Does an address that the name no longer has stay in use?
fn is_worth_keeping(server: &Server, now: Mono, pace: Pace) -> bool {
    let is_good =
        server.is_reachable(now, pace.stale_after) && server.false_rounds == 0 && !server.is_failing();
    is_good || !(server.is_introduced() || server.is_backed_off(now))
}

pub(crate) fn take_id(next: &mut u32) -> ServerId {
    *next = next.wrapping_add(1);
    ServerId(*next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::ntp::packet::Kiss;
    use crate::ntp::reject::RejectReason;
    use crate::ntp::sample::Sample;
    use crate::ntp::server::Answer;
    use crate::time::rate::Rate;
    use crate::time::{Bound, Reading, Wall};

    const T0: Mono = Mono::from_nanos(0);

    const PACE: Pace = Pace { interval: Duration::from_secs(64), stale_after: Duration::from_secs(600) };

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
        assert_eq!(pool.handle_resolved(Ok(resolution(&[1, 2, 3], 150)), T0, PACE, &mut ids), 2);
        (pool, ids)
    }

    fn at(secs: i64) -> Reading {
        Reading {
            wall: Wall::from_secs(1_795_341_600),
            raw: Mono::from_nanos(secs * 1_000_000_000),
            suspended: Duration::ZERO,
        }
    }

    fn timeout() -> Answer {
        Answer::Rejected(RejectReason::Timeout)
    }

    /// Every new server has been asked twice, and has not answered.
    fn introduce(pool: &mut Pool) {
        for index in 0..pool.servers.len() {
            for secs in [0, 3] {
                if pool.servers[index].ask(at(secs), PACE.interval, false, false).is_some() {
                    answer(pool, index, timeout());
                }
            }
        }
    }

    fn answer(pool: &mut Pool, index: usize, answer: Answer) {
        pool.servers[index].handle_answer(answer, T0, Rate::UNKNOWN, PACE);
    }

    fn sample() -> Answer {
        Answer::Sample(good())
    }

    fn good() -> Sample {
        fixtures::sample(T0, Wall::from_nanos(0), Bound::from_nanos(1))
    }

    #[test]
    fn unreachable_servers_are_replaced_by_spares_in_turn() {
        let (mut pool, mut ids) = pool();
        answer(&mut pool, 1, sample());
        for _ in 0..4 {
            answer(&mut pool, 0, Answer::Rejected(RejectReason::Timeout));
        }
        let before = pool.servers[0].id;
        pool.replace_unusable(T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(3), address(2)]);
        assert_ne!(pool.servers[0].id, before, "a late answer of the old one must not count for the new one");
        for _ in 0..4 {
            answer(&mut pool, 0, Answer::Rejected(RejectReason::Timeout));
        }
        pool.replace_unusable(T0, PACE, &mut ids);
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
        pool.replace_unusable(T0, PACE, &mut ids);
        assert_eq!(
            in_use(&pool),
            [address(3), address(2)],
            "the one spare, and not the server it has just replaced"
        );
        introduce(&mut pool);
        pool.handle_resolved(Ok(resolution(&[3, 4], 150)), T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(3), address(4)]);
        introduce(&mut pool);
        pool.handle_resolved(Ok(resolution(&[1, 2], 150)), T0, PACE, &mut ids);
        assert!(
            pool.servers.is_empty(),
            "the answer has only servers that are backed off: {:?}",
            in_use(&pool)
        );
        let later = T0.plus(Duration::from_secs(3_601));
        pool.handle_resolved(Ok(resolution(&[1, 2], 150)), later, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(2)]);
    }

    #[test]
    fn duplicate_addresses_are_one_server() {
        let (mut pool, mut ids) = (Pool::new("time.example".into(), 4, T0), 0);
        assert_eq!(pool.handle_resolved(Ok(resolution(&[1, 2, 1], 150)), T0, PACE, &mut ids), 2);
    }

    #[test]
    fn reachable_servers_stay_when_the_name_has_other_addresses() {
        let (mut pool, mut ids) = pool();
        introduce(&mut pool);
        answer(&mut pool, 0, sample());
        pool.handle_resolved(Ok(resolution(&[7, 8], 150)), T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(7)]);
    }

    #[test]
    fn failing_servers_that_the_name_has_lost_leave_though_their_samples_are_young() {
        let (mut pool, mut ids) = pool();
        introduce(&mut pool);
        for index in 0..2 {
            answer(&mut pool, index, sample());
        }
        (0..4).for_each(|_| answer(&mut pool, 0, timeout()));
        pool.handle_resolved(Ok(resolution(&[7, 8], 150)), T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(2), address(7)]);
    }

    #[test]
    fn new_servers_stay_until_they_were_asked_twice_whatever_the_name_has() {
        let (mut pool, mut ids) = pool();
        pool.handle_resolved(Ok(resolution(&[7, 8], 0)), T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(2)], "not asked yet");
        let ask =
            |pool: &mut Pool, secs| pool.servers[0].ask(at(secs), PACE.interval, false, false).is_some();
        assert!(ask(&mut pool, 0));
        pool.handle_resolved(Ok(resolution(&[9], 0)), T0, PACE, &mut ids);
        answer(&mut pool, 0, timeout());
        pool.handle_resolved(Ok(resolution(&[7, 8], 0)), T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(2)], "asked once");
        assert!(ask(&mut pool, 3));
        pool.handle_resolved(Ok(resolution(&[7, 8], 0)), T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(2)], "an answer is on its way");
        answer(&mut pool, 0, timeout());
        pool.handle_resolved(Ok(resolution(&[7, 8], 0)), T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(2), address(7)]);
    }

    /// Every server is reachable, and the name has other addresses once an hour.
    fn moved(hours: i64) -> Pool {
        let (mut pool, mut ids) = pool();
        introduce(&mut pool);
        for hour in 0..hours {
            let now = at(hour * 3_600).raw;
            for server in &mut pool.servers {
                let sample = Sample { at: now, ..good() };
                server.handle_answer(Answer::Sample(sample), now, Rate::UNKNOWN, PACE);
            }
            pool.handle_resolved(Ok(resolution(&[7, 8], 60)), now, PACE, &mut ids);
        }
        pool
    }

    #[test]
    fn addresses_that_the_name_has_lost_are_retired_after_a_day_one_at_a_time() {
        assert_eq!(in_use(&moved(24)), [address(1), address(2)]);
        assert_eq!(in_use(&moved(25)), [address(2), address(7)]);
        assert_eq!(in_use(&moved(26)), [address(7), address(8)], "once the first new one is reachable");
    }

    #[test]
    fn addresses_are_not_retired_before_ten_answers_nor_by_servers_that_do_not_answer() {
        let (mut pool, mut ids) = pool();
        introduce(&mut pool);
        let sample_all = |pool: &mut Pool, now: Mono, unless: Option<SocketAddr>| {
            for server in pool.servers.iter_mut().filter(|s| Some(s.address) != unless) {
                server.handle_answer(Answer::Sample(Sample { at: now, ..good() }), now, Rate::UNKNOWN, PACE);
            }
        };
        let mut in_use_after = Vec::new();
        for lookup in 0..14 {
            let now = at(lookup * 6 * 3_600).raw;
            // The one that takes the first place never answers.
            sample_all(&mut pool, now, Some(address(7)));
            pool.handle_resolved(Ok(resolution(&[7, 8], 60)), now, PACE, &mut ids);
            in_use_after.push(in_use(&pool));
        }
        assert_eq!(in_use_after[8], [address(1), address(2)], "the ninth answer, after two days");
        assert_eq!(in_use_after[9], [address(2), address(7)]);
        assert_eq!(in_use_after[13], [address(2), address(7)], "the new one has not answered");
    }

    #[test]
    fn falsetickers_that_the_name_has_lost_leave_at_once_and_others_after_three_rounds() {
        let (mut pool, mut ids) = pool();
        introduce(&mut pool);
        answer(&mut pool, 0, sample());
        answer(&mut pool, 1, sample());
        pool.servers[0].false_rounds = 2;
        pool.replace_unusable(T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(1), address(2)]);
        pool.servers[0].false_rounds = 3;
        pool.replace_unusable(T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(3), address(2)]);
        introduce(&mut pool);
        answer(&mut pool, 0, sample());
        pool.handle_resolved(Ok(resolution(&[7, 8], 150)), T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(3), address(2)]);
        pool.servers[1].false_rounds = 1;
        pool.replace_unusable(T0, PACE, &mut ids);
        assert_eq!(in_use(&pool), [address(3), address(7)]);
    }

    #[test]
    fn pools_without_a_reachable_server_are_probed_and_looked_up_ever_more_slowly() {
        let (mut pool, _) = pool();
        let mut probes = Vec::new();
        for secs in 0..200 {
            let is_probed = pool.take_probe(at(secs).raw, PACE);
            if pool.take_resolve(at(secs).raw) {
                pool.is_resolving = false;
                probes.push((secs, is_probed));
            }
        }
        let (yes, no) = (true, false);
        assert_eq!(probes, [(2, yes), (6, yes), (14, yes), (30, yes), (62, yes), (126, no), (190, no)]);
        answer(&mut pool, 0, sample());
        assert!(!pool.take_probe(at(254).raw, PACE));
        assert_eq!(pool.probe_at(), None, "one is reachable");
    }

    #[test]
    fn pools_whose_servers_were_just_asked_are_probed_when_the_first_may_be_asked_again() {
        let (mut pool, _) = pool();
        introduce(&mut pool);
        pool.restart_probes();
        // Both were asked at 3 s.
        assert!(!pool.take_probe(at(3).raw, PACE));
        assert_eq!(pool.probe_at().unwrap().since(T0), Duration::from_millis(5_020));
    }

    #[test]
    fn pools_whose_servers_are_held_back_are_probed_when_the_first_may_be_asked() {
        let (mut pool, _) = pool();
        introduce(&mut pool);
        let kiss = |pool: &mut Pool, index: usize| {
            pool.servers[index].handle_answer(
                Answer::Rejected(RejectReason::Kiss(Kiss::Rate)),
                at(3).raw,
                Rate::UNKNOWN,
                PACE,
            );
        };
        kiss(&mut pool, 0);
        let due_after = |pool: &mut Pool, secs| {
            pool.take_probe(at(secs).raw, PACE);
            pool.probe_at().unwrap().since(T0).as_millis()
        };
        assert_eq!(due_after(&mut pool, 3), 5_020);
        assert_eq!(due_after(&mut pool, 6), 10_000, "the other server may be asked");
        kiss(&mut pool, 1);
        pool.restart_probes();
        assert_eq!(due_after(&mut pool, 4), 7_040, "both were asked at 3 s, and may be 4.04 s later");
    }

    #[test]
    fn servers_that_are_slowed_are_not_replaced_by_others_that_are() {
        let (mut pool, mut ids) = pool();
        introduce(&mut pool);
        let kiss = |server: &mut Server| {
            for secs in [3, 400, 800] {
                let answer = Answer::Rejected(RejectReason::Kiss(Kiss::Rate));
                server.handle_answer(answer, at(secs).raw, Rate::UNKNOWN, PACE);
            }
        };
        let addresses = |pool: &Pool| pool.servers.iter().map(|s| s.address).collect::<Vec<_>>();
        let before = addresses(&pool);
        assert!(!pool.spares.is_empty());
        pool.servers.iter_mut().chain(&mut pool.spares).for_each(kiss);
        assert_eq!(pool.servers[0].state(at(801).raw, PACE), ServerState::BackedOff);
        pool.replace_unusable(at(801).raw, PACE, &mut ids);
        assert_eq!(addresses(&pool), before);
        // One spare that is not slowed takes the place of the first.
        let fresh = address(9);
        pool.spares.push(Server::new(take_id(&mut ids), fresh));
        pool.replace_unusable(at(801).raw, PACE, &mut ids);
        assert_eq!(addresses(&pool), [&[fresh], &before[1..]].concat());
    }

    #[test]
    fn ttls_are_clamped_to_a_minute_and_an_hour() {
        let (mut pool, mut ids) = pool();
        assert_eq!(pool.resolve_at(), Some(T0.plus(Duration::from_secs(150))));
        pool.handle_resolved(Ok(resolution(&[1], 0)), T0, PACE, &mut ids);
        assert_eq!(pool.resolve_at(), Some(T0.plus(MIN_TTL)));
        pool.handle_resolved(Ok(resolution(&[1], 604_800)), T0, PACE, &mut ids);
        assert_eq!(pool.resolve_at(), Some(T0.plus(MAX_TTL)));
        pool.handle_resolved(Ok(Resolution { addresses: vec![address(1)], ttl: None }), T0, PACE, &mut ids);
        assert_eq!(pool.resolve_at(), None, "an address is not looked up again");
    }

    #[test]
    fn failed_lookups_are_retried_more_slowly_and_keep_the_servers() {
        let (mut pool, mut ids) = pool();
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                pool.handle_resolved(Err("no such name".into()), T0, PACE, &mut ids);
                pool.resolve_at().unwrap().since(T0).as_secs()
            })
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(in_use(&pool), [address(1), address(2)]);
    }
}
