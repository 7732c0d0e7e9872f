//! One server: when it may be asked, its samples, and whether it is reachable.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ntp::filter::{Leader, Window};
use crate::ntp::packet::{Kiss, Leap};
use crate::ntp::reject::RejectReason;
use crate::ntp::sample::{Root, Sample};
use crate::time::Mono;
use crate::time::line::Frequency;

/// Rejected exchanges in a row after which a server is unreachable.
const MISSES_TO_UNREACHABLE: u8 = 4;
/// Exchanges in a burst.
pub const BURST_LEN: u8 = 4;
/// Time between two rounds of a burst.
pub const BURST_SPACING: Duration = Duration::from_millis(500);
/// The shortest time between two exchanges with one server. Just below [`BURST_SPACING`], so that a timer
/// that fires a little early does not skip a round.
const MIN_SPACING: Duration = Duration::from_millis(450);
/// About one exchange in so many reads the header: root distance changes slowly.
const POLLS_PER_HEADER: u8 = 16;
/// How long a server stays backed off after DENY or RSTR.
const DENY_BACKOFF: Duration = Duration::from_secs(3_600);
/// How often RATE doubles the interval: up to 2^6 times its length.
const MAX_SLOWDOWN: u8 = 6;
/// Kisses-o'-death in a row until one is obeyed: a single one may be forged.
const KISSES_TO_OBEY: u8 = 2;

/// Identifies one server; never used again for another, nor for the same one after a disruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

/// What an exchange with a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The header, for root delay and dispersion.
    Header,
    /// The offset; with the root distance that becomes a part of its bound.
    Exchange(Root),
}

/// The result of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The header was read.
    Header(Root),
    /// The exchange gave a sample.
    Sample(Sample),
    /// It gave nothing, for this reason.
    Rejected(RejectReason),
}

/// Whether a server is usable now; the label `state` of `drift_agent_pool_servers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// No exchange has succeeded yet, and too few have failed.
    Starting,
    /// The last exchanges gave a sample.
    Reachable,
    /// Four or more exchanges in a row were rejected.
    Unreachable,
    /// It is not asked for an hour, after DENY or RSTR.
    BackedOff,
}

/// One address of a pool.
#[derive(Clone, Debug)]
pub struct Server {
    /// Identifies it in effects and inputs.
    pub id: ServerId,
    /// Address and port.
    pub address: SocketAddr,
    /// The result of the last exchange; `None` before the first.
    pub last: Option<Result<(), RejectReason>>,
    /// The last rejected exchange and its time, even if later ones succeeded.
    pub rejected: Option<(Mono, RejectReason)>,
    window: Window,
    root: Option<Root>,
    polls_to_header: u8,
    /// Rejected exchanges in a row.
    misses: u8,
    /// Kisses-o'-death in a row, below [`KISSES_TO_OBEY`].
    kisses: u8,
    /// The interval is multiplied by 2 to this power.
    slowdown: u8,
    backed_off_until: Option<Mono>,
    burst_left: u8,
    /// No exchange has ended since the last disruption.
    awaits_first_exchange: bool,
    last_asked: Option<Mono>,
    last_reported: Option<Result<(), RejectReason>>,
}

impl Server {
    /// A server that was never asked.
    pub fn new(id: ServerId, address: SocketAddr) -> Self {
        Self {
            id,
            address,
            last: None,
            rejected: None,
            window: Window::default(),
            root: None,
            polls_to_header: 0,
            misses: 0,
            kisses: 0,
            slowdown: 0,
            backed_off_until: None,
            burst_left: 0,
            awaits_first_exchange: false,
            last_asked: None,
            last_reported: None,
        }
    }

    /// Starts a burst, unless the server has sent a kiss-o'-death.
    pub fn request_burst(&mut self) {
        if !self.is_kissed() {
            self.burst_left = BURST_LEN;
        }
    }

    /// Has the server sent a kiss-o'-death that still counts?
    fn is_kissed(&self) -> bool {
        self.slowdown > 0 || self.kisses > 0 || self.backed_off_until.is_some()
    }

    /// Ends a burst before its time.
    pub fn end_burst(&mut self) {
        self.burst_left = 0;
    }

