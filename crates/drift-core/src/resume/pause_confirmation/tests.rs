use super::*;
use crate::ntp::server::ServerId;
use crate::time::{Bound, Offset, Ppb, Wall};

const MS: i64 = 1_000_000;
/// The raw clock runs at the rate of reference time.
const STEADY: Rate = Rate::exactly(Ppb(0));

fn at(millis: i64) -> Mono {
    Mono::from_nanos(1_000_000_000_000 + millis * MS)
}

/// Pools of one server each. `Some(later)`: its time is `later` ms later than it was at first, known to 1
/// ms.
fn one_each(pools: &[Option<i64>]) -> Vec<Candidate> {
    let servers: Vec<Vec<Option<i64>>> = pools.iter().map(|later| vec![*later]).collect();
    several_each(&servers)
}

/// The same for pools of several servers.
fn several_each(pools: &[Vec<Option<i64>>]) -> Vec<Candidate> {
    let interval = |later: i64| {
        Interval::around(Wall::from_nanos(1_795_341_600_000 * MS + later * MS), Bound::from_nanos(MS))
    };
    let mut candidates = Vec::new();
    for (pool, servers) in pools.iter().enumerate() {
        for (index, later) in (0..).zip(servers) {
            let server = ServerId(u32::try_from(pool).unwrap() * 100 + index);
            candidates.extend(later.map(|later| Candidate {
                pool,
                server,
                interval: interval(later),
                newest: at(later),
            }));
        }
    }
    candidates
}

/// In milliseconds.
fn measurement(offset: i64, bound: i64) -> Measurement {
    Measurement::new(Offset::from_nanos(offset * MS), Bound::from_nanos(bound * MS))
}

/// The servers are measured, and a minute later the RTC jumps by 994 ms ±508 ms.
fn pending_after(before: Vec<Candidate>) -> PauseConfirmation {
    let mut confirmation = PauseConfirmation::default();
    confirmation.record_round(before, STEADY, at(-60_000));
    confirmation.rtc_jumped(measurement(994, 508), at(0));
    assert_eq!(confirmation.waiting_since(), Some(at(0)));
    assert_eq!(confirmation.last_undisturbed(), Some(at(-5_000)));
    confirmation
}

fn pending() -> PauseConfirmation {
    pending_after(one_each(&[Some(0), Some(0)]))
}

fn confirms(confirmation: &PauseConfirmation, measured: &[Candidate]) -> bool {
    confirmation.confirmed_by(measured, STEADY, at(500)).is_some()
}

#[test]
fn two_pools_that_lost_as_much_as_the_rtc_shows_confirm_a_pause() {
    let pending = pending();
    let lost = pending.confirmed_by(&one_each(&[Some(501), Some(503)]), STEADY, at(500)).unwrap();
    assert_eq!(lost.offset, Offset::from_nanos(502 * MS));
    // Twice 1 ms, 200 ppm of a minute, and the difference of the two pools.
    assert_eq!(lost.bound.as_duration(), Duration::from_micros(2_000 + 12_100 + 1_000));
    let most_and_least = one_each(&[Some(480), Some(520)]);
    assert!(confirms(&pending, &most_and_least), "as much as the RTC may have jumped by");
}

#[test]
fn one_pool_or_a_loss_unlike_the_rtcs_confirms_no_pause() {
    let pending = pending();
    for pools in [
        [Some(501), None],
        [Some(501), Some(0)],
        [Some(501), Some(30)],
        [Some(0), Some(0)],
        [Some(-501), Some(-501)],
        [Some(400), Some(400)],
        [Some(1_600), Some(501)],
    ] {
        assert!(!confirms(&pending, &one_each(&pools)), "{pools:?}");
    }
    let unmeasured = pending_after(one_each(&[Some(0), None]));
    assert!(
        !confirms(&unmeasured, &one_each(&[Some(501), Some(501)])),
        "the second pool was not measured before"
    );
}

