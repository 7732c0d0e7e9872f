//! Offsets of a size that has a known cause: another time scale, or local time taken for UTC.
//!
//! A clock that is off by one of them is misconfigured. No leeway is for such a clock, and it does not drift.

use std::fmt;
use std::time::Duration;

use crate::time::{ExactSpan, Measurement, nanos};

/// How far TAI is ahead of UTC, in seconds: since 2017, and until the next leap second (IERS Bulletin C).
const TAI_SECONDS: u64 = 37;
/// How far GPS time is ahead of UTC, in seconds: 19 less than TAI (IS-GPS-200, section 3.3.4).
const GPS_SECONDS: u64 = 18;
/// How far from the exact size a clock on another time scale may be, besides its bound.
const SCALE_TOLERANCE: Duration = Duration::from_millis(300);
/// The same for local time: a hardware clock is read and set to whole seconds.
const ZONE_TOLERANCE: Duration = Duration::from_secs(1);
/// A zone's distance from UTC is a multiple of this: Nepal is at +05:45.
const QUARTER: Duration = Duration::from_secs(900);
/// Time zones reach from UTC-12 to UTC+14.
const QUARTERS_MAX: u32 = 14 * 4;

/// An offset of a size that has a known cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// 37 s: TAI is taken for UTC, by a PTP clock without its UTC offset.
    Tai,
    /// 18 s: GPS time is taken for UTC, by a receiver without its leap seconds.
    Gps,
    /// So many quarters of an hour: local time is taken for UTC.
    Quarters(u32),
}

impl Shape {
    /// The shape of this offset, in either direction. `None`: the offset has no known size, or the bound is too wide
    /// to claim it.
    pub fn of(measured: Measurement) -> Option<Self> {
        let (size, bound) = (measured.offset.magnitude(), measured.bound.as_duration());
        let is = |exact: Duration, tolerance: Duration| {
            bound <= tolerance && size.abs_diff(exact) <= bound.saturating_add(tolerance)
        };
        let scales = [(Self::Tai, TAI_SECONDS), (Self::Gps, GPS_SECONDS)];
        let scale =
            scales.into_iter().find(|(_, seconds)| is(Duration::from_secs(*seconds), SCALE_TOLERANCE));
        scale.map(|(shape, _)| shape).or_else(|| {
            let quarters = whole_quarters(size, ZONE_TOLERANCE.saturating_add(bound))?;
            (bound <= ZONE_TOLERANCE).then_some(Self::Quarters(quarters))
        })
    }

    /// The shape of how far the start of a fresh token lies ahead, in whole seconds as a token has them: `ahead` is up
    /// to 2 s less than the clocks of issuer and verifier differ.
    pub fn of_token_ahead(ahead: Duration) -> Option<Self> {
        let late = Duration::from_secs(2);
        let is = |seconds: u64| {
            let exact = Duration::from_secs(seconds);
            ahead <= exact.saturating_add(SCALE_TOLERANCE) && ahead.saturating_add(late) >= exact
        };
        [(Self::Tai, TAI_SECONDS), (Self::Gps, GPS_SECONDS)].into_iter().find(|(_, s)| is(*s)).map(|(s, _)| s)
    }

    /// A word for programs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tai => "tai",
            Self::Gps => "gps",
            Self::Quarters(_) => "local-time",
        }
    }

    /// The exact size of the offset.
    pub fn size(self) -> Duration {
        match self {
            Self::Tai => Duration::from_secs(TAI_SECONDS),
            Self::Gps => Duration::from_secs(GPS_SECONDS),
            Self::Quarters(count) => QUARTER.saturating_mul(count),
        }
    }

    /// What to look for.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Tai => {
                "look for a PTP clock (phc2sys, ts2phc, chrony's refclock) without its UTC offset of 37 s"
            }
            Self::Gps => "look for a GPS receiver or its driver that leaves out the leap seconds",
            Self::Quarters(_) => {
                "look for local time that is taken for UTC: the hardware clock (timedatectl, RTC in local TZ), or the VM's RTC base"
            }
        }
    }
}

