//! Machines that are restored from a file or a snapshot, or suspended to RAM.

use crate::guest::Spec;
use crate::guest::scenario::GuestScenario;
use crate::{SECOND, is_about};

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
