//! From claims and clocks to findings.

use std::fmt::Write as _;
use std::time::Duration;

use super::claims::{Claims, Name};
use super::date::{NumericDate, span};
use super::findings::{Finding, Id};
use super::question::{Now, Question, SECOND, leeway_nanos};
use super::shape::{form, span_of_life, unit, zone_shift};
use super::token::Token;
use drift_core::report::shape::Shape;

/// A wider leeway hides a wrong clock instead of tolerating a small skew.
pub const WIDEST_LEEWAY: Duration = Duration::from_secs(120);

/// All findings about a token's times, the most severe first.
pub fn judge(token: &Token, question: &Question) -> Vec<Finding> {
    let claims = &token.claims;
    let mut findings = Vec::new();
    let mut find = |id: Id, message: String| findings.push(Finding { id, message });
    for name in Name::ALL {
        if let Some(date) = claims.date(name)
            && let Some((id, message)) = against_clocks(name, date, question)
            // A time in milliseconds is a finding of its own; that such an `iat` lies ahead adds nothing.
            && !(name == Name::Iat && unit(date).is_some())
        {
            find(id, message);
        }
    }
    if let Some(exp) = claims.date(Name::Exp) {
        let edge = exp.plus(question.leeway);
        if edge.second() == question.now.here().second() {
            find(
                Id::ExpiresThisSecond,
                format!(
                    "{} ends in the current second",
                    if question.leeway.is_zero() { "exp" } else { "exp with its leeway" }
                ),
            );
        }
    }
    if let Some((id, message)) = machine_clock(claims, question) {
        find(id, message);
    }
    form(token, &mut find);
    span_of_life(claims, question, &mut find);
    if let Some(message) = zone_shift(claims, question) {
        find(Id::TimeZoneShift, message);
    }
    if question.leeway > WIDEST_LEEWAY {
        find(Id::LeewayTooWide, format!("the requested leeway is {}", span(leeway_nanos(question))));
    }
    // Stable: findings of one severity stay in the order of a token's life.
    findings.sort_by_key(|f| std::cmp::Reverse(f.id.severity()));
    findings
}

/// A claim as text: against this machine's clock, and against true time if it was measured.
pub fn in_words(name: Name, date: NumericDate, now: &Now) -> String {
    let here = relation(name, date.since(now.here()));
    let Now::Here { truth, .. } = now else { return here };
    let Some(truth) = truth else { return format!("{here} by this clock") };
    let really = relation(name, date.since(truth.at.into()));
    let mut text = format!("{here} by this clock; by true time {really} (±{})", truth.bound.in_words());
    match truth.has_reached(date) {
        None => text.push_str(", too close to call"),
        Some(reached) if reached != (now.here() >= date) => {
            let offset = NumericDate::from(truth.at).since(now.here());
            let side = if offset > 0 { "behind" } else { "ahead" };
            let _ = write!(text, ": this clock is {} {side}", span(offset));
        }
        Some(_) => {}
    }
    text
}

/// A claim that lies `ahead` nanoseconds after now, as text; negative: before now.
fn relation(name: Name, ahead: i128) -> String {
    let how_far = span(ahead);
    match (name, ahead.signum()) {
        (Name::Iat, 1) => format!("issued {how_far} in the future"),
        (Name::Iat, 0) => "issued exactly now".to_owned(),
        (Name::Iat, _) => format!("issued {how_far} ago"),
        (Name::Nbf, 1) => format!("not valid for another {how_far}"),
        (Name::Nbf, 0) => "valid from exactly now".to_owned(),
        (Name::Nbf, _) => format!("valid for {how_far} already"),
        (Name::Exp, 1) => format!("expires in {how_far}"),
        (Name::Exp, 0) => "expires exactly now".to_owned(),
        (Name::Exp, _) => format!("expired {how_far} ago"),
    }
}

