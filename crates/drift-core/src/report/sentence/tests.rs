use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::fixtures::settings;
use crate::machine::Machine;
use crate::ntp::packet::Kiss;
use crate::ntp::reject::RejectReason;
use crate::ntp::server::ServerState;
use crate::report::snapshot::ServerSnapshot;
use crate::time::{Bound, Mono, Offset, Reading, Wall};

const SECOND: Duration = Duration::from_secs(1);

/// In sync by these pools of one server each, all of which measure the same; threshold 100 ms.
fn snapshot(names: &[&str]) -> Snapshot {
    let now =
        Reading { wall: Wall::from_secs(1_795_341_600), raw: Mono::from_nanos(0), suspended: Duration::ZERO };
    let mut snapshot = Machine::new(settings(names), 1, now).snapshot(now);
    (snapshot.state, snapshot.measured) = (State::InSync, Some(measured(3, 2)));
    for pool in &mut snapshot.pools {
        (pool.measured, pool.servers) = (Some(measured(3, 2)), vec![server(ServerState::Reachable)]);
    }
    snapshot
}

fn measured(offset_ms: i64, bound_ms: i64) -> Measurement {
    Measurement::new(Offset::from_nanos(offset_ms * 1_000_000), Bound::from_nanos(bound_ms * 1_000_000))
}

fn server(state: ServerState) -> ServerSnapshot {
    ServerSnapshot {
        address: SocketAddr::from(([192, 0, 2, 1], 123)),
        state,
        is_falseticker: false,
        measured: Some(measured(3, 2)),
        last: Some(Ok(())),
        rejected: None,
    }
}

fn make_unreachable(pool: &mut PoolSnapshot) {
    let last = Some(Err(RejectReason::Timeout));
    pool.measured = None;
    pool.servers = vec![ServerSnapshot { measured: None, last, ..server(ServerState::Unreachable) }];
}

#[test]
fn offset_bound_and_threshold_are_the_whole_sentence_while_all_pools_agree() {
    let mut snapshot = snapshot(&["a", "b"]);
    assert_eq!(snapshot.sentence(), "The clock is 3 ms behind (±2 ms), within the threshold of 100 ms.");
    (snapshot.state, snapshot.measured) = (State::Drifting, Some(measured(-250, 2)));
    assert_eq!(snapshot.sentence(), "The clock is 250 ms ahead (±2 ms), over the threshold of 100 ms.");
}

#[test]
fn offsets_of_a_known_size_are_named_with_what_to_look_for() {
    let mut snapshot = snapshot(&["a", "b"]);
    snapshot.state = State::Drifting;
    for (offset_ms, size, remedy) in [
        (-37_000, "That is 37 s, as far as TAI is ahead of UTC: look for a PTP clock", "UTC offset of 37 s."),
        (18_001, "That is 18 s, as far as GPS time is ahead of UTC: look for a GPS", "leap seconds."),
        (
            -25_199_700,
            "The clock is 7 h ahead (±2 ms), over the threshold of 100 ms. That is 7 h to",
            "RTC base.",
        ),
        (
            900_400,
            "That is 15 min to within a second or two, as local time that is taken for UTC:",
            "RTC base.",
        ),
    ] {
        snapshot.measured = Some(measured(offset_ms, 2));
        let text = snapshot.sentence();
        assert!(text.contains(size) && text.ends_with(remedy), "{text}");
        assert_eq!(snapshot.message(), text, "the condition's message");
    }
    snapshot.measured = Some(measured(-36_000, 2));
    assert!(!snapshot.sentence().contains("That is"), "{}", snapshot.sentence());
    (snapshot.state, snapshot.measured) = (State::InSync, Some(measured(-37_000, 2)));
    assert_eq!(snapshot.shape(), None, "a threshold above it");
}

