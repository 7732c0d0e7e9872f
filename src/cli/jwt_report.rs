//! What `drift-agent jwt` prints, as text and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::CommandError;
use clock_drift::jwt::cases::{Case, Key, LEEWAY};
use clock_drift::jwt::claims::{Name, TimeClaim, TimeValue};
use clock_drift::jwt::date::NumericDate;
use clock_drift::jwt::findings::{Finding, Id, Verdict};
use clock_drift::jwt::judge;
use clock_drift::jwt::question::{Now, Question};
use clock_drift::jwt::token::Token;
use clock_drift::terminal::{Style, columns};
use drift_core::time::{ExactSpan, Wall};
use drift_core::verdict::State;

/// A token, how it was checked, and the findings.
pub(super) struct CheckedToken {
    pub token: Token,
    pub question: Question,
    /// What was measured of this machine's clock; `None` when it was not read (`--at`).
    pub about_now: Option<String>,
    /// The most severe first.
    pub findings: Vec<Finding>,
    pub verdict: Verdict,
}

/// The report as text.
pub(super) fn in_words(checked: &CheckedToken, style: Style) -> String {
    let CheckedToken { token, question, about_now, findings, verdict } = checked;
    let worst = || findings.first().map(|worst| worst.message.clone()).unwrap_or_default();
    let (state, title, sentence) = match (verdict, question.now) {
        (Verdict::Valid, Now::Given(_)) => (
            State::InSync,
            "valid in time",
            "nothing against it at the given time; no clock was read".to_owned(),
        ),
        (Verdict::Valid, Now::Here { .. }) => {
            let threshold = ExactSpan(question.threshold);
            let sentence = format!("nothing against it, and this clock is within {threshold} of true time");
            (State::InSync, "valid in time", sentence)
        }
        (Verdict::ValidByThisClock, _) => {
            let unmeasured = findings.iter().find(|f| f.id == Id::TrueTimeNotMeasured);
            let sentence = unmeasured.map(|f| f.message.clone()).unwrap_or_default();
            (State::Unknown, "valid by this clock", sentence)
        }
        (Verdict::Suspicious, _) => (State::Unknown, "suspicious", worst()),
        (Verdict::NotValid, _) => (State::Drifting, "not valid in time", worst()),
    };
    let mut text = format!("{}: {sentence}\n\n", style.state(state, title));
    let (Now::Here { clock, .. } | Now::Given(clock)) = question.now;
    let time = clock.rfc3339(3);
    let now = match about_now {
        Some(about) => format!("{time} by this clock. {about}"),
        None => format!("{time}, as given: no clock was read."),
    };
    let _ = write!(
        text,
        "{}",
        columns(&[
            vec!["signature".to_owned(), signature(token).to_owned()],
            vec!["token".to_owned(), description(token, question)],
            vec!["now".to_owned(), now],
        ])
    );
    let mut rows = vec![["CLAIM", "VALUE", "TIME", "IN WORDS"].map(str::to_owned).to_vec()];
    for name in Name::ALL {
        rows.push(match token.claims.times.get(&name) {
            Some(claim) => claim_row(name, claim, &question.now),
            None => vec![name.as_str().to_owned(), "-".to_owned(), "-".to_owned(), "missing".to_owned()],
        });
    }
    let _ = write!(text, "\n{}", columns(&rows));
    if !findings.is_empty() {
        let mut rows = Vec::new();
        for Finding { id, message } in findings {
            let severity = id.severity().as_str().to_owned();
            rows.push(vec![severity, id.as_str().to_owned(), message.clone()]);
            rows.push(vec![String::new(), String::new(), format!("-> {}", id.advice())]);
        }
        let _ = write!(text, "\n{}", columns(&rows));
    }
    text
}

const fn signature(token: &Token) -> &'static str {
    if token.is_unsecured {
        "NOT VERIFIED, because there is none (alg none): anyone could have written these claims"
    } else {
        "NOT VERIFIED: anyone could have written these claims"
    }
}

fn description(token: &Token, question: &Question) -> String {
    let kind = token.kind.as_ref().map_or_else(String::new, |kind| format!(", type {kind}"));
    let leeway = match question.leeway {
        Duration::ZERO => "without leeway".to_owned(),
        leeway => format!("with {} of leeway", ExactSpan(leeway)),
    };
    let (algorithm, taken_for) = (&token.algorithm, question.kind.in_words());
    format!("algorithm {algorithm}{kind}; taken for {taken_for} (--kind), {leeway} (--leeway)")
}

fn claim_row(name: Name, claim: &TimeClaim, now: &Now) -> Vec<String> {
    let (time, words) = match claim.value {
        TimeValue::Number { date, .. } => (date.in_words(), judge::in_words(name, date, now)),
        TimeValue::Text(_) => ("-".to_owned(), "a string, not a number".to_owned()),
        TimeValue::Other(what) => ("-".to_owned(), what.to_owned()),
    };
    vec![name.as_str().to_owned(), claim.written.clone(), time, words]
}

