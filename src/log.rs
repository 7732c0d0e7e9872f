//! The log: the only module that turns what the core reports into `tracing` events.
//!
//! A message is constant, lower-case text. Values are fields, which `logFormat: json` carries as JSON:
//! numbers are numbers, and every duration and offset is in seconds. `docs/reference/log.md` lists messages
//! and fields.

use tracing::{debug, info, trace, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::build_info::{REVISION, VERSION};
use crate::config::{LogFormat, Settings};
use crate::kubernetes::node;
use clock_drift::terminal;
use drift_core::io::{Effect, LogEvent};
use drift_core::ntp::server::Ask;
use drift_core::report::publish::ApiError;
use drift_core::resume::{Class, Detection, Disruption, PauseEvidence};
use drift_core::step::outcome::{Method, Outcome, StepResult};
use drift_core::time::{Bound, Measurement, Offset};
use drift_core::verdict::State;

/// Starts the log on standard error. Other crates log warnings only: their details would hide the agent's
/// own.
pub fn init(settings: &Settings) {
    let ours = LevelFilter::from_level(settings.log_level);
    let filter = Targets::new()
        .with_target("drift_agent", ours)
        .with_target("audit", LevelFilter::INFO)
        .with_default(ours.min(LevelFilter::WARN));
    let form = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let form = match settings.log_format {
        LogFormat::Text => form.with_ansi(terminal::stderr_is_terminal()).boxed(),
        LogFormat::Json => form.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(form.with_filter(filter)).init();
}

/// Logs that `drift-agent run` has begun: what it is and how it is set up.
pub fn started(settings: &Settings, node: &str, url: &str, writes_node: bool) {
    for warning in &settings.warnings {
        warn!(reason = warning, "questionable setting");
    }
    info!(
        version = VERSION,
        revision = REVISION,
        node,
        pools = settings.core.pools.join(" "),
        interval_seconds = settings.core.interval.as_secs_f64(),
        threshold_seconds = settings.core.threshold.as_secs_f64(),
        step_mode = settings.core.step.mode.label(),
        kubernetes = writes_node,
        url,
        "drift-agent started"
    );
}

/// Logs that `drift-agent run` ends because it was asked to.
pub fn shutting_down(writes_node: bool) {
    if writes_node {
        info!("shutting down; Node annotations are kept");
    } else {
        info!("shutting down");
    }
}

/// Where the effects on the Node go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeOutput {
    /// To the API server. The log has failures only.
    ApiServer,
    /// To the log, for want of an API server. The name of the node.
    Log(String),
    /// Nowhere: the command has nothing to do with the Node.
    Nowhere,
}

/// Logs the effects of an agent before they are carried out.
#[derive(Clone, Debug)]
pub struct EffectLog {
    /// Names, by the index in the effects.
    pools: Vec<String>,
    /// Hosts, by the index in the effects.
    http_sources: Vec<String>,
    node_output: NodeOutput,
}

impl EffectLog {
    /// For an agent with these settings.
    pub fn new(settings: &Settings, node_output: NodeOutput) -> Self {
        let http_sources = settings.core.last_resort.iter().map(|source| source.host.clone()).collect();
        Self { pools: settings.core.pools.clone(), http_sources, node_output }
    }

    /// Logs one effect.
    pub fn log(&self, effect: &Effect) {
        match effect {
            Effect::Log(event) => log_event(event),
            Effect::LogStep(outcome) => log_step(outcome),
            Effect::WriteNode(report) => {
                if let NodeOutput::Log(node) = &self.node_output {
                    info!(node, patch = %node::patch(node, report), "would apply Node status");
                }
            }
            Effect::SendEvent(event) => {
                if let NodeOutput::Log(node) = &self.node_output {
                    info!(node, reason = event.reason.label(), detail = event.note, "would send an event");
                }
            }
            Effect::Resolve { pool } => debug!(pool = name(&self.pools, *pool), "resolving pool name"),
            Effect::Query { pool, server: _, address, client: _, ask } => {
                let request = match ask {
                    Ask::Sample => "sample",
                    Ask::CrossCheck => "cross-check",
                };
                trace!(pool = name(&self.pools, *pool), server = %address, request, "sending NTP request");
            }
            Effect::FetchHttpDate { source, request: _, phase: _ } => {
                debug!(host = name(&self.http_sources, *source), "fetching HTTP Date header");
            }
            Effect::Step(order) => {
                debug!(
                    offset_seconds = order.offset.as_secs_f64(),
                    dry_run = order.dry_run,
                    "stepping the clock"
                );
            }
            Effect::ReadNode => debug!("reading Node status"),
            Effect::InspectDaemon => trace!("inspecting the time daemon"),
        }
    }
}

/// Effects name what they are about by its index in the settings.
fn name(names: &[String], index: usize) -> &str {
    names.get(index).map_or("", String::as_str)
}

/// A `tracing` event at one of two levels; the macros take constant levels only.
macro_rules! warn_if {
    ($is_warning:expr, $($event:tt)+) => {
        if $is_warning { warn!($($event)+) } else { info!($($event)+) }
    };
}

fn log_event(event: &LogEvent) {
    match event {
        LogEvent::StateChanged { state, measured, pools_agreeing, detail } => warn_if!(
            *state != State::InSync,
            state = state.label(),
            offset_seconds = offset_seconds(*measured),
            bound_seconds = bound_seconds(*measured),
            pools_agreeing,
            detail,
            "clock state changed"
        ),
        LogEvent::PoolResolved { pool, servers } => info!(pool, servers, "pool name resolved"),
        LogEvent::PoolUnresolved { pool, reason } => warn!(pool, reason, "pool name not resolved"),
        LogEvent::ServerAccepted { pool, server } => info!(pool, %server, "NTP server accepted"),
        LogEvent::ServerRejected { pool, server, reason } => {
            let detail = reason.in_words();
            warn!(pool, %server, reason = reason.label(), detail, "NTP server rejected");
        }
        LogEvent::SampleAccepted { pool, server, measured, round_trip } => debug!(
            pool,
            %server,
            offset_seconds = measured.offset.as_secs_f64(),
            bound_seconds = measured.bound.as_secs_f64(),
            round_trip_seconds = round_trip.as_secs_f64(),
            "sample accepted"
        ),
        LogEvent::SampleRejected { pool, server, reason } => {
            debug!(pool, %server, reason = reason.label(), "sample rejected");
        }
        LogEvent::CrossChecked { pool, server, measured } => debug!(
            pool,
            %server,
            offset_seconds = measured.map(|m| m.offset.as_secs_f64()),
            bound_seconds = measured.map(|m| m.bound.as_secs_f64()),
            "cross-check by rsntp"
        ),
        LogEvent::HttpDateAccepted { host } => {
            info!(host, "no NTP server responds: using an HTTP Date header (coarse)");
        }
        LogEvent::HttpDateRejected { host, reason } => {
            warn!(host, %reason, "HTTP Date header rejected");
        }
        LogEvent::Disrupted(detection) => log_disruption(detection),
        LogEvent::ClocksourceChanged { before, now } => {
            warn!(clocksource = now, replaces = before, "the kernel uses another clocksource");
        }
        LogEvent::RtcUnusable(fault) => warn!(reason = fault.label(), "the RTC is no clock: it is not used"),
        LogEvent::NoPauseSignal { poll } => {
            warn!(
                poll_seconds = poll.as_secs_f64(),
                "no usable RTC and no vmclock: pauses are visible to NTP only"
            );
        }
        LogEvent::StepAvailable => info!("the clock can be stepped"),
        LogEvent::StepUnavailable { reason } => {
            warn!(reason, "cannot step the clock: continuing to monitor");
        }
        LogEvent::NodeWriteFailed(error) => warn!(
            reason = error.label(),
            detail = advice(*error),
            retry_after_seconds = error.retry_after().map(|wait| wait.as_secs_f64()),
            "cannot update Node status"
        ),
        LogEvent::NodeWriteRecovered => info!("Node status updates resumed"),
        LogEvent::EventFailed(error) => warn!(
            reason = error.label(),
            detail = advice(*error),
            retry_after_seconds = error.retry_after().map(|wait| wait.as_secs_f64()),
            "cannot send events"
        ),
        LogEvent::EventRecovered => info!("events resumed"),
    }
}

/// The size of a disruption has another name for each class, since it is something else each time.
fn log_disruption(detection: &Detection) {
    let Detection { disruption, reclassifies } = detection;
    let (mut slept, mut lost, mut rtc_set_by, mut clock_set_by, mut late) = (None, None, None, None, None);
    match *disruption {
        Disruption::Suspend { slept: span } => slept = Some(span),
        Disruption::Pause(PauseEvidence::Hypervisor) => {}
        Disruption::Pause(
            PauseEvidence::Rtc { lost: by }
            | PauseEvidence::RtcAndNtp { lost: by }
            | PauseEvidence::Ntp { lost: by },
        ) => lost = Some(by),
        Disruption::RtcWrite { by } => rtc_set_by = Some(by),
        Disruption::ClockSet { by, .. } => clock_set_by = Some(by),
        Disruption::Stall { late: span } => late = Some(span),
    }
    let bound = lost.or(rtc_set_by).or(clock_set_by).filter(|by| by.bound != Bound::ZERO);
    warn!(
        class = disruption.class().label(),
        signal = disruption.signal().label(),
        slept_seconds = slept.map(|span| span.as_secs_f64()),
        lost_seconds = offset_seconds(lost),
        rtc_set_by_seconds = offset_seconds(rtc_set_by),
        clock_set_by_seconds = offset_seconds(clock_set_by),
        late_seconds = late.map(|span| span.as_secs_f64()),
        bound_seconds = bound_seconds(bound),
        replaces = reclassifies.map(Class::label),
        detail = %detection,
        "disruption detected"
    );
}

/// What a trigger led to, for those who have to account for it: target `audit`, whatever the level of the
/// rest.
fn log_step(outcome: &Outcome) {
    let seconds = |offset: Option<Offset>| offset.map(Offset::as_secs_f64);
    info!(
        target: "audit",
        audit = outcome.result.label(),
        method = outcome.method.map(Method::label),
        trigger = outcome.trigger.label(),
        before_seconds = seconds(outcome.before),
        after_seconds = offset_seconds(outcome.after),
        after_bound_seconds = bound_seconds(outcome.after),
        reason = outcome.reason.as_deref(),
        detail = outcome.sentence(),
        "step concluded"
    );
    if outcome.result == StepResult::Failed {
        warn!(trigger = outcome.trigger.label(), reason = outcome.reason.as_deref(), "clock step failed");
    }
}

fn offset_seconds(measured: Option<Measurement>) -> Option<f64> {
    measured.map(|measured| measured.offset.as_secs_f64())
}

fn bound_seconds(measured: Option<Measurement>) -> Option<f64> {
    measured.map(|measured| measured.bound.as_secs_f64())
}

/// What an error of the API server means, and where to look.
fn advice(error: ApiError) -> &'static str {
    match error {
        ApiError::Forbidden => "not allowed: check the service account's token and its roles",
        ApiError::NotFound => "no such Node: check NODE_NAME",
        ApiError::Rejected => "the API server rejects this request",
        ApiError::TooManyRequests(_) => "the API server is rate limiting (429)",
        ApiError::Server(_) => "the API server has an error",
        ApiError::Unreachable => "the API server does not respond",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Result, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use serde_json::{Map, Value};
    use tracing::Level;

    use super::*;
    use drift_core::http_date::coarse::HttpDateError;
    use drift_core::ntp::reject::RejectReason;
    use drift_core::resume::RtcFault;
    use drift_core::step::policy::{RequestedBy, Trigger};

    const DOCUMENT: &str = include_str!("../docs/reference/log.md");
    const STANDARD_FIELDS: [&str; 4] = ["timestamp", "level", "message", "target"];

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// The events that this logs, as JSON.
    fn logged(log: impl FnOnce()) -> Vec<Map<String, Value>> {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_max_level(Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn measured(millis: i64) -> Measurement {
        Measurement::new(Offset::from_nanos(millis * 1_000_000), Bound::from_nanos(500_000))
    }

    /// One of each kind, with its level and message.
    fn every_event() -> Vec<(LogEvent, &'static str, &'static str)> {
        let (pool, host) = (|| "a.example".to_owned(), || "b.example".to_owned());
        let server = "192.0.2.1:123".parse().unwrap();
        let state = |state| LogEvent::StateChanged {
            state,
            measured: Some(measured(250)),
            pools_agreeing: 2,
            detail: "The clock is 250 ms behind.".to_owned(),
        };
        let pause = Detection {
            disruption: Disruption::Pause(PauseEvidence::Rtc { lost: measured(20_000) }),
            reclassifies: Some(Class::RtcWrite),
        };
        let reason = RejectReason::Timeout;
        let wait = Some(Duration::from_secs(7));
        vec![
            (state(State::InSync), "INFO", "clock state changed"),
            (state(State::Drifting), "WARN", "clock state changed"),
            (LogEvent::PoolResolved { pool: pool(), servers: 3 }, "INFO", "pool name resolved"),
            (
                LogEvent::PoolUnresolved { pool: pool(), reason: "no such name".to_owned() },
                "WARN",
                "pool name not resolved",
            ),
            (LogEvent::ServerAccepted { pool: pool(), server }, "INFO", "NTP server accepted"),
            (LogEvent::ServerRejected { pool: pool(), server, reason }, "WARN", "NTP server rejected"),
            (
                LogEvent::SampleAccepted {
                    pool: pool(),
                    server,
                    measured: measured(250),
                    round_trip: Duration::from_millis(1),
                },
                "DEBUG",
                "sample accepted",
            ),
            (LogEvent::SampleRejected { pool: pool(), server, reason }, "DEBUG", "sample rejected"),
            (
                LogEvent::CrossChecked { pool: pool(), server, measured: Some(measured(250)) },
                "DEBUG",
                "cross-check by rsntp",
            ),
            (
                LogEvent::HttpDateAccepted { host: host() },
                "INFO",
                "no NTP server responds: using an HTTP Date header (coarse)",
            ),
            (
                LogEvent::HttpDateRejected { host: host(), reason: HttpDateError::NoDate },
                "WARN",
                "HTTP Date header rejected",
            ),
            (LogEvent::Disrupted(pause), "WARN", "disruption detected"),
            (
                LogEvent::ClocksourceChanged { before: "tsc".to_owned(), now: "hpet".to_owned() },
                "WARN",
                "the kernel uses another clocksource",
            ),
            (LogEvent::RtcUnusable(RtcFault::StandsStill), "WARN", "the RTC is no clock: it is not used"),
            (
                LogEvent::NoPauseSignal { poll: Duration::from_secs(16) },
                "WARN",
                "no usable RTC and no vmclock: pauses are visible to NTP only",
            ),
            (LogEvent::StepAvailable, "INFO", "the clock can be stepped"),
            (
                LogEvent::StepUnavailable { reason: "step.mode is off".to_owned() },
                "WARN",
                "cannot step the clock: continuing to monitor",
            ),
            (LogEvent::NodeWriteFailed(ApiError::TooManyRequests(wait)), "WARN", "cannot update Node status"),
            (LogEvent::NodeWriteRecovered, "INFO", "Node status updates resumed"),
            (LogEvent::EventFailed(ApiError::Forbidden), "WARN", "cannot send events"),
            (LogEvent::EventRecovered, "INFO", "events resumed"),
        ]
    }

    #[test]
    fn log_events_have_the_level_message_and_fields_of_the_document() {
        for (event, level, message) in every_event() {
            let lines = logged(|| log_event(&event));
            assert_eq!(lines.len(), 1, "{event:?}");
            assert_eq!((&lines[0]["level"], &lines[0]["message"]), (&level.into(), &message.into()));
            assert!(DOCUMENT.contains(&format!("`{message}`")), "docs/reference/log.md lacks {message:?}");
            let fields = lines[0].keys().filter(|key| !STANDARD_FIELDS.contains(&key.as_str()));
            for field in fields {
                assert!(DOCUMENT.contains(&format!("`{field}`")), "docs/reference/log.md lacks {field:?}");
            }
        }
    }

    #[test]
    fn log_fields_are_numbers_and_absent_when_unknown() {
        let fields = |event: &LogEvent| logged(|| log_event(event)).remove(0);
        let all = every_event();
        let of = |message: &str| fields(&all.iter().rev().find(|(_, _, m)| *m == message).unwrap().0);
        let state = of("clock state changed");
        assert_eq!((&state["state"], &state["offset_seconds"]), (&"drifting".into(), &0.25.into()));
        assert_eq!((&state["bound_seconds"], &state["pools_agreeing"]), (&0.0005.into(), &2.into()));
        let unknown = fields(&LogEvent::StateChanged {
            state: State::Unknown,
            measured: None,
            pools_agreeing: 0,
            detail: String::new(),
        });
        assert!(!unknown.contains_key("offset_seconds") && !unknown.contains_key("bound_seconds"));
        let rejected = of("NTP server rejected");
        assert_eq!((&rejected["server"], &rejected["reason"]), (&"192.0.2.1:123".into(), &"timeout".into()));
        let pause = of("disruption detected");
        assert_eq!((&pause["class"], &pause["signal"]), (&"pause".into(), &"rtc".into()));
        assert_eq!((&pause["lost_seconds"], &pause["replaces"]), (&20.0.into(), &"rtc-write".into()));
        assert!(!pause.contains_key("slept_seconds"));
        assert_eq!(of("cannot update Node status")["retry_after_seconds"], 7.0);
        assert_eq!(of("cannot send events").get("retry_after_seconds"), None);
    }

    #[test]
    fn failed_steps_are_in_the_audit_log_and_are_warnings() {
        let failed = Outcome {
            result: StepResult::Failed,
            method: Some(Method::Kernel),
            trigger: Trigger::Operator(RequestedBy::Cli),
            before: Some(measured(3_000).offset),
            after: None,
            reason: Some("it made nothing better".to_owned()),
        };
        let lines = logged(|| log_step(&failed));
        let [audit, warning] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((&audit["target"], &audit["level"]), (&"audit".into(), &"INFO".into()));
        assert_eq!((&audit["audit"], &audit["method"]), (&"failed".into(), &"kernel".into()));
        assert_eq!((&audit["before_seconds"], audit.get("after_seconds")), (&3.0.into(), None));
        assert_eq!((&warning["level"], &warning["message"]), (&"WARN".into(), &"clock step failed".into()));
    }

    #[test]
    fn effects_on_the_node_are_logged_where_there_is_no_api_server() {
        use drift_core::report::node::{EventReason, NodeEvent};
        use drift_core::time::Wall;
        let event = Effect::SendEvent(NodeEvent {
            reason: EventReason::ClockDriftExceeded,
            note: "The clock is 250 ms behind.".to_owned(),
            at: Wall::from_nanos(0),
        });
        let lines = |node_output| {
            let log = EffectLog { pools: Vec::new(), http_sources: Vec::new(), node_output };
            logged(|| log.log(&event))
        };
        assert_eq!(lines(NodeOutput::Log("n0".to_owned()))[0]["reason"], "ClockDriftExceeded");
        assert!(lines(NodeOutput::ApiServer).is_empty() && lines(NodeOutput::Nowhere).is_empty());
    }
}
