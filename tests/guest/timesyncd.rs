//! Beside systemd-timesyncd, which polls every 2048 s at last, and steps what is off by more than 0.4 s.

use std::time::Instant;

use crate::guest::scenario::GuestScenario;
use crate::guest::{Daemon, Spec};
use crate::{CALM, CLOSE, SECOND, assert_put_right};

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
    let since = scenario.guest.pause(20 * SECOND);
    let seen = scenario.stepped(since);
    println!("systemd-timesyncd, stop 20 s, cont, mode auto: {seen}");
    assert_put_right(&seen, 20.0);
    scenario.wait_for("the step to be confirmed", |now| {
        (now.count("steps_total", &["method=\"kernel\"", "result=\"stepped\""]) == 1).then_some(())
    });

    let calm = Instant::now();
    std::thread::sleep(CALM);
    let worst = scenario.guest.truth.worst(calm);
    println!("{CALM:?} later: at most {worst:.4} s off in between");
    assert!(worst < CLOSE, "they fight: {worst} s off");
    let metrics = scenario.metrics().unwrap();
    let steps = ["stepped", "refused", "failed"].map(|result| metrics.steps(result));
    assert_eq!((steps, metrics.signals("clock-set")), ([1, 0, 0], 0), "timesyncd has not stepped either");
    assert_eq!(metrics.signals("pause"), 1);
    let ours = metrics.value("offset_seconds").unwrap();
    assert!(ours.abs() < CLOSE, "{ours} s");
}
