//! One server: when it may be asked, its samples, and whether it is reachable.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ntp::cross_check::{CrossCheck, CrossChecks, Doubt, is_clock_in_range};
use crate::ntp::manners::Manners;
use crate::ntp::packet::Leap;
use crate::ntp::reject::RejectReason;
use crate::ntp::sample::Sample;
use crate::ntp::window::Window;
use crate::time::interval::Interval;
use crate::time::rate::Rate;
use crate::time::{Mono, Reading};

/// Rejected exchanges in a row after which another server takes the place of this one.
const MISSES_TO_FAILING: u8 = 4;
/// A server that has missed so many exchanges in a row has no vote about a new rate of the raw clock.
pub const MISSES_TO_ABSTAIN: u8 = 2;
/// Time-outs in a row that are taken for part of a kiss-o'-death before them: servers that limit their clients
/// send one kiss, and drop further requests.
const DROPS_AFTER_KISS: u8 = 4;
/// Exchanges that a new server gets at once, before a look-up may discard it.
const INTRODUCTIONS: u8 = 2;

/// Identifies one server; never used again for another, nor for the same one after a disruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

/// Which client does an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The agent's own, for a sample.
    Sample,
    /// rsntp, for comparison.
    CrossCheck,
}

/// The result of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It gave a sample.
    Sample(Sample),
    /// It gave none, for this reason.
    Rejected(RejectReason),
    /// The cross-check measured this, or nothing.
    CrossChecked(Option<CrossCheck>),
}

/// Whether a server is usable now; the label `state` of `drift_agent_pool_servers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// No exchange has succeeded yet, and too few have failed.
    Starting,
    /// It has a sample younger than `staleAfter`.
    Reachable,
    /// It has none.
    Unreachable,
    /// It is asked too seldom for its samples to stay young, or not at all: it sent a kiss-o'-death, or two
    /// clients measured it differently.
    BackedOff,
}

/// What a server's state depends on beside the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time between two polls.
    pub interval: Duration,
    /// A sample of this age or older is none.
    pub stale_after: Duration,
}

