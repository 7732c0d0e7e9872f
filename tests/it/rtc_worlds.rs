//! Hardware clocks of every kind in simulated worlds, and none at all: what is a pause, and what is not.

use std::time::Duration;

use drift_agent::sim::behaviour::{Behaviour, ServerModel};
use drift_agent::sim::events::Event;
use drift_agent::sim::world::{Host, Oscillator, Path, Plan, Surroundings, World, default_settings};
use drift_core::io::{Effect, LogEvent};
use drift_core::report::history::Mark;
use drift_core::report::node::EventReason;
use drift_core::resume::{Class, RtcFault, Signal};
use drift_core::step::policy::Mode;
use drift_core::time::{Offset, Ppb, Wall};
use drift_core::verdict::State;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

fn offset(millis: i64) -> Offset {
    Offset::from_nanos(millis * 1_000_000)
}

fn host() -> Host {
    let leg = Duration::from_millis(4);
    let path = Path { there: leg, back: leg, jitter: Duration::from_millis(1), loss: 0.0 };
    Host { model: ServerModel::new(Behaviour::Honest), path }
}

/// Two pools of two servers, an oscillator that is fast by `ppm`, and stepping by the kernel.
fn world(ppm: i64, ahead: Offset, surroundings: Surroundings) -> World {
    let mut settings = default_settings();
    settings.step.mode = Mode::Kernel;
    let oscillator = Oscillator { error: Ppb::from_ppm(ppm), swing: Ppb(0), period: HOUR };
    World::with(
        Plan {
            seed: 1,
            present: Wall::from_secs(1_795_341_600),
            offset: Offset::ZERO,
            oscillator,
            rtc_ahead: ahead,
            pools: vec![vec![host(), host()]; 2],
            settings,
            api_errors: 0.0,
            steps_work: true,
        },
        surroundings,
    )
}

/// The same, with a daemon that disciplines the wall clock, half an hour later.
fn settled(ppm: i64, surroundings: Surroundings) -> World {
    let mut world = world(ppm, Offset::ZERO, surroundings);
    world.slew_wall(Ppb::from_ppm(-ppm));
    run(&mut world, MINUTE * 30);
    assert_eq!(world.snapshot().state, State::InSync);
    assert_eq!(world.snapshot().counts.resumes, [0; 5]);
    world
}

fn blind() -> Surroundings {
    Surroundings { has_rtc: false, ..Surroundings::default() }
}

fn run(world: &mut World, span: Duration) {
    let end = world.elapsed() + span;
    world.run_until(end, |_| Ok(())).expect("nothing is checked");
}

fn count(world: &World, class: Class) -> u64 {
    world.snapshot().counts.resumes[class.index()]
}

fn steps(world: &World) -> usize {
    world.effects.iter().filter(|(_, effect)| matches!(effect, Effect::Step(_))).count()
}

fn events(world: &World, reason: EventReason) -> usize {
    let is_it = |effect: &Effect| matches!(effect, Effect::SendEvent(event) if event.reason == reason);
    world.effects.iter().filter(|(_, effect)| is_it(effect)).count()
}

/// After how long a pause was reported that ended at `over`, and by which signal.
fn reported(world: &World, over: Duration) -> Option<(Duration, Signal)> {
    world.effects.iter().filter(|(at, _)| *at >= over).find_map(|(at, effect)| match effect {
        Effect::Log(LogEvent::Disrupted(d)) if d.disruption.class() == Class::Pause => {
            Some((at.saturating_sub(over), d.disruption.signal()))
        }
        _ => None,
    })
}

#[test]
fn rtcs_at_another_rate_than_the_raw_clock_report_nothing_and_step_nothing() {
    for (ppm, ahead) in [(-150, 200), (-110, 0), (-200, 0), (150, 200), (190, -200), (500, 0), (-500, 0)] {
        for is_disciplined in [true, false] {
            let true_rtc = Surroundings { rtc_rate: Some(Ppb(0)), ..Surroundings::default() };
            let mut world = world(ppm, offset(ahead), true_rtc);
            if is_disciplined {
                world.slew_wall(Ppb::from_ppm(-ppm));
            }
            run(&mut world, HOUR * 6);
            let counts = world.snapshot().counts.resumes;
            assert_eq!((counts, steps(&world)), ([0; 5], 0), "{ppm} ppm, disciplined: {is_disciplined}");
        }
    }
}

#[test]
fn rtcs_written_in_local_time_are_writes_without_an_event_or_a_step() {
    for hours in [7, -5, 1] {
        let mut world = settled(40, Surroundings { rtc_rate: Some(Ppb(0)), ..Surroundings::default() });
        world.write_rtc(offset(hours * 3_600_000));
        run(&mut world, MINUTE * 10);
        assert_eq!((count(&world, Class::Pause), count(&world, Class::RtcWrite)), (0, 1), "{hours} h");
        assert_eq!((events(&world, EventReason::VMResumeDetected), steps(&world)), (0, 0), "{hours} h");
        assert_eq!(world.snapshot().state, State::InSync);
        let history = world.machine.history();
        let texts: Vec<String> = history
            .marks(world.reading())
            .filter_map(|(_, mark)| match mark {
                Mark::Resume(detection) => Some(detection.to_string()),
                Mark::Step { .. } => None,
            })
            .collect();
        assert!(matches!(&texts[..], [text] if text.contains("looks like local time")), "{texts:?}");
    }
}

