//! Runs of the simulated world in which the machine stood still, and the clock may be stepped.

use drift_core::time::Measurement;
use std::time::Duration;

use drift_agent::sim::behaviour::{Behaviour, ServerModel};
use drift_agent::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::io::Effect;
use drift_core::report::history::Mark;
use drift_core::report::node::{EventReason, NodeEvent};
use drift_core::resume::Class;
use drift_core::step::outcome::{Outcome, StepResult};
use drift_core::step::policy::{self, Mode};
use drift_core::time::{Offset, Ppb, Wall};
use drift_core::verdict::State;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn host() -> Host {
    let path = Path {
        there: Duration::from_millis(2),
        back: Duration::from_millis(3),
        jitter: Duration::from_micros(200),
        loss: 0.0,
    };
    Host { model: ServerModel::new(Behaviour::Honest), path }
}

/// Two pools of one honest server, a clock that is right, and half an hour of calm.
fn settled(change: impl FnOnce(&mut Plan)) -> World {
    let mut settings = default_settings();
    settings.step.mode = Mode::Kernel;
    let mut plan = Plan {
        seed: 1,
        present: Wall::from_secs(1_795_341_600),
        offset: Offset::ZERO,
        oscillator: Oscillator { error: Ppb(0), swing: Ppb(0), period: MINUTE * 600 },
        rtc_ahead: Offset::ZERO,
        pools: vec![vec![host()]; 2],
        settings,
        api_errors: 0.0,
        steps_work: true,
    };
    change(&mut plan);
    let mut world = World::new(plan);
    run(&mut world, MINUTE * 30);
    assert_eq!(world.snapshot().state, State::InSync);
    assert_eq!(world.snapshot().counts.resumes, [0; 5], "nothing has happened");
    world
}

fn stepping(change: impl FnOnce(&mut policy::Settings)) -> World {
    settled(|plan| change(&mut plan.settings.step))
}

fn run(world: &mut World, span: Duration) {
    let end = world.elapsed() + span;
    world.run_until(end, |_| Ok(())).expect("nothing is checked");
}

/// Runs on until an effect, and returns how long that took.
fn run_to(world: &mut World, span: Duration, is_it: impl Fn(&Effect) -> bool) -> Option<Duration> {
    let (begin, seen) = (world.elapsed(), world.effects.len());
    run(world, span);
    let new = world.effects.get(seen..).unwrap();
    new.iter().find(|(_, effect)| is_it(effect)).map(|(at, _)| at.abs_diff(begin))
}

fn outcomes(world: &World) -> Vec<&Outcome> {
    let audits = world.effects.iter().filter_map(|(_, e)| match e {
        Effect::LogStep(outcome) => Some(outcome),
        _ => None,
    });
    audits.collect()
}

/// Why a step was refused or has failed.
fn reason(outcome: &Outcome) -> &str {
    outcome.reason.as_deref().expect("a reason")
}

fn events(world: &World, reason: EventReason) -> Vec<&NodeEvent> {
    let events = world.effects.iter().filter_map(|(_, e)| match e {
        Effect::SendEvent(event) if event.reason == reason => Some(event),
        _ => None,
    });
    events.collect()
}

fn steps(world: &World) -> usize {
    world.effects.iter().filter(|(_, e)| matches!(e, Effect::Step(_))).count()
}

#[test]
fn a_bound_that_is_assumed_never_leads_to_a_step() {
    for assumed in [&[0_usize][..], &[0, 1]] {
        let mut world = settled(|plan| {
            plan.settings.step.mode = Mode::Kernel;
            for pool in assumed {
                plan.pools[*pool][0].model = ServerModel::new(Behaviour::HugeRootDispersion);
                plan.settings.root_distances.insert(*pool, Duration::from_millis(5));
            }
        });
        assert!(world.snapshot().is_assumed());
        world.pause(SECOND * 20);
        run(&mut world, MINUTE * 10);
        assert_eq!((steps(&world), world.snapshot().state), (0, State::Drifting));
        let outcomes = outcomes(&world);
        let refused = outcomes.last().expect("an outcome");
        assert_eq!(refused.result, StepResult::Refused);
        assert!(reason(refused).starts_with("the bound is assumed (rootDistance of a pool)"), "{refused:?}");
    }
}

