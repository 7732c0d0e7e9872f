//! The core in thousands of seeded worlds. A world that breaks a rule prints the command that replays it.

use drift_core::time::Measurement;
use std::collections::BTreeSet;
use std::time::Duration;

use drift_agent::sim::any_world::{DIMENSIONS, Drawn, draw};
use drift_agent::sim::behaviour::{Behaviour, ServerModel};
use drift_agent::sim::invariants::{Checker, Tally, has_honest_majority};
use drift_agent::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::io::{Effect, LogEvent};
use drift_core::resume::Class;
use drift_core::step::policy::Mode;
use drift_core::time::{Offset, Ppb, Wall};
use drift_core::verdict::State;

use crate::support::seeds::{for_seeds, results_of_seeds};

/// From 2024 to 2160: the times that an NTP timestamp stands for.
const PRESENT: std::ops::Range<i64> = 1_704_067_200..5_995_900_000;
const MS: i64 = 1_000_000;
const SEC: i64 = 1_000 * MS;
const INTERVAL: Duration = Duration::from_secs(64);
const MINUTE: Duration = Duration::from_secs(60);
/// Tight enough that the offset settles the verdict.
const TIGHT: Duration = Duration::from_millis(20);

fn micros(rng: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_micros(rng.u64(range))
}

/// A path of up to `most` µs in each direction.
fn path(rng: &mut fastrand::Rng, most: u64) -> Path {
    Path {
        there: micros(rng, 50..most),
        back: micros(rng, 50..most),
        jitter: micros(rng, 1..most / 4),
        loss: rng.f64() * 0.05,
    }
}

fn honest(rng: &mut fastrand::Rng, most: u64) -> Host {
    let mut model = ServerModel::new(Behaviour::Honest);
    model.root_dispersion = micros(rng, 10..2_000);
    Host { model, path: path(rng, most) }
}

fn falseticker(rng: &mut fastrand::Rng, most: u64) -> Host {
    let far = Offset::from_nanos(rng.i64(-20 * SEC..20 * SEC));
    // Near enough to overlap with the intervals of the honest servers.
    let near = Offset::from_nanos(rng.i64(-40 * MS..40 * MS));
    let behaviour = match rng.u8(0..5) {
        0 => Behaviour::Offset(far),
        1 => Behaviour::Offset(near),
        2 => Behaviour::Drifting(Ppb::from_ppm(rng.i64(-20_000..20_000))),
        3 => Behaviour::Alternating(far),
        _ => Behaviour::Alternating(near),
    };
    Host { model: ServerModel::new(behaviour), ..honest(rng, most) }
}

/// Servers whose answers must never count as wrong samples.
fn useless(rng: &mut fastrand::Rng, most: u64) -> Host {
    let behaviour = rng.choice([&Behaviour::USELESS[..], &[Behaviour::Twice]].concat());
    Host { model: ServerModel::new(behaviour.unwrap_or(Behaviour::Silent)), ..honest(rng, most) }
}

fn plan(rng: &mut fastrand::Rng, seed: u64, offset: Offset, pools: Vec<Vec<Host>>) -> Plan {
    let present = match rng.u8(0..8) {
        0 => rng.i64(PRESENT),
        // Half an hour before NTP's era ends: most runs cross it.
        1 => 2_085_978_496 - 1_800,
        _ => 1_795_341_600,
    };
    Plan {
        seed,
        present: Wall::from_secs(present),
        offset,
        oscillator: Oscillator {
            error: Ppb(rng.i64(-195_000..195_000)),
            swing: Ppb(rng.i64(0..2_000)),
            period: Duration::from_secs(rng.u64(3_600..86_400)),
        },
        rtc_ahead: Offset::from_nanos(rng.i64(-3 * SEC..3 * SEC)),
        pools,
        settings: default_settings(),
        api_errors: 0.0,
        steps_work: true,
    }
}

/// Cancels the oscillator's error in the wall clock, so that only the test moves it.
fn disciplined(world: &mut World, plan: &Plan) {
    world.slew_wall(Ppb(-plan.oscillator.error.0));
}

