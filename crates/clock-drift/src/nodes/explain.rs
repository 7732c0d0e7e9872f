//! `kubectl clock-drift explain NODE`: state, since when, cause, effect on tokens, and what to do.

use super::fleet::LEEWAY_LIMITS;
use super::now::Now;
use super::row::{CELL_CHARS_MAX, Field, ReportedState, Row, escape_for_terminal};
use super::skew::Skew;
use drift_core::report::shape::Shape;
use drift_core::step::audit::Audit;
use drift_core::step::last_step::LastStep;
use drift_core::time::{ExactSpan, Measurement, Offset, Span};
use drift_core::verdict::State;

/// The output, for a Node that was read with its conditions.
pub fn text(row: &Row, now: &Now) -> String {
    let mut parts = vec![("What", what(row, now))];
    parts.extend(since(row, now).map(|text| ("Since", text)));
    parts.push(("Why", why(row)));
    parts.push(("Tokens", tokens(row, now)));
    parts.push(("Steps", steps(row, now)));
    parts.extend(row.audit.value().map(|audit| ("Daemon", daemon(*audit))));
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
    let mut lines = vec![match &row.reported {
        ReportedState::NoAgent => {
            format!("No agent has ever written to {name}: the state of its clock is not known.")
        }
        ReportedState::Unrecognised(text) if text.is_empty() => {
            format!("{name} has annotations of the agent, but no state (drift-agent.io/clock-state).")
        }
        ReportedState::Unrecognised(text) => {
            format!(
                "The annotation drift-agent.io/clock-state of {name} is \"{text}\", which the agent does not write."
            )
        }
        ReportedState::State(State::Disagree) => {
            format!("The state of {name}'s clock is not known: its time servers contradict each other.")
        }
        ReportedState::State(State::Disrupted) => {
            format!("{name} was paused, suspended or restored, and its clock has not been measured since.")
        }
        ReportedState::State(State::Unknown) => {
            format!("The state of {name}'s clock is not known: the agent has no recent measurement.")
        }
        ReportedState::State(State::InSync) => format!("{name}'s clock was in sync{}.", figures(row)),
        ReportedState::State(State::Drifting) => {
            let shape = shape(row).map_or_else(String::new, |shape| format!(", off by {shape}"));
            format!("{name}'s clock is off{}{shape}.", figures(row))
        }
    }];
    for (annotation, text) in row.unreadable() {
        if annotation != "clock-state" {
            lines.push(format!("The annotation drift-agent.io/{annotation} cannot be read: \"{text}\"."));
        }
    }
    match row.observed(now) {
        Some(age) if row.is_stale(now) => {
            lines.push(format!("This is stale: it was measured {} ago, and the agent writes every ten minutes.", age.in_words()));
        }
        Some(age) if age.is_future() => lines.push(format!(
            "It was measured in the future ({}): either the clock by which ages are counted is behind, or the agent did not write this.",
            age.in_words()
        )),
        Some(age) => lines.push(format!("Measured {} ago.", age.in_words())),
        None if row.is_stale(now) => lines.push("The time of the measurement is not known: treat it as stale.".to_owned()),
        None => {}
    }
    lines
}

/// `: 3.00 s behind (±2.0 ms)`; empty without a measurement.
fn figures(row: &Row) -> String {
    row.measured().map_or_else(String::new, |measured| format!(": {measured}"))
}

/// A known size of the offset of a clock that drifts.
fn shape(row: &Row) -> Option<Shape> {
    let is_drifting = row.reported == ReportedState::State(State::Drifting);
    row.measured().filter(|_| is_drifting).and_then(Shape::of)
}

fn since(row: &Row, now: &Now) -> Option<Vec<String>> {
    let since = *row.exceeded_since.value()?;
    Some(vec![format!("{}, {} ago.", since.rfc3339(0), now.since(since).in_words())])
}

fn why(row: &Row) -> Vec<String> {
    let mut lines: Vec<String> =
        row.message.iter().map(|message| format!("The agent reports: {message}")).collect();
    lines.extend(row.pools.as_deref().unwrap_or_default().split_ascii_whitespace().map(pool));
    if lines.is_empty() {
        lines.push("The Node has no condition ClockDrift, and no annotation that names pools.".to_owned());
    }
    lines
}

/// One entry of the annotation `pools`, such as `time.google.com=+0.1322`, as a sentence.
fn pool(entry: &str) -> String {
    let read = entry.rsplit_once('=').and_then(|(name, text)| {
        if text == "unknown" {
            return Some(format!("{name} reports no offset."));
        }
        let offset = Offset::from_secs_f64(text.parse().ok()?)?;
        Some(format!("By {name} the clock is {}.", offset.in_words()))
    });
    read.unwrap_or_else(|| {
        format!(
            "An entry of drift-agent.io/pools cannot be read: \"{}\".",
            escape_for_terminal(entry, CELL_CHARS_MAX)
        )
    })
}

