//! `drift-agent check`: one burst, a verdict, and an exit code for scripts.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::task::JoinHandle;

use super::check_node;
use super::check_report::CheckReport;
use super::{CommandError, ConfigArgs, Exit, block_on, print};
use crate::agent::Agent;
use crate::config::Settings;
use crate::config::http_url::HttpUrl;
use crate::os::clock::{Clock, LinuxClock};
use crate::sources::dns::Dns;
use crate::sources::http_date::HttpDate;
use clock_drift::terminal::{Style, stderr_is_terminal};
use drift_core::http_date::coarse::{CoarseReadings, HttpReading};
use drift_core::io::{Effect, LogEvent};
use drift_core::report::diagnosis::Diagnosis;
use drift_core::report::snapshot::Snapshot;
use drift_core::verdict::State;

/// With [`REQUEST_SPACING`], `check` ends within 5 s, whatever the network does.
const CHECK_TIMEOUT: Duration = Duration::from_millis(4_300);
/// `check` ends this long after its last request at the soonest, so that another run right after it does not ask
/// too soon: with `discard minimum` 2, ntpd refuses what comes within half a second, and then answers nothing
/// for a quarter of a minute.
const REQUEST_SPACING: Duration = Duration::from_millis(700);

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also request the HTTP Date header of this URL, accurate to about half a second. Use it where UDP 123
    /// is blocked. http:// only; may be repeated
    #[arg(long, value_name = "URL")]
    http_date: Vec<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A table to read
    #[default]
    Table,
    /// JSON for programs
    Json,
}

pub(super) fn run(args: CheckArgs) -> Result<Exit, CommandError> {
    let urls: Vec<HttpUrl> = args.http_date.iter().map(|text| http_url(text)).collect::<Result<_, _>>()?;
    let settings = args.config.settings()?;
    let report = diagnose(&settings, urls)?;
    print(&match args.output {
        Output::Table => report.table(Style::for_stdout()),
        Output::Json => report.json().map_err(|e| CommandError::failure("cannot print", e))? + "\n",
    })?;
    Ok(match report.state() {
        State::InSync => Exit::Ok,
        State::Drifting => Exit::Negative,
        State::Disagree => Exit::Inconclusive,
        State::Unknown | State::Disrupted => Exit::Unknown,
    })
}

fn http_url(text: &str) -> Result<HttpUrl, CommandError> {
    HttpUrl::parse(text).map_err(|expected| {
        CommandError(Exit::Usage, format!("--http-date: invalid value {text:?}: expected {expected}"))
    })
}

/// Measures by the pools and the `Date` headers and inspects the node, all at the same time.
fn diagnose(settings: &Settings, urls: Vec<HttpUrl>) -> Result<CheckReport, CommandError> {
    block_on(async {
        let dates = HttpDate::new(Arc::new(LinuxClock), Dns::default());
        let request = |url: HttpUrl| {
            let dates = dates.clone();
            tokio::spawn(async move { dates.narrow(&url, CHECK_TIMEOUT).await })
        };
        let requests: Vec<JoinHandle<HttpReading>> = urls.into_iter().map(request).collect();
        let (snapshot, node) = tokio::join!(burst(settings), check_node::inspect(&settings.chrony.socket));
        let mut readings = Vec::new();
        for request in requests {
            let reading = request.await;
            readings.push(reading.map_err(|e| CommandError::failure("cannot request the time by HTTP", e))?);
        }
        let diagnosis = Diagnosis::new(snapshot, CoarseReadings(readings));
        Ok(CheckReport::new(diagnosis, node, settings.picked.clone()))
    })
}

/// Measures the clock by one burst to every pool.
pub(super) fn measure(settings: &Settings) -> Result<Snapshot, CommandError> {
    block_on(async { Ok(burst(settings).await) })
}

async fn burst(settings: &Settings) -> Snapshot {
    let mut settings = settings.clone();
    // One burst is too short for `lastResort`; `--http-date` requests the headers at once.
    settings.core.last_resort.clear();
    let mut agent = Agent::new(&settings, Arc::new(LinuxClock), Dns::default(), None);
    let mut progress = Progress::start();
    let mut last_request = None;
    let observe = |effect: &Effect| {
        if matches!(effect, Effect::Query { .. }) {
            last_request = Some(LinuxClock.read().raw);
        }
        progress.show(effect);
    };
    agent.measure_once(CHECK_TIMEOUT, observe).await;
    let snapshot = agent.handle().snapshot();
    progress.clear();
    if let Some(last_request) = last_request {
        let since = LinuxClock.read().raw.since(last_request);
        tokio::time::sleep(REQUEST_SPACING.saturating_sub(since)).await;
    }
    snapshot
}

/// A line that shows what the command is doing, on terminals only.
struct Progress {
    shown: bool,
    exchanges: usize,
}

impl Progress {
    fn start() -> Self {
        let mut progress = Self { shown: stderr_is_terminal(), exchanges: 0 };
        progress.write("looking up the pools");
        progress
    }

    fn show(&mut self, effect: &Effect) {
        match effect {
            Effect::Query { .. } => {
                self.exchanges += 1;
                let text = format!("measuring, exchange {}", self.exchanges);
                self.write(&text);
            }
            Effect::Log(event) => progress_in_words(event).iter().for_each(|text| self.write(text)),
            _ => {}
        }
    }

    fn write(&mut self, text: &str) {
        if self.shown {
            // To the start of the line, and clear it: the new text replaces the old.
            eprint!("\r\x1b[2K{text} …");
            let _ = std::io::stderr().flush();
        }
    }

    fn clear(&mut self) {
        if self.shown {
            eprint!("\r\x1b[2K");
        }
    }
}

/// What an operator who waits wants to see of the log.
fn progress_in_words(event: &LogEvent) -> Option<String> {
    match event {
        LogEvent::ServerAccepted { pool, server } => Some(format!("{pool}: {server} answers")),
        LogEvent::ServerRejected { pool, server, reason } => {
            Some(format!("{pool}: {server}: {}", reason.in_words()))
        }
        _ => resolution_in_words(event),
    }
}

/// `pool.example: asking 3 servers`, or why the name does not resolve; `None` for every other event.
pub(super) fn resolution_in_words(event: &LogEvent) -> Option<String> {
    match event {
        LogEvent::PoolResolved { pool, servers: 1 } => Some(format!("{pool}: asking 1 server")),
        LogEvent::PoolResolved { pool, servers } => Some(format!("{pool}: asking {servers} servers")),
        LogEvent::PoolUnresolved { pool, reason } => {
            Some(format!("{pool}: the name does not resolve: {reason}"))
        }
        _ => None,
    }
}
