//! In virtual machines, whose clocks may be paused, restored and stepped: what the agent notices, and what it does about it.
//! `make guest` runs them, four at a time, since they mostly wait; a plain `cargo test` does not. Figures are printed, and asserted only where they are
//! states; `make bench-resume` measures them.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test has a real clock, and panics to fail"
)]

#[path = "it/support/guest/mod.rs"]
#[allow(dead_code, reason = "shared with a bench")]
mod guest;
#[path = "it/support/mod.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod support;

use std::time::{Duration, Instant};

use drift_agent::sim::behaviour::Behaviour;
use drift_core::time::Offset;
use serde_json::Value;

use guest::scenario::{GuestScenario, Seen};
use guest::{AMD, Daemon, HOST, INTEL, Spec};
use support::cluster::Cluster;
use support::test_node::{TestNode, annotation};
use support::wait_for;

const SECOND: Duration = Duration::from_secs(1);
/// A step leaves less than this, in seconds, and a clock that is left alone stays as near to where it was.
const CLOSE: f64 = 0.03;
/// How long chrony and the agent are watched after a step.
const CALM: Duration = Duration::from_secs(180);

fn is_about(value: f64, wanted: f64) -> bool {
    (value - wanted).abs() < CLOSE
}

/// The guest has lost about so many seconds, and no process has corrected the clock.
fn assert_left_alone(seen: &Seen, lost: f64) {
    assert!((seen.before - lost).abs() < 0.5, "{seen}");
    assert!(is_about(seen.after, seen.before), "{seen}");
    assert_eq!(seen.stepped, None);
}

