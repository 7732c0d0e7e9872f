//! How often a server may be asked: the spacing, and what its kisses-o'-death ask for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ntp::packet::Kiss;
use crate::time::Mono;

/// The shortest time between two requests to one server: what ntpd's rate limit allows (`discard minimum`),
/// and a margin for a request that is sent late.
pub const MIN_SPACING: Duration = Duration::from_millis(2_020);
/// How long a server is backed off after DENY or RSTR.
const DENY_BACKOFF: Duration = Duration::from_secs(3_600);
/// After RATE a single urgent request may follow soon, and others not before this has passed since the last:
/// ntpd refuses what comes within twice its `discard average` of 8 s, and counts the time from there again.
const KISS_PAUSE: Duration = Duration::from_secs(17);
/// How often RATE doubles the interval: up to 2^6 times its length.
const MAX_SLOWDOWN: u8 = 6;
/// Good answers in a row that halve a slowed interval again.
const GOOD_TO_SPEED_UP: u8 = 8;

/// The manners towards one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    last_asked: Option<Mono>,
    /// One request may come sooner than [`MIN_SPACING`]: a disruption has voided what was measured.
    has_extra: bool,
    /// The last request was such a one.
    was_extra: bool,
    /// The interval is multiplied by 2 to this power.
    slowdown: u8,
    /// Good answers since the slowdown last changed.
    good: u8,
    /// A request was sent since RATE, and there was no good answer since.
    has_retried: bool,
    backed_off_until: Option<Mono>,
}

impl Manners {
    /// May the server be asked now? `is_urgent`: nothing else measures the clock in its place, so it is asked
    /// as often as its kisses-o'-death allow.
    pub fn may_ask(&self, now: Mono, interval: Duration, is_urgent: bool) -> bool {
        if self.is_backed_off(now) {
            return false;
        }
        let spacing = match self.slowed_interval(interval) {
            // Half an interval less, so that a poll of the regular rhythm is not missed by a moment.
            Some(slowed) if !is_urgent && self.slowdown > 0 => slowed.saturating_sub(interval / 2),
            _ => self.spacing(interval),
        };
        let since = self.last_asked.map(|at| now.since(at));
        since.is_none_or(|since| since >= spacing || (self.has_extra && self.slowdown == 0))
    }

    /// The shortest time between two requests: RATE doubles it, too.
    fn spacing(&self, interval: Duration) -> Duration {
        let spacing = interval.min(MIN_SPACING).saturating_mul(1 << self.slowdown);
        if self.slowdown > 0 && self.has_retried { spacing.max(KISS_PAUSE) } else { spacing }
    }

    /// Was a request sent?
    pub fn was_asked(&self) -> bool {
        self.last_asked.is_some()
    }

    /// A request is sent now.
    pub fn note_asked(&mut self, now: Mono) {
        self.was_extra = self.has_extra && self.last_asked.is_some_and(|at| now.since(at) < MIN_SPACING);
        self.has_extra = false;
        self.has_retried = self.slowdown > 0;
        self.last_asked = Some(now);
    }

    /// When the next urgent request may be sent.
    pub fn next_at(&self, now: Mono, interval: Duration) -> Mono {
        match self.last_asked {
            Some(at) if !self.has_extra || self.slowdown > 0 => at.plus(self.spacing(interval)).max(now),
            _ => now,
        }
    }

    /// Allows one request that comes too soon.
    pub fn grant_extra(&mut self) {
        self.has_extra = true;
    }

    /// The server gave a good answer.
    pub fn note_good(&mut self) {
        self.has_retried = false;
        self.good = self.good.saturating_add(1);
        if self.good >= GOOD_TO_SPEED_UP {
            (self.slowdown, self.good) = (self.slowdown.saturating_sub(1), 0);
        }
    }

    /// The server sent a kiss-o'-death. One for a request that came too soon is not held against it.
    pub fn note_kiss(&mut self, kiss: Kiss, now: Mono) {
        self.good = 0;
        match kiss {
            Kiss::Rate if self.was_extra => {}
            Kiss::Rate => self.slowdown = (self.slowdown + 1).min(MAX_SLOWDOWN),
            Kiss::Deny => self.back_off(now),
            Kiss::Other => {}
        }
    }

