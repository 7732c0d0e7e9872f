//! The integration tests, as one crate: they link once, and share their support code. `cargo test --test it cli::` runs one
//! module. What takes long or needs virtual machines is apart, in `tests/guest` and `tests/alerts.rs`.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test has a real clock, and panics to fail"
)]

mod check;
mod chrony;
mod chrony_commands;
mod chrony_step;
mod cli;
mod client;
mod dns;
mod help;
mod http;
mod jwt;
mod krew;
mod kubernetes;
mod kubernetes_faults;
mod kubernetes_versions;
mod last_resort;
mod log;
mod measure;
mod monitoring;
mod nodes;
mod page;
mod rejected_samples;
mod resume;
mod rtc_worlds;
mod scripted_runs;
mod signals;
mod simulated_alerts;
mod simulation;
mod stepping;
mod steps;
mod support;
