//! What the machine makes of rounds: which count for the verdict, what refutes what was measured, and what a
//! step may rest on.

use std::net::SocketAddr;

use super::*;
use crate::fixtures;
use crate::ntp::packet::{Header, Leap, MODE_SERVER, NtpTimestamp};
use crate::ntp::pool::Resolution;
use crate::ntp::sample::Exchange;
use crate::ntp::server::Ask;
use crate::resume::{Observation, Signal};
use crate::step::outcome::StepResult;
use crate::step::policy::{Mode, StepRefusal};
use crate::time::interval::Interval;
use crate::time::rate::Rate;
use crate::time::{Bound, Measurement, NANOS_PER_SEC, Offset, Ppb, Wall};

const MS: i64 = 1_000_000;
const MINUTE: i64 = 60_000;
/// 2026-11-30T10:00:00Z: the last day of a month.
const REFERENCE: i64 = 1_796_032_800 * NANOS_PER_SEC;

/// What one server does.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// Its time - true time, ms.
    ahead: i64,
    /// Round trip, µs.
    round_trip: i64,
    is_silent: bool,
    leap: Leap,
    /// The fraction of the second at which it was corrected.
    corrected: u32,
}

/// A node, servers with one address per pool, and the machine.
struct Harness {
    machine: Machine,
    /// True time since the start, ns.
    elapsed: i64,
    /// Node time - true time, ns.
    ahead: i64,
    /// Rate error of the raw clock; positive: fast. And since when, with what it had counted by then.
    oscillator: (Ppb, i64, i64),
    servers: Vec<Clock>,
    queue: Vec<(i64, Input)>,
    log: Vec<(i64, Effect)>,
}

fn settings(pools: usize) -> Settings {
    let second = Duration::from_secs(1);
    let names: Vec<String> = (0..pools).map(|n| format!("pool-{n}")).collect();
    let settings = fixtures::settings(&names.iter().map(String::as_str).collect::<Vec<_>>());
    Settings {
        step: policy::Settings {
            mode: Mode::Kernel,
            min_offset: Duration::from_millis(100),
            max_offset: second * 3_600,
            cooldown: second * 300,
            ..settings.step
        },
        leeway: leeway::Settings { maximum: second * 30, ..settings.leeway },
        ..settings
    }
}

fn clock(ahead: i64) -> Clock {
    Clock { ahead, round_trip: 400, is_silent: false, leap: Leap::None, corrected: 0 }
}

impl Harness {
    /// Pools of one server each, which are so many ms ahead of true time; the node is `ahead` ms ahead.
    fn new(ahead: i64, pools: &[i64]) -> Self {
        Self::of(ahead, pools.iter().map(|ahead| clock(*ahead)).collect())
    }

    fn of(ahead: i64, servers: Vec<Clock>) -> Self {
        let mut harness = Self {
            machine: Machine::new(settings(servers.len()), 7, reading(0, ahead * MS, 0)),
            elapsed: 0,
            ahead: ahead * MS,
            oscillator: (Ppb(0), 0, 0),
            servers,
            queue: Vec::new(),
            log: Vec::new(),
        };
        harness.feed(Input::Tick);
        harness
    }

    fn raw(&self) -> i64 {
        let (rate, since, counted) = self.oscillator;
        let span = self.elapsed - since;
        counted + span + rate.over(Duration::from_nanos(span.unsigned_abs()))
    }

    fn now(&self) -> Reading {
        reading(self.elapsed, self.ahead, self.raw())
    }

    /// The raw clock has another rate from now on. The wall clock keeps true time.
    fn set_rate(&mut self, ppm: i64) {
        self.oscillator = (Ppb::from_ppm(ppm), self.elapsed, self.raw());
    }

    fn feed(&mut self, input: Input) {
        let now = self.now();
        for effect in self.machine.handle(input, now) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let (delay, input) = match &effect {
            Effect::Resolve { pool } => {
                let address = SocketAddr::from(([192, 0, 2, u8::try_from(*pool).unwrap()], 123));
                let answer = Ok(Resolution { addresses: vec![address], ttl: None });
                (MS, Input::Resolved { pool: *pool, answer })
            }
            Effect::Query { pool, server, ask, .. } => {
                let clock = self.servers[*pool];
                let (delay, answer) = match ask {
                    Ask::Sample if !clock.is_silent => self.sample(clock, *pool),
                    Ask::Sample => (1_000 * MS, Answer::Rejected(RejectReason::Timeout)),
                    Ask::CrossCheck => (MS, Answer::CrossChecked(None)),
                };
                (delay, Input::Answered { server: *server, answer })
            }
            Effect::ReadNode => (MS, Input::NodeRead(Ok(crate::report::node::Prior::default()))),
            Effect::WriteNode(_) => (MS, Input::NodeWritten(Ok(()))),
            Effect::SendEvent(_) => (MS, Input::EventSent(Ok(()))),
            Effect::InspectDaemon => (MS, Input::DaemonInspected(DaemonReport::NONE)),
            _ => {
                self.log.push((self.elapsed / MS, effect));
                return;
            }
        };
        self.queue.push((self.elapsed + delay, input));
        self.log.push((self.elapsed / MS, effect));
    }

