//! Any bytes as an NTP answer: read by the agent and as rsntp reads them, and validated.
#![no_main]

use std::time::Duration;

use drift_core::ntp::packet::{NtpTimestamp, read_answer};
use drift_core::ntp::sample::{Limits, Root, Sample};
use drift_core::time::{Mono, Reading, Wall};
use drift_agent::sim::client;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, u64, i64, i64)| {
    let (bytes, nonce, wall, raw) = input;
    let limits = Limits { max_round_trip: Duration::from_secs(1), max_root_distance: Duration::from_secs(1) };
    let reading = Reading { wall: Wall::from_nanos(wall), raw: Mono::from_nanos(raw), suspended: Duration::ZERO };
    let root = read_answer(&bytes, NtpTimestamp(nonce)).and_then(|h| Root::from_header(&h, reading.raw, limits));
    let root = root.unwrap_or(Root { at: reading.raw, distance: Duration::ZERO });
    if let Ok(exchange) = client::read_answer(&bytes, &client::ask(reading.wall), reading, reading) {
        let _ = Sample::validate(&exchange, root, limits);
    }
});
