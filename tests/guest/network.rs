//! A network that is not there yet when the machine goes on, or that lacks a server.

use std::time::Duration;

use crate::guest::Spec;
use crate::guest::scenario::GuestScenario;
use crate::{SECOND, assert_put_right};

/// Longer than the burst after a resume.
const MISSING: Duration = Duration::from_secs(12);

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn pauses_are_corrected_when_the_network_comes_back_later() {
    let mut scenario = GuestScenario::new(Spec::new("late"), "--step-mode kernel --log-level debug");
    scenario.rtc_is_known();
    let (since, back) = scenario.guest.pause_and_miss_network(20 * SECOND, MISSING);
    let seen = scenario.stepped(since);
    let (heard, _) = scenario.guest.console.wait_for(back, &["sample accepted"]);
    let stepped = since + Duration::from_secs_f64(seen.stepped.unwrap());
    println!(
        "stop 20 s, cont, network {:.1} s later: {seen}; {:.2} s after the network, and {:.2} s after the first answer",
        (back - since).as_secs_f64(),
        (stepped - back).as_secs_f64(),
        stepped.saturating_duration_since(heard).as_secs_f64()
    );
    assert_put_right(&seen, 20.0);
    scenario.wait_for("the step to be confirmed", |now| (now.steps("stepped") == 1).then_some(()));
    let metrics = scenario.metrics().unwrap();
    assert_eq!((metrics.steps("refused"), metrics.steps("failed")), (0, 0));
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn pauses_are_corrected_with_a_dead_server_of_eight() {
    let mut scenario = GuestScenario::with_a_dead_server_of_eight(Spec::new("eight"), "--step-mode kernel");
    scenario.rtc_is_known();
    let since = scenario.guest.pause(20 * SECOND);
    let seen = scenario.stepped(since);
    println!("one of eight servers is dead, stop 20 s, cont: {seen}");
    assert_put_right(&seen, 20.0);
    scenario.wait_for("the step to be confirmed", |now| (now.steps("stepped") == 1).then_some(()));
}