fn truth_is_inside(world: &World) -> Result<(), String> {
    let Some(Measurement { offset, bound }) = world.snapshot().measured else { return Ok(()) };
    let error = offset.as_nanos().abs_diff(world.truth().as_nanos());
    if error <= bound.as_nanos().unsigned_abs() + 1_000 {
        return Ok(());
    }
    Err(format!("at {:?} reports {offset:?} {bound:?}, the truth is {:?}", world.elapsed(), world.truth()))
}

fn states(world: &World) -> BTreeSet<&'static str> {
    let reported = world.effects.iter().filter_map(|(_, effect)| match effect {
        Effect::WriteNode(report) => Some(report.state.label()),
        _ => None,
    });
    reported.collect()
}

#[test]
fn the_true_offset_is_within_the_bound_while_most_servers_are_honest() {
    for_seeds(250, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let most = rng.choice([500, 20_000, 150_000]).unwrap_or(500);
        let pools = (0..rng.usize(2..4))
            .map(|_| {
                let good = rng.usize(1..4);
                let mut servers: Vec<Host> = (0..good).map(|_| honest(&mut rng, most)).collect();
                servers.extend((0..rng.usize(0..good)).map(|_| falseticker(&mut rng, most)));
                servers.extend((0..rng.usize(0..2)).map(|_| useless(&mut rng, most)));
                rng.shuffle(&mut servers);
                servers
            })
            .collect();
        let offset = Offset::from_nanos(match rng.u8(0..4) {
            0 => 0,
            1 => rng.i64(-90 * MS..90 * MS),
            2 => rng.i64(-100 * SEC..100 * SEC),
            // A node without a battery: 1970, or another wrong decade.
            _ => rng.i64(-20 * 31_557_600..20 * 31_557_600) * SEC,
        });
        let mut world = World::new(plan(&mut rng, seed, offset, pools));
        let mut honest_so_far = true;
        for _ in 0..6 {
            match rng.u8(0..5) {
                0 => world.step_wall(Offset::from_nanos(rng.i64(-5 * SEC..5 * SEC))),
                1 => world.slew_wall(Ppb::from_ppm(rng.i64(-500..500))),
                2 => {
                    world.sleep(Duration::from_secs(rng.u64(1..600)), Duration::from_millis(rng.u64(0..900)));
                }
                _ => {}
            }
            let end = world.elapsed() + MINUTE * rng.u32(1..15);
            world.run_until(end, |world| {
                honest_so_far &= has_honest_majority(world);
                if honest_so_far { truth_is_inside(world) } else { Ok(()) }
            })?;
        }
        Ok(())
    });
}

