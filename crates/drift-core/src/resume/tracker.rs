//! The hardware clock (RTC) against the base clock: the signal that needs no privilege and no help from the hypervisor.
//!
//! The RTC shows whole seconds. A read that shows `s` somewhere between the base clock's `before` and `after` says that
//! RTC - base is inside (s - after, s + 1 s - before). Reads over time narrow that down to the millisecond, best around
//! the instant at which the RTC ticks over. While the machine is paused the RTC runs on and the base clock does not: the next read
//! contradicts the ones before.
//!
//! A contradiction too small to tell is not absorbed: were the interval re-centred each time, ten pauses of 8 ms would go unseen.

use std::time::Duration;

use super::range::Range;
use crate::time::{Mono, NANOS_PER_SEC, Ppb, nanos};

/// What the two clocks may drift apart: two oscillators, neither disciplined by the kernel.
pub const DRIFT: Ppb = Ppb::from_ppm(100);
/// A contradiction beyond this is a jump.
pub const JUMP: Duration = Duration::from_millis(10);
/// How long before the RTC's tick it is read. An RTC that ticks early by more than this and the width of the interval shows it
/// there; more than [`JUMP`], so that a read which starts late or takes long, 4 ms in all, still contradicts by enough.
const LEAD: Duration = Duration::from_millis(14);
/// Narrow enough: with [`LEAD`] it makes the smallest pause that is always seen, 18 ms.
pub const NARROW: Duration = Duration::from_millis(4);
/// A read this near to the RTC's tick, or to the interval in which it is known to tick, shows every jump that is any larger.
const SEEN: Duration = Duration::from_millis(20);
/// From this width on each read inside the interval halves it. Before, reads go through it in eighths: one second yields many,
/// where halving would wait a second for the next tick after every other read.
const HALVED_BELOW: Duration = Duration::from_millis(32);

/// One read of the RTC between two of the raw clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcRead {
    /// What it showed: whole seconds since 1970, in the RTC's own time.
    pub seconds: i64,
    /// The clock just before.
    pub before: Mono,
    /// The clock just after. Any time may lie between: the bounds stay true.
    pub after: Mono,
    /// What setting it does to its second.
    pub on_set: RtcSetBehavior,
}

/// What setting an RTC does to the second that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcSetBehavior {
    /// It begins anew, so that the RTC shows the time that was set to the millisecond: a PC's CMOS clock.
    ResetsSubsecond,
    /// It goes on, so that the RTC moves by whole seconds only: a PC's CMOS clock on a processor by AMD.
    KeepsSubsecond,
    /// One of the two.
    Unknown,
}

/// RTC - base in nanoseconds, as known when the base clock read `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fix {
    at: Mono,
    origin: Range,
}

/// The RTC is not where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// RTC - base, had nothing happened.
    pub expected: Range,
    /// RTC - base by the reads since.
    pub found: Range,
}

/// Follows the RTC. All times are of the base clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracker {
    fix: Option<Fix>,
    /// One read that contradicts. A second one makes the jump; a garbled one stays alone.
    suspect: Option<Fix>,
    /// Since [`Tracker::take_checked`]: would a jump forward have shown, and one back?
    checked: (bool, bool),
    /// The fix when it was last checked, and the time before. A jump is younger than the older one; what was read since may be
    /// of after the jump, and still have agreed with an interval as wide as it was.
    anchors: [Option<Fix>; 2],
}

impl Tracker {
    /// Takes a read in. `Some` when it proves a jump; the tracker starts anew from there.
    pub fn on(&mut self, read: RtcRead) -> Option<Jump> {
        let shown = read.seconds.saturating_mul(NANOS_PER_SEC);
        let found = Range {
            low: shown.saturating_sub(read.after.as_nanos()),
            high: shown.saturating_add(NANOS_PER_SEC).saturating_sub(read.before.as_nanos()),
        };
        if read.after < read.before {
            return None;
        }
        let now = read.after;
        let suspect = self.suspect.take().map(|s| s.carry(now));
        let Some(expected) = self.fix.map(|f| f.carry(now)) else {
            self.start(now, found);
            return None;
        };
        match suspect {
            // Once more, and the two go together. The second alone need not contradict: a tick was early, and is over now.
            Some(first) if first.distance(found) == 0 => {
                let found = first.narrowed_by(found);
                let [older, _] = self.anchors;
                self.start(now, found);
                return Some(Jump { expected: older.map_or(expected, |fix| fix.carry(now)), found });
            }
            _ if found.distance(expected) > nanos(JUMP) => {
                // The first to contradict; or the second, and it does not go with the first either.
                self.suspect = suspect.is_none().then_some(Fix { at: now, origin: found });
            }
            _ if found.distance(expected) > 0 => {}
            _ => {
                let seen = nanos(SEEN).saturating_add(expected.width());
                self.checked.0 |= found.high.saturating_sub(expected.high) <= seen;
                self.checked.1 |= expected.low.saturating_sub(found.low) <= seen;
                self.fix = Some(Fix { at: now, origin: expected.narrowed_by(found) });
            }
        }
        None
    }

    /// Have reads just before and just after the RTC's tick shown since the last call that it did not jump?
    pub fn take_checked(&mut self) -> bool {
        let checked = self.checked == (true, true);
        if checked {
            let [_, newer] = self.anchors;
            self.anchors = [newer, self.fix];
            self.checked = (false, false);
        }
        checked
    }

