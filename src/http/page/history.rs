//! The last two hours as text: each verdict with its duration, disruptions and steps. It contains everything
//! that the plot shows.

use std::time::Duration;

use super::html::Html;
use super::{PageContext, state_in_words};
use drift_core::report::history::{HISTORY_LENGTH, Mark};
use drift_core::resume::Class;
use drift_core::time::{Offset, nanos};
use drift_core::verdict::State;

/// Rows of the table; older ones are only counted.
const ROWS_MAX: usize = 30;

/// A time during which one verdict held; the ends as ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// How long ago it began.
    pub from: Duration,
    /// How long ago it ended; 0: it is in force.
    pub to: Duration,
    /// The verdict; `None`: the machine or the agent did not run.
    pub state: Option<State>,
}

impl Span {
    /// Its length.
    pub fn length(self) -> Duration {
        self.from.saturating_sub(self.to)
    }

    /// The verdict as text.
    pub fn name(self) -> &'static str {
        self.state.map_or("no record", state_in_words)
    }

    /// The tooltip in the plot.
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

/// The plot as a few sentences.
pub fn summary(context: &PageContext, spans: &[Span]) -> String {
    let Some(first) = spans.first() else { return "No record yet.".to_owned() };
    let recorded = if first.from + Duration::from_secs(60) < HISTORY_LENGTH {
        format!("Recorded since the agent started, {}.", ago(first.from))
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
        None => " The offset was unknown.".to_owned(),
    };
    format!("{recorded} Verdicts: {}.{extent}", held.join(", "))
}

/// The kind of a mark, for the legend and the table, and its text.
pub fn mark_in_words(mark: &Mark) -> (&'static str, String) {
    match mark {
        Mark::Resume(detection) => {
            let kind = match detection.disruption.class() {
                Class::Suspend | Class::Pause => "Resume",
                Class::RtcWrite | Class::ClockSet => "Clock set",
                Class::Stall => "Stall",
            };
            (kind, detection.to_string())
        }
        Mark::Step { text, .. } => ("Step", text.to_string()),
    }
}

/// The table of verdicts, disruptions and steps, newest first.
pub fn events(html: &mut Html, context: &PageContext, spans: &[Span]) {
    let verdicts = spans.iter().enumerate().map(|(index, span)| {
        let text = match (index, span.state, span.to) {
            (_, None, _) => format!("none: no record for {}", coarsely(span.length())),
            (0, Some(_), _) => format!("{} (start of the record)", span.name()),
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
    // The sort is stable: a verdict of the same age as a mark stays above it.
    rows.sort_by_key(|(age, ..)| *age);
    let older = rows.len().saturating_sub(ROWS_MAX);
    html.leaf("h3", &[], "Timeline");
    if rows.is_empty() {
        return html.leaf("p", &[], "No record yet.");
    }
    html.element("div", &[("class", "scroll")], |html| {
        html.element("table", &[("class", "events")], |html| {
            head(html, &["When", "Time (UTC)", "What"]);
            html.element("tbody", &[], |html| {
                for (age, kind, text) in rows.iter().take(ROWS_MAX) {
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
        html.leaf("p", &[("class", "muted")], &format!("{older} older rows are not shown."));
    }
}

/// A duration in seconds up to 2 min, in minutes up to 2 h.
pub fn coarsely(span: Duration) -> String {
    match span.as_secs() {
        0 => "less than 1 s".to_owned(),
        _ => drift_core::time::Span::age(span).to_string(),
    }
}

/// An age as text.
pub fn ago(age: Duration) -> String {
    if age < Duration::from_secs(1) { "just now".to_owned() } else { format!("{} ago", coarsely(age)) }
}

/// The head of a table.
pub fn head(html: &mut Html, columns: &[&str]) {
    html.element("thead", &[], |html| {
        html.element("tr", &[], |html| {
            for column in columns {
                html.leaf("th", &[("scope", "col")], column);
            }
        });
    });
}

/// The reference time at this age. Node time would be as wrong as the clock.
fn clock_time(html: &mut Html, context: &PageContext, age: Duration) {
    let Some(reference) = context.snapshot.reference else { return html.text("unknown") };
    let stamp = reference.plus(Offset::from_nanos(-nanos(age))).rfc3339(0);
    html.leaf("time", &[("datetime", &stamp)], stamp.get(11..19).unwrap_or(&stamp));
}
