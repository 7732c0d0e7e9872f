use super::*;
use crate::estimate::Candidate;
use crate::fixtures;
use crate::ntp::packet::{Kiss, Leap};
use crate::time::interval::Interval;
use crate::time::{Bound, Ppb, Wall};

const MS: i64 = 1_000_000;
const INTERVAL: Duration = Duration::from_secs(64);
const PACE: Pace = Pace { interval: INTERVAL, stale_after: Duration::from_secs(600) };
const TIME_OUT: Duration = Duration::from_secs(1);
const STEADY: Rate = Rate::exactly(Ppb(0));

fn at(millis: i64) -> Reading {
    Reading {
        wall: Wall::from_secs(1_795_341_600),
        raw: Mono::from_nanos(millis * MS),
        suspended: Duration::ZERO,
    }
}

fn address(pool: u8, server: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, pool, server], 123))
}

fn resolution(addresses: impl IntoIterator<Item = SocketAddr>) -> Resolution {
    Resolution { addresses: addresses.into_iter().collect(), ttl: Some(Duration::from_secs(3_600)) }
}

fn sample(now: Reading, origin_ms: i64) -> Answer {
    Answer::Sample(fixtures::sample(now.raw, Wall::from_nanos(origin_ms * MS), Bound::from_nanos(MS)))
}

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Manner {
    /// It answers after so many ms.
    Answers(i64),
    /// It sends RATE at once.
    Kisses,
    /// It sends DENY at once.
    Denies,
    Silent,
}

/// Rounds, and servers that answer.
struct Harness {
    rounds: Rounds,
    now: i64,
    /// Answers on their way: when, from whom, what.
    queue: Vec<(i64, ServerId, Answer)>,
    servers: Vec<(SocketAddr, Manner)>,
    /// When each address was asked, in ms.
    asked: Vec<(i64, SocketAddr, Ask)>,
    /// Judgements, in ms.
    judged: Vec<(i64, bool)>,
    lookups: Vec<(i64, usize)>,
}

impl Harness {
    /// Pools of so many servers each; all names are resolved after 10 ms, and all servers answer after 5 ms.
    fn new(pools: &[u8]) -> Self {
        let names: Vec<String> = pools.iter().enumerate().map(|(n, _)| format!("pool-{n}")).collect();
        let mut harness = Self {
            rounds: Rounds::new(&names, 4, PACE, TIME_OUT, 7, at(0).raw),
            now: 0,
            queue: Vec::new(),
            servers: Vec::new(),
            asked: Vec::new(),
            judged: Vec::new(),
            lookups: Vec::new(),
        };
        harness.run_until(10);
        for (pool, count) in (0..).zip(pools) {
            harness.servers.extend((0..*count).map(|n| (address(pool, n), Manner::Answers(5))));
            harness.resolve(pool.into(), (0..*count).map(|n| address(pool, n)));
        }
        harness
    }

    fn resolve(&mut self, pool: usize, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.rounds.handle_resolved(pool, Ok(resolution(addresses)), at(self.now).raw, &mut Vec::new());
    }

    fn behave(&mut self, address: SocketAddr, manner: Manner) {
        self.servers.retain(|(own, _)| *own != address);
        self.servers.push((address, manner));
    }

