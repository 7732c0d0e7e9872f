//! Can a write of the RTC have made a jump of it?
//!
//! A write takes the wall clock's time, or the local time: afterwards the two agree, or are whole quarter hours
//! apart. A pause takes them apart by its length, wherever they were. So they look alike only when the RTC was behind
//! the wall clock by as much as the pause was long, or the pause was whole quarter hours long.

use std::time::Duration;

use super::tracker::{RTC_JUMP_MIN, RtcSetBehavior};
use crate::time::{NANOS_PER_SEC, OffsetRange, nanos};

/// A write happens late rather than early, by what the scheduler adds, and leaves the RTC that much behind
/// the wall clock.
const RTC_WRITE_MAX_LATE: Duration = Duration::from_millis(50);
/// A write leaves the RTC ahead of the wall clock by no more: the kernel writes within five ticks of the
/// right instant.
const RTC_WRITE_MAX_EARLY: Duration = Duration::from_millis(20);
/// The largest jump back that is always a write. A restore goes back further; so little is a late write, or
/// the host's own correction of its clock.
const SMALL_RTC_STEP_BACK: Duration = Duration::from_millis(100);

/// Offsets of time zones are multiples of this, ns.
const ZONE_STEP: i64 = 900 * NANOS_PER_SEC;
/// The largest one, in such multiples: 14 hours.
const ZONE_MAX: i64 = 56;

/// Can a write have moved the RTC from `expected` to `found`, while the wall clock was at `wall`? All three
/// minus the base clock. A write in local time makes the RTC agree with the wall clock plus the offset of a zone.
///
/// Where a pause and a write look alike the answer is yes. A write taken for a pause could undo what an
/// operator did to the clock; a pause taken for a write only delays a step.
pub fn may_be_rtc_write(
    expected: OffsetRange,
    found: OffsetRange,
    wall: OffsetRange,
    set_behavior: RtcSetBehavior,
) -> bool {
    is_write_of(expected, found, wall, set_behavior)
        || zone_of(found.minus(wall)).is_some_and(|zone| {
            let local = wall.plus(OffsetRange::exact(zone));
            is_write_of(expected, found, local, set_behavior)
        })
}

/// The offset of a zone by whose time the RTC may be ahead of the wall clock, ns.
fn zone_of(ahead: OffsetRange) -> Option<i64> {
    let nearest = ahead.measurement().offset.as_nanos().saturating_add(ZONE_STEP / 2).div_euclid(ZONE_STEP);
    (nearest != 0 && nearest.abs() <= ZONE_MAX).then_some(nearest.saturating_mul(ZONE_STEP))
}

/// Does a jump look like local time, or like a change of it: nearly whole quarter hours, up to 26 hours?
pub fn is_by_zones(by: OffsetRange) -> bool {
    let middle = by.measurement().offset.as_nanos();
    let nearest = middle.saturating_add(ZONE_STEP / 2).div_euclid(ZONE_STEP);
    let is_near = by.distance(OffsetRange::exact(nearest.saturating_mul(ZONE_STEP))) <= NANOS_PER_SEC;
    nearest != 0 && nearest.abs() <= ZONE_MAX * 2 && is_near
}

/// Can a write of the time that `wall` shows have made this jump?
fn is_write_of(
    expected: OffsetRange,
    found: OffsetRange,
    wall: OffsetRange,
    set_behavior: RtcSetBehavior,
) -> bool {
    // The size of the jump is independent of the wall clock, which may have been slewed or set meanwhile.
    let jump = found.minus(expected);
    let is_forward = jump.low > 0;
    let is_small_step_back = !is_forward && jump.min_magnitude() <= nanos(SMALL_RTC_STEP_BACK);

    let (gap_before, gap_after) = (expected.minus(wall), found.minus(wall));
    let before = gap_before.max_magnitude();
    // A writer that was held up misses by more than usual, and a writer that ignores how the RTC starts its
    // second misses by half a second: still they close most of a gap.
    let tolerance = |min: Duration| (before / 4).clamp(nanos(min), NANOS_PER_SEC);
    let agreement = OffsetRange { low: -tolerance(RTC_WRITE_MAX_LATE), high: tolerance(RTC_WRITE_MAX_EARLY) };
    let agrees_after = gap_after.distance(agreement) == 0;
    let is_closer = gap_after.min_magnitude() < before;
    // Only a pause moves the RTC forward, away from the wall clock.
    let is_exact_write = agrees_after && (is_closer || !is_forward);

    is_small_step_back
        || (set_behavior != RtcSetBehavior::KeepsSubsecond && is_exact_write)
        || (set_behavior != RtcSetBehavior::ResetsSubsecond && moves_whole_seconds(jump, gap_after))
}

