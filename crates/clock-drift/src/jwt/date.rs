//! A `NumericDate` (RFC 7519 section 2), read from the number's own digits: a float would lose some of them.

use std::time::Duration;

use drift_core::time::{NANOS_PER_SEC, Span, Wall, nanos};

const GIGA: i128 = NANOS_PER_SEC as i128;
/// Numbers beyond this are all treated as this one: about 3 * 10^19 years.
const FARTHEST: i128 = 1_000_000_000_000_000_000 * GIGA * GIGA;
/// Digits before the point that [`FARTHEST`] has, in seconds.
const FARTHEST_DIGITS: i64 = 27;

/// Nanoseconds since 1970-01-01T00:00:00Z, without leap seconds; far wider than [`Wall`], because a claim may
/// hold any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumericDate(i128);

impl From<Wall> for NumericDate {
    fn from(wall: Wall) -> Self {
        Self(i128::from(wall.as_nanos()))
    }
}

impl NumericDate {
    /// From nanoseconds since 1970.
    pub const fn from_nanos(nanos: i128) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970.
    pub const fn as_nanos(self) -> i128 {
        self.0
    }

    /// Reads a JSON number of seconds. Digits below the nanosecond are cut off; numbers beyond about 3 *
    /// 10^19 years are clamped. `None` when the text is not a JSON number.
    pub fn parse(literal: &str) -> Option<Self> {
        let (negative, unsigned) = literal.strip_prefix('-').map_or((false, literal), |rest| (true, rest));
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, Some(exponent)),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let leads_with_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || leads_with_zero || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let size = magnitude(whole, fraction, exponent.map_or(Some(0), parse_exponent)?);
        Some(Self(if negative { -size } else { size }))
    }

    /// Later by `span`, or earlier for [`Self::minus`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i128::from(nanos(span))))
    }

    /// Earlier by `span`.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i128::from(nanos(span))))
    }

    /// Nanoseconds from `earlier` to this; negative when this is the earlier one.
    pub const fn since(self, earlier: Self) -> i128 {
        self.0.saturating_sub(earlier.0)
    }

    /// The whole second in which it lies, rounded down: what verifiers that ignore fractions compare.
    pub const fn second(self) -> i128 {
        self.0.div_euclid(GIGA)
    }

    /// For text: RFC 3339 up to the year 9999, beyond that the year alone.
    pub fn in_words(self) -> String {
        if let Ok(stamp) = jiff::Timestamp::from_nanosecond(self.0) {
            return stamp.to_string();
        }
        if self.is_farthest() {
            return "beyond every calendar".to_owned();
        }
        // The average Gregorian year: the month does not matter at this distance.
        format!("the year {}", 1970 + self.second().div_euclid(31_556_952))
    }

    /// Was the number clamped to the largest one that is represented?
    pub const fn is_farthest(self) -> bool {
        self.0.unsigned_abs() >= FARTHEST.unsigned_abs()
    }
}

/// The exponent of a JSON number, clamped to ±2^40: beyond that the result is 0 or the largest number.
fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(1 << 40);
    Some(if negative { -size } else { size })
}

/// Nanoseconds in `whole.fraction * 10^exponent` seconds, at most [`FARTHEST`].
fn magnitude(whole: &str, fraction: &str, exponent: i64) -> i128 {
    let digits = || whole.bytes().chain(fraction.bytes());
    let zeros = digits().take_while(|b| *b == b'0').count();
    if zeros == whole.len() + fraction.len() {
        return 0;
    }
    let length = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    // Digits before the decimal point, once leading zeros are gone; negative when zeros follow the point
    // first.
    let before_point = length(whole.len()) - length(zeros) + exponent;
    if before_point > FARTHEST_DIGITS {
        return FARTHEST;
    }
    // As many digits as there are nanoseconds, with zeros behind when the number has fewer.
    let wanted = usize::try_from(before_point + 9).unwrap_or(0);
    let significant = digits().skip(zeros).chain(std::iter::repeat(b'0')).take(wanted);
    significant.fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'))
}

