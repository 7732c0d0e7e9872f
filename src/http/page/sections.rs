//! The sections of the page: the verdict, the pools and servers, the disruption signals, the time daemon,
//! steps, settings.

use std::time::Duration;

use super::history::{ago, head};
use super::html::Html;
use super::{PageContext, state_in_words};
use crate::build_info::{REVISION, VERSION};
use drift_core::ntp::server::ServerState;
use drift_core::report::snapshot::{PoolSnapshot, ServerSnapshot, Snapshot};
use drift_core::resume::Signal;
use drift_core::step::audit::Audit;
use drift_core::step::outcome::Method;
use drift_core::step::policy::Mode;
use drift_core::step::time_daemon::Daemon;
use drift_core::time::{Measurement, Offset, Ppb, Span};

const UNKNOWN: &str = "unknown";

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

/// The most important figures.
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
        let assumed = if snapshot.is_assumed() { " assumed" } else { "" };
        let more = format!("±{}{assumed}, measured {}", bound.in_words(), ago(age));
        (offset.in_words(), more)
    });
    let frequency = snapshot.rate.map_or_else(|| UNKNOWN.to_owned(), |rate| oscillator(rate.middle()));
    let frequency_bound = snapshot.rate.map_or_else(String::new, |rate| format!("±{}, ", ppm(rate.bound())));
    let agreeing = format!("{} of {}", snapshot.pools_agreeing, snapshot.pools.len());
    html.element("section", &[("aria-label", "Overview")], |html| {
        html.element("dl", &[("class", "facts")], |html| {
            fact(html, "Offset", &offset, &bound);
            fact(html, "Agreeing pools", &agreeing, &pools_in_words(snapshot));
            let leeway = format!("{} s", snapshot.leeway.seconds);
            fact(html, "Leeway for tokens", &leeway, &snapshot.leeway.reason);
            fact(
                html,
                "Undisciplined oscillator",
                &frequency,
                &format!("{frequency_bound}against reference time"),
            );
        });
    });
}

/// Positive: the oscillator is slow.
fn oscillator(frequency: Ppb) -> String {
    format!("{} {}", ppm(frequency), if frequency.0 < 0 { "fast" } else { "slow" })
}

/// Without a sign.
fn ppm(frequency: Ppb) -> String {
    format!("{:.1} ppm", frequency.as_ratio().abs() * 1e6)
}