/// `--output json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    verdict: &'static str,
    /// Always `false`, so that no program takes the verdict for a verification.
    signature_verified: bool,
    algorithm: &'a str,
    #[serde(rename = "type")]
    kind_in_header: Option<&'a str>,
    kind: &'static str,
    leeway_seconds: f64,
    clock: ClockReport,
    claims: Vec<ClaimReport<'a>>,
    findings: Vec<FindingReport<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClockReport {
    /// Which time the token was checked by: `machine` (this clock) or `given` (`--at`).
    source: &'static str,
    time: String,
    true_time: Option<String>,
    /// Positive: this machine's clock is behind.
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    message: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClaimReport<'a> {
    name: &'static str,
    /// The value as written in the token, shortened for display.
    written: &'a str,
    time: Option<String>,
    words: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingReport<'a> {
    id: &'static str,
    severity: &'static str,
    message: &'a str,
    advice: &'static str,
}

/// The report as JSON.
pub(super) fn in_json(checked: &CheckedToken) -> Result<String, CommandError> {
    let CheckedToken { token, question, about_now, findings, verdict } = checked;
    let (source, clock) = match question.now {
        Now::Here { clock, .. } => ("machine", clock),
        Now::Given(time) => ("given", time),
    };
    let truth = question.now.truth();
    let claims = token.claims.times.iter().map(|(name, claim)| {
        let date = token.claims.date(*name);
        ClaimReport {
            name: name.as_str(),
            written: &claim.written,
            time: date.map(NumericDate::in_words),
            words: date.map(|date| judge::in_words(*name, date, &question.now)),
        }
    });
    let findings = findings.iter().map(|Finding { id, message }| FindingReport {
        id: id.as_str(),
        severity: id.severity().as_str(),
        message,
        advice: id.advice(),
    });
    to_json(&Report {
        verdict: verdict.as_str(),
        signature_verified: false,
        algorithm: &token.algorithm,
        kind_in_header: token.kind.as_deref(),
        kind: question.kind.as_str(),
        leeway_seconds: question.leeway.as_secs_f64(),
        clock: ClockReport {
            source,
            time: clock.rfc3339(9),
            true_time: truth.map(|truth| truth.at.rfc3339(9)),
            offset_seconds: truth.map(|truth| truth.at.minus(clock).as_secs_f64()),
            bound_seconds: truth.map(|truth| truth.bound.as_secs_f64()),
            message: about_now.clone(),
        },
        claims: claims.collect(),
        findings: findings.collect(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CasesReport {
    algorithm: &'static str,
    /// In base64url, as in a JWK's `k`.
    key: String,
    signed_for: String,
    leeway_seconds: u64,
    cases: Vec<CaseReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CaseReport {
    id: &'static str,
    what: &'static str,
    without_leeway: &'static str,
    with_leeway: &'static str,
    claims: String,
    token: String,
}

/// The cases as a table, one a line. The token is the last column, for `awk '{ print $NF }'`.
pub(super) fn cases_in_table(now: i64, key: &Key, cases: &[Case]) -> String {
    let mut text = format!(
        "Signed with HS256 for a clock that reads {}. Use the tokens at once.\nKey of this run, in base64url: {}\n\n",
        Wall::from_secs(now).rfc3339(0),
        key.in_base64url()
    );
    let header = ["CASE", "LEEWAY 0 s", &format!("LEEWAY {LEEWAY} s"), "WHAT", "TOKEN"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(cases.iter().map(|case| {
        let (without, with) = (case.without_leeway.as_str(), case.with_leeway.as_str());
        vec![
            case.id.to_owned(),
            without.to_owned(),
            with.to_owned(),
            case.what.to_owned(),
            key.sign(&case.claims),
        ]
    }));
    text.push_str(&columns(&rows));
    text
}

/// The cases as JSON.
pub(super) fn cases_in_json(now: i64, key: &Key, cases: &[Case]) -> Result<String, CommandError> {
    let cases = cases.iter().map(|case| CaseReport {
        id: case.id,
        what: case.what,
        without_leeway: case.without_leeway.as_str(),
        with_leeway: case.with_leeway.as_str(),
        claims: case.claims.clone(),
        token: key.sign(&case.claims),
    });
    to_json(&CasesReport {
        algorithm: "HS256",
        key: key.in_base64url(),
        signed_for: Wall::from_secs(now).rfc3339(0),
        leeway_seconds: LEEWAY,
        cases: cases.collect(),
    })
}

fn to_json(report: &impl Serialize) -> Result<String, CommandError> {
    let text = serde_json::to_string_pretty(report).map_err(|e| CommandError::failure("cannot print", e))?;
    Ok(text + "\n")
}
