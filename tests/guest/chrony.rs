//! Beside chrony.

use crate::guest::scenario::GuestScenario;
use crate::guest::{AMD, Daemon, INTEL, MAKESTEP, Spec};
use crate::support::wait_for;
use crate::{CLOSE, SECOND, assert_calm_after_one_step, assert_left_alone, is_about, pause_and_step};

/// chrony's rtcsync has the kernel write the hardware clock as soon as the time is known.
#[test]
#[ignore = "boots a virtual machine: make guest"]
fn rtc_writes_by_the_kernel_are_not_resumes() {
    for vendor in [INTEL, AMD] {
        let spec = Spec { daemon: Daemon::Chrony, vendor, ..Spec::new("rtcsync") };
        let mut scenario = GuestScenario::prepared(spec, |guest| {
            let _ = guest.leave_rtc_behind(3.0);
            "--step-mode off".to_owned()
        });
        scenario.rtc_is_known();
        let [port, _] = scenario.pools.ports();
        scenario.guest.start_chrony(port);
        scenario.guest.settle_chrony();
        scenario.wait_for("the write to be counted", |now| (now.signals("rtc-write") > 0).then_some(()));
        // By then it would have been found out to be no write.
        scenario.rtc_is_known();
        let now = scenario.metrics().unwrap();
        assert_eq!(now.signals("pause"), 0, "{}", scenario.guest.console.all());
    }
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn metrics_contradict_a_chrony_that_takes_a_wrong_clock_for_right() {
    let mut scenario = with_chrony("deceived", MAKESTEP);
    let since = scenario.guest.pause(20 * SECOND);
    let seen = scenario.detected(since);
    assert_left_alone(&seen, 20.0);
    let (ours, theirs) = scenario.wait_for("both offsets", |now| {
        Some((now.value("offset_seconds")?, now.value("daemon_offset_seconds{daemon=\"chrony\"}")?))
    });
    let tracking = scenario.guest.tracking();
    println!(
        "chrony alone, 20 s lost: the agent says {ours:+.3} s, chrony {theirs:+.6} s, {}: {seen}",
        tracking.leap
    );
    assert!(is_about(ours, seen.after), "{ours} s: {seen}");
    assert!(theirs.abs() < CLOSE, "{theirs} s");
    assert_eq!(tracking.leap, "Normal");
}

/// A guest whose clock chrony disciplines by this `makestep`.
fn with_chrony(name: &'static str, makestep: &'static str) -> GuestScenario {
    let spec = Spec { daemon: Daemon::Chrony, makestep, ..Spec::new(name) };
    let mut scenario = GuestScenario::new(spec, "--step-mode off");
    let [port, _] = scenario.pools.ports();
    scenario.guest.start_chrony(port);
    scenario.guest.settle_chrony();
    scenario
}

/// The same, with an agent in this mode that was restarted, so that it finds the daemon.
fn beside_chrony(name: &'static str, makestep: &'static str, mode: &str) -> GuestScenario {
    let mut scenario = with_chrony(name, makestep);
    scenario.restart_agent(&format!("--step-mode {mode}"));
    scenario
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn chrony_is_corrected_over_its_socket_and_agrees_with_the_agent_afterwards() {
    let mut scenario = beside_chrony("chrony", MAKESTEP, "auto");
    wait_for("rtcsync to have the RTC written", || scenario.guest.qemu.events("RTC_CHANGE").first().copied());
    let since = pause_and_step(&mut scenario, "kernel", "chrony with Debian's configuration, mode auto");
    assert_calm_after_one_step(&scenario);
    let (tracking, metrics) = (scenario.guest.tracking(), scenario.metrics().unwrap());
    let theirs = metrics.value("daemon_offset_seconds{daemon=\"chrony\"}").unwrap();
    let rewritten = scenario.guest.qemu.events("RTC_CHANGE").into_iter().filter(|at| *at >= since).count();
    println!(
        "chrony says {theirs:+.6} s ({}); the kernel has rewritten the RTC {rewritten} times",
        tracking.leap
    );
    assert!(theirs.abs() < CLOSE, "{theirs}");
    assert_eq!(tracking.leap, "Normal");
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn chrony_steps_the_clock_itself_in_mode_chrony() {
    let mut scenario = beside_chrony("by-chrony", MAKESTEP, "chrony");
    pause_and_step(&mut scenario, "chrony", "chrony with Debian's configuration, mode chrony");
}

/// chrony may step at any time itself: neither takes the other's step back, and its rule is the same afterwards, whoever has stepped.
#[test]
#[ignore = "boots a virtual machine: make guest"]
fn chrony_that_always_steps_and_the_agent_do_not_fight() {
    let mut scenario = beside_chrony("makestep", "1 -1", "auto");
    let steps = scenario.guest.steps_by_chrony();
    pause_and_step(&mut scenario, "kernel", "chrony with makestep 1 -1, mode auto");
    assert_calm_after_one_step(&scenario);
    assert_eq!(scenario.guest.steps_by_chrony(), steps, "the agent had stepped already");
    assert_rule_is_the_same(&mut scenario);

    scenario.restart_agent("--step-mode chrony");
    let steps = scenario.guest.steps_by_chrony();
    pause_and_step(&mut scenario, "chrony", "chrony with makestep 1 -1, mode chrony");
    assert_eq!(scenario.guest.steps_by_chrony(), steps + 1);
    assert_rule_is_the_same(&mut scenario);
}

/// Of `makestep 1 -1`: each offset over a second is stepped, however many were before, and a smaller one is slewed.
fn assert_rule_is_the_same(scenario: &mut GuestScenario) {
    let steps = [3.0, 3.0, 0.5].map(|behind| scenario.guest.steps_of_chrony_by(behind));
    assert_eq!(steps, [1, 1, 0], "{}", scenario.guest.run("cat /tmp/chronyd.log"));
}