    fn run_until(&mut self, end: i64) {
        while self.now < end {
            let idle =
                i64::try_from(self.rounds.poll_timeout(at(self.now).raw).as_millis()).unwrap_or(i64::MAX);
            let tick = self.now.saturating_add(idle.max(1));
            let arrival = self.queue.iter().map(|(when, ..)| *when).min().unwrap_or(i64::MAX);
            self.now = tick.min(arrival).min(end);
            let now = at(self.now);
            let mut out = Vec::new();
            if let Some(index) = self.queue.iter().position(|(when, ..)| *when <= self.now) {
                let (_, server, answer) = self.queue.remove(index);
                let answered = self.rounds.handle_answer(server, answer, now, STEADY, &mut out);
                self.judged.extend(answered.judged.map(|judged| (self.now, judged.is_complete)));
            } else {
                let judged = self.rounds.tick(now, &mut out);
                self.judged.extend(judged.map(|judged| (self.now, judged.is_complete)));
            }
            for effect in out {
                self.carry_out(&effect);
            }
        }
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Resolve { pool } => self.lookups.push((self.now, *pool)),
            Effect::Query { server, address, ask, .. } => {
                self.asked.push((self.now, *address, *ask));
                let manner = self.servers.iter().find(|(own, _)| own == address).map(|(_, manner)| *manner);
                let (delay, answer) = match (manner, ask) {
                    (Some(Manner::Answers(delay)), Ask::Sample) => (delay, sample(at(self.now), 0)),
                    (Some(Manner::Answers(delay)), Ask::CrossCheck) => (delay, Answer::CrossChecked(None)),
                    (Some(Manner::Kisses), _) => (1, Answer::Rejected(RejectReason::Kiss(Kiss::Rate))),
                    (Some(Manner::Denies), _) => (1, Answer::Rejected(RejectReason::Kiss(Kiss::Deny))),
                    _ => (1_000, Answer::Rejected(RejectReason::Timeout)),
                };
                self.queue.push((self.now + delay, *server, answer));
            }
            _ => {}
        }
    }

    /// When this address was asked, in whole seconds.
    fn seconds(&self, address: SocketAddr) -> Vec<i64> {
        self.asked.iter().filter(|(_, own, _)| *own == address).map(|(at, ..)| at / 1_000).collect()
    }

    /// The states by pool.
    fn reachable(&self) -> Vec<usize> {
        let is_reachable = |s: &&Server| s.is_reachable(at(self.now).raw, PACE.stale_after);
        self.rounds.pools.iter().map(|pool| pool.servers.iter().filter(is_reachable).count()).collect()
    }
}

#[test]
fn polls_come_as_far_apart_as_was_measured_so_far_up_to_the_interval() {
    let mut harness = Harness::new(&[1, 1]);
    harness.run_until(600_000);
    let asked = harness.seconds(address(0, 0));
    assert_eq!(asked[..6], [0, 2, 4, 8, 16, 32]);
    assert_eq!(harness.seconds(address(1, 0))[..6], asked[..6], "all in one round");
    let waits: Vec<i64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[5..7].iter().all(|wait| *wait <= 64), "{asked:?}");
    assert!(waits[7..].iter().all(|wait| (63..=64).contains(wait)), "{asked:?}");
}

#[test]
fn nodes_that_start_at_one_instant_poll_at_different_phases() {
    let phases: BTreeSet<i64> = (0..20)
        .map(|seed| {
            let mut harness = Harness::new(&[1]);
            harness.rounds.phase = at(seed * 3_200).raw;
            harness.run_until(500_000);
            harness.seconds(address(0, 0)).last().unwrap() % 64
        })
        .collect();
    assert!(phases.len() > 15, "{phases:?}");
}

#[test]
fn the_first_round_waits_for_all_names() {
    let names = ["a".to_owned(), "b".to_owned()];
    let mut rounds = Rounds::new(&names, 4, PACE, TIME_OUT, 7, at(0).raw);
    let mut out = Vec::new();
    rounds.tick(at(0), &mut out);
    rounds.handle_resolved(0, Ok(resolution([address(0, 0)])), at(10).raw, &mut out);
    rounds.tick(at(10), &mut out);
    let asked = |out: &[Effect]| out.iter().filter(|e| matches!(e, Effect::Query { .. })).count();
    assert_eq!(asked(&out), 0);
    assert!(!rounds.has_settled());
    rounds.handle_resolved(1, Err("no such name".to_owned()), at(900).raw, &mut out);
    rounds.tick(at(900), &mut out);
    assert_eq!(asked(&out), 1, "a failure is an answer, too");
}