/// The guest has lost about so many seconds, and was given them back: sometimes before the host's first look.
fn assert_put_right(seen: &Seen, lost: f64) {
    assert!((seen.before - lost).abs() < 0.5 || seen.was_stepped_unseen(), "{seen}");
    assert!(is_about(seen.after, 0.0), "{seen}");
}

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
fn saved_machines_restored_in_a_new_process_are_corrected() {
    let mut scenario = GuestScenario::new(Spec::new("restore"), "--step-mode kernel");
    let since = scenario.guest.save_and_restore(8 * SECOND);
    let seen = scenario.stepped(since);
    println!("saved for 8 s, restored in a new QEMU: {seen}");
    assert!(seen.before > 8.0 || seen.was_stepped_unseen(), "{seen}");
    assert!(is_about(seen.after, 0.0), "{seen}");
    scenario.wait_for("the step to be confirmed", |now| (now.steps("stepped") == 1).then_some(()));
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn the_vmclock_signal_reports_a_restore_before_the_rtc() {
    let mut scenario = GuestScenario::new(Spec::with_vmclock("vmclock"), "--step-mode kernel");
    assert_eq!(scenario.metrics().unwrap().value("resume_signal_available{signal=\"vmclock\"}"), Some(1.0));
    let since = scenario.guest.save_and_restore(8 * SECOND);
    let seen = scenario.stepped(since);
    println!("saved for 8 s, restored, with a vmclock: {seen}");
    scenario.guest.console.wait_for(since, &["disruption detected", "class=\"pause\" signal=\"vmclock\""]);
    assert!(seen.before > 8.0 || seen.was_stepped_unseen(), "{seen}");
    assert!(is_about(seen.after, 0.0), "{seen}");
    scenario.wait_for("the step to be confirmed", |now| (now.steps("stepped") == 1).then_some(()));
    assert_eq!(scenario.metrics().unwrap().signals("pause"), 1, "the RTC reports the same restore");
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn machines_reverted_to_a_snapshot_are_corrected() {
    let spec = Spec { kernel_options: "clocksource=hpet", ..Spec::new("loadvm") };
    let mut scenario = GuestScenario::new(spec, "--step-mode kernel");
    assert_eq!(scenario.guest.clock_source(), "hpet");
    let since = scenario.guest.snapshot_and_load(12 * SECOND);
    let seen = scenario.stepped(since);
    println!("loadvm 12 s after savevm: {seen}");
    assert!(seen.before > 12.0 || seen.was_stepped_unseen(), "{seen}");
    assert!(is_about(seen.after, 0.0), "{seen}");
    scenario.wait_for("the step to be confirmed", |now| (now.steps("stepped") == 1).then_some(()));
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn suspends_to_ram_are_corrected() {
    let mut scenario = GuestScenario::new(Spec::new("suspend"), "--step-mode kernel --step-min-offset 10ms");
    let since = scenario.guest.suspend(12 * SECOND);
    let seen = scenario.stepped(since);
    println!("suspended to RAM for 12 s: {seen}");
    // The kernel adds the sleep itself, at the grain of the RTC, which it reads twice.
    assert!(seen.before.abs() < 2.0, "{seen}");
    scenario
        .wait_for("the end of it", |now| (now.steps("stepped") + now.steps("not-needed") == 1).then_some(()));
    assert!(is_about(scenario.guest.truth.now().offset, 0.0), "{seen}");
    assert_eq!(scenario.metrics().unwrap().signals("suspend"), 1);
}

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
    let (seen, why) = scenario.refused(since);
    println!("stop 5 s, cont, maxOffset 2 s: {seen}");
    assert!(why.contains("over step.maxOffset"), "{why}");
    assert_left_alone(&seen, 5.0);
    scenario.guest.console.wait_for(since, &["ClockStepRefused"]);
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn a_pool_10_s_off_during_a_resume_prevents_the_step() {
    let mut scenario =
        GuestScenario::with_pools(Spec::new("falseticker"), [false, true], "--step-mode kernel");
    // By it the clock is 5 s ahead after the pause, and by the other one 5 s behind.
    scenario.pools.behave(Behaviour::Offset(Offset::from_nanos(-10_000_000_000)));
    let since = scenario.guest.pause(5 * SECOND);
    let (seen, why) = scenario.refused(since);
    println!("stop 5 s, cont, one pool 10 s off: {seen}");
    assert!(why.contains("the servers contradict each other"), "{why}");
    assert_left_alone(&seen, 5.0);
    scenario.guest.console.wait_for(since, &["ClockStepRefused"]);
    scenario.wait_for("a verdict", |now| now.is_state("disagree").then_some(()));
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn a_resume_without_any_pool_is_not_stepped() {
    // With a short interval, since a network that is not back yet is waited for two intervals long.
    let arguments = "--step-mode kernel --interval 4s --stale-after 20s";
    let mut scenario = GuestScenario::with_pools(Spec::new("dead"), [true, true], arguments);
    scenario.pools.behave(Behaviour::Silent);
    let since = scenario.guest.pause(5 * SECOND);
    let (seen, why) = scenario.refused(since);
    println!("stop 5 s, cont, both pools dead: {seen}");
    assert!(why.contains("no measurement since the trigger"), "{why}");
    assert_left_alone(&seen, 5.0);
    scenario.guest.console.wait_for(since, &["ClockStepRefused"]);
    let metrics = scenario.metrics().unwrap();
    assert_eq!(metrics.value("offset_seconds"), None, "what was known before the pause is void");
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn metrics_contradict_a_chrony_that_takes_a_wrong_clock_for_right() {
    let mut scenario =
        GuestScenario::new(Spec { daemon: Daemon::Chrony, ..Spec::new("deceived") }, "--step-mode off");
    let [port, _] = scenario.pools.ports();
    scenario.guest.start_chrony(port);
    scenario.guest.settle_chrony();
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

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn chrony_is_corrected_over_its_socket_and_agrees_with_the_agent_afterwards() {
    let mut scenario =
        GuestScenario::new(Spec { daemon: Daemon::Chrony, ..Spec::new("chrony") }, "--step-mode off");
    let [port, _] = scenario.pools.ports();
    scenario.guest.start_chrony(port);
    scenario.guest.settle_chrony();
    wait_for("rtcsync to have the RTC written", || scenario.guest.qemu.events("RTC_CHANGE").first().copied());
    // Restarted, so that it finds the daemon.
    scenario.restart_agent("--step-mode auto");
    let since = scenario.guest.pause(20 * SECOND);
    let seen = scenario.stepped(since);
    println!("chrony with Debian's configuration, stop 20 s, cont, mode auto: {seen}");
    assert_put_right(&seen, 20.0);
    scenario.wait_for("the step to be confirmed", |now| {
        (now.count("steps_total", &["method=\"kernel\"", "result=\"stepped\""]) == 1).then_some(())
    });

    let calm = Instant::now();
    std::thread::sleep(CALM);
    let readings = scenario.guest.truth.since(calm);
    let worst = readings.iter().map(|r| r.offset.abs() - r.bound).fold(0.0, f64::max);
    let (tracking, metrics) = (scenario.guest.tracking(), scenario.metrics().unwrap());
    let ours = metrics.value("offset_seconds").unwrap();
    let theirs = metrics.value("daemon_offset_seconds{daemon=\"chrony\"}").unwrap();
    let rewritten = scenario.guest.qemu.events("RTC_CHANGE").into_iter().filter(|at| *at >= since).count();
    println!(
        "{CALM:?} later: at most {worst:.4} s off in between; the agent says {ours:+.4} s, chrony {theirs:+.6} s ({}); the \
         kernel has rewritten the RTC {rewritten} times",
        tracking.leap
    );
    assert!(worst < CLOSE, "they fight: {worst} s off");
    assert!(ours.abs() < CLOSE && theirs.abs() < CLOSE, "{ours} and {theirs}");
    assert_eq!(tracking.leap, "Normal");
    assert_eq!(metrics.signals("pause"), 1, "rtcsync is no second resume");
    let steps = ["stepped", "refused", "failed"].map(|result| metrics.steps(result));
    assert_eq!((steps, metrics.signals("clock-set")), ([1, 0, 0], 0));
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn chrony_steps_the_clock_itself_in_mode_chrony() {
    let mut scenario =
        GuestScenario::new(Spec { daemon: Daemon::Chrony, ..Spec::new("by-chrony") }, "--step-mode off");
    let [port, _] = scenario.pools.ports();
    scenario.guest.start_chrony(port);
    scenario.guest.settle_chrony();
    scenario.restart_agent("--step-mode chrony");
    let since = scenario.guest.pause(20 * SECOND);
    let seen = scenario.stepped(since);
    println!("chrony with Debian's configuration, stop 20 s, cont, mode chrony: {seen}");
    assert_put_right(&seen, 20.0);
    scenario.wait_for("the step to be confirmed", |now| {
        (now.count("steps_total", &["method=\"chrony\"", "result=\"stepped\""]) == 1).then_some(())
    });
}

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn step_requests_by_annotation_are_carried_out_through_a_real_api_server() {
    let node = TestNode::new(Cluster::shared(), "guest", 0);
    node.allow_watching();
    let text = std::fs::read_to_string(&node.kubeconfig).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let cluster = &mut config["clusters"][0]["cluster"];
    let authority = std::fs::read_to_string(cluster["certificate-authority"].as_str().unwrap()).unwrap();
    cluster["server"] = cluster["server"].as_str().unwrap().replace("127.0.0.1", HOST).into();
    cluster["certificate-authority"] = "/tmp/authority".into();
    // As which the host's loopback is not in the server's certificate.
    cluster["tls-server-name"] = "kubernetes".into();

    let mut scenario = GuestScenario::prepared(Spec::new("request"), |guest| {
        guest.write("/tmp/authority", &authority);
        guest.write("/tmp/kubeconfig", &config.to_string());
        "--step-mode kernel --step-on-request true --kubernetes on --node-name guest".to_owned()
    });
    node.wait_for_written("in-sync");
    scenario.guest.step(3.0);
    node.wait_for_written("drifting");
    assert_eq!(scenario.metrics().unwrap().count("steps_total", &[]), 0, "no step was requested");

    let asked = Instant::now();
    node.cluster.kubectl(&["annotate", "node", "guest", "drift-agent.io/step-request=window-7"]);
    let truth = scenario.guest.truth.wait_for("the clock to be right", asked, |offset| offset.abs() < 0.1);
    println!(
        "3 s ahead, step-request: right {:.2} s after kubectl was called",
        (truth.at - asked).as_secs_f64()
    );
    let written = node.wait_for_node("an answer", |n| annotation(n, "step-result").is_some());
    let answer = annotation(&written, "step-result").unwrap();
    assert!(answer.starts_with("window-7: The clock was 3.00 s ahead and was stepped by kernel"), "{answer}");
    assert!(is_about(scenario.guest.truth.now().offset, 0.0));
    node.wait_for_event("ClockStepped");
    node.wait_for_written("in-sync");

    // The same request again is the same request.
    scenario.guest.step(3.0);
    node.wait_for_written("drifting");
    node.cluster.kubectl(&[
        "annotate",
        "--overwrite",
        "node",
        "guest",
        "drift-agent.io/step-request=window-7",
    ]);
    let count = wait_for("another measurement", || scenario.metrics().map(|m| m.count("steps_total", &[])));
    assert_eq!(count, 1);
    assert!(is_about(scenario.guest.truth.now().offset, -3.0));
}