#[test]
fn most_measured_servers_of_a_pool_have_to_show_the_loss() {
    let (none, lost, bad) = (Some(0), Some(501), Some(501));
    let with_other_pool = |servers: &[Option<i64>]| several_each(&[vec![lost], servers.to_vec()]);
    for (before, after, wanted) in [
        (vec![none, none, none], vec![lost, lost, none], true),
        (vec![none, none, none], vec![bad, none, none], false),
        (vec![none, none], vec![bad, none], false),
        (vec![none, none], vec![bad, None], false),
        (vec![none, None], vec![bad, lost], false),
        (vec![none, None], vec![None, lost], false),
        (vec![none, none, none], vec![lost, lost, None], true),
    ] {
        let pending = pending_after(several_each(&[vec![none], before.clone()]));
        assert_eq!(confirms(&pending, &with_other_pool(&after)), wanted, "{before:?}, then {after:?}");
    }
}

#[test]
fn losses_below_20_ms_do_not_confirm_a_pause() {
    let mut confirmation = PauseConfirmation::default();
    confirmation.record_round(one_each(&[Some(0); 2]), STEADY, at(-5_000));
    confirmation.rtc_jumped(measurement(20, 4_000), at(0));
    // Twice 1 ms, and 200 ppm of five seconds and a half.
    assert!(!confirms(&confirmation, &one_each(&[Some(23); 2])));
    assert!(confirms(&confirmation, &one_each(&[Some(24); 2])));
}

#[test]
fn oscillators_that_are_off_by_200_ppm_do_not_confirm_a_pause() {
    let mut confirmation = PauseConfirmation::default();
    confirmation.record_round(one_each(&[Some(0); 2]), STEADY, at(-1_000_000));
    confirmation.rtc_jumped(measurement(20, 4_000), at(0));
    assert!(!confirms(&confirmation, &one_each(&[Some(221); 2])));
    assert!(confirms(&confirmation, &one_each(&[Some(223); 2])));
}

#[test]
fn cancelled_jumps_are_not_confirmed() {
    let mut confirmation = pending();
    confirmation.cancel();
    assert_eq!(confirmation.waiting_since(), None);
    assert!(!confirms(&confirmation, &one_each(&[Some(501); 2])));
}

#[test]
fn rounds_less_than_five_seconds_before_the_rtc_shows_a_jump_are_not_compared() {
    let mut confirmation = pending();
    confirmation.cancel();
    for millis in [1_000, 1_500, 5_900] {
        confirmation.record_round(one_each(&[Some(501); 2]), STEADY, at(millis));
    }
    confirmation.rtc_jumped(measurement(994, 508), at(5_950));
    assert!(confirmation.confirmed_by(&one_each(&[Some(501); 2]), STEADY, at(6_500)).is_some());
}

#[test]
fn confirmation_without_an_older_round_compares_with_the_oldest() {
    let mut confirmation = PauseConfirmation::default();
    confirmation.rtc_jumped(measurement(994, 508), at(7_000));
    let measured = one_each(&[Some(501); 2]);
    assert!(confirmation.confirmed_by(&measured, STEADY, at(7_500)).is_none(), "nothing to compare with");
    confirmation.reset();
    for (millis, later) in [(7_900, [None; 2]), (8_000, [Some(501); 2]), (8_500, [Some(1_002); 2])] {
        confirmation.record_round(one_each(&later), STEADY, at(millis));
    }
    confirmation.rtc_jumped(measurement(994, 508), at(8_700));
    assert!(confirmation.confirmed_by(&one_each(&[Some(1_002); 2]), STEADY, at(9_000)).is_some());
    assert!(confirmation.confirmed_by(&one_each(&[Some(501); 2]), STEADY, at(9_000)).is_none());
}