#[test]
fn a_round_is_judged_when_each_pool_has_a_majority_and_again_when_the_rest_has_come() {
    let mut harness = Harness::new(&[3, 1]);
    harness.behave(address(0, 2), Manner::Answers(400));
    harness.behave(address(1, 0), Manner::Answers(50));
    harness.run_until(1_500);
    assert_eq!(harness.judged, [(61, true), (411, false)]);

    let mut harness = Harness::new(&[3, 1]);
    harness.behave(address(0, 1), Manner::Answers(50));
    harness.behave(address(0, 2), Manner::Answers(50));
    harness.run_until(40);
    assert!(!harness.rounds.has_settled(), "each pool has a sample, but no majority of the first one");
    harness.run_until(70);
    assert!(harness.rounds.has_settled());
}

#[test]
fn a_server_that_did_not_answer_the_last_time_is_not_waited_for() {
    let mut harness = Harness::new(&[1, 1]);
    harness.behave(address(1, 0), Manner::Silent);
    harness.run_until(1_999);
    assert_eq!(harness.judged, [(1_011, true)], "the first time it is waited for");
    harness.run_until(3_900);
    let (second, is_complete) = harness.judged[1];
    assert!((2_030..2_040).contains(&second) && is_complete, "{:?}", harness.judged);
}

#[test]
fn a_judgement_is_complete_when_every_pool_that_still_answers_has_a_new_sample() {
    let mut harness = Harness::new(&[1, 1]);
    harness.run_until(120_000);
    harness.behave(address(1, 0), Manner::Silent);
    let before = harness.judged.len();
    harness.run_until(120_000 + 500_000);
    let silent: Vec<bool> = harness.judged[before..].iter().map(|(_, is_complete)| *is_complete).collect();
    let first = silent.iter().position(|is_complete| !is_complete).unwrap();
    assert!(first < 2 && silent.len() >= 6, "{silent:?}");
    assert!(
        silent[first + 1..].iter().all(|is_complete| *is_complete),
        "one lost packet is waited for: {silent:?}"
    );
    harness.behave(address(1, 0), Manner::Answers(10));
    harness.run_until(120_000 + 840_000);
    harness.behave(address(1, 0), Manner::Silent);
    let before = harness.judged.len();
    harness.run_until(120_000 + 960_000);
    assert!(harness.judged[before..].iter().any(|(_, is_complete)| !is_complete), "it has answered again");
}

#[test]
fn two_pools_never_have_a_server_in_common() {
    let mut harness = Harness::new(&[2, 1]);
    harness.resolve(1, [address(0, 1), address(1, 0), address(1, 5)]);
    let in_use = |harness: &Harness, pool: usize| -> Vec<SocketAddr> {
        harness.rounds.pools[pool].servers.iter().map(|s| s.address).collect()
    };
    assert_eq!(in_use(&harness, 1), [address(1, 0), address(1, 5)]);
    let mut out = Vec::new();
    harness.rounds.handle_resolved(1, Ok(resolution([address(0, 0)])), at(harness.now).raw, &mut out);
    assert!(harness.rounds.pools[1].resolve_error.as_ref().unwrap().contains("belong to another pool"));
    assert!(out.iter().any(|e| matches!(e, Effect::Log(LogEvent::PoolUnresolved { .. }))));
    assert_eq!(in_use(&harness, 1), [address(1, 0), address(1, 5)], "the servers that it has stay");
}

#[test]
fn a_pool_without_a_reachable_server_is_looked_up_and_probed_ever_more_slowly() {
    let mut harness = Harness::new(&[1, 1]);
    harness.behave(address(1, 0), Manner::Silent);
    harness.run_until(60_000);
    let lookups: Vec<i64> = harness
        .lookups
        .iter()
        .filter(|(at, pool)| *at > 10 && *pool == 1)
        .map(|(at, _)| at / 1_000)
        .collect();
    assert_eq!(lookups.first(), Some(&2), "{lookups:?}");
    let asked = harness.asked.len();
    harness.behave(address(1, 0), Manner::Answers(5));
    harness.run_until(130_000);
    assert_eq!(harness.reachable(), [1, 1]);
    assert!(harness.asked.len() > asked);
}

