//! Lengths of time as text: one style for operators, and the notation of the configuration.

use std::fmt;
use std::time::Duration;

const MICROSECOND: u128 = 1_000;
const MILLISECOND: u128 = 1_000_000;
const SECOND: u128 = 1_000_000_000;
const MINUTE: u128 = 60 * SECOND;
const HOUR: u128 = 60 * MINUTE;
const DAY: u128 = 24 * HOUR;
const YEAR: u128 = 31_557_600 * SECOND;

/// Spans below are written in seconds, such as `64 s`; from here on in minutes.
const MINUTES_FROM: u128 = 2 * MINUTE;
/// From here on in hours.
const HOURS_FROM: u128 = 2 * HOUR;
/// From here on in days.
const DAYS_FROM: u128 = 2 * DAY;
/// From here on in days alone.
const WHOLE_DAYS_FROM: u128 = 100 * DAY;
/// From here on in years.
const YEARS_FROM: u128 = 2 * YEAR;

/// A measured length of time, for operators: `41 µs`, `2.1 ms`, `132 ms`, `2.50 s`, `64 s`, `2 min 5 s`,
/// `3 h 20 min`.
///
/// Rounded to three digits at most below 2 min, and to two units above. A whole number of a unit has no decimals:
/// `100 ms`, `3 s`, `1 h`. So `3.00 s` was rounded, and `3 s` was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A configured length of time, for operators: in the style of [`Span`], but without rounding: `64 s`, `24
/// h`, `1 s 500 ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExactSpan(pub Duration);

/// A length of time as it is written in the configuration: `64s`, `10m`, `24h`, `1500ms`. One number, without
/// rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SettingSpan(pub Duration);

impl Span {
    /// How long ago something was: rounded down to whole seconds below 2 min, and to whole minutes above.
    pub const fn age(age: Duration) -> Self {
        let secs = age.as_secs();
        Self(Duration::from_secs(if secs < 120 { secs } else { secs / 60 * 60 }))
    }
}

/// The largest unit in which `nanos` is at least 1, with its length in nanoseconds; seconds at most.
const fn small_unit(nanos: u128) -> (u128, &'static str) {
    match nanos {
        0..MICROSECOND => (1, "ns"),
        MICROSECOND..MILLISECOND => (MICROSECOND, "µs"),
        MILLISECOND..SECOND => (MILLISECOND, "ms"),
        _ => (SECOND, "s"),
    }
}

/// Rounded to a whole number of `unit`.
const fn round(nanos: u128, unit: u128) -> u128 {
    (nanos + unit / 2) / unit * unit
}

/// Writes each part that is not zero.
fn write_parts(f: &mut fmt::Formatter<'_>, parts: &[(u128, &str)]) -> fmt::Result {
    let mut blank = "";
    for (number, unit) in parts.iter().filter(|(number, _)| *number > 0) {
        write!(f, "{blank}{number} {unit}")?;
        blank = " ";
    }
    Ok(())
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = self.0.as_nanos();
        match exact {
            0 => return f.write_str("0 s"),
            MINUTE => return f.write_str("1 min"),
            _ => {}
        }
        // Rounded first: 999.6 µs are 1.0 ms, and 119.7 s are 2 min.
        let digits = exact.ilog10() + 1;
        let nanos = round(exact, 10_u128.pow(digits.saturating_sub(3)));
        if nanos < MINUTES_FROM {
            let (unit, name) = small_unit(nanos);
            if exact.is_multiple_of(unit) {
                return write!(f, "{} {name}", exact / unit);
            }
            return match (unit, nanos / unit) {
                (SECOND, whole @ 0..10) => write!(f, "{whole}.{:02} s", nanos % SECOND / (SECOND / 100)),
                (SECOND, whole @ 10..100) => write!(f, "{whole}.{} s", nanos % SECOND / (SECOND / 10)),
                // A tenth of a millisecond is as much as an offset over a network means.
                (MILLISECOND, 0..10) => {
                    let tenths = round(exact, MILLISECOND / 10) / (MILLISECOND / 10);
                    write!(f, "{}.{} ms", tenths / 10, tenths % 10)
                }
                _ => write!(f, "{} {name}", round(exact, unit) / unit),
            };
        }
        let nanos = round(exact, SECOND);
        if nanos == HOUR {
            return f.write_str("1 h");
        }
        if nanos < HOURS_FROM {
            return write_parts(f, &[(nanos / MINUTE, "min"), (nanos % MINUTE / SECOND, "s")]);
        }
        let nanos = round(exact, MINUTE);
        if nanos < DAYS_FROM {
            return write_parts(f, &[(nanos / HOUR, "h"), (nanos % HOUR / MINUTE, "min")]);
        }
        let nanos = round(exact, HOUR);
        if nanos < WHOLE_DAYS_FROM {
            return write_parts(f, &[(nanos / DAY, "days"), (nanos % DAY / HOUR, "h")]);
        }
        if exact < YEARS_FROM {
            write!(f, "{} days", round(exact, DAY) / DAY)
        } else {
            write!(f, "{} years", round(exact, YEAR) / YEAR)
        }
    }
}

