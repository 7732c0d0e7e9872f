//! Maintenance windows: times by a schedule in which other limits of a step apply.
//!
//! The schedule has the five fields of cron (`crontab(5)`), in UTC or at a fixed distance from it. Names of zones are not
//! known: they need a database, which a container without a file system of its own does not have. Windows go by
//! reference time, because the node's own clock is what may be wrong.

use std::time::Duration;

use crate::time::{NANOS_PER_SEC, Wall};

/// Minutes of a day.
const DAY: i64 = 24 * 60;
/// What is expected instead of an invalid schedule.
const SCHEDULE_EXPECTED: &str = "five fields of cron, MINUTE HOUR DAY MONTH WEEKDAY, each *, a number, a range 1-5, a list 1,3 or steps */15, e.g. 0 2 * * 6";
/// What is expected instead of an invalid zone.
const ZONE_EXPECTED: &str = "UTC, or a fixed distance from it such as +02:00 (up to 14 h); names such as Europe/Berlin are not accepted, because the agent's image has no time zone database";

/// A time by a schedule in which other limits apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub schedule: Schedule,
    /// How long it lasts.
    pub duration: Duration,
    /// The zone of the schedule.
    pub zone: Zone,
    /// Smaller offsets are not stepped.
    pub min_offset: Duration,
    /// Least time between two steps.
    pub cooldown: Duration,
}

/// The five fields of cron.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// As it was written.
    text: String,
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    /// 0 is Sunday.
    weekdays: Field,
}

/// A distance from UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// As it was written.
    text: String,
    /// Positive: east of UTC.
    minutes: i64,
}

/// The numbers that one field allows, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// It begins with `*`: it sets no limit of its own to the day.
    is_star: bool,
}

impl Window {
    /// Does it last at this reference time?
    pub fn is_open(&self, reference: Wall) -> bool {
        let now = reference.as_nanos().div_euclid(NANOS_PER_SEC) + self.zone.minutes * 60;
        let length = i64::try_from(self.duration.as_secs()).unwrap_or(i64::MAX);
        // It begins in one of the minutes from here to now.
        let (first, last) = (now.saturating_sub(length).div_euclid(60) + 1, now.div_euclid(60));
        (first.div_euclid(DAY)..=last.div_euclid(DAY)).filter(|day| self.schedule.has_day(*day)).any(|day| {
            let (from, to) = ((first - day * DAY).max(0), (last - day * DAY).min(DAY - 1));
            (from..=to).any(|minute| self.schedule.has_minute(minute))
        })
    }
}

