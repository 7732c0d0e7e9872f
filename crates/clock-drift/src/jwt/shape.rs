//! Findings that need only the claims: how they are written, whether they fit each other, and local times.

use std::time::Duration;

use super::claims::{Claims, Name, TimeValue};
use super::date::{NumericDate, span};
use super::findings::Id;
use super::question::{Question, leeway_nanos};
use super::token::Token;
use drift_core::report::shape::{Shape, whole_quarters};
use drift_core::time::{ExactSpan, Measurement};

/// A shift may be so far from a zone's: a token is not judged in the second in which it is issued.
const ZONE_TOLERANCE: Duration = Duration::from_secs(60);
/// The zones that are no whole number of half hours from UTC, in quarters of an hour. Other quarters are no sign of a
/// zone: a token of a quarter of an hour has just expired.
const ODD_ZONES: [u32; 3] = [23, 35, 51];
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
    if let Some((measured, shape @ Shape::Quarters(_))) = question.now.measured().and_then(shape_of) {
        return Some(format!("this clock is {}: {}", measured.offset.in_words(), shape.remedy()));
    }
    let (name, start) =
        [Name::Iat, Name::Nbf].iter().find_map(|name| Some((name.as_str(), plausible(claims, *name)?)))?;
    let ahead = start.since(now);
    let hours = zone_distance(ahead)?;
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

fn shape_of(measured: Measurement) -> Option<(Measurement, Shape)> {
    Some((measured, Shape::of(measured)?))
}

/// How far a zone is from UTC, if this is such a distance to within [`ZONE_TOLERANCE`].
fn zone_distance(nanos: i128) -> Option<ExactSpan> {
    let size = Duration::from_nanos(u64::try_from(nanos.unsigned_abs()).ok()?);
    let quarters = whole_quarters(size, ZONE_TOLERANCE)?;
    let is_zone = quarters.is_multiple_of(2) || ODD_ZONES.contains(&quarters);
    is_zone.then(|| ExactSpan(Shape::Quarters(quarters).size()))
}