    /// The answer of this server, and when it arrives.
    fn sample(&mut self, clock: Clock, pool: usize) -> (i64, Answer) {
        let (sent, start) = (self.now(), self.elapsed);
        let round_trip = clock.round_trip * 1_000;
        let stamp = |elapsed: i64| NtpTimestamp::from_unix_nanos(REFERENCE + elapsed + clock.ahead * MS);
        let corrected = stamp(start - 9 * NANOS_PER_SEC).0 & !0xffff_ffff | u64::from(clock.corrected);
        let answer = Header {
            leap: clock.leap,
            version: 4,
            mode: MODE_SERVER,
            stratum: 1,
            precision: -24,
            root_delay: Duration::ZERO,
            root_dispersion: Duration::ZERO,
            reference_id: *b"GPS\0",
            reference: NtpTimestamp(if clock.corrected == 0 { 0 } else { corrected }),
            origin: NtpTimestamp(1),
            receive: stamp(start + round_trip / 2),
            transmit: stamp(start + round_trip / 2),
        };
        self.elapsed += round_trip;
        let received = self.now();
        self.elapsed = start;
        let sample = Exchange { sent, received, answer }.sample(self.machine.settings().limits_of(pool));
        (round_trip, sample.map_or_else(Answer::Rejected, Answer::Sample))
    }

    fn run_for(&mut self, millis: i64) {
        let end = self.elapsed + millis * MS;
        while self.elapsed < end {
            let idle = self
                .machine
                .poll_timeout(self.now().raw)
                .clamp(Duration::from_micros(10), Duration::from_secs(1));
            let tick = self.elapsed + i64::try_from(idle.as_nanos()).unwrap();
            let arrival = self.queue.iter().map(|(when, _)| *when).min();
            self.elapsed = tick.min(arrival.unwrap_or(i64::MAX)).min(end);
            let due = self.queue.iter().position(|(when, _)| *when <= self.elapsed);
            let input = due.map_or(Input::Tick, |index| self.queue.remove(index).1);
            self.feed(input);
        }
    }

    fn state(&self) -> State {
        self.machine.snapshot(self.now()).state
    }

    fn measured(&self) -> Option<Measurement> {
        self.machine.snapshot(self.now()).measured
    }

    /// Requests to the servers since the last call, in ms since the start.
    fn take_asked(&mut self) -> Vec<i64> {
        let log = std::mem::take(&mut self.log);
        log.into_iter()
            .filter(|(_, e)| matches!(e, Effect::Query { pool: 0, .. }))
            .map(|(at, _)| at)
            .collect()
    }

    fn assert_truth_inside(&self) {
        let measured = self.measured().expect("an offset");
        let error = measured.offset.as_nanos() + self.ahead;
        assert!(error.abs() <= measured.bound.as_nanos(), "{error} ns from the truth: {measured}");
    }
}

fn reading(elapsed: i64, ahead: i64, raw: i64) -> Reading {
    Reading {
        wall: Wall::from_nanos(REFERENCE + elapsed + ahead),
        raw: Mono::from_nanos(1_000 * NANOS_PER_SEC + raw),
        suspended: Duration::ZERO,
    }
}

#[test]
fn the_first_verdict_comes_with_the_first_answer_of_each_pool() {
    let mut harness = Harness::new(0, &[0, 0]);
    harness.run_for(20);
    assert_eq!(harness.state(), State::InSync);
    harness.assert_truth_inside();
}

#[test]
fn the_first_verdict_waits_for_two_exchanges_with_a_pool_that_has_not_answered() {
    let mut servers = vec![clock(0), clock(0)];
    servers[1].is_silent = true;
    let mut harness = Harness::of(0, servers);
    harness.run_for(3_000);
    assert_eq!((harness.measured(), harness.state()), (None, State::Unknown));
    harness.run_for(100);
    assert_eq!(harness.state(), State::InSync, "after the time-out of the second exchange");
}

