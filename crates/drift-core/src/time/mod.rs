//! Newtypes for time with unit and sign. Clock readings go in; offsets, bounds, intervals and texts come out.
//!
//! Inside they are integer nanoseconds; seconds as a float appear only where values are published. This room
//! never reads a clock, and all arithmetic saturates: a clock that reads 1970 or 2262 never causes a panic.

pub mod backoff;
pub mod interval;
pub mod line;
mod measurement;
mod offset_range;
pub mod rate;
mod span;

use std::fmt;
use std::time::Duration;

pub use self::measurement::Measurement;
pub use self::offset_range::OffsetRange;
pub use self::span::{ExactSpan, SettingSpan, Span};

/// Nanoseconds in one second.
pub const NANOS_PER_SEC: i64 = 1_000_000_000;
/// One hour: the window of most limits.
pub const HOUR: Duration = Duration::from_secs(3_600);

/// How far the node's clock is from reference time: theta of RFC 5905 section 8.
///
/// Reference time minus node time, in nanoseconds. Positive: the node is **behind**. Negative: **ahead**.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Offset(i64);

/// Half the width of the interval that holds the true offset: lambda of RFC 5905 section 11.2.
///
/// Nanoseconds, never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bound(i64);

/// A point of civil time: nanoseconds since 1970-01-01T00:00:00Z, without leap seconds (`CLOCK_REALTIME`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall(i64);

/// A reading of `CLOCK_MONOTONIC_RAW`: nanoseconds since an arbitrary start, untouched by slews and steps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mono(i64);

/// A frequency in parts per billion: 1 ppb is 1 ns per second, 1,000 ppb are 1 ppm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ppb(pub i64);

/// One reading of the node's clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Node time (`CLOCK_REALTIME`).
    pub wall: Wall,
    /// The undisciplined clock to which all samples refer (`CLOCK_MONOTONIC_RAW`).
    pub raw: Mono,
    /// Time in suspend, as far as the kernel counted it: `CLOCK_BOOTTIME` - `CLOCK_MONOTONIC`.
    pub suspended: Duration,
}

impl Offset {
    /// No offset.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds; positive is behind.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From seconds; `None` when the number is not finite or does not fit (about 292 years).
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
    pub fn from_secs_f64(secs: f64) -> Option<Self> {
        let nanos = secs * 1e9;
        (nanos.is_finite() && nanos.abs() < 9.2e18).then_some(Self(nanos.round() as i64))
    }

    /// Nanoseconds; positive is behind.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds, for metrics and JSON; positive is behind.
    #[expect(clippy::cast_precision_loss, reason = "an edge: a float of seconds is what is published")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The size without the direction.
    pub const fn magnitude(self) -> Duration {
        Duration::from_nanos(self.0.unsigned_abs())
    }

    /// For operators: `132 ms behind`, `2.50 s ahead`; the direction as a word, never a sign.
    pub fn in_words(self) -> String {
        match self.0 {
            0 => "on time".to_owned(),
            n if n > 0 => format!("{} behind", Span(self.magnitude())),
            _ => format!("{} ahead", Span(self.magnitude())),
        }
    }
}

impl Bound {
    /// No uncertainty.
    pub const ZERO: Self = Self(0);
    /// Half a second.
    pub const HALF_SECOND: Self = Self(NANOS_PER_SEC / 2);

    /// From nanoseconds; a negative number counts as 0.
    pub fn from_nanos(nanos: i64) -> Self {
        Self(nanos.max(0))
    }

    /// Nanoseconds, at least 0.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Seconds, for metrics and JSON.
    #[expect(clippy::cast_precision_loss, reason = "an edge: a float of seconds is what is published")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// As a length of time.
    pub const fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0.unsigned_abs())
    }

    /// For operators: `2.1 ms`.
    pub fn in_words(self) -> String {
        Span(self.as_duration()).to_string()
    }
}

impl From<Duration> for Bound {
    fn from(span: Duration) -> Self {
        Self(nanos(span))
    }
}

impl std::ops::Add for Bound {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Wall {
    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the Unix epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NANOS_PER_SEC))
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Moved by `offset`: node time plus offset is reference time.
    #[must_use]
    pub const fn plus(self, offset: Offset) -> Self {
        Self(self.0.saturating_add(offset.0))
    }

    /// The offset from `earlier` to this time.
    pub const fn minus(self, earlier: Self) -> Offset {
        Offset(self.0.saturating_sub(earlier.0))
    }

    /// Reference time at which the raw clock read 0, when it reads `raw` at this reference time.
    #[must_use]
    pub const fn minus_raw(self, raw: Mono) -> Self {
        Self(self.0.saturating_sub(raw.0))
    }

    /// RFC 3339 in UTC with `digits` digits of the second's fraction: `2026-11-22T10:00:00.250Z`.
    pub fn rfc3339(self, digits: usize) -> String {
        // Every i64 of nanoseconds lies in 1677..2262, well within jiff's range.
        jiff::Timestamp::from_nanosecond(i128::from(self.0))
            .map_or_else(|_| String::from("invalid"), |t| format!("{t:.digits$}"))
    }

    /// Is it on the last day of a month in UTC? Only there the time scale has leap seconds (ITU-R TF.460-6).
    pub fn is_last_day_of_month(self) -> bool {
        jiff::Timestamp::from_nanosecond(i128::from(self.0)).is_ok_and(|stamp| {
            let date = jiff::tz::Offset::UTC.to_datetime(stamp).date();
            date.day() == date.days_in_month()
        })
    }

    /// Reads RFC 3339; `None` for any other form.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let stamp: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(stamp.as_nanosecond()).ok().map(Self)
    }
}