    /// Is a burst under way?
    pub fn in_burst(&self, now: Mono) -> bool {
        self.burst_left > 0 && !self.is_backed_off(now)
    }

    /// Is the first exchange since a disruption still due, and not delayed by a kiss-o'-death?
    pub fn awaits_first_exchange(&self) -> bool {
        self.awaits_first_exchange && !self.is_kissed()
    }

    /// What to ask in a round that starts now; `None`: nothing. `interval` is `None` in the rounds of a
    /// burst.
    pub fn ask(&mut self, now: Mono, interval: Option<Duration>) -> Option<Ask> {
        if self.is_backed_off(now) || self.last_asked.is_some_and(|at| now.since(at) < MIN_SPACING) {
            return None;
        }
        match interval {
            None if self.burst_left == 0 => return None,
            Some(interval) if self.slowdown > 0 => {
                let slowed = (interval * (1 << self.slowdown)).saturating_sub(interval / 2);
                if self.last_asked.is_some_and(|at| now.since(at) < slowed) {
                    return None;
                }
            }
            _ => {}
        }
        self.burst_left = self.burst_left.saturating_sub(1);
        self.backed_off_until = None;
        self.last_asked = Some(now);
        Some(match self.root {
            Some(root) if self.polls_to_header > 0 => {
                self.polls_to_header -= 1;
                Ask::Exchange(root)
            }
            _ => Ask::Header,
        })
    }

    /// Takes in the result of an exchange. `spread` (0..8) keeps the header reads of several servers apart.
    pub fn handle_answer(&mut self, answer: Answer, now: Mono, frequency: Frequency, spread: u8) {
        match answer {
            Answer::Header(root) => {
                self.root = Some(root);
                self.polls_to_header = POLLS_PER_HEADER + spread;
                (self.misses, self.kisses) = (0, 0);
            }
            Answer::Sample(sample) => {
                self.window.push(sample, frequency);
                (self.last, self.awaits_first_exchange) = (Some(Ok(())), false);
                (self.misses, self.kisses) = (0, 0);
            }
            Answer::Rejected(reason) => {
                (self.last, self.rejected) = (Some(Err(reason)), Some((now, reason)));
                self.awaits_first_exchange = false;
                self.misses = self.misses.saturating_add(1);
                if let RejectReason::RootDistance = reason {
                    self.root = None;
                }
                match reason {
                    RejectReason::Kiss(kiss) => self.handle_kiss(kiss, now),
                    _ => self.kisses = 0,
                }
            }
        }
    }

    fn handle_kiss(&mut self, kiss: Kiss, now: Mono) {
        self.kisses += 1;
        // No fast retry, even if the kiss is forged.
        self.burst_left = 0;
        if self.kisses < KISSES_TO_OBEY {
            // The next exchange reads the header, which checks the origin of a kiss-o'-death; rsntp does not.
            self.polls_to_header = 0;
            return;
        }
        self.kisses = 0;
        match kiss {
            Kiss::Rate => self.slowdown = (self.slowdown + 1).min(MAX_SLOWDOWN),
            Kiss::Deny => self.backed_off_until = Some(now.plus(DENY_BACKOFF)),
            Kiss::Other => {}
        }
    }

    /// The result to log, if it differs from the last logged one; it then counts as logged.
    ///
    /// A time-out is logged only when it has made the server unreachable: single packets get lost.
    pub fn take_log_change(&mut self, now: Mono) -> Option<Result<(), RejectReason>> {
        let result = self.last.filter(|last| {
            *last != Err(RejectReason::Timeout)
                || matches!(self.state(now), ServerState::Unreachable | ServerState::BackedOff)
        })?;
        (self.last_reported.replace(result) != Some(result)).then_some(result)
    }

    /// The leading sample now; `None` unless the server is reachable.
    pub fn leader(&self, now: Mono, frequency: Frequency, stale_after: Duration) -> Option<Leader> {
        if self.state(now) == ServerState::Reachable {
            self.window.leader(now, frequency, stale_after)
        } else {
            None
        }
    }

