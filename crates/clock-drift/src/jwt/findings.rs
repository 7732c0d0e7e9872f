//! Everything that can be found in a token: a stable name, its severity, its meaning, and what to do.

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// For information; a correct verifier accepts the token.
    Note,
    /// Verifiers differ, or accept what they should reject.
    Warning,
    /// A correct verifier rejects the token.
    Error,
}

impl Severity {
    /// As it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The result of all findings together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing worse than a note.
    Valid,
    /// The same, by this machine's clock alone: its offset from true time was not measured.
    ValidByThisClock,
    /// A warning, and nothing worse.
    Suspicious,
    /// An error.
    NotValid,
}

impl Verdict {
    /// The verdict is that of the most severe finding.
    pub fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|f| f.id.severity()).max() {
            Some(Severity::Error) => Self::NotValid,
            Some(Severity::Warning) => Self::Suspicious,
            _ if findings.iter().any(|f| f.id == Id::TrueTimeNotMeasured) => Self::ValidByThisClock,
            Some(Severity::Note) | None => Self::Valid,
        }
    }

    /// As it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::ValidByThisClock => "valid-by-this-clock",
            Self::Suspicious => "suspicious",
            Self::NotValid => "not-valid",
        }
    }
}

/// One thing found in one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which finding.
    pub id: Id,
    /// The details, for this token.
    pub message: String,
}

