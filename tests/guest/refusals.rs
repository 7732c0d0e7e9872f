//! What is no reason to step, and what forbids it.

use std::time::Instant;

use drift_agent::sim::behaviour::Behaviour;
use drift_core::time::Offset;

use crate::guest::Spec;
use crate::guest::scenario::GuestScenario;
use crate::{SECOND, assert_left_alone, is_about};

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn frozen_hosts_foreign_steps_and_mode_off_lead_to_no_step() {
    let mut scenario = GuestScenario::new(Spec::new("alone"), "--step-mode kernel");
    let since = scenario.guest.freeze(10 * SECOND);
    let seen = scenario.detected(since);
    println!("QEMU frozen for 10 s: {seen}");
    assert!(is_about(seen.before, 0.0) && is_about(seen.after, 0.0), "nothing is lost: {seen}");
    scenario.wait_for("the end of it", |now| (now.steps("not-needed") == 1).then_some(()));
    let metrics = scenario.metrics().unwrap();
    assert_eq!((metrics.signals("stall"), metrics.signals("pause")), (1, 0));

    let since = Instant::now();
    scenario.guest.step(3.0);
    let seen = scenario.detected(since);
    println!("another process's step of +3 s: {seen}");
    scenario.wait_for("a verdict", |now| now.is_state("drifting").then_some(()));
    assert!(is_about(scenario.guest.truth.now().offset, -3.0), "it is not undone");
    let metrics = scenario.metrics().unwrap();
    assert_eq!((metrics.signals("clock-set"), metrics.signals("pause")), (1, 0));
    assert_eq!((metrics.steps("stepped"), metrics.steps("failed"), metrics.steps("refused")), (0, 0, 0));
    scenario.guest.step(-3.0);

    scenario.restart_agent("--step-mode off");
    let since = scenario.guest.pause(2 * SECOND);
    let seen = scenario.detected(since);
    println!("stop 2 s, cont, step.mode off: {seen}");
    scenario.guest.console.wait_for(since, &["VMResumeDetected"]);
    scenario.wait_for("a verdict", |now| now.is_state("drifting").then_some(()));
    assert_left_alone(&seen, 2.0);
    let offset = scenario.metrics().unwrap().value("offset_seconds").unwrap();
    assert!(is_about(offset, seen.after), "the agent says {offset}: {seen}");
    assert_eq!(scenario.metrics().unwrap().count("steps_total", &[]), 0, "nothing is even considered");
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn offsets_above_the_limit_are_not_stepped() {
    let mut scenario = GuestScenario::new(Spec::new("limit"), "--step-mode kernel --step-max-offset 2s");
    let since = scenario.guest.pause(5 * SECOND);
    let (seen, why) = scenario.unstepped("refused", since);
    println!("stop 5 s, cont, maxOffset 2 s: {seen}");
    assert!(why.contains("over step.maxOffset"), "{why}");
    assert_left_alone(&seen, 5.0);
    scenario.guest.console.wait_for(since, &["ClockStepRefused"]);
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn a_pool_10_s_off_prevents_the_step_until_it_agrees() {
    let mut scenario = GuestScenario::with_pools(
        Spec::new("falseticker"),
        [false, true],
        "--step-mode kernel --interval 8s",
    );
    // By it the clock is 5 s ahead after the pause, and by the other one 5 s behind.
    scenario.pools.behave(Behaviour::Offset(Offset::from_nanos(-10_000_000_000)));
    let since = scenario.guest.pause(5 * SECOND);
    let (seen, why) = scenario.unstepped("deferred", since);
    println!("stop 5 s, cont, one pool 10 s off: {seen}");
    assert!(why.contains("the time servers disagree"), "{why}");
    assert_left_alone(&seen, 5.0);
    scenario.guest.console.wait_for(since, &["ClockStepRefused"]);
    scenario.wait_for("a verdict", |now| now.is_state("disagree").then_some(()));
    is_stepped_once_the_pools_are_honest(&scenario);
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn a_resume_without_any_pool_is_stepped_once_they_answer() {
    // With a short interval, since a network that is not back yet is waited for two intervals long.
    let arguments = "--step-mode kernel --interval 4s --stale-after 20s";
    let mut scenario = GuestScenario::with_pools(Spec::new("dead"), [true, true], arguments);
    scenario.pools.behave(Behaviour::Silent);
    let since = scenario.guest.pause(5 * SECOND);
    let (seen, why) = scenario.unstepped("deferred", since);
    println!("stop 5 s, cont, both pools dead: {seen}");
    assert!(why.contains("no measurement since the trigger"), "{why}");
    assert_left_alone(&seen, 5.0);
    scenario.guest.console.wait_for(since, &["ClockStepRefused"]);
    let metrics = scenario.metrics().unwrap();
    assert_eq!(metrics.value("offset_seconds"), None, "what was known before the pause is void");
    is_stepped_once_the_pools_are_honest(&scenario);
}

fn is_stepped_once_the_pools_are_honest(scenario: &GuestScenario) {
    let since = Instant::now();
    scenario.pools.behave(Behaviour::Honest);
    let right = scenario.guest.truth.wait_for("the clock to be right", since, |offset| is_about(offset, 0.0));
    println!("right {:.2} s after the pools", (right.at - since).as_secs_f64());
    scenario.wait_for("the step to be confirmed", |now| (now.steps("stepped") == 1).then_some(()));
    assert_eq!(scenario.metrics().unwrap().steps("failed"), 0);
}