/// Not even a name resolves: the Node is read, and written then, all the same.
#[test]
fn a_node_is_published_after_a_minute_whatever_is_known_by_then() {
    let mut machine = Machine::new(settings(2), 7, reading(0, 0, 0));
    let mut second = |second: i64| {
        let now = reading(second * NANOS_PER_SEC, 0, second * NANOS_PER_SEC);
        let effects = machine.handle(Input::Tick, now);
        (effects.contains(&Effect::ReadNode), machine.snapshot(now).ready)
    };
    assert_eq!([0, 1, 59].map(&mut second), [(false, false); 3]);
    assert_eq!(second(60), (true, true));
}

#[test]
fn a_clock_near_the_threshold_settles_after_three_rounds_and_a_far_one_after_two() {
    let settled = |round_trip: i64, ahead: i64| {
        let far = Clock { round_trip, ..clock(0) };
        let mut harness = Harness::of(ahead, vec![far, far]);
        while !harness.machine.has_settled(harness.now()) {
            harness.run_for(10);
        }
        (harness.elapsed / NANOS_PER_SEC, harness.state())
    };
    assert_eq!(settled(400, 0), (0, State::InSync));
    assert_eq!(settled(20_000, 95), (4, State::InSync), "95 ms ±11 ms");
    assert_eq!(settled(20_000, 105), (4, State::Drifting));
    assert_eq!(settled(165_000, 0), (4, State::InSync), "the first sample alone has a bound over 100 ms");
    assert_eq!(settled(300_000, 0), (0, State::Unknown), "more samples do not help");
}

#[test]
fn uncertain_drift_takes_three_rounds_with_new_samples_and_ticks_do_not_count() {
    // ±15 ms: 103 ms are over the threshold, but not certainly.
    let far = Clock { round_trip: 30_000, ..clock(0) };
    let mut harness = Harness::of(0, vec![far, far]);
    harness.run_for(30 * MINUTE);
    assert_eq!(harness.state(), State::InSync);
    harness.ahead = -103 * MS;
    for server in &mut harness.servers {
        server.is_silent = true;
    }
    harness.run_for(4 * MINUTE);
    assert_eq!(harness.state(), State::InSync, "240 ticks, and no new sample");
    harness.servers[0].is_silent = false;
    harness.run_for(MINUTE);
    assert_eq!(harness.state(), State::InSync, "one round");
    harness.run_for(5 * MINUTE);
    assert_eq!(harness.state(), State::Drifting, "the other pool is not waited for");
}

#[test]
fn a_rate_that_the_newest_samples_refute_is_measured_again_at_once() {
    let mut harness = Harness::new(0, &[0, 0]);
    harness.run_for(30 * MINUTE);
    harness.assert_truth_inside();
    harness.set_rate(5_000);
    harness.take_asked();
    harness.run_for(70_000);
    harness.assert_truth_inside();
    let asked = harness.take_asked();
    assert!(asked.len() >= 2, "quick rounds again: {asked:?}");
    harness.run_for(30 * MINUTE);
    harness.assert_truth_inside();
    let rate = harness.machine.snapshot(harness.now()).rate.unwrap();
    assert!((rate.middle().0 + 5_000_000).abs() < 60_000, "{rate:?}");
}

#[test]
fn samples_from_before_a_refuted_rate_are_forgotten() {
    let mut harness = Harness::new(0, &[0, 0]);
    harness.run_for(30 * MINUTE);
    harness.set_rate(5_000);
    harness.run_for(70_000);
    let now = harness.now();
    let rate = Rate::exactly(Ppb(-4_975_124));
    let truth = Wall::from_nanos(REFERENCE + harness.elapsed - now.raw.as_nanos());
    let candidates = harness.machine.rounds.candidates(now.raw, rate, Duration::from_secs(600));
    assert_eq!(candidates.len(), 2);
    for candidate in candidates {
        assert!(candidate.interval.meets(Interval::around(truth, Bound::ZERO)), "{candidate:?} {truth:?}");
    }
}