    /// When the newest sample was taken.
    pub fn newest_sample(&self) -> Option<Mono> {
        self.window.newest()
    }

    /// Whether the server is usable at `now`.
    pub fn state(&self, now: Mono) -> ServerState {
        if self.is_backed_off(now) {
            ServerState::BackedOff
        } else if self.misses >= MISSES_TO_UNREACHABLE {
            ServerState::Unreachable
        } else if self.window.newest().is_some() {
            ServerState::Reachable
        } else {
            ServerState::Starting
        }
    }

    /// Does the back-off after DENY or RSTR still last?
    pub fn is_backed_off(&self, now: Mono) -> bool {
        self.backed_off_until.is_some_and(|until| now < until)
    }

    /// Puts a spare into use: as a new server, except for its back-off and for what was last logged.
    pub fn reuse(&mut self, id: ServerId) {
        self.window.clear();
        (self.root, self.polls_to_header) = (None, 0);
        (self.id, self.last, self.rejected) = (id, None, None);
        (self.misses, self.burst_left) = (0, 0);
    }

    /// Discards the samples, since the raw clock did not count all of the time, and by the new `id` the
    /// answers on their way.
    ///
    /// The disruption was the node's: the server's root distance stays valid until after the burst, which
    /// saves one exchange.
    pub fn handle_disruption(&mut self, id: ServerId) {
        self.window.clear();
        self.id = id;
        self.awaits_first_exchange = true;
        self.polls_to_header = self.polls_to_header.min(BURST_LEN);
    }

    /// Does its newest sample announce a leap second?
    pub fn announces_leap(&self) -> bool {
        matches!(self.window.newest_leap(), Some(Leap::Insert | Leap::Delete))
    }
}

