//! `drift-agent nodes`, also `kubectl clock-drift`: the clocks of a whole cluster, from the Nodes'
//! annotations.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::future::pending;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::{
    Args, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, ValueHint,
};
use futures_util::{Stream, StreamExt};
use kube::api::WatchEvent;
use tokio::time::{sleep, timeout};

use crate::cli::{CommandError, Exit, block_on, print};
use crate::examples;
use crate::nodes::error::FetchError;
use crate::nodes::fetch::{Listing, ReadClocks, Reader, WATCH_SILENCE_MAX};
use crate::nodes::fleet::Fleet;
use crate::nodes::kubeconfig::{Proxies, Target};
use crate::nodes::now::Now;
use crate::nodes::report::{self, Report};
use crate::nodes::row::{Item, ReportedState, Row};
use crate::nodes::{between, explain, table};
use crate::terminal::Style;
use drift_core::time::backoff::Backoff;

/// kubectl runs `kubectl-clock_drift` for `kubectl clock-drift`.
const PLUGIN: &str = "kubectl-clock_drift";
/// With `--watch`, the shortest time between two tables.
const REDRAW_INTERVAL_MIN: Duration = Duration::from_secs(1);
/// With `--watch` on a terminal, the longest time between two tables, because ages grow.
const REDRAW_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// Shows how far the clocks of a cluster's Nodes are off, as drift-agent has annotated them
#[derive(Debug, Parser)]
#[command(name = "kubectl clock-drift", bin_name = "kubectl clock-drift", version, max_term_width = 100)]
struct Plugin {
    #[command(flatten)]
    args: NodesArgs,
}

/// The arguments of `kubectl clock-drift` and of `drift-agent nodes`.
#[derive(Debug, Args)]
#[command(after_help = examples::NODES)]
pub struct NodesArgs {
    #[command(flatten)]
    table: TableArgs,
    /// kubeconfig to use instead of $KUBECONFIG and ~/.kube/config
    #[arg(long, value_name = "FILE", global = true, value_hint = ValueHint::FilePath)]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use instead of the current one
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    #[command(subcommand)]
    command: Option<NodesCommand>,
}

#[derive(Debug, Default, PartialEq, Args)]
struct TableArgs {
    /// Output format [default: a table]
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Only Nodes with these labels, as kubectl takes them
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Show the N worst Nodes; the summary covers all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    worst: Option<u32>,
    /// Watch and redraw on change
    #[arg(short, long)]
    watch: bool,
    /// Don't print headers
    #[arg(long)]
    no_headers: bool,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    #[command(after_help = examples::NODES_EXPLAIN)]
    /// Explain one Node's clock: state, since when, cause, effect on tokens, and what to do
    Explain {
        /// Name of the Node
        node: String,
    },
    #[command(after_help = examples::NODES_BETWEEN)]
    /// Would a token issued on one Node verify on another now, and with which leeway?
    Between {
        /// Name of the Node that issues the token
        a: String,
        /// Name of the Node that verifies the token
        b: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// The table with a column for the offset that each pool reports
    Wide,
    /// JSON
    Json,
    /// The same as YAML
    Yaml,
    /// node/NAME, worst first
    Name,
}

/// Was the program started under the name of the kubectl plugin?
pub fn is_plugin() -> bool {
    let program = std::env::args_os().next().map(PathBuf::from);
    program.is_some_and(|path| path.file_name().is_some_and(|name| name == PLUGIN))
}

/// Parses the command line of the plugin.
pub fn plugin() -> Result<NodesArgs, clap::Error> {
    let matches = plugin_command().try_get_matches()?;
    Plugin::from_arg_matches(&matches).map(|plugin| plugin.args)
}

/// The command line of the plugin: that of `drift-agent nodes`, with the examples under the plugin's name.
pub fn plugin_command() -> Command {
    let renamed = |command: Command| {
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        command.after_help(examples::for_kubectl(&examples))
    };
    renamed(Plugin::command()).mut_subcommands(renamed)
}

/// Runs the command. Exit code 0: no Node drifts, 1: a Node drifts, 3: no Node was measured recently.
pub fn run(args: NodesArgs, read_clocks: ReadClocks) -> Result<Exit, CommandError> {
    let NodesArgs { table, kubeconfig, context, command } = args;
    if command.is_some() && table != TableArgs::default() {
        return Err(usage("explain and between take only --kubeconfig and --context"));
    }
    if table.watch && !matches!(table.output, None | Some(Output::Wide)) {
        return Err(usage("--watch: prints a table; it cannot be combined with --output json, yaml or name"));
    }
    if matches!(&command, Some(NodesCommand::Between { a, b }) if a == b) {
        return Err(usage("between: expected two Nodes, got the same Node twice"));
    }
    let target = target(kubeconfig, context);
    block_on(async {
        let reader = Reader::new(target, read_clocks).await?;
        match command {
            None if table.watch => watch(&reader, &table).await,
            None => list(&reader, &table).await,
            Some(NodesCommand::Explain { node }) => explain(&reader, &node).await,
            Some(NodesCommand::Between { a, b }) => between(&reader, &a, &b).await,
        }
    })
}

fn usage(text: &str) -> CommandError {
    CommandError(Exit::Usage, text.to_owned())
}

impl From<FetchError> for CommandError {
    fn from(error: FetchError) -> Self {
        let exit = match error {
            FetchError::InvalidName(_)
            | FetchError::NotFound(_)
            | FetchError::BadRequest(_)
            | FetchError::ContextWithoutKubeconfig(_)
            | FetchError::UnknownContext { .. } => Exit::Usage,
            FetchError::NoKubeconfig
            | FetchError::NoContext { .. }
            | FetchError::Kubeconfig(_)
            | FetchError::KubeconfigFile { .. }
            | FetchError::InvalidProxy(_)
            | FetchError::PluginNotStarted { .. }
            | FetchError::PluginFailed { .. } => Exit::Config,
            FetchError::Unreachable { .. }
            | FetchError::TimedOut { .. }
            | FetchError::Interrupted(_)
            | FetchError::InvalidResponse(_)
            | FetchError::Unauthorized
            | FetchError::Forbidden(_)
            | FetchError::Status { .. }
            | FetchError::Watch(_)
            | FetchError::ChangesTooFast
            | FetchError::Gone => Exit::Failure,
        };
        Self(exit, error.to_string())
    }
}

/// The whole program `kubectl-clock_drift`: parses the command line, runs the command, and prints an error as
/// one line.
pub fn main(read_clocks: ReadClocks) -> ExitCode {
    let result = match plugin() {
        Ok(args) => run(args, read_clocks),
        // clap returns help and version as errors, too.
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = error.print();
            return ExitCode::from(exit as u8);
        }
    };
    let exit = result.unwrap_or_else(|CommandError(exit, message)| {
        eprintln!("kubectl clock-drift: {message}");
        exit
    });
    ExitCode::from(exit as u8)
}

