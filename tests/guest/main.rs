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

#[path = "../it/support/guest/mod.rs"]
#[allow(dead_code, reason = "shared with a bench")]
mod guest;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod support;

mod chrony;
mod network;
mod no_rtc;
mod pauses;
mod refusals;
mod repeated;
mod requests;
mod restores;
mod timesyncd;

use std::time::{Duration, Instant};

use guest::scenario::{GuestScenario, Seen};

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

/// Pauses the guest for 20 s, and waits until the agent has stepped it by this method and confirmed the step. Returns when the
/// guest went on.
fn pause_and_step(scenario: &mut GuestScenario, method: &str, what: &str) -> Instant {
    let since = scenario.guest.pause(20 * SECOND);
    let seen = scenario.stepped(since);
    println!("{what}, stop 20 s, cont: {seen}");
    assert_put_right(&seen, 20.0);
    let labels = [format!("method=\"{method}\""), "result=\"stepped\"".to_owned()];
    scenario.wait_for("the step to be confirmed", |now| {
        (now.count("steps_total", &labels.each_ref().map(String::as_str)) == 1).then_some(())
    });
    since
}

/// A daemon and the agent leave the clock alone after one step.
fn assert_calm_after_one_step(scenario: &GuestScenario) {
    let calm = Instant::now();
    std::thread::sleep(CALM);
    let worst = scenario.guest.truth.worst(calm);
    println!("{CALM:?} later: at most {worst:.4} s off in between");
    assert!(worst < CLOSE, "they fight: {worst} s off");
    let metrics = scenario.metrics().unwrap();
    let ours = metrics.value("offset_seconds").unwrap();
    assert!(ours.abs() < CLOSE, "{ours} s");
    let steps = ["stepped", "refused", "failed"].map(|result| metrics.steps(result));
    assert_eq!((steps, metrics.signals("clock-set"), metrics.signals("pause")), ([1, 0, 0], 0, 1));
}