#[test]
fn the_first_sign_of_life_after_an_outage_of_everything_is_used_at_once() {
    let mut harness = Harness::new(&[2, 2]);
    let all = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(pool, n)| address(pool, n));
    for server in all {
        harness.behave(server, Manner::Silent);
    }
    harness.run_until(4_000_000);
    assert_eq!(harness.reachable(), [0, 0]);
    for server in all {
        harness.behave(server, Manner::Answers(5));
    }
    harness.run_until(4_064_100);
    assert_eq!(harness.reachable(), [2, 2]);
    let back = harness.judged.iter().filter(|(at, _)| *at > 4_000_000).count();
    assert!(back > 3, "the polls come quickly again: {:?}", harness.judged.last_chunk::<6>());
}

#[test]
fn quick_rounds_are_asked_for_within_the_manners_and_go_on_when_all_answers_are_lost() {
    let mut harness = Harness::new(&[1, 1]);
    harness.run_until(200_000);
    let start = 203_000;
    harness.run_until(start);
    harness.rounds.request_quick_rounds(false);
    harness.run_until(start + 17_000);
    let asked: Vec<i64> =
        harness.seconds(address(0, 0)).into_iter().filter(|at| *at >= 203).map(|at| at - 203).collect();
    assert_eq!(asked, [0, 2, 4, 8, 16]);

    harness.behave(address(0, 0), Manner::Silent);
    harness.behave(address(1, 0), Manner::Silent);
    harness.rounds.request_quick_rounds(false);
    harness.run_until(start + 22_000);
    harness.behave(address(0, 0), Manner::Answers(5));
    harness.behave(address(1, 0), Manner::Answers(5));
    let before = harness.judged.len();
    harness.run_until(start + 22_000 + 130_000);
    assert!(harness.judged.len() > before, "the next regular poll comes");
}

#[test]
fn a_disruption_allows_one_request_that_comes_sooner() {
    let mut harness = Harness::new(&[1]);
    harness.run_until(2_500);
    assert_eq!(harness.seconds(address(0, 0)), [0, 2]);
    harness.rounds.discard_samples();
    harness.rounds.request_quick_rounds(true);
    harness.run_until(3_500);
    let asked = harness.asked.iter().map(|(at, ..)| *at).collect::<Vec<_>>();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked[2] < 2_510, "at once: {asked:?}");
    harness.rounds.request_quick_rounds(false);
    harness.run_until(4_000);
    assert_eq!(harness.asked.len(), 3, "another one waits");
}

#[test]
fn answers_from_before_a_disruption_do_not_count() {
    let mut harness = Harness::new(&[1]);
    harness.behave(address(0, 0), Manner::Answers(900));
    harness.run_until(500);
    harness.rounds.discard_samples();
    harness.run_until(1_500);
    assert_eq!((harness.reachable(), harness.judged.len()), (vec![0], 0));
}

#[test]
fn a_pool_is_settled_by_a_sample_or_by_three_rounds_without_one_or_two_if_another_has_answered() {
    let mut harness = Harness::new(&[1, 1]);
    harness.behave(address(1, 0), Manner::Silent);
    harness.run_until(3_000);
    assert!(!harness.rounds.has_settled());
    harness.run_until(3_100);
    assert!(harness.rounds.has_settled(), "at 0 and 2 s");

    let mut harness = Harness::new(&[1, 1]);
    harness.behave(address(0, 0), Manner::Silent);
    harness.behave(address(1, 0), Manner::Silent);
    harness.run_until(5_000);
    assert!(!harness.rounds.has_settled());
    harness.run_until(7_100);
    assert!(harness.rounds.has_settled());
}

#[test]
fn a_pool_that_denies_service_is_not_waited_for() {
    let mut harness = Harness::new(&[1, 1]);
    harness.behave(address(1, 0), Manner::Denies);
    harness.run_until(1_000);
    assert!(!harness.rounds.has_settled());
    harness.run_until(2_100);
    assert_eq!(harness.seconds(address(1, 0)), [0]);
    assert!(harness.rounds.has_settled(), "the second round does not ask it");

    let mut harness = Harness::new(&[1]);
    harness.behave(address(0, 0), Manner::Denies);
    harness.run_until(15_000);
    assert!(harness.rounds.has_settled(), "its turns at 2 and 6 s have passed");
}

