//! Several pauses, each while the step after the one before still restricts the next.

use std::time::{Duration, Instant};

use crate::guest::Spec;
use crate::guest::scenario::GuestScenario;
use crate::{SECOND, assert_put_right, is_about};

/// Short, so that the tests are; the rule is the same for any.
const COOL_DOWN: Duration = Duration::from_secs(30);
const ARGUMENTS: &str = "--step-mode kernel --step-cooldown 30s";

/// Pauses the guest for so long while a step restricts the next: the trigger is deferred, and carried out as soon as the time
/// since that step, `after`, allows it.
fn pause_within_the_cool_down(scenario: &mut GuestScenario, lost: f64, after: Instant) -> Instant {
    let since = scenario.guest.pause(Duration::from_secs_f64(lost));
    let seen = scenario.stepped_within(COOL_DOWN * 2, since);
    let (_, why) = scenario.guest.console.wait_for(since, &["audit=\"deferred\""]);
    assert!(why.contains("step.cooldown"), "{why}");
    let stepped = since + Duration::from_secs_f64(seen.stepped.unwrap());
    println!(
        "stop {lost} s, cont, {:.1} s after a step: {seen}; {:.1} s after that step",
        (since - after).as_secs_f64(),
        (stepped - after).as_secs_f64()
    );
    assert_put_right(&seen, lost);
    stepped
}

fn wait_for_steps(scenario: &GuestScenario, count: u64) {
    scenario.wait_for("the step to be confirmed", |now| (now.steps("stepped") == count).then_some(()));
    scenario.wait_for("a verdict", |now| now.is_state("in-sync").then_some(()));
}

/// Not one trigger was lost, and none counts as a step that did not help.
fn assert_all_were_stepped(scenario: &GuestScenario, count: u64) {
    let metrics = scenario.metrics().unwrap();
    let ends = ["stepped", "not-needed", "refused", "failed"].map(|result| metrics.steps(result));
    assert_eq!(ends, [count, 0, 0, 0], "{}", scenario.guest.console.all());
    assert_eq!((metrics.signals("pause"), metrics.signals("clock-set")), (count, 0));
    assert!(is_about(scenario.guest.truth.now().offset, 0.0));
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn pauses_within_the_cool_down_wait_for_its_end() {
    let mut scenario = GuestScenario::new(Spec::new("cool-down"), ARGUMENTS);
    scenario.rtc_is_known();
    let since = scenario.guest.pause(20 * SECOND);
    let seen = scenario.stepped(since);
    println!("stop 20 s, cont: {seen}");
    assert_put_right(&seen, 20.0);
    wait_for_steps(&scenario, 1);
    let stepped = since + Duration::from_secs_f64(seen.stepped.unwrap());
    let stepped = pause_within_the_cool_down(&mut scenario, 5.0, stepped);
    wait_for_steps(&scenario, 2);

    std::thread::sleep((COOL_DOWN + SECOND).saturating_sub(stepped.elapsed()));
    let since = scenario.guest.pause(3 * SECOND);
    let seen = scenario.stepped(since);
    println!("stop 3 s, cont, after the cool-down: {seen}");
    assert_put_right(&seen, 3.0);
    wait_for_steps(&scenario, 3);
    assert_all_were_stepped(&scenario, 3);
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn a_pause_while_a_step_is_confirmed_does_not_disable_stepping() {
    let mut scenario = GuestScenario::new(Spec::new("superseded"), ARGUMENTS);
    scenario.rtc_is_known();
    let since = scenario.guest.pause(20 * SECOND);
    // The agent asks the servers again two seconds after it has asked them for the step, not sooner.
    let stepped =
        scenario.guest.truth.wait_for("the clock to be right", since, |offset| is_about(offset, 0.0));
    let stepped = pause_within_the_cool_down(&mut scenario, 5.0, stepped.at);
    scenario
        .guest
        .console
        .wait_for(since, &["audit=\"stepped\"", "another disruption came before this was confirmed"]);
    wait_for_steps(&scenario, 2);
    pause_within_the_cool_down(&mut scenario, 3.0, stepped);
    wait_for_steps(&scenario, 3);
    assert_all_were_stepped(&scenario, 3);
}
