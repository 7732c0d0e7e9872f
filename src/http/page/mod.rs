//! `/`: the status page of this node's clock.
//!
//! It is generated for each request, without scripts and without anything to load, so that an operator can
//! save it as one file with the notes of an incident. Clients that do not accept HTML get a few lines of
//! text.

mod history;
mod html;
mod plot;
mod sections;

use std::time::Duration;

use hyper::header::{ACCEPT, HeaderMap};

use self::html::Html;
use crate::config::Settings;
use crate::os::timex::KernelClock;
use drift_core::report::history::History;
use drift_core::report::snapshot::Snapshot;
use drift_core::time::Reading;
use drift_core::verdict::State;

/// Forbids scripts and everything that would be loaded. The style sheet is allowed by its hash, which a test
/// computes.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'sha256-1pwAx+MbOoo3Qncf9jQ6phJD9u9QtTnjzf0Jqrkdbvs='; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = include_str!("style.css");
const SCALE: &str = "The band is the bound: the true offset is inside it. Behind is up. The scale is linear near zero and \
     logarithmic from a tenth of the threshold on.";
/// How often the page refreshes, unless the query is `still`.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);

/// What the page shows, at one instant.
#[derive(Clone, Copy, Debug)]
pub struct PageContext<'a> {
    /// The state of the agent.
    pub snapshot: &'a Snapshot,
    /// The last two hours.
    pub history: &'a History,
    /// The clock readings of the snapshot.
    pub now: Reading,
    /// The settings in force.
    pub settings: &'a Settings,
    /// The kernel's clock state; `None` where it cannot be read.
    pub kernel: Option<KernelClock>,
}

impl PageContext<'_> {
    fn node(&self) -> &str {
        self.settings.node_name.as_deref().unwrap_or("this node")
    }
}

/// The page. `query` is the request's; `still` turns refreshing off.
pub fn render(context: &PageContext, query: Option<&str>) -> String {
    let refresh = (query != Some("still")).then_some(REFRESH_INTERVAL);
    let mut html = Html::new();
    html.element("html", &[("lang", "en")], |html| {
        html.element("head", &[], |html| {
            html.empty("meta", &[("charset", "utf-8")]);
            html.empty("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
            if let Some(every) = refresh {
                let every = every.as_secs().to_string();
                html.empty("meta", &[("http-equiv", "refresh"), ("content", &every)]);
            }
            let title =
                format!("{}: the clock of {}", state_in_words(context.snapshot.state), context.node());
            html.leaf("title", &[], &title);
            html.style(STYLE);
        });
        html.element("body", &[], |html| body(html, context, refresh));
    });
    html.finish()
}

fn body(html: &mut Html, context: &PageContext, refresh: Option<Duration>) {
    html.element("main", &[], |html| {
        sections::verdict(html, context);
        sections::facts(html, context);
        html.element("section", &[], |html| {
            let spans = history::spans(context);
            let summary = history::summary(context, &spans);
            html.leaf("h2", &[], "The last two hours");
            html.element("figure", &[], |html| {
                plot::plot(html, context, &spans, &summary);
                plot::legend(html, context, &spans);
                html.element("figcaption", &[], |html| {
                    html.leaf("p", &[], &summary);
                    html.leaf("p", &[], SCALE);
                });
            });
            history::events(html, context, &spans);
        });
        sections::pools(html, context);
        sections::last_resort(html, context);
        html.element("div", &[("class", "columns")], |html| {
            sections::signals(html, context);
            sections::time_daemon(html, context);
            sections::steps(html, context);
            sections::settings(html, context);
        });
    });
    sections::footer(html, context, refresh);
}

/// The same as text: the verdict, the leeway, and the other paths.
pub fn in_text(snapshot: &Snapshot) -> String {
    format!(
        "{}: {}\n\nrecommended leeway for token verifiers: {} s ({})\n\nsee also: /metrics, /v1/clock, /healthz, /readyz; browsers get a status page here\n",
        snapshot.state.label(),
        snapshot.message(),
        snapshot.leeway.seconds,
        snapshot.leeway.reason
    )
}

/// Whether the client accepts HTML by name, as browsers do; curl, wget, kubectl and probes do not.
pub fn wants_html(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_html = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
        let is_refused = parts.any(|part| {
            part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0)
        });
        is_html && !is_refused
    })
}

/// The verdict as a heading.
fn state_in_words(state: State) -> &'static str {
    match state {
        State::Unknown => "Unknown",
        State::InSync => "In sync",
        State::Drifting => "Drifting",
        State::Disagree => "Servers disagree",
        State::Disrupted => "Disrupted",
    }
}

#[cfg(test)]
mod tests;
