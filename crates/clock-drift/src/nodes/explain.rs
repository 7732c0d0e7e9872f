//! `kubectl clock-drift explain NODE`: what, since when, why, what it does to tokens, and what to do.

use super::fleet::LEEWAY;
use super::now::Now;
use super::row::{Field, ReportedState, Row, escape_for_terminal};
use drift_core::step::last_step::LastStep;
use drift_core::time::{Measurement, Offset, Span};
use drift_core::verdict::State;

/// Sentences under headings, for a Node that was read as a whole.
pub fn text(row: &Row, now: &Now) -> String {
    let mut parts = vec![("What", what(row, now))];
    parts.extend(since(row, now).map(|text| ("Since", text)));
    parts.push(("Why", why(row)));
    parts.push(("Tokens", tokens(row, now)));
    parts.push(("Steps", steps(row, now)));
    parts.push(("To do", to_do(row, now)));
    let mut text = String::new();
    for (heading, lines) in parts {
        for (n, line) in lines.iter().enumerate() {
            let heading = if n == 0 { heading } else { "" };
            text.push_str(format!("{heading:<8}{line}").trim_end());
            text.push('\n');
        }
    }
    text
}

fn what(row: &Row, now: &Now) -> Vec<String> {
    let name = &row.name;
    let mut lines = vec![match &row.says {
        ReportedState::NoAgent => {
            format!("No agent has ever written to {name}: nothing is known of its clock.")
        }
        ReportedState::Unrecognised(text) if text.is_empty() => {
            format!(
                "{name} has annotations of the agent's, but not its verdict (drift-agent.io/clock-state)."
            )
        }
        ReportedState::Unrecognised(text) => {
            format!("{name} says \"{text}\" of its clock, which is no verdict of the agent's.")
        }
        ReportedState::State(State::Disagree) => {
            format!("Nobody can say how {name}'s clock is: its time servers contradict each other.")
        }
        ReportedState::State(State::Disrupted) => {
            format!(
                "{name} did not run all the time (paused, suspended, restored), and was not measured since."
            )
        }
        ReportedState::State(State::Unknown) => format!("{name}'s clock is not known."),
        ReportedState::State(State::InSync) => format!("{name}'s clock was in sync{}.", figures(row)),
        ReportedState::State(State::Drifting) => format!("{name}'s clock is off{}.", figures(row)),
    }];
    for (annotation, text) in row.unreadable() {
        if annotation != "clock-state" {
            lines.push(format!("The annotation drift-agent.io/{annotation} cannot be read: \"{text}\"."));
        }
    }
    match row.observed(now) {
        Some(age) if row.is_stale(now) => {
            lines.push(format!("That is stale: it was measured {} ago, and an agent writes every ten minutes.", age.in_words()));
        }
        Some(age) if age.is_future() => lines.push(format!(
            "It was measured in the future ({}): the clock that ages are counted by is behind, or no agent wrote that.",
            age.in_words()
        )),
        Some(age) => lines.push(format!("Measured {} ago.", age.in_words())),
        None if row.is_stale(now) => lines.push("Nobody can say when that was measured: take it as stale.".to_owned()),
        None => {}
    }
    lines
}

/// `: 3 s behind (±2 ms)`.
fn figures(row: &Row) -> String {
    row.measured().map_or_else(String::new, |Measurement { offset, bound }| {
        format!(": {} (±{})", offset.in_words(), bound.in_words())
    })
}

fn since(row: &Row, now: &Now) -> Option<Vec<String>> {
    let since = *row.exceeded_since.value()?;
    Some(vec![format!("{}, {} ago.", since.rfc3339(0), now.since(since).in_words())])
}

fn why(row: &Row) -> Vec<String> {
    let mut lines: Vec<String> =
        row.message.iter().map(|message| format!("The agent says: {message}")).collect();
    lines.extend(row.pools.as_deref().unwrap_or_default().split_ascii_whitespace().map(pool));
    if lines.is_empty() {
        lines.push("The Node has no condition ClockDrift, and no pool is named.".to_owned());
    }
    lines
}

/// `time.google.com=+0.1322`, as the agent writes it.
fn pool(word: &str) -> String {
    let read = word.rsplit_once('=').and_then(|(name, text)| {
        if text == "unknown" {
            return Some(format!("{name} says nothing."));
        }
        let offset = Offset::from_secs_f64(text.parse().ok()?)?;
        Some(format!("By {name} the clock is {}.", offset.in_words()))
    });
    read.unwrap_or_else(|| format!("A pool's word cannot be read: \"{}\".", escape_for_terminal(word, 60)))
}

