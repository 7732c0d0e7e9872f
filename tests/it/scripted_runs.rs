//! Scripted runs of the simulated world: sleep, silence, a stepped clock.

use drift_core::time::Measurement;
use std::time::Duration;

use drift_agent::sim::behaviour::{Behaviour, ServerModel};
use drift_agent::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::io::{Effect, LogEvent};
use drift_core::report::node::EventReason;
use drift_core::resume::Class;
use drift_core::time::{Offset, Ppb, Wall};
use drift_core::verdict::State;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Two pools of two honest servers, a good oscillator, a clock that is 30 ms behind; measured for half an hour.
fn settled() -> World {
    let path = Path {
        there: Duration::from_millis(2),
        back: Duration::from_millis(3),
        jitter: Duration::from_micros(200),
        loss: 0.0,
    };
    let host = Host { model: ServerModel::new(Behaviour::Honest), path };
    let mut world = World::new(Plan {
        seed: 1,
        present: Wall::from_secs(1_795_341_600),
        offset: Offset::from_nanos(30_000_000),
        oscillator: Oscillator { error: Ppb(0), swing: Ppb(0), period: MINUTE * 600 },
        rtc_ahead: Offset::ZERO,
        pools: vec![vec![host; 2]; 2],
        settings: default_settings(),
        api_errors: 0.0,
        steps_work: true,
    });
    run(&mut world, MINUTE * 30);
    assert_eq!(world.snapshot().state, State::InSync);
    assert!(world.snapshot().rate.is_some(), "half an hour is enough for the frequency");
    world
}

fn run(world: &mut World, span: Duration) {
    let end = world.elapsed() + span;
    world.run_until(end, |_| Ok(())).expect("nothing is checked");
}

fn asked(world: &World) -> u64 {
    world.served().sum()
}

#[test]
fn estimates_are_discarded_after_a_suspend_until_the_next_measurement() {
    let mut world = settled();
    // Short enough that nothing contradicts anything: only the kernel's notice shows it.
    world.sleep(Duration::from_millis(80), Duration::from_millis(2));
    let before = asked(&world);
    let mut disrupted = false;
    let end = world.elapsed() + SECOND * 3;
    world
        .run_until(end, |world| {
            let snapshot = world.snapshot();
            if snapshot.state == State::Disrupted {
                disrupted = true;
                if snapshot.measured.is_some() || snapshot.reference.is_some() {
                    return Err("it claims to know something".into());
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(disrupted);
    assert_eq!(world.snapshot().state, State::InSync, "a burst has settled it");
    assert_eq!(asked(&world) - before, 2 * 4, "each of four servers at once, and again after two seconds");
    assert_eq!(world.snapshot().counts.resumes[Class::Suspend.index()], 1);
    let raised = |reason| {
        let is = |e: &&Effect| matches!(e, Effect::SendEvent(event) if event.reason == reason);
        world.effects.iter().map(|(_, effect)| effect).filter(is).count()
    };
    assert_eq!(raised(EventReason::VMResumeDetected), 1);
    assert!(world.effects.iter().any(
        |(_, e)| matches!(e, Effect::Log(LogEvent::Disrupted(d)) if d.disruption.class() == Class::Suspend)
    ));
}

#[test]
fn suspends_that_leave_the_clock_behind_are_drift_after_the_next_measurement() {
    let mut world = settled();
    world.sleep(MINUTE * 20, Duration::from_millis(700));
    run(&mut world, SECOND * 3);
    let snapshot = world.snapshot();
    assert_eq!(snapshot.state, State::Drifting);
    let Measurement { offset, bound } = snapshot.measured.unwrap();
    assert!(
        offset.as_nanos().abs_diff(730_000_000) < bound.as_nanos().unsigned_abs() + 1_000_000,
        "{offset:?} {bound:?}"
    );
}

#[test]
fn unreachable_pools_make_the_clock_unknown_once_the_estimate_is_stale() {
    let mut world = settled();
    for pool in 0..2 {
        for server in 0..2 {
            world.change(pool, server, ServerModel::new(Behaviour::Silent));
        }
    }
    run(&mut world, MINUTE * 9);
    let snapshot = world.snapshot();
    assert_eq!((snapshot.state, snapshot.pools_agreeing), (State::InSync, 2), "the samples are young enough");
    let Measurement { bound, .. } = snapshot.measured.unwrap();
    run(&mut world, MINUTE * 3);
    let snapshot = world.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.measured),
        (State::Unknown, None),
        "stale, though the bound was {bound:?}"
    );
    assert!(snapshot.sentence().contains("No pool answers"), "{}", snapshot.sentence());
    assert!(snapshot.reference.is_some(), "what is published still carries reference time");
}

#[test]
fn foreign_steps_are_drift_at_the_next_tick_without_an_exchange() {
    let mut world = settled();
    let before = world.snapshot().counts.samples;
    world.step_wall(Offset::from_nanos(-3_000_000_000));
    let mut measured_at_drift = None;
    let end = world.elapsed() + SECOND;
    let look = |world: &World| {
        if world.snapshot().state == State::Drifting && measured_at_drift.is_none() {
            measured_at_drift = Some(world.snapshot().counts.samples);
        }
        Ok(())
    };
    world.run_until(end, look).unwrap();
    assert_eq!(measured_at_drift, Some(before));
    assert_eq!(world.snapshot().counts.resumes[Class::ClockSet.index()], 1);
    world.step_wall(Offset::from_nanos(3_000_000_000));
    run(&mut world, SECOND);
    assert_eq!(world.snapshot().state, State::InSync);
}

#[test]
fn unreachable_pools_are_named_and_the_verdict_stays() {
    let mut world = settled();
    for server in 0..2 {
        world.change(1, server, ServerModel::new(Behaviour::Stratum16));
    }
    run(&mut world, MINUTE * 11);
    let snapshot = world.snapshot();
    assert_eq!((snapshot.state, snapshot.pools_agreeing), (State::InSync, 1));
    let report = world.effects.iter().rev().find_map(|(_, effect)| match effect {
        Effect::WriteNode(report) => Some(report),
        _ => None,
    });
    let message = &report.expect("the change is written").message;
    assert!(
        message.contains("pool-1.invalid is unreachable (reports that it is not synchronised)"),
        "{message}"
    );
}