#[test]
fn a_server_with_a_rate_limit_is_asked_again_after_four_seconds() {
    let mut harness = Harness::new(&[1, 1]);
    harness.behave(address(0, 0), Manner::Kisses);
    harness.run_until(1_000);
    harness.behave(address(0, 0), Manner::Answers(5));
    harness.run_until(4_100);
    assert_eq!(harness.seconds(address(0, 0)), [0, 4], "twice the shortest wait");
    assert!(harness.rounds.has_settled());
}

#[test]
fn cross_checks_come_in_regular_rounds_only_and_no_judgement_waits_for_them() {
    let mut harness = Harness::new(&[1, 1]);
    harness.run_until(64 * 1_000 * 60);
    let checks: Vec<_> = harness.asked.iter().filter(|(_, _, ask)| *ask == Ask::CrossCheck).collect();
    assert!((4..=8).contains(&checks.len()), "{checks:?}");
    let longest = harness.judged.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
    assert!(longest <= Some(65_000), "{longest:?}");
}

/// What each server reports, in ms ±1.
fn candidates(harness: &Harness, reported: &[i64]) -> Vec<Candidate> {
    let servers = harness.rounds.by_pool().zip(reported);
    servers
        .map(|((pool, server), middle)| Candidate {
            pool,
            server: server.id,
            interval: Interval::around(Wall::from_nanos(middle * MS), Bound::from_nanos(MS)),
            newest: at(0).raw,
        })
        .collect()
}

fn false_rounds(harness: &mut Harness, reported: &[i64]) -> Vec<u8> {
    let candidates = candidates(harness, reported);
    let combined = crate::estimate::combine(&candidates, Duration::from_millis(10), |pool| pool);
    harness.rounds.mark_falsetickers(&candidates, &combined, true);
    harness.rounds.servers().map(|server| server.false_rounds).collect()
}

#[test]
fn falsetickers_are_marked_round_by_round() {
    let mut harness = Harness::new(&[3, 2]);
    assert_eq!(false_rounds(&mut harness, &[0, 0, 500, 0, 0]), [0, 0, 1, 0, 0]);
    assert_eq!(false_rounds(&mut harness, &[0, 0, 500, 0, 0]), [0, 0, 2, 0, 0]);
    assert_eq!(false_rounds(&mut harness, &[0, 0, 0, 0, 0]), [0; 5], "in a row");
}

#[test]
fn of_pools_that_contradict_each_other_the_servers_with_the_least_support_are_marked() {
    let mut harness = Harness::new(&[4, 2]);
    assert_eq!(false_rounds(&mut harness, &[100, 200, 300, 0, 0, 0]), [1, 1, 1, 0, 0, 0]);
    let mut harness = Harness::new(&[1, 1]);
    assert_eq!(false_rounds(&mut harness, &[0, 500]), [1, 1], "either may be wrong");
}

#[test]
fn the_newest_samples_are_those_since_the_last_complete_judgement() {
    let mut harness = Harness::new(&[2, 1]);
    harness.run_until(1_000);
    harness.behave(address(0, 1), Manner::Silent);
    harness.run_until(3_500);
    let since = harness.rounds.newest_since();
    let newest = harness.rounds.newest(since, at(3_500).raw, STEADY);
    let pools: Vec<usize> = newest.iter().map(|c| c.pool).collect();
    assert_eq!(pools, [1], "one of two does not speak for its pool");
    assert_eq!(harness.rounds.newest_sources(since).len(), 2);
    assert_eq!(harness.rounds.candidates(at(3_500).raw, STEADY, PACE.stale_after).len(), 3);
}

/// A server that is waited for longer than an interval does not keep the rounds of the others from their end.
#[test]
fn every_regular_poll_ends_the_round_before_it() {
    let mut harness = Harness::new(&[1, 2]);
    harness.rounds.limit_interval(Duration::from_millis(400));
    harness.run_until(20_000);
    for server in [0, 1] {
        harness.behave(address(1, server), Manner::Silent);
    }
    harness.run_until(24_000);
    harness.judged.clear();
    harness.run_until(36_000);
    let complete = harness.judged.iter().filter(|(_, is_complete)| *is_complete).count();
    assert!((28..=32).contains(&complete), "{complete} of 30 polls: {:?}", harness.judged);
}

