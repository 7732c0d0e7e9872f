//! What is known now: the verdict, each pool and server, the signals of a resume, who keeps this clock, steps, settings.

use std::time::Duration;

use super::history::{ago, head};
use super::html::Html;
use super::{PageContext, state_in_words};
use crate::build_info::{REVISION, VERSION};
use drift_core::ntp::server::ServerState;
use drift_core::report::snapshot::{PoolSnapshot, ServerSnapshot};
use drift_core::resume::Signal;
use drift_core::step::outcome::Method;
use drift_core::step::policy::Mode;
use drift_core::step::time_daemon::Daemon;
use drift_core::time::{Measurement, Offset, Ppb, span_in_words};

const UNKNOWN: &str = "not known";

/// The verdict, first and large.
pub fn verdict(html: &mut Html, context: &PageContext) {
    let state = context.snapshot.state;
    html.element("header", &[("class", state.label())], |html| {
        html.element("p", &[("class", "node")], |html| {
            html.text("The clock of ");
            html.leaf("b", &[], context.node());
        });
        html.leaf("h1", &[], state_in_words(state));
        html.leaf("p", &[("class", "sentence")], &context.snapshot.message());
    });
}

/// The figures that matter, at a glance.
pub fn facts(html: &mut Html, context: &PageContext) {
    let snapshot = context.snapshot;
    let fact = |html: &mut Html, name: &str, value: &str, more: &str| {
        html.element("div", &[], |html| {
            html.leaf("dt", &[], name);
            html.element("dd", &[], |html| {
                html.leaf("b", &[], value);
                html.leaf("small", &[], more);
            });
        });
    };
    let measured = snapshot.measured.zip(snapshot.estimate_age);
    let coarse = || match snapshot.coarse.offset() {
        Some(Measurement { offset, bound }) => {
            (offset.in_words(), format!("±{}, coarse: by HTTP Date headers", bound.in_words()))
        }
        None => (UNKNOWN.to_owned(), String::new()),
    };
    let (offset, bound) = measured.map_or_else(coarse, |(Measurement { offset, bound }, age)| {
        let more = format!("±{}, measured {}", bound.in_words(), ago(age));
        (offset.in_words(), more)
    });
    let frequency = snapshot.frequency.map_or_else(|| UNKNOWN.to_owned(), oscillator);
    let agreeing = format!("{} of {}", snapshot.pools_agreeing, snapshot.pools.len());
    let apart = snapshot.disagreement().map_or_else(String::new, |d| format!("{} apart", span_in_words(d)));
    html.element("section", &[("aria-label", "At a glance")], |html| {
        html.element("dl", &[("class", "facts")], |html| {
            fact(html, "Offset", &offset, &bound);
            fact(html, "Pools that agree", &agreeing, &apart);
            let leeway = format!("{} s", snapshot.leeway.seconds);
            fact(html, "Leeway for tokens", &leeway, &snapshot.leeway.reason);
            fact(html, "Undisciplined oscillator", &frequency, "against reference time");
        });
    });
}

/// Positive: the oscillator is slow.
fn oscillator(frequency: Ppb) -> String {
    let ppm = frequency.as_ratio() * 1e6;
    let direction = if ppm < 0.0 { "fast" } else { "slow" };
    format!("{:.1} ppm {direction}", ppm.abs())
}

/// Each pool, each server, and why a sample was refused last.
pub fn pools(html: &mut Html, context: &PageContext) {
    html.element("section", &[], |html| {
        html.leaf("h2", &[], "Pools and servers");
        for (index, pool) in context.snapshot.pools.iter().enumerate() {
            let id = format!("pool-{index}");
            html.leaf("h3", &[("id", &id)], &pool.name);
            html.leaf("p", &[("class", "muted")], &(pool_in_words(pool) + &exchanges(context, index)));
            html.element("div", &[("class", "scroll")], |html| {
                html.element("table", &[("class", "servers"), ("aria-labelledby", &id)], |html| {
                    head(html, &["Server", "Standing", "Offset", "Last exchange", "Refused last"]);
                    html.element("tbody", &[], |html| {
                        for server in &pool.servers {
                            row(html, server);
                        }
                    });
                });
            });
        }
    });
}

