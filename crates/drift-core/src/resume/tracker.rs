//! The hardware clock (RTC) against the base clock: a signal that needs no privilege and no help from the
//! hypervisor.
//!
//! In: reads of the RTC. Out: jumps of it, and when to read next. It never judges what made a jump.
//!
//! The RTC shows whole seconds. A read that shows `s` somewhere between the base clock's `before` and `after`
//! means that RTC - base is inside (s - after, s + 1 s - before). Reads over time narrow that range to the
//! millisecond, best around the RTC's tick, the instant at which its second begins. While the machine is
//! paused the RTC runs and the base clock does not: the next read contradicts the range.
//!
//! A contradiction that is too small for a jump does not move the range, but shows that the rate of the two has
//! changed. Reads next to the range look for it every few seconds, long before it makes a jump.
//!
//! An RTC that stands still, or that shows arbitrary times, never makes a jump: it is a [`Found::Fault`].

use std::time::Duration;

use super::rtc_rate::RtcRate;
use super::rtc_trust::RtcFault;
use crate::time::{Mono, NANOS_PER_SEC, OffsetRange, nanos};

/// A larger contradiction is a jump.
pub const RTC_JUMP_MIN: Duration = Duration::from_millis(10);
/// A range of this width is narrow enough: with [`TICK_LEAD`] it makes the smallest pause that is always
/// seen, 18 ms.
pub const RTC_WIDTH_SETTLED: Duration = Duration::from_millis(4);
/// The RTC is read this long before and after its tick. An RTC that ticks early by more than this and the
/// width of the range shows it there. More than [`RTC_JUMP_MIN`], so that a read which starts late or takes
/// long, by 4 ms in all, still contradicts by enough.
const TICK_LEAD: Duration = Duration::from_millis(14);
/// A read this near to the RTC's tick, or to the range in which it is known to tick, shows every jump that is
/// larger.
const TICK_NEAR: Duration = Duration::from_millis(20);
/// From this width down each read inside the range halves it. Above, reads go through it in eighths: many of
/// them fit into one second, where halving would wait a second for the next tick after every other read.
const HALVED_BELOW_WIDTH: Duration = Duration::from_millis(32);
/// How far outside of the range the reads are that show a change of the rate, and at least how far the RTC is
/// outside then.
const FENCE: Duration = Duration::from_millis(2);
/// A smaller contradiction is what a read adds, no change of the rate.
const RATE_CHANGE_MIN: Duration = Duration::from_millis(1);
/// A read this near to the range shows such a change.
const FENCE_NEAR: Duration = Duration::from_millis(6);
/// Time between these reads.
const FENCE_INTERVAL: Duration = Duration::from_secs(5);
/// An RTC that shows one second for so long stands still. One that was set back by a part of a second shows it for two
/// seconds at most.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(3);
/// No second of an RTC lasts longer, whatever the rate of the raw clock.
const SECOND_MAX: Duration = Duration::from_millis(1_300);
/// It has to show it in so many reads.
const STANDS_STILL_READS: u8 = 4;
/// Reads that contradict each other for so long, and not one that agrees with what is known, are arbitrary.
const ARBITRARY_AFTER: Duration = Duration::from_secs(10);

/// A jump before the first tick is reported with a tick that comes so soon.
const REPORTED_WITHIN: Duration = Duration::from_secs(3);
const SECOND: Duration = Duration::from_secs(1);

/// One read of the RTC between two readings of the raw clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcRead {
    /// What the RTC showed: whole seconds since 1970, in its own time.
    pub seconds: i64,
    /// The clock just before.
    pub before: Mono,
    /// The clock just after. Any time may lie between the two: the range stays true.
    pub after: Mono,
    /// What setting this RTC does to its subsecond.
    pub set_behavior: RtcSetBehavior,
}

