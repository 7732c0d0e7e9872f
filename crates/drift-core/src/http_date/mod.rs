//! HTTP `Date` headers (RFC 9110 section 6.6.1) and clock readings go in; a coarse offset per URL, and one
//! for all URLs, come out.
//!
//! A header has whole seconds, cut off, so that one answer is never better than ±0.5 s. This room never
//! contributes to the measurement by NTP and never causes a step.

pub mod coarse;
pub mod search;

use crate::time::{Mono, NANOS_PER_SEC, Offset, OffsetRange, Wall};

/// One answer: its date, and the raw clock before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateSample {
    /// The value of the `Date` header.
    pub date: Wall,
    /// When the request was sent.
    pub sent: Mono,
    /// When the head of the answer was complete.
    pub received: Mono,
}

/// Reads `Sun, 22 Nov 2026 10:00:00 GMT`; `None` for any other form.
pub fn parse(text: &str) -> Option<Wall> {
    // The form that RFC 9110 prescribes: the parser would take CET for GMT.
    if text.len() != "Sun, 22 Nov 2026 10:00:00 GMT".len() || !text.ends_with(" GMT") {
        return None;
    }
    let stamp = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    i64::try_from(stamp.as_nanosecond()).ok().map(Wall::from_nanos)
}

/// Every offset that one exchange allows: the server wrote `date` at some time between `sent` and `received`, by the node's
/// clock, while its own clock read less than a second more than that.
pub fn offset_range(date: Wall, sent: Wall, received: Wall) -> OffsetRange {
    let end = date.plus(Offset::from_nanos(NANOS_PER_SEC));
    let range = OffsetRange { low: date.minus(received).as_nanos(), high: end.minus(sent).as_nanos() };
    // One nanosecond more, for what rounding cuts off the readings.
    range.widened(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Measurement;
    use proptest::prelude::*;

    #[test]
    fn only_the_form_of_rfc_9110_is_read() {
        let ten = Wall::parse_rfc3339("2026-11-22T10:00:00Z");
        assert_eq!(parse("Sun, 22 Nov 2026 10:00:00 GMT"), ten);
        for wrong in [
            "",
            "Sun, 22 Nov 2026 10:00:00 CET",
            "Sun, 22 Nov 2026 10:00:00 +0100",
            "Sun, 22 Nov 2026",
            "2026-11-22T10:00:00Z",
            "Sun, 31 Nov 2026 10:00:00 GMT",
            "\u{1b}[2J",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn one_answer_has_a_bound_of_half_a_second_and_half_the_round_trip() {
        let at = |nanos: i64| Wall::from_nanos(1_795_341_600_000_000_000 + nanos);
        let Measurement { offset, bound } = offset_range(at(0), at(0), at(100_000_000)).measurement();
        assert_eq!(offset.as_nanos(), 450_000_000, "the server's clock read 0 to 1 s, ours 0 to 0.1 s");
        assert_eq!(bound.as_nanos(), 550_000_001);
    }

    proptest! {
        #[test]
        fn the_true_offset_is_within_the_bound(truth in -9_000_000_000_000i64..9_000_000_000_000, sent in 0i64..4_000_000_000_000, there in 0i64..3_000_000_000, back in 0i64..3_000_000_000) {
            let reference = sent + there + truth;
            let date = Wall::from_secs(reference.div_euclid(NANOS_PER_SEC));
            let (sent, received) = (Wall::from_nanos(sent), Wall::from_nanos(sent + there + back));
            let Measurement { offset, bound } = offset_range(date, sent, received).measurement();
            prop_assert!(bound.as_nanos() >= NANOS_PER_SEC / 2);
            prop_assert!((offset.as_nanos() - truth).abs() <= bound.as_nanos());
        }

        #[test]
        fn never_panics_for_any_clock(date: i64, sent: i64, received: i64) {
            let [date, sent, received] = [date, sent, received].map(Wall::from_nanos);
            let _ = offset_range(date, sent, received).measurement();
        }
    }
}
