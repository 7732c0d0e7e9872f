//! Any bytes as an NTP answer: read, validated, and compared with other samples.
#![no_main]

use std::time::Duration;

use drift_core::ntp::packet::NtpTimestamp;
use drift_core::ntp::sample::{Exchange, Limits};
use drift_core::ntp::window::Window;
use drift_core::time::rate::Rate;
use drift_core::time::{Mono, Reading, Wall};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<Vec<u8>>, u64, i64, i64)| {
    let (answers, nonce, wall, raw) = input;
    let limits = Limits { max_round_trip: Duration::from_secs(1), max_root_distance: Duration::from_secs(1), root_distance: None };
    let sent = Reading { wall: Wall::from_nanos(wall), raw: Mono::from_nanos(raw), suspended: Duration::ZERO };
    let received = Reading { raw: sent.raw.plus(Duration::from_millis(20)), ..sent };
    let mut window = Window::default();
    for bytes in answers {
        let exchange = Exchange::complete(NtpTimestamp(nonce), sent, received, &bytes);
        if let Ok(sample) = exchange.and_then(|exchange| exchange.sample(limits)) {
            window.push(sample, Rate::UNKNOWN);
        }
    }
    let _ = window.interval(received.raw, Rate::UNKNOWN, Duration::from_secs(600));
});