#[test]
fn one_pool_alone_does_not_step_after_a_pause() {
    let mut world = settled(|plan| plan.pools.truncate(1));
    assert!(world.snapshot().is_single_pool());
    world.pause(SECOND * 20);
    run(&mut world, MINUTE * 10);
    assert_eq!((steps(&world), world.snapshot().state), (0, State::Drifting));
    let outcomes = outcomes(&world);
    let refused = outcomes.last().expect("an outcome");
    assert!(reason(refused).starts_with("one pool alone is configured (allowSinglePool)"), "{refused:?}");
}

#[test]
fn pauses_are_detected_within_half_a_second_and_corrected_within_one() {
    let mut world = stepping(|_| {});
    world.pause(SECOND * 20);
    let resumed = world.reference();
    let (begin, mut disrupted) = (world.elapsed(), None);
    let look = |world: &World| {
        if world.snapshot().state == State::Disrupted && disrupted.is_none() {
            disrupted = Some(world.elapsed().abs_diff(begin));
        }
        Ok(())
    };
    world.run_until(begin + SECOND / 2, look).unwrap();
    assert!(disrupted.is_some(), "the offset that is 20 s wrong is withdrawn within half a second");
    let taken = run_to(&mut world, SECOND / 2, |e| matches!(e, Effect::Step(_)));
    assert!(taken.is_some() || steps(&world) == 1, "within a second it is stepped");
    run(&mut world, MINUTE * 10);
    assert!(world.truth().magnitude() < Duration::from_millis(3), "{:?}", world.truth());
    let snapshot = world.snapshot();
    assert_eq!((snapshot.state, steps(&world)), (State::InSync, 1));
    assert_eq!(snapshot.counts.resumes[Class::Pause.index()], 1);
    assert_eq!(
        snapshot.counts.resumes.iter().sum::<u64>(),
        1,
        "our own step is no signal: {:?}",
        snapshot.counts.resumes
    );
    let reported = outcomes(&world);
    assert_eq!((reported.len(), reported[0].result), (1, StepResult::Stepped));
    assert!(reported[0].before.unwrap().as_nanos().abs_diff(20_000_000_000) < 10_000_000, "{reported:?}");
    let noticed = events(&world, EventReason::VMResumeDetected);
    let early = noticed[0].at.minus(resumed).as_nanos();
    assert!(
        (-5_000_000..600_000_000).contains(&early),
        "in reference time, not the clock's that stood still: {early}"
    );
    assert_eq!(events(&world, EventReason::ClockStepped).len(), 1);
    assert_eq!(snapshot.step.last.unwrap().in_hour, 1);
}

/// Both pools behave so from now on.
fn all(world: &mut World, behaviour: Behaviour) {
    (0..2).for_each(|pool| world.change(pool, 0, ServerModel::new(behaviour)));
}

/// A machine whose hardware clock is half a second behind.
fn with_an_rtc_behind(change: impl FnOnce(&mut Plan)) -> World {
    settled(|plan| {
        plan.rtc_ahead = Offset::from_nanos(-500_000_000);
        change(plan);
    })
}

fn signs(world: &World, class: Class) -> u64 {
    world.snapshot().counts.resumes.get(class.index()).copied().unwrap_or_default()
}

#[test]
fn pauses_that_look_like_rtc_writes_are_stepped_once_the_pools_confirm_them() {
    // The last ones turn out to be no write when the RTC is known better, which is no news any more.
    for lost in [400, 490, 500, 510, 620, 640, 700, 900] {
        let mut world = with_an_rtc_behind(|_| {});
        world.pause(Duration::from_millis(lost));
        run(&mut world, SECOND * 3);
        assert_eq!((signs(&world, Class::RtcWrite), signs(&world, Class::Pause)), (1, 1), "{lost} ms");
        assert!(world.truth().magnitude() < Duration::from_millis(3), "{:?}", world.truth());
        run(&mut world, MINUTE * 10);
        assert_eq!((steps(&world), outcomes(&world)[0].result), (1, StepResult::Stepped));
        let noticed = events(&world, EventReason::VMResumeDetected);
        let note = &noticed[0].note;
        assert!(
            note.contains(&format!("The machine was paused for {lost} ms (±"))
                && note.contains("by the RTC and NTP)"),
            "{note}"
        );
        assert_eq!(
            (noticed.len(), world.snapshot().counts.resumes.iter().sum::<u64>()),
            (1, 2),
            "reported once"
        );
        let marks = world.machine.history().marks(world.reading());
        let signs = marks.filter(|(_, mark)| matches!(mark, Mark::Resume(_))).count();
        assert_eq!(signs, 1, "the better report replaces the first one on the page");
    }
}