/// Servers that lost a packet keep the vote of their pool.
#[test]
fn a_falseticker_that_answers_alone_does_not_speak_for_its_pool() {
    let mut harness = Harness::new(&[3, 1]);
    harness.run_until(1_000);
    for server in [1, 2] {
        harness.behave(address(0, server), Manner::Silent);
    }
    harness.run_until(3_500);
    let pools = |harness: &Harness| {
        let newest = harness.rounds.newest(harness.rounds.newest_since(), at(harness.now).raw, STEADY);
        newest.iter().map(|c| c.pool).collect::<Vec<_>>()
    };
    assert_eq!(pools(&harness), [1]);
    harness.run_until(12_000);
    assert_eq!(pools(&harness), [0, 1], "the others have missed two exchanges");
}

/// The manners belong to a server of a pool, not to an address: an address that leaves one pool and
/// comes into another is asked by the second at once.
#[test]
fn an_address_that_moves_to_another_pool_is_not_asked_sooner() {
    let mut harness = Harness::new(&[2, 1]);
    let moving = address(0, 0);
    harness.run_until(600_000);
    let asked = harness.asked.len();
    while harness.asked.len() == asked {
        harness.run_until(harness.now + 10);
    }
    harness.run_until(harness.now + 100);
    let server = harness.rounds.pools[0].servers.iter_mut().find(|s| s.address == moving).unwrap();
    server.false_rounds = 1;
    harness.resolve(0, [address(0, 1), address(0, 7)]);
    harness.resolve(1, [address(1, 0), moving]);
    harness.run_until(harness.now + 5_000);
    let times: Vec<i64> =
        harness.asked.iter().filter(|(_, own, _)| *own == moving).map(|(at, ..)| *at).collect();
    let closest = times.windows(2).map(|pair| pair[1] - pair[0]).min();
    assert!(closest >= Some(2_000), "{closest:?}");
}

/// A kiss-o'-death RATE is forgotten with the address when the name gives others for a while.
#[test]
fn what_a_server_asked_for_is_remembered_while_the_name_has_other_addresses() {
    let mut harness = Harness::new(&[1, 1]);
    harness.behave(address(0, 0), Manner::Kisses);
    harness.run_until(300_000);
    let kissed = harness.seconds(address(0, 0)).len();
    harness.servers.push((address(0, 8), Manner::Kisses));
    harness.resolve(0, [address(0, 8)]);
    harness.run_until(360_000);
    harness.resolve(0, [address(0, 0)]);
    harness.run_until(369_000);
    assert_eq!(harness.seconds(address(0, 0)).len(), kissed, "{:?}", harness.seconds(address(0, 0)));
}

#[test]
fn measuring_the_rate_again_counts_as_quick_rounds() {
    let mut harness = Harness::new(&[1, 1]);
    harness.run_until(600_000);
    assert!(!harness.rounds.is_quick());
    harness.rounds.restart(at(harness.now).raw);
    assert!(harness.rounds.is_quick());
}

#[test]
fn a_leap_second_is_announced_by_most_reachable_servers_of_a_pool() {
    let mut harness = Harness::new(&[3, 1]);
    harness.run_until(100);
    let reading = at(harness.now);
    let now = reading.raw;
    let announce = |harness: &mut Harness, index: usize| {
        let Answer::Sample(sample) = sample(reading, 0) else { panic!() };
        let answer = Answer::Sample(Sample { leap: Leap::Insert, ..sample });
        harness.rounds.pools[0].servers[index].handle_answer(answer, now, STEADY, PACE);
    };
    announce(&mut harness, 0);
    assert_eq!(harness.rounds.leap_pool(now), None, "one of three");
    announce(&mut harness, 1);
    assert_eq!(harness.rounds.leap_pool(now), Some(0));
    assert_eq!(harness.rounds.leap_pool(now.plus(PACE.stale_after * 2)), None);
}