/// Declares the findings once: for the code, the advice in the output, and `docs/jwt.md`. The sentence about one
/// token is made in [`super::judge`] and `shape.rs`.
macro_rules! findings {
    ($($name:ident = $id:literal, $severity:ident, $meaning:literal, $advice:literal;)*) => {
        /// Identifies a finding; the names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Id {
            $(#[doc = $meaning] $name,)*
        }

        impl Id {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// The severity.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// The meaning, in one line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do, in one line.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

findings! {
    Expired = "expired", Error,
        "`exp` has passed, also with the requested leeway",
        "Get a new token; if it was fresh a moment ago, measure the issuer's clock.";
    ExpiredByThisClock = "expired-by-this-clock", Error,
        "`exp` has passed by this machine's clock, but not by measured true time",
        "Set this machine's clock; the token is correct. Until then, leeway on the verifier helps against seconds of skew.";
    NotYetValid = "not-yet-valid", Error,
        "`nbf` lies in the future, by more than the requested leeway",
        "If the token was just issued, the issuer's clock is ahead: measure it there.";
    NotYetValidByThisClock = "not-yet-valid-by-this-clock", Error,
        "`nbf` lies in the future by this machine's clock, but not by measured true time",
        "Set this machine's clock; the token is correct. Until then, leeway on the verifier helps against seconds of skew.";
    TextTime = "text-time", Error,
        "a time is a text where RFC 7519 requires a number",
        "Have the issuer write a JSON number of seconds; strict verifiers reject it, others read it in different ways.";
    NonNumericTime = "non-numeric-time", Error,
        "a time is null, a boolean, an array or an object",
        "Have the issuer write a JSON number of seconds; some verifiers treat null as no limit.";
    ExpiredByTrueTime = "expired-by-true-time", Warning,
        "`exp` has passed by measured true time, but not by this machine's clock",
        "Set this machine's clock: it is behind, so verifiers here accept tokens that have expired.";
    ThisClockIsOff = "this-clock-is-off", Warning,
        "this machine's clock is measured to be off by more than the threshold",
        "Fix this machine's clock; until then it rejects and accepts tokens at the wrong time. `drift-agent check` shows why.";
    ExpiresThisSecond = "expires-this-second", Warning,
        "`exp` (plus the requested leeway) lies in the current second",
        "Renew earlier: verifiers that compare whole seconds differ in whether they accept the token now.";
    NotYetValidByTrueTime = "not-yet-valid-by-true-time", Warning,
        "`nbf` lies in the future by measured true time, but not by this machine's clock",
        "Set this machine's clock: it is ahead, so verifiers here accept tokens too early.";
    IssuedInFuture = "issued-in-future", Warning,
        "`iat` lies in the future, by more than the requested leeway",
        "Measure the issuer's clock: it is ahead. Some verifiers reject such a token, most do not check `iat`.";
    IssuedInFutureByThisClock = "issued-in-future-by-this-clock", Warning,
        "`iat` lies in the future by this machine's clock, but not by measured true time",
        "Set this machine's clock: it is behind. The issuer's clock is correct.";
    IssuedInFutureByTrueTime = "issued-in-future-by-true-time", Warning,
        "`iat` lies in the future by measured true time, but not by this machine's clock",
        "Measure the issuer's clock and set this machine's: both are ahead.";
    MissingExp = "missing-exp", Warning,
        "there is no `exp`: the token never expires",
        "Have the issuer set `exp`, and the verifier require it; many do not by default.";
    NotInSeconds = "not-in-seconds", Warning,
        "a time looks like milliseconds, microseconds or nanoseconds, and lies millennia ahead",
        "Have the issuer write seconds (RFC 7519 section 2). Such an `exp` never passes, and such an `nbf` is never reached.";
    HugeTime = "huge-time", Warning,
        "a time is so large that verifiers overflow, round or fail",
        "Have the issuer set a real time; no number means that a token never expires.";
    NegativeTime = "negative-time", Warning,
        "a time lies before 1970",
        "Look for an overflow or an unset clock at the issuer; verifiers with unsigned integers read a time far ahead.";
    DuplicateClaim = "duplicate-claim", Warning,
        "a name occurs twice: which one counts depends on the verifier",
        "Have the issuer write each name once (RFC 7519 section 4); two verifiers may read different claims.";
    ExpBeforeNbf = "exp-before-nbf", Warning,
        "`exp` is not after `nbf`: the token is never valid",
        "Fix the issuer: `exp` must be computed from the same instant as `nbf`.";
    ExpBeforeIat = "exp-before-iat", Warning,
        "`exp` is not after `iat`: the token was issued expired",
        "Fix the issuer: look for a local time in place of UTC, or a lifetime of the wrong sign.";
    LifetimeTooLong = "lifetime-too-long", Warning,
        "the lifetime is longer than 15 min (access), 1 h (ID) or 30 days (refresh)",
        "Shorten it, or set --kind; a stolen token stays valid for all that time.";
    TimeZoneShift = "time-zone-shift", Warning,
        "a time is off by as much as a time zone is from UTC, within a minute",
        "Look for local time taken as UTC, at the issuer or in this machine's hardware clock.";
    LeewayTooWide = "leeway-too-wide", Warning,
        "the requested leeway is over 120 s",
        "Fix the clocks; leeway is for seconds of skew, and extends the lifetime of every stolen token.";
    LooseBase64 = "loose-base64", Warning,
        "a part has padding or the letters of plain base64",
        "Have the issuer write base64url without padding (RFC 7515 section 2); strict verifiers reject it.";
    TrueTimeNotMeasured = "true-time-not-measured", Note,
        "true time was not measured, or not well enough: the verdict is by this machine's clock alone",
        "Run `drift-agent check` to measure this machine's clock.";
    ExpiredWithinLeeway = "expired-within-leeway", Note,
        "`exp` has passed, but the requested leeway covers it",
        "Nothing, if the leeway is there for clock skew; renew tokens earlier if it happens often.";
    NotYetValidWithinLeeway = "not-yet-valid-within-leeway", Note,
        "`nbf` lies in the future, but the requested leeway covers it",
        "Nothing, if the leeway is there for clock skew; measure the issuer's clock if it happens often.";
    IssuedInFutureWithinLeeway = "issued-in-future-within-leeway", Note,
        "`iat` lies in the future, but the requested leeway covers it",
        "Nothing, if the leeway is there for clock skew; measure the issuer's clock if it happens often.";
    MissingIat = "missing-iat", Note,
        "there is no `iat`: the age of the token is not known",
        "Have the issuer set `iat`; with it a wrong clock shows at once.";
    FractionalTime = "fractional-time", Note,
        "a time is written with a point or an exponent",
        "Allowed (RFC 7519 section 2), but some verifiers expect whole numbers: have the issuer round.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_names_are_unique_and_lower_case() {
        let mut names: Vec<&str> = Id::ALL.iter().map(|id| id.as_str()).collect();
        assert!(
            names
                .iter()
                .all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Id::ALL.len());
    }

    #[test]
    fn verdict_is_that_of_the_most_severe_finding() {
        let verdict = |ids: &[Id]| {
            let findings: Vec<_> = ids.iter().map(|id| Finding { id: *id, message: String::new() }).collect();
            Verdict::of(&findings)
        };
        assert_eq!(verdict(&[]), Verdict::Valid);
        assert_eq!(verdict(&[Id::MissingIat]), Verdict::Valid);
        assert_eq!(verdict(&[Id::MissingIat, Id::TrueTimeNotMeasured]), Verdict::ValidByThisClock);
        assert_eq!(verdict(&[Id::TrueTimeNotMeasured, Id::MissingExp]), Verdict::Suspicious);
        assert_eq!(verdict(&[Id::MissingIat, Id::MissingExp]), Verdict::Suspicious);
        assert_eq!(verdict(&[Id::Expired, Id::MissingIat, Id::MissingExp]), Verdict::NotValid);
    }
}
