//! Rates that are bounded: a bucket of tokens, and waits that grow with each error in a row.

use std::time::Duration;

use super::Mono;

/// Changes that may be written one after the other.
const BUCKET: u8 = 3;
/// How long until one more may.
pub(crate) const REFILL: Duration = Duration::from_secs(60);
/// The first wait after an error; doubled for each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after an error.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A bucket of tokens: a few at once, then one a minute.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: u8,
    refilled: Mono,
}

/// Waits longer after each error in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Bucket {
    /// A full bucket.
    pub const fn new(now: Mono) -> Self {
        Self { tokens: BUCKET, refilled: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Mono) -> bool {
        while self.tokens < BUCKET && now.since(self.refilled) >= REFILL {
            self.tokens += 1;
            self.refilled = self.refilled.plus(REFILL);
        }
        // A full bucket does not save up: hours of quiet buy no crowd.
        if self.tokens == BUCKET {
            self.refilled = now;
        }
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }

    /// Puts a token back that bought nothing.
    pub fn put_back(&mut self) {
        self.tokens = self.tokens.saturating_add(1).min(BUCKET);
    }
}

impl Backoff {
    /// How long to wait after one more error; at least as long as the server `asked` for. `random` in 0..1 spreads a fleet.
    pub fn wait(&mut self, asked: Option<Duration>, random: f64) -> Duration {
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(7)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        // Up to twice the wait: a fleet that lost its API server must not come back as one.
        let spread = wait.mul_f64(1.0 + random);
        asked.map_or(spread, |asked| spread.max(asked))
    }
}