impl ServerState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Starting, Self::Reachable, Self::Unreachable, Self::BackedOff];

    /// The label `state`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Reachable => "reachable",
            Self::Unreachable => "unreachable",
            Self::BackedOff => "backed-off",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::packet::Leap;
    use crate::time::{Bound, Wall};

    const INTERVAL: Duration = Duration::from_secs(64);
    const STALE: Duration = Duration::from_secs(600);

    fn at(secs: i64) -> Mono {
        Mono::from_nanos(secs * 1_000_000_000)
    }

    fn server() -> Server {
        Server::new(ServerId(1), "127.0.0.1:123".parse().unwrap())
    }

    fn sample(secs: i64) -> Answer {
        Answer::Sample(Sample {
            at: at(secs),
            origin: Wall::from_nanos(0),
            bound: Bound::from_nanos(1_000),
            round_trip: Duration::ZERO,
            root_distance: Duration::ZERO,
            stratum: 1,
            leap: Leap::None,
        })
    }

    fn root(secs: i64) -> Root {
        Root { at: at(secs), distance: Duration::ZERO }
    }

    fn answer(server: &mut Server, answer: Answer, secs: i64) {
        server.handle_answer(answer, at(secs), Frequency::UNKNOWN, 0);
    }

    #[test]
    fn headers_are_read_by_the_first_exchange_and_then_by_one_in_sixteen() {
        let mut server = server();
        let mut asked = Vec::new();
        for round in 0..40 {
            let ask = server.ask(at(round * 64), Some(INTERVAL)).unwrap();
            answer(
                &mut server,
                if ask == Ask::Header { Answer::Header(root(round * 64)) } else { sample(round * 64) },
                round * 64,
            );
            asked.push(ask == Ask::Header);
        }
        let headers: Vec<usize> = (0..40).filter(|n| asked[*n]).collect();
        assert_eq!(headers, [0, 17, 34]);
    }

    #[test]
    fn bursts_are_four_exchanges_at_least_450_ms_apart() {
        let mut server = server();
        assert_eq!(server.ask(at(0), None), None, "no burst was asked for");
        server.request_burst();
        let mut asked = 0;
        for step in 0..100 {
            asked += usize::from(server.ask(Mono::from_nanos(step * 100_000_000), None).is_some());
        }
        assert_eq!(asked, 4);
        server.request_burst();
        let close = Mono::from_nanos(server.last_asked.unwrap().as_nanos() + 400_000_000);
        assert_eq!(server.ask(close, None), None);
        assert_eq!(server.ask(close, Some(INTERVAL)), None);
    }

    #[test]
    fn kisses_of_death_end_the_burst_and_two_in_a_row_are_obeyed() {
        let mut server = server();
        answer(&mut server, Answer::Header(root(0)), 0);
        server.request_burst();
        server.ask(at(0), None);
        answer(&mut server, Answer::Rejected(RejectReason::Kiss(Kiss::Deny)), 0);
        assert!(!server.in_burst(at(1)), "no fast retry");
        assert_ne!(server.state(at(1)), ServerState::BackedOff, "a single one may be forged");
        assert_eq!(
            server.ask(at(64), Some(INTERVAL)),
            Some(Ask::Header),
            "which checks the origin, as rsntp does not"
        );
        answer(&mut server, Answer::Rejected(RejectReason::Kiss(Kiss::Deny)), 64);
        assert_eq!(server.state(at(65)), ServerState::BackedOff);
        assert_eq!(server.ask(at(64 + 3_599), Some(INTERVAL)), None);
        assert!(server.ask(at(64 + 3_601), Some(INTERVAL)).is_some());
    }

    #[test]
    fn kisses_of_death_with_a_sample_between_them_are_not_obeyed() {
        let mut server = server();
        for (secs, result) in [
            (0, Answer::Header(root(0))),
            (64, Answer::Rejected(RejectReason::Kiss(Kiss::Deny))),
            (128, sample(128)),
            (192, Answer::Rejected(RejectReason::Kiss(Kiss::Deny))),
        ] {
            answer(&mut server, result, secs);
        }
        assert_eq!(server.state(at(193)), ServerState::Reachable);
    }

    #[test]
    fn kiss_of_death_rate_doubles_the_interval() {
        let mut server = server();
        for secs in [0, 64] {
            server.ask(at(secs), Some(INTERVAL));
            answer(&mut server, Answer::Rejected(RejectReason::Kiss(Kiss::Rate)), secs);
        }
        let asked: Vec<i64> =
            (2..10).filter(|round| server.ask(at(round * 64), Some(INTERVAL)).is_some()).collect();
        assert_eq!(asked, [3, 5, 7, 9]);
        server.request_burst();
        assert!(!server.in_burst(at(700)), "no burst after RATE");
    }

    #[test]
    fn changed_results_are_logged_once_and_single_timeouts_are_not() {
        let mut server = server();
        let timeout = Err(RejectReason::Timeout);
        let mut logged = |result, secs| {
            answer(&mut server, result, secs);
            server.take_log_change(at(secs))
        };
        assert_eq!(logged(sample(0), 0), Some(Ok(())));
        assert_eq!(logged(sample(1), 1), None);
        assert_eq!(logged(Answer::Rejected(RejectReason::Timeout), 2), None);
        assert_eq!(logged(sample(3), 3), None);
        let unreachable: Vec<_> =
            (4..10).map(|n| logged(Answer::Rejected(RejectReason::Timeout), n)).collect();
        assert_eq!(unreachable, [None, None, None, Some(timeout), None, None]);
        assert_eq!(logged(sample(10), 10), Some(Ok(())));
        let other = Answer::Rejected(RejectReason::Unsynchronised);
        assert_eq!(
            logged(other, 11),
            Some(Err(RejectReason::Unsynchronised)),
            "what a server reports is logged at once"
        );
    }

    #[test]
    fn servers_are_unreachable_after_four_misses_and_reachable_after_one_sample() {
        let mut server = server();
        answer(&mut server, sample(0), 0);
        for n in 1..=3 {
            answer(&mut server, Answer::Rejected(RejectReason::Timeout), n);
            assert!(server.leader(at(n), Frequency::UNKNOWN, STALE).is_some());
        }
        answer(&mut server, Answer::Rejected(RejectReason::Timeout), 4);
        assert_eq!(server.leader(at(4), Frequency::UNKNOWN, STALE), None);
        answer(&mut server, sample(5), 5);
        assert_eq!(server.state(at(5)), ServerState::Reachable);
    }
}