#[test]
fn drifting_is_never_reported_below_80_ms_and_soon_above_120_ms() {
    for_seeds(120, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pools = (0..2).map(|_| (0..3).map(|_| honest(&mut rng, 6_000)).collect()).collect();
        let offset = Offset::from_nanos(rng.i64(-70 * MS..70 * MS));
        let plan = plan(&mut rng, seed, offset, pools);
        let mut world = World::new(plan.clone());
        disciplined(&mut world, &plan);
        let (mut before, mut over_since) = (State::Unknown, None);
        for _ in 0..8 {
            match rng.u8(0..3) {
                0 => world.step_wall(Offset::from_nanos(rng.i64(-150 * MS..150 * MS))),
                1 => world.slew_wall(Ppb(-plan.oscillator.error.0 + rng.i64(-200_000..200_000))),
                _ => {}
            }
            let end = world.elapsed() + MINUTE * rng.u32(4..12);
            world.run_until(end, |world| {
                let (snapshot, truth) = (world.snapshot(), world.truth().magnitude());
                let tight =
                    snapshot.measured.is_some_and(|Measurement { bound, .. }| bound.as_duration() < TIGHT);
                if snapshot.state == State::Drifting
                    && before != State::Drifting
                    && tight
                    && truth < Duration::from_millis(80)
                {
                    return Err(format!("at {:?} drifting, the truth is {truth:?}", world.elapsed()));
                }
                before = snapshot.state;
                over_since = (truth > Duration::from_millis(120) && tight)
                    .then(|| over_since.unwrap_or_else(|| world.elapsed()));
                let late = over_since.is_some_and(|since| world.elapsed() > since + INTERVAL * 3);
                if late && snapshot.state != State::Drifting {
                    return Err(format!(
                        "at {:?} {:?} for three rounds with {truth:?}",
                        world.elapsed(),
                        snapshot.state
                    ));
                }
                truth_is_inside(world)
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_falseticker_in_each_pool_changes_no_verdict() {
    for_seeds(150, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pools = (0..2)
            .map(|_| {
                let mut servers: Vec<Host> = (0..3).map(|_| honest(&mut rng, 8_000)).collect();
                servers.insert(rng.usize(0..4), falseticker(&mut rng, 8_000));
                servers
            })
            .collect();
        let offset = Offset::from_nanos(rng.i64(-60 * MS..60 * MS));
        let plan = plan(&mut rng, seed, offset, pools);
        let mut world = World::new(plan.clone());
        disciplined(&mut world, &plan);
        world.run_until(MINUTE * 40, truth_is_inside)?;
        let states = states(&world);
        if states == BTreeSet::from(["in-sync"]) {
            Ok(())
        } else {
            let changes =
                world.effects.iter().filter(|(_, e)| matches!(e, Effect::Log(LogEvent::StateChanged { .. })));
            Err(format!("reported {states:?}: {:#?}", changes.collect::<Vec<_>>()))
        }
    });
}

#[test]
fn contradicting_pools_are_a_disagreement_without_an_offset() {
    for_seeds(200, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let error = Offset::from_nanos(rng.i64(300 * MS..3_600 * SEC) * if rng.bool() { 1 } else { -1 });
        let good = (0..rng.usize(1..5)).map(|_| honest(&mut rng, 20_000)).collect();
        let bad = (0..rng.usize(1..5))
            .map(|_| Host { model: ServerModel::new(Behaviour::Offset(error)), ..honest(&mut rng, 20_000) })
            .collect();
        let plan = plan(&mut rng, seed, Offset::ZERO, vec![good, bad]);
        let mut world = World::new(plan.clone());
        // Else it soon drifts by all pools.
        disciplined(&mut world, &plan);
        world.run_until(MINUTE * 20, |world| {
            let snapshot = world.snapshot();
            let both = snapshot.pools.iter().all(|p| p.reachable_servers() > 0);
            match snapshot.state {
                State::Drifting if both && world.elapsed() > MINUTE => {
                    Err(format!("drifting at {:?}", world.elapsed()))
                }
                State::InSync if both && world.elapsed() > MINUTE => {
                    Err(format!("in sync at {:?}", world.elapsed()))
                }
                _ if both && snapshot.state == State::Disagree && snapshot.measured.is_some() => {
                    Err("an offset is reported".into())
                }
                _ => Ok(()),
            }
        })?;
        if states(&world).contains("disagree") {
            Ok(())
        } else {
            Err(format!("only reported {:?}", states(&world)))
        }
    });
}

#[test]
fn node_writes_are_limited_to_seven_an_hour_when_quiet_and_one_a_minute_otherwise() {
    for_seeds(30, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pools = (0..2).map(|_| (0..4).map(|_| honest(&mut rng, 20_000)).collect()).collect();
        let offset = Offset::from_nanos(rng.i64(-60 * MS..60 * MS));
        let plan = plan(&mut rng, seed, offset, pools);
        let mut world = World::new(plan.clone());
        disciplined(&mut world, &plan);
        let writes = |world: &World, from: Duration| {
            world.effects.iter().filter(|(at, e)| *at >= from && matches!(e, Effect::WriteNode(_))).count()
        };
        world.run_until(MINUTE * 240, |_| Ok(()))?;
        for hour in 0..4 {
            let (from, to) = (MINUTE * 60 * hour, MINUTE * 60 * (hour + 1));
            let count = writes(&world, from) - writes(&world, to);
            if count > 7 {
                return Err(format!("{count} writes in hour {hour}"));
            }
        }
        let start = world.elapsed();
        for n in 0..600_i64 {
            world.step_wall(Offset::from_nanos(if n % 2 == 0 { SEC } else { -SEC }));
            let end = world.elapsed() + Duration::from_secs(2);
            world.run_until(end, |_| Ok(()))?;
        }
        let count = writes(&world, start);
        // 20 minutes: three at once, one a minute, and two heartbeats.
        if (20..=3 + 20 + 3).contains(&count) {
            Ok(())
        } else {
            Err(format!("{count} writes in 20 minutes of steps"))
        }
    });
}

#[test]
fn servers_are_never_asked_faster_than_the_rules_allow() {
    for_seeds(100, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pools =
            (0..2)
                .map(|_| {
                    (0..3)
                        .map(|_| {
                            if rng.bool() { falseticker(&mut rng, 90_000) } else { useless(&mut rng, 90_000) }
                        })
                        .collect()
                })
                .collect();
        let offset = Offset::from_nanos(rng.i64(-200 * MS..200 * MS));
        let mut world = World::new(plan(&mut rng, seed, offset, pools));
        let mut checker = Checker::new(&world);
        world.run_until(MINUTE * 60, |world| checker.check(world))?;
        // One in 64 s, and as much again twice: for confirmations, and where the rate is measured again.
        let most = 57 * 3;
        match world.served().max() {
            Some(served) if served > most => Err(format!("a server was asked {served} times in an hour")),
            _ => Ok(()),
        }
    });
}

/// A pool of falsetickers only, with the same offset, so that they form a majority wherever they can.
fn dishonest_pool(rng: &mut fastrand::Rng, most: u64) -> Vec<Host> {
    let behaviour = match rng.u8(0..6) {
        0 => Behaviour::Offset(Offset::from_nanos(rng.i64(-90 * MS..90 * MS))),
        1 => Behaviour::Offset(Offset::from_nanos(rng.i64(-300 * MS..300 * MS))),
        2 => Behaviour::Offset(Offset::from_nanos(rng.i64(-30 * SEC..30 * SEC))),
        3 => Behaviour::Alternating(Offset::from_nanos(rng.i64(-10 * SEC..10 * SEC))),
        4 => Behaviour::Drifting(Ppb::from_ppm(rng.i64(-200..200))),
        _ => Behaviour::Drifting(Ppb::from_ppm(rng.i64(-20_000..20_000))),
    };
    (0..rng.usize(1..5)).map(|_| Host { model: ServerModel::new(behaviour), ..honest(rng, most) }).collect()
}

fn reported_resumes(world: &World) -> Vec<&(Duration, Effect)> {
    let is_pause =
        |e: &Effect| matches!(e, Effect::Log(LogEvent::Disrupted(d)) if d.disruption.class() == Class::Pause);
    world.effects.iter().filter(|(_, e)| is_pause(e)).collect()
}

/// Pauses the node for as long as its hardware clock was behind: afterwards the two clocks are as after a
/// write of the hardware clock.
fn pause_like_a_write(world: &mut World) {
    let behind = world.rtc_ahead().as_nanos().min(0);
    world.pause(Duration::from_nanos(behind.unsigned_abs()));
}

#[test]
fn steps_with_a_dishonest_pool_never_increase_the_offset_and_stay_within_budgets() {
    for_seeds(600, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let most = rng.choice([500, 20_000, 200_000]).unwrap_or(500);
        let good = (0..rng.usize(1..5)).map(|_| honest(&mut rng, most)).collect();
        let other = if rng.u8(0..4) == 0 {
            (0..rng.usize(1..5)).map(|_| honest(&mut rng, most)).collect()
        } else {
            dishonest_pool(&mut rng, most)
        };
        let offset = Offset::from_nanos(rng.i64(-150 * MS..150 * MS));
        let mut plan = plan(&mut rng, seed, offset, vec![good, other]);
        plan.settings.step.mode = Mode::Kernel;
        plan.settings.step.min_offset = Duration::from_millis(rng.u64(10..200));
        plan.settings.step.cooldown = Duration::from_secs(rng.u64(1..600));
        let mut world = World::new(plan);
        let mut steps: Vec<(Duration, Duration)> = Vec::new();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let what = rng.u8(0..9);
            if what <= 2 || (what == 6 && world.rtc_ahead().as_nanos() < 0) {
                pauses.push(world.elapsed());
            }
            match what {
                0 | 1 => world.pause(Duration::from_millis(rng.u64(20..40_000))),
                2 => world.pause(Duration::from_millis(rng.u64(20..400))),
                3 => {
                    world.sleep(Duration::from_secs(rng.u64(1..600)), Duration::from_millis(rng.u64(0..900)));
                }
                4 => world.step_wall(Offset::from_nanos(rng.i64(-5 * SEC..5 * SEC))),
                5 => world.write_rtc(Offset::ZERO),
                6 => pause_like_a_write(&mut world),
                // Only the other pool answers for a while.
                7 => (0..4).for_each(|server| world.change(0, server, ServerModel::new(Behaviour::Silent))),
                _ => (0..4).for_each(|server| world.change(0, server, ServerModel::new(Behaviour::Honest))),
            }
            let end = world.elapsed() + Duration::from_secs(rng.u64(2..1_200));
            let mut before = (world.truth().magnitude(), world.effects.len());
            world.run_until(end, |world| {
                let truth = world.truth().magnitude();
                let new = world.effects.get(before.1..).unwrap_or_default();
                for (at, effect) in new {
                    if let Effect::Step(order) = effect {
                        steps.push((*at, order.offset.magnitude()));
                        // The oscillator changed the offset since the last check by less than this.
                        if truth > before.0 + Duration::from_millis(1) {
                            return Err(format!(
                                "at {at:?} stepped by {:?}: from {:?} off to {truth:?}",
                                order.offset, before.0
                            ));
                        }
                    }
                }
                before = (truth, world.effects.len());
                Ok(())
            })?;
        }
        // Each reported pause belongs to a pause of its own, at most two intervals earlier.
        for resume in reported_resumes(&world) {
            let owner = pauses
                .iter()
                .rposition(|at| *at <= resume.0 && resume.0.abs_diff(*at) < INTERVAL * 2 + MINUTE);
            let Some(owner) = owner else { return Err(format!("no pause, of {pauses:?}: {resume:?}")) };
            pauses.remove(owner);
        }
        for (n, (at, _)) in steps.iter().enumerate() {
            let in_hour = steps.iter().skip(n).filter(|(later, _)| later.abs_diff(*at) < MINUTE * 59).count();
            if in_hour > 3 {
                return Err(format!("{in_hour} steps in an hour"));
            }
        }
        let total: Duration = steps.iter().map(|(_, size)| *size).sum();
        if total <= MINUTE * 60 * 24 { Ok(()) } else { Err(format!("{total:?} in all")) }
    });
}