/// Can a write have made this jump of an RTC that keeps its subsecond? It moves such an RTC by whole seconds,
/// to the second in which the wall clock is, or to the one before or after: which of them depends on the
/// instant of the write.
fn moves_whole_seconds(jump: OffsetRange, gap_after: OffsetRange) -> bool {
    let max = NANOS_PER_SEC + nanos(RTC_WRITE_MAX_LATE);
    let is_near = gap_after.distance(OffsetRange { low: -max, high: max }) == 0;
    is_near && jump.widened(nanos(RTC_JUMP_MIN)).has_whole_seconds()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const RESETS: RtcSetBehavior = RtcSetBehavior::ResetsSubsecond;
    const KEEPS: RtcSetBehavior = RtcSetBehavior::KeepsSubsecond;

    /// With a wall clock that stays where the base clock has its zero.
    fn may_be_write(before: OffsetRange, after: OffsetRange, set_behavior: RtcSetBehavior) -> bool {
        may_be_rtc_write(before, after, OffsetRange::exact(0), set_behavior)
    }

    /// A range of `width` ns that begins `below` ns below the truth, or less where the truth would be
    /// outside.
    fn known(truth: i64, below: i64, width: i64) -> OffsetRange {
        let low = truth - below.min(width);
        OffsetRange { low, high: low + width }
    }

    /// May a pause of `length` ms be a write, where the RTC was `ahead` ms ahead of the wall clock?
    fn pause_may_be_write(ahead: i64, length: i64, set_behavior: RtcSetBehavior) -> bool {
        may_be_write(
            known(ahead * MS, 2 * MS, 4 * MS),
            known((ahead + length) * MS, 2 * MS, 4 * MS),
            set_behavior,
        )
    }

    #[test]
    fn wall_clocks_that_were_moved_hide_no_pause_of_a_part_of_a_second() {
        let (expected, found) = (known(0, 2 * MS, 4 * MS), known(700 * MS, 2 * MS, 4 * MS));
        for by in (-600..=600).step_by(20) {
            let wall = OffsetRange { low: (by * MS).min(0), high: (by * MS).max(0) };
            assert!(!may_be_rtc_write(expected, found, wall, KEEPS), "{by} ms");
        }
    }

    #[test]
    fn pauses_of_a_node_whose_clocks_agree_are_no_writes() {
        for ahead in -8..=200 {
            for length in (20..100).chain((100..25_000).step_by(70)) {
                assert!(!pause_may_be_write(ahead, length, RESETS), "{length} ms, RTC {ahead} ms ahead");
            }
        }
    }

    #[test]
    fn pauses_look_like_writes_only_where_the_rtc_was_behind_by_their_length() {
        assert!(pause_may_be_write(-500, 500, RESETS) && pause_may_be_write(-3_000, 3_000, RESETS));
        assert!(!pause_may_be_write(-500, 700, RESETS) && !pause_may_be_write(-500, 300, RESETS));
    }

    #[test]
    fn writes_in_local_time_are_writes_and_other_pauses_of_hours_are_none() {
        let quarter = 900_000;
        for set_behavior in [RESETS, KEEPS, RtcSetBehavior::Unknown] {
            for quarters in [1, 4, 28, 47, 56] {
                let hours = quarters * quarter;
                assert!(pause_may_be_write(0, hours, set_behavior), "{quarters} quarters ahead");
                assert!(pause_may_be_write(hours, -hours, set_behavior), "and back");
                assert!(pause_may_be_write(0, -hours, set_behavior), "{quarters} quarters behind");
                let has_summer = quarters <= 52;
                assert_eq!(pause_may_be_write(hours, quarter * 4, set_behavior), has_summer, "summer time");
                assert!(!pause_may_be_write(0, hours + 10_500, set_behavior), "ten seconds more");
                assert!(
                    !pause_may_be_write(hours, 10_500, set_behavior),
                    "a pause with an RTC in local time"
                );
            }
            assert!(!pause_may_be_write(0, 57 * quarter, set_behavior), "no zone");
        }
    }

    #[test]
    fn rtcs_that_keep_the_subsecond_are_written_by_whole_seconds() {
        for length in (30..970).step_by(10) {
            assert!(
                !pause_may_be_write(-1, length, KEEPS)
                    && !pause_may_be_write(-1, length, RtcSetBehavior::Unknown),
                "{length} ms"
            );
            assert!(
                !pause_may_be_write(-length, length, KEEPS),
                "{length} ms make the clocks agree, but no write does"
            );
            assert!(
                pause_may_be_write(-length, length, RtcSetBehavior::Unknown),
                "{length} ms make the clocks agree"
            );
        }
        for may_keep in [KEEPS, RtcSetBehavior::Unknown] {
            assert!(pause_may_be_write(-5, 1_000, may_keep), "the kernel writes 5 ms before the second");
            assert!(!pause_may_be_write(-5, 2_000, may_keep), "a second too far");
            // Seen in a guest on a busy host: half a second after the RTC's tick the kernel writes the second
            // before.
            assert!(pause_may_be_write(-763, 1_000, may_keep) && pause_may_be_write(-2_763, 2_000, may_keep));
        }
        assert!(!pause_may_be_write(-5, 1_000, RESETS), "a write would have made the clocks agree");
    }

    /// This one, or that nothing is known of it.
    fn or_unknown(set_behavior: RtcSetBehavior) -> impl Strategy<Value = RtcSetBehavior> {
        proptest::sample::select(vec![set_behavior, RtcSetBehavior::Unknown])
    }

    /// Any gap closed by a write, in time or 40 ms late, however well it is known.
    #[test]
    fn writes_that_close_the_gap_are_never_pauses() {
        let reached = Reached::new([
            ("a jump forward", 15),
            ("a jump back by more than 100 ms", 15),
            ("late by more than a quarter of the gap", 4),
        ]);
        let before = prop_oneof![-20_000 * MS..20_000 * MS, -150 * MS..-20 * MS, 20 * MS..150 * MS];
        proptest!(|(
            before in before, late in 0..40 * MS, below in 0..1_000 * MS, width in prop_oneof![0..4 * MS, 0..1_000 * MS],
            set_behavior in or_unknown(RESETS),
        )| {
            let gap = known(before, below.min(4 * MS), width.min(4 * MS));
            // A write that misses by more than the gap does not close it.
            let late = if before < 0 { late.min(-before - 1) } else { late };
            let is_forward = reached.case("a jump forward", before < -late);
            reached.case("a jump back by more than 100 ms", before + late > 110 * MS);
            reached.case("late by more than a quarter of the gap", is_forward && late > before.abs() / 4);
            prop_assert!(may_be_write(gap, known(-late, below, width), set_behavior));
        });
    }

    /// A write that was held up for longer, after an operator's step, which the agent must not undo.
    #[test]
    fn writes_that_were_held_up_are_never_pauses() {
        let reached =
            Reached::new([("late by more than usual", 20), ("late by nearly a quarter of the step", 5)]);
        proptest!(|(step in 400 * MS..4_000 * MS, late in prop_oneof![0i64..100, 90i64..100])| {
            let after = -step * late / 400;
            reached.case("late by more than usual", -after > nanos(RTC_WRITE_MAX_LATE) + 2 * MS);
            reached.case("late by nearly a quarter of the step", late >= 90);
            prop_assert!(may_be_write(known(-step, MS, 2 * MS), known(after, MS, 2 * MS), RESETS));
        });
    }

    /// An RTC that keeps its subsecond: the write makes it show a second, at an instant that is `early`
    /// before that second of the wall clock: 5 ms, or minus half a second, or with a simple tool anything
    /// up to minus one second.
    #[test]
    fn writes_of_whole_seconds_are_never_pauses() {
        let reached =
            Reached::new([("a jump forward", 15), ("a jump back", 15), ("more than half a second off", 12)]);
        proptest!(|(
            before in -5_000 * MS..5_000 * MS, early in prop_oneof![-1_000 * MS..5 * MS, -10 * MS..5 * MS, -1_000 * MS..-950 * MS], below in 0..MS,
            width in prop_oneof![0..4 * MS, 0..1_000 * MS], set_behavior in or_unknown(KEEPS),
        )| {
            let second = NANOS_PER_SEC;
            let after = early + (before - early).rem_euclid(second);
            reached.case("a jump forward", after > before);
            reached.case("a jump back", after < before);
            reached.case("more than half a second off", after != before && after.abs() > 500 * MS);
            prop_assert!(after == before || may_be_write(known(before, below, 4 * MS), known(after, below, width), set_behavior));
        });
    }

    proptest! {
        /// By a tool that writes on the second: a PC's clock ticks half a second later, and is that much
        /// ahead.
        #[test]
        fn writes_half_a_second_off_are_never_pauses(gap in 2_000 * MS..30_000 * MS, forward: bool) {
            let before = if forward { -gap } else { gap };
            prop_assert!(may_be_write(known(before, MS, 2 * MS), known(498 * MS, MS, 2 * MS), RESETS));
        }
    }
}
