//! chrony's rule for stepping the clock by itself.

use std::fmt;
use std::time::Duration;

use super::tracking::Tracking;

/// chrony's `makestep` directive: a clock update that finds the clock off by more than `threshold` steps it
/// instead of slewing, as long as `limit` lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Makestep {
    /// The offset above which chrony steps.
    pub threshold: Duration,
    /// The number of clock updates for which it holds. Every update counts one down, whether it steps or not;
    /// 0 is never, and below 0 is without end.
    pub limit: i32,
}

impl Makestep {
    /// chrony never steps by itself: the rule without the directive.
    pub const NEVER: Self = Self { threshold: Duration::ZERO, limit: 0 };

    /// The rule in force in a chronyd that was started with this directive: what to restore after a change.
    ///
    /// chronyd has no command that reports its rule, so it is derived from chrony.conf and `tracking`. A
    /// change by the agent leaves a count of 0 behind:
    /// - With `1 3` (Debian) that is right once chronyd has updated the clock three times, which takes
    ///   minutes after its start: it steps no more. Sending `1 3` again would allow three further steps. So a
    ///   limit above 0 becomes 0, except in a chronyd that has never updated the clock, whose count has not
    ///   begun. A chronyd that has made one or two updates loses the rest; it would have stepped at the
    ///   first.
    /// - With `1 -1` chronyd may step without end. That is sent again.
    #[must_use]
    pub fn in_force(self, tracking: &Tracking) -> Self {
        let limit = if tracking.never_updated() { self.limit } else { self.limit.min(0) };
        Self { limit, ..self }
    }
}

/// As in chronyc and chrony.conf: `0.1 1`.
impl fmt::Display for Makestep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.threshold.as_secs_f64(), self.limit)
    }
}

/// Reads the arguments of `makestep` in chrony.conf: seconds and a count, `1 3`. The error is what was
/// expected instead.
pub fn parse_makestep(text: &str) -> Result<Makestep, String> {
    let wanted = || "two numbers as after \"makestep\" in chrony.conf: seconds, and the number of updates (-1: without end), like \"1 3\"";
    let mut words = text.split_whitespace();
    let (Some(threshold), Some(limit), None) = (words.next(), words.next(), words.next()) else {
        return Err(wanted().to_owned());
    };
    let seconds: f64 = threshold.parse().map_err(|_| wanted().to_owned())?;
    let threshold = Duration::try_from_secs_f64(seconds)
        .map_err(|_| format!("a threshold of 0 or more seconds, not {threshold}"))?;
    let limit = limit.parse().map_err(|_| format!("a whole number of updates, not {limit}"))?;
    Ok(Makestep { threshold, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makestep_is_parsed_as_in_chrony_conf() {
        let second = Duration::from_secs(1);
        assert_eq!(parse_makestep("1 3"), Ok(Makestep { threshold: second, limit: 3 }));
        assert_eq!(parse_makestep(" 1.0\t-1 "), Ok(Makestep { threshold: second, limit: -1 }));
        assert_eq!(parse_makestep("0.1 1").map(|m| m.to_string()), Ok("0.1 1".to_owned()));
        for (bad, word) in [
            ("", "two numbers"),
            ("1", "two numbers"),
            ("1 3 5", "two numbers"),
            ("makestep 1 3", "two numbers"),
            ("one 3", "two numbers"),
            ("-1 3", "0 or more"),
            ("NaN 3", "0 or more"),
            ("1e300 3", "0 or more"),
            ("1 3.5", "whole number"),
            ("1 99999999999", "whole number"),
        ] {
            let error = parse_makestep(bad).unwrap_err();
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }

    #[test]
    fn restored_limits_allow_no_further_step_unless_unlimited_or_never_used() {
        let running = Tracking { update_interval: Duration::from_secs(64), ..Tracking::NEVER };
        let limit = |text, tracking| parse_makestep(text).unwrap().in_force(tracking).limit;
        assert_eq!((limit("1 3", &running), limit("1 3", &Tracking::NEVER)), (0, 3));
        assert_eq!((limit("1 -1", &running), limit("1 -1", &Tracking::NEVER)), (-1, -1));
        assert_eq!(Makestep::NEVER.in_force(&running), Makestep::NEVER);
    }
}