    /// The server is not asked for an hour.
    pub fn back_off(&mut self, now: Mono) {
        self.backed_off_until = Some(now.plus(DENY_BACKOFF));
    }

    /// Is the server not asked at all?
    pub fn is_backed_off(&self, now: Mono) -> bool {
        self.backed_off_until.is_some_and(|until| now < until)
    }

    /// Is the server asked too seldom for its samples to stay young, or not at all?
    pub fn is_too_slow(&self, now: Mono, interval: Duration, stale_after: Duration) -> bool {
        let is_slow = self.slowed_interval(interval).is_none_or(|slowed| slowed > stale_after / 3);
        self.is_backed_off(now) || (self.slowdown > 0 && is_slow)
    }

    /// Does a kiss-o'-death slow the requests?
    pub fn is_slowed(&self) -> bool {
        self.slowdown > 0
    }

    fn slowed_interval(&self, interval: Duration) -> Option<Duration> {
        interval.checked_mul(1 << self.slowdown)
    }
}

/// Addresses that are remembered at most.
const MAX_REMEMBERED: usize = 256;
/// How long an address that is not asked any more is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(3_600);

/// The manners towards every address that was asked lately: what it has asked for holds also when its name does not
/// give it for a while, and when another pool has it.
#[derive(Clone, Debug, Default)]
pub struct MannersMemory(BTreeMap<SocketAddr, Manners>);

impl MannersMemory {
    /// Remembers what holds for an address.
    pub fn note(&mut self, address: SocketAddr, manners: Manners, now: Mono) {
        self.0.insert(address, manners);
        if self.0.len() > MAX_REMEMBERED {
            self.0.retain(|_, manners| manners.last_asked.is_some_and(|at| now.since(at) < REMEMBERED_FOR));
        }
        if self.0.len() > MAX_REMEMBERED {
            let oldest =
                self.0.iter().min_by_key(|(_, manners)| manners.last_asked).map(|(address, _)| *address);
            oldest.map(|oldest| self.0.remove(&oldest));
        }
    }