impl Mono {
    /// From the clock's nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The clock's nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Time since `earlier`; 0 when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Later by `span`.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl Ppb {
    /// From parts per million.
    pub const fn from_ppm(ppm: i64) -> Self {
        Self(ppm.saturating_mul(1_000))
    }

    /// As a ratio, for metrics: 1 ppm is 0.000001.
    #[expect(clippy::cast_precision_loss, reason = "an edge: a float ratio is what is published")]
    pub fn as_ratio(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Nanoseconds gained over `span` at this frequency; rounded away from zero, so that a bound never
    /// shrinks.
    pub fn over(self, span: Duration) -> i64 {
        let product = i128::from(self.0) * i128::from(nanos(span));
        let nanos = (product.abs() + 999_999_999) / 1_000_000_000 * product.signum();
        i64::try_from(nanos).unwrap_or(if nanos > 0 { i64::MAX } else { i64::MIN })
    }
}

impl Reading {
    /// The node's own origin: wall clock - raw clock. It changes only when the wall clock is slewed or
    /// stepped (see [`line`]).
    pub fn origin(&self) -> Wall {
        Wall(self.wall.0.saturating_sub(self.raw.0))
    }

    /// Time since the start, suspend included: `CLOCK_MONOTONIC_RAW` + (`CLOCK_BOOTTIME` -
    /// `CLOCK_MONOTONIC`).
    ///
    /// No process slews or steps it. A pause that the kernel did not notice is missing in it; by this the
    /// agent detects pauses.
    pub fn base(&self) -> Mono {
        self.raw.plus(self.suspended)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words())
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "±{}", self.in_words())
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339(9))
    }
}

impl fmt::Debug for Mono {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "raw {:?}", Duration::from_nanos(self.0.unsigned_abs()))
    }
}

/// A `Duration` in nanoseconds, at most `i64::MAX` (292 years).
pub fn nanos(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_are_written_with_a_direction_and_never_a_sign() {
        let words = |n| Offset::from_nanos(n).in_words();
        assert_eq!(words(132_000_000), "132 ms behind");
        assert_eq!(words(-132_400_000), "132 ms ahead");
        assert_eq!(words(40_600), "41 µs behind");
        assert_eq!(words(2_140_000), "2.1 ms behind");
        assert_eq!(words(-2_500_000_000), "2.50 s ahead");
        assert_eq!(words(999_900_000), "1.00 s behind");
        assert_eq!(words(12_000_000_000_000), "3 h 20 min behind");
        assert_eq!(words(-1_767_225_600_000_000_000), "56 years ahead");
        assert_eq!(words(0), "on time");
    }

    #[test]
    fn rfc3339_keeps_nanoseconds_and_is_read_back() {
        let wall = Wall::from_nanos(1_795_341_600_250_000_001);
        assert_eq!(wall.rfc3339(9), "2026-11-22T10:00:00.250000001Z");
        assert_eq!(wall.rfc3339(3), "2026-11-22T10:00:00.250Z");
        assert_eq!(Wall::parse_rfc3339(&wall.rfc3339(9)), Some(wall));
        assert_eq!(Wall::parse_rfc3339("yesterday"), None);
        assert_eq!(Wall::from_secs(0).rfc3339(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn floats_out_of_range_are_rejected() {
        for bad in [f64::NAN, f64::INFINITY, 1e300, -9.3e9] {
            assert_eq!(Offset::from_secs_f64(bad), None, "{bad}");
        }
        assert_eq!(Offset::from_secs_f64(-0.25).map(Offset::as_nanos), Some(-250_000_000));
    }

    #[test]
    fn frequencies_over_a_span_round_away_from_zero() {
        assert_eq!(Ppb::from_ppm(200).over(Duration::from_secs(64)), 12_800_000);
        assert_eq!(Ppb(1).over(Duration::from_nanos(1)), 1);
        assert_eq!(Ppb(-1).over(Duration::from_nanos(1)), -1);
    }

    #[test]
    fn base_clocks_count_suspend_and_ignore_wall_clock_steps() {
        let awake = Reading { wall: Wall::from_secs(1), raw: Mono::from_nanos(7), suspended: Duration::ZERO };
        let slept = Reading { wall: Wall::from_secs(9), suspended: Duration::from_secs(3), ..awake };
        assert_eq!((awake.base().as_nanos(), slept.base().as_nanos()), (7, 3_000_000_007));
    }

    proptest! {
        #[test]
        fn arithmetic_never_panics(a: i64, b: i64, span: u64) {
            let span = Duration::from_nanos(span);
            let (wall, mono) = (Wall::from_nanos(a), Mono::from_nanos(a));
            let _ = wall.plus(Offset::from_nanos(b)).minus(Wall::from_nanos(b)).in_words();
            let _ = mono.plus(span).since(Mono::from_nanos(b));
            let _ = (Ppb(b).over(span), wall.rfc3339(9), Reading { wall, raw: Mono::from_nanos(b), suspended: span }.origin());
        }

        #[test]
        fn node_time_plus_offset_is_reference_time(node in -2_000_000_000i64..7_000_000_000, reference in -2_000_000_000i64..7_000_000_000) {
            let (node, reference) = (Wall::from_secs(node), Wall::from_secs(reference));
            prop_assert_eq!(node.plus(reference.minus(node)), reference);
        }
    }
}