#[test]
fn pauses_with_honest_pools_are_stepped_to_within_a_few_milliseconds() {
    for_seeds(150, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pools = (0..2).map(|_| (0..rng.usize(1..5)).map(|_| honest(&mut rng, 5_000)).collect()).collect();
        let mut plan = plan(&mut rng, seed, Offset::ZERO, pools);
        plan.settings.step.mode = Mode::Kernel;
        plan.oscillator.error = Ppb(0);
        let mut world = World::new(plan);
        world.run_until(MINUTE * rng.u32(1..30), |_| Ok(()))?;
        if world.rtc_ahead().as_nanos() < -300 * MS && rng.bool() {
            pause_like_a_write(&mut world);
        } else {
            world.pause(Duration::from_millis(rng.u64(300..100_000)));
        }
        let (begin, mut stepped) = (world.elapsed(), None);
        world.run_until(begin + MINUTE, |world| {
            let is_step = |e: &(Duration, Effect)| matches!(e.1, Effect::Step(_));
            stepped = stepped
                .or_else(|| world.effects.iter().find(|e| is_step(e)).map(|(at, _)| at.abs_diff(begin)));
            Ok(())
        })?;
        let off = world.truth().magnitude();
        match stepped {
            Some(after) if after <= Duration::from_secs(4) && off < Duration::from_millis(10) => Ok(()),
            _ => Err(format!("stepped after {stepped:?}, {off:?} off")),
        }
    });
}

