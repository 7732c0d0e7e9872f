use super::*;
use crate::fixtures;
use crate::ntp::packet::Kiss;
use crate::time::{Bound, Ppb, Wall};

const SECOND: i64 = 1_000_000_000;
const PACE: Pace = Pace { interval: Duration::from_secs(64), stale_after: Duration::from_secs(600) };

fn at(secs: i64) -> Mono {
    Mono::from_nanos(secs * SECOND)
}

fn reading(secs: i64) -> Reading {
    Reading { wall: Wall::from_secs(1_795_341_600 + secs), raw: at(secs), suspended: Duration::ZERO }
}

fn server() -> Server {
    Server::new(ServerId(8), "127.0.0.1:123".parse().unwrap())
}

fn sample_of(secs: i64, origin_ms: i64) -> Sample {
    fixtures::sample(at(secs), Wall::from_nanos(origin_ms * 1_000_000), Bound::from_nanos(1_000_000))
}

fn sample(secs: i64) -> Answer {
    Answer::Sample(sample_of(secs, 0))
}

fn answer(server: &mut Server, answer: Answer, secs: i64) -> Option<RejectReason> {
    server.handle_answer(answer, at(secs), Rate::exactly(Ppb(0)), PACE)
}

fn ask(server: &mut Server, secs: i64) -> Option<Ask> {
    server.ask(reading(secs), PACE.interval, false, true)
}

/// Asked every 64 s, with a sample each time, as far as it is asked for one.
fn regular(server: &mut Server, rounds: std::ops::Range<i64>) -> Vec<Option<Ask>> {
    rounds
        .map(|round| {
            let asked = ask(server, round * 64);
            match asked {
                Some(Ask::Sample) => answer(server, sample(round * 64), round * 64),
                Some(Ask::CrossCheck) => answer(server, Answer::CrossChecked(None), round * 64),
                None => None,
            };
            asked
        })
        .collect()
}

/// rsntp measures this, ±1 ms.
fn cross_check(secs: i64, origin_ms: i64) -> Answer {
    let interval = Interval::around(Wall::from_nanos(origin_ms * 1_000_000), Bound::from_nanos(1_000_000));
    Answer::CrossChecked(Some(CrossCheck { at: at(secs), interval }))
}

/// The cross-check that follows the exchange at `secs`; `None`: there is none.
fn check_after(server: &mut Server, secs: i64) -> Option<Ask> {
    let soon = server.soon_at(at(secs), PACE.interval)?;
    assert_eq!(soon.since(at(secs)), Duration::from_millis(2_020));
    ask(server, secs + 3)
}

#[test]
fn after_sixteen_exchanges_a_cross_check_follows_the_next_and_takes_no_samples_place() {
    let mut server = server();
    regular(&mut server, 0..2);
    let mut checks = Vec::new();
    for round in 2..40 {
        assert_eq!(regular(&mut server, round..round + 1), [Some(Ask::Sample)]);
        if check_after(&mut server, round * 64) == Some(Ask::CrossCheck) {
            checks.push(round);
            answer(&mut server, cross_check(round * 64 + 3, 0), round * 64 + 3);
        }
    }
    assert_eq!(checks, [16, 33]);
}

#[test]
fn at_the_shortest_intervals_a_cross_check_takes_the_next_polls_place() {
    let (mut server, interval) = (server(), Duration::from_secs(1));
    let mut asked = Vec::new();
    for second in 0..20 {
        let ask = server.ask(reading(second), interval, false, true);
        let of_check = ask == Some(Ask::CrossCheck);
        answer(&mut server, if of_check { cross_check(second, 0) } else { sample(second) }, second);
        asked.push(of_check);
    }
    let checks: Vec<usize> = (0..20).filter(|second| asked[*second]).collect();
    assert_eq!(checks, [17]);
}