#[test]
fn a_single_sample_of_a_lone_pool_does_not_change_the_offset_and_two_do() {
    let mut servers = vec![clock(0), clock(0)];
    servers[1].is_silent = true;
    let mut harness = Harness::of(0, servers);
    // The next exchange is none with rsntp.
    harness.run_for(34 * MINUTE);
    harness.take_asked();
    harness.servers[0].ahead = 20_000;
    while harness.take_asked().is_empty() {
        harness.run_for(100);
    }
    harness.run_for(100);
    harness.assert_truth_inside();
    harness.run_for(2_500);
    let offset = harness.measured().unwrap().offset;
    assert!((offset.as_nanos() - 20_000 * MS).abs() < 5 * MS, "it was asked again, and insists: {offset:?}");
}

#[test]
fn any_oscillator_keeps_the_truth_inside_from_the_first_sample_on() {
    for ppm in [-100_000, -2_000, 0, 300, 70_000, 100_000] {
        let mut harness = Harness::new(0, &[0, 0]);
        harness.set_rate(ppm);
        harness.run_for(50);
        for _ in 0..400 {
            harness.assert_truth_inside();
            assert_eq!(harness.state(), State::InSync, "{ppm} ppm after {} ms", harness.elapsed / MS);
            harness.run_for(1_711);
        }
        let bound = harness.measured().unwrap().bound;
        assert!(bound.as_duration() < Duration::from_millis(2), "{ppm} ppm: {bound:?} after ten minutes");
    }
}

#[test]
fn pools_that_differ_but_are_all_over_the_threshold_are_drift() {
    let mut harness = Harness::new(0, &[5_000, 5_020]);
    harness.run_for(50);
    assert_eq!(harness.state(), State::Drifting);
    let snapshot = harness.machine.snapshot(harness.now());
    let offset = snapshot.measured.unwrap().offset;
    assert!((offset.as_nanos() - 5_010 * MS).abs() < MS, "{offset:?}");
    assert!(snapshot.is_contradiction && snapshot.pools_agreeing == 0);
}

#[test]
fn pools_that_differ_but_are_all_within_the_threshold_are_in_sync() {
    let mut harness = Harness::new(0, &[0, 60]);
    harness.run_for(30 * MINUTE);
    assert_eq!(harness.state(), State::InSync);
    let bound = harness.measured().unwrap().bound.as_duration();
    assert!((Duration::from_millis(30)..Duration::from_millis(33)).contains(&bound), "the hull: {bound:?}");
}

#[test]
fn pools_that_differ_around_the_threshold_give_no_offset() {
    let mut harness = Harness::new(0, &[0, 10_000]);
    harness.run_for(5 * MINUTE);
    assert_eq!((harness.state(), harness.measured()), (State::Disagree, None));
}

#[test]
fn a_disagreement_ends_with_the_samples_that_made_it() {
    let mut harness = Harness::new(0, &[-10_000, 10_000]);
    harness.run_for(5 * MINUTE);
    assert_eq!(harness.state(), State::Disagree);
    for server in &mut harness.servers {
        server.is_silent = true;
    }
    harness.run_for(9 * MINUTE);
    assert_eq!(harness.state(), State::Disagree);
    harness.run_for(3 * MINUTE);
    assert_eq!(harness.state(), State::Unknown);
}

#[test]
fn a_majority_of_three_pools_decides_and_names_the_third() {
    let mut harness = Harness::new(0, &[0, 10_000, 0]);
    harness.run_for(5 * MINUTE);
    let snapshot = harness.machine.snapshot(harness.now());
    assert_eq!((snapshot.state, snapshot.pools_agreeing), (State::InSync, 2));
    let falsetickers: Vec<bool> = snapshot.pools.iter().map(|pool| pool.is_falseticker).collect();
    assert_eq!(falsetickers, [false, true, false]);
}

/// The machine loses so much time, and the signal reports it.
fn pause(harness: &mut Harness, millis: i64) {
    harness.elapsed += millis * MS;
    harness.ahead -= millis * MS;
    let (rate, since, counted) = harness.oscillator;
    harness.oscillator = (rate, since + millis * MS, counted);
    let now = harness.now();
    let seen = |marker| Observation {
        now,
        rtc: None,
        clock_set: None,
        vmclock: Some(marker),
        clocksource: None,
        late: Duration::ZERO,
    };
    harness.feed(Input::Observed(seen(2)));
}

/// A node that knows its vmclock's marker, after ten minutes.
fn watched(servers: Vec<Clock>) -> Harness {
    let mut harness = Harness::of(0, servers);
    harness.feed(Input::NodeRead(Ok(crate::report::node::Prior::default())));
    let now = harness.now();
    harness.feed(Input::Observed(Observation {
        now,
        rtc: None,
        clock_set: None,
        vmclock: Some(1),
        clocksource: None,
        late: Duration::ZERO,
    }));
    harness.run_for(10 * MINUTE);
    harness.log.clear();
    harness
}

