//! Everything that can be found in a token: a stable name, how bad it is, what it means, what to do.

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; a right verifier takes the token.
    LogEvent,
    /// Verifiers differ, or take what they should not.
    Warning,
    /// A right verifier refuses the token.
    Error,
}

impl Severity {
    /// As it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LogEvent => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What all findings together come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing worse than a note.
    Valid,
    /// The same, by this machine's clock alone: nobody measured whether that one is right.
    ValidByThisClock,
    /// A warning, and nothing worse.
    Suspicious,
    /// An error.
    NotValid,
}

impl Verdict {
    /// By the worst of the findings.
    pub fn of(findings: &[Finding]) -> Self {
        match findings.iter().map(|f| f.id.severity()).max() {
            Some(Severity::Error) => Self::NotValid,
            Some(Severity::Warning) => Self::Suspicious,
            _ if findings.iter().any(|f| f.id == Id::TrueTimeNotMeasured) => Self::ValidByThisClock,
            Some(Severity::LogEvent) | None => Self::Valid,
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
    /// What.
    pub id: Id,
    /// What exactly, in this token.
    pub message: String,
}

/// Declares the findings once: for the code, the command's output and `docs/jwt.md`.
macro_rules! findings {
    ($($name:ident = $id:literal, $severity:ident, $meaning:literal, $advice:literal;)*) => {
        /// What was found; the names are stable.
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

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// What it is, in a line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do, in a line.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

findings! {
    Expired = "expired", Error,
        "`exp` has passed, by the leeway asked for too",
        "Get a new token; if it was fresh a moment ago, measure the issuer's clock.";
    ExpiredByThisClock = "expired-by-this-clock", Error,
        "`exp` has passed by this machine's clock, but not by measured true time",
        "Set this machine's clock; the token is right. Until then, leeway on the verifier helps.";
    NotYetValid = "not-yet-valid", Error,
        "`nbf` lies in the future, by more than the leeway asked for",
        "If the token was just issued, the issuer's clock is ahead: measure it there.";
    NotYetValidByThisClock = "not-yet-valid-by-this-clock", Error,
        "`nbf` lies in the future by this machine's clock, but not by measured true time",
        "Set this machine's clock; the token is right. Until then, leeway on the verifier helps.";
    TextTime = "text-time", Error,
        "a time is a text where RFC 7519 wants a number",
        "Have the issuer write a JSON number of seconds; strict verifiers refuse this, others read it in their own way.";
    NonNumericTime = "non-numeric-time", Error,
        "a time is null, a boolean, an array or an object",
        "Have the issuer write a JSON number of seconds; some verifiers take null for no limit at all.";
    ExpiredByTrueTime = "expired-by-true-time", Warning,
        "`exp` has passed by measured true time, but not by this machine's clock",
        "Set this machine's clock: it runs behind, and takes tokens that have expired.";
    ThisClockIsOff = "this-clock-is-off", Warning,
        "this machine's clock is measured to be off by more than the threshold",
        "Fix this machine's clock; until then it rejects and accepts tokens at the wrong time. `drift-agent check` shows why.";
    ExpiresThisSecond = "expires-this-second", Warning,
        "`exp` (plus the leeway asked for) lies in the second that is now",
        "Renew before the last moment: by whole seconds some verifiers still take it now, and others do not.";
    NotYetValidByTrueTime = "not-yet-valid-by-true-time", Warning,
        "`nbf` lies in the future by measured true time, but not by this machine's clock",
        "Set this machine's clock: it runs ahead, and takes tokens too early.";
    IssuedInFuture = "issued-in-future", Warning,
        "`iat` lies in the future, by more than the leeway asked for",
        "Measure the issuer's clock: it is ahead. Some verifiers refuse such a token, most do not look.";
    IssuedInFutureByThisClock = "issued-in-future-by-this-clock", Warning,
        "`iat` lies in the future by this machine's clock, but not by measured true time",
        "Set this machine's clock: it runs behind. The issuer is right.";
    IssuedInFutureByTrueTime = "issued-in-future-by-true-time", Warning,
        "`iat` lies in the future by measured true time, but not by this machine's clock",
        "Measure the issuer's clock and set this machine's: both run ahead.";
    MissingExp = "missing-exp", Warning,
        "there is no `exp`: the token is valid for ever",
        "Have the issuer set `exp`, and the verifier require it; many do not by default.";
    NotInSeconds = "not-in-seconds", Warning,
        "a time looks like milliseconds, microseconds or nanoseconds, and lies millennia ahead",
        "Have the issuer divide: RFC 7519 wants seconds. Such an `exp` never comes, such an `nbf` neither.";
    HugeTime = "huge-time", Warning,
        "a time is so large that verifiers overflow, round or fail",
        "Have the issuer set a time that is meant; for no expiry there is no number.";
    NegativeTime = "negative-time", Warning,
        "a time lies before 1970",
        "Look for an overflow or an unset clock at the issuer; unsigned verifiers read a time far ahead.";
    DuplicateClaim = "duplicate-claim", Warning,
        "a name comes twice: which one counts is up to the verifier",
        "Have the issuer write each name once (RFC 7519 section 4); two readers may see two tokens.";
    ExpBeforeNbf = "exp-before-nbf", Warning,
        "`exp` is not after `nbf`: the token is never valid",
        "Mend the issuer: `exp` must be computed from the same instant as `nbf`.";
    ExpBeforeIat = "exp-before-iat", Warning,
        "`exp` is not after `iat`: the token was issued expired",
        "Mend the issuer: look for a local time in place of UTC, or a lifetime of the wrong sign.";
    LifetimeTooLong = "lifetime-too-long", Warning,
        "it lives longer than 15 min (access), 1 h (ID) or 30 days (refresh)",
        "Shorten it, or say what it is with --kind; a stolen token is good for all that time.";
    TimeZoneShift = "time-zone-shift", Warning,
        "a time is off by whole or half hours, within a minute",
        "Look for local time taken as UTC, at the issuer or in this machine's hardware clock.";
    LeewayTooWide = "leeway-too-wide", Warning,
        "the leeway asked for is over 120 s",
        "Mend the clocks; a leeway is for seconds, and lengthens the life of every stolen token.";
    LooseBase64 = "loose-base64", Warning,
        "a part has padding or the letters of plain base64",
        "Have the issuer write base64url without padding (RFC 7515 section 2); strict verifiers refuse this.";
    TrueTimeNotMeasured = "true-time-not-measured", LogEvent,
        "true time was not measured, or not well enough: the verdict is by this machine's clock alone",
        "Run `drift-agent check` to see why the pools gave no measurement.";
    ExpiredWithinLeeway = "expired-within-leeway", LogEvent,
        "`exp` has passed, but the leeway asked for covers it",
        "Nothing, if the leeway is there for clock skew; renew tokens earlier if it happens often.";
    NotYetValidWithinLeeway = "not-yet-valid-within-leeway", LogEvent,
        "`nbf` lies in the future, but the leeway asked for covers it",
        "Nothing, if the leeway is there for clock skew; measure the issuer's clock if it happens often.";
    IssuedInFutureWithinLeeway = "issued-in-future-within-leeway", LogEvent,
        "`iat` lies in the future, but the leeway asked for covers it",
        "Nothing, if the leeway is there for clock skew; measure the issuer's clock if it happens often.";
    MissingIat = "missing-iat", LogEvent,
        "there is no `iat`: nobody can tell how old the token is",
        "Have the issuer set `iat`; with it a wrong clock shows at once.";
    FractionalTime = "fractional-time", LogEvent,
        "a time is written with a point or an exponent",
        "Allowed (RFC 7519 section 2), but some verifiers want whole numbers: have the issuer round.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_for_scripts() {
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
    fn the_worst_finding_decides() {
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
