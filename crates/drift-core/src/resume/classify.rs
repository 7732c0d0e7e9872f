//! From evidence to a class: what kind of event was it?

use std::time::Duration;

use super::range::Range;
use super::tracker::{JUMP, RtcSetBehavior};
use crate::time::{NANOS_PER_SEC, nanos};

/// What happened to the machine's time. Strongest first: the first that the evidence allows is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It slept, and the kernel knows.
    Suspend,
    /// It was paused, restored or migrated, and the kernel does not know.
    Pause,
    /// Only the RTC was set: by the kernel (every 11 minutes, or after a step), or by a person.
    RtcWrite,
    /// Somebody else set the wall clock.
    ClockSet,
    /// The agent did not run for a while.
    Stall,
}

/// What the signals show at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one signal's answer, and all combinations occur")]
pub struct Evidence {
    /// `CLOCK_BOOTTIME` - `CLOCK_MONOTONIC` grew.
    pub slept: bool,
    /// The hypervisor says that time was disrupted.
    pub disrupted: bool,
    /// What the RTC did.
    pub rtc: RtcFinding,
    /// The wall clock was set, not by us.
    pub clock_set: bool,
    /// The agent was late.
    pub late: bool,
}

/// What the RTC did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcFinding {
    /// It ran on.
    Steady,
    /// It jumped, and nobody can have set it so.
    Jumped,
    /// It jumped to where a write would have put it.
    Written,
}

impl Class {
    /// All, in their order.
    pub const ALL: [Self; 5] = [Self::Suspend, Self::Pause, Self::RtcWrite, Self::ClockSet, Self::Stall];

    /// As the label `class` and in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Pause => "pause",
            Self::RtcWrite => "rtc-write",
            Self::ClockSet => "clock-set",
            Self::Stall => "stall",
        }
    }

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// May it trigger a step? A clock that somebody set is left to them.
    pub const fn may_step(self) -> bool {
        match self {
            Self::Suspend | Self::Pause | Self::Stall => true,
            Self::RtcWrite | Self::ClockSet => false,
        }
    }

    /// Is it worth telling after `told` was told of the same event? When it is stronger, or when it may step and that one may not.
    pub fn upgrades(self, told: Self) -> bool {
        self < told || (self.may_step() && !told.may_step())
    }
}

/// The class of one instant's evidence; `None` when there is none.
pub const fn classify(evidence: Evidence) -> Option<Class> {
    let Evidence { slept, disrupted, rtc, clock_set, late } = evidence;
    match (slept, disrupted, rtc, clock_set, late) {
        (true, _, _, _, _) => Some(Class::Suspend),
        (false, true, _, _, _) | (false, false, RtcFinding::Jumped, _, _) => Some(Class::Pause),
        (false, false, RtcFinding::Written, _, _) => Some(Class::RtcWrite),
        (false, false, RtcFinding::Steady, true, _) => Some(Class::ClockSet),
        (false, false, RtcFinding::Steady, false, true) => Some(Class::Stall),
        (false, false, RtcFinding::Steady, false, false) => None,
    }
}

/// A write comes late rather than early, by what the scheduler adds, and leaves the RTC that much behind the wall clock.
const LATE: Duration = Duration::from_millis(50);
/// What a write may leave it ahead: the kernel writes within five ticks of the right instant.
const EARLY: Duration = Duration::from_millis(20);

/// Back by less than this nothing is restored: it is a write that came late, or the host's own clock.
const BACK: Duration = Duration::from_millis(100);

/// Can the jump of the RTC from `expected` to `found` be a write of it, while the wall clock was at `wall` (all against the base clock, ns)?
///
/// A write takes the wall clock's time: after it the two agree. A pause takes them apart by its length, whatever they were. So they
/// look alike only when the RTC had been behind the wall clock by as much as the pause was long. There the answer is yes: a
/// write taken for a pause could undo what a person did to the clock, the other way round only costs a step.
pub fn may_be_written(expected: Range, found: Range, wall: Range, on_set: RtcSetBehavior) -> bool {
    // The jump itself has nothing to do with the wall clock, which may have been moved meanwhile.
    let jump = found.from(expected);
    let (before, after) = (expected.from(wall), found.from(wall));
    let farthest = before.farthest();
    // A writer that was held up misses by more, and one that does not know how the RTC starts its second by half of one: still they
    // close most of a gap.
    let most = |least: Duration| (farthest / 4).clamp(nanos(least), NANOS_PER_SEC);
    let agrees = after.distance(Range { low: -most(LATE), high: most(EARLY) }) == 0;
    let closer = after.nearest() < farthest;
    // Forward, from agreement into disagreement, goes only a pause. Back goes none that loses time.
    let forward = jump.low > 0;
    let a_little_back = !forward && jump.nearest() <= nanos(BACK);
    let to_the_millisecond = on_set != RtcSetBehavior::KeepsSubsecond && agrees && (closer || !forward);
    let to_the_second = on_set != RtcSetBehavior::ResetsSubsecond && moves_whole_seconds(jump, after);
    a_little_back || to_the_millisecond || to_the_second
}