#[test]
fn pools_may_show_a_pause_before_the_rtc_does() {
    let mut before = 0;
    for n in 0..10 {
        let mut world = with_an_rtc_behind(|plan| {
            // No multiple of the second of the RTC.
            plan.settings.interval = SECOND * 11 / 10;
        });
        run(&mut world, SECOND / 10 * n);
        world.pause(SECOND / 2);
        let (begin, mut missed) = (world.elapsed(), false);
        let look = |world: &World| {
            missed |= world.snapshot().state == State::Drifting && signs(world, Class::RtcWrite) == 0;
            Ok(())
        };
        world.run_until(begin + SECOND * 4, look).unwrap();
        before += u32::from(missed);
        assert_eq!((signs(&world, Class::Pause), steps(&world)), (1, 1), "{n}: {missed}");
    }
    assert!(before > 0, "no run had this order");
}

#[test]
fn rtc_writes_followed_by_an_equal_pool_jump_are_not_pauses() {
    // The doubt ends with the quick rounds; without an answer, after two intervals.
    for (silent, after) in [(Duration::ZERO, SECOND * 12), (MINUTE * 3, MINUTE * 3)] {
        let mut world = with_an_rtc_behind(|_| {});
        world.write_rtc(Offset::ZERO);
        if !silent.is_zero() {
            all(&mut world, Behaviour::Silent);
        }
        run(&mut world, after);
        all(&mut world, Behaviour::Offset(Offset::from_nanos(500_000_000)));
        run(&mut world, MINUTE * 10);
        assert_eq!(world.snapshot().state, State::Drifting);
        assert_eq!((signs(&world, Class::RtcWrite), signs(&world, Class::Pause)), (1, 0), "{after:?}");
    }
}

#[test]
fn pauses_soon_after_an_rtc_write_are_detected() {
    // Whether the pools were measured after the write, or not at all until it was over.
    for silent in [false, true] {
        let mut world = settled(|plan| plan.rtc_ahead = Offset::from_nanos(-3_000_000_000));
        world.write_rtc(Offset::from_nanos(-500_000_000));
        if silent {
            all(&mut world, Behaviour::Silent);
            run(&mut world, MINUTE * 3);
            all(&mut world, Behaviour::Honest);
        }
        run(&mut world, MINUTE * 2);
        assert_eq!((signs(&world, Class::RtcWrite), signs(&world, Class::Pause)), (1, 0));
        world.pause(SECOND / 2);
        run(&mut world, MINUTE);
        assert_eq!((signs(&world, Class::RtcWrite), signs(&world, Class::Pause)), (2, 1), "{silent}");
        assert_eq!(steps(&world), 1);
    }
}

#[test]
fn slow_first_answers_do_not_prevent_the_detection_of_a_pause() {
    for seed in 1..=20 {
        let mut world = with_an_rtc_behind(|plan| {
            plan.seed = seed;
            let jitter = Duration::from_millis(80);
            plan.pools = vec![vec![Host { path: Path { jitter, ..host().path }, ..host() }]; 2];
        });
        world.pause(SECOND / 2);
        run(&mut world, MINUTE);
        assert_eq!(signs(&world, Class::Pause), 1, "{seed}");
    }
}