/// What it is, as the end of a sentence: `7 h to within a second, as local time that is taken for UTC`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = ExactSpan(self.size());
        match self {
            Self::Tai => write!(f, "{size}, as far as TAI is ahead of UTC"),
            Self::Gps => write!(f, "{size}, as far as GPS time is ahead of UTC"),
            Self::Quarters(_) => {
                write!(f, "{size} to within a second or two, as local time that is taken for UTC")
            }
        }
    }
}

/// How many quarters of an hour this is, to within `tolerance`: 1 to 56, as far as time zones are from UTC.
pub fn whole_quarters(size: Duration, tolerance: Duration) -> Option<u32> {
    let (size_ns, quarter) = (nanos(size), nanos(QUARTER));
    let count = u32::try_from(size_ns.saturating_add(quarter / 2) / quarter).ok()?;
    let is_one =
        (1..=QUARTERS_MAX).contains(&count) && size.abs_diff(QUARTER.saturating_mul(count)) <= tolerance;
    is_one.then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Bound, Offset, Span};

    fn of(offset_ms: i64, bound_ms: i64) -> Option<Shape> {
        let measured = |sign: i64| {
            let (offset, bound) =
                (Offset::from_nanos(sign * offset_ms * 1_000_000), Bound::from_nanos(bound_ms * 1_000_000));
            Shape::of(Measurement::new(offset, bound))
        };
        assert_eq!(measured(1), measured(-1), "behind and ahead");
        measured(1)
    }

    #[test]
    fn other_time_scales_are_named_at_their_exact_size_only() {
        assert_eq!([of(37_000, 2), of(36_700, 0), of(37_400, 100)], [Some(Shape::Tai); 3]);
        assert_eq!([of(18_000, 2), of(18_300, 0), of(17_650, 50)], [Some(Shape::Gps); 3]);
        assert_eq!([of(36_699, 0), of(37_402, 100), of(36_000, 2), of(19_000, 2), of(20_000, 2)], [None; 5]);
        assert_eq!(of(37_000, 301), None, "too vague to claim it");
    }

    #[test]
    fn quarters_of_an_hour_are_named_up_to_fourteen_hours() {
        let minutes = |count: i64| count * 60_000;
        assert_eq!(of(minutes(15), 2), Some(Shape::Quarters(1)));
        assert_eq!(of(minutes(345) + 999, 2), Some(Shape::Quarters(23)));
        assert_eq!(of(minutes(420) - 1_000, 1_000), Some(Shape::Quarters(28)));
        assert_eq!(of(minutes(840), 2), Some(Shape::Quarters(56)));
        assert_eq!([of(minutes(60) + 1_100, 2), of(minutes(855), 2), of(minutes(7), 2), of(0, 2)], [None; 4]);
        assert_eq!(of(minutes(60), 1_001), None, "too vague to claim it");
    }

    #[test]
    fn whole_hours_are_written_as_such_however_they_are_rounded() {
        for ms in [-1_000_i64, -500, 0, 500, 1_000] {
            let size = Duration::from_millis((25_200_000 + ms).unsigned_abs());
            assert_eq!(Span(size).to_string(), "7 h");
            let shape = of(25_200_000 + ms, 2).unwrap();
            assert!(shape.to_string().starts_with("7 h to within a second"), "{shape}");
        }
        assert_eq!(Shape::Quarters(23).size(), Duration::from_secs(20_700));
    }

    #[test]
    fn tokens_of_another_time_scale_lie_ahead_by_up_to_two_seconds_less() {
        let ahead = |ms| Shape::of_token_ahead(Duration::from_millis(ms));
        assert_eq!([ahead(35_000), ahead(36_400), ahead(37_300)], [Some(Shape::Tai); 3]);
        assert_eq!([ahead(16_000), ahead(18_000)], [Some(Shape::Gps); 2]);
        assert_eq!([ahead(34_999), ahead(37_301), ahead(15_900), ahead(18_400), ahead(0)], [None; 5]);
    }
}