#[test]
fn falsetickers_are_named_with_what_they_differ_by() {
    let mut snapshot = snapshot(&["a", "b", "c"]);
    (snapshot.pools[1].is_falseticker, snapshot.pools[1].measured) = (true, Some(measured(10_020, 2)));
    let text = snapshot.sentence();
    assert!(
        text.ends_with("threshold of 100 ms. Pool b is wrong: 10.0 s ahead of the others."),
        "a pool whose time is ahead shows the node behind: {text}"
    );
    snapshot.pools[1].measured = Some(measured(-497, 2));
    assert!(
        snapshot.sentence().ends_with("Pool b is wrong: 500 ms behind the others."),
        "{}",
        snapshot.sentence()
    );
    snapshot.pools[1].measured = None;
    assert!(snapshot.sentence().ends_with("Pool b is wrong: its servers contradict each other."));
}

#[test]
fn contradictions_that_leave_the_state_certain_are_reported() {
    let mut snapshot = snapshot(&["a", "b"]);
    snapshot.is_contradiction = true;
    (snapshot.pools[0].measured, snapshot.pools[1].measured) = (Some(measured(0, 1)), Some(measured(60, 1)));
    snapshot.measured = Some(measured(30, 31));
    assert_eq!(
        snapshot.sentence(),
        "The clock is 30 ms behind (±31 ms), within the threshold of 100 ms. The pools differ by 60 ms; all are within the threshold."
    );
    (snapshot.state, snapshot.measured) = (State::Drifting, Some(measured(5_010, 12)));
    assert!(snapshot.sentence().ends_with("The pools differ by 60 ms; all are over the threshold."));
    snapshot.pools[1].measured = None;
    assert!(snapshot.sentence().ends_with(
        "threshold of 100 ms. The servers of b contradict each other; all are over the threshold."
    ));
    (snapshot.state, snapshot.measured) = (State::Disagree, None);
    assert_eq!(
        snapshot.sentence(),
        "The time servers disagree; no offset is reported: a reports on time; the servers of b contradict each other."
    );
}

#[test]
fn unreachable_pools_are_named_with_the_pools_that_are_left() {
    let mut snapshot = snapshot(&["a", "b", "c", "d"]);
    make_unreachable(&mut snapshot.pools[3]);
    (snapshot.pools[1].is_falseticker, snapshot.pools[1].measured) = (true, Some(measured(10_020, 2)));
    assert!(
        snapshot.sentence().ends_with(
            "Pool b is wrong: 10.0 s ahead of the others. Measured against a and c alone: d is unreachable (no answer)."
        ),
        "{}",
        snapshot.sentence()
    );
    snapshot.pools.iter_mut().for_each(make_unreachable);
    snapshot.pools.truncate(1);
    (snapshot.state, snapshot.measured) = (State::Unknown, None);
    assert_eq!(snapshot.sentence(), "Nothing measured yet. No pool answers: a is unreachable (no answer).");
}

#[test]
fn a_disagreement_lists_each_pool_once() {
    let mut snapshot = snapshot(&["a", "b", "c"]);
    make_unreachable(&mut snapshot.pools[2]);
    snapshot.pools[1].measured = Some(measured(10_003, 2));
    (snapshot.state, snapshot.measured) = (State::Disagree, None);
    assert_eq!(
        snapshot.sentence(),
        "The time servers disagree; no offset is reported: a reports 3 ms behind; b reports 10.0 s behind; c is unreachable (no answer)."
    );
}

#[test]
fn pools_slowed_by_their_servers_are_named_while_they_are_measured() {
    let mut snapshot = snapshot(&["a", "b"]);
    snapshot.pools[1].servers = vec![server(ServerState::BackedOff), server(ServerState::Reachable)];
    assert!(
        snapshot.sentence().ends_with("threshold of 100 ms."),
        "one of two servers: {}",
        snapshot.sentence()
    );
    snapshot.pools[1].servers.pop();
    assert!(snapshot.sentence().ends_with(" b is slowed by its servers (kiss-o'-death)."));
    assert_eq!(snapshot.pools[1].servers[0].state_in_words(), "slowed by the server (kiss-o'-death)");
    snapshot.pools[0].servers = vec![server(ServerState::BackedOff)];
    assert!(snapshot.sentence().ends_with(" a and b are slowed by their servers (kiss-o'-death)."));

    // Its last sample is too old, and the last answer was a good one.
    snapshot.pools[0].servers = vec![server(ServerState::Reachable)];
    (snapshot.pools[1].measured, snapshot.pools[1].servers[0].measured) = (None, None);
    assert!(
        snapshot
            .sentence()
            .ends_with("Measured against a alone: b is unreachable (slowed by the server (kiss-o'-death))."),
        "{}",
        snapshot.sentence()
    );
    snapshot.pools[1].servers[0].last = Some(Err(RejectReason::Kiss(Kiss::Rate)));
    assert!(
        snapshot
            .sentence()
            .ends_with("b is unreachable (asks to be polled less often (kiss-o'-death RATE)).")
    );
}