/// The sources of last resort, while they are all there is.
pub fn last_resort(html: &mut Html, context: &PageContext) {
    let said = &context.snapshot.coarse.0;
    if said.is_empty() {
        return;
    }
    html.element("section", &[], |html| {
        html.leaf("h2", &[("id", "last-resort")], "The last resort: HTTP Date headers, coarse");
        html.element("div", &[("class", "scroll")], |html| {
            html.element("table", &[("aria-labelledby", "last-resort")], |html| {
                head(html, &["URL", "Offset", "Last request"]);
                html.element("tbody", &[], |html| {
                    for said in said {
                        html.element("tr", &[], |html| {
                            html.leaf("th", &[("scope", "row")], &said.site.url);
                            html.leaf("td", &[], &offset_in_words(said.measured));
                            let last = match &said.rejected {
                                Some(rejected) => rejected.to_string(),
                                None if said.answers == 0 => "none yet".to_owned(),
                                None => "answered".to_owned(),
                            };
                            html.leaf("td", &[], &last);
                        });
                    }
                });
            });
        });
    });
}

/// What the pool says by itself, or why it says nothing.
fn pool_in_words(pool: &PoolSnapshot) -> String {
    let is_being_asked = pool.servers.iter().any(|s| s.state == ServerState::Starting);
    let mut text = match (pool.measured, pool.trouble()) {
        (Some(measured), _) => format!("Says {}", offset_in_words(Some(measured))),
        (None, _) if pool.reachable_servers() > 0 => "Contradicts itself".to_owned(),
        (None, Some(trouble)) if !is_being_asked => format!("Is silent: {trouble}"),
        (None, _) => "Is being asked".to_owned(),
    };
    let figures = [
        pool.sample_age.map(|age| format!("newest sample {}", ago(age))),
        pool.round_trip.map(|trip| format!("round trip {}", span_in_words(trip))),
        pool.root_distance.map(|distance| format!("root distance {}", span_in_words(distance))),
        pool.stratum.map(|stratum| format!("stratum {stratum}")),
        pool.resolve_error
            .as_ref()
            .filter(|_| !pool.servers.is_empty())
            .map(|e| format!("the name does not resolve now: {e}")),
    ];
    for figure in figures.into_iter().flatten() {
        text.push_str("; ");
        text.push_str(&figure);
    }
    text + "."
}

/// What came of the exchanges with a pool since the start.
fn exchanges(context: &PageContext, pool: usize) -> String {
    let counts = context.snapshot.counts.samples.get(pool).into_iter().flatten();
    let words: Vec<String> = counts
        .filter(|(_, count)| **count > 0)
        .map(|(result, count)| format!("{count} {}", result.replace('_', " ")))
        .collect();
    if words.is_empty() { String::new() } else { format!(" Exchanges: {}.", words.join(", ")) }
}

fn row(html: &mut Html, server: &ServerSnapshot) {
    html.element("tr", &[], |html| {
        html.leaf("th", &[("scope", "row")], &server.address.to_string());
        let state = standing_in_words(server);
        let is_bad = server.is_falseticker || server.state == ServerState::Unreachable;
        html.leaf("td", if is_bad { &[("class", "bad")] } else { &[] }, state);
        html.leaf("td", &[], &offset_in_words(server.measured));
        html.leaf(
            "td",
            &[],
            match server.last {
                None => "none yet",
                Some(Ok(())) => "accepted",
                Some(Err(refusal)) => refusal.in_words(),
            },
        );
        let rejected = server.rejected.map_or_else(
            || "never".to_owned(),
            |(age, refusal)| format!("{}: {}", ago(age), refusal.in_words()),
        );
        html.leaf("td", &[], &rejected);
    });
}

