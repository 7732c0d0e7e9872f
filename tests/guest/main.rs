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

use std::time::Duration;

use guest::scenario::Seen;

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