    /// What holds for an address, if it was asked in the last hour.
    pub fn of(&self, address: SocketAddr, now: Mono) -> Option<Manners> {
        let manners = self.0.get(&address).copied()?;
        manners.last_asked.filter(|at| now.since(*at) < REMEMBERED_FOR).map(|_| manners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(64);
    const STALE: Duration = Duration::from_secs(600);

    fn at(millis: i64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn asked(millis: i64) -> Manners {
        let mut manners = Manners::default();
        manners.note_asked(at(millis));
        manners
    }

    #[test]
    fn requests_are_two_seconds_apart_or_an_interval_if_that_is_shorter() {
        let manners = asked(0);
        assert!(!manners.may_ask(at(2_019), INTERVAL, false) && manners.may_ask(at(2_020), INTERVAL, false));
        assert!(
            !manners.may_ask(at(999), Duration::from_secs(1), false)
                && manners.may_ask(at(1_000), Duration::from_secs(1), false)
        );
        assert_eq!(manners.next_at(at(500), INTERVAL), at(2_020));
        assert_eq!(manners.next_at(at(9_000), INTERVAL), at(9_000));
    }

    #[test]
    fn one_request_may_come_sooner_and_its_kiss_is_not_held_against_the_server() {
        let mut manners = asked(0);
        manners.grant_extra();
        assert!(manners.may_ask(at(100), INTERVAL, false));
        assert_eq!(manners.next_at(at(100), INTERVAL), at(100));
        manners.note_asked(at(100));
        assert!(!manners.may_ask(at(200), INTERVAL, false), "one");
        manners.note_kiss(Kiss::Rate, at(110));
        assert!(!manners.is_slowed());
        manners.note_asked(at(3_000));
        manners.note_kiss(Kiss::Rate, at(3_010));
        assert!(manners.is_slowed(), "the next one counts");
        manners.grant_extra();
        assert!(!manners.may_ask(at(3_100), INTERVAL, false), "a slowed server is not asked sooner");
    }

    #[test]
    fn one_urgent_request_follows_a_kiss_soon_and_the_next_not_before_17_seconds() {
        let mut manners = asked(0);
        manners.note_kiss(Kiss::Rate, at(10));
        assert_eq!(manners.next_at(at(10), INTERVAL), at(4_040));
        manners.note_asked(at(4_040));
        assert_eq!(manners.next_at(at(5_040), INTERVAL), at(21_040), "it was dropped in silence");
        assert!(!manners.may_ask(at(21_039), INTERVAL, true) && manners.may_ask(at(21_040), INTERVAL, true));
        manners.note_asked(at(21_040));
        manners.note_good();
        assert_eq!(manners.next_at(at(21_050), INTERVAL), at(25_080));
    }

    #[test]
    fn kisses_double_the_interval_and_eight_good_answers_halve_it() {
        let mut manners = asked(0);
        manners.note_kiss(Kiss::Rate, at(0));
        assert!(
            !manners.may_ask(at(95_999), INTERVAL, false) && manners.may_ask(at(96_000), INTERVAL, false)
        );
        assert!(
            !manners.may_ask(at(4_039), INTERVAL, true) && manners.may_ask(at(4_040), INTERVAL, true),
            "urgent"
        );
        assert!(!manners.is_too_slow(at(0), INTERVAL, STALE), "128 s are less than a third of 600 s");
        manners.note_kiss(Kiss::Rate, at(0));
        assert!(manners.is_too_slow(at(0), INTERVAL, STALE), "256 s are not");
        for _ in 0..8 {
            assert!(manners.slowdown == 2);
            manners.note_good();
        }
        assert_eq!(manners.slowdown, 1);
        for _ in 0..8 {
            manners.note_good();
        }
        assert!(!manners.is_slowed());
        for _ in 0..99 {
            manners.note_kiss(Kiss::Rate, at(0));
        }
        assert_eq!(manners.slowdown, MAX_SLOWDOWN);
    }

    #[test]
    fn a_slowed_server_is_next_asked_when_it_may_be() {
        let mut manners = asked(0);
        manners.note_kiss(Kiss::Rate, at(0));
        manners.grant_extra();
        let next = manners.next_at(at(100), INTERVAL);
        assert_eq!(next, at(4_040));
        assert!(!manners.may_ask(at(4_039), INTERVAL, true) && manners.may_ask(next, INTERVAL, true));
    }

    #[test]
    fn a_kiss_between_good_answers_counts_them_from_the_start() {
        let mut manners = asked(0);
        manners.note_kiss(Kiss::Rate, at(0));
        (0..7).for_each(|_| manners.note_good());
        manners.note_kiss(Kiss::Rate, at(0));
        (0..7).for_each(|_| manners.note_good());
        assert_eq!(manners.slowdown, 2);
    }

    #[test]
    fn addresses_are_remembered_for_an_hour_and_256_of_them_at_most() {
        let address = |n: u16| SocketAddr::from(([192, 0, 2, 1], n));
        let mut memory = MannersMemory::default();
        for n in 0..300 {
            memory.note(address(n), asked(i64::from(n)), at(n.into()));
        }
        assert_eq!(memory.0.len(), MAX_REMEMBERED);
        let is_known = |n: u16, millis: i64| memory.of(address(n), at(millis)).is_some();
        assert!(!is_known(43, 300) && is_known(44, 300), "the oldest are forgotten");
        assert!(is_known(299, 3_600_298) && !is_known(299, 3_600_299));
    }

    #[test]
    fn servers_that_deny_service_are_backed_off_for_an_hour() {
        let mut manners = asked(0);
        manners.note_kiss(Kiss::Deny, at(0));
        assert!(
            !manners.may_ask(at(3_599_999), INTERVAL, false)
                && manners.may_ask(at(3_600_000), INTERVAL, false)
        );
        assert!(manners.is_too_slow(at(0), INTERVAL, STALE));
    }
}