#[test]
fn cross_checks_wait_for_a_regular_poll_and_a_wall_clock_that_rsntp_handles() {
    let mut server = server();
    regular(&mut server, 0..16);
    let wrong = Reading { wall: Wall::from_secs(-1), ..reading(16 * 64) };
    assert_eq!(server.ask(wrong, PACE.interval, false, true), Some(Ask::Sample), "1969");
    answer(&mut server, sample(16 * 64), 16 * 64);
    assert_eq!(check_after(&mut server, 16 * 64), None);
    assert_eq!(server.ask(reading(17 * 64), PACE.interval, false, false), Some(Ask::Sample), "a quick round");
    answer(&mut server, sample(17 * 64), 17 * 64);
    assert_eq!(check_after(&mut server, 17 * 64), None);
    regular(&mut server, 18..19);
    assert_eq!(check_after(&mut server, 18 * 64), Some(Ask::CrossCheck));
}

#[test]
fn a_cross_check_that_gives_nothing_is_followed_by_an_exchange() {
    let mut server = server();
    regular(&mut server, 0..17);
    assert_eq!(check_after(&mut server, 1_024), Some(Ask::CrossCheck));
    answer(&mut server, Answer::CrossChecked(None), 1_028);
    let soon = server.soon_at(at(1_028), PACE.interval).unwrap();
    assert_eq!(soon.since(at(1_027)), Duration::from_millis(2_020));
    assert_eq!(ask(&mut server, 1_030), Some(Ask::Sample));
    answer(&mut server, sample(1_030), 1_030);
    assert_eq!(server.soon_at(at(1_033), PACE.interval), None);
}

#[test]
fn time_outs_between_kisses_are_not_reported_as_another_reason() {
    let (mut server, kiss) = (server(), RejectReason::Kiss(Kiss::Rate));
    let reject = |server: &mut Server, reason| {
        answer(server, Answer::Rejected(reason), 0);
        server.take_log_change()
    };
    assert_eq!(reject(&mut server, kiss), Some(Err(kiss)));
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(reject(&mut server, RejectReason::Timeout), None);
            assert_eq!(server.last, Some(Err(kiss)));
        }
        assert_eq!(reject(&mut server, kiss), None);
    }
    (0..4).for_each(|_| assert_eq!(reject(&mut server, RejectReason::Timeout), None));
    let silent = Some(Err(RejectReason::Timeout));
    assert_eq!((reject(&mut server, RejectReason::Timeout), server.last), (silent, silent), "the fifth");
    answer(&mut server, sample(0), 0);
    answer(&mut server, Answer::Rejected(RejectReason::Timeout), 0);
    assert_eq!(server.last, silent, "an answer in between");
}

#[test]
fn no_cross_check_follows_the_first_exchange_after_a_disruption() {
    for is_asked_before in [false, true] {
        let mut server = server();
        regular(&mut server, 0..16);
        if is_asked_before {
            assert_eq!(ask(&mut server, 1_024), Some(Ask::Sample));
        }
        server.handle_disruption(ServerId(7));
        assert_eq!(server.soon_at(at(1_030), PACE.interval), None);
        regular(&mut server, 17..18);
        assert_eq!(check_after(&mut server, 1_088), None);
        regular(&mut server, 18..19);
        assert_eq!(check_after(&mut server, 1_152), Some(Ask::CrossCheck));
    }
}

#[test]
fn no_cross_check_follows_a_miss() {
    let mut server = server();
    regular(&mut server, 0..16);
    assert_eq!(ask(&mut server, 1_024), Some(Ask::Sample));
    answer(&mut server, Answer::Rejected(RejectReason::Timeout), 1_025);
    assert_eq!(check_after(&mut server, 1_024), None, "a sample is needed more");
    regular(&mut server, 17..18);
    assert_eq!(check_after(&mut server, 1_088), Some(Ask::CrossCheck));
}

#[test]
fn a_server_is_not_asked_while_an_exchange_is_under_way() {
    let mut server = server();
    assert_eq!(ask(&mut server, 0), Some(Ask::Sample));
    assert_eq!(ask(&mut server, 64), None);
    answer(&mut server, Answer::Rejected(RejectReason::Timeout), 65);
    assert_eq!(ask(&mut server, 128), Some(Ask::Sample));
}

