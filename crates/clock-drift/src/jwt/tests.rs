//! Every finding at its limits: one nanosecond on either side.

use std::time::Duration;

use proptest::prelude::*;

use super::cases::Key;
use super::claims::Name;
use super::date::NumericDate;
use super::findings::{Finding, Id, Verdict};
use super::judge::{in_words, judge};
use super::question::{Kind, Now, Question, Truth};
use super::token::Token;
use crate::test_support::Reached;
use drift_core::report::shape::Shape;
use drift_core::time::{Bound, NANOS_PER_SEC, Offset, Wall};

/// 2026-11-22T10:00:00Z.
const NOW: i64 = 1_795_341_600;
const SECOND: i64 = NANOS_PER_SEC;
const THRESHOLD: Duration = Duration::from_millis(100);

fn token(claims: &str) -> Token {
    let token = Key::new([1, 2, 3, 4]).sign(&format!("{{{claims}}}"));
    Token::read(token.as_bytes()).unwrap_or_else(|e| panic!("{claims}: {e}"))
}

/// The time so many nanoseconds after [`NOW`].
fn wall(nanos: i64) -> Wall {
    Wall::from_nanos(NOW * SECOND + nanos)
}

fn judged(claims: &str, now: Now, leeway: i64, kind: Kind) -> Vec<Finding> {
    let leeway = Duration::from_nanos(leeway.unsigned_abs());
    judge(&token(claims), &Question { now, leeway, kind, threshold: THRESHOLD })
}

fn ids(findings: &[Finding]) -> Vec<Id> {
    findings.iter().map(|f| f.id).collect()
}

/// The findings so many nanoseconds after [`NOW`], with so many of leeway.
fn found(claims: &str, nanos: i64, leeway: i64) -> Vec<Id> {
    ids(&judged(claims, Now::Given(wall(nanos)), leeway, Kind::Access))
}

/// The findings with this machine's clock at `here` and true time at `truth` ± `bound`, all in nanoseconds
/// from [`NOW`].
fn found_truly(claims: &str, here: i64, truth: i64, bound: i64) -> Vec<Finding> {
    let truth = Truth { at: wall(truth), bound: Bound::from_nanos(bound) };
    judged(claims, Now::Here { clock: wall(here), truth: Some(truth) }, 0, Kind::Access)
}

