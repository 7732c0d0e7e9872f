//! One server: when it may be asked, what it answered, and whether it is live.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ntp::filter::{Leader, Window};
use crate::ntp::packet::{Kiss, Leap};
use crate::ntp::reject::RejectReason;
use crate::ntp::sample::{Root, Sample};
use crate::time::Mono;
use crate::time::line::Frequency;

/// Misses in a row after which a server is not live any more.
const MISSES_TO_SILENT: u8 = 4;
/// Exchanges in a burst.
pub const BURST: u8 = 4;
/// Time between two rounds of a burst.
pub const BURST_SPACING: Duration = Duration::from_millis(500);
/// Two exchanges with one server are never closer than this, whatever asks for them. Just under [`BURST_SPACING`], so that
/// a timer that fires a little early does not cost a round.
const CLOSEST: Duration = Duration::from_millis(450);
/// One exchange in about so many is a header read: root distance changes slowly.
const POLLS_PER_HEADER: u8 = 16;
/// How long DENY and RSTR are honoured before we ask again.
const DENIED_FOR: Duration = Duration::from_secs(3_600);
/// RATE doubles the interval, up to 2^6 times.
const MAX_SLOWDOWN: u8 = 6;
/// A kiss-o'-death is believed when the next exchange brings another: one alone may be forged.
const KISSES_BELIEVED: u8 = 2;

/// Names one server for as long as the agent runs; an address that comes back gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

/// What to ask a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The header, for root delay and dispersion.
    Header,
    /// An exchange, for the offset; the root distance that goes into its bound.
    Exchange(Root),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The header was read.
    Header(Root),
    /// The exchange gave a sample.
    Sample(Sample),
    /// It gave nothing.
    Rejected(RejectReason),
}

/// What a server is to us now; the label `state` of `drift_agent_pool_servers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It was never heard and has not failed for good.
    Starting,
    /// It answers.
    Reachable,
    /// It has missed too often.
    Unreachable,
    /// It asked not to be asked.
    BackedOff,
}