/// An RTC whose second goes on moves by whole ones, to where it shows the second that the wall clock is in, has left or comes to: which
/// of them depends on the instant at which its writer writes.
fn moves_whole_seconds(jump: Range, after: Range) -> bool {
    let most = NANOS_PER_SEC + nanos(LATE);
    after.distance(Range { low: -most, high: most }) == 0 && jump.widened(nanos(JUMP)).has_whole_seconds()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn every_combination_of_evidence_has_the_strongest_class_it_allows() {
        let bools = [false, true];
        let findings = [RtcFinding::Steady, RtcFinding::Jumped, RtcFinding::Written];
        let mut seen = 0;
        for (slept, disrupted, clock_set, late) in
            (0..16).map(|n| (bools[n & 1], bools[n >> 1 & 1], bools[n >> 2 & 1], bools[n >> 3]))
        {
            for rtc in findings {
                // Said the other way round: each piece of evidence by itself, and the first in the order of the classes.
                let alone = [
                    slept.then_some(Class::Suspend),
                    disrupted.then_some(Class::Pause),
                    (rtc == RtcFinding::Jumped).then_some(Class::Pause),
                    (rtc == RtcFinding::Written).then_some(Class::RtcWrite),
                    clock_set.then_some(Class::ClockSet),
                    late.then_some(Class::Stall),
                ];
                let evidence = Evidence { slept, disrupted, rtc, clock_set, late };
                assert_eq!(classify(evidence), alone.into_iter().flatten().min(), "{evidence:?}");
                seen += 1;
            }
        }
        assert_eq!(seen, 48);
    }

    #[test]
    fn labels_and_rights_are_the_readmes() {
        assert_eq!(Class::ALL.map(Class::label), ["suspend", "pause", "rtc-write", "clock-set", "stall"]);
        assert_eq!(Class::ALL.map(Class::may_step), [true, true, false, false, true]);
    }

    #[test]
    fn only_what_is_stronger_or_may_step_upgrades() {
        use Class::{ClockSet, Pause, RtcWrite, Stall, Suspend};
        let upgrades: Vec<(Class, Class)> = Class::ALL
            .into_iter()
            .flat_map(|told| Class::ALL.map(|new| (told, new)))
            .filter(|&(told, new)| new.upgrades(told))
            .collect();
        assert_eq!(
            upgrades,
            [
                (Pause, Suspend),
                (RtcWrite, Suspend),
                (RtcWrite, Pause),
                (RtcWrite, Stall),
                (ClockSet, Suspend),
                (ClockSet, Pause),
                (ClockSet, RtcWrite),
                (ClockSet, Stall),
                (Stall, Suspend),
                (Stall, Pause),
                (Stall, RtcWrite),
                (Stall, ClockSet),
            ]
        );
    }

    /// The same where the wall clock stays where the base clock has its zero.
    fn may_be_written(before: Range, after: Range, on_set: RtcSetBehavior) -> bool {
        super::may_be_written(before, after, Range { low: 0, high: 0 }, on_set)
    }

    #[test]
    fn a_wall_clock_that_was_moved_hides_no_pause_of_a_part_of_a_second() {
        let (expected, found) = (known(0, 2 * MS, 4 * MS), known(700 * MS, 2 * MS, 4 * MS));
        for by in (-600..=600).step_by(20) {
            let wall = Range { low: (by * MS).min(0), high: (by * MS).max(0) };
            assert!(!super::may_be_written(expected, found, wall, RtcSetBehavior::KeepsSubsecond), "{by} ms");
        }
    }

    /// Known to `width`, and the truth anywhere inside.
    fn known(truth: i64, below: i64, width: i64) -> Range {
        let low = truth - below.min(width);
        Range { low, high: low + width }
    }

    fn pause(before: i64, length: i64, on_set: RtcSetBehavior) -> bool {
        may_be_written(
            known(before * MS, 2 * MS, 4 * MS),
            known((before + length) * MS, 2 * MS, 4 * MS),
            on_set,
        )
    }

    #[test]
    fn a_pause_on_a_node_whose_clocks_agree_is_no_write() {
        for before in -8..=200 {
            for length in (20..100).chain((100..25_000).step_by(70)) {
                assert!(
                    !pause(before, length, RtcSetBehavior::ResetsSubsecond),
                    "{length} ms, RTC {before} ms ahead"
                );
            }
        }
        // What looks like a write is one where the RTC was behind by the length of the pause.
        assert!(
            pause(-500, 500, RtcSetBehavior::ResetsSubsecond)
                && pause(-3_000, 3_000, RtcSetBehavior::ResetsSubsecond)
        );
        assert!(
            !pause(-500, 700, RtcSetBehavior::ResetsSubsecond)
                && !pause(-500, 300, RtcSetBehavior::ResetsSubsecond)
        );
    }

    #[test]
    fn an_rtc_whose_second_goes_on_is_written_by_whole_ones() {
        for length in (30..970).step_by(10) {
            assert!(
                !pause(-1, length, RtcSetBehavior::KeepsSubsecond)
                    && !pause(-1, length, RtcSetBehavior::Unknown),
                "{length} ms"
            );
            assert!(
                !pause(-length, length, RtcSetBehavior::KeepsSubsecond),
                "{length} ms make it agree, but no write does"
            );
            assert!(pause(-length, length, RtcSetBehavior::Unknown), "{length} ms make it agree");
        }
        for second_goes_on in [RtcSetBehavior::KeepsSubsecond, RtcSetBehavior::Unknown] {
            assert!(pause(-5, 1_000, second_goes_on), "the kernel writes 5 ms before the second");
            assert!(!pause(-5, 2_000, second_goes_on), "a second too far");
            // As a guest on a busy host showed it: half a second after the RTC's tick the kernel writes the second of before.
            assert!(pause(-763, 1_000, second_goes_on) && pause(-2_763, 2_000, second_goes_on));
        }
        assert!(!pause(-5, 1_000, RtcSetBehavior::ResetsSubsecond), "it would have come to agree");
    }

    /// All that a clock may do when it is set.
    fn on_set() -> impl Strategy<Value = RtcSetBehavior> {
        proptest::sample::select(vec![
            RtcSetBehavior::ResetsSubsecond,
            RtcSetBehavior::KeepsSubsecond,
            RtcSetBehavior::Unknown,
        ])
    }

    proptest! {
        /// Any gap closed by a write, in time or 40 ms late, however well it is known.
        #[test]
        fn a_write_is_never_a_pause(
            before in -20_000 * MS..20_000 * MS, late in 0..40 * MS, below in 0..1_000 * MS, width in 0..1_000 * MS, on_set in on_set(),
        ) {
            prop_assume!(on_set != RtcSetBehavior::KeepsSubsecond);
            let gap = known(before, below.min(4 * MS), width.min(4 * MS));
            let after = -late;
            prop_assume!(after - before < 0 || before.abs() > after.abs());
            prop_assert!(may_be_written(gap, known(after, below, width), on_set));
        }

        /// One that was held up for longer, after the step of a person that we must not undo.
        #[test]
        fn a_write_that_is_held_up_closes_most_of_the_gap(step in 400 * MS..4_000 * MS, late in 0i64..100) {
            let after = -step * late / 400;
            prop_assert!(may_be_written(known(-step, MS, 2 * MS), known(after, MS, 2 * MS), RtcSetBehavior::ResetsSubsecond));
        }

        /// A tool that writes on the second: a PC's clock ticks half a second later, and is that much ahead.
        #[test]
        fn a_write_by_a_simple_tool_closes_most_of_the_gap(gap in 2_000 * MS..30_000 * MS, forward: bool) {
            let before = if forward { -gap } else { gap };
            prop_assert!(may_be_written(known(before, MS, 2 * MS), known(498 * MS, MS, 2 * MS), RtcSetBehavior::ResetsSubsecond));
        }

        /// The second goes on: the write makes the RTC show a second, at an instant that is `early` before that second of the wall clock:
        /// 5 ms, or minus half of one, or with a simple tool anything up to minus one.
        #[test]
        fn a_write_of_whole_seconds_is_never_a_pause(
            before in -5_000 * MS..5_000 * MS, early in -1_000 * MS..5 * MS, below in 0..MS, width in 0..1_000 * MS, on_set in on_set(),
        ) {
            prop_assume!(on_set != RtcSetBehavior::ResetsSubsecond);
            let second = NANOS_PER_SEC;
            let after = early + (before - early).rem_euclid(second);
            prop_assume!(after != before);
            prop_assert!(may_be_written(known(before, below, 4 * MS), known(after, below, width), on_set));
        }
    }
}