impl Schedule {
    /// Parses five fields. The error says what is expected instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const MONTHS: [&str; 12] =
            ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
        const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(SCHEDULE_EXPECTED);
        };
        let field =
            |text: &str, range, names: &[&str]| Field::parse(text, range, names).ok_or(SCHEDULE_EXPECTED);
        let mut weekdays = field(weekdays, 0..=7, &WEEKDAYS)?;
        // Both 0 and 7 are Sunday.
        weekdays.bits = (weekdays.bits | (weekdays.bits >> 7)) & 0x7f;
        let schedule = Self {
            text: fields.join(" "),
            minutes: field(minutes, 0..=59, &[])?,
            hours: field(hours, 0..=23, &[])?,
            days: field(days, 1..=31, &[])?,
            months: field(months, 1..=12, &MONTHS)?,
            weekdays,
        };
        let lengths = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let has_date = (1..).zip(lengths).any(|(month, length)| {
            schedule.months.has(month) && (1..=length).any(|day| schedule.days.has(day))
        });
        if has_date || (!schedule.weekdays.is_star && !schedule.days.is_star) {
            Ok(schedule)
        } else {
            Err("a day that one of the months has")
        }
    }

    /// Does a window begin on this day, counted from 1970?
    fn has_day(&self, day: i64) -> bool {
        let Ok(midnight) = jiff::Timestamp::from_second(day.saturating_mul(DAY * 60)) else { return false };
        let date = jiff::tz::Offset::UTC.to_datetime(midnight).date();
        let in_month = self.days.has(date.day().into());
        let in_week = self.weekdays.has(date.weekday().to_sunday_zero_offset().into());
        // As crontab(5) has it: where both are limited, either counts.
        let is_day = if self.days.is_star || self.weekdays.is_star {
            in_month && in_week
        } else {
            in_month || in_week
        };
        is_day && self.months.has(date.month().into())
    }

    /// Does it begin in this minute of a day?
    fn has_minute(&self, minute: i64) -> bool {
        self.hours.has(minute / 60) && self.minutes.has(minute % 60)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Zone {
    /// Parses `UTC` or `+HH:MM`. The error says what is expected instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let minutes = if text == "UTC" { Some(0) } else { minutes_east(text) };
        let minutes = minutes.filter(|minutes| minutes.abs() <= 14 * 60).ok_or(ZONE_EXPECTED)?;
        Ok(Self { text: text.to_owned(), minutes })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

fn minutes_east(text: &str) -> Option<i64> {
    let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str| -> Option<i64> {
        let is_plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| is_plain)
    };
    Some(sign * (number(hours)? * 60 + number(minutes).filter(|minutes| *minutes < 60)?))
}

impl Field {
    /// Parses a list of `*`, `3`, `1-5`, each but a single number with `/STEP`.
    fn parse(text: &str, range: std::ops::RangeInclusive<u32>, names: &[&str]) -> Option<Self> {
        let number = |text: &str| -> Option<u32> {
            let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
            let named = named.and_then(|index| u32::try_from(index).ok());
            // Weekdays are counted from 0, months from 1: both names begin there.
            let named = named.map(|index| index + range.start());
            let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            named.or_else(|| text.parse().ok().filter(|_| is_plain)).filter(|n| range.contains(n))
        };
        let mut bits = 0_u64;
        for item in text.split(',') {
            let (span, step) = item.split_once('/').map_or((item, None), |(span, step)| (span, Some(step)));
            let (first, last) = match span.split_once('-') {
                _ if span == "*" => (*range.start(), *range.end()),
                Some((first, last)) => (number(first)?, number(last)?),
                None if step.is_none() => (number(span)?, number(span)?),
                None => return None,
            };
            let step: usize = step.map_or(Some(1), |step| step.parse().ok())?;
            if first > last || !(1..=60).contains(&step) {
                return None;
            }
            (first..=last).step_by(step).for_each(|n| bits |= 1 << n);
        }
        Some(Self { bits, is_star: text.starts_with('*') })
    }

    fn has(self, number: i64) -> bool {
        u32::try_from(number).is_ok_and(|n| n < u64::BITS && self.bits & (1 << n) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    fn window(cron: &str, minutes: u64, zone: &str) -> Window {
        Window {
            schedule: Schedule::parse(cron).unwrap(),
            duration: Duration::from_secs(minutes * 60),
            zone: Zone::parse(zone).unwrap(),
            min_offset: Duration::from_millis(10),
            cooldown: Duration::from_secs(1),
        }
    }

    fn is_open(window: &Window, at: &str) -> bool {
        window.is_open(Wall::parse_rfc3339(at).unwrap())
    }

    #[test]
    fn windows_last_from_their_minute_to_the_end_of_their_duration() {
        // 2026-11-28 is a Saturday.
        let saturday = window("0 2 * * 6", 240, "UTC");
        for (at, open) in [
            ("2026-11-28T01:59:59.999Z", false),
            ("2026-11-28T02:00:00Z", true),
            ("2026-11-28T05:59:59.999Z", true),
            ("2026-11-28T06:00:00Z", false),
            ("2026-11-27T03:00:00Z", false),
        ] {
            assert_eq!(is_open(&saturday, at), open, "{at}");
        }
        let over_midnight = window("30 23 31 12 *", 90, "UTC");
        assert!(is_open(&over_midnight, "2027-01-01T00:59:59Z"));
        assert!(
            !is_open(&over_midnight, "2027-01-01T01:00:00Z")
                && !is_open(&over_midnight, "2027-01-01T23:40:00Z")
        );
        let odd = Window { duration: Duration::from_secs(90), ..window("0 2 * * *", 1, "UTC") };
        assert!(is_open(&odd, "2026-11-28T02:01:29Z") && !is_open(&odd, "2026-11-28T02:01:30Z"));
        let week = window("0 0 * * 0", 7 * 1_440, "UTC");
        assert!(is_open(&week, "2026-11-28T23:59:59Z"), "always");
    }

    #[test]
    fn schedules_are_at_a_fixed_distance_from_utc() {
        let berlin = window("0 2 * * 6", 60, "+02:00");
        assert!(is_open(&berlin, "2026-11-28T00:30:00Z") && !is_open(&berlin, "2026-11-28T02:30:00Z"));
        let kathmandu = window("0 0 * * 6", 15, "+05:45");
        assert!(is_open(&kathmandu, "2026-11-27T18:15:00Z") && !is_open(&kathmandu, "2026-11-27T18:30:00Z"));
        let west = window("0 22 27 * *", 60, "-08:00");
        assert!(is_open(&west, "2026-11-28T06:00:00Z"));
        for invalid in
            ["Europe/Berlin", "utc", "+2:00", "+02:60", "+15:00", "02:00", "", "+02:00:00", "++1:00"]
        {
            assert_eq!(Zone::parse(invalid), Err(ZONE_EXPECTED), "{invalid:?}");
        }
        assert!(ZONE_EXPECTED.contains("Europe/Berlin are not accepted"));
    }

    #[test]
    fn fields_are_those_of_cron() {
        for (cron, at, open) in [
            ("*/20 * * * *", "2026-11-28T10:40:00Z", true),
            ("*/20 * * * *", "2026-11-28T10:30:00Z", false),
            ("5,10-12 3 * * *", "2026-11-28T03:11:00Z", true),
            ("5,10-12 3 * * *", "2026-11-28T03:06:00Z", false),
            ("10-50/20 * * * *", "2026-11-28T03:30:00Z", true),
            ("10-50/20 * * * *", "2026-11-28T03:40:00Z", false),
            ("0 * * * sat", "2026-11-28T10:00:00Z", true),
            ("0 * * NOV,dec mon-fri", "2026-11-28T10:00:00Z", false),
            ("0 * * 11 0", "2026-11-29T10:00:00Z", true),
            ("0 * * 11 7", "2026-11-29T10:00:00Z", true),
            ("0 * 1 * 6", "2026-11-28T10:00:00Z", true),
            ("0 * 1 * 6", "2026-12-01T10:00:00Z", true),
            ("0 * 1 * 6", "2026-11-27T10:00:00Z", false),
            ("0 * */2 * 6", "2026-11-28T10:00:00Z", false),
            ("0 * 29 2 *", "2028-02-29T10:00:00Z", true),
        ] {
            assert_eq!(is_open(&window(cron, 1, "UTC"), at), open, "{cron:?} at {at}");
        }
        for invalid in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "a * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "5/10 * * * *",
            "1, * * * *",
            "-1 * * * *",
            "@daily",
            "+1 * * * *",
            "* * * foo *",
            "*/61 * * * *",
        ] {
            assert_eq!(Schedule::parse(invalid), Err(SCHEDULE_EXPECTED), "{invalid:?}");
        }
        assert!(Schedule::parse("0 0 30 2 *").is_err() && Schedule::parse("0 0 30 2 1").is_ok());
        assert_eq!(Schedule::parse(" 0  2 * * 6 ").unwrap().text(), "0 2 * * 6");
    }

    /// A window is open if one of the minutes before, as far as it lasts, is one of the schedule: searched one by one.
    #[test]
    fn windows_are_those_of_a_search_minute_by_minute() {
        let reached = Reached::new([("open", 10), ("closed", 10)]);
        let field = |max: u32, min: u32| {
            prop_oneof![
                2 => Just("*".to_owned()),
                1 => (min..=max).prop_map(|n| n.to_string()),
                1 => (min..=max, min..=max).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
                1 => (1_u32..20).prop_map(|step| format!("*/{step}")),
            ]
        };
        let cron = (field(59, 0), field(23, 0), field(28, 1), field(12, 1), field(6, 0));
        proptest!(|(cron in cron, minutes in 1_u64..4_000, zone in -840_i64..=840, now in 1_700_000_000_i64..1_900_000_000)| {
            let (minute, hour, day, month, weekday) = cron;
            let schedule = Schedule::parse(&format!("{minute} {hour} {day} {month} {weekday}")).unwrap();
            let zone = Zone { text: String::new(), minutes: zone };
            let window = Window { schedule, duration: Duration::from_secs(minutes * 60), zone, ..window("* * * * *", 1, "UTC") };
            let local = now + window.zone.minutes * 60;
            let starts = (0..i64::try_from(minutes).unwrap()).map(|ago| local.div_euclid(60) - ago);
            let mut starts = starts.filter(|m| local - m * 60 < i64::try_from(minutes * 60).unwrap());
            let open = starts.any(|m| window.schedule.has_day(m.div_euclid(DAY)) && window.schedule.has_minute(m.rem_euclid(DAY)));
            prop_assert_eq!(window.is_open(Wall::from_secs(now)), open);
            reached.case("open", open);
            reached.case("closed", !open);
        });
    }

    proptest! {
        #[test]
        fn parsing_and_asking_never_panic(cron in ".{0,40}", zone in ".{0,8}", now: i64) {
            let _ = Zone::parse(&zone);
            if let Ok(schedule) = Schedule::parse(&cron) {
                let window = Window { schedule, ..window("* * * * *", 10_080, "-14:00") };
                let _ = window.is_open(Wall::from_nanos(now));
            }
        }

        #[test]
        fn cron_of_the_right_alphabet_never_panics(cron in "[*0-9,/-]{1,6}( [*0-9,/-]{1,6}){4}", now: i64) {
            if let Ok(schedule) = Schedule::parse(&cron) {
                let window = Window { schedule, ..window("* * * * *", 60, "+14:00") };
                let _ = window.is_open(Wall::from_nanos(now));
            }
        }
    }
}