#[test]
fn new_servers_get_two_exchanges_at_once() {
    let mut server = server();
    assert_eq!(server.soon_at(at(5), PACE.interval), Some(at(5)));
    assert!(!server.is_introduced());
    server.ask(reading(5), PACE.interval, false, false);
    assert_eq!(server.soon_at(at(5), PACE.interval), None, "under way");
    answer(&mut server, sample(5), 5);
    let second = server.soon_at(at(5), PACE.interval).unwrap();
    assert!(second > at(7) && second < at(8), "{second:?}");
    server.ask(reading(8), PACE.interval, false, false);
    answer(&mut server, sample(8), 8);
    assert!(server.is_introduced() && server.soon_at(at(9), PACE.interval).is_none());
}

#[test]
fn servers_are_reachable_as_long_as_their_newest_sample_is_young() {
    let mut server = server();
    assert_eq!(server.state(at(0), PACE), ServerState::Starting);
    answer(&mut server, sample(0), 0);
    for secs in [64, 128, 192, 256] {
        answer(&mut server, Answer::Rejected(RejectReason::Timeout), secs);
    }
    assert!(server.is_failing(), "so that a spare takes its place");
    assert_eq!(server.state(at(599), PACE), ServerState::Reachable);
    assert_eq!(server.state(at(600), PACE), ServerState::Unreachable);
}

#[test]
fn new_servers_without_an_answer_are_unreachable_after_four_exchanges() {
    let mut server = server();
    for n in 0..3 {
        answer(&mut server, Answer::Rejected(RejectReason::Timeout), n);
    }
    assert_eq!(server.state(at(3), PACE), ServerState::Starting);
    answer(&mut server, Answer::Rejected(RejectReason::Timeout), 3);
    assert_eq!(server.state(at(3), PACE), ServerState::Unreachable);
}

#[test]
fn exchanges_that_the_node_has_spoilt_are_no_misses() {
    let mut server = server();
    for n in 0..9 {
        answer(&mut server, Answer::Rejected(RejectReason::Suspended), n);
    }
    assert_eq!((server.misses(), server.state(at(9), PACE)), (0, ServerState::Starting));
}

#[test]
fn a_kiss_counts_at_once_and_a_timeout_does_not_reset_it() {
    let mut server = server();
    let rate = || Answer::Rejected(RejectReason::Kiss(Kiss::Rate));
    answer(&mut server, sample(0), 0);
    for round in 0..8 {
        ask(&mut server, round * 640);
        answer(
            &mut server,
            if round % 2 == 0 { rate() } else { Answer::Rejected(RejectReason::Timeout) },
            round * 640,
        );
    }
    assert_eq!(server.state(at(1), PACE), ServerState::BackedOff, "16 times 64 s");
}

#[test]
fn two_contradictions_in_a_row_back_a_server_off_for_an_hour() {
    let mut server = server();
    regular(&mut server, 0..16);
    assert_eq!(answer(&mut server, cross_check(1_000, 50), 1_000), Some(RejectReason::ServerInconsistent));
    assert_eq!(answer(&mut server, cross_check(1_001, 1), 1_001), None);
    assert_eq!(
        answer(&mut server, cross_check(1_002, 50), 1_002),
        Some(RejectReason::ServerInconsistent),
        "in a row"
    );
    assert!(server.interval(at(1_002), Rate::UNKNOWN, PACE.stale_after).is_some());
    assert_eq!(answer(&mut server, cross_check(1_003, 50), 1_003), Some(RejectReason::ClientsDisagree));
    assert_eq!(server.state(at(1_003 + 3_599), PACE), ServerState::BackedOff);
    assert_eq!(server.interval(at(1_003), Rate::UNKNOWN, PACE.stale_after), None);
    assert_eq!(server.last, Some(Err(RejectReason::ClientsDisagree)));
    assert_eq!(ask(&mut server, 1_003 + 3_600), Some(Ask::Sample), "the doubt expires");
}