    fn start(&mut self, at: Mono, origin: Range) {
        let fix = Some(Fix { at, origin });
        *self = Self { fix, anchors: [fix; 2], ..Self::default() };
    }

    /// The base clock itself was put forward: begin again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// RTC - base at `now`, as far as it is known.
    pub fn origin(&self, now: Mono) -> Option<Range> {
        self.fix.map(|f| f.carry(now))
    }

    /// When to read next so that it tells most: half a second before the RTC's tick (a long pause shows at any time), shortly
    /// before the tick (a short one shows there), inside the interval while it is wide, shortly after the tick.
    pub fn next_read(&self, now: Mono) -> Mono {
        let Some(origin) = self.origin(now).filter(|_| self.suspect.is_none()) else { return now };
        // The first tick whose last read is still to come.
        let tick = now
            .as_nanos()
            .saturating_add(origin.low)
            .saturating_sub(nanos(LEAD))
            .div_euclid(NANOS_PER_SEC)
            .saturating_add(1)
            .saturating_mul(NANOS_PER_SEC);
        let (earliest, latest) = (tick.saturating_sub(origin.high), tick.saturating_sub(origin.low));
        let width = origin.width();
        let step = if width > nanos(HALVED_BELOW) { width / 8 } else { width / 2 };
        let inside = if width > nanos(NARROW) { earliest.saturating_add(step) } else { i64::MIN };
        let early = earliest.saturating_sub(nanos(LEAD));
        let late = latest.saturating_add(nanos(LEAD));
        let opposite = earliest.saturating_add(width / 2).saturating_sub(NANOS_PER_SEC / 2);
        let next = [opposite, early, inside].into_iter().filter(|&t| t > now.as_nanos()).min();
        Mono::from_nanos(next.map_or(late, |t| t.min(late)))
    }
}

impl Fix {
    fn carry(self, now: Mono) -> Range {
        self.origin.widened(DRIFT.over(now.since(self.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// It showed `seconds` at `millis` of the base clock.
    fn read(seconds: i64, millis: i64) -> RtcRead {
        let at = Mono::from_nanos(millis * MS);
        RtcRead { seconds, before: at, after: at, on_set: RtcSetBehavior::ResetsSubsecond }
    }

    /// RTC - base is 0 to the millisecond.
    fn tracker() -> Tracker {
        let mut tracker = Tracker::default();
        for second in 8..=10 {
            assert_eq!(tracker.on(read(second - 1, second * 1_000 - 1)), None);
            assert_eq!(tracker.on(read(second, second * 1_000 + 1)), None);
            assert!(tracker.take_checked() && !tracker.take_checked());
        }
        tracker
    }

    fn millis(range: Range) -> (i64, i64) {
        (range.low.div_euclid(MS), (range.high + MS - 1).div_euclid(MS))
    }

    #[test]
    fn two_reads_around_the_tick_bound_it_and_100_ppm_widen_it() {
        let tracker = tracker();
        let origin = |at: i64| tracker.origin(Mono::from_nanos(at * MS)).unwrap();
        assert_eq!(origin(10_001), Range { low: -MS, high: MS + 200 });
        assert_eq!(origin(20_001), Range { low: -2 * MS, high: 2 * MS + 200 });
    }

    #[test]
    fn small_contradictions_are_not_absorbed_and_add_up() {
        let mut tracker = tracker();
        assert_eq!(tracker.on(read(11, 10_991)), None, "8 ms early");
        assert_eq!(millis(tracker.origin(Mono::from_nanos(10_991 * MS)).unwrap()), (-2, 2));
        assert_eq!(tracker.on(read(12, 11_983)), None, "16 ms early, a first time");
        let jump = tracker.on(read(12, 11_984)).expect("16 ms early, again");
        assert_eq!(millis(jump.expected), (-2, 2));
        assert_eq!(millis(jump.found), (16, 1_016));
    }

    #[test]
    fn it_reads_opposite_to_the_tick_before_it_and_after_it() {
        let mut tracker = tracker();
        let mut at = 10_001 * MS;
        let times: Vec<i64> = (0..7)
            .map(|_| {
                at = tracker.next_read(Mono::from_nanos(at)).as_nanos() + MS / 2;
                assert_eq!(tracker.on(read(at.div_euclid(1_000 * MS), at.div_euclid(MS))), None);
                at.div_euclid(MS)
            })
            .collect();
        assert_eq!(times, [10_015, 10_500, 10_985, 11_015, 11_500, 11_985, 12_015]);
    }

    #[test]
    fn a_read_that_took_a_second_still_bounds() {
        let mut tracker = tracker();
        let held_up = RtcRead { seconds: 11, ..read(11, 10_500) };
        let held_up = RtcRead { after: Mono::from_nanos(11_700 * MS), ..held_up };
        assert_eq!(tracker.on(held_up), None);
        let backward = RtcRead { before: held_up.after, after: held_up.before, ..held_up };
        assert_eq!(tracker.on(backward), None);
        assert_eq!(millis(tracker.origin(Mono::from_nanos(11_700 * MS)).unwrap()), (-2, 2));
    }
}