#[test]
fn falsetickers_do_not_turn_an_rtc_write_into_a_pause() {
    let off = |millis: i64| ServerModel::new(Behaviour::Offset(Offset::from_nanos(millis * 1_000_000)));
    // Its offset contradicts the other pool, or is so small that both intervals overlap.
    for (before, after, state) in [(0, 500, State::Disagree), (-30, 30, State::InSync)] {
        let mut world = with_an_rtc_behind(|plan| {
            plan.rtc_ahead = Offset::from_nanos(-60_000_000);
            // The honest one is far away.
            let (there, back) = (Duration::from_millis(35), Duration::from_millis(35));
            plan.pools[0][0].path = Path { there, back, ..host().path };
            plan.pools[1][0].model = off(before);
        });
        world.write_rtc(Offset::ZERO);
        world.change(1, 0, off(after));
        run(&mut world, MINUTE * 10);
        assert_eq!(world.snapshot().state, state);
        assert_eq!((signs(&world, Class::RtcWrite), signs(&world, Class::Pause)), (1, 0), "{after} ms");
    }
}

#[test]
fn a_lone_falseticker_that_recovers_does_not_turn_an_rtc_write_into_a_pause() {
    let mut world = with_an_rtc_behind(|_| {});
    world.change(0, 0, ServerModel::new(Behaviour::Silent));
    run(&mut world, MINUTE * 12);
    world.change(1, 0, ServerModel::new(Behaviour::Offset(Offset::from_nanos(-500_000_000))));
    run(&mut world, MINUTE * 12);
    assert_eq!((world.snapshot().pools_agreeing, world.snapshot().state), (1, State::Drifting));
    world.write_rtc(Offset::ZERO);
    all(&mut world, Behaviour::Honest);
    run(&mut world, MINUTE * 10);
    assert_eq!(world.snapshot().state, State::InSync);
    assert_eq!((signs(&world, Class::RtcWrite), signs(&world, Class::Pause)), (1, 0));
}

#[test]
fn pools_that_answer_a_minute_after_the_other_still_confirm_a_pause() {
    let mut world = with_an_rtc_behind(|_| {});
    world.change(1, 0, ServerModel::new(Behaviour::Silent));
    world.pause(SECOND / 2);
    run(&mut world, MINUTE);
    assert_eq!((signs(&world, Class::Pause), steps(&world)), (0, 0), "one pool alone confirms nothing");
    world.change(1, 0, ServerModel::new(Behaviour::Honest));
    run(&mut world, MINUTE * 2);
    assert_eq!((signs(&world, Class::Pause), steps(&world), world.snapshot().state), (1, 1, State::InSync));
}

#[test]
fn clocks_set_by_another_process_before_the_pools_answer_are_not_stepped() {
    // Before the RTC shows the pause, just after, or later: the pools are not heard for ten seconds.
    let mut shown_after = 0;
    for wait in (10..2_500).step_by(60) {
        let mut world = with_an_rtc_behind(|_| {});
        all(&mut world, Behaviour::Silent);
        run(&mut world, SECOND / 5);
        world.pause(SECOND / 2);
        run(&mut world, Duration::from_millis(wait));
        shown_after += u32::from(signs(&world, Class::RtcWrite) == 0);
        world.step_wall(Offset::from_nanos(200_000_000));
        run(&mut world, SECOND * 10);
        all(&mut world, Behaviour::Honest);
        run(&mut world, MINUTE * 10);
        assert_eq!((signs(&world, Class::Pause), steps(&world)), (0, 0), "set after {wait} ms");
        assert_eq!(world.snapshot().state, State::Drifting);
    }
    assert!(shown_after > 2, "{shown_after}");
}

#[test]
fn pauses_in_mode_off_are_reported_and_not_stepped() {
    let mut world = stepping(|step| step.mode = Mode::Off);
    world.pause(SECOND * 20);
    run(&mut world, MINUTE * 5);
    assert_eq!(events(&world, EventReason::VMResumeDetected).len(), 1);
    assert_eq!((steps(&world), outcomes(&world).len()), (0, 0));
    assert_eq!(world.snapshot().state, State::Drifting);
    assert!(world.truth().as_nanos().abs_diff(20_000_000_000) < 5_000_000);
}

