//! The table, and the summary below it.

use std::time::Duration;

use super::fleet::{Fleet, Leeway, Summary};
use super::now::{Age, Now, Source};
use super::row::{Field, ReportedState, Row};
use crate::terminal::{Paint, Style, painted_columns};
use drift_core::step::last_step::LastStep;
use drift_core::time::{Measurement, Offset, Span};
use drift_core::verdict::State;

/// At most so many names are listed; the rest is counted.
const NAMES_LISTED_MAX: usize = 5;
/// This machine's clock is mentioned when it is certainly off by more.
const MACHINE_OFFSET_MIN: Duration = Duration::from_secs(1);

/// What the table shows.
#[derive(Clone, Copy, Debug)]
pub struct TableOptions {
    /// Colours, or none.
    pub style: Style,
    /// With a column for the offset that each pool reports.
    pub wide: bool,
    /// With a line of headings.
    pub headers: bool,
    /// At most so many Nodes; the summary covers all.
    pub worst: Option<usize>,
}

/// The Nodes, worst first, and the summary.
pub fn text(fleet: &Fleet, options: TableOptions) -> String {
    let shown = options.worst.unwrap_or(usize::MAX).min(fleet.rows.len());
    let now = &fleet.now;
    let mut rows: Vec<Vec<(Paint, String)>> = Vec::new();
    if options.headers && !fleet.rows.is_empty() {
        let names = ["NODE", "STATE", "OFFSET", "BOUND", "SINCE", "OBSERVED", "LAST STEP", "ZONE", "POOLS"];
        let names = names.into_iter().take(if options.wide { 9 } else { 8 });
        rows.push(names.map(|name| (Paint::Plain, name.to_owned())).collect());
    }
    rows.extend(fleet.rows.iter().take(shown).map(|row| cells(row, now, options.wide)));
    let mut text = painted_columns(&rows, options.style);
    if !fleet.rows.is_empty() {
        text.push('\n');
    }
    for line in summary_lines(fleet, shown) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn cells(row: &Row, now: &Now, wide: bool) -> Vec<(Paint, String)> {
    let plain = |text: String| (Paint::Plain, text);
    let state = match &row.reported {
        ReportedState::State(state) => (Paint::State(*state), state.label().to_owned()),
        ReportedState::NoAgent => (Paint::Faint, "no agent".to_owned()),
        ReportedState::Unrecognised(text) if text.is_empty() => {
            (Paint::State(State::Unknown), "unreadable".to_owned())
        }
        ReportedState::Unrecognised(text) => (Paint::State(State::Unknown), unreadable(text)),
    };
    let age = |text: &Field<_>| cell(text, |at| now.since(*at).in_words());
    let observed = age(&row.observed_at);
    let observed = if row.is_stale(now) {
        (Paint::State(State::Unknown), format!("{observed} (stale)"))
    } else {
        plain(observed)
    };
    let mut cells = vec![
        plain(row.name.clone()),
        state,
        plain(cell(&row.offset, |offset| offset.in_words())),
        plain(cell(&row.bound, |bound| format!("±{}", bound.in_words()))),
        plain(age(&row.exceeded_since)),
        observed,
        plain(cell(&row.last_step, |step| last_step(step, now))),
        plain(row.zone.clone().unwrap_or_else(|| "-".to_owned())),
    ];
    if wide {
        cells.push(plain(row.pools.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "-".to_owned())));
    }
    cells
}

/// `-` for a missing value; a value that cannot be read is quoted.
fn cell<T>(field: &Field<T>, words: impl Fn(&T) -> String) -> String {
    match field {
        Field::Absent => "-".to_owned(),
        Field::Value(value) => words(value),
        Field::Unreadable(text) => unreadable(text),
    }
}

fn unreadable(text: &str) -> String {
    format!("\"{text}\"?")
}