/// The flag wins over `KUBECONFIG`, which wins over the file in the home directory; the service account of a
/// pod comes last.
#[expect(clippy::disallowed_methods, reason = "the variables that kubectl reads")]
fn target(kubeconfig: Option<PathBuf>, context: Option<String>) -> Target {
    let is_explicit = kubeconfig.is_some();
    let listed = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty());
    let files = match (kubeconfig, listed) {
        (Some(file), _) => vec![file],
        (None, Some(list)) => {
            std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect()
        }
        (None, None) => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
    };
    let first = |names: [&str; 2]| {
        names.into_iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
    };
    let proxies = Proxies {
        http: first(["HTTP_PROXY", "http_proxy"]).unwrap_or_default(),
        https: first(["HTTPS_PROXY", "https_proxy"]).unwrap_or_default(),
        none: first(["NO_PROXY", "no_proxy"]).unwrap_or_default(),
    };
    Target { files, is_explicit, context, proxies }
}

/// Prints the Nodes once.
async fn list(reader: &Reader, args: &TableArgs) -> Result<Exit, CommandError> {
    let Listing { rows, clock, .. } = reader.list(args.selector.as_deref()).await?;
    let fleet = Fleet::new(rows.into_values().collect(), clock.now());
    let worst = worst(args);
    let unprintable = |e: &dyn fmt::Display| CommandError::failure("cannot print", e);
    print(&match args.output {
        None | Some(Output::Wide) => table::text(&fleet, table_options(args)),
        Some(Output::Json) => {
            serde_json::to_string_pretty(&Report::new(&fleet, worst)).map_err(|e| unprintable(&e))? + "\n"
        }
        Some(Output::Yaml) => {
            serde_saphyr::to_string(&Report::new(&fleet, worst)).map_err(|e| unprintable(&e))?
        }
        Some(Output::Name) => report::names(&fleet, worst),
    })?;
    Ok(verdict(fleet.drifts(), fleet.is_measured()))
}

fn verdict(drifts: bool, is_measured: bool) -> Exit {
    match (drifts, is_measured) {
        (true, _) => Exit::Negative,
        (false, true) => Exit::Ok,
        (false, false) => Exit::Unknown,
    }
}

fn worst(args: &TableArgs) -> Option<usize> {
    args.worst.map(|n| usize::try_from(n).unwrap_or(usize::MAX))
}

fn table_options(args: &TableArgs) -> table::TableOptions {
    table::TableOptions {
        style: Style::for_stdout(),
        wide: args.output == Some(Output::Wide),
        headers: !args.no_headers,
        worst: worst(args),
    }
}

async fn explain(reader: &Reader, node: &str) -> Result<Exit, CommandError> {
    let (row, clock) = reader.node(node).await?;
    let now = clock.now();
    print(&(explain::text(&row, &now) + &clock_warnings(std::slice::from_ref(&row), now)))?;
    let is_measured = row.current(&now).is_some() && row.reported != ReportedState::NoAgent;
    Ok(verdict(row.drifts(), is_measured))
}