#[test]
fn cross_checks_allow_for_the_servers_own_error() {
    let mut server = server();
    for secs in 0..16 {
        let far = Sample { root_distance: Duration::from_millis(10), ..sample_of(secs, 0) };
        answer(&mut server, Answer::Sample(far), secs);
    }
    // ±1 ms each, 10 ms of root distance, and half a millisecond that no server declares.
    assert_eq!(answer(&mut server, cross_check(16, 12), 16), None);
    assert_eq!(answer(&mut server, cross_check(16, 13), 16), Some(RejectReason::ServerInconsistent));
}

#[test]
fn a_cross_check_is_no_sample_and_its_failure_no_miss() {
    let mut server = server();
    regular(&mut server, 0..16);
    let before = server.newest_sample().copied();
    for secs in 1_000..1_009 {
        assert_eq!(answer(&mut server, Answer::CrossChecked(None), secs), None);
        assert_eq!(answer(&mut server, cross_check(secs, 1), secs), None);
    }
    assert_eq!((server.newest_sample().copied(), server.misses(), server.last), (before, 0, Some(Ok(()))));
}

#[test]
fn servers_that_contradict_themselves_are_named() {
    let mut server = server();
    for (secs, origin) in (0..).zip([0, 0, 0, 30, 30, 30, 0, 0]) {
        answer(&mut server, Answer::Sample(sample_of(secs, origin)), secs);
    }
    assert_eq!(server.last, Some(Err(RejectReason::ServerInconsistent)));
}

#[test]
fn spares_start_as_new_servers_and_keep_their_manners() {
    let mut server = server();
    answer(&mut server, sample(0), 0);
    answer(&mut server, Answer::Rejected(RejectReason::Kiss(Kiss::Deny)), 1);
    server.false_rounds = 9;
    server.reuse(ServerId(2));
    assert_eq!((server.id, server.last, server.false_rounds), (ServerId(2), None, 0));
    assert_eq!(server.interval(at(1), Rate::UNKNOWN, PACE.stale_after), None);
    assert!(server.is_backed_off(at(1)) && !server.is_introduced());
}

#[test]
fn disruptions_discard_the_samples_and_the_answer_on_its_way() {
    let mut server = server();
    answer(&mut server, sample(0), 0);
    ask(&mut server, 64);
    server.handle_disruption(ServerId(9));
    assert_eq!((server.id, server.state(at(64), PACE)), (ServerId(9), ServerState::Starting));
    assert_eq!(ask(&mut server, 65), None, "too soon");
    server.grant_extra();
    assert_eq!(ask(&mut server, 65), Some(Ask::Sample));
}

#[test]
fn results_are_logged_when_they_change_and_single_timeouts_are_not() {
    let mut server = server();
    let timeout = || Answer::Rejected(RejectReason::Timeout);
    answer(&mut server, sample(0), 0);
    assert_eq!(server.take_log_change(), Some(Ok(())));
    answer(&mut server, sample(1), 1);
    assert_eq!(server.take_log_change(), None);
    for n in 0..3 {
        answer(&mut server, timeout(), n);
        assert_eq!(server.take_log_change(), None);
    }
    answer(&mut server, timeout(), 5);
    assert_eq!(server.take_log_change(), Some(Err(RejectReason::Timeout)));
    answer(&mut server, timeout(), 6);
    assert_eq!(server.take_log_change(), None);
}

#[test]
fn only_the_newest_sample_announces_a_leap_second() {
    let mut server = server();
    answer(&mut server, Answer::Sample(Sample { leap: Leap::Insert, ..sample_of(0, 0) }), 0);
    assert!(server.announces_leap());
    answer(&mut server, sample(1), 1);
    assert!(!server.announces_leap());
}

#[test]
fn state_labels_are_those_of_the_metric() {
    assert_eq!(
        ServerState::ALL.map(ServerState::label),
        ["starting", "reachable", "unreachable", "backed-off"]
    );
}
