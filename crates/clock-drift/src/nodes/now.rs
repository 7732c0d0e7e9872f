//! The present from which ages are counted, and ages.

use std::time::Duration;

use drift_core::time::{Measurement, NANOS_PER_SEC, Span, Wall};

/// Seconds. Less than this into the future is rounding: the times that are compared are cut off to whole
/// seconds.
const FUTURE_TOLERANCE: i64 = 2;

/// The present. This machine's clock may be the wrong one, so it is used only if the API server sends no
/// time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Now {
    /// The present.
    pub at: Wall,
    /// By which clock.
    pub by: Source,
    /// The API server's time minus this machine's; `None` when the API server sent no `Date`.
    pub machine: Option<Measurement>,
}

/// The clock from which the present is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The `Date` header of the API server's response, plus the time since then: correct to a second if its
    /// clock is.
    ApiServer,
    /// This machine's, because the API server sent no `Date`.
    ThisMachine,
}

/// Whole seconds since a time, rounded down; negative when the time lies in the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(pub i64);

impl Source {
    /// The name in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::ApiServer => "api-server",
            Self::ThisMachine => "this-machine",
        }
    }
}

impl Now {
    /// The age of `then`.
    pub fn since(&self, then: Wall) -> Age {
        Age(self.at.minus(then).as_nanos().div_euclid(NANOS_PER_SEC))
    }
}

impl Age {
    /// Is it so far in the future that a clock is wrong, or the time invented?
    pub const fn is_future(self) -> bool {
        self.0 <= -FUTURE_TOLERANCE
    }

    /// In seconds, at least 0.
    pub fn as_secs(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }

    /// `42 s`, `3 min`, `3 h 20 min`; `in 5 s` for the future.
    pub fn in_words(self) -> String {
        let span = Span::age(Duration::from_secs(self.0.unsigned_abs()));
        match self.0 {
            0.. => span.to_string(),
            _ if self.is_future() => format!("in {span}"),
            _ => Span(Duration::ZERO).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ages_are_written_as_all_spans_and_the_future_is_marked() {
        for (secs, words) in [
            (0, "0 s"),
            (119, "119 s"),
            (185, "3 min"),
            (12_000, "3 h 20 min"),
            (-1, "0 s"),
            (-2, "in 2 s"),
            (-200, "in 3 min"),
        ] {
            assert_eq!(Age(secs).in_words(), words);
        }
    }

    #[test]
    fn ages_are_rounded_down() {
        let now = Now { at: Wall::from_nanos(10_900_000_000), by: Source::ThisMachine, machine: None };
        assert_eq!(now.since(Wall::from_secs(9)), Age(1));
        assert_eq!(now.since(Wall::from_secs(11)), Age(-1));
    }

    proptest! {
        #[test]
        fn ages_never_panic_for_any_time(now: i64, then: i64) {
            let now = Now { at: Wall::from_nanos(now), by: Source::ApiServer, machine: None };
            let age = now.since(Wall::from_nanos(then));
            let _ = (age.in_words(), age.as_secs(), Age(then).in_words());
        }
    }
}