/// As many worlds as fit into a minute on two cores; `make worlds` runs a hundred thousand.
const WORLDS: u64 = 1_500;
/// From so many worlds on, each dimension must have reached its interesting values often enough.
const WORLDS_TO_COUNT: usize = 500;

#[test]
fn any_world() {
    let worlds = results_of_seeds(WORLDS, |seed| {
        let Drawn { mut world, end, traits } = draw(seed);
        let mut checker = Checker::new(&world);
        world.run_until(end, |world| checker.check(world))?;
        Ok((traits, checker.tally, world.elapsed()))
    });
    let sum = |of: fn(&Tally) -> u64| worlds.iter().map(|(_, tally, _)| of(tally)).sum::<u64>();
    let time = |of: fn(&Tally) -> Duration| worlds.iter().map(|(_, tally, _)| of(tally)).sum::<Duration>();
    let span: Duration = worlds.iter().map(|(.., elapsed)| *elapsed).sum();
    println!("{} worlds, {:.1} days of simulated time", worlds.len(), span.as_secs_f64() / 86_400.0);
    println!("looks: {}, with an offset: {}", sum(|t| t.looks), sum(|t| t.measured));
    println!(
        "rounds with some falsetickers: {}, with too many: {}",
        sum(|t| t.honest_majority),
        sum(|t| t.dishonest)
    );
    println!(
        "bounds checked: {}, of which reach farther than around the middle: {}, hours of writes: {}",
        sum(|t| t.bounds),
        sum(|t| t.wider_bounds),
        sum(|t| t.hours)
    );
    println!("pauses that only the servers could show: {}", sum(|t| t.blind_pauses));
    println!("requests that came sooner after a disruption: {}", sum(|t| t.extras));
    println!("steps: {}, clocks corrected after a disruption: {}", sum(|t| t.steps), sum(|t| t.corrected));
    println!(
        "truth outside after a step of the rate: {:?} until the next round, {:?} later",
        time(|t| t.outside_after_rate),
        time(|t| t.outside_after_rate_later)
    );
    let farthest = worlds.iter().map(|(_, tally, _)| tally.farthest_after_rate).max();
    println!("the farthest beyond the bound then: {farthest:?}");
    println!("truth outside after a pause that was not noticed yet: {:?}", time(|t| t.outside_after_pause));
    println!(
        "truth outside after a change of the clocksource that was not seen yet: {:?}",
        time(|t| t.outside_after_clocksource)
    );
    let longest = worlds.iter().map(|(_, tally, _)| tally.longest_without).max();
    println!("longest time without a verdict although a majority could be measured: {longest:?}");
    let mut missed = Vec::new();
    for (name, floor) in DIMENSIONS {
        let count = worlds.iter().filter(|(traits, ..)| traits.contains(name)).count() as u64;
        println!("{name}: {count}");
        if count * 1_000 < floor * worlds.len() as u64 {
            missed.push(name);
        }
    }
    if worlds.len() < WORLDS_TO_COUNT {
        return;
    }
    assert_eq!(missed, [""; 0], "too few worlds reach them");
    let count = worlds.len() as u64;
    assert!(sum(|t| t.bounds) > count * 10 && sum(|t| t.hours) > count / 20 && sum(|t| t.extras) > count / 2);
    assert!(sum(|t| t.steps) > count / 20 && sum(|t| t.corrected) > count / 25);
    assert!(sum(|t| t.blind_pauses) > count / 100);
    assert!(sum(|t| t.honest_majority) > count * 10 && sum(|t| t.dishonest) > count);
    assert!(sum(|t| t.measured) > sum(|t| t.looks) / 2);
}

#[test]
fn equal_seeds_give_equal_runs() {
    let run = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let pools = (0..2).map(|_| (0..4).map(|_| falseticker(&mut rng, 50_000)).collect()).collect();
        let mut world = World::new(plan(&mut rng, seed, Offset::ZERO, pools));
        world.run_until(MINUTE * 30, |_| Ok(())).expect("nothing is checked");
        format!("{:?}", world.effects)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