fn steps(harness: &Harness) -> Vec<Offset> {
    let of = |effect: &Effect| match effect {
        Effect::Step(order) => Some(order.offset),
        _ => None,
    };
    harness.log.iter().filter_map(|(_, effect)| of(effect)).collect()
}

fn refusals(harness: &Harness) -> Vec<String> {
    let of = |effect: &Effect| match effect {
        Effect::LogStep(outcome) if matches!(outcome.result, StepResult::Deferred | StepResult::Refused) => {
            Some(outcome.sentence())
        }
        _ => None,
    };
    harness.log.iter().filter_map(|(_, effect)| of(effect)).collect()
}

#[test]
fn a_pause_is_measured_and_stepped_with_one_exchange_per_pool() {
    let mut harness = watched(vec![clock(0), clock(0)]);
    pause(&mut harness, 20_000);
    assert_eq!(harness.state(), State::Disrupted);
    harness.run_for(20);
    let stepped = steps(&harness);
    assert!(stepped.len() == 1 && (stepped[0].as_nanos() - 20_000 * MS).abs() < 2 * MS, "{stepped:?}");
}

#[test]
fn three_pools_step_by_a_majority_of_the_configured_ones() {
    let mut harness = watched(vec![clock(0), clock(0), clock(10_000)]);
    pause(&mut harness, 20_000);
    harness.run_for(1_500);
    assert_eq!(steps(&harness).len(), 1, "{:?}", refusals(&harness));

    let mut servers = vec![clock(0); 3];
    servers[1].is_silent = true;
    servers[2].is_silent = true;
    let mut harness = watched(servers);
    pause(&mut harness, 20_000);
    harness.run_for(5 * MINUTE);
    assert_eq!(steps(&harness), [], "one of three");
    assert!(
        refusals(&harness)[0].contains(&StepRefusal::NotAllPools.to_string()),
        "{:?}",
        refusals(&harness)
    );
}

#[test]
fn pools_that_are_one_server_never_lead_to_a_step() {
    let shared = Clock { corrected: 77, ..clock(0) };
    let mut harness = watched(vec![shared, shared]);
    let snapshot = harness.machine.snapshot(harness.now());
    assert_eq!(snapshot.pools_independent, Some(false));
    assert_eq!(snapshot.pools[0].same_server_as, Some(1));
    pause(&mut harness, 20_000);
    harness.run_for(5 * MINUTE);
    assert_eq!(steps(&harness), []);
    assert!(refusals(&harness)[0].contains(&StepRefusal::OneServer.to_string()), "{:?}", refusals(&harness));

    let mut harness = watched(vec![shared, Clock { corrected: 78, ..clock(0) }]);
    assert_eq!(harness.machine.snapshot(harness.now()).pools_independent, Some(true));
    pause(&mut harness, 20_000);
    harness.run_for(20);
    assert_eq!(steps(&harness).len(), 1);
}

#[test]
fn an_announced_leap_second_forbids_steps_for_a_day() {
    let mut servers = vec![clock(0), clock(0)];
    servers[0].leap = Leap::Insert;
    let mut harness = watched(servers);
    harness.servers[0].leap = Leap::None;
    harness.run_for(23 * 60 * MINUTE);
    pause(&mut harness, 20_000);
    harness.run_for(MINUTE);
    assert_eq!(steps(&harness), [], "{:?}", refusals(&harness));
    assert!(
        refusals(&harness).iter().any(|why| why.contains("pool-0 announce a leap second")),
        "{:?}",
        refusals(&harness)
    );
}

#[test]
fn a_leap_flag_that_is_stuck_forbids_nothing_in_the_middle_of_a_month() {
    let mut servers = vec![clock(0), clock(0)];
    servers[0].leap = Leap::Insert;
    let mut harness = watched(servers);
    // Until 2026-12-02T02:10:00Z: a day after the end of November.
    harness.run_for(40 * 60 * MINUTE);
    pause(&mut harness, 20_000);
    harness.run_for(MINUTE);
    assert_eq!(steps(&harness).len(), 1, "{:?}", refusals(&harness));
}