async fn between(reader: &Reader, a: &str, b: &str) -> Result<Exit, CommandError> {
    let (first, _) = reader.node_metadata(a).await?;
    let (second, clock) = reader.node_metadata(b).await?;
    let now = clock.now();
    let (text, is_known) = match between::text(&first, &second, &now) {
        Ok(text) => (text, true),
        Err(text) => (text, false),
    };
    let drifts = first.drifts() || second.drifts();
    print(&(text + &clock_warnings(&[first, second], now)))?;
    Ok(verdict(drifts, is_known))
}

/// Warnings about the clocks by which ages are counted, to be printed last; empty when there are none.
fn clock_warnings(rows: &[Row], now: Now) -> String {
    let lines = table::clocks(&Fleet { rows: rows.to_vec(), now });
    if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join("\n")) }
}

/// Prints the table again whenever it changes, until the process is stopped or its output is closed.
async fn watch(reader: &Reader, args: &TableArgs) -> Result<Exit, CommandError> {
    let selector = args.selector.as_deref();
    let mut screen = Screen {
        options: table_options(args),
        is_terminal: stdout().is_terminal(),
        last: None,
        trouble: None,
    };
    // An error of the first list ends the command; later ones are retried.
    let mut listing = reader.list(selector).await?;
    let mut backoff = Backoff::default();
    loop {
        let ended = match reader.watch(selector, &listing.version).await {
            Ok(stream) => follow(&mut listing, stream, &mut screen, &mut backoff).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(WatchEnd::OutputClosed(result)) => return result,
            Ok(WatchEnd::Expired) => continue,
            Err(FetchError::Gone) => {}
            Err(error) => {
                screen.trouble = Some(CommandError::from(error).1);
                if !screen.draw(&listing)? {
                    return Ok(Exit::Ok);
                }
            }
        }
        loop {
            sleep(backoff.wait(None, random_fraction())).await;
            match reader.list(selector).await {
                Ok(new) => {
                    listing = new;
                    break;
                }
                Err(error) => screen.trouble = Some(CommandError::from(error).1),
            }
        }
    }
}

/// Why a watch ended without an error.
enum WatchEnd {
    /// The API server ended it, as it does after some minutes, or the connection was lost.
    Expired,
    /// The output is closed, or cannot be written to.
    OutputClosed(Result<Exit, CommandError>),
}

/// Applies the events of a watch, and prints the table after changes.
async fn follow(
    listing: &mut Listing,
    stream: impl Stream<Item = Result<WatchEvent<Item>, FetchError>>,
    screen: &mut Screen,
    backoff: &mut Backoff,
) -> Result<WatchEnd, FetchError> {
    let mut stream = pin!(stream);
    screen.trouble = None;
    loop {
        match screen.draw(listing) {
            Ok(true) => {}
            Ok(false) => return Ok(WatchEnd::OutputClosed(Ok(Exit::Ok))),
            Err(error) => return Ok(WatchEnd::OutputClosed(Err(error))),
        }
        // Changes within a second are printed together.
        let (mut shortest, mut longest) =
            (pin!(sleep(REDRAW_INTERVAL_MIN)), pin!(sleep(REDRAW_INTERVAL_MAX)));
        let (mut may_draw, mut changed) = (false, false);
        while !(may_draw && changed) {
            tokio::select! {
                event = timeout(WATCH_SILENCE_MAX, stream.next()) => match event {
                    Ok(Some(event)) => {
                        changed |= listing.apply(event?)?;
                        *backoff = Backoff::default();
                    }
                    Ok(None) | Err(_) => return Ok(WatchEnd::Expired),
                },
                () = &mut shortest, if !may_draw => may_draw = true,
                () = async { if screen.is_terminal { longest.as_mut().await } else { pending().await } } => break,
            }
        }
    }
}

/// A random number from 0 to 1: the standard library keys its hash maps with random bits from the operating
/// system.
fn random_fraction() -> f64 {
    let bits = RandomState::new().hash_one(());
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// Where the table is printed with `--watch`.
struct Screen {
    options: table::TableOptions,
    is_terminal: bool,
    /// The rows of the last table, for a pipe.
    last: Option<BTreeMap<String, Row>>,
    /// Why the table may be out of date.
    trouble: Option<String>,
}

impl Screen {
    /// Prints the table; `false` when the output is closed.
    fn draw(&mut self, listing: &Listing) -> Result<bool, CommandError> {
        let fleet = Fleet::new(listing.rows.values().cloned().collect(), listing.clock.now());
        let mut text = table::text(&fleet, self.options);
        if let Some(trouble) = &self.trouble {
            let _ = writeln!(text, "Out of date, trying again: {trouble}.");
        }
        if self.is_terminal {
            // Cursor to the top left, clear each line to its end, then the rest of the screen: without
            // flicker.
            return print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")));
        }
        // A pipe gets a table for each change, separated by an empty line.
        if self.trouble.is_none() && self.last.as_ref() == Some(&listing.rows) {
            return Ok(true);
        }
        let gap = if self.last.replace(listing.rows.clone()).is_some() { "\n" } else { "" };
        print(&format!("{gap}{text}"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn command_line_of_the_plugin_passes_the_checks_of_clap() {
        super::plugin_command().debug_assert();
    }
}
