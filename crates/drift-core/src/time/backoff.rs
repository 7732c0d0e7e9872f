//! Rate limits: a bucket of tokens, and waits that grow with each error in a row.

use std::time::Duration;

use super::Mono;

/// Tokens in a full bucket.
const BUCKET_SIZE: u8 = 3;
/// Time until one more token is added.
pub(crate) const BUCKET_REFILL: Duration = Duration::from_secs(60);
/// The first wait after an error; doubled for each further one.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest wait after an error, before the random part.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A bucket of tokens: three at once, then one a minute.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: u8,
    refilled: Mono,
}

/// Waits that double with each error in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Bucket {
    /// A full bucket.
    pub const fn new(now: Mono) -> Self {
        Self { tokens: BUCKET_SIZE, refilled: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Mono) -> bool {
        while self.tokens < BUCKET_SIZE && now.since(self.refilled) >= BUCKET_REFILL {
            self.tokens += 1;
            self.refilled = self.refilled.plus(BUCKET_REFILL);
        }
        // A full bucket gains nothing: a burst after hours of quiet has three tokens, too.
        if self.tokens == BUCKET_SIZE {
            self.refilled = now;
        }
        let taken = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        taken
    }

    /// Puts a token back that was not used.
    pub fn put_back(&mut self) {
        self.tokens = self.tokens.saturating_add(1).min(BUCKET_SIZE);
    }
}

impl Backoff {
    /// How long to wait after one more error; at least as long as the server asked for (`asked`). `random` is
    /// in 0..1.
    pub fn wait(&mut self, asked: Option<Duration>, random: f64) -> Duration {
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(7)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        // Up to twice the wait, so that a fleet that lost its API server does not return at one instant.
        let spread = wait.mul_f64(1.0 + random);
        asked.map_or(spread, |asked| spread.max(asked))
    }
}
