//! The Node's annotation `last-step`: the last step, and the step budget that it carries over a restart.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::time::{Offset, Wall};

/// The last step, and what all steps add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastStep {
    /// Reference time of the step.
    pub at: Wall,
    /// Offset before; positive: the node was behind.
    pub before: Offset,
    /// Offset measured afterwards; `None` until then.
    pub after: Option<Offset>,
    /// How the clock was stepped: `chrony` or `kernel`.
    pub method: String,
    /// What triggered it: a label of [`Trigger`](super::policy::Trigger).
    pub trigger: String,
    /// Steps in the hour that ended with this one.
    pub in_hour: usize,
    /// Sizes of all steps together since an operator last requested one.
    pub total: Duration,
    /// It did not help, which locks the budget: the word `latched`.
    pub is_latched: bool,
}

/// The annotation cannot be parsed, or lacks what the budget needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a time, `before=`, `in-hour=` and `total=`")]
pub struct LastStepError;

/// `2026-11-22T10:00:00Z before=+20.0013 after=+0.0002 method=kernel trigger=pause in-hour=1 total=20.0013`
impl fmt::Display for LastStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} before={}", self.at.rfc3339(0), signed(self.before))?;
        if let Some(after) = self.after {
            write!(f, " after={}", signed(after))?;
        }
        let Self { method, trigger, in_hour, total, .. } = self;
        write!(f, " method={method} trigger={trigger} in-hour={in_hour} total={:.4}", total.as_secs_f64())?;
        if self.is_latched { f.write_str(" latched") } else { Ok(()) }
    }
}

/// Seconds with a sign; adding zero after rounding turns -0.0000 into +0.0000.
fn signed(offset: Offset) -> String {
    format!("{:+.4}", (offset.as_secs_f64() * 1e4).round() / 1e4 + 0.0)
}

/// Unknown words are skipped, so that a newer agent may write more. The values of the budget must be there.
impl FromStr for LastStep {
    type Err = LastStepError;

    fn from_str(text: &str) -> Result<Self, LastStepError> {
        let mut words = text.split_ascii_whitespace();
        let at = words.next().and_then(Wall::parse_rfc3339).ok_or(LastStepError)?;
        let words: Vec<&str> = words.collect();
        let value = |key: &str| words.iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
        let offset = |text: &str| text.parse().ok().and_then(Offset::from_secs_f64);
        let total =
            value("total").and_then(|t| t.parse().ok()).and_then(|t| Duration::try_from_secs_f64(t).ok());
        Ok(Self {
            at,
            before: value("before").and_then(offset).ok_or(LastStepError)?,
            after: value("after").and_then(offset),
            method: value("method").unwrap_or("unknown").to_owned(),
            trigger: value("trigger").unwrap_or("unknown").to_owned(),
            in_hour: value("in-hour").and_then(|n| n.parse().ok()).ok_or(LastStepError)?,
            total: total.ok_or(LastStepError)?,
            is_latched: words.contains(&"latched"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    #[test]
    fn the_annotation_is_one_line_that_parses_back() {
        let line = "2026-11-22T10:00:00Z before=+20.0013 after=-0.0002 method=kernel trigger=pause in-hour=2 total=40.5000";
        let read: LastStep = line.parse().unwrap();
        assert_eq!(read.before, Offset::from_nanos(20_001_300_000));
        assert_eq!(read.in_hour, 2);
        assert_eq!(read.total, Duration::from_millis(40_500));
        assert!(!read.is_latched);
        assert_eq!(read.to_string(), line);
        let latched = LastStep { is_latched: true, after: None, ..read };
        assert_eq!(latched.to_string().parse(), Ok(latched));
    }

    #[test]
    fn an_annotation_without_the_values_of_the_budget_is_an_error() {
        let whole = "2026-11-22T10:00:00Z before=+1.0 in-hour=1 total=1.0";
        assert!(whole.parse::<LastStep>().is_ok(), "more is not needed");
        for broken in [
            "",
            "yesterday before=+1.0 in-hour=1 total=1.0",
            "2026-11-22T10:00:00Z in-hour=1 total=1.0",
            "2026-11-22T10:00:00Z before=+1.0 total=1.0",
            "2026-11-22T10:00:00Z before=+1.0 in-hour=1",
            "2026-11-22T10:00:00Z before=+1.0 in-hour=1 total=-1",
            "2026-11-22T10:00:00Z before=+1.0 in-hour=1 total=nan",
        ] {
            assert!(broken.parse::<LastStep>().is_err(), "{broken}");
        }
    }

    /// Any text, and lines of the form with any numbers. What is parsed is written as a line that is parsed.
    #[test]
    fn parsing_never_panics_for_any_text() {
        let reached = Reached::new([("parsed", 6), ("an error in a line of the form", 10)]);
        let line = "20[0-9]{2}-[01][0-9]-[012][0-9]T10:00:00Z before=[-+]?[0-9]{1,12}(\\.[0-9]{1,9})?( after=[-+0-9.e]{0,6})? in-hour=[0-9]{1,12} total=[0-9]{1,9}(\\.[0-9]{1,9}|e1[0-9]?)?( latched)?(.{0,10})";
        proptest!(|(text in prop_oneof![1 => ".{0,200}", 3 => line])| {
            let read = text.parse::<LastStep>();
            reached.case("an error in a line of the form", read.is_err() && text.contains(" before="));
            if reached.case("parsed", read.is_ok()) {
                let written = read.unwrap().to_string();
                prop_assert!(written.parse::<LastStep>().is_ok(), "{}", written);
            }
        });
    }
}