impl fmt::Display for ExactSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        match rest {
            0 => return f.write_str("0 s"),
            MINUTE => return f.write_str("1 min"),
            HOUR => return f.write_str("1 h"),
            _ => {}
        }
        let large: &[(u128, &str)] = match rest {
            ..MINUTES_FROM => &[],
            MINUTES_FROM..HOURS_FROM => &[(MINUTE, "min")],
            HOURS_FROM..DAYS_FROM => &[(HOUR, "h"), (MINUTE, "min")],
            _ => &[(DAY, "days"), (HOUR, "h"), (MINUTE, "min")],
        };
        let small = [(SECOND, "s"), (MILLISECOND, "ms"), (MICROSECOND, "µs"), (1, "ns")];
        let parts: Vec<(u128, &str)> = large
            .iter()
            .chain(&small)
            .map(|(unit, name)| {
                let number = rest / unit;
                rest %= unit;
                (number, *name)
            })
            .collect();
        write_parts(f, &parts)
    }
}

impl fmt::Display for SettingSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let units = [(HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (MILLISECOND, "ms"), (MICROSECOND, "us")];
        let fitting = units.into_iter().find(|(unit, _)| nanos > 0 && nanos.is_multiple_of(*unit));
        match fitting {
            Some((unit, name)) => write!(f, "{}{name}", nanos / unit),
            None if nanos == 0 => f.write_str("0s"),
            None => write!(f, "{nanos}ns"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    /// Nanoseconds, and the three texts. `None`: as [`Span`] has it.
    const TABLE: [(u64, &str, Option<&str>, &str); 37] = [
        (0, "0 s", None, "0s"),
        (1, "1 ns", None, "1ns"),
        (999, "999 ns", None, "999ns"),
        (1_000, "1 µs", None, "1us"),
        (40_600, "41 µs", Some("40 µs 600 ns"), "40600ns"),
        (41_000, "41 µs", None, "41us"),
        (999_499, "999 µs", Some("999 µs 499 ns"), "999499ns"),
        (999_600, "1.0 ms", Some("999 µs 600 ns"), "999600ns"),
        (2_000_000, "2 ms", None, "2ms"),
        (2_100_000, "2.1 ms", Some("2 ms 100 µs"), "2100us"),
        (2_003_000, "2.0 ms", Some("2 ms 3 µs"), "2003us"),
        (9_996_000, "10 ms", Some("9 ms 996 µs"), "9996us"),
        (100_000_000, "100 ms", None, "100ms"),
        (132_400_000, "132 ms", Some("132 ms 400 µs"), "132400us"),
        (999_900_000, "1.00 s", Some("999 ms 900 µs"), "999900us"),
        (1_500_000_000, "1.50 s", Some("1 s 500 ms"), "1500ms"),
        (3_000_000_000, "3 s", None, "3s"),
        (3_000_000_001, "3.00 s", Some("3 s 1 ns"), "3000000001ns"),
        (60_000_000_000, "1 min", None, "1m"),
        (60_040_000_000, "60.0 s", Some("60 s 40 ms"), "60040ms"),
        (61_700_000_000, "61.7 s", Some("61 s 700 ms"), "61700ms"),
        (64_000_000_000, "64 s", None, "64s"),
        (119_400_000_000, "119 s", Some("119 s 400 ms"), "119400ms"),
        (119_700_000_000, "2 min", Some("119 s 700 ms"), "119700ms"),
        (125_000_000_000, "2 min 5 s", None, "125s"),
        (600_000_000_000, "10 min", None, "10m"),
        (1_024_000_000_000, "17 min 4 s", None, "1024s"),
        (3_600_000_000_000, "1 h", None, "1h"),
        (3_600_100_000_000, "1 h", Some("60 min 100 ms"), "3600100ms"),
        (5_400_000_000_000, "90 min", None, "90m"),
        (7_199_800_000_000, "2 h", Some("119 min 59 s 800 ms"), "7199800ms"),
        (7_500_000_000_000, "2 h 5 min", None, "125m"),
        (86_400_000_000_000, "24 h", None, "24h"),
        (172_800_000_000_000, "2 days", None, "48h"),
        (216_000_000_000_000, "2 days 12 h", None, "60h"),
        (1_000_000_000_000_000, "11 days 14 h", Some("11 days 13 h 46 min 40 s"), "1000000s"),
        (1_767_225_600_000_000_000, "56 years", Some("20454 days"), "490896h"),
    ];

    #[test]
    fn spans_are_written_in_one_style() {
        for (nanos, rounded, exact, setting) in TABLE {
            let span = Duration::from_nanos(nanos);
            assert_eq!(Span(span).to_string(), rounded, "{nanos} ns");
            assert_eq!(ExactSpan(span).to_string(), exact.unwrap_or(rounded), "{nanos} ns");
            assert_eq!(SettingSpan(span).to_string(), setting, "{nanos} ns");
        }
    }

    #[test]
    fn ages_are_rounded_down_to_seconds_and_from_two_minutes_on_to_minutes() {
        for (millis, text) in [
            (900, "0 s"),
            (60_999, "1 min"),
            (119_999, "119 s"),
            (185_000, "3 min"),
            (3_659_000, "1 h"),
            (12_059_000, "3 h 20 min"),
            (259_205_000, "3 days"),
        ] {
            assert_eq!(Span::age(Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn the_longest_duration_is_written_without_overflow() {
        assert_eq!(Span(Duration::MAX).to_string(), "584542046091 years");
        assert!(ExactSpan(Duration::MAX).to_string().ends_with(" 999 ns"));
        assert_eq!(SettingSpan(Duration::MAX).to_string(), "18446744073709551615999999999ns");
    }

    /// Nanoseconds of every magnitude, many of them whole numbers of a unit.
    fn nanos() -> impl Strategy<Value = u64> {
        let unit = prop::sample::select(vec![
            1_u64,
            1_000,
            1_000_000,
            1_000_000_000,
            60_000_000_000,
            3_600_000_000_000,
        ]);
        (unit, 0_u64..5_000, 0_u32..40)
            .prop_map(|(unit, number, shift)| (unit * number) >> shift.saturating_sub(20))
    }

    proptest! {
        #[test]
        fn exact_spans_are_read_back_without_loss(nanos in nanos()) {
            let span = Duration::from_nanos(nanos);
            prop_assert_eq!(humantime::parse_duration(&ExactSpan(span).to_string()), Ok(span));
            prop_assert_eq!(humantime::parse_duration(&SettingSpan(span).to_string()), Ok(span));
        }

    }

    #[test]
    fn spans_are_rounded_by_half_of_their_last_digit_at_most() {
        let reached = Reached::new([("rounded", 20), ("exact", 10)]);
        proptest!(|(nanos in nanos())| {
            let span = Duration::from_nanos(nanos);
            let text = Span(span).to_string();
            let read = humantime::parse_duration(&text).unwrap();
            let last_digit = match nanos {
                0..1_000_000 => 1_000,
                1_000_000..10_000_000 => 100_000,
                10_000_000..100_000_000 => 1_000_000,
                // Hours from two days on: half of one is a 97th of 48 h 30 min.
                _ => nanos / 48,
            };
            prop_assert!(read.abs_diff(span) <= Duration::from_nanos(last_digit / 2), "{} ns is written as {}", nanos, text);
            reached.case("exact", read == span);
            if reached.case("rounded", read != span) {
                prop_assert_ne!(&text, &ExactSpan(span).to_string());
            }
            prop_assert!(text.chars().filter(char::is_ascii_digit).count() <= 5, "{}", text);
        });
    }
}
