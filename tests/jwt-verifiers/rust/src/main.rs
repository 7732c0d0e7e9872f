//! Tries jsonwebtoken with the tokens of `drift-agent jwt cases`; prints one JSON line.

use std::panic::catch_unwind;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Map, Value, json};

/// `accept`, `reject` for an error, `fail` for a panic.
fn outcome(token: &str, key: &DecodingKey, validation: &Validation) -> &'static str {
    let decoded = catch_unwind(|| decode::<Map<String, Value>>(token, key, validation).is_ok());
    decoded.map_or("fail", |taken| if taken { "accept" } else { "reject" })
}

fn version() -> &'static str {
    let manifest = include_str!("../Cargo.toml");
    manifest.split("jsonwebtoken = { version = \"=").nth(1).and_then(|rest| rest.split('"').next()).expect("pinned")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn main() {
    let agent = std::env::args_os().nth(1).expect("the path of drift-agent");
    loop {
        let started = now();
        let output = Command::new(&agent).args(["jwt", "cases", "--output", "json"]).output().expect("it runs");
        let issued: Value = serde_json::from_slice(&output.stdout).expect("its JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let key = data_encoding::BASE64URL_NOPAD.decode(text(&issued["key"]).as_bytes()).expect("base64url");
        let key = DecodingKey::from_secret(&key);
        let by_default = Validation::new(Algorithm::HS256);
        let mut with_leeway = by_default.clone();
        with_leeway.leeway = issued["leewaySeconds"].as_u64().expect("a number");
        let cases = issued["cases"].as_array().expect("a list");
        let found: Map<String, Value> = cases
            .iter()
            .map(|case| {
                let token = text(&case["token"]);
                (text(&case["id"]), json!([&by_default, &with_leeway].map(|v| outcome(&token, &key, v))))
            })
            .collect();
        // Only what was tried in the second it was signed for counts: half of the cases are about that second.
        if now() == started {
            println!("{}", json!({ "name": format!("jsonwebtoken {} (Rust)", version()), "found": found }));
            return;
        }
    }
}