fn standing_in_words(server: &ServerSnapshot) -> &'static str {
    match server.state {
        ServerState::Reachable if server.is_falseticker => "outvoted",
        ServerState::Reachable => "answers",
        ServerState::Starting => "not heard yet",
        ServerState::Unreachable => "silent",
        ServerState::BackedOff => "asked to be left alone",
    }
}

fn offset_in_words(measured: Option<Measurement>) -> String {
    measured.map_or_else(
        || "-".to_owned(),
        |Measurement { offset, bound }| format!("{} (±{})", offset.in_words(), bound.in_words()),
    )
}

/// Signals of a resume, present or missing.
pub fn signals(html: &mut Html, context: &PageContext) {
    html.element("section", &[], |html| {
        html.leaf("h2", &[], "Signals of a resume");
        let Some(signals) = context.snapshot.signals else {
            return html.leaf("p", &[], "Nobody looks for them here.");
        };
        html.element("table", &[], |html| {
            head(html, &["Signal", "Shows", "Here"]);
            html.element("tbody", &[], |html| {
                for (signal, has) in signals {
                    html.element("tr", &[], |html| {
                        html.leaf("th", &[("scope", "row")], signal.label());
                        html.leaf("td", &[], signal_in_words(signal));
                        html.leaf("td", &[], if has { "present" } else { "missing" });
                    });
                }
            });
        });
        if !signals.iter().any(|(s, has)| *has && matches!(s, Signal::Vmclock | Signal::Rtc)) {
            html.leaf(
                "p",
                &[],
                "A pause that the kernel does not notice shows only when the pools are asked.",
            );
        }
    });
}

fn signal_in_words(signal: Signal) -> &'static str {
    match signal {
        Signal::Suspend => "sleep that the kernel counts",
        Signal::Vmclock => "the hypervisor's word that time was disrupted",
        Signal::Rtc => "a hardware clock that ran on",
        Signal::ClockSet => "the kernel's notice that the clock was set",
        Signal::Wall => "a clock that jumped",
        Signal::LateTick => "an agent that was held up",
        Signal::Pools => "time that is missing by two pools",
    }
}

/// The time daemon, and what the kernel says of itself.
pub fn keeper(html: &mut Html, context: &PageContext) {
    html.element("section", &[], |html| {
        html.leaf("h2", &[], "Who keeps this clock");
        html.element("dl", &[("class", "list")], |html| {
            let report = context.snapshot.daemon.as_ref();
            entry(
                html,
                "Time daemon",
                match report.map(|r| r.daemon) {
                    Some(Daemon::Chrony) => "chrony",
                    Some(Daemon::Unknown) => "one that cannot be seen from here",
                    Some(Daemon::None) => "none",
                    None => "not looked at",
                },
            );
            let believes = report.and_then(|r| r.believes);
            entry(
                html,
                "It takes the clock for",
                &believes.map_or_else(|| UNKNOWN.to_owned(), Offset::in_words),
            );
            let Some(kernel) = context.kernel else {
                return entry(html, "Kernel", "its state cannot be read");
            };
            let disciplined = if kernel.synchronized { "disciplined by somebody" } else { "not disciplined" };
            entry(html, "Kernel", disciplined);
            entry(html, "Kernel's own bound", &span_in_words(kernel.max_error));
            let ppm = kernel.frequency.as_ratio() * 1e6;
            let direction = if ppm < 0.0 { "slower" } else { "faster" };
            entry(html, "Kernel makes it run", &format!("{:.2} ppm {direction}", ppm.abs()));
        });
        html.leaf(
            "p",
            &[("class", "muted")],
            "What the kernel and the daemon say of themselves tells nothing of the offset above.",
        );
    });
}