#[test]
fn pauses_with_a_pool_fifteen_seconds_off_are_stepped_once_it_is_right_within_an_hour_and_never_later() {
    let results = |world: &World| outcomes(world).iter().map(|outcome| outcome.result).collect::<Vec<_>>();
    let (deferred, refused) = (StepResult::Deferred, StepResult::Refused);
    for (wrong_for, is_late) in [(MINUTE * 10, false), (MINUTE * 70, true)] {
        let mut world = stepping(|_| {});
        world.pause(SECOND * 20);
        world.change(1, 0, ServerModel::new(Behaviour::Offset(Offset::from_nanos(-15_000_000_000))));
        run(&mut world, wrong_for);
        // Whichever of the two is right, the clock is behind by more than the threshold.
        assert_eq!((steps(&world), world.snapshot().state), (0, State::Drifting));
        assert_eq!(results(&world), if is_late { vec![deferred, refused] } else { vec![deferred] });
        let reported = events(&world, EventReason::ClockStepRefused);
        assert_eq!(reported.len(), results(&world).len());
        assert!(
            reported.iter().all(|event| event.note.contains("the time servers disagree")),
            "{reported:?}"
        );
        world.change(1, 0, ServerModel::new(Behaviour::Honest));
        run(&mut world, MINUTE * 20);
        if is_late {
            assert_eq!(steps(&world), 0, "an old resume is left to the operator");
        } else {
            assert_eq!((steps(&world), world.snapshot().state), (1, State::InSync));
            assert_eq!(results(&world), [deferred, StepResult::Stepped]);
        }
    }
}

#[test]
fn pauses_with_a_pool_ten_seconds_off_are_stepped_to_the_middle_which_helps_whichever_is_right() {
    let mut world = stepping(|_| {});
    world.pause(SECOND * 20);
    world.change(1, 0, ServerModel::new(Behaviour::Offset(Offset::from_nanos(10_000_000_000))));
    run(&mut world, MINUTE * 70);
    // 20 s behind by one, 30 s by the other.
    assert_eq!(steps(&world), 1, "{:?}", outcomes(&world));
    assert_eq!(outcomes(&world)[0].result, StepResult::Stepped);
    assert!(world.truth().as_nanos().abs_diff(-5_000_000_000) < 5_000_000, "{:?}", world.truth());
    assert_eq!(world.snapshot().state, State::Disagree);
}

#[test]
fn pauses_with_both_pools_dead_wait_for_them_as_long_as_it_takes() {
    let mut world = stepping(|_| {});
    world.pause(SECOND * 20);
    all(&mut world, Behaviour::Silent);
    run(&mut world, MINUTE * 150);
    assert_eq!((steps(&world), outcomes(&world).len()), (0, 1), "{:?}", outcomes(&world));
    assert_eq!(outcomes(&world)[0].result, StepResult::Deferred);
    assert_eq!(reason(outcomes(&world)[0]), "no measurement since the trigger");
    all(&mut world, Behaviour::Honest);
    run(&mut world, MINUTE * 10);
    assert_eq!((steps(&world), world.snapshot().state), (1, State::InSync));
}

#[test]
fn pauses_are_stepped_when_the_network_returns_within_a_minute() {
    let mut world = stepping(|_| {});
    world.pause(SECOND * 20);
    all(&mut world, Behaviour::Silent);
    run(&mut world, MINUTE);
    all(&mut world, Behaviour::Honest);
    run(&mut world, MINUTE * 5);
    assert_eq!((steps(&world), world.snapshot().state), (1, State::InSync));
}

#[test]
fn offsets_above_the_maximum_are_not_stepped() {
    let mut world = stepping(|step| step.max_offset = SECOND * 10);
    world.pause(SECOND * 20);
    run(&mut world, MINUTE * 5);
    assert_eq!(steps(&world), 0);
    assert!(reason(outcomes(&world)[0]).contains("requires an operator request"), "{:?}", outcomes(&world));
}

#[test]
fn steps_by_another_process_are_counted_and_not_corrected() {
    let mut world = stepping(|_| {});
    world.step_wall(Offset::from_nanos(3_000_000_000));
    run(&mut world, MINUTE * 10);
    let snapshot = world.snapshot();
    assert_eq!(snapshot.counts.resumes[Class::ClockSet.index()], 1);
    assert_eq!((steps(&world), outcomes(&world).len(), snapshot.state), (0, 0, State::Drifting));
}

