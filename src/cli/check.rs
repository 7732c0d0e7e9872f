//! `drift-agent check`: one burst, a verdict, and an exit code for scripts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::style::{Style, columns, stderr_is_terminal};
use super::{ConfigArgs, Exit, Failure, block_on, print};
use crate::agent::Agent;
use crate::config::Settings;
use crate::core::effect::Effect;
use crate::core::time::{Bound, Offset, span_in_words};
use crate::core::verdict::State;
use crate::core::view::{PoolView, ServerView, View};
use crate::os::clock::LinuxClock;
use crate::sources::dns::Dns;

/// Longer than this nobody waits, whatever the network does.
const DEADLINE: Duration = Duration::from_millis(4_500);

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

pub(super) fn run(args: CheckArgs) -> Result<Exit, Failure> {
    let view = measure(&args.config.settings()?)?;
    print(&match args.output {
        Output::Table => table(&view, Style::for_stdout()),
        Output::Json => {
            let report = serde_json::to_string_pretty(&Report::new(&view));
            report.map_err(|e| Failure::software("cannot print", e))? + "\n"
        }
    })?;
    Ok(match view.state {
        State::InSync => Exit::Ok,
        State::Drifting => Exit::Drifting,
        State::Disagree => Exit::Disagree,
        State::Unknown | State::Disrupted => Exit::NothingMeasured,
    })
}

/// One burst to every pool, and what it says of this machine's clock.
pub(super) fn measure(settings: &Settings) -> Result<View, Failure> {
    block_on(async {
        let mut agent = Agent::new(settings, Arc::new(LinuxClock), Dns::default(), None);
        let mut progress = Progress::start();
        agent.measure_once(DEADLINE, |effect| progress.show(effect)).await;
        progress.clear();
        Ok(agent.shared().view())
    })
}

/// A line that says what is going on, on terminals only.
struct Progress {
    shown: bool,
    asked: usize,
}

impl Progress {
    fn start() -> Self {
        let mut progress = Self { shown: stderr_is_terminal(), asked: 0 };
        progress.write("looking up the pools");
        progress
    }

    fn show(&mut self, effect: &Effect) {
        match effect {
            Effect::Query { .. } => {
                self.asked += 1;
                let text = format!("measuring, exchange {}", self.asked);
                self.write(&text);
            }
            Effect::Tell(note) => self.write(&note.to_string()),
            _ => {}
        }
    }

    fn write(&mut self, text: &str) {
        if self.shown {
            // Back to the start of the line, and clear it: the next one takes its place.
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

fn table(view: &View, style: Style) -> String {
    let mut text = format!("{}: {}\n\n", style.state(view.state, view.state.label()), view.sentence());
    let header = ["POOL", "OFFSET", "BOUND", "ROUND TRIP", "STRATUM", "RESULT"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for pool in &view.pools {
        rows.push(vec![
            pool.name.clone(),
            words(pool.measured.map(|(offset, _)| offset)),
            bound(pool.measured),
            pool.round_trip.map_or_else(|| "-".to_owned(), span_in_words),
            pool.stratum.map_or_else(|| "-".to_owned(), |s| s.to_string()),
            pool_result(pool),
        ]);
        for server in &pool.servers {
            rows.push(vec![
                format!("  {}", server.address),
                words(server.measured.map(|(offset, _)| offset)),
                bound(server.measured),
                String::new(),
                String::new(),
                server_result(server).to_owned(),
            ]);
        }
    }
    let _ = write!(text, "{}", columns(&rows));
    text
}

fn words(offset: Option<Offset>) -> String {
    offset.map_or_else(|| "-".to_owned(), Offset::in_words)
}

fn bound(measured: Option<(Offset, Bound)>) -> String {
    measured.map_or_else(|| "-".to_owned(), |(_, bound)| format!("±{}", bound.in_words()))
}

fn pool_result(pool: &PoolView) -> String {
    match (pool.live_servers(), pool.servers.len()) {
        (0, _) => pool.trouble().unwrap_or_else(|| "no answer".to_owned()),
        (live, all) => format!("{live} of {all} servers answer"),
    }
}

fn server_result(server: &ServerView) -> &'static str {
    match server.last {
        None => "not asked",
        Some(Ok(())) if server.outvoted => "outvoted",
        Some(Ok(())) => "ok",
        Some(Err(refusal)) => refusal.in_words(),
    }
}

/// `--output json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    state: &'static str,
    message: String,
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    observed_at: Option<String>,
    pools: Vec<PoolReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PoolReport {
    name: String,
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    round_trip_seconds: Option<f64>,
    stratum: Option<u8>,
    error: Option<String>,
    servers: Vec<ServerReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerReport {
    address: String,
    result: &'static str,
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    outvoted: bool,
}

fn seconds(measured: Option<(Offset, Bound)>) -> (Option<f64>, Option<f64>) {
    measured.map(|(offset, bound)| (offset.as_secs_f64(), bound.as_secs_f64())).unzip()
}

impl Report {
    fn new(view: &View) -> Self {
        let (offset_seconds, bound_seconds) = seconds(view.measured);
        Self {
            state: view.state.label(),
            message: view.sentence(),
            offset_seconds,
            bound_seconds,
            observed_at: view.reference.map(|t| t.rfc3339(9)),
            pools: view.pools.iter().map(PoolReport::new).collect(),
        }
    }
}

impl PoolReport {
    fn new(pool: &PoolView) -> Self {
        let (offset_seconds, bound_seconds) = seconds(pool.measured);
        Self {
            name: pool.name.clone(),
            offset_seconds,
            bound_seconds,
            round_trip_seconds: pool.round_trip.map(|d| d.as_secs_f64()),
            stratum: pool.stratum,
            error: pool.trouble().filter(|_| pool.live_servers() == 0),
            servers: pool.servers.iter().map(ServerReport::new).collect(),
        }
    }
}

impl ServerReport {
    fn new(server: &ServerView) -> Self {
        let (offset_seconds, bound_seconds) = seconds(server.measured);
        Self {
            address: server.address.to_string(),
            result: match server.last {
                None => "not_asked",
                Some(Ok(())) => crate::core::machine::ACCEPTED,
                Some(Err(refusal)) => refusal.label(),
            },
            offset_seconds,
            bound_seconds,
            outvoted: server.outvoted,
        }
    }
}
