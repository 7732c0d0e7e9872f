//! Any bytes as a reply of chronyd, and any number in its protocol.
#![no_main]

use std::time::Duration;

use drift_agent::os::chrony::codec::{read_reply, read_sources};
use drift_agent::os::chrony::{Makestep, Request, Tracking, parse_makestep};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, u32, u64, i32, String)| {
    let (bytes, sequence, nanos, limit, text) = input;
    let rule = Makestep { threshold: Duration::from_nanos(nanos), limit };
    for request in [Request::Tracking, Request::Sources, Request::ResetSources, Request::ModifyMakeStep(rule)]
    {
        assert!(!request.encode(sequence).is_empty());
        if let Ok(mut data) = read_reply(&bytes, request, sequence) {
            let _ = Tracking::read(&mut data).map(|tracking| rule.in_force(&tracking));
            let _ = read_sources(&mut data);
        }
    }
    // With a valid header, which random bytes seldom have.
    let header = [6, 2, 0, 0, 0, 33, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
    let reply = [&header[..], &sequence.to_be_bytes(), &[0; 8], &bytes].concat();
    let _ = read_reply(&reply, Request::Tracking, sequence).and_then(|mut data| Tracking::read(&mut data));
    let _ = parse_makestep(&text);
});
