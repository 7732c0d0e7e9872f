//! Any text as a configuration file.
#![no_main]

use drift_agent::config::raw::RawConfig;
use drift_agent::config::{Settings, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|yaml: &str| {
    if let Ok(file) = parse(yaml) {
        let _ = Settings::new(RawConfig::default(), file);
    }
});
