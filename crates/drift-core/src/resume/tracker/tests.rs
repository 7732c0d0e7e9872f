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
fn a_jump_before_the_first_tick_is_reported_with_the_tick_that_follows() {
    for first in [0, 100, 300] {
        let mut tracker = Tracker::default();
        let (found, _) = follow(&mut tracker, 0, first, |at| at + 400 * MS);
        assert_eq!((found, tracker.has_ticked), (vec![], false));
        let (found, _) = follow(&mut tracker, first, 2_500, |at| at + 20_400 * MS);
        let jumps: Vec<&Found> = found.iter().filter(|found| matches!(found, Found::Jump(_))).collect();
        assert_eq!(jumps.len(), usize::from(first > 0), "after {first} ms: {found:?}");
        if let Some(Found::Jump(Jump { expected, found })) = jumps.first() {
            let lost = found.low - expected.high..=found.high - expected.low;
            assert!(lost.contains(&(20_000 * MS)), "{expected:?} {found:?}");
        }
    }
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
    // Its first minute begins half a second after the start.
    let mut tracker = Tracker::default();
    let minutes = |at: i64| (at + 59_500 * MS) / (60_000 * MS) * 60_000 * MS;
    let (found, _) = follow(&mut tracker, 0, 5_000, minutes);
    assert_eq!(found[..1], [Found::Fault(RtcFault::StandsStill)]);
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
