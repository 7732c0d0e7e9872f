//! Tokens to test a verifier with, and what a correct verifier does with each.
//!
//! They are signed with HS256, which every verifier supports, by a key that the caller generates.

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;

use Expected::{Accept, Either, Reject};

/// What a correct verifier does with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It accepts the token.
    Accept,
    /// It rejects the token.
    Reject,
    /// RFC 7519 allows both; any other outcome, such as an error of the server, is wrong.
    Either,
}

impl Expected {
    /// As it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Either => "either",
        }
    }
}

/// One token to test with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// A stable name.
    pub id: &'static str,
    /// What the token tests.
    pub what: &'static str,
    /// The claims, as JSON.
    pub claims: String,
    /// The correct result without leeway.
    pub without_leeway: Expected,
    /// The correct result with [`LEEWAY`].
    pub with_leeway: Expected,
}

/// The leeway of [`Case::with_leeway`], in seconds.
pub const LEEWAY: u64 = 5;

/// Name, correct result without and with leeway, what the token tests, and the claims: `<-120>` stands for 2
/// min ago.
type Row = (&'static str, Expected, Expected, &'static str, &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("fresh", Accept, Accept, "issued now, expires in 5 min", r#""iat":<0>,"nbf":<0>,"exp":<300>"#),
    ("expired", Reject, Reject, "expired 2 min ago", r#""iat":<-420>,"exp":<-120>"#),
    ("exp-just-passed", Reject, Accept, "expired 1 s ago", r#""iat":<-301>,"exp":<-1>"#),
    ("exp-now", Reject, Accept, "expires exactly now: exp itself is too late", r#""iat":<-300>,"exp":<0>"#),
    ("exp-at-leeway", Reject, Reject, "expired exactly 5 s ago: the leeway's end is too late", r#""iat":<-305>,"exp":<-5>"#),
    ("exp-missing", Reject, Reject, "no exp: an API should require it, as RFC 9068 does", r#""iat":<0>"#),
    ("exp-zero", Reject, Reject, "exp is 0, which is a time, not a missing one", r#""iat":<0>,"exp":0"#),
    ("exp-negative", Reject, Reject, "exp lies before 1970", r#""iat":<0>,"exp":-1"#),
    ("exp-milliseconds", Accept, Accept, "exp in milliseconds: RFC 7519 has no upper limit, only the issuer can fix it", r#""iat":<0>,"exp":<300>000"#),
    ("exp-fraction", Accept, Accept, "exp with a fraction, which RFC 7519 allows", r#""iat":<0>,"exp":<300>.5"#),
    ("exp-fraction-passed", Reject, Accept, "exp with a fraction, passed", r#""iat":<-300>,"exp":<-2>.5"#),
    ("exp-exponent", Accept, Accept, "exp with an exponent, which JSON allows", r#""iat":<0>,"exp":<300>0e-1"#),
    ("exp-text", Reject, Reject, "exp is a text of digits", r#""iat":<0>,"exp":"<300>""#),
    ("exp-date", Reject, Reject, "exp is a text with a date", r#""iat":<0>,"exp":"2999-01-01T00:00:00Z""#),
    ("exp-null", Reject, Reject, "exp is null", r#""iat":<0>,"exp":null"#),
    ("exp-boolean", Reject, Reject, "exp is true", r#""iat":<0>,"exp":true"#),
    ("exp-array", Reject, Reject, "exp is an array", r#""iat":<0>,"exp":[<300>]"#),
    ("exp-huge", Either, Either, "exp is 10^20: accept or reject, but do not fail", r#""iat":<0>,"exp":100000000000000000000"#),
    ("exp-infinite", Either, Either, "exp is 1e999: accept or reject, but do not fail", r#""iat":<0>,"exp":1e999"#),
    ("exp-twice-last-expired", Reject, Reject, "exp twice, the last expired: RFC 7519 requires the last one, or rejection", r#""iat":<-420>,"exp":<300>,"exp":<-120>"#),
    ("exp-twice-first-expired", Either, Either, "exp twice, the first expired: RFC 7519 requires the last one, or rejection", r#""iat":<-420>,"exp":<-120>,"exp":<300>"#),
    ("nbf-just-ahead", Reject, Accept, "valid in 2 s", r#""iat":<0>,"nbf":<2>,"exp":<300>"#),
    ("nbf-ahead", Reject, Reject, "valid in 2 min", r#""iat":<0>,"nbf":<120>,"exp":<300>"#),
    ("nbf-milliseconds", Reject, Reject, "nbf in milliseconds: valid after millennia", r#""iat":<0>,"nbf":<0>000,"exp":<300>"#),
    ("nbf-text", Reject, Reject, "nbf is a text of digits", r#""iat":<0>,"nbf":"<0>","exp":<300>"#),
    ("nbf-after-exp", Reject, Reject, "valid only after it has expired", r#""iat":<0>,"nbf":<240>,"exp":<120>"#),
    ("iat-just-ahead", Either, Accept, "issued 2 s in the future: RFC 7519 has no rule for iat", r#""iat":<2>,"exp":<300>"#),
    ("iat-hour-ahead", Either, Either, "issued an hour in the future", r#""iat":<3600>,"exp":<3900>"#),
];

/// All cases, for a verifier whose clock reads `now` (seconds since 1970, at least 1).
pub fn cases(now: i64) -> Vec<Case> {
    let case = |&(id, without_leeway, with_leeway, what, times): &Row| Case {
        id,
        what,
        claims: format!(r#"{{"iss":"drift-agent","sub":"{id}",{}}}"#, fill_in(times, now)),
        without_leeway,
        with_leeway,
    };
    TABLE.iter().map(case).collect()
}

/// Replaces each `<SECONDS>` by the time that lies so many seconds after `now`.
fn fill_in(template: &str, now: i64) -> String {
    let (first, rest) = template.split_once('<').unwrap_or((template, ""));
    let later = rest.split('<').filter_map(|piece| {
        let (seconds, text) = piece.split_once('>')?;
        Some(format!("{}{text}", now.saturating_add(seconds.parse().ok()?)))
    });
    std::iter::once(first.to_owned()).chain(later).collect()
}

/// A signing key of 256 bits.
pub struct Key([u8; 32]);

impl Key {
    /// From random bits.
    pub fn new(bits: [u64; 4]) -> Self {
        let mut key = [0; 32];
        for (to, from) in key.chunks_exact_mut(8).zip(bits) {
            to.copy_from_slice(&from.to_ne_bytes());
        }
        Self(key)
    }

    /// As in a JWK's `k`.
    pub fn in_base64url(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// A JWS with these claims (RFC 7515 section 7.1).
    pub fn sign(&self, claims: &str) -> String {
        let header = BASE64URL_NOPAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", BASE64URL_NOPAD.encode(claims.as_bytes()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::jwt::findings::{Id, Verdict};
    use crate::jwt::judge::judge;
    use crate::jwt::question::{Kind, Now, Question};
    use crate::jwt::token::Token;
    use drift_core::time::{NANOS_PER_SEC, Wall};

    const NOW: i64 = 1_795_341_600;

    #[test]
    fn judge_agrees_with_the_expected_result_of_every_case() {
        let key = Key::new([1, 2, 3, 4]);
        for case in cases(NOW) {
            let token = Token::read(key.sign(&case.claims).as_bytes()).unwrap();
            for (leeway, expected) in [(0, case.without_leeway), (LEEWAY, case.with_leeway)] {
                // A verifier receives the token a moment after it was signed.
                for late in [0, NANOS_PER_SEC / 2] {
                    let now = Now::Given(Wall::from_nanos(NOW * NANOS_PER_SEC + late));
                    let question = Question {
                        now,
                        leeway: Duration::from_secs(leeway),
                        kind: Kind::Access,
                        threshold: Duration::from_millis(100),
                    };
                    let findings = judge(&token, &question);
                    let is_rejected = Verdict::of(&findings) == Verdict::NotValid
                        || findings.iter().any(|f| f.id == Id::MissingExp);
                    match expected {
                        Accept => assert!(!is_rejected, "{} {leeway} {findings:?}", case.id),
                        Reject => assert!(is_rejected, "{} {leeway} {findings:?}", case.id),
                        Either => {}
                    }
                }
            }
        }
    }

    #[test]
    fn case_names_are_unique_and_their_times_are_relative_to_now() {
        let cases = cases(NOW);
        let mut names: Vec<&str> = cases.iter().map(|case| case.id).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        let claims = |id| cases.iter().find(|case| case.id == id).unwrap().claims.as_str();
        assert_eq!(
            claims("exp-just-passed"),
            r#"{"iss":"drift-agent","sub":"exp-just-passed","iat":1795341299,"exp":1795341599}"#
        );
        assert_eq!(
            claims("exp-fraction"),
            r#"{"iss":"drift-agent","sub":"exp-fraction","iat":1795341600,"exp":1795341900.5}"#
        );
        assert!(cases.iter().all(|case| !case.claims.contains(['<', '>'])));
    }

    #[test]
    fn signature_matches_rfc_7515_and_rfc_4231() {
        // RFC 4231, test case 2, laid out as a key of 256 bits: HMAC pads it with zeros itself.
        let mut bits = [0_u64; 4];
        bits[0] = u64::from_ne_bytes(*b"Jefe\0\0\0\0");
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &Key::new(bits).0),
            b"what do ya want for nothing?",
        );
        assert_eq!(
            BASE64URL_NOPAD.encode(tag.as_ref()),
            "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM",
            "RFC 4231"
        );
        let token = Key::new(bits).sign("{}");
        let (signed, tag) = token.rsplit_once('.').unwrap();
        assert_eq!(signed, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30");
        let key = hmac::Key::new(
            hmac::HMAC_SHA256,
            &BASE64URL_NOPAD.decode(Key::new(bits).in_base64url().as_bytes()).unwrap(),
        );
        assert!(
            hmac::verify(&key, signed.as_bytes(), &BASE64URL_NOPAD.decode(tag.as_bytes()).unwrap()).is_ok()
        );
    }
}