/// Whether and how the clock may be stepped, and what became of it.
pub fn steps(html: &mut Html, context: &PageContext) {
    let step = &context.snapshot.step;
    html.element("section", &[], |html| {
        html.leaf("h2", &[], "Steps");
        html.element("dl", &[("class", "list")], |html| {
            let dry = if context.settings.core.step.dry_run { ", dry run" } else { "" };
            entry(
                html,
                "step.mode",
                &match step.mode {
                    Mode::Off => "off: the clock is never stepped".to_owned(),
                    mode => format!("{}{dry}", mode.label()),
                },
            );
            let ready = context.snapshot.daemon.as_ref().map(|d| d.ready.as_ref());
            match ready.filter(|_| step.mode != Mode::Off) {
                Some(Ok(())) => entry(html, "It could be stepped", "yes"),
                Some(Err(missing)) => entry(html, "It could be stepped", &format!("no: {missing}")),
                None => {}
            }
            entry(html, "Last step", &last_step(context));
            let counts =
                step.counts.iter().filter(|(_, count)| **count > 0).map(|((method, result), count)| {
                    let by = method.map_or_else(String::new, |m: Method| format!(" by {}", m.label()));
                    format!("{count} {}{by}", result.label())
                });
            let counts: Vec<String> = counts.collect();
            let since = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
            entry(html, "Reasons to step since the start", &since);
            if let Some(answer) = &step.answer {
                entry(html, "Answer to the last request", answer);
            }
        });
    });
}

fn last_step(context: &PageContext) -> String {
    let step = &context.snapshot.step;
    let Some(last) = &step.last else {
        return step.last_text.clone().unwrap_or_else(|| "none that is known".to_owned());
    };
    let ago = step.last_age.map_or_else(String::new, |age| format!("{}, ", ago(age)));
    let after = last.after.map_or_else(
        || "what it was afterwards is not known".to_owned(),
        |after| format!("{} afterwards", after.in_words()),
    );
    let useless =
        if last.is_latched { "; it did not help: a person has to ask for the next one" } else { "" };
    format!("{ago}by {} ({}): {} before, {after}{useless}", last.method, last.trigger, last.before.in_words())
}

/// The settings in force, as `check-config` prints them.
pub fn settings(html: &mut Html, context: &PageContext) {
    html.element("section", &[], |html| {
        html.leaf("h2", &[("id", "settings")], "Settings in force");
        let attributes = [("tabindex", "0"), ("role", "region"), ("aria-labelledby", "settings")];
        html.leaf("pre", &attributes, &context.settings.in_yaml());
    });
}

/// Where to go from here, and when this was.
pub fn footer(html: &mut Html, context: &PageContext, refresh: Option<Duration>) {
    html.element("footer", &[], |html| {
        html.element("p", &[], |html| {
            html.text("For programs: ");
            html.leaf("a", &[("href", "metrics")], "metrics");
            html.text(", ");
            html.leaf("a", &[("href", "v1/clock")], "clock as JSON");
            html.text(". ");
            if let Some(every) = refresh {
                html.text(&format!("This page loads itself anew every {} s; ", every.as_secs()));
                html.leaf("a", &[("href", "?still")], "let it stand still");
            } else {
                html.text("This page stands still; ");
                html.leaf("a", &[("href", "./")], "let it load itself anew");
            }
            html.text(".");
        });
        html.element("p", &[], |html| {
            let (name, time) = match context.snapshot.reference {
                Some(reference) => ("reference time", reference),
                None => ("the node's own time", context.snapshot.node_time),
            };
            html.text("Made at ");
            html.leaf("time", &[], &time.rfc3339(0));
            html.text(&format!(" ({name}) by drift-agent {VERSION} ({REVISION})."));
        });
    });
}

fn entry(html: &mut Html, name: &str, value: &str) {
    html.leaf("dt", &[], name);
    html.leaf("dd", &[], value);
}