fn tokens(row: &Row, now: &Now) -> Vec<String> {
    let Some((offset, bound, age)) = row.current(now) else {
        return vec!["What this clock does to tokens cannot be said.".to_owned()];
    };
    let bound = super::skew::Skew::aged(bound, age);
    let size = Span(offset.magnitude());
    let seconds = LEEWAY.recommend(Some(Measurement { offset, bound })).seconds;
    let leeway = if offset.magnitude().saturating_add(bound.as_duration()) > LEEWAY.maximum {
        format!("Not even a leeway of {seconds} s is enough, and no verifier should allow more.")
    } else {
        format!("A leeway of {seconds} s covers it.")
    };
    let mut lines = match offset.as_nanos() {
        _ if offset.magnitude() <= bound.as_duration() => {
            vec![format!(
                "Nothing that is certain: the clock is right to within {}.",
                Span(offset.magnitude().saturating_add(bound.as_duration()))
            )]
        }
        n if n > 0 => vec![
            format!(
                "Issued elsewhere, verified here: {size} in the future when new (iat, nbf), and accepted {size} too long (exp)."
            ),
            format!("Issued here, verified elsewhere: expired {size} early."),
        ],
        _ => vec![
            format!("Issued elsewhere, verified here: expired {size} early."),
            format!(
                "Issued here, verified elsewhere: {size} in the future when new (iat, nbf), and accepted {size} too long (exp)."
            ),
        ],
    };
    lines.push(leeway);
    lines
}

fn steps(row: &Row, now: &Now) -> Vec<String> {
    let mut lines = match &row.last_step {
        Field::Absent => vec!["The agent has never stepped this clock.".to_owned()],
        Field::Unreadable(text) => vec![format!("The last one cannot be read: \"{text}\".")],
        Field::Value(step) => last_step(step, now),
    };
    lines.extend(row.step_result.iter().map(|text| format!("Answer to the last request: {text}")));
    lines
}

fn last_step(step: &LastStep, now: &Now) -> Vec<String> {
    let LastStep { at, before, after, method, trigger, in_hour: _, total: _, is_latched } = step;
    let after = after
        .map_or_else(|| "not measured afterwards".to_owned(), |after| format!("{} after", after.in_words()));
    let mut lines = vec![format!(
        "{} ago by {} (trigger: {}): {} before, {after}.",
        now.since(*at).in_words(),
        escape_for_terminal(method, 60),
        escape_for_terminal(trigger, 60),
        before.in_words()
    )];
    if *is_latched {
        lines.push("It did not help: the agent steps no more until a person asks.".to_owned());
    }
    lines
}

fn to_do(row: &Row, now: &Now) -> Vec<String> {
    let name = &row.name;
    let pods = format!(
        "kubectl get pods --all-namespaces --output wide --selector app.kubernetes.io/name=drift-agent --field-selector spec.nodeName={name}"
    );
    match &row.says {
        ReportedState::NoAgent => vec![
            "Does the DaemonSet reach this Node? Taints, node selectors and a pod that cannot start keep it away:".to_owned(),
            format!("  {pods}"),
        ],
        ReportedState::Unrecognised(_) => vec![
            "Find out who wrote it (kubectl get node --show-managed-fields); the agent writes it anew within ten minutes, if it runs:".to_owned(),
            format!("  {pods}"),
        ],
        _ if row.is_stale(now) => vec![
            "See whether the agent runs, and what its log says of the API server:".to_owned(),
            format!("  {pods}"),
        ],
        ReportedState::State(State::InSync) => vec![
            "Nothing. If a token is refused here, this clock is not why, as far as it was measured.".to_owned(),
        ],
        ReportedState::State(State::Drifting) if row.measured().is_none() => vec![
            "On the node: is there a time daemon, and does it reach its servers (chronyc tracking, timedatectl)?".to_owned(),
            "NTP measured nothing, so the agent would refuse to step: see whether UDP port 123 gets out of this node (drift-agent check).".to_owned(),
            "Until then, keep what issues or verifies tokens away: kubectl cordon does for new pods.".to_owned(),
        ],
        ReportedState::State(State::Drifting) => vec![
            "On the node: is there a time daemon, and does it reach its servers (chronyc tracking, timedatectl)?".to_owned(),
            "To have the agent step it, where step.mode and step.onRequest allow:".to_owned(),
            format!("  kubectl annotate node {name} --overwrite drift-agent.io/step-request=$(date +%s)"),
            "Until then, keep what issues or verifies tokens away: kubectl cordon does for new pods.".to_owned(),
        ],
        ReportedState::State(State::Disagree) => vec![
            "Find out which pool is wrong: ask others too (drift-agent check --pool …), and replace the one that lies.".to_owned(),
            "Near a leap second this is normal: Google smears it, Cloudflare does not, and they differ by up to 0.5 s.".to_owned(),
        ],
        ReportedState::State(State::Disrupted) => vec![
            "Wait a minute: a fresh measurement follows a pause at once. If it does not, the pools are not reached.".to_owned(),
        ],
        ReportedState::State(State::Unknown) => vec![
            "See whether UDP port 123 gets out of this node (drift-agent check), and whether the pools' names resolve.".to_owned(),
        ],
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