/// What setting an RTC does to its subsecond, the part of a second since its last tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcSetBehavior {
    /// Begins at 0, so that the RTC shows the time that was set to the millisecond: a PC's CMOS clock.
    ResetsSubsecond,
    /// Goes on, so that the RTC moves by whole seconds only: a PC's CMOS clock with an AMD processor.
    KeepsSubsecond,
    /// Not known: one of the two.
    Unknown,
}

/// RTC - base, as known when the base clock read `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fix {
    at: Mono,
    range: OffsetRange,
}

/// The RTC has jumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// RTC - base, had the RTC not jumped.
    pub expected: OffsetRange,
    /// RTC - base by the reads since the jump.
    pub found: OffsetRange,
}

/// What a read shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing that was not known.
    Nothing,
    /// A jump. Tracking starts again from there.
    Jump(Jump),
    /// The RTC is no clock.
    Fault(RtcFault),
}

/// Follows the RTC. All times are of the base clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracker {
    rate: RtcRate,
    fix: Option<Fix>,
    /// One read that contradicts the fix. A second one that agrees with it makes a jump; a garbled read stays
    /// alone.
    contradiction: Option<Fix>,
    /// Where the RTC is if it has not ticked because it was set back: all reads since it should have ticked.
    late: Option<Fix>,
    /// Since when every read contradicts the fix.
    contradicted_since: Option<Mono>,
    /// The second that the RTC shows.
    shown: Option<Shown>,
    /// It has shown one second after the other. One that has not may be no clock, and its jumps do not count yet.
    has_ticked: bool,
    /// A jump before it has ticked, and when it was found: its next tick shows that it is a clock.
    unreported: Option<(Mono, Jump)>,
    checked: Checked,
    /// The fix at the last two complete checks, older first. A jump is younger than the older one. A read
    /// since then may be of after the jump, and still agree with a range that was wide.
    checkpoints: [Option<Fix>; 2],
    /// Which reads next to the range there were since the last time that there were both.
    fences: Checked,
    /// When that was.
    fenced: Option<Mono>,
}

/// The second that the RTC shows.
#[derive(Clone, Copy, Debug)]
struct Shown {
    seconds: i64,
    /// The end of the first read that showed it.
    since: Mono,
    /// The begin of the last one.
    last: Mono,
    /// Reads that showed it.
    reads: u8,
}

/// Which jumps would have shown since the last [`Tracker::take_checked`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checked {
    forward: bool,
    back: bool,
}

impl Tracker {
    /// Takes a read, with its times lifted to the base clock.
    pub fn handle_read(&mut self, read: RtcRead) -> Found {
        if read.after < read.before {
            return Found::Nothing;
        }
        let now = read.after;
        let shown = read.seconds.saturating_mul(NANOS_PER_SEC);
        let found = OffsetRange {
            low: shown.saturating_sub(read.after.as_nanos()),
            high: shown.saturating_add(NANOS_PER_SEC).saturating_sub(read.before.as_nanos()),
        };
        let before = self.shown;
        let shown = self.show(read);
        if before.is_some_and(|before| before.is_skipped_by(read.seconds)) {
            return Found::Fault(RtcFault::Coarse);
        }
        if shown.reads >= STANDS_STILL_READS && read.before.since(shown.since) >= STANDS_STILL_AFTER {
            return Found::Fault(RtcFault::StandsStill);
        }
        if self.has_ticked
            && let Some((_, jump)) = self.unreported.take_if(|(at, _)| now.since(*at) < REPORTED_WITHIN)
        {
            return Found::Jump(jump);
        }
        let contradiction = self.contradiction.take().map(|first| first.carried_to(now, &self.rate));
        let Some(expected) = self.range(now) else {
            self.start(now, found);
            return Found::Nothing;
        };
        let distance = found.distance(expected);
        let has_ticked = self.fix.is_none_or(|fix| shown.since > fix.at);
        let late = self.late.take().map(|late| late.carried_to(now, &self.rate));
        if found.high < expected.low && distance > nanos(RATE_CHANGE_MIN) && !has_ticked {
            // It may stand still, or was set back. Its next second shows which.
            let range = late.map_or(found, |late| late.narrowed_by(found));
            self.late = Some(Fix { at: now, range });
            return Found::Nothing;
        }
        if let Some(late) = late.filter(|late| has_ticked && late.distance(found) == 0) {
            if late.distance(expected) > nanos(RTC_JUMP_MIN) {
                return self.jumped(late.narrowed_by(found), now);
            }
            self.rate.refute(now);
        }
        match contradiction {
            // The second read need not contradict by itself: a tick that was early is over by now.
            Some(first) if first.distance(found) == 0 => return self.jumped(first.narrowed_by(found), now),
            _ if distance > nanos(RTC_JUMP_MIN) => {
                // The first read to contradict; or the second one, which contradicts the first one, too.
                self.contradiction = contradiction.is_none().then_some(Fix { at: now, range: found });
                if now.since(*self.contradicted_since.get_or_insert(now)) >= ARBITRARY_AFTER {
                    return Found::Fault(RtcFault::Arbitrary);
                }
            }
            _ if distance > nanos(RATE_CHANGE_MIN) => self.rate.refute(now),
            _ if distance > 0 => {}
            _ => self.agrees(found, expected, now),
        }
        Found::Nothing
    }