#[test]
fn a_pause_that_the_hypervisor_reports_measures_the_rate_from_the_start() {
    let mut harness = watched(vec![clock(0), clock(0)]);
    harness.set_rate(50_000);
    pause(&mut harness, 2_000);
    harness.run_for(20);
    harness.assert_truth_inside();
    harness.run_for(1_900);
    harness.assert_truth_inside();
    assert!(harness.machine.detector.available().is_some_and(|signals| signals.contains(Signal::Vmclock)));
}

#[test]
fn far_servers_give_a_leeway_by_what_is_known() {
    let far = Clock { round_trip: 262_000, ..clock(0) };
    let mut harness = Harness::of(0, vec![far, far]);
    harness.run_for(20 * MINUTE);
    let snapshot = harness.machine.snapshot(harness.now());
    assert_eq!(snapshot.state, State::Unknown, "±131 ms is over the threshold");
    assert_eq!(snapshot.leeway.seconds, 2, "131 ms and 1 s for the others: {}", snapshot.leeway.reason);
}

/// A wrong pool that was alone for a while decides for up to `staleAfter` what most pools report after
/// they have come: `recent` keeps what it gave, and pools that are far enough away allow it.
#[test]
fn what_a_pool_gave_alone_does_not_count_against_the_majority_that_comes_later() {
    let far = Clock { round_trip: 150_000, is_silent: true, ..clock(0) };
    let mut harness = Harness::of(0, vec![far, far, clock(60)]);
    harness.run_for(20_000);
    for server in &mut harness.servers {
        server.is_silent = false;
    }
    harness.run_for(100_000);
    assert_eq!(harness.machine.snapshot(harness.now()).pools_agreeing, 3, "60 ms are inside of 0 ±75 ms");
    harness.assert_truth_inside();
}

/// After a step of the rate, the estimate is to be wrong until the next accepted sample at most. While
/// another pool does not answer, and its last samples are not stale, no judgement is complete, so the newest samples are
/// never compared with the line.
#[test]
fn a_step_of_the_rate_is_noticed_by_the_next_sample_while_another_pool_does_not_answer() {
    for ppm in [50, 200, 2_000] {
        let mut harness = Harness::new(0, &[0, 0]);
        harness.run_for(60 * MINUTE);
        harness.servers[1].is_silent = true;
        harness.run_for(60_000);
        harness.set_rate(ppm);
        // At least one exchange with the pool that answers, and the two quick ones after it.
        harness.run_for(80_000);
        for _ in 0..60 {
            harness.assert_truth_inside();
            harness.run_for(5_000);
        }
    }
}

/// Of two pools behind load balancers whose backends differ by 30 ms, no server is right, but what they
/// report lies within 30 ms. What the agent measures must not be seconds away from all of it.
#[test]
fn backends_that_differ_never_move_the_offset_beyond_what_they_report() {
    let mut harness = Harness::new(0, &[0, 30]);
    let mut flips = 0;
    for _ in 0..3_000 {
        if !harness.take_asked().is_empty() {
            flips += 1;
            harness.servers[0].ahead = 30 * (flips % 2);
            harness.servers[1].ahead = 30 * ((flips + 1) % 2);
        }
        harness.run_for(1_000);
        if let Some(measured) = harness.measured() {
            let (low, high) = (
                measured.offset.as_nanos() - measured.bound.as_nanos(),
                measured.offset.as_nanos() + measured.bound.as_nanos(),
            );
            assert!(low <= 31 * MS && high >= -MS, "after {} s: {measured}", harness.elapsed / NANOS_PER_SEC);
        }
    }
}

#[test]
fn pools_agree_within_a_tenth_of_the_threshold_and_50_ms_at_most() {
    let tolerance = |threshold_ms: u64| {
        let settings = Settings { threshold: Duration::from_millis(threshold_ms), ..settings(2) };
        Machine::new(settings, 7, reading(0, 0, 0)).tolerance()
    };
    assert_eq!(tolerance(100), Duration::from_millis(10));
    assert_eq!(tolerance(500), Duration::from_millis(50));
    assert_eq!(tolerance(10_000), Duration::from_millis(50));
}

#[test]
fn quick_rounds_to_confirm_a_change_come_once_in_four_intervals() {
    let mut harness = Harness::new(0, &[0, 0]);
    let now = harness.now().raw;
    assert!(harness.machine.may_confirm(now), "never before");
    harness.machine.last_confirmation = Some(now);
    let interval = harness.machine.settings().interval;
    assert!(!harness.machine.may_confirm(now.plus(interval * 3)));
    assert!(harness.machine.may_confirm(now.plus(interval * 4)));
}
