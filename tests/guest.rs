//! In virtual machines, whose clocks may be paused, restored and stepped: what the agent notices, and what it does about it.
//! `make guest` runs them; a plain `cargo test` does not.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test has a real clock, and panics to fail"
)]

#[path = "support/guest/mod.rs"]
mod guest;
mod support;

use std::time::Duration;

use guest::Spec;
use guest::scene::Scene;

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "boots a virtual machine: make guest"]
fn a_suspend_to_ram_is_noticed() {
    let mut scene = Scene::new(Spec::new("suspend"), "");
    let since = scene.guest.suspend(12 * SECOND);
    let seen = scene.detected(since);
    println!("suspend to RAM, 12 s: {seen}");
    // The kernel adds the sleep at the grain of the RTC.
    assert!(seen.before.abs() < 1.1, "{seen}");
    let after =
        scene.wait_for("a verdict", |now| (!now.is_state("disrupted")).then(|| now.value("offset_seconds")));
    println!("{after:?}");
    assert_eq!(scene.metrics().unwrap().signals("suspend"), 1);
}
