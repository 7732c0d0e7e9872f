//! Beside systemd-timesyncd, which polls every 2048 s at last, and steps what is off by more than 0.4 s.

use crate::guest::scenario::GuestScenario;
use crate::guest::{Daemon, Spec};
use crate::{assert_calm_after_one_step, pause_and_step};

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn pauses_beside_timesyncd_are_corrected_by_the_kernel_once() {
    let spec = Spec { daemon: Daemon::Timesyncd, ..Spec::new("timesyncd") };
    let mut scenario = GuestScenario::new(spec, "--step-mode off");
    let [port, _] = scenario.pools.ports();
    scenario.guest.start_timesyncd(port);
    scenario.guest.settle_timesyncd();
    // Restarted, so that it finds the daemon.
    scenario.restart_agent("--step-mode auto");
    scenario.rtc_is_known();
    scenario.wait_for("timesyncd to be recognised", |now| {
        now.value("time_daemon_info{daemon=\"timesyncd\"}").filter(|value| *value > 0.0)
    });
    pause_and_step(&mut scenario, "kernel", "systemd-timesyncd, mode auto");
    // timesyncd has not stepped either.
    assert_calm_after_one_step(&scenario);
}
