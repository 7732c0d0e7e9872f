//! Findings that need only the claims: how they are written, whether they fit each other, and local times.

use super::claims::{Claims, Name, TimeValue};
use super::date::{NumericDate, span};
use super::findings::Id;
use super::question::{Question, SECOND, leeway_nanos};
use super::token::Token;
use drift_core::time::ExactSpan;

const HALF_HOUR: i128 = 1_800 * SECOND;
/// Time zones reach from UTC-12 to UTC+14.
const ZONE_HALF_HOURS: std::ops::RangeInclusive<i128> = 1..=28;
/// A shift may be so far from a whole half hour: a token is not judged in the second in which it is issued.
const ZONE_TOLERANCE: i128 = 60 * SECOND;
/// From this number on a time is read as milliseconds: it is the year 1973 in milliseconds, the year 5138 in
/// seconds.
const MILLISECONDS_FROM: i128 = 100_000_000_000;
/// At most so many names that occur twice are listed.
const DUPLICATES_LISTED_MAX: usize = 5;

/// Findings about how the claims are written.
pub(super) fn form(token: &Token, find: &mut impl FnMut(Id, String)) {
    let claims = &token.claims;
    for (name, claim) in &claims.times {
        let (name, written) = (name.as_str(), &claim.written);
        match claim.value {
            TimeValue::Text(date) => {
                let meant =
                    date.map_or_else(String::new, |date| format!("; a reader sees {}", date.in_words()));
                find(Id::TextTime, format!("{name} is the text {written}{meant}"));
            }
            TimeValue::Other(what) => find(Id::NonNumericTime, format!("{name} is {what}")),
            TimeValue::Number { date, is_fractional } => {
                if is_fractional {
                    find(Id::FractionalTime, format!("{name} is written as {written}"));
                }
                if date.as_nanos() < 0 {
                    find(Id::NegativeTime, format!("{name} is {written}: {}", date.in_words()));
                }
                if let Some((unit, nanos)) = unit(date) {
                    let meant = NumericDate::from_nanos(nanos).in_words();
                    find(
                        Id::NotInSeconds,
                        format!("{name} is {written}: {meant} in {unit}, {} in seconds", date.in_words()),
                    );
                } else if date.second() >= MILLISECONDS_FROM {
                    find(Id::HugeTime, format!("{name} is {written}: {}", date.in_words()));
                }
            }
        }
    }
    if !claims.times.contains_key(&Name::Exp) {
        find(Id::MissingExp, "there is no exp".to_owned());
    }
    if !claims.times.contains_key(&Name::Iat) {
        find(Id::MissingIat, "there is no iat".to_owned());
    }
    for (place, names) in [("claims", &claims.duplicates), ("header", &token.duplicate_header)] {
        if !names.is_empty() {
            let listed: Vec<String> =
                names.iter().take(DUPLICATES_LISTED_MAX).map(|name| format!("{name:?}")).collect();
            let rest = names.len().saturating_sub(DUPLICATES_LISTED_MAX);
            let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
            find(
                Id::DuplicateClaim,
                format!(
                    "twice or more in the {place}: {}{more}; the last one is judged here",
                    listed.join(", ")
                ),
            );
        }
    }
    if token.is_loosely_encoded {
        find(Id::LooseBase64, "padding, or '+' and '/' in place of '-' and '_'".to_owned());
    }
}

/// The unit of a number that is too large for seconds, and its nanoseconds when it is read in that unit.
pub(super) fn unit(date: NumericDate) -> Option<(&'static str, i128)> {
    let seconds = date.second();
    let units = [("milliseconds", 1_000), ("microseconds", 1_000_000), ("nanoseconds", 1_000_000_000)];
    // The numbers of each unit begin where those of the unit before end.
    let ends = units.map(|(_, per_second)| MILLISECONDS_FROM * per_second);
    let found =
        units.iter().zip(ends).find(|(_, end)| seconds < *end).filter(|_| seconds >= MILLISECONDS_FROM);
    found.map(|((unit, per_second), _)| (*unit, date.as_nanos() / per_second))
}

/// The date of a claim whose number can be seconds.
fn plausible(claims: &Claims, name: Name) -> Option<NumericDate> {
    claims.date(name).filter(|date| date.second() < MILLISECONDS_FROM)
}

/// Findings about the order of the claims, and about the lifetime of the token.
pub(super) fn span_of_life(claims: &Claims, question: &Question, find: &mut impl FnMut(Id, String)) {
    let [iat, nbf, exp] = Name::ALL.map(|name| plausible(claims, name));
    let Some(exp) = exp else { return };
    for (id, name, start) in [(Id::ExpBeforeNbf, "nbf", nbf), (Id::ExpBeforeIat, "iat", iat)] {
        if let Some(start) = start
            && exp <= start
        {
            let how_far = if exp == start {
                "the same as".to_owned()
            } else {
                format!("{} before", span(start.since(exp)))
            };
            find(id, format!("exp is {how_far} {name}"));
        }
    }
    let (start, since) = match (iat, nbf) {
        (Some(iat), _) => (iat, "from iat to exp"),
        (None, Some(nbf)) => (nbf, "from nbf to exp"),
        (None, None) => (question.now.best(), "from now"),
    };
    let (life, longest) = (exp.since(start), question.kind.longest_life());
    if life > i128::try_from(longest.as_nanos()).unwrap_or(i128::MAX) {
        let (life, kind) = (span(life), question.kind.in_words());
        let longest = ExactSpan(longest);
        find(
            Id::LifetimeTooLong,
            format!("the lifetime of this token is {life} ({since}); the limit for {kind} is {longest}"),
        );
    }
}

/// The message if a time, or this machine's clock, looks like a local time that was read as UTC.
pub(super) fn zone_shift(claims: &Claims, question: &Question) -> Option<String> {
    let now = question.now.best();
    if let Some(truth) = question.now.truth() {
        let offset = now.since(question.now.here());
        if let Some(hours) =
            half_hours(offset).filter(|_| i128::from(truth.bound.as_nanos()) <= ZONE_TOLERANCE)
        {
            let side = if offset > 0 { "behind" } else { "ahead" };
            return Some(format!(
                "this clock is {hours} {side}, within a minute: a hardware clock in local time?"
            ));
        }
    }
    let (name, start) =
        [Name::Iat, Name::Nbf].iter().find_map(|name| Some((name.as_str(), plausible(claims, *name)?)))?;
    let ahead = start.since(now);
    let hours = half_hours(ahead)?;
    if ahead > leeway_nanos(question) {
        return Some(format!(
            "{name} is {hours} ahead, within a minute: the local time of a zone east of UTC?"
        ));
    }
    let has_expired = plausible(claims, Name::Exp).is_some_and(|exp| exp <= now);
    (ahead < 0 && has_expired).then(|| {
        format!("{name} is {hours} ago, within a minute: if the token is fresh, the local time of a zone west of UTC")
    })
}

/// A shift of whole half hours, within [`ZONE_TOLERANCE`], as text; `None` for any other shift.
fn half_hours(nanos: i128) -> Option<String> {
    let size = nanos.saturating_abs();
    let count = (size + HALF_HOUR / 2) / HALF_HOUR;
    let is_one = ZONE_HALF_HOURS.contains(&count) && (size - count * HALF_HOUR).abs() <= ZONE_TOLERANCE;
    is_one.then(|| match (count / 2, count % 2) {
        (0, _) => "half an hour".to_owned(),
        (1, 0) => "1 hour".to_owned(),
        (hours, 0) => format!("{hours} hours"),
        (hours, _) => format!("{hours} and a half hours"),
    })
}
