//! The present from which ages are counted, and ages as kubectl writes them.

use drift_core::time::{Measurement, NANOS_PER_SEC, Wall};

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

    /// As kubectl writes ages: `42s`, `3m5s`, `42m`, `3h20m`, `3d4h`, `42d`; `in 5s` for the future.
    pub fn in_words(self) -> String {
        if self.is_future() {
            return format!("in {}", span(self.0.unsigned_abs()));
        }
        span(self.as_secs())
    }
}

/// At most two units; the smaller one only while it is significant (`HumanDuration` of k8s.io/apimachinery).
fn span(secs: u64) -> String {
    let (minutes, hours, days) = (secs / 60, secs / 3_600, secs / 86_400);
    let two = |large: u64, unit: char, small: u64, part: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{part}"),
    };
    match () {
        () if secs < 120 => format!("{secs}s"),
        () if minutes < 10 => two(minutes, 'm', secs % 60, 's'),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, 'd', hours % 24, 'h'),
        () => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ages_match_those_of_kubectl() {
        // From k8s.io/apimachinery/pkg/util/duration, HumanDuration.
        for (secs, words) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (185, "3m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (273_600, "3d4h"),
            (691_200, "8d"),
            (34_560_000, "400d"),
        ] {
            assert_eq!(Age(secs).in_words(), words);
        }
    }

    #[test]
    fn ages_up_to_a_second_into_the_future_are_zero() {
        assert_eq!(Age(-1).in_words(), "0s");
        assert_eq!(Age(-2).in_words(), "in 2s");
        assert_eq!(Age(-200).in_words(), "in 3m20s");
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