#[test]
fn pools_not_measured_in_the_last_round_are_compared_with_the_round_before() {
    let mut confirmation = PauseConfirmation::default();
    confirmation.record_round(one_each(&[Some(0), Some(0)]), STEADY, at(-124_000));
    confirmation.record_round(one_each(&[Some(0), None]), STEADY, at(-60_000));
    confirmation.rtc_jumped(measurement(994, 508), at(0));
    assert!(confirms(&confirmation, &one_each(&[Some(501); 2])));
}

#[test]
fn two_jumps_in_a_row_are_compared_with_the_rounds_before_both() {
    let mut confirmation = pending();
    confirmation.rtc_jumped(measurement(300, 10), at(2_000));
    assert_eq!(confirmation.waiting_since(), Some(at(2_000)), "a sample in between is of neither");
    assert_eq!(confirmation.last_undisturbed(), Some(at(-5_000)), "before the first jump");
    let confirms = |millis: i64| {
        let measured = one_each(&[Some(millis); 2]);
        confirmation.confirmed_by(&measured, STEADY, at(2_500)).is_some()
    };
    assert!(confirms(1_290), "both took time");
    assert!(confirms(300), "the first was a write");
    assert!(!confirms(250) && !confirms(1_900));
}

/// The servers are measured, and a minute later the RTC jumps by 994 ms ±508 ms, which is reported as a pause.
fn paused_after(before: Vec<Candidate>) -> PauseConfirmation {
    let mut confirmation = PauseConfirmation::default();
    confirmation.record_round(before, STEADY, at(-60_000));
    confirmation.rtc_paused(measurement(994, 508), at(0));
    confirmation
}

fn refutes(confirmation: &PauseConfirmation, measured: &[Candidate]) -> bool {
    confirmation.refuted_by(measured, at(500)).is_some()
}

#[test]
fn two_pools_that_lost_nothing_refute_a_pause() {
    let paused = paused_after(one_each(&[Some(0), Some(0)]));
    assert!(paused.is_pause() && !pending().is_pause());
    assert_eq!(paused.waiting_since(), Some(at(0)));
    let refuted = paused.refuted_by(&one_each(&[Some(0), Some(5)]), at(500));
    assert_eq!(refuted, Some(measurement(994, 508)));
    for (pools, why) in [
        ([Some(0), None], "one pool"),
        ([Some(0), Some(501)], "one pool, against the other"),
        ([Some(501), Some(501)], "both lost as much as the RTC shows"),
        ([Some(300), Some(300)], "both lost something"),
    ] {
        assert!(!refutes(&paused, &one_each(&pools)), "{why}");
    }
    assert!(!confirms(&paused, &one_each(&[Some(501), Some(501)])), "it is a pause already");
    assert!(!refutes(&pending(), &one_each(&[Some(0), Some(0)])), "it was reported as a write");
}

#[test]
fn pauses_that_may_be_measurement_error_are_not_refuted() {
    let mut confirmation = PauseConfirmation::default();
    confirmation.record_round(one_each(&[Some(0); 2]), STEADY, at(-60_000));
    confirmation.rtc_paused(measurement(24, 2), at(0));
    // Twice 1 ms, and 200 ppm of a minute: up to 14 ms are possible, and 10 ms are no jump.
    assert!(!refutes(&confirmation, &one_each(&[Some(0); 2])));
}

#[test]
fn refutations_find_the_servers_by_their_new_numbers_and_the_jump_of_a_write_before() {
    let mut confirmation = pending();
    confirmation.rtc_paused(measurement(700, 10), at(2_000));
    let renumbered = |servers: Vec<Candidate>| -> Vec<Candidate> {
        servers.into_iter().map(|c| Candidate { server: ServerId(c.server.0 + 1_000), ..c }).collect()
    };
    let measured = renumbered(one_each(&[Some(0); 2]));
    assert!(confirmation.refuted_by(&measured, at(2_500)).is_none());
    let numbers = [0, 100].map(|n| (ServerId(n), ServerId(n + 1_000)));
    confirmation.renumber(&numbers.into_iter().collect());
    assert!(confirmation.refuted_by(&measured, at(2_500)).is_some());
}
