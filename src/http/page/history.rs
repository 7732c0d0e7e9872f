//! The last two hours in words: which verdict held for how long, and what happened. All that the plot shows is here too.

use std::time::Duration;

use super::html::Html;
use super::{PageContext, state_in_words};
use drift_core::report::history::{HISTORY_LENGTH, Mark};
use drift_core::resume::Class;
use drift_core::time::{Offset, nanos, span_in_words};
use drift_core::verdict::State;

/// Rows of the table; what is older is counted only.
const ROWS: usize = 30;

/// A time during which one verdict held; the ends as ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// How long ago it began.
    pub from: Duration,
    /// How long ago it ended; 0: it holds.
    pub to: Duration,
    /// The verdict; `None`: the machine, or the agent, stood still.
    pub state: Option<State>,
}

impl Span {
    /// How long it held.
    pub fn length(self) -> Duration {
        self.from.saturating_sub(self.to)
    }

    /// The verdict, for people.
    pub fn name(self) -> &'static str {
        self.state.map_or("no record", state_in_words)
    }

    /// For the plot's tooltip.
    pub fn title(self) -> String {
        let length = coarsely(self.length());
        match self.to {
            Duration::ZERO => format!("{} for {length}, until now", self.name()),
            to => format!("{} for {length}, until {}", self.name(), ago(to)),
        }
    }
}

/// The verdicts of the last two hours, oldest first, without a gap from the first record to now.
pub fn spans(context: &PageContext) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (age, point) in context.history.points(context.now) {
        match spans.last_mut() {
            Some(last) if last.state == point.state => {}
            last => {
                if let Some(last) = last {
                    last.to = age;
                }
                spans.push(Span { from: age, to: Duration::ZERO, state: point.state });
            }
        }
    }
    spans
}

/// What the plot shows, in a sentence or two.
pub fn summary(context: &PageContext, spans: &[Span]) -> String {
    let Some(first) = spans.first() else { return "Nothing is recorded yet.".to_owned() };
    let recorded = if first.from + Duration::from_secs(60) < HISTORY_LENGTH {
        format!("The record begins {}, with the agent.", ago(first.from))
    } else {
        "The last two hours.".to_owned()
    };
    let mut held: Vec<(&'static str, Duration)> = Vec::new();
    for span in spans {
        match held.iter_mut().find(|(name, _)| *name == span.name()) {
            Some((_, length)) => *length += span.length(),
            None => held.push((span.name(), span.length())),
        }
    }
    held.sort_by_key(|(_, length)| std::cmp::Reverse(*length));
    let held: Vec<String> = held
        .iter()
        .map(|(name, length)| format!("{} for {}", name.to_lowercase(), coarsely(*length)))
        .collect();
    let measured = || context.history.points(context.now).filter_map(|(_, point)| point.measured);
    let (low, high) = (measured().map(|m| m.offset).min(), measured().map(|m| m.offset).max());
    let extent = match low.zip(high) {
        Some((low, high)) if low == high => format!(" The offset was {}.", low.in_words()),
        Some((low, high)) => {
            format!(" The offset was between {} and {}.", low.in_words(), high.in_words())
        }
        None => " No offset was known.".to_owned(),
    };
    format!("{recorded} Verdicts: {}.{extent}", held.join(", "))
}

/// A mark's kind, for the plot's key and the table, and what it says.
pub fn mark_in_words(mark: &Mark) -> (&'static str, String) {
    match mark {
        Mark::Resume(detection) => {
            let kind = match detection.class {
                Class::Suspend | Class::Pause => "Resume",
                Class::RtcWrite | Class::ClockSet => "Clock set",
                Class::Stall => "Stall",
            };
            (kind, detection.to_string())
        }
        Mark::Step { text, .. } => ("Step", text.to_string()),
    }
}

/// The table of what happened, newest first.
pub fn events(html: &mut Html, context: &PageContext, spans: &[Span]) {
    let verdicts = spans.iter().enumerate().map(|(index, span)| {
        let text = match (index, span.state, span.to) {
            (_, None, _) => format!("none, nothing was recorded for {}", coarsely(span.length())),
            (0, Some(_), _) => format!("{}, where the record begins", span.name()),
            (_, Some(_), Duration::ZERO) => span.name().to_owned(),
            (_, Some(_), _) => format!("{} for {}", span.name(), coarsely(span.length())),
        };
        (span.from, "Verdict", text)
    });
    let marks = context.history.marks(context.now).map(|(age, mark)| {
        let (kind, text) = mark_in_words(mark);
        (age, kind, text)
    });
    let mut rows: Vec<(Duration, &str, String)> = verdicts.chain(marks).collect();
    // What follows from a mark stands above it.
    rows.sort_by_key(|(age, ..)| *age);
    let older = rows.len().saturating_sub(ROWS);
    html.leaf("h3", &[], "What happened");
    if rows.is_empty() {
        return html.leaf("p", &[], "Nothing is recorded yet.");
    }
    html.element("div", &[("class", "scroll")], |html| {
        html.element("table", &[("class", "events")], |html| {
            head(html, &["When", "Time (UTC)", "What"]);
            html.element("tbody", &[], |html| {
                for (age, kind, text) in rows.iter().take(ROWS) {
                    html.element("tr", &[], |html| {
                        html.leaf("td", &[], &ago(*age));
                        html.element("td", &[], |html| clock_time(html, context, *age));
                        html.leaf("td", &[], &format!("{kind}: {text}"));
                    });
                }
            });
        });
    });
    if older > 0 {
        html.leaf("p", &[("class", "muted")], &format!("And {older} more before that."));
    }
}

/// A length of time, as exactly as it matters when one looks back.
pub fn coarsely(span: Duration) -> String {
    match span.as_secs() {
        0 => "less than 1 s".to_owned(),
        secs @ 1..=119 => format!("{secs} s"),
        secs @ 120..=7_199 => format!("{} min", secs / 60),
        _ => span_in_words(span),
    }
}

/// When something was.
pub fn ago(age: Duration) -> String {
    if age < Duration::from_secs(1) { "just now".to_owned() } else { format!("{} ago", coarsely(age)) }
}

/// A table's head.
pub fn head(html: &mut Html, columns: &[&str]) {
    html.element("thead", &[], |html| {
        html.element("tr", &[], |html| {
            for column in columns {
                html.leaf("th", &[("scope", "col")], column);
            }
        });
    });
}

/// Reference time so long ago; the node's own time would be as wrong as its clock.
fn clock_time(html: &mut Html, context: &PageContext, age: Duration) {
    let Some(reference) = context.snapshot.reference else { return html.text("not known") };
    let stamp = reference.plus(Offset::from_nanos(-nanos(age))).rfc3339(0);
    html.leaf("time", &[("datetime", &stamp)], stamp.get(11..19).unwrap_or(&stamp));
}