#[test]
fn pauses_of_whole_hours_are_found_by_the_pools() {
    let mut world = settled(40, Surroundings { rtc_rate: Some(Ppb(0)), ..Surroundings::default() });
    world.pause(HOUR * 7);
    let over = world.elapsed();
    run(&mut world, MINUTE * 3);
    let (after, signal) = reported(&world, over).expect("a pause");
    assert!(after < SECOND * 5 && signal == Signal::Pools, "{after:?} by {signal:?}");
    assert_eq!((count(&world, Class::RtcWrite), count(&world, Class::Pause)), (1, 1));
}

#[test]
fn rtcs_that_stand_still_are_reported_once_and_make_no_pause() {
    let mut world = settled(40, Surroundings { rtc_rate: Some(Ppb(0)), ..Surroundings::default() });
    world.happen(Event::StopRtc);
    run(&mut world, HOUR * 3);
    assert_eq!((world.snapshot().counts.resumes, steps(&world)), ([0; 5], 0));
    let faults: Vec<RtcFault> = world
        .effects
        .iter()
        .filter_map(|(_, effect)| match effect {
            Effect::Log(LogEvent::RtcUnusable(fault)) => Some(*fault),
            _ => None,
        })
        .collect();
    assert_eq!(faults, [RtcFault::StandsStill]);
    assert!(!world.snapshot().signals.is_some_and(|signals| signals.contains(Signal::Rtc)));
    // The pools take its place.
    world.pause(SECOND * 20);
    let over = world.elapsed();
    run(&mut world, MINUTE * 10);
    let (after, signal) = reported(&world, over).expect("a pause");
    assert!(after <= SECOND * 48 && signal == Signal::Pools, "{after:?} by {signal:?}");
    assert!(world.truth().magnitude() < Duration::from_millis(10), "{:?}", world.truth());
}

#[test]
fn pauses_by_the_rtc_that_the_pools_refute_are_taken_back() {
    let mut world = settled(40, Surroundings { rtc_rate: Some(Ppb(0)), ..Surroundings::default() });
    // Forward and away from the wall clock, which no write by the kernel does.
    world.write_rtc(offset(100_300));
    run(&mut world, MINUTE * 10);
    assert_eq!((count(&world, Class::Pause), count(&world, Class::RtcWrite)), (1, 1));
    assert_eq!(
        (events(&world, EventReason::VMResumeDetected), events(&world, EventReason::VMResumeRefuted)),
        (1, 1)
    );
    assert_eq!((steps(&world), world.snapshot().state), (0, State::InSync));
    let history = world.machine.history();
    let marks: Vec<_> = history.marks(world.reading()).map(|(_, mark)| mark.clone()).collect();
    assert!(
        matches!(&marks[..], [Mark::Resume(detection)] if detection.refutes_pause()),
        "the pause is replaced: {marks:?}"
    );
    // A real one is not.
    world.pause(SECOND * 20);
    run(&mut world, MINUTE * 10);
    assert_eq!((count(&world, Class::Pause), events(&world, EventReason::VMResumeRefuted)), (2, 1));
    assert_eq!(steps(&world), 1);
}

#[test]
fn pauses_without_rtc_and_vmclock_are_found_by_the_pools_and_stepped() {
    for (span, ppm) in [(20, 40), (1, -150), (3, 400), (600, 0)] {
        let mut world = settled(ppm, blind());
        world.pause(SECOND * span);
        let over = world.elapsed();
        run(&mut world, MINUTE * 10);
        let (after, signal) = reported(&world, over).expect("a pause");
        println!("a pause of {span} s is reported after {after:?}");
        assert!(after <= SECOND * 48 && signal == Signal::Pools, "{after:?} by {signal:?}");
        assert_eq!((count(&world, Class::Pause), events(&world, EventReason::VMResumeDetected)), (1, 1));
        assert_eq!(steps(&world), 1);
        assert!(world.truth().magnitude() < Duration::from_millis(10), "{:?}", world.truth());
    }
}

#[test]
fn steps_of_the_rate_and_of_the_wall_clock_and_jumps_of_servers_are_no_pauses_without_a_signal() {
    for ppm in [-500, -100, 10, 60, 200, 500, 5_000, 50_000] {
        let mut world = settled(0, blind());
        world.happen(Event::Rate(Ppb::from_ppm(ppm)));
        run(&mut world, MINUTE * 30);
        assert_eq!((count(&world, Class::Pause), steps(&world)), (0, 0), "{ppm} ppm");
    }
    let mut world = settled(0, blind());
    world.step_wall(offset(-3_000));
    run(&mut world, MINUTE * 10);
    assert_eq!(count(&world, Class::Pause), 0, "the wall clock was set");
    let ahead = ServerModel::new(Behaviour::Offset(offset(3_000)));
    for servers in [vec![(0, 0)], vec![(0, 0), (0, 1)], vec![(0, 0), (1, 0)]] {
        let mut world = settled(0, blind());
        for (pool, index) in &servers {
            world.change(*pool, *index, ahead);
        }
        run(&mut world, MINUTE * 10);
        assert_eq!((count(&world, Class::Pause), steps(&world)), (0, 0), "{servers:?}");
    }
}