#[test]
fn a_pool_that_is_the_only_one_is_marked_while_it_gives_an_offset() {
    let mut alone = snapshot(&["a"]);
    assert_eq!(
        alone.message(),
        "The clock is 3 ms behind (±2 ms), within the threshold of 100 ms. a is the only pool (allowSinglePool): nothing confirms it."
    );
    assert!(alone.is_single_pool() && !snapshot(&["a", "b"]).is_single_pool());
    (alone.state, alone.measured) = (State::Unknown, None);
    make_unreachable(&mut alone.pools[0]);
    assert!(!alone.sentence().contains("allowSinglePool"), "{}", alone.sentence());
}

#[test]
fn bounds_that_rest_on_a_promise_are_marked() {
    let mut assumed = snapshot(&["a", "dc1"]);
    assumed.pools[1].assumed_root_distance = Some(SECOND / 10);
    assert!(assumed.is_assumed());
    let words = " The bound is assumed: it rests on a configured rootDistance of 100 ms for dc1.";
    assert!(assumed.message().ends_with(words), "{}", assumed.message());
    assumed.pools[1].is_falseticker = true;
    assert!(!assumed.is_assumed(), "it has no part in the bound");
    assert!(!snapshot(&["a", "b"]).is_assumed());
}

#[test]
fn pools_that_look_like_one_server_are_named_once() {
    let mut snapshot = snapshot(&["a", "b", "c"]);
    (snapshot.pools[0].same_server_as, snapshot.pools[2].same_server_as) = (Some(2), Some(0));
    let text = snapshot.sentence();
    assert!(
        text.ends_with("threshold of 100 ms. a and c look like one server: neither confirms the other."),
        "{text}"
    );
}

#[test]
fn a_bound_wider_than_the_threshold_is_named_and_a_narrow_one_is_not_settled_yet() {
    let mut snapshot = snapshot(&["a", "b"]);
    (snapshot.state, snapshot.measured) = (State::Unknown, Some(measured(3, 131)));
    assert_eq!(
        snapshot.sentence(),
        "The clock is 3 ms behind (±131 ms): this bound is wider than the threshold of 100 ms, so no verdict is possible."
    );
    snapshot.measured = Some(measured(95, 20));
    assert_eq!(snapshot.sentence(), "Not settled yet: 95 ms behind (±20 ms).");
    (snapshot.measured, snapshot.estimate_age) = (None, Some(SECOND * 660));
    assert!(snapshot.sentence().starts_with("Nothing measured for 11 min"), "{}", snapshot.sentence());
}

#[test]
fn a_disruption_is_reported_without_what_was_measured_before() {
    let mut snapshot = snapshot(&["a", "b", "c"]);
    (snapshot.state, snapshot.pools[0].same_server_as) = (State::Disrupted, Some(1));
    assert_eq!(
        snapshot.sentence(),
        "The machine was suspended or paused, and the clock has not been measured since."
    );
}

#[test]
fn the_message_adds_why_the_clock_cannot_be_stepped_only_where_steps_are_wanted() {
    use crate::step::time_daemon::{Daemon, DaemonReport};
    let mut snapshot = snapshot(&["a", "b"]);
    let ready = Err("chrony does not answer".to_owned());
    snapshot.daemon = Some(DaemonReport { daemon: Daemon::Chrony, ready, ..DaemonReport::NONE });
    assert_eq!(snapshot.message(), snapshot.sentence());
    snapshot.step.mode = Mode::Auto;
    assert!(snapshot.message().ends_with(" The clock cannot be stepped: chrony does not answer."));
}
