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
//! A contradiction that is too small for a jump does not move the range. If each one did, ten pauses of 8 ms
//! would go unseen.

use std::time::Duration;

use crate::time::{Mono, NANOS_PER_SEC, OffsetRange, Ppb, nanos};

/// The most that the RTC and the base clock drift apart: two oscillators, neither disciplined by the kernel.
pub const RTC_DRIFT_MAX: Ppb = Ppb::from_ppm(100);
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

/// Follows the RTC. All times are of the base clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracker {
    fix: Option<Fix>,
    /// One read that contradicts the fix. A second one that agrees with it makes a jump; a garbled read stays
    /// alone.
    contradiction: Option<Fix>,
    checked: Checked,
    /// The fix at the last two complete checks, older first. A jump is younger than the older one. A read
    /// since then may be of after the jump, and still agree with a range that was wide.
    checkpoints: [Option<Fix>; 2],
}

/// Which jumps would have shown since the last [`Tracker::take_checked`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checked {
    forward: bool,
    back: bool,
}

impl Tracker {
    /// Takes a read, with its times lifted to the base clock. `Some` when it proves a jump; tracking starts
    /// again from there.
    pub fn handle_read(&mut self, read: RtcRead) -> Option<Jump> {
        if read.after < read.before {
            return None;
        }
        let now = read.after;
        let shown = read.seconds.saturating_mul(NANOS_PER_SEC);
        let found = OffsetRange {
            low: shown.saturating_sub(read.after.as_nanos()),
            high: shown.saturating_add(NANOS_PER_SEC).saturating_sub(read.before.as_nanos()),
        };
        let contradiction = self.contradiction.take().map(|first| first.carried_to(now));
        let Some(expected) = self.range(now) else {
            self.start(now, found);
            return None;
        };
        match contradiction {
            // The second read need not contradict by itself: a tick that was early is over by now.
            Some(first) if first.distance(found) == 0 => {
                let found = first.narrowed_by(found);
                let [older, _] = self.checkpoints;
                self.start(now, found);
                return Some(Jump { expected: older.map_or(expected, |fix| fix.carried_to(now)), found });
            }
            _ if found.distance(expected) > nanos(RTC_JUMP_MIN) => {
                // The first read to contradict; or the second one, which contradicts the first one, too.
                self.contradiction = contradiction.is_none().then_some(Fix { at: now, range: found });
            }
            _ if found.distance(expected) > 0 => {}
            _ => {
                let near = nanos(TICK_NEAR).saturating_add(expected.width());
                self.checked.forward |= found.high.saturating_sub(expected.high) <= near;
                self.checked.back |= expected.low.saturating_sub(found.low) <= near;
                self.fix = Some(Fix { at: now, range: expected.narrowed_by(found) });
            }
        }
        None
    }

    /// Have reads on both sides of the RTC's tick shown since the last `true` that the RTC has not jumped?
    /// `true` starts the next check.
    pub fn take_checked(&mut self) -> bool {
        let is_complete = self.checked == Checked { forward: true, back: true };
        if is_complete {
            let [_, newer] = self.checkpoints;
            self.checkpoints = [newer, self.fix];
            self.checked = Checked::default();
        }
        is_complete
    }

    /// Starts again, because the base clock itself was set forward.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// RTC - base at `now`, as far as it is known; `None` without a read.
    pub fn range(&self, now: Mono) -> Option<OffsetRange> {
        self.fix.map(|fix| fix.carried_to(now))
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
        let inside = if width > nanos(RTC_WIDTH_SETTLED) { earliest.saturating_add(step) } else { i64::MIN };
        let early = earliest.saturating_sub(nanos(TICK_LEAD));
        let late = latest.saturating_add(nanos(TICK_LEAD));
        let opposite = earliest.saturating_add(width / 2).saturating_sub(NANOS_PER_SEC / 2);
        let next = [opposite, early, inside].into_iter().filter(|&t| t > now.as_nanos()).min();
        Mono::from_nanos(next.map_or(late, |t| t.min(late)))
    }

    fn start(&mut self, at: Mono, range: OffsetRange) {
        let fix = Some(Fix { at, range });
        *self = Self { fix, checkpoints: [fix; 2], ..Self::default() };
    }
}

impl Fix {
    fn carried_to(self, now: Mono) -> OffsetRange {
        self.range.widened(RTC_DRIFT_MAX.over(now.since(self.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// The RTC showed `seconds` at `millis` of the base clock.
    fn read(seconds: i64, millis: i64) -> RtcRead {
        let at = Mono::from_nanos(millis * MS);
        RtcRead { seconds, before: at, after: at, set_behavior: RtcSetBehavior::ResetsSubsecond }
    }

    /// RTC - base is known to be 0 to the millisecond.
    fn tracker() -> Tracker {
        let mut tracker = Tracker::default();
        for second in 8..=10 {
            assert_eq!(tracker.handle_read(read(second - 1, second * 1_000 - 1)), None);
            assert_eq!(tracker.handle_read(read(second, second * 1_000 + 1)), None);
            assert!(tracker.take_checked() && !tracker.take_checked());
        }
        tracker
    }

    fn millis(range: OffsetRange) -> (i64, i64) {
        (range.low.div_euclid(MS), (range.high + MS - 1).div_euclid(MS))
    }

    #[test]
    fn reads_around_the_tick_narrow_the_range_and_100_ppm_widen_it() {
        let tracker = tracker();
        let range = |at: i64| tracker.range(Mono::from_nanos(at * MS)).unwrap();
        assert_eq!(range(10_001), OffsetRange { low: -MS, high: MS + 200 });
        assert_eq!(range(20_001), OffsetRange { low: -2 * MS, high: 2 * MS + 200 });
    }

    #[test]
    fn small_contradictions_do_not_move_the_range_and_add_up() {
        let mut tracker = tracker();
        assert_eq!(tracker.handle_read(read(11, 10_991)), None, "8 ms early");
        assert_eq!(millis(tracker.range(Mono::from_nanos(10_991 * MS)).unwrap()), (-2, 2));
        assert_eq!(tracker.handle_read(read(12, 11_983)), None, "16 ms early, a first time");
        let jump = tracker.handle_read(read(12, 11_984)).expect("16 ms early, again");
        assert_eq!(millis(jump.expected), (-2, 2));
        assert_eq!(millis(jump.found), (16, 1_016));
    }

    #[test]
    fn reads_are_half_a_second_from_the_tick_just_before_it_and_just_after_it() {
        let mut tracker = tracker();
        let mut at = 10_001 * MS;
        let times: Vec<i64> = (0..7)
            .map(|_| {
                at = tracker.next_read(Mono::from_nanos(at)).as_nanos() + MS / 2;
                assert_eq!(tracker.handle_read(read(at.div_euclid(1_000 * MS), at.div_euclid(MS))), None);
                at.div_euclid(MS)
            })
            .collect();
        assert_eq!(times, [10_015, 10_500, 10_985, 11_015, 11_500, 11_985, 12_015]);
    }

    #[test]
    fn reads_that_take_a_second_are_used_and_reads_that_end_before_they_start_are_not() {
        let mut tracker = tracker();
        let held_up = RtcRead { seconds: 11, ..read(11, 10_500) };
        let held_up = RtcRead { after: Mono::from_nanos(11_700 * MS), ..held_up };
        assert_eq!(tracker.handle_read(held_up), None);
        let backward = RtcRead { before: held_up.after, after: held_up.before, ..held_up };
        assert_eq!(tracker.handle_read(backward), None);
        assert_eq!(millis(tracker.range(Mono::from_nanos(11_700 * MS)).unwrap()), (-2, 2));
    }
}