/// `20.0 s forward, 3 h ago`: the direction of the step, not of the offset.
fn last_step(step: &LastStep, now: &Now) -> String {
    let size = Span(step.before.magnitude()).to_string();
    let way = if step.before < Offset::ZERO { "back" } else { "forward" };
    let latched = if step.is_latched { " (no effect)" } else { "" };
    format!("{size} {way}, {} ago{latched}", now.since(step.at).in_words())
}

fn summary_lines(fleet: &Fleet, shown: usize) -> Vec<String> {
    if fleet.rows.is_empty() {
        return vec!["No Node matches.".to_owned()];
    }
    let summary = fleet.summary();
    let mut lines = vec![counts(fleet, &summary, shown)];
    if let Some((a, b, skew)) = &summary.worst_pair {
        let offset = |row: &Row| row.offset.value().map_or_else(String::new, |offset| offset.in_words());
        lines.push(format!(
            "Worst pair: {} ({}) and {} ({}), {} apart (±{} when measured, ±{} by now).",
            a.name,
            offset(a),
            b.name,
            offset(b),
            Span(skew.ahead.magnitude()),
            skew.measured.in_words(),
            skew.now.in_words()
        ));
    }
    if !summary.without_agent.is_empty() {
        lines.push(format!("Without an agent: {}.", list(&summary.without_agent)));
    }
    lines.push(match summary.leeway {
        None => "No leeway is recommended: nothing is measured.".to_owned(),
        Some(Leeway { seconds, is_too_little: true }) => {
            format!("Recommended leeway: {seconds} s, which is too little; no verifier should allow more: fix the clocks.")
        }
        Some(Leeway { seconds, .. }) => format!(
            "Recommended leeway for verifiers of tokens: {seconds} s, as far as {} measured.",
            if summary.current == fleet.rows.len() {
                "these Nodes are".to_owned()
            } else {
                format!("{} of {} Nodes are", summary.current, fleet.rows.len())
            }
        ),
    });
    lines.extend(clocks(fleet));
    lines
}

fn counts(fleet: &Fleet, summary: &Summary, shown: usize) -> String {
    let all = fleet.rows.len();
    let nodes = if all == 1 { "1 Node".to_owned() } else { format!("{all} Nodes") };
    let states: Vec<String> = summary
        .states
        .iter()
        .map(|(state, n)| match *state {
            "no-agent" => format!("{n} without an agent"),
            state => format!("{n} {state}"),
        })
        .collect();
    let stale = match summary.stale {
        0 => String::new(),
        n => format!("; {n} stale"),
    };
    let hidden = if shown < all { format!(" The {shown} worst are shown.") } else { String::new() };
    format!("{nodes}: {}{stale}.{hidden}", states.join(", "))
}

/// Up to five names.
fn list(names: &[&str]) -> String {
    let first = names.iter().take(NAMES_LISTED_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_LISTED_MAX) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Warnings about the clocks by which ages are counted.
pub fn clocks(fleet: &Fleet) -> Vec<String> {
    let mut lines = Vec::new();
    if fleet.now.by == Source::ThisMachine {
        lines.push("Ages are by this machine's clock: the API server sent no Date header.".to_owned());
    }
    if let Some(Measurement { offset, bound }) =
        fleet.now.machine.filter(|m| m.certainly_exceeds(MACHINE_OFFSET_MIN))
    {
        lines.push(format!(
            "This machine's clock is {} the API server's (±{}): ages are by the API server's.",
            against(offset),
            bound.in_words()
        ));
    }
    let ahead = fleet.rows.iter().filter(|row| row.observed(&fleet.now).is_some_and(Age::is_future));
    let ahead: Vec<&str> = ahead.map(|row| row.name.as_str()).collect();
    if !ahead.is_empty() {
        lines.push(format!(
            "Observed in the future: {}. Either the clock by which ages are counted is behind, or the agent did not write these times.",
            list(&ahead)
        ));
    }
    lines
}

/// `3.00 s behind` or `3.00 s ahead of`: to be followed by the other clock.
fn against(offset: Offset) -> String {
    let words = offset.in_words();
    if offset < Offset::ZERO { format!("{words} of") } else { words }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