    /// Notes the second that a read shows.
    fn show(&mut self, read: RtcRead) -> Shown {
        self.has_ticked |= self.shown.is_some_and(|shown| shown.seconds.checked_add(1) == Some(read.seconds));
        let again = self.shown.filter(|shown| shown.seconds == read.seconds);
        let shown = match again {
            Some(shown) => Shown { last: read.before, reads: shown.reads.saturating_add(1), ..shown },
            None => Shown { seconds: read.seconds, since: read.after, last: read.before, reads: 1 },
        };
        self.shown = Some(shown);
        shown
    }

    /// The read agrees with what is known.
    fn agrees(&mut self, found: OffsetRange, expected: OffsetRange, now: Mono) {
        self.contradicted_since = None;
        let (beyond, below) =
            (found.high.saturating_sub(expected.high), expected.low.saturating_sub(found.low));
        let near = nanos(TICK_NEAR).saturating_add(expected.width());
        self.checked.forward |= beyond <= near;
        self.checked.back |= below <= near;
        self.fences.forward |= beyond <= nanos(FENCE_NEAR);
        self.fences.back |= below <= nanos(FENCE_NEAR);
        if self.fences.is_complete() {
            (self.fences, self.fenced) = (Checked::default(), Some(now));
        }
        let range = expected.narrowed_by(found);
        self.fix = Some(Fix { at: now, range });
        self.rate.learn(now, range);
    }

    /// Two reads contradict the fix, and agree on `found`.
    fn jumped(&mut self, found: OffsetRange, now: Mono) -> Found {
        let [older, _] = self.checkpoints;
        let Some(known) = older.or(self.fix) else { return Found::Nothing };
        let expected = known.carried_to(now, &self.rate);
        let may_be_rate = !self.rate.is_learned(now)
            && RtcRate::carry_at_any_rate(known.range, known.at, now).distance(found) == 0;
        if may_be_rate {
            self.rate.escalate();
        } else {
            self.rate.forget_base_line();
        }
        self.start(now, found);
        let jump = Jump { expected, found };
        match (may_be_rate, self.has_ticked) {
            (true, _) => Found::Nothing,
            (false, true) => Found::Jump(jump),
            (false, false) => {
                self.unreported = Some((now, jump));
                Found::Nothing
            }
        }
    }

    /// Have reads on both sides of the RTC's tick shown since the last `true` that the RTC has not jumped?
    /// `true` starts the next check.
    pub fn take_checked(&mut self) -> bool {
        let is_complete = self.checked.is_complete();
        if is_complete {
            let [_, newer] = self.checkpoints;
            self.checkpoints = [newer, self.fix];
            self.checked = Checked::default();
        }
        is_complete
    }

    /// Starts again, because the base clock itself was set forward. The rate is as before.
    pub fn reset(&mut self) {
        *self = Self { rate: self.rate, ..Self::default() };
        self.rate.forget_base_line();
    }