#[test]
fn ineffective_steps_are_not_repeated() {
    let mut world = settled(|plan| plan.steps_work = false);
    world.pause(SECOND * 20);
    run(&mut world, MINUTE * 10);
    assert_eq!((steps(&world), outcomes(&world)[0].result), (1, StepResult::Failed));
    assert_eq!(events(&world, EventReason::ClockStepFailed).len(), 1);
    world.pause(SECOND * 20);
    run(&mut world, MINUTE * 10);
    assert_eq!(steps(&world), 1);
    assert!(reason(outcomes(&world)[1]).contains("the last step did not help"), "{:?}", outcomes(&world));
}

#[test]
fn pauses_of_40_ms_need_no_step_and_no_event() {
    let mut world = stepping(|_| {});
    world.pause(Duration::from_millis(40));
    run(&mut world, MINUTE * 5);
    assert_eq!(outcomes(&world)[0].result, StepResult::NotNeeded);
    assert!(events(&world, EventReason::ClockStepRefused).is_empty());
}

#[test]
fn pauses_near_a_leap_second_are_not_stepped() {
    // Pools of three; 2026-11-30T10:00:00Z and the day before.
    for (present, announcing, expected) in [
        (1_796_032_800, 2, (0, StepResult::Refused)),
        (1_796_032_800, 1, (1, StepResult::Stepped)),
        (1_796_032_800 - 86_400, 3, (1, StepResult::Stepped)),
    ] {
        let mut world = settled(|plan| {
            plan.present = Wall::from_secs(present);
            plan.pools = vec![vec![host(); 3]; 2];
            for host in plan.pools[0].iter_mut().take(announcing) {
                host.model = ServerModel::new(Behaviour::LeapInsert);
            }
        });
        world.pause(SECOND * 20);
        run(&mut world, MINUTE * 5);
        let outcome = outcomes(&world)[0].clone();
        assert_eq!((steps(&world), outcome.result), expected, "{announcing} of 3 at {present}");
        if outcome.result == StepResult::Refused {
            assert!(reason(&outcome).contains("leap second"), "{outcome:?}");
        }
    }
}

#[test]
fn consecutive_pauses_are_stepped_until_the_budget_is_spent() {
    let mut world = stepping(|_| {});
    for _ in 0..6 {
        world.pause(SECOND * 2);
        run(&mut world, MINUTE * 6);
    }
    assert_eq!(steps(&world), 3, "three an hour");
    assert!(
        reason(outcomes(&world)[3]).contains("limit of 3 steps per hour reached"),
        "{:?}",
        outcomes(&world)[3]
    );
}

#[test]
fn answers_from_before_a_pause_are_discarded() {
    for delay in [50, 150, 300, 450] {
        let far =
            Path { there: Duration::from_millis(delay), back: Duration::from_millis(delay), ..host().path };
        let mut world = settled(|plan| {
            plan.pools = vec![vec![Host { path: far, ..host() }]; 2];
            // The bound of so long a way is wide.
            plan.settings.threshold = SECOND;
        });
        // Into the middle of a round: both servers were asked, and their answers are on the way.
        let asked: u64 = world.served().sum();
        let end = world.elapsed() + MINUTE * 2;
        let stop =
            |world: &World| if world.served().sum::<u64>() > asked + 1 { Err(String::new()) } else { Ok(()) };
        world.run_until(end, stop).unwrap_err();
        world.pause(SECOND * 20);
        let (mut disrupted, begin) = (false, world.elapsed());
        let look = |world: &World| {
            let snapshot = world.snapshot();
            disrupted |= snapshot.state == State::Disrupted;
            match snapshot.measured {
                Some(Measurement { offset, bound }) if disrupted && snapshot.state.has_offset() => {
                    let off = offset.as_nanos().abs_diff(world.truth().as_nanos());
                    if Duration::from_nanos(off) > bound.as_duration() {
                        Err(format!("{offset:?} {bound:?}"))
                    } else {
                        Ok(())
                    }
                }
                _ => Ok(()),
            }
        };
        world.run_until(begin + MINUTE * 5, look).unwrap();
        assert!(disrupted);
        assert_eq!((steps(&world), world.snapshot().state), (1, State::InSync), "{delay} ms");
    }
}
