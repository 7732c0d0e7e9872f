//! The RTC as a signal: jumps of it, and whether a write can have made them.
//!
//! In: reads of the RTC. Out: an [`RtcFinding`] for each. A jump that may be a write is reported as one at
//! first. It takes up to five seconds until the RTC is known to the millisecond again; if no write can have
//! made the jump then, it was a pause.

use std::time::Duration;

use super::classify::RtcFinding;
use super::rtc_trust::{RtcFault, RtcTrust};
use super::rtc_write::may_be_rtc_write;
use super::tracker::{Found, Jump, RTC_WIDTH_SETTLED, RtcRead, RtcSetBehavior, Tracker};
use super::wall::WallRange;
use crate::time::{Mono, OffsetRange, Reading, nanos};

/// A jump that looks like a write is checked again for this long.
const UNCONFIRMED_WRITE_MAX_AGE: Duration = Duration::from_secs(5);

/// Follows the RTC. All times are of the base clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct RtcMonitor {
    tracker: Tracker,
    trust: RtcTrust,
    wall_range: WallRange,
    unconfirmed: Option<UnconfirmedWrite>,
    /// The second at which it stood still.
    stood_at: Option<i64>,
}

/// A jump that was reported as a write, until the RTC is known well enough to confirm that.
#[derive(Clone, Copy, Debug)]
struct UnconfirmedWrite {
    /// When the jump was found.
    at: Mono,
    /// RTC - base, had the RTC not jumped.
    expected: OffsetRange,
    /// Wall - base, wherever it was when the RTC jumped.
    wall: OffsetRange,
    set_behavior: RtcSetBehavior,
}

impl RtcMonitor {
    /// Takes what one observation has of the RTC: a read, or none. `is_interrupted`: the base clock was set
    /// forward; what was known of the RTC is void then, and this read is skipped. `is_moved`: the hypervisor
    /// reported a disruption, after which other hardware may count; the rate is void, too.
    pub fn handle_observation(
        &mut self,
        read: Option<RtcRead>,
        is_interrupted: bool,
        is_moved: bool,
        now: Reading,
    ) -> RtcFinding {
        let is_trusted_again = self.trust.is_period_over(now.base()) && !self.trust.is_trusted();
        if is_trusted_again && self.stood_at.is_some() && self.stood_at == read.map(|read| read.seconds) {
            // It has not moved since.
            self.trust.note_fault(RtcFault::StandsStill, now.base());
        } else if self.trust.is_period_over(now.base()) {
            self.trust.reset();
        }
        if is_interrupted || is_moved || is_trusted_again {
            self.restart();
            if is_moved {
                self.tracker = Tracker::default();
            }
            return RtcFinding::Steady;
        }
        match read.filter(|_| self.trust.is_trusted()) {
            Some(read) => self.handle_read(read, now),
            None => RtcFinding::Steady,
        }
    }

    /// Drops the doubt about a jump that was reported as a write.
    pub fn drop_unconfirmed_write(&mut self) {
        self.unconfirmed = None;
    }

    /// Has the RTC jumped rarely enough to be used?
    pub fn is_trusted(&self) -> bool {
        self.trust.is_trusted()
    }

    /// Why the RTC is not used, where it is not.
    pub fn fault(&self) -> Option<RtcFault> {
        self.trust.fault()
    }

    /// The kernel counts by another clocksource: the rate is not known any more.
    pub fn handle_other_clock(&mut self) {
        self.restart();
        self.tracker = Tracker::default();
    }

    /// When to read the RTC next.
    pub fn next_read(&self, now: Mono) -> Mono {
        self.tracker.next_read(now)
    }

    /// The smallest jump that is sure to show, but for what the times of the reads add, ns; `None` without a read.
    pub fn uncertainty(&self, now: Mono) -> Option<i64> {
        self.tracker.uncertainty(now)
    }

    fn handle_read(&mut self, read: RtcRead, now: Reading) -> RtcFinding {
        self.wall_range.add(now);
        match self.tracker.handle_read(read) {
            Found::Jump(jump) => return self.handle_jump(jump, read.set_behavior, now.base()),
            Found::Fault(fault) => {
                self.stood_at = (fault == RtcFault::StandsStill).then_some(read.seconds);
                self.trust.note_fault(fault, now.base());
                self.restart();
                return RtcFinding::Steady;
            }
            Found::Nothing => {}
        }
        if self.tracker.take_checked() {
            self.wall_range.rtc_checked();
        }
        self.check_unconfirmed_write(now.base())
    }

    fn handle_jump(&mut self, jump: Jump, set_behavior: RtcSetBehavior, at: Mono) -> RtcFinding {
        let Jump { expected, found } = jump;
        self.trust.count_jump(at, found.low > expected.high);
        let wall = std::mem::take(&mut self.wall_range).all();
        let write = wall
            .map(|wall| UnconfirmedWrite { at, expected, wall, set_behavior })
            .filter(|write| write.is_possible(found, at, &self.tracker));
        let earlier = self.unconfirmed;
        let joined = |write: UnconfirmedWrite| {
            earlier.map_or(write, |earlier| earlier.joined_by(write, &self.tracker))
        };
        self.unconfirmed = write.map(joined);
        let by = found.minus(expected).measurement();
        if self.unconfirmed.is_some() { RtcFinding::MaybeWritten { by } } else { RtcFinding::Jumped { by } }
    }

    /// The RTC is known better by now: can the jump still have been a write?
    fn check_unconfirmed_write(&mut self, at: Mono) -> RtcFinding {
        let Some((write, found)) = self.unconfirmed.zip(self.tracker.range(at)) else {
            return RtcFinding::Steady;
        };
        let is_possible = write.is_possible(found, at, &self.tracker);
        let is_settled = found.width() <= nanos(RTC_WIDTH_SETTLED);
        if !is_possible || is_settled || at.since(write.at) > UNCONFIRMED_WRITE_MAX_AGE {
            self.unconfirmed = None;
        }
        if is_possible {
            return RtcFinding::Steady;
        }
        RtcFinding::NotWritten { by: found.minus(write.expected_at(at, &self.tracker)).measurement() }
    }

    fn restart(&mut self) {
        self.tracker.reset();
        self.wall_range = WallRange::default();
        self.unconfirmed = None;
    }
}

impl UnconfirmedWrite {
    /// Can it have been a write, with RTC - base `found` at `now`?
    fn is_possible(&self, found: OffsetRange, now: Mono, tracker: &Tracker) -> bool {
        may_be_rtc_write(self.expected_at(now, tracker), found, self.wall, self.set_behavior)
    }

    fn expected_at(&self, now: Mono, tracker: &Tracker) -> OffsetRange {
        tracker.carry(self.expected, self.at, now)
    }

    /// Another jump follows while this one is unconfirmed. Their sum shows what each of them did. The second
    /// one alone would hide the first, because it began from a range that is still wide.
    fn joined_by(self, next: Self, tracker: &Tracker) -> Self {
        let wall = self.wall.joined(next.wall);
        Self { expected: self.expected_at(next.at, tracker), wall, ..next }
    }
}