/// One address of a pool.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name in effects and inputs.
    pub id: ServerId,
    /// Where it is.
    pub address: SocketAddr,
    /// What the last exchange brought; `None` before the first.
    pub last: Option<Result<(), RejectReason>>,
    /// What was refused last, and when, whatever came after it.
    pub rejected: Option<(Mono, RejectReason)>,
    window: Window,
    root: Option<Root>,
    polls_to_header: u8,
    misses: u8,
    kisses: u8,
    slowdown: u8,
    resting_until: Option<Mono>,
    burst_left: u8,
    /// No exchange has ended since the machine was disrupted.
    is_owing: bool,
    asked: Option<Mono>,
    told: Option<Result<(), RejectReason>>,
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
            resting_until: None,
            burst_left: 0,
            is_owing: false,
            asked: None,
            told: None,
        }
    }

    /// Asks for a burst; a server that asked for less is spared.
    pub fn request_burst(&mut self) {
        if !self.is_spared() {
            self.burst_left = BURST;
        }
    }

    /// It asked for less, and has not shown since that it is well.
    fn is_spared(&self) -> bool {
        self.slowdown > 0 || self.kisses > 0 || self.resting_until.is_some()
    }

    /// Ends a burst before its time.
    pub fn end_burst(&mut self) {
        self.burst_left = 0;
    }

    /// Is a burst under way?
    pub fn in_burst(&self, now: Mono) -> bool {
        self.burst_left > 0 && !self.is_resting(now)
    }

    /// Is a first exchange since the machine was disrupted still to come, and soon?
    pub fn is_owing(&self) -> bool {
        self.is_owing && !self.is_spared()
    }

    /// What to ask in a round that starts now, if anything. `interval` is `None` in the rounds of a burst.
    pub fn ask(&mut self, now: Mono, interval: Option<Duration>) -> Option<Ask> {
        if self.is_resting(now) || self.asked.is_some_and(|at| now.since(at) < CLOSEST) {
            return None;
        }
        match interval {
            None if self.burst_left == 0 => return None,
            Some(interval) if self.slowdown > 0 => {
                let slowed = (interval * (1 << self.slowdown)).saturating_sub(interval / 2);
                if self.asked.is_some_and(|at| now.since(at) < slowed) {
                    return None;
                }
            }
            _ => {}
        }
        self.burst_left = self.burst_left.saturating_sub(1);
        self.resting_until = None;
        self.asked = Some(now);
        Some(match self.root {
            Some(root) if self.polls_to_header > 0 => {
                self.polls_to_header -= 1;
                Ask::Exchange(root)
            }
            _ => Ask::Header,
        })
    }

    /// Takes an answer in. `spread` in 0..8 keeps header reads of several servers apart.
    pub fn answered(&mut self, answer: Answer, now: Mono, frequency: Frequency, spread: u8) {
        match answer {
            Answer::Header(root) => {
                self.root = Some(root);
                self.polls_to_header = POLLS_PER_HEADER + spread;
                (self.misses, self.kisses) = (0, 0);
            }
            Answer::Sample(sample) => {
                self.window.push(sample, frequency);
                (self.last, self.is_owing) = (Some(Ok(())), false);
                (self.misses, self.kisses) = (0, 0);
            }
            Answer::Rejected(refusal) => {
                (self.last, self.rejected) = (Some(Err(refusal)), Some((now, refusal)));
                self.is_owing = false;
                self.misses = self.misses.saturating_add(1);
                if let RejectReason::RootDistance = refusal {
                    self.root = None;
                }
                match refusal {
                    RejectReason::Kiss(kiss) => self.kissed(kiss, now),
                    _ => self.kisses = 0,
                }
            }
        }
    }

    fn kissed(&mut self, kiss: Kiss, now: Mono) {
        self.kisses += 1;
        // Never retry fast, believed or not.
        self.burst_left = 0;
        if self.kisses < KISSES_BELIEVED {
            // The next exchange reads the header: unlike rsntp, that checks what the answer is an answer to.
            self.polls_to_header = 0;
            return;
        }
        self.kisses = 0;
        match kiss {
            Kiss::Rate => self.slowdown = (self.slowdown + 1).min(MAX_SLOWDOWN),
            Kiss::Deny => self.resting_until = Some(now.plus(DENIED_FOR)),
            Kiss::Other => {}
        }
    }

    /// What is worth telling since the last time. One lost packet is not: it is told when it has made the server silent.
    pub fn take_news(&mut self, now: Mono) -> Option<Result<(), RejectReason>> {
        let news = self.last.filter(|last| {
            *last != Err(RejectReason::Timeout)
                || matches!(self.state(now), ServerState::Unreachable | ServerState::BackedOff)
        })?;
        (self.told.replace(news) != Some(news)).then_some(news)
    }

    /// What the server's samples say now; `None` unless it is live.
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

    /// What the server is to us.
    pub fn state(&self, now: Mono) -> ServerState {
        if self.is_resting(now) {
            ServerState::BackedOff
        } else if self.misses >= MISSES_TO_SILENT {
            ServerState::Unreachable
        } else if self.window.newest().is_some() {
            ServerState::Reachable
        } else {
            ServerState::Starting
        }
    }

    /// Has it asked not to be asked, and is that time not over?
    pub fn is_resting(&self, now: Mono) -> bool {
        self.resting_until.is_some_and(|until| now < until)
    }

    /// Takes its place anew after it was a spare. What it asked for, and what was told of it, is not forgotten.
    pub fn reuse(&mut self, id: ServerId) {
        self.window.clear();
        (self.root, self.polls_to_header) = (None, 0);
        (self.id, self.last, self.rejected) = (id, None, None);
        (self.misses, self.burst_left) = (0, 0);
    }

    /// The raw clock did not run through: what was measured is void, and so is what is on its way, hence the new name.
    ///
    /// The server itself did not sleep: its root distance holds until after the burst, which is one exchange sooner to tell.
    pub fn disrupted(&mut self, id: ServerId) {
        self.window.clear();
        self.id = id;
        self.is_owing = true;
        self.polls_to_header = self.polls_to_header.min(BURST);
    }

    /// Has it announced a leap second with its newest sample?
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

    fn hear(server: &mut Server, answer: Answer, secs: i64) {
        server.answered(answer, at(secs), Frequency::UNKNOWN, 0);
    }

    #[test]
    fn the_first_exchange_reads_the_header_and_then_one_in_sixteen() {
        let mut server = server();
        let mut asked = Vec::new();
        for round in 0..40 {
            let ask = server.ask(at(round * 64), Some(INTERVAL)).unwrap();
            hear(
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
    fn a_burst_is_four_exchanges_and_never_closer_than_its_spacing() {
        let mut server = server();
        assert_eq!(server.ask(at(0), None), None, "no burst was asked for");
        server.request_burst();
        let mut asked = 0;
        for step in 0..100 {
            asked += usize::from(server.ask(Mono::from_nanos(step * 100_000_000), None).is_some());
        }
        assert_eq!(asked, 4);
        server.request_burst();
        let close = Mono::from_nanos(server.asked.unwrap().as_nanos() + 400_000_000);
        assert_eq!(server.ask(close, None), None);
        assert_eq!(server.ask(close, Some(INTERVAL)), None);
    }

    #[test]
    fn one_kiss_of_death_ends_the_burst_and_two_in_a_row_are_believed() {
        let mut server = server();
        hear(&mut server, Answer::Header(root(0)), 0);
        server.request_burst();
        server.ask(at(0), None);
        hear(&mut server, Answer::Rejected(RejectReason::Kiss(Kiss::Deny)), 0);
        assert!(!server.in_burst(at(1)), "never retry fast");
        assert_ne!(server.state(at(1)), ServerState::BackedOff, "one alone may be forged");
        assert_eq!(
            server.ask(at(64), Some(INTERVAL)),
            Some(Ask::Header),
            "which checks the origin, as rsntp does not"
        );
        hear(&mut server, Answer::Rejected(RejectReason::Kiss(Kiss::Deny)), 64);
        assert_eq!(server.state(at(65)), ServerState::BackedOff);
        assert_eq!(server.ask(at(64 + 3_599), Some(INTERVAL)), None);
        assert!(server.ask(at(64 + 3_601), Some(INTERVAL)).is_some());
    }

    #[test]
    fn an_answer_in_between_makes_a_kiss_of_death_not_in_a_row() {
        let mut server = server();
        for (secs, answer) in [
            (0, Answer::Header(root(0))),
            (64, Answer::Rejected(RejectReason::Kiss(Kiss::Deny))),
            (128, sample(128)),
            (192, Answer::Rejected(RejectReason::Kiss(Kiss::Deny))),
        ] {
            hear(&mut server, answer, secs);
        }
        assert_eq!(server.state(at(193)), ServerState::Reachable);
    }

    #[test]
    fn rate_doubles_the_interval() {
        let mut server = server();
        for secs in [0, 64] {
            server.ask(at(secs), Some(INTERVAL));
            hear(&mut server, Answer::Rejected(RejectReason::Kiss(Kiss::Rate)), secs);
        }
        let asked: Vec<i64> =
            (2..10).filter(|round| server.ask(at(round * 64), Some(INTERVAL)).is_some()).collect();
        assert_eq!(asked, [3, 5, 7, 9]);
        server.request_burst();
        assert!(!server.in_burst(at(700)), "a server that asked for less is spared the burst");
    }

    #[test]
    fn news_are_told_once_and_a_lost_packet_is_none() {
        let mut server = server();
        let timeout = Err(RejectReason::Timeout);
        let mut told = |answer, secs| {
            hear(&mut server, answer, secs);
            server.take_news(at(secs))
        };
        assert_eq!(told(sample(0), 0), Some(Ok(())));
        assert_eq!(told(sample(1), 1), None);
        assert_eq!(told(Answer::Rejected(RejectReason::Timeout), 2), None);
        assert_eq!(told(sample(3), 3), None);
        let silent: Vec<_> = (4..10).map(|n| told(Answer::Rejected(RejectReason::Timeout), n)).collect();
        assert_eq!(silent, [None, None, None, Some(timeout), None, None]);
        assert_eq!(told(sample(10), 10), Some(Ok(())));
        let other = Answer::Rejected(RejectReason::Unsynchronised);
        assert_eq!(
            told(other, 11),
            Some(Err(RejectReason::Unsynchronised)),
            "what a server says is told at once"
        );
    }

    #[test]
    fn four_misses_make_it_silent_and_one_answer_brings_it_back() {
        let mut server = server();
        hear(&mut server, sample(0), 0);
        for n in 1..=3 {
            hear(&mut server, Answer::Rejected(RejectReason::Timeout), n);
            assert!(server.leader(at(n), Frequency::UNKNOWN, STALE).is_some());
        }
        hear(&mut server, Answer::Rejected(RejectReason::Timeout), 4);
        assert_eq!(server.leader(at(4), Frequency::UNKNOWN, STALE), None);
        hear(&mut server, sample(5), 5);
        assert_eq!(server.state(at(5)), ServerState::Reachable);
    }
}
