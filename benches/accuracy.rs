//! How accurate the published offset and its bound are, beside chronyd and a client that measures once per poll, on the same paths.
//! `make bench-accuracy` runs it and writes the tables in benches/ACCURACY.md.
//!
//! `DRIFT_AGENT_BENCH_BINARY`: another agent than the release build. `DRIFT_AGENT_BENCH_SECONDS`: how long it runs; a shorter run than
//! the default prints its tables and leaves the file as it is.
#![allow(clippy::disallowed_methods, reason = "it measures time, and reads its two variables")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that cannot go on ends; clippy knows only tests by themselves"
)]

#[path = "accuracy/clients.rs"]
mod clients;
#[path = "accuracy/document.rs"]
mod document;
#[path = "accuracy/figures.rs"]
mod figures;
#[path = "accuracy/namespace.rs"]
mod namespace;
#[path = "accuracy/path.rs"]
mod path;
#[path = "accuracy/scenario.rs"]
mod scenario;
#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use path::Wheel;
use scenario::{SCENARIOS, World};
use support::Folder;

/// The poll interval of every client: `--interval 4s`, and `minpoll 2 maxpoll 2` for chronyd.
const INTERVAL: Duration = Duration::from_secs(4);
/// How long every row is measured; all of them at once.
const LENGTH: Duration = Duration::from_secs(720);
/// Runs of a row, each with its own random numbers.
const SEEDS: u64 = 3;
const WORLDS: usize = SCENARIOS.len() * SEEDS as usize;

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    namespace::enter();
    let agent = std::env::var_os("DRIFT_AGENT_BENCH_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_drift-agent")), PathBuf::from);
    let length = std::env::var("DRIFT_AGENT_BENCH_SECONDS").map_or(LENGTH, |seconds| {
        Duration::from_secs(seconds.parse().expect("DRIFT_AGENT_BENCH_SECONDS: a number of seconds"))
    });
    let folder = Folder::new("accuracy");
    namespace::prepare(&folder, WORLDS);

    let wheel = Wheel::start();
    let started = Instant::now();
    let mut worlds = Vec::new();
    for (number, (seed, scenario)) in
        (0..SEEDS).flat_map(|seed| SCENARIOS.iter().map(move |s| (seed, s))).enumerate()
    {
        worlds.push(World::start(number, scenario, seed, &agent, &folder, &wheel, length));
        // Their polls are spread over an interval, or all of them would wait for the same two cores.
        std::thread::sleep(INTERVAL / WORLDS as u32);
    }
    // All have ended before a panic of one goes on here: what the others started does not stay behind.
    let ended: Vec<_> = worlds.into_iter().map(World::finish).collect();
    let runs: Vec<_> = ended.into_iter().map(|run| run.expect("no panic in a run")).collect();
    let document = document::document(&runs, &agent, length, &wheel.lateness());
    println!("{document}");
    eprintln!("{:.0} s in all", started.elapsed().as_secs_f64());
    if length >= LENGTH {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ACCURACY.md");
        std::fs::write(&path, document).expect("benches/ACCURACY.md");
    }
}