fn tokens(row: &Row, now: &Now) -> Vec<String> {
    let Some((Measurement { offset, bound }, age)) = row.current(now) else {
        return vec!["The effect of this clock on tokens is not known.".to_owned()];
    };
    let measured = Measurement::new(offset, Skew::aged(bound, age));
    let size = Span(offset.magnitude());
    let seconds = LEEWAY_LIMITS.recommend(Some(measured)).seconds;
    let leeway = if let Some(shape) = shape(row) {
        format!("No leeway is for {}: fix the clock.", ExactSpan(shape.size()))
    } else if measured.certainly_within(LEEWAY_LIMITS.maximum) {
        format!("A leeway of {seconds} s covers it.")
    } else {
        format!("A leeway of {seconds} s is not enough, and no verifier should allow more.")
    };
    let mut lines = match offset.as_nanos() {
        _ if measured.overlaps(Measurement::exact(Offset::ZERO)) => {
            vec![format!(
                "No certain effect: the clock is correct to within {}.",
                Span(offset.magnitude().saturating_add(measured.bound.as_duration()))
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
        Field::Unreadable(text) => vec![format!("The last step cannot be read: \"{text}\".")],
        Field::Value(step) => last_step(step, now),
    };
    lines.extend(row.step_result.iter().map(|text| format!("Result of the last request: {text}")));
    lines
}

fn last_step(step: &LastStep, now: &Now) -> Vec<String> {
    let LastStep { at, before, after, method, trigger, in_hour: _, total: _, is_latched } = step;
    let after = after
        .map_or_else(|| "not measured afterwards".to_owned(), |after| format!("{} after", after.in_words()));
    let mut lines = vec![format!(
        "{} ago by {} (trigger: {}): {} before, {after}.",
        now.since(*at).in_words(),
        escape_for_terminal(method, CELL_CHARS_MAX),
        escape_for_terminal(trigger, CELL_CHARS_MAX),
        before.in_words()
    )];
    if *is_latched {
        lines.push(
            "It had no effect: automatic steps are disabled until an operator requests one.".to_owned(),
        );
    }
    lines
}

/// What the node's own time daemon has of what it should have.
fn daemon(audit: Audit) -> Vec<String> {
    let each = audit.findings().into_iter();
    each.map(|(_, wanted, finding)| format!("{wanted}: {}", finding.in_words())).collect()
}

fn to_do(row: &Row, now: &Now) -> Vec<String> {
    let name = &row.name;
    let pods = format!(
        "kubectl get pods --all-namespaces --output wide --selector app.kubernetes.io/name=drift-agent --field-selector spec.nodeName={name}"
    );
    match &row.reported {
        ReportedState::NoAgent => vec![
            "Does the DaemonSet reach this Node? Taints, node selectors or a pod that cannot start can prevent it:".to_owned(),
            format!("  {pods}"),
        ],
        ReportedState::Unrecognised(_) => vec![
            "Find out which client wrote it (kubectl get node --show-managed-fields); if the agent runs, it writes it again within ten minutes:".to_owned(),
            format!("  {pods}"),
        ],
        _ if row.is_stale(now) => vec![
            "Check whether the agent runs, and what it logs about the API server:".to_owned(),
            format!("  {pods}"),
        ],
        ReportedState::State(State::InSync) => vec![
            "Nothing. If a verifier on this node rejects a token, the measured clock is not the reason.".to_owned(),
        ],
        ReportedState::State(State::Drifting) if row.measured().is_none() => vec![
            "On the node: is there a time daemon, and does it reach its servers (chronyc tracking, timedatectl)?".to_owned(),
            "There is no measurement by NTP, so the agent would refuse to step: check whether UDP port 123 is open from this node (drift-agent check).".to_owned(),
            "Until then, keep what issues or verifies tokens away: kubectl cordon does for new pods.".to_owned(),
        ],
        ReportedState::State(State::Drifting) if shape(row).is_some() => vec![
            format!("On the node: {}.", shape(row).map_or("", Shape::remedy)),
            "A step alone does not last: what made the clock wrong makes it wrong again.".to_owned(),
            "Until then, keep what issues or verifies tokens away: kubectl cordon does for new pods.".to_owned(),
        ],
        ReportedState::State(State::Drifting) => vec![
            "On the node: is there a time daemon, and does it reach its servers (chronyc tracking, timedatectl)?".to_owned(),
            "To have the agent step it, where step.mode and step.onRequest allow:".to_owned(),
            format!("  kubectl annotate node {name} --overwrite drift-agent.io/step-request=$(date +%s)"),
            "Until then, keep what issues or verifies tokens away: kubectl cordon does for new pods.".to_owned(),
        ],
        ReportedState::State(State::Disagree) => vec![
            "Find out which pool is wrong: measure other pools as well (drift-agent check --pool …), and replace the falseticker.".to_owned(),
            "Near a leap second this is normal: Google smears it, Cloudflare does not, and they differ by up to 0.5 s.".to_owned(),
        ],
        ReportedState::State(State::Disrupted) => vec![
            "Wait a minute: the agent measures again right after a pause. If the state stays, the pools are unreachable.".to_owned(),
        ],
        ReportedState::State(State::Unknown) => vec![
            "Check whether UDP port 123 is open from this node (drift-agent check), and whether the pools' names resolve.".to_owned(),
        ],
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
