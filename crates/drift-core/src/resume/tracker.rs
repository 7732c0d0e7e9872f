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
        if may_be_rate { Found::Nothing } else { Found::Jump(Jump { expected, found }) }
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
        let (rate, shown) = (self.rate, self.shown);
        *self = Self { rate, shown, fix, checkpoints: [fix; 2], ..Self::default() };
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
        for second in 1..=10 {
            assert_eq!(tracker.handle_read(read(second - 1, second * 1_000 - 1)), Found::Nothing);
            assert_eq!(tracker.handle_read(read(second, second * 1_000 + 1)), Found::Nothing);
            assert!(tracker.take_checked() && !tracker.take_checked());
        }
        tracker
    }

    fn millis(range: OffsetRange) -> (i64, i64) {
        (range.low.div_euclid(MS), (range.high + MS - 1).div_euclid(MS))
    }

    #[test]
    fn reads_around_the_tick_narrow_the_range_and_what_the_rate_may_be_widens_it() {
        let tracker = tracker();
        let range = |at: i64| tracker.range(Mono::from_nanos(at * MS)).unwrap();
        assert_eq!(millis(range(10_001)), (-1, 2));
        // Twice 600 ppm, and the slack of 100 ppm.
        assert_eq!(range(20_001).width() - range(10_001).width(), 14_000_000);
    }

    #[test]
    fn small_contradictions_do_not_move_the_range_and_add_up() {
        let mut tracker = tracker();
        assert_eq!(tracker.handle_read(read(11, 10_991)), Found::Nothing, "8 ms early");
        assert_eq!(millis(tracker.range(Mono::from_nanos(10_991 * MS)).unwrap()), (-3, 3));
        assert_eq!(tracker.handle_read(read(12, 11_983)), Found::Nothing, "16 ms early, a first time");
        let jump = tracker.handle_read(read(12, 11_984));
        let Found::Jump(jump) = jump else { panic!("16 ms early, again: {jump:?}") };
        assert_eq!(millis(jump.expected), (-5, 5));
        assert_eq!(millis(jump.found), (16, 1_016));
    }

    /// Reads as the tracker asks for them, from `from` ms on for `span` ms, of an RTC that shows `shown(ns)` ns.
    fn follow(tracker: &mut Tracker, from: i64, span: i64, shown: impl Fn(i64) -> i64) -> (Vec<Found>, i64) {
        let (mut at, mut found, mut reads) = (from * MS, Vec::new(), 0);
        while at < (from + span) * MS {
            at = tracker.next_read(Mono::from_nanos(at)).as_nanos().min(at + 1_000 * MS) + MS / 3;
            let read = read(shown(at).div_euclid(1_000 * MS), 0);
            let read = RtcRead { before: Mono::from_nanos(at), after: Mono::from_nanos(at), ..read };
            found.push(tracker.handle_read(read));
            tracker.take_checked();
            reads += 1;
        }
        found.retain(|found| *found != Found::Nothing);
        (found, reads)
    }

    #[test]
    fn no_constant_rate_and_no_step_of_the_rate_up_to_600_ppm_is_a_jump() {
        for ppm in [-600, -350, -110, 0, 90, 210, 600] {
            let mut tracker = Tracker::default();
            let (found, _) = follow(&mut tracker, 0, 600_000, |at| at + at / 1_000_000 * ppm);
            assert_eq!(found, [], "{ppm} ppm");
            let at = 600_000 * MS;
            let so_far = at / 1_000_000 * ppm;
            let (found, _) =
                follow(&mut tracker, 600_500, 600_000, |now| now + so_far - (now - at) / 1_000_000 * ppm / 2);
            assert_eq!(found, [], "{ppm} ppm, and from then on {} ppm", -ppm / 2);
        }
    }

    #[test]
    fn clocks_that_are_percents_off_are_learned_without_a_jump_and_show_pauses_then() {
        for percent in [-10, -3, 1, 7] {
            let mut tracker = Tracker::default();
            let (found, _) = follow(&mut tracker, 0, 120_000, |at| at + at / 100 * percent);
            assert_eq!(found, [], "{percent} %");
            let width = tracker.uncertainty(Mono::from_nanos(120_000 * MS)).unwrap();
            assert!(width < 20 * MS, "{percent} %: {width}");
            let (found, _) = follow(&mut tracker, 120_500, 5_000, |at| at + at / 100 * percent + 40 * MS);
            assert!(matches!(found[..], [Found::Jump(_)]), "{percent} %: {found:?}");
        }
    }

    #[test]
    fn uncertainty_is_what_any_rate_may_add_until_the_rate_is_learned() {
        let mut tracker = Tracker::default();
        follow(&mut tracker, 0, 6_000, |at| at);
        let early = tracker.uncertainty(Mono::from_nanos(6_000 * MS)).unwrap();
        assert!((1_200 * MS..2_000 * MS).contains(&early), "{early}");
        let (found, _) = follow(&mut tracker, 6_000, 1_500, |at| at + early + 20 * MS);
        assert!(matches!(found[..], [Found::Jump(_)]), "{found:?}");
        let mut tracker = Tracker::default();
        follow(&mut tracker, 0, 12_000, |at| at);
        let settled = tracker.uncertainty(Mono::from_nanos(12_000 * MS)).unwrap();
        assert!(settled < 6 * MS, "{settled}");
    }

    #[test]
    fn clocks_that_stand_still_or_are_arbitrary_are_faults_and_never_jump() {
        for settled in [0, 20_000] {
            let mut tracker = Tracker::default();
            follow(&mut tracker, 0, settled, |at| at);
            let (found, _) = follow(&mut tracker, settled, 3_600, |_| settled * MS);
            assert_eq!(found[..1], [Found::Fault(RtcFault::StandsStill)], "after {settled} ms");
        }
        let mut tracker = tracker();
        let (found, _) = follow(&mut tracker, 11_000, 12_000, |at| at / 7 * 1_000_003 % (1_000_000_000 * MS));
        assert_eq!(found[..1], [Found::Fault(RtcFault::Arbitrary)]);
    }

    #[test]
    fn clocks_that_were_set_back_by_less_than_a_second_do_not_stand_still() {
        for (back, jumps) in [(400, 1), (900, 1)] {
            let mut tracker = tracker();
            let (found, _) = follow(&mut tracker, 10_500, 10_000, |at| at - back * MS);
            assert_eq!(found.iter().filter(|f| matches!(f, Found::Jump(_))).count(), jumps, "{found:?}");
            assert_eq!(found.len(), jumps);
        }
    }

    /// Some renew the time that they show every two seconds only.
    #[test]
    fn clocks_that_leave_seconds_out_are_a_fault() {
        let mut tracker = Tracker::default();
        let (found, _) = follow(&mut tracker, 0, 5_000, |at| at / (2_000 * MS) * 2_000 * MS);
        assert_eq!(found[..1], [Found::Fault(RtcFault::Coarse)]);
    }

    #[test]
    fn reads_are_half_a_second_from_the_tick_just_before_it_and_just_after_it() {
        let mut tracker = tracker();
        let mut at = 10_001 * MS;
        let times: Vec<i64> = (0..7)
            .map(|_| {
                at = tracker.next_read(Mono::from_nanos(at)).as_nanos() + MS / 2;
                assert_eq!(
                    tracker.handle_read(read(at.div_euclid(1_000 * MS), at.div_euclid(MS))),
                    Found::Nothing
                );
                at.div_euclid(MS)
            })
            .collect();
        assert_eq!(times, [10_015, 10_500, 10_985, 11_000, 11_014, 11_499, 11_984]);
    }

    #[test]
    fn reads_that_take_a_second_are_used_and_reads_that_end_before_they_start_are_not() {
        let mut tracker = tracker();
        let held_up = RtcRead { seconds: 11, ..read(11, 10_500) };
        let held_up = RtcRead { after: Mono::from_nanos(11_700 * MS), ..held_up };
        assert_eq!(tracker.handle_read(held_up), Found::Nothing);
        let backward = RtcRead { before: held_up.after, after: held_up.before, ..held_up };
        assert_eq!(tracker.handle_read(backward), Found::Nothing);
        assert_eq!(millis(tracker.range(Mono::from_nanos(11_700 * MS)).unwrap()), (-3, 3));
    }
}
