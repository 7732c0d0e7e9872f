//! Would a token issued on one Node verify on another now? Every statement holds for all clocks within the
//! bounds.

use std::time::Duration;

use super::fleet::Leeway;
use super::now::Now;
use super::row::Row;
use super::skew::{Fresh, Skew};
use drift_core::time::{Offset, Span};

/// The output of `kubectl clock-drift between A B`; `Err` holds the output when one of the clocks was not
/// measured recently.
pub fn text(a: &Row, b: &Row, now: &Now) -> Result<String, String> {
    let missing: Vec<String> = [a, b].into_iter().filter_map(|row| missing_measurement(row, now)).collect();
    let Some(skew) = Skew::between(a, b, now).filter(|_| missing.is_empty()) else {
        return Err(format!("Cannot tell: {}.\n", missing.join("; ")));
    };
    let mut lines = vec![format!("{}; {}.", clock(a, now), clock(b, now)), apart(a, b, &skew), String::new()];
    lines.extend(one_way(a, b, &skew));
    let back = Skew { ahead: Offset::from_nanos(skew.ahead.as_nanos().saturating_neg()), ..skew };
    lines.push(String::new());
    lines.extend(one_way(b, a, &back));
    lines.push(String::new());
    lines.extend(leeway(&skew));
    Ok(lines.join("\n") + "\n")
}

fn missing_measurement(row: &Row, now: &Now) -> Option<String> {
    let name = &row.name;
    match (row.current(now), row.measured(), row.observed(now)) {
        (Some(_), _, _) => None,
        (None, Some(_), Some(age)) => {
            Some(format!("{name} was last measured {} ago, which is too long ago", age.in_words()))
        }
        (None, Some(_), None) => Some(format!("when {name} was measured is not known")),
        _ => Some(format!("{name} has no measured offset ({})", row.reported.label())),
    }
}

/// `NAME was 3.00 s behind (±2.0 ms), measured 59s ago`.
fn clock(row: &Row, now: &Now) -> String {
    let Some((measured, age)) = row.current(now) else { return row.name.clone() };
    format!("{} was {measured}, measured {} ago", row.name, age.in_words())
}

fn apart(a: &Row, b: &Row, skew: &Skew) -> String {
    let apart = Span(skew.ahead.magnitude());
    let (first, second) = if skew.ahead.as_nanos() > 0 { (a, b) } else { (b, a) };
    format!(
        "So {} is {apart} ahead of {}: ±{} when measured, ±{} with what the clocks may have done since.",
        first.name,
        second.name,
        skew.measured.in_words(),
        skew.now.in_words()
    )
}

/// What happens to a token that is issued on one Node and verified on the other.
fn one_way(issuer: &Row, verifier: &Row, skew: &Skew) -> Vec<String> {
    let most_ahead = Span(skew.most_ahead());
    let (issuer, verifier) = (&issuer.name, &verifier.name);
    let fresh = match skew.fresh() {
        Fresh::Valid => "It verifies at once, without leeway (iat, nbf).".to_owned(),
        Fresh::NotYet => format!(
            "It does not verify at once: there it was issued in the future (iat, nbf), for {} (±{}).",
            Span(skew.ahead.magnitude()),
            skew.now.in_words()
        ),
        Fresh::Open => {
            format!(
                "It may not verify at once: there it may be issued up to {most_ahead} in the future (iat, nbf)."
            )
        }
    };
    let end = match (skew.most_behind(), skew.ahead.as_nanos() > skew.now.as_nanos()) {
        (_, true) => format!("It expires there up to {most_ahead} late (exp)."),
        (early, false) => {
            format!(
                "It may expire there up to {} early (exp); one that lives no longer is never valid.",
                Span(early)
            )
        }
    };
    let needs = match whole(skew.most_ahead()) {
        0 => "It needs no leeway for iat and nbf".to_owned(),
        needed => format!("A leeway of {needed} s is enough for iat and nbf"),
    };
    let lives = match whole(skew.most_behind()) {
        0 => "none for exp.".to_owned(),
        needed => format!("{needed} s for exp."),
    };
    vec![
        format!("A token issued on {issuer}, verified on {verifier}:"),
        fresh,
        end,
        format!("{needs}, {lives}"),
    ]
    .into_iter()
    .enumerate()
    .map(|(n, line)| if n == 0 { line } else { format!("  {line}") })
    .collect()
}

/// The recommended leeway, for both directions.
fn leeway(skew: &Skew) -> Vec<String> {
    let Leeway { seconds, is_too_little } = Leeway::covering(skew.ahead.magnitude(), skew.now);
    let mut lines = vec![if is_too_little {
        format!(
            "Recommended leeway: {seconds} s, which is too little here; no verifier should allow more: fix the clock."
        )
    } else {
        format!("Recommended leeway: {seconds} s.")
    }];
    if skew.most_ahead().max(skew.most_behind()) < Duration::from_secs(1) {
        lines.push(
            "Times in tokens are mostly whole seconds, cut off: with so small a skew, verifiers reject some tokens, not all."
                .to_owned(),
        );
    }
    lines
}

/// Rounded up to whole seconds.
fn whole(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0))
}

#[cfg(test)]
#[path = "between_tests.rs"]
mod tests;