/// One address of a pool.
#[derive(Clone, Debug)]
pub struct Server {
    /// Identifies it in effects and inputs.
    pub id: ServerId,
    /// Address and port.
    pub address: SocketAddr,
    /// The result of the last exchange; `None` before the first. A kiss-o'-death stands for the few time-outs that
    /// follow it, too.
    pub last: Option<Result<(), RejectReason>>,
    /// The last rejected exchange and its time, even if later ones succeeded.
    pub rejected: Option<(Mono, RejectReason)>,
    /// Answers of the name server, in a row, that lack the address, and since when.
    pub absent: Option<(Mono, u16)>,
    /// Rounds in a row in which it was a falseticker.
    pub false_rounds: u8,
    window: Window,
    manners: Manners,
    cross_checks: CrossChecks,
    /// Rejected exchanges in a row, since the last disruption.
    misses: u8,
    /// Time-outs in a row since a kiss-o'-death; `None`: something else came after it.
    drops: Option<u8>,
    introductions_left: u8,
    /// What follows the exchange that is under way or was the last, without waiting for the next poll: a cross-check,
    /// which takes no sample's place, or a sample after a cross-check that gave nothing.
    follow_up: Option<Ask>,
    /// An exchange is under way.
    is_pending: bool,
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
            absent: None,
            false_rounds: 0,
            window: Window::default(),
            manners: Manners::default(),
            // Any spread will do.
            cross_checks: CrossChecks::new(u8::try_from(id.0 % 8).unwrap_or(0)),
            misses: 0,
            drops: None,
            introductions_left: INTRODUCTIONS,
            follow_up: None,
            is_pending: false,
            last_reported: None,
        }
    }

    /// What to ask now; `None`: nothing, since it would be too soon, or an exchange is under way.
    ///
    /// `is_urgent`: its pool has no reachable server. `may_cross_check`: no quick round is under way.
    pub fn ask(
        &mut self,
        now: Reading,
        interval: Duration,
        is_urgent: bool,
        may_cross_check: bool,
    ) -> Option<Ask> {
        let is_urgent = is_urgent || self.is_soon();
        if self.is_pending || !self.manners.may_ask(now.raw, interval, is_urgent) {
            return None;
        }
        self.manners.note_asked(now.raw);
        self.is_pending = true;
        self.introductions_left = self.introductions_left.saturating_sub(1);
        let may_cross_check = may_cross_check
            && is_clock_in_range(now.wall)
            && !self.manners.is_slowed()
            && self.window.newest().is_some();
        if self.follow_up.take() == Some(Ask::CrossCheck) && may_cross_check {
            self.cross_checks.note_asked();
            return Some(Ask::CrossCheck);
        }
        self.follow_up = (may_cross_check && self.cross_checks.is_due()).then_some(Ask::CrossCheck);
        Some(Ask::Sample)
    }

    /// When a new server, or one with a cross-check before or behind it, is to be asked, without waiting for the
    /// others; `None` for any other.
    pub fn soon_at(&self, now: Mono, interval: Duration) -> Option<Mono> {
        self.next_at(now, interval).filter(|_| self.is_soon())
    }

    fn is_soon(&self) -> bool {
        self.introductions_left > 0 || self.follow_up.is_some()
    }

    /// When it may be asked next; `None`: it is being asked, or is not asked at all.
    pub fn next_at(&self, now: Mono, interval: Duration) -> Option<Mono> {
        (!self.is_pending && !self.manners.is_backed_off(now)).then(|| self.manners.next_at(now, interval))
    }

    /// Has it had the exchanges that a new server gets?
    pub fn is_introduced(&self) -> bool {
        self.introductions_left == 0 && !self.is_pending
    }

    /// Takes in the result of an exchange. Returns the reason to count, if it has rejected anything.
    pub fn handle_answer(
        &mut self,
        answer: Answer,
        now: Mono,
        rate: Rate,
        pace: Pace,
    ) -> Option<RejectReason> {
        self.is_pending = false;
        let rejected = match answer {
            Answer::Sample(sample) => {
                self.window.push(sample, rate);
                self.cross_checks.note_sample();
                self.manners.note_good();
                (self.misses, self.drops) = (0, None);
                let shown = self.window.is_inconsistent().then_some(RejectReason::ServerInconsistent);
                self.last = Some(shown.map_or(Ok(()), Err));
                return None;
            }
            Answer::Rejected(reason) => {
                self.follow_up = None;
                if let RejectReason::Kiss(kiss) = reason {
                    self.manners.note_kiss(kiss, now);
                }
                if reason.is_of_server() {
                    self.misses = self.misses.saturating_add(1);
                }
                reason
            }
            Answer::CrossChecked(None) => {
                self.follow_up = Some(Ask::Sample);
                return None;
            }
            Answer::CrossChecked(Some(check)) => self.handle_cross_check(check, now, rate, pace)?,
        };
        self.rejected = Some((now, rejected));
        if !self.is_drop_after_kiss(rejected) {
            self.last = Some(Err(rejected));
        }
        Some(rejected)
    }

    /// Is it a time-out that a kiss-o'-death before it explains?
    fn is_drop_after_kiss(&mut self, rejected: RejectReason) -> bool {
        self.drops = match (rejected, self.drops) {
            (RejectReason::Kiss(_), _) => Some(0),
            (RejectReason::Timeout, Some(drops)) => Some(drops.saturating_add(1)),
            _ => None,
        };
        self.drops.is_some_and(|drops| (1..=DROPS_AFTER_KISS).contains(&drops))
    }

    fn handle_cross_check(
        &mut self,
        check: CrossCheck,
        now: Mono,
        rate: Rate,
        pace: Pace,
    ) -> Option<RejectReason> {
        if self.window.is_inconsistent() {
            // Several clocks answer. That the two clients have met different ones shows nothing.
            return None;
        }
        let own = self.window.interval(check.at, rate, pace.stale_after)?;
        match self.cross_checks.compare(check, own, self.window.newest()?) {
            Doubt::None => None,
            Doubt::First => Some(RejectReason::ServerInconsistent),
            Doubt::Confirmed => {
                self.manners.back_off(now);
                self.window.clear();
                self.cross_checks.reset();
                Some(RejectReason::ClientsDisagree)
            }
        }
    }

    /// The result to log, if it differs from the last logged one; it then counts as logged.
    ///
    /// A time-out is logged only when it is one of several in a row: single packets get lost.
    pub fn take_log_change(&mut self) -> Option<Result<(), RejectReason>> {
        let result = self.last.filter(|last| *last != Err(RejectReason::Timeout) || self.is_failing())?;
        (self.last_reported.replace(result) != Some(result)).then_some(result)
    }

    /// The origins that it allows now; `None` unless it has a young sample.
    pub fn interval(&self, now: Mono, rate: Rate, stale_after: Duration) -> Option<Interval> {
        self.window.interval(now, rate, stale_after)
    }

    /// The sample of least bound now.
    pub fn best_sample(&self, now: Mono, rate: Rate, stale_after: Duration) -> Option<Sample> {
        self.window.best(now, rate, stale_after)
    }

    /// The newest sample.
    pub fn newest_sample(&self) -> Option<&Sample> {
        self.window.newest()
    }

    /// Whether the server is usable at `now`.
    pub fn state(&self, now: Mono, pace: Pace) -> ServerState {
        if self.manners.is_too_slow(now, pace.interval, pace.stale_after) {
            ServerState::BackedOff
        } else if self.is_reachable(now, pace.stale_after) {
            ServerState::Reachable
        } else if self.is_failing() || self.window.newest().is_some() {
            ServerState::Unreachable
        } else {
            ServerState::Starting
        }
    }

    /// Has it a young sample?
    pub fn is_reachable(&self, now: Mono, stale_after: Duration) -> bool {
        self.window.newest().is_some_and(|sample| now.since(sample.at) < stale_after)
    }

    /// Were four or more exchanges in a row rejected?
    pub fn is_failing(&self) -> bool {
        self.misses >= MISSES_TO_FAILING
    }

    /// Exchanges in a row that were rejected.
    pub fn misses(&self) -> u8 {
        self.misses
    }

    /// Does it contradict itself?
    pub fn is_inconsistent(&self) -> bool {
        self.window.is_inconsistent()
    }

    /// Its contradictions so far are not its own.
    pub fn forgive(&mut self) {
        self.window.forgive();
    }

    /// Do kisses-o'-death hold requests back, and none is under way?
    pub fn is_held_back(&self, now: Mono) -> bool {
        !self.is_pending && (self.manners.is_slowed() || self.manners.is_backed_off(now))
    }

    /// Is it not asked at all now?
    pub fn is_backed_off(&self, now: Mono) -> bool {
        self.manners.is_backed_off(now)
    }

    /// How often it may be asked.
    pub fn manners(&self) -> Manners {
        self.manners
    }

    /// Goes on as `manners` say, unless it was asked itself.
    pub fn adopt(&mut self, manners: Manners) {
        if !self.manners.was_asked() {
            self.manners = manners;
        }
    }

    /// Puts a spare into use: as a new server, except for its manners and for what was last logged.
    pub fn reuse(&mut self, id: ServerId) {
        let fresh = Self::new(id, self.address);
        *self =
            Self { manners: self.manners, last_reported: self.last_reported, absent: self.absent, ..fresh };
    }

    /// Discards the samples, since the raw clock did not count all of the time, and by the new `id` the
    /// answer on its way.
    pub fn handle_disruption(&mut self, id: ServerId) {
        self.window.clear();
        (self.id, self.misses, self.is_pending) = (id, 0, false);
        self.follow_up.take_if(|follow_up| *follow_up == Ask::CrossCheck);
    }

    /// Discards the samples from before `since`.
    pub fn forget_before(&mut self, since: Mono) {
        self.window.forget_before(since);
    }

    /// Allows one request that comes sooner than the manners ask for.
    pub fn grant_extra(&mut self) {
        self.manners.grant_extra();
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
mod tests;
