//! Any bytes as a token or as its claims, at any time: the findings are text of limited length, without
//! control characters.
#![no_main]

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use drift_core::time::{Bound, Wall};
use clock_drift::jwt::findings::Verdict;
use clock_drift::jwt::judge::judge;
use clock_drift::jwt::question::{Kind, Now, Question, Truth};
use clock_drift::jwt::token::{Token, looks_like_one};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i64, i64, i64, u64, u8, &[u8])| {
    let (clock, at, bound, leeway, choice, bytes) = input;
    let truth = Truth { at: Wall::from_nanos(at), bound: Bound::from_nanos(bound) };
    let now = match choice % 3 {
        0 => Now::Given(Wall::from_nanos(clock)),
        1 => Now::Here { clock: Wall::from_nanos(clock), truth: None },
        _ => Now::Here { clock: Wall::from_nanos(clock), truth: Some(truth) },
    };
    let kind = [Kind::Access, Kind::Id, Kind::Refresh][usize::from(choice / 3) % 3];
    let question = Question { now, leeway: Duration::from_nanos(leeway), kind, threshold: Duration::from_millis(100) };
    let _ = looks_like_one(&String::from_utf8_lossy(bytes));
    let around = format!("eyJhbGciOiJIUzI1NiJ9.{}.c2ln", BASE64URL_NOPAD.encode(bytes));
    for text in [bytes, around.as_bytes()] {
        let Ok(token) = Token::read(text) else { continue };
        let findings = judge(&token, &question);
        let _ = Verdict::of(&findings);
        assert!(findings.iter().all(|f| f.message.len() < 2_000 && f.message.chars().all(|c| !c.is_control())));
    }
});