/// One claim against the clocks. RFC 7519: valid before `exp`, and from `nbf` on.
fn against_clocks(name: Name, date: NumericDate, question: &Question) -> Option<(Id, String)> {
    let Question { now, leeway, .. } = question;
    let edge = if name == Name::Exp { date.plus(*leeway) } else { date.minus(*leeway) };
    let passes = |reached: bool| reached != (name == Name::Exp);
    let passes_here = passes(now.here() >= edge);
    let passes_truly = now.truth().and_then(|truth| truth.has_reached(edge)).map(passes);
    let passes_without_leeway = passes(now.here() >= date);
    let [plain, by_this_clock, by_true_time, within_leeway] = match name {
        Name::Iat => [
            Id::IssuedInFuture,
            Id::IssuedInFutureByThisClock,
            Id::IssuedInFutureByTrueTime,
            Id::IssuedInFutureWithinLeeway,
        ],
        Name::Nbf => [
            Id::NotYetValid,
            Id::NotYetValidByThisClock,
            Id::NotYetValidByTrueTime,
            Id::NotYetValidWithinLeeway,
        ],
        Name::Exp => [Id::Expired, Id::ExpiredByThisClock, Id::ExpiredByTrueTime, Id::ExpiredWithinLeeway],
    };
    let words = format!("{}: {}", name.as_str(), in_words(name, date, now));
    match (passes_here, passes_truly) {
        (false, truly) => {
            let id = if truly == Some(true) { by_this_clock } else { plain };
            Some((id, format!("{words}; {}", leeway_needed(name, date, now))))
        }
        (true, Some(false)) => Some((by_true_time, words)),
        (true, _) if !passes_without_leeway => {
            Some((within_leeway, format!("{words}; covered by {} of leeway", span(leeway_nanos(question)))))
        }
        (true, _) => None,
    }
}

/// The finding about this machine's clock, whatever the token's age: it is off, with the effect on this
/// token; or it was not measured well enough.
fn machine_clock(claims: &Claims, question: &Question) -> Option<(Id, String)> {
    if matches!(question.now, Now::Given(_)) {
        return None;
    }
    let Some(measured) = question.now.measured() else {
        let message = "true time was not measured, so this clock may be wrong".to_owned();
        return Some((Id::TrueTimeNotMeasured, message));
    };
    let (offset, threshold) = (measured.offset, question.threshold);
    // As `check` judges: a bound wider than the threshold decides only what is certain.
    if measured.bound.as_duration() > threshold && !measured.certainly_exceeds(threshold) {
        let bound = measured.bound.in_words();
        return Some((Id::TrueTimeNotMeasured, format!("true time was measured to ±{bound} only")));
    }
    if offset.magnitude() <= threshold {
        return None;
    }
    let mut message = format!("this clock is {measured}");
    let (by, is_behind) = (span(offset.as_nanos().into()), offset.as_nanos() > 0);
    let start = [Name::Nbf, Name::Iat].into_iter().find(|name| claims.date(*name).is_some());
    let end = claims.date(Name::Exp).map(|_| {
        if is_behind {
            format!("it accepts this token for {by} after its exp")
        } else {
            format!("it rejects this token {by} before its exp")
        }
    });
    let start = start.map(|name| match (is_behind, name) {
        (true, Name::Nbf) => format!("rejects this token until {by} after its nbf"),
        (true, _) => format!("this token looks issued in the future until {by} after its {}", name.as_str()),
        (false, _) => format!("accepts this token {by} before its {}", name.as_str()),
    });
    match (end, start) {
        (Some(end), Some(start)) => {
            let _ = write!(message, ": {end}, and {start}");
        }
        (Some(one), None) => {
            let _ = write!(message, ": {one}");
        }
        (None, _) => {}
    }
    if let Some(shape) = Shape::of(measured) {
        let _ = write!(message, "; off by {shape}");
    }
    Some((Id::ThisClockIsOff, message))
}

/// The smallest leeway, in whole seconds, with which a claim passes by this machine's clock; none for a clock that is
/// off by a known size.
fn leeway_needed(name: Name, date: NumericDate, now: &Now) -> String {
    let late = now.here().since(date);
    if let Some(shape) = now.measured().and_then(Shape::of) {
        return format!("this clock is off by {shape}: fix the clock, no leeway is for that");
    }
    let ahead = u64::try_from(-late).ok().map(Duration::from_nanos).filter(|_| name != Name::Exp);
    if let Some(shape) = ahead.and_then(Shape::of_token_ahead) {
        return format!("about {shape}: fix the clock that is wrong, no leeway is for that");
    }
    let seconds = match name {
        // The instant of `exp` itself is too late, so an even number of seconds needs one more.
        Name::Exp => late.div_euclid(SECOND) + 1,
        Name::Iat | Name::Nbf => -late.div_euclid(SECOND),
    };
    if u64::try_from(seconds).is_ok_and(|s| s <= WIDEST_LEEWAY.as_secs()) {
        format!("{seconds} s of leeway would let it pass")
    } else {
        format!(
            "even {} s of leeway, the most that clocks justify, would not let it pass",
            WIDEST_LEEWAY.as_secs()
        )
    }
}