    /// RTC - base at `now`, as far as it is known; `None` without a read.
    pub fn range(&self, now: Mono) -> Option<OffsetRange> {
        self.fix.map(|fix| fix.carried_to(now, &self.rate))
    }

    /// Where a range known at `from` is at `to`.
    pub fn carry(&self, range: OffsetRange, from: Mono, to: Mono) -> OffsetRange {
        self.rate.carry(range, from, to)
    }

    /// The width of the range, ns; as long as the rate is not known, with what any rate may add. A jump that is
    /// smaller does not show.
    pub fn uncertainty(&self, now: Mono) -> Option<i64> {
        let width = self.range(now)?.width();
        let [older, _] = self.checkpoints;
        let known = older.or(self.fix).filter(|_| !self.rate.is_learned(now));
        let at_any_rate = known.map_or(0, |fix| {
            let until_read = RtcRate::carry_at_any_rate(fix.range, fix.at, now.plus(SECOND));
            until_read.width().saturating_add(NANOS_PER_SEC)
        });
        Some(width.max(at_any_rate))
    }

    /// When to read next so that the read shows most: half a second before the RTC's tick (a long pause shows
    /// at any time), shortly before the tick (a short one shows there), inside the range while it is wide,
    /// shortly after the tick.
    pub fn next_read(&self, now: Mono) -> Mono {
        let Some(range) = self.range(now).filter(|_| self.contradiction.is_none()) else { return now };
        // The first tick whose last read is still to come.
        let tick = now
            .as_nanos()
            .saturating_add(range.low)
            .saturating_sub(nanos(TICK_LEAD))
            .div_euclid(NANOS_PER_SEC)
            .saturating_add(1)
            .saturating_mul(NANOS_PER_SEC);
        let (earliest, latest) = (tick.saturating_sub(range.high), tick.saturating_sub(range.low));
        let width = range.width();
        let step = if width > nanos(HALVED_BELOW_WIDTH) { width / 8 } else { width / 2 };
        // Before the tick after this one the range has grown.
        let is_wide = width.saturating_add(self.rate.growth(SECOND)) > nanos(RTC_WIDTH_SETTLED);
        let inside = if is_wide { earliest.saturating_add(step) } else { i64::MIN };
        let is_fence_due = self.fenced.is_none_or(|at| now.since(at) >= FENCE_INTERVAL);
        let fences = if is_fence_due {
            [earliest.saturating_sub(nanos(FENCE)), latest.saturating_add(nanos(FENCE))]
        } else {
            [i64::MIN; 2]
        };
        let early = earliest.saturating_sub(nanos(TICK_LEAD));
        let late = latest.saturating_add(nanos(TICK_LEAD));
        let opposite = earliest.saturating_add(width / 2).saturating_sub(NANOS_PER_SEC / 2);
        let times = [opposite, early, inside].into_iter().chain(fences);
        let next = times.filter(|&t| t > now.as_nanos()).min();
        Mono::from_nanos(next.map_or(late, |t| t.min(late)))
    }

    fn start(&mut self, at: Mono, range: OffsetRange) {
        let fix = Some(Fix { at, range });
        let (rate, shown, has_ticked) = (self.rate, self.shown, self.has_ticked);
        *self = Self { rate, shown, has_ticked, fix, checkpoints: [fix; 2], ..Self::default() };
        self.rate.learn(at, range);
    }
}

impl Shown {
    /// Has it lasted for longer than a second, and is the next one left out?
    fn is_skipped_by(self, next: i64) -> bool {
        self.last.since(self.since) > SECOND_MAX && next >= self.seconds.saturating_add(2)
    }
}

impl Checked {
    fn is_complete(self) -> bool {
        self.forward && self.back
    }
}

impl Fix {
    fn carried_to(self, now: Mono, rate: &RtcRate) -> OffsetRange {
        rate.carry(self.range, self.at, now)
    }
}

#[cfg(test)]
mod tests;
