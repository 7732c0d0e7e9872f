//! Any bytes as a reply of chronyd.
#![no_main]

use drift_agent::os::chrony::codec::{read_is_reachable, read_reply, read_sources};
use drift_agent::os::chrony::{Request, Tracking};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, u32, u32)| {
    let (bytes, sequence, number) = input;
    for request in [Request::Tracking, Request::Sources, Request::ResetSources, Request::SourceData(number)] {
        assert!(!request.encode(sequence).is_empty());
        if let Ok(mut data) = read_reply(&bytes, request, sequence) {
            let _ = Tracking::read(&mut data);
            let _ = read_sources(&mut data);
            let _ = read_is_reachable(&mut data);
        }
    }
    // With a valid header, which random bytes seldom have.
    let header = [6, 2, 0, 0, 0, 33, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
    let reply = [&header[..], &sequence.to_be_bytes(), &[0; 8], &bytes].concat();
    let _ = read_reply(&reply, Request::Tracking, sequence).and_then(|mut data| Tracking::read(&mut data));
});
