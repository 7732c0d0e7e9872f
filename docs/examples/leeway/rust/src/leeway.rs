//! The leeway that drift-agent recommends on this node, in seconds: asked for at most once a minute.

use std::time::{Duration, Instant};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Clock {
    recommended_leeway_seconds: u64,
}

pub struct Leeway {
    seconds: u64,
    ask_again: Option<Instant>,
}

impl Leeway {
    pub const fn new() -> Self {
        // Until the first answer.
        Self { seconds: 5, ask_again: None }
    }

    pub fn recommended(&mut self) -> u64 {
        if self.ask_again.is_none_or(|at| Instant::now() >= at) {
            self.ask_again = Some(Instant::now() + Duration::from_secs(60));
            // Without an answer the last one stands.
            if let Some(seconds) = ask().ok().filter(|seconds| *seconds <= 120) {
                self.seconds = seconds;
            }
        }
        self.seconds
    }
}

fn ask() -> Result<u64, ureq::Error> {
    let url = std::env::var("CLOCK_URL");
    let url = url.as_deref().unwrap_or("http://drift-agent.drift-agent:10123/v1/clock");
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(1)))
        // 503 means that the clock is not measured: the answer still has a leeway.
        .http_status_as_error(false);
    let mut answer = config.build().new_agent().get(url).call()?;
    Ok(answer.body_mut().read_json::<Clock>()?.recommended_leeway_seconds)
}