/// `iat` a minute before [`NOW`], `exp` at it.
fn expires_at_now() -> String {
    format!(r#""iat":{},"exp":{NOW}"#, NOW - 60)
}

#[test]
fn valid_tokens_have_no_findings() {
    let claims = format!(r#""iat":{NOW},"nbf":{NOW},"exp":{}"#, NOW + 300);
    assert_eq!(found(&claims, 0, 0), []);
    assert_eq!(found(&claims, 0, 120 * SECOND), []);
}

#[test]
fn exp_has_passed_at_exp_itself_and_leeway_moves_it() {
    let claims = expires_at_now();
    assert_eq!(found(&claims, -1, 0), []);
    assert_eq!(found(&claims, 0, 0), [Id::Expired, Id::ExpiresThisSecond]);
    assert_eq!(found(&claims, 5 * SECOND, 0), [Id::Expired]);
    assert_eq!(found(&claims, 4 * SECOND, 5 * SECOND), [Id::ExpiredWithinLeeway]);
    assert_eq!(found(&claims, 5 * SECOND - 1, 5 * SECOND), [Id::ExpiredWithinLeeway]);
    assert_eq!(found(&claims, 5 * SECOND, 5 * SECOND), [Id::Expired, Id::ExpiresThisSecond]);
}

#[test]
fn expires_this_second_covers_the_whole_second_of_exp() {
    let claims = expires_at_now();
    for (nanos, is_found) in [(-1, false), (0, true), (SECOND - 1, true), (SECOND, false)] {
        assert_eq!(found(&claims, nanos, 0).contains(&Id::ExpiresThisSecond), is_found, "{nanos}");
        assert_eq!(
            found(&claims, nanos + 5 * SECOND, 5 * SECOND).contains(&Id::ExpiresThisSecond),
            is_found,
            "{nanos}"
        );
    }
    // Still valid, but verifiers that cut off the fraction reject it.
    let claims = format!(r#""iat":{},"exp":{NOW}.75"#, NOW - 60);
    assert_eq!(found(&claims, SECOND / 2, 0), [Id::ExpiresThisSecond, Id::FractionalTime]);
}

#[test]
fn nbf_is_reached_at_nbf_itself_and_leeway_moves_it() {
    let claims = format!(r#""iat":{},"nbf":{NOW},"exp":{}"#, NOW - 60, NOW + 300);
    assert_eq!(found(&claims, 0, 0), []);
    assert_eq!(found(&claims, -1, 0), [Id::NotYetValid]);
    assert_eq!(found(&claims, -1, 5 * SECOND), [Id::NotYetValidWithinLeeway]);
    assert_eq!(found(&claims, -5 * SECOND, 5 * SECOND), [Id::NotYetValidWithinLeeway]);
    assert_eq!(found(&claims, -5 * SECOND - 1, 5 * SECOND), [Id::NotYetValid]);
}

#[test]
fn iat_in_the_future_is_a_finding_and_leeway_moves_it() {
    let claims = format!(r#""iat":{NOW},"exp":{}"#, NOW + 300);
    assert_eq!(found(&claims, 0, 0), []);
    assert_eq!(found(&claims, -1, 0), [Id::IssuedInFuture]);
    assert_eq!(found(&claims, -5 * SECOND, 5 * SECOND), [Id::IssuedInFutureWithinLeeway]);
    assert_eq!(found(&claims, -5 * SECOND - 1, 5 * SECOND), [Id::IssuedInFuture]);
}

#[test]
fn findings_by_true_time_require_that_its_bound_excludes_the_limit() {
    let (ms, bound) = (1_000_000, 2_000_000);
    let expires = expires_at_now();
    let begins = format!(r#""iat":{},"nbf":{NOW},"exp":{}"#, NOW - 60, NOW + 300);
    let issued = format!(r#""iat":{NOW},"exp":{}"#, NOW + 300);
    // This clock, true time, finding; the limit is at 0 for all of them.
    for (claims, here, truth, id) in [
        (&expires, 3 * SECOND, -bound - 1, Id::ExpiredByThisClock),
        (&expires, 3 * SECOND, -bound, Id::Expired),
        (&expires, 3 * SECOND, bound + ms, Id::Expired),
        (&expires, -3 * SECOND, bound, Id::ExpiredByTrueTime),
        (&begins, -3 * SECOND, bound, Id::NotYetValidByThisClock),
        (&begins, -3 * SECOND, bound - 1, Id::NotYetValid),
        (&begins, -3 * SECOND, -3 * SECOND, Id::NotYetValid),
        (&begins, 3 * SECOND, -bound - 1, Id::NotYetValidByTrueTime),
        (&issued, -3 * SECOND, bound, Id::IssuedInFutureByThisClock),
        (&issued, -3 * SECOND, bound - 1, Id::IssuedInFuture),
        (&issued, -3 * SECOND, -3 * SECOND, Id::IssuedInFuture),
        (&issued, 3 * SECOND, -bound - 1, Id::IssuedInFutureByTrueTime),
    ] {
        let found = ids(&found_truly(claims, here, truth, bound));
        let is_off = (here - truth).abs() > SECOND;
        let clock = is_off.then_some(Id::ThisClockIsOff);
        let mut expected: Vec<Id> = [Some(id), clock].into_iter().flatten().collect();
        expected.sort_by_key(|id| std::cmp::Reverse(id.severity()));
        assert_eq!(found, expected, "{here} {truth}");
    }
    for (claims, here, truth) in
        [(&expires, -3 * SECOND, bound - 1), (&begins, 3 * SECOND, -bound), (&issued, 3 * SECOND, -bound)]
    {
        assert_eq!(ids(&found_truly(claims, here, truth, bound)), [Id::ThisClockIsOff], "{here} {truth}");
    }
}

#[test]
fn clocks_over_the_threshold_are_a_finding_at_any_age_of_the_token() {
    let ms = 1_000_000;
    let both = format!(r#""iat":{},"nbf":{},"exp":{}"#, NOW - 600, NOW - 600, NOW + 300);
    let without_nbf = format!(r#""iat":{},"exp":{}"#, NOW - 600, NOW + 300);
    // True time is at 0: a clock that reads more is ahead.
    for (claims, here, message) in [
        (
            &both,
            45 * SECOND,
            "this clock is 45 s ahead (±2 ms): it rejects this token 45 s before its exp, and accepts this token 45 s before its nbf",
        ),
        (
            &without_nbf,
            45 * SECOND,
            "this clock is 45 s ahead (±2 ms): it rejects this token 45 s before its exp, and accepts this token 45 s before its iat",
        ),
        (
            &both,
            -3 * SECOND,
            "this clock is 3 s behind (±2 ms): it accepts this token for 3 s after its exp, and rejects this token until 3 s after its nbf",
        ),
        (
            &without_nbf,
            -3 * SECOND,
            "this clock is 3 s behind (±2 ms): it accepts this token for 3 s after its exp, and this token looks issued in the future until 3 s after its iat",
        ),
    ] {
        let found = found_truly(claims, here, 0, 2 * ms);
        assert_eq!(ids(&found), [Id::ThisClockIsOff]);
        assert_eq!(found[0].message, message);
        assert_eq!(Verdict::of(&found), Verdict::Suspicious);
    }
    assert_eq!(ids(&found_truly(&both, 100 * ms, 0, 2 * ms)), [], "the threshold itself");
    assert_eq!(ids(&found_truly(&both, 100 * ms + 1, 0, 2 * ms)), [Id::ThisClockIsOff]);
    assert_eq!(ids(&found_truly(&both, -100 * ms - 1, 0, 2 * ms)), [Id::ThisClockIsOff]);
}

#[test]
fn unmeasured_clocks_never_give_the_verdict_valid() {
    let claims = format!(r#""iat":{},"exp":{}"#, NOW - 60, NOW + 300);
    let unmeasured = judged(&claims, Now::Here { clock: wall(0), truth: None }, 0, Kind::Access);
    assert_eq!(ids(&unmeasured), [Id::TrueTimeNotMeasured]);
    assert_eq!(Verdict::of(&unmeasured), Verdict::ValidByThisClock);
    let ms = 1_000_000;
    assert_eq!(ids(&found_truly(&claims, 0, 0, 100 * ms)), []);
    let wide = found_truly(&claims, 0, 0, 100 * ms + 1);
    assert_eq!(Verdict::of(&wide), Verdict::ValidByThisClock, "a bound over the threshold hides a drift");
    let undecided = found_truly(&claims, 150 * ms, 0, 600 * ms);
    assert_eq!(ids(&undecided), [Id::TrueTimeNotMeasured], "150 ms ± 600 ms may be within the threshold");
    let certain = found_truly(&claims, 10 * SECOND, 0, 600 * ms);
    assert!(ids(&certain).contains(&Id::ThisClockIsOff), "10 s ± 600 ms is certainly off");
    assert_eq!(wide[0].message, "true time was measured to ±100 ms only");
    assert_eq!(Verdict::of(&judged(&claims, Now::Given(wall(0)), 0, Kind::Access)), Verdict::Valid);
}

#[test]
fn times_are_written_by_both_clocks_with_the_wrong_one_named() {
    let now = |here, truth, bound| Now::Here {
        clock: wall(here),
        truth: Some(Truth { at: wall(truth), bound: Bound::from_nanos(bound) }),
    };
    let date = NumericDate::from(wall(0));
    assert_eq!(
        in_words(Name::Iat, date, &now(-2_900_000_000, 100_000_000, 2_000_000)),
        "issued 2.90 s in the future by this clock; by true time issued 100 ms ago (±2 ms): this clock is 3 s behind"
    );
    assert_eq!(
        in_words(Name::Exp, date, &now(3 * SECOND, -SECOND, 2_000_000)),
        "expired 3 s ago by this clock; by true time expires in 1 s (±2 ms): this clock is 4 s ahead"
    );
    assert_eq!(
        in_words(Name::Nbf, date, &now(-SECOND, 1_000_000, 2_000_000)),
        "not valid for another 1 s by this clock; by true time valid for 1 ms already (±2 ms), too close to call"
    );
    assert_eq!(
        in_words(Name::Exp, date, &now(SECOND, 2 * SECOND, 0)),
        "expired 1 s ago by this clock; by true time expired 2 s ago (±0 s)"
    );
    let alone = Now::Here { clock: wall(0), truth: None };
    assert_eq!(in_words(Name::Exp, date, &alone), "expires exactly now by this clock");
    assert_eq!(in_words(Name::Nbf, date, &Now::Given(wall(0))), "valid from exactly now");
}

#[test]
fn messages_name_the_leeway_that_would_suffice() {
    let message =
        |claims: &str, nanos| judged(claims, Now::Given(wall(nanos)), 0, Kind::Access)[0].message.clone();
    let expires = expires_at_now();
    for (nanos, words) in [
        (0, "; 1 s of leeway would let it pass"),
        (SECOND - 1, "; 1 s of leeway"),
        (SECOND, "; 2 s of leeway"),
        (120 * SECOND - 1, "; 120 s of leeway"),
        (120 * SECOND, "; even 120 s of leeway, the most that clocks justify, would not"),
    ] {
        assert!(message(&expires, nanos).contains(words), "{nanos}: {}", message(&expires, nanos));
    }
    let begins = format!(r#""nbf":{NOW},"exp":{}"#, NOW + 300);
    for (nanos, words) in [
        (-1, "; 1 s of"),
        (-SECOND, "; 1 s of"),
        (-SECOND - 1, "; 2 s of"),
        (-120 * SECOND, "; 120 s of"),
        (-120 * SECOND - 1, "; even 120 s of leeway"),
    ] {
        assert!(message(&begins, nanos).contains(words), "{nanos}: {}", message(&begins, nanos));
    }
}

#[test]
fn clocks_that_are_off_by_a_known_size_get_no_advice_on_leeway() {
    let claims = format!(r#""iat":{0},"nbf":{0},"exp":{1}"#, NOW - 1, NOW + 300);
    for (here, words) in [
        (-37 * SECOND, "37 s, as far as TAI is ahead of UTC"),
        (-18 * SECOND, "18 s, as far as GPS time is ahead of UTC"),
        (-3_600 * SECOND, "1 h to within a second or two, as local time"),
    ] {
        let findings = found_truly(&claims, here, 0, 1_000_000);
        let all: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
        let nbf = findings.iter().find(|f| f.id == Id::NotYetValidByThisClock).unwrap();
        assert!(nbf.message.contains(words) && nbf.message.ends_with("no leeway is for that"), "{all:?}");
        assert!(!all.iter().any(|message| message.contains("of leeway")), "{all:?}");
        let clock = findings.iter().find(|f| f.id == Id::ThisClockIsOff).unwrap();
        assert!(clock.message.contains(&format!("; off by {words}")), "{all:?}");
    }
    // The issuer is 37 s ahead, and the token a second old.
    let issued_ahead = format!(r#""iat":{},"exp":{}"#, NOW + 36, NOW + 300);
    let message = found_truly(&issued_ahead, 0, 0, 1_000_000).remove(0).message;
    assert!(message.contains("; about 37 s, as far as TAI") && !message.contains("of leeway"), "{message}");
    let by_20_s = found_truly(&claims, -20 * SECOND, 0, 1_000_000);
    assert!(by_20_s[0].message.ends_with("; 19 s of leeway would let it pass"), "{by_20_s:?}");
}

#[test]
fn missing_exp_and_iat_are_findings() {
    assert_eq!(found(&format!(r#""iat":{NOW}"#), 0, 0), [Id::MissingExp]);
    assert_eq!(found(&format!(r#""exp":{}"#, NOW + 300), 0, 0), [Id::MissingIat]);
    assert_eq!(found("", 0, 0), [Id::MissingExp, Id::MissingIat]);
}

#[test]
fn units_other_than_seconds_are_recognised_by_size() {
    let of_exp = |exp: &str| found(&format!(r#""iat":{NOW},"exp":{exp}"#), 0, 0);
    assert_eq!(of_exp("99999999999"), [Id::LifetimeTooLong]);
    for exp in
        ["100000000000", "99999999999999", "100000000000000", "100000000000000000", "99999999999999999999"]
    {
        assert_eq!(of_exp(exp), [Id::NotInSeconds], "{exp}");
    }
    assert_eq!(of_exp("100000000000000000000"), [Id::HugeTime]);
    assert_eq!(of_exp("1e999"), [Id::HugeTime, Id::FractionalTime]);
    let message = |exp: &str| {
        judged(&format!(r#""iat":{NOW},"exp":{exp}"#), Now::Given(wall(0)), 0, Kind::Access)[0]
            .message
            .clone()
    };
    assert_eq!(
        message("1795341900250"),
        "exp is 1795341900250: 2026-11-22T10:05:00.25Z in milliseconds, the year 58862 in seconds"
    );
    assert!(message("1795341900250000").contains("2026-11-22T10:05:00.25Z in microseconds"));
    assert!(message("1795341900250000000").contains("2026-11-22T10:05:00.25Z in nanoseconds"));
    // Such an iat lies far ahead, which is not a second finding; such an nbf is never reached.
    assert_eq!(found(&format!(r#""iat":{NOW}000,"exp":{}"#, NOW + 300), 0, 0), [Id::NotInSeconds]);
    assert_eq!(
        found(&format!(r#""iat":{NOW},"nbf":{NOW}000,"exp":{}"#, NOW + 300), 0, 0),
        [Id::NotYetValid, Id::NotInSeconds]
    );
}

#[test]
fn negative_fractional_and_exponent_numbers_are_findings() {
    let of_iat = |iat: &str| found(&format!(r#""iat":{iat},"nbf":{NOW},"exp":{}"#, NOW + 300), 0, 0);
    assert_eq!(of_iat("0"), [Id::LifetimeTooLong]);
    assert_eq!(of_iat("-0"), [Id::LifetimeTooLong]);
    assert_eq!(of_iat("-1"), [Id::NegativeTime, Id::LifetimeTooLong]);
    assert_eq!(of_iat("-0.000000001"), [Id::NegativeTime, Id::LifetimeTooLong, Id::FractionalTime]);
    assert_eq!(of_iat(&format!("{NOW}.0")), [Id::FractionalTime]);
    assert_eq!(of_iat(&format!("{NOW}0e-1")), [Id::FractionalTime]);
}

#[test]
fn times_that_are_not_numbers_are_errors_that_name_their_type() {
    for (value, id, words) in [
        (
            r#""1795341900""#,
            Id::TextTime,
            "exp is the text \"1795341900\"; a reader sees 2026-11-22T10:05:00Z",
        ),
        (r#""2026-11-22T12:05:00+02:00""#, Id::TextTime, "a reader sees 2026-11-22T10:05:00Z"),
        (r#""soon""#, Id::TextTime, "exp is the text \"soon\""),
        ("null", Id::NonNumericTime, "exp is null"),
        ("true", Id::NonNumericTime, "exp is a boolean"),
        ("false", Id::NonNumericTime, "exp is a boolean"),
        ("[1]", Id::NonNumericTime, "exp is an array"),
        ("{}", Id::NonNumericTime, "exp is an object"),
    ] {
        let findings = judged(&format!(r#""iat":{NOW},"exp":{value}"#), Now::Given(wall(0)), 0, Kind::Access);
        assert_eq!(ids(&findings), [id], "{value}");
        assert!(findings[0].message.contains(words), "{}", findings[0].message);
    }
}

#[test]
fn duplicate_names_are_findings_in_any_spelling() {
    let twice = format!(r#""iat":{NOW},"exp":1,"\u0065xp":{}"#, NOW + 300);
    let findings = judged(&twice, Now::Given(wall(0)), 0, Kind::Access);
    assert_eq!(ids(&findings), [Id::DuplicateClaim], "the last one is judged");
    assert!(findings[0].message.contains("claims: \"exp\"; the last"), "{}", findings[0].message);
    let names = (0..7).map(|n| format!(r#","n{n}":0,"n{n}":0"#)).collect::<Vec<_>>().concat();
    let findings =
        judged(&format!(r#""iat":{NOW},"exp":{}{names}"#, NOW + 300), Now::Given(wall(0)), 0, Kind::Access);
    assert!(findings[0].message.contains("\"n4\" and 2 more"), "{}", findings[0].message);
    // Only the top level counts: nested members are not registered claims.
    assert_eq!(found(&format!(r#""iat":{NOW},"exp":{},"a":{{"exp":1,"exp":2}}"#, NOW + 300), 0, 0), []);
}

#[test]
fn exp_at_or_before_nbf_or_iat_is_a_finding() {
    let of = |iat: i64, nbf: i64, exp: &str| found(&format!(r#""iat":{iat},"nbf":{nbf},"exp":{exp}"#), 0, 0);
    let now = NOW.to_string();
    assert_eq!(of(NOW - 60, NOW, &now), [Id::Expired, Id::ExpiresThisSecond, Id::ExpBeforeNbf]);
    assert_eq!(of(NOW - 60, NOW, &format!("{NOW}.000000001")), [Id::ExpiresThisSecond, Id::FractionalTime]);
    assert_eq!(of(NOW, NOW - 60, &now), [Id::Expired, Id::ExpiresThisSecond, Id::ExpBeforeIat]);
    assert_eq!(of(NOW, NOW - 60, &format!("{NOW}.000000001")), [Id::ExpiresThisSecond, Id::FractionalTime]);
}

#[test]
fn lifetime_limit_depends_on_the_kind_of_token() {
    for (kind, seconds) in [(Kind::Access, 900), (Kind::Id, 3_600), (Kind::Refresh, 30 * 86_400)] {
        let now = Now::Given(wall(0));
        let of = |claims: String| ids(&judged(&claims, now, 0, kind));
        let end = NOW + seconds;
        assert_eq!(of(format!(r#""iat":{NOW},"exp":{end}"#)), []);
        assert_eq!(
            of(format!(r#""iat":{NOW},"exp":{end}.000000001"#)),
            [Id::LifetimeTooLong, Id::FractionalTime]
        );
        assert_eq!(of(format!(r#""nbf":{NOW},"exp":{end}"#)), [Id::MissingIat]);
        assert_eq!(of(format!(r#""nbf":{},"exp":{end}"#, NOW - 1)), [Id::LifetimeTooLong, Id::MissingIat]);
        assert_eq!(of(format!(r#""iat":{NOW},"nbf":{},"exp":{end}"#, NOW - 1)), [], "iat goes before nbf");
        assert_eq!(of(format!(r#""exp":{end}"#)), [Id::MissingIat]);
        assert_eq!(
            of(format!(r#""exp":{}"#, end + 1)),
            [Id::LifetimeTooLong, Id::MissingIat],
            "counted from now"
        );
    }
}

#[test]
fn shifts_by_a_zones_distance_look_like_a_time_zone() {
    let is_shift = |claims: String, leeway| found(&claims, 0, leeway).contains(&Id::TimeZoneShift);
    let ahead =
        |seconds: i64| is_shift(format!(r#""iat":{},"exp":{}"#, NOW + seconds, NOW + seconds + 300), 0);
    let fresh = [0, 60, 900, 1_739, 1_861, 2_700, 50_461, 52_200];
    let shifted = [1_740, 1_800, 1_860, 3_540, 3_660, 5_400, 19_800, 20_700, 31_500, 45_900, 50_400, 50_460];
    assert!(fresh.iter().all(|s| !ahead(*s)) && shifted.iter().all(|s| ahead(*s)));
    let ago = |seconds: i64| is_shift(format!(r#""iat":{},"exp":{}"#, NOW - seconds, NOW - seconds + 300), 0);
    assert!(fresh.iter().all(|s| !ago(*s)) && shifted.iter().all(|s| ago(*s)));
    // A token that is an hour old and still valid shows no shift.
    assert!(!is_shift(format!(r#""iat":{},"exp":{}"#, NOW - 3_600, NOW + 300), 0));
    assert!(is_shift(format!(r#""nbf":{},"exp":{}"#, NOW + 3_600, NOW + 3_900), 0), "nbf does without iat");
    assert!(!is_shift(format!(r#""iat":{}000,"exp":{}"#, NOW + 3_600, NOW + 3_900), 0), "not in seconds");
}

#[test]
fn clocks_off_by_a_time_zone_are_reported_once() {
    let claims = format!(r#""iat":{NOW},"exp":{}"#, NOW + 300);
    let hour = 3_600 * SECOND;
    for (here, words) in [
        (-hour, "this clock is 1 h behind: look for local time"),
        (5 * hour + hour / 2, "this clock is 5 h 30 min ahead: look for"),
    ] {
        let findings = found_truly(&claims, here, 0, 1_000_000);
        let shift: Vec<_> = findings.iter().filter(|f| f.id == Id::TimeZoneShift).collect();
        assert!(shift.len() == 1 && shift[0].message.contains(words), "{findings:?}");
    }
    assert!(!ids(&found_truly(&claims, -61 * SECOND, 0, 0)).contains(&Id::TimeZoneShift));
    assert!(
        !ids(&found_truly(&claims, -hour, 0, 61 * SECOND)).contains(&Id::TimeZoneShift),
        "too vague for that"
    );
}

#[test]
fn leeway_over_two_minutes_is_a_finding() {
    let claims = format!(r#""iat":{NOW},"exp":{}"#, NOW + 300);
    assert_eq!(found(&claims, 0, 120 * SECOND), []);
    assert_eq!(found(&claims, 0, 120 * SECOND + 1), [Id::LeewayTooWide]);
}

#[test]
fn findings_are_sorted_by_severity() {
    let findings = judged(r#""nbf":0,"exp":-1.5"#, Now::Given(wall(0)), 121 * SECOND, Kind::Access);
    let severities: Vec<_> = findings.iter().map(|f| f.id.severity()).collect();
    assert!(
        severities.is_sorted_by(|a, b| a >= b) && severities.first() != severities.last(),
        "{findings:?}"
    );
    assert_eq!(Verdict::of(&findings), Verdict::NotValid);
}

#[test]
fn every_finding_occurs_in_these_tests() {
    let source = include_str!("tests.rs");
    for id in Id::ALL.iter().filter(|id| **id != Id::LooseBase64) {
        assert!(source.contains(&format!("Id::{id:?}")), "{id:?}");
    }
}

proptest! {
    #[test]
    fn named_leeway_suffices_and_one_second_less_does_not(late in 0..120 * SECOND, is_exp: bool) {
        let claims = if is_exp { expires_at_now() } else { format!(r#""nbf":{NOW},"exp":{}"#, NOW + 900) };
        let (nanos, error) = if is_exp { (late, Id::Expired) } else { (-late - 1, Id::NotYetValid) };
        prop_assume!(is_exp || Shape::of_token_ahead(Duration::from_nanos(nanos.unsigned_abs())).is_none());
        let message = judged(&claims, Now::Given(wall(nanos)), 0, Kind::Access)[0].message.clone();
        let named: i64 = message.split("; ").nth(1).and_then(|m| m.split(' ').next()?.parse().ok()).unwrap();
        prop_assert!(!found(&claims, nanos, named * SECOND).contains(&error), "{}", message);
        prop_assert!(found(&claims, nanos, (named - 1) * SECOND).contains(&error), "{}", message);
    }

}

#[test]
fn findings_by_true_time_hold_everywhere_inside_the_bound() {
    let reached = Reached::new([
        ("expired by this clock only", 5),
        ("expired by true time only", 5),
        ("an end of the bound within 10 ms of exp", 8),
    ]);
    let bound = 0..5 * SECOND;
    // Half of the intervals begin or end at exp, or nearly.
    let side =
        prop_oneof![Just(None), (prop_oneof![Just(-1), Just(1)], -10_000_000i64..10_000_000).prop_map(Some)];
    let here = -10 * SECOND..10 * SECOND;
    let place = prop_oneof![-1.0..=1.0_f64, Just(-1.0), Just(1.0)];
    proptest!(|(here in here, anywhere in -10 * SECOND..10 * SECOND, bound in bound, side in side, where_in_it in place)| {
        let truth = side.map_or(anywhere, |(side, near)| side * bound + near);
        let findings = ids(&found_truly(&expires_at_now(), here, truth, bound));
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any instant inside will do")]
        let really = truth + (bound as f64 * where_in_it) as i64;
        let has_expired = really >= 0;
        reached.case("an end of the bound within 10 ms of exp", (truth.abs() - bound).abs() <= 10_000_000);
        if reached.case("expired by this clock only", findings.contains(&Id::ExpiredByThisClock)) {
            prop_assert!(!has_expired);
        }
        if reached.case("expired by true time only", findings.contains(&Id::ExpiredByTrueTime)) {
            prop_assert!(has_expired);
        }
    });
}

#[test]
fn judging_any_claims_never_panics() {
    let reached = Reached::new([("no exp", 8), ("exp", 20), ("a date that is judged", 4)]);
    let given = (any::<i64>(), any::<i64>(), any::<i64>());
    let near =
        ((NOW - 100..NOW + 100).prop_map(|secs| secs * SECOND), -100 * SECOND..100 * SECOND, 0..50 * SECOND);
    proptest!(|(
        claims in prop::collection::vec(("(iat|nbf|exp|sub|\\\\u0065xp)", value()), 0..6),
        clocks in prop_oneof![given.boxed(), near.boxed()],
        leeway in prop_oneof![any::<u64>(), 0..60_000_000_000u64],
        kind in prop_oneof![Just(Kind::Access), Just(Kind::Id), Just(Kind::Refresh)],
        is_given: bool,
    )| {
        let members: Vec<String> = claims.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let token = token(&members.join(","));
        let clock = Wall::from_nanos(clocks.0);
        let truth = Truth { at: clock.plus(Offset::from_nanos(clocks.1)), bound: Bound::from_nanos(clocks.2) };
        let now = if is_given { Now::Given(clock) } else { Now::Here { clock, truth: Some(truth) } };
        let findings = judge(&token, &Question { now, leeway: Duration::from_nanos(leeway), kind, threshold: THRESHOLD });
        let is_there = |name: &str| claims.iter().any(|(written, _)| written.replace("\\u0065", "e") == name);
        let has = |id| findings.iter().any(|f| f.id == id);
        prop_assert_eq!(has(Id::MissingExp), !is_there("exp"));
        prop_assert_eq!(has(Id::MissingIat), !is_there("iat"));
        prop_assert!(findings.iter().all(|f| f.message.chars().all(|c| !c.is_control())));
        reached.case("no exp", has(Id::MissingExp));
        reached.case("exp", is_there("exp"));
        reached.case("a date that is judged", has(Id::Expired) || has(Id::NotYetValid));
    });
}

proptest! {
    #[test]
    fn signed_claims_are_read_back(iat: i64, exp: u64, fraction in 1_u32..1_000_000_000) {
        let token = token(&format!(r#""iat":{iat},"exp":{exp}.{fraction:09}"#));
        prop_assert_eq!(token.claims.date(Name::Iat).unwrap().as_nanos(), i128::from(iat) * i128::from(SECOND));
        prop_assert_eq!(token.claims.date(Name::Exp).unwrap().as_nanos(), i128::from(exp) * i128::from(SECOND) + i128::from(fraction));
        prop_assert_eq!(token.claims.date(Name::Nbf), None);
    }
}

/// A JSON value of any type, mostly numbers.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (1_700_000_000_i64..1_900_000_000).prop_map(|n| n.to_string()),
        (NOW - 200..NOW + 200).prop_map(|n| n.to_string()),
        (NOW - 200..NOW + 200).prop_map(|n| n.to_string()),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,10})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just("null".to_owned()),
        Just("[[[]],{}]".to_owned()),
        Just("true".to_owned()),
    ]
}