/// How far the pools are apart, which of them is wrong, and which look like one clock.
fn pools_in_words(snapshot: &Snapshot) -> String {
    let apart = snapshot.disagreement().map(|d| format!("{} apart", Span(d)));
    let contradiction = snapshot.is_contradiction.then(|| "they contradict each other".to_owned());
    let wrong = snapshot.pools.iter().filter(|p| p.is_falseticker).map(|p| format!("{} is wrong", p.name));
    let shared = (snapshot.pools_independent == Some(false)).then(|| "two look like one server".to_owned());
    let alone = snapshot.is_single_pool().then(|| "the only pool: nothing confirms it".to_owned());
    apart
        .into_iter()
        .chain(alone)
        .chain(contradiction)
        .chain(wrong)
        .chain(shared)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Each pool and server, and the last reason for a rejection.
pub fn pools(html: &mut Html, context: &PageContext) {
    html.element("section", &[], |html| {
        html.leaf("h2", &[], "Pools and servers");
        for (index, pool) in context.snapshot.pools.iter().enumerate() {
            let id = format!("pool-{index}");
            html.leaf("h3", &[("id", &id)], &pool.name);
            html.leaf(
                "p",
                &[("class", "muted")],
                &(pool_in_words(context.snapshot, pool) + &exchanges(context, index)),
            );
            html.element("div", &[("class", "scroll")], |html| {
                html.element("table", &[("class", "servers"), ("aria-labelledby", &id)], |html| {
                    head(html, &["Server", "State", "Offset", "Last exchange", "Last rejection"]);
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

/// The HTTP `Date` headers, while the agent uses them.
pub fn last_resort(html: &mut Html, context: &PageContext) {
    let readings = &context.snapshot.coarse.0;
    if readings.is_empty() {
        return;
    }
    html.element("section", &[], |html| {
        html.leaf("h2", &[("id", "last-resort")], "Last resort: HTTP Date headers (coarse)");
        html.element("div", &[("class", "scroll")], |html| {
            html.element("table", &[("aria-labelledby", "last-resort")], |html| {
                head(html, &["URL", "Offset", "Last request"]);
                html.element("tbody", &[], |html| {
                    for reading in readings {
                        html.element("tr", &[], |html| {
                            html.leaf("th", &[("scope", "row")], &reading.source.url);
                            html.leaf("td", &[], &offset_in_words(reading.measured));
                            let last = match &reading.rejected {
                                Some(rejected) => rejected.to_string(),
                                None if reading.answers == 0 => "none yet".to_owned(),
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

/// What the pool's own servers report, or why there is no measurement.
fn pool_in_words(snapshot: &Snapshot, pool: &PoolSnapshot) -> String {
    let is_starting = pool.servers.iter().any(|s| s.state == ServerState::Starting);
    let mut text = match (pool.measured, pool.trouble()) {
        (Some(measured), _) => format!("Reports {}", offset_in_words(Some(measured))),
        (None, _) if pool.reachable_servers() > 0 => "Its servers contradict each other".to_owned(),
        (None, Some(trouble)) if !is_starting => format!("Unreachable: {trouble}"),
        (None, _) => "No answer yet".to_owned(),
    };
    let same = pool.same_server_as.and_then(|other| snapshot.pools.get(other));
    let figures = [
        pool.is_falseticker.then(|| format!("falseticker: {}", snapshot.error_in_words(pool))),
        same.map(|other| format!("looks like the same server as {}", other.name)),
        pool.announces_leap.then(|| "announces a leap second".to_owned()),
        pool.is_slowed().then(|| "slowed by its servers (kiss-o'-death)".to_owned()),
        pool.sample_age.map(|age| format!("newest sample {}", ago(age))),
        pool.round_trip.map(|trip| format!("round trip {}", Span(trip))),
        pool.root_distance.map(|distance| {
            let assumed = if pool.assumed_root_distance.is_some() { " (assumed)" } else { "" };
            format!("root distance {}{assumed}", Span(distance))
        }),
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

/// The results of all exchanges with a pool since the agent started.
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
        let is_bad =
            (server.is_falseticker && server.has_sample()) || server.state == ServerState::Unreachable;
        html.leaf("td", if is_bad { &[("class", "bad")] } else { &[] }, server.state_in_words());
        html.leaf("td", &[], &offset_in_words(server.measured));
        html.leaf(
            "td",
            &[],
            match server.last {
                None => "none yet",
                Some(Ok(())) => "accepted",
                Some(Err(reason)) => reason.in_words(),
            },
        );
        let rejected = server.rejected.map_or_else(
            || "never".to_owned(),
            |(age, reason)| format!("{}: {}", ago(age), reason.in_words()),
        );
        html.leaf("td", &[], &rejected);
    });
}

fn offset_in_words(measured: Option<Measurement>) -> String {
    measured.map_or_else(
        || "-".to_owned(),
        |Measurement { offset, bound }| format!("{} (±{})", offset.in_words(), bound.in_words()),
    )
}

/// The signals of a disruption, present or missing on this machine.
pub fn signals(html: &mut Html, context: &PageContext) {
    html.element("section", &[], |html| {
        html.leaf("h2", &[], "Disruption signals");
        let Some(signals) = context.snapshot.signals else {
            return html.leaf("p", &[], "The agent does not watch for disruptions here.");
        };
        html.element("table", &[], |html| {
            head(html, &["Signal", "Detects", "On this machine"]);
            html.element("tbody", &[], |html| {
                for signal in Signal::LOCAL {
                    html.element("tr", &[], |html| {
                        html.leaf("th", &[("scope", "row")], signal.label());
                        html.leaf("td", &[], signal_in_words(signal));
                        html.leaf("td", &[], if signals.contains(signal) { "present" } else { "missing" });
                    });
                }
            });
        });
        if !signals.shows_pauses() {
            html.leaf(
                "p",
                &[],
                "Without an RTC or a vmclock, only NTP shows a pause that the kernel does not report.",
            );
        }
    });
}

fn signal_in_words(signal: Signal) -> &'static str {
    match signal {
        Signal::Suspend => "suspends that the kernel reports",
        Signal::Vmclock => "disruptions that the hypervisor reports",
        Signal::Rtc => "pauses, by the hardware clock, which keeps running",
        Signal::ClockSet => "changes of the clock that the kernel reports",
        Signal::Wall => "jumps of the wall clock",
        Signal::LateTick => "stalls of the agent, by its own timer",
        Signal::Pools => "pauses, by NTP",
    }
}

/// What the time daemon and the kernel report.
pub fn time_daemon(html: &mut Html, context: &PageContext) {
    html.element("section", &[], |html| {
        html.leaf("h2", &[], "Time daemon");
        html.element("dl", &[("class", "list")], |html| {
            let report = context.snapshot.daemon.as_ref();
            entry(
                html,
                "Process",
                match report.map(|r| r.daemon) {
                    Some(Daemon::Chrony) => "chrony",
                    Some(Daemon::Timesyncd) => "systemd-timesyncd",
                    Some(Daemon::Unknown) if context.kernel.is_none() => "unknown",
                    Some(Daemon::Unknown) => "unknown: the kernel reports that one disciplines the clock",
                    Some(Daemon::None) => "none",
                    None => "not inspected yet",
                },
            );
            let believes = report.and_then(|r| r.believes);
            entry(
                html,
                "Reported offset",
                &believes.map_or_else(|| UNKNOWN.to_owned(), Offset::in_words),
            );
            if let Some(age) = report.and_then(|r| r.update_age) {
                entry(html, "No update for", &format!("{} at least", Span(age)));
            }
            for (_, wanted, finding) in report.map_or(Audit::NOT_VISIBLE, |r| r.audit).findings() {
                entry(html, wanted, finding.in_words());
            }
            let Some(kernel) = context.kernel else {
                return entry(html, "Kernel status", "cannot be read");
            };
            let disciplined = if kernel.is_disciplined() { "clock disciplined by a process" } else { "clock not disciplined" };
            entry(html, "Kernel status", disciplined);
            entry(html, "Kernel maximum error", &Span(kernel.max_error).to_string());
            let ppm = kernel.frequency.as_ratio() * 1e6;
            let direction = match ppm {
                _ if ppm.abs() < 0.005 => "",
                ..0.0 => " slower",
                _ => " faster",
            };
            entry(html, "Kernel frequency correction", &format!("{:.2} ppm{direction}", ppm.abs()));
        });
        html.leaf(
            "p",
            &[("class", "muted")],
            "The daemon and the kernel may report a small error while the clock is wrong. The measured offset is at the top of the page.",
        );
    });
}

/// Whether and how the clock may be stepped, and the results.
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
                    Mode::Off => "off: the agent never steps the clock by itself".to_owned(),
                    mode => format!("{}{dry}", mode.label()),
                },
            );
            let ready = context.snapshot.daemon.as_ref().map(|d| d.ready.as_ref());
            match ready.filter(|_| step.mode != Mode::Off) {
                Some(Ok(())) => entry(html, "Step possible", "yes"),
                Some(Err(missing)) => entry(html, "Step possible", &format!("no: {missing}")),
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
            entry(html, "Step triggers since start", &since);
            if let Some(answer) = &step.answer {
                entry(html, "Result of the last request", answer);
            }
        });
    });
}

fn last_step(context: &PageContext) -> String {
    let step = &context.snapshot.step;
    let Some(last) = &step.last else {
        return step.last_text.clone().unwrap_or_else(|| "none known".to_owned());
    };
    let ago = step.last_age.map_or_else(String::new, |age| format!("{}, ", ago(age)));
    let after = last.after.map_or_else(
        || "offset afterwards unknown".to_owned(),
        |after| format!("{} afterwards", after.in_words()),
    );
    let latched = if last.is_latched {
        "; it did not help, so automatic steps are off until an operator requests one"
    } else {
        ""
    };
    format!("{ago}by {} ({}): {} before, {after}{latched}", last.method, last.trigger, last.before.in_words())
}

/// The settings in force, as `check-config` prints them.
pub fn settings(html: &mut Html, context: &PageContext) {
    html.element("section", &[], |html| {
        html.leaf("h2", &[("id", "settings")], "Settings in force");
        let attributes = [("tabindex", "0"), ("role", "region"), ("aria-labelledby", "settings")];
        html.leaf("pre", &attributes, &context.settings.in_yaml());
    });
}

/// Links, and the time of the page.
pub fn footer(html: &mut Html, context: &PageContext, refresh: Option<Duration>) {
    html.element("footer", &[], |html| {
        html.element("p", &[], |html| {
            html.text("For programs: ");
            html.leaf("a", &[("href", "metrics")], "metrics");
            html.text(", ");
            html.leaf("a", &[("href", "v1/clock")], "clock as JSON");
            html.text(". ");
            if let Some(every) = refresh {
                html.text(&format!("This page refreshes every {} s; ", every.as_secs()));
                html.leaf("a", &[("href", "?still")], "stop refreshing");
            } else {
                html.text("This page does not refresh; ");
                html.leaf("a", &[("href", "./")], "start refreshing");
            }
            html.text(".");
        });
        html.element("p", &[], |html| {
            let (name, time) = match context.snapshot.reference {
                Some(reference) => ("reference time", reference),
                None => ("node time", context.snapshot.node_time),
            };
            html.text("Generated at ");
            html.leaf("time", &[], &time.rfc3339(0));
            html.text(&format!(" ({name}) by drift-agent {VERSION} ({REVISION})."));
        });
    });
}

fn entry(html: &mut Html, name: &str, value: &str) {
    html.leaf("dt", &[], name);
    html.leaf("dd", &[], value);
}
