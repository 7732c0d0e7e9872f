//! Pauses: QMP `stop` and `cont`.

use std::time::{Duration, Instant};

use crate::assert_put_right;
use crate::guest::scenario::GuestScenario;
use crate::guest::{AMD, Spec};

/// Which signal has to report a pause.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Any,
    /// The hardware clock looks as if it had been set, until the pools were heard.
    Pools,
}

/// The hardware clock is left about so far behind, and one of the `pauses` leaves it where a write would.
fn pauses_are_put_right_by_the_kernel(spec: Spec, behind: f64, pauses: impl Fn(f64) -> [(f64, By); 3]) {
    let vendor = spec.vendor;
    let mut left = behind;
    let mut scenario = GuestScenario::prepared(spec, |guest| {
        left = guest.leave_rtc_behind(behind);
        // A slow host may cost bursts; then a round must be soon.
        "--step-mode kernel --step-cooldown 1s --interval 4s".to_owned()
    });
    scenario.rtc_is_known();
    for (nth, (lost, by)) in (1..).zip(pauses(left)) {
        let since = scenario.guest.pause(Duration::from_secs_f64(lost));
        let seen = scenario.stepped(since);
        println!("{vendor}, hardware clock {left:.2} s behind: stop {lost:.2} s, cont: {seen}");
        assert_put_right(&seen, lost);
        scenario.wait_for("the step to be confirmed", |now| (now.steps("stepped") == nth).then_some(()));
        scenario.wait_for("a verdict", |now| now.is_state("in-sync").then_some(()));
        assert_eq!(scenario.metrics().unwrap().signals("pause"), nth);
        let is_by_pools = |(_, line): &(Instant, String)| line.contains("class=\"pause\" signal=\"pools\"");
        let by_pools = scenario.guest.console.since(since).iter().any(is_by_pools);
        assert!(by_pools || by == By::Any, "it was to look like a write");
        scenario.rtc_is_known();
    }
    let metrics = scenario.metrics().unwrap();
    assert_eq!(metrics.count("steps_total", &["method=\"kernel\""]), 3);
    assert_eq!(metrics.signals("clock-set"), 0, "its own step is not another process's");
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn pauses_are_corrected_even_when_as_long_as_the_rtc_was_behind() {
    pauses_are_put_right_by_the_kernel(Spec::new("pause"), 1.0, |behind| {
        [(20.0, By::Any), (3.0, By::Any), (behind, By::Pools)]
    });
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn pauses_are_corrected_when_writing_the_rtc_keeps_its_second() {
    // Only whole seconds can be a write there.
    let spec = Spec { vendor: AMD, ..Spec::new("pause-amd") };
    pauses_are_put_right_by_the_kernel(spec, 2.0, |_| [(20.0, By::Any), (2.0, By::Pools), (0.5, By::Any)]);
}