/// A length of time for text, without its sign.
pub fn span(nanos: i128) -> String {
    let secs = nanos.unsigned_abs() / GIGA.unsigned_abs();
    match (u64::try_from(secs), u32::try_from(nanos.unsigned_abs() % GIGA.unsigned_abs())) {
        (Ok(secs), Ok(rest)) => Span(Duration::new(secs, rest)).to_string(),
        _ => "more than 10^11 years".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    fn read(literal: &str) -> Option<i128> {
        NumericDate::parse(literal).map(NumericDate::as_nanos)
    }

    #[test]
    fn digits_are_kept_down_to_the_nanosecond() {
        for (literal, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("1795341600", 1_795_341_600_000_000_000),
            // 2^53 + 1 s: the first second that a float cannot hold.
            ("9007199254740993", 9_007_199_254_740_993_000_000_000),
            ("1795341600.000000001", 1_795_341_600_000_000_001),
            ("1795341600.0000000019", 1_795_341_600_000_000_001),
            ("-1.5", -1_500_000_000),
            ("1.7e9", 1_700_000_000_000_000_000),
            ("17E+8", 1_700_000_000_000_000_000),
            ("1795341600000e-3", 1_795_341_600_000_000_000),
            ("0.000000001", 1),
            ("1e-9", 1),
            ("1e-10", 0),
            ("0.0e999999999999999999999", 0),
            ("99999999999999999999", 99_999_999_999_999_999_999_000_000_000),
        ] {
            assert_eq!(read(literal), Some(nanos), "{literal}");
        }
    }

    #[test]
    fn numbers_beyond_the_range_are_clamped() {
        for literal in ["1e27", "1e999", "1e99999999999999999999", &"9".repeat(60_000)] {
            let date = NumericDate::parse(literal).unwrap();
            assert!(date.is_farthest() && date.as_nanos() > 0, "{literal:.30}");
            let negative = NumericDate::parse(&format!("-{literal}")).unwrap();
            assert!(negative.is_farthest() && negative.as_nanos() < 0, "{literal:.30}");
            assert_eq!(date.in_words(), "beyond every calendar");
        }
        assert!(!NumericDate::parse("1e26").unwrap().is_farthest());
        assert_eq!(read("1e-99999999999999999999"), Some(0));
    }

    #[test]
    fn texts_that_are_not_json_numbers_are_rejected() {
        for literal in
            ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x10", "1_000", "NaN", "1 ", "١", "1.2.3", "--1"]
        {
            assert_eq!(read(literal), None, "{literal:?}");
        }
    }

    #[test]
    fn dates_are_written_in_rfc_3339_or_as_a_year() {
        let words = |literal| NumericDate::parse(literal).unwrap().in_words();
        assert_eq!(words("1795341600"), "2026-11-22T10:00:00Z");
        assert_eq!(words("1795341600.25"), "2026-11-22T10:00:00.25Z");
        assert_eq!(words("-1"), "1969-12-31T23:59:59Z");
        assert_eq!(words("1795341600000"), "the year 58862");
        assert_eq!(span(3_000_000_000), "3 s");
        assert_eq!(span(i128::MAX), "more than 10^11 years");
    }

    #[test]
    fn second_rounds_down_before_1970_too() {
        assert_eq!(NumericDate::from_nanos(1_999_999_999).second(), 1);
        assert_eq!(NumericDate::from_nanos(-1).second(), -1);
    }

    #[test]
    fn parse_accepts_exactly_the_numbers_of_json() {
        let reached = Reached::new([("a number of JSON", 15), ("no number of JSON", 15)]);
        let nearly = "-?[0-9]{1,3}(\\.[0-9]{0,3})?([eE][-+]?[0-9]{0,2})?";
        proptest!(|(literal in prop_oneof!["[-+0-9.eE]{0,12}", nearly])| {
            // serde_json rejects numbers that no float holds; `RawValue` does not.
            let json = serde_json::from_str::<&serde_json::value::RawValue>(&literal).is_ok();
            reached.case("a number of JSON", json);
            reached.case("no number of JSON", !json);
            prop_assert_eq!(read(&literal).is_some(), json);
        });
    }

    proptest! {
        #[test]
        fn spellings_of_the_same_number_are_equal(secs in -1_000_000_000_000_i64..1_000_000_000_000, shift in 0_u32..6) {
            let nanos = i128::from(secs) * GIGA;
            prop_assert_eq!(read(&secs.to_string()), Some(nanos));
            prop_assert_eq!(read(&format!("{secs}.000")), Some(nanos));
            prop_assert_eq!(read(&format!("{secs}{}e-{shift}", "0".repeat(shift as usize))).unwrap_or(0), nanos);
        }

        #[test]
        fn words_never_panic_for_any_number(nanos: i128, span_nanos: i128) {
            let _ = (NumericDate::from_nanos(nanos).in_words(), span(span_nanos));
        }
    }
}
