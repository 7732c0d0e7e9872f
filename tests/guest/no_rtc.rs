//! Without a hardware clock and without a vmclock: only the pools show a pause.

use std::time::Instant;

use crate::guest::Spec;
use crate::guest::scenario::GuestScenario;
use crate::{SECOND, assert_put_right, is_about};

/// Bound of the rate that a node without a hardware clock has after half a minute.
const RATE_KNOWN: f64 = 0.01;

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn pauses_without_an_rtc_are_noticed_by_the_pools_and_corrected() {
    let mut scenario = GuestScenario::new(Spec::without_rtc("no-rtc"), "--step-mode kernel --interval 8s");
    let metrics = scenario.metrics().unwrap();
    let available = ["rtc", "vmclock"]
        .map(|signal| metrics.value(&format!("resume_signal_available{{signal=\"{signal}\"}}")));
    assert_eq!(available, [Some(0.0); 2], "{}", scenario.guest.console.all());

    // Another process's step takes no time from the machine, though the clock is as wrong as after a pause.
    let since = Instant::now();
    scenario.guest.step(-3.0);
    scenario.guest.console.wait_for(since, &["disruption detected", "class=\"clock-set\""]);
    scenario.wait_for("a verdict", |now| now.is_state("drifting").then_some(()));
    let metrics = scenario.metrics().unwrap();
    assert_eq!((metrics.signals("pause"), metrics.count("steps_total", &[])), (0, 0));
    scenario.guest.step(3.0);
    scenario.wait_for("a verdict", |now| now.is_state("in-sync").then_some(()));

    scenario.wait_for("the rate to be known", |now| {
        now.value("frequency_error_bound_ratio").filter(|ratio| *ratio < RATE_KNOWN)
    });
    let since = scenario.guest.pause(20 * SECOND);
    let seen = scenario.stepped(since);
    println!("no RTC, polls every 8 s, stop 20 s, cont: {seen}");
    assert_put_right(&seen, 20.0);
    scenario.wait_for("the step to be confirmed", |now| (now.steps("stepped") == 1).then_some(()));
    let metrics = scenario.metrics().unwrap();
    assert_eq!((metrics.signals("pause"), metrics.steps("refused"), metrics.steps("failed")), (1, 0, 0));
    assert!(is_about(scenario.guest.truth.now().offset, 0.0));
}
