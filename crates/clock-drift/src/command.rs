//! `drift-agent nodes`, which is also `kubectl clock-drift`: the clocks of a whole cluster, from the Nodes' annotations.

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
use crate::nodes::fetch::{self, Listing, Proxies, ReadClocks, Reader, SILENCE, Target};
use crate::nodes::fleet::Fleet;
use crate::nodes::now::Now;
use crate::nodes::report::{self, Report};
use crate::nodes::row::{Item, ReportedState, Row};
use crate::nodes::{between, explain, table};
use crate::terminal::Style;
use drift_core::time::backoff::Backoff;

/// kubectl runs `kubectl-clock_drift` for `kubectl clock-drift`.
const PLUGIN: &str = "kubectl-clock_drift";
/// With `--watch`, the table is painted no more often,
const QUIET: Duration = Duration::from_secs(1);
/// and on a terminal no more rarely, since ages grow.
const AGES: Duration = Duration::from_secs(10);

/// Shows how far the clocks of a cluster's Nodes are off, as drift-agent has annotated them
#[derive(Debug, Parser)]
#[command(name = "kubectl clock-drift", bin_name = "kubectl clock-drift", version, max_term_width = 100)]
struct Plugin {
    #[command(flatten)]
    args: NodesArgs,
}

/// What `kubectl clock-drift` and `drift-agent nodes` take.
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
    question: Option<NodesCommand>,
}

#[derive(Debug, Default, PartialEq, Args)]
struct TableArgs {
    /// How to print it [default: a table]
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Only Nodes with these labels, as kubectl takes them
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only so many Nodes, the worst; what stands below counts all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    worst: Option<u32>,
    /// Stay, and paint the table anew when something changes
    #[arg(short, long)]
    watch: bool,
    /// Without the line of headings
    #[arg(long)]
    no_headers: bool,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    #[command(after_help = examples::NODES_EXPLAIN)]
    /// What one Node's clock does, since when, why, what that does to tokens, and what to do
    Explain {
        /// Name of the Node
        node: String,
    },
    #[command(after_help = examples::NODES_BETWEEN)]
    /// Would a token issued on one Node verify on another now, and with which leeway?
    Between {
        /// Name of the Node that issues
        a: String,
        /// Name of the Node that verifies
        b: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One column more: what each pool says
    Wide,
    /// For programs
    Json,
    /// The same in YAML
    Yaml,
    /// node/NAME, worst first
    Name,
}

/// Was the program started as a plugin of kubectl?
pub fn is_plugin() -> bool {
    let program = std::env::args_os().next().map(PathBuf::from);
    program.is_some_and(|path| path.file_name().is_some_and(|name| name == PLUGIN))
}

/// The plugin's command line.
pub fn plugin() -> Result<NodesArgs, clap::Error> {
    let matches = plugin_command().try_get_matches()?;
    Plugin::from_arg_matches(&matches).map(|plugin| plugin.args)
}

/// The same command line, with examples under the plugin's name.
fn plugin_command() -> Command {
    let renamed = |command: Command| {
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        command.after_help(examples::for_kubectl(&examples))
    };
    renamed(Plugin::command()).mut_subcommands(renamed)
}

/// Carries the command out: 0 no Node drifts, 1 one drifts, 3 nothing is measured.
pub fn run(args: NodesArgs, read_clocks: ReadClocks) -> Result<Exit, CommandError> {
    let NodesArgs { table, kubeconfig, context, question } = args;
    if question.is_some() && table != TableArgs::default() {
        return Err(usage("explain and between take only --kubeconfig and --context"));
    }
    if table.watch && !matches!(table.output, None | Some(Output::Wide)) {
        return Err(usage("--watch: paints a table; with --output json, yaml or name ask again instead"));
    }
    let target = target(kubeconfig, context);
    block_on(async {
        let reader = Reader::new(target, read_clocks).await?;
        match question {
            None if table.watch => watch(&reader, &table).await,
            None => once(&reader, &table).await,
            Some(NodesCommand::Explain { node }) => explain(&reader, &node).await,
            Some(NodesCommand::Between { a, b }) => between(&reader, &a, &b).await,
        }
    })
}

fn usage(text: &str) -> CommandError {
    CommandError(Exit::Usage, text.to_owned())
}

impl From<fetch::FetchError> for CommandError {
    fn from(failure: fetch::FetchError) -> Self {
        match failure {
            fetch::FetchError::Asked(text) => Self(Exit::Usage, text),
            fetch::FetchError::Config(text) => Self(Exit::Config, text),
            fetch::FetchError::Failed(text) => Self(Exit::Failure, text),
            fetch::FetchError::Gone => {
                Self(Exit::Failure, "what was read is too old to go on from".to_owned())
            }
        }
    }
}

/// The plugin as a program of its own.
pub fn main(read_clocks: ReadClocks) -> ExitCode {
    let done = match plugin() {
        Ok(args) => run(args, read_clocks),
        // Help and version come this way too, and are no errors.
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            let _ = error.print();
            return ExitCode::from(exit as u8);
        }
    };
    let exit = done.unwrap_or_else(|CommandError(exit, message)| {
        eprintln!("kubectl clock-drift: {message}");
        exit
    });
    ExitCode::from(exit as u8)
}

/// A flag wins over `KUBECONFIG`, that over the file in the home directory; the pod that we run in comes last.
#[expect(clippy::disallowed_methods, reason = "the variables that kubectl goes by")]
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

async fn once(reader: &Reader, args: &TableArgs) -> Result<Exit, CommandError> {
    let Listing { rows, clock, .. } = reader.list(args.selector.as_deref()).await?;
    let fleet = Fleet::new(rows.into_values().collect(), clock.now());
    let worst = worst(args);
    let unprintable = |e: &dyn fmt::Display| CommandError::failure("cannot print", e);
    print(&match args.output {
        None | Some(Output::Wide) => table::text(&fleet, look(args)),
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

fn look(args: &TableArgs) -> table::TableOptions {
    table::TableOptions {
        style: Style::for_stdout(),
        wide: args.output == Some(Output::Wide),
        headers: !args.no_headers,
        worst: worst(args),
    }
}

async fn explain(reader: &Reader, node: &str) -> Result<Exit, CommandError> {
    let (row, clock) = reader.whole(node).await?;
    let now = clock.now();
    print(&(explain::text(&row, &now) + &about_clocks(std::slice::from_ref(&row), now)))?;
    let is_measured = row.current(&now).is_some() && row.says != ReportedState::NoAgent;
    Ok(verdict(row.drifts(), is_measured))
}

async fn between(reader: &Reader, a: &str, b: &str) -> Result<Exit, CommandError> {
    if a == b {
        return Err(usage("between: the same Node twice has one clock"));
    }
    let (first, _) = reader.metadata(a).await?;
    let (second, clock) = reader.metadata(b).await?;
    let now = clock.now();
    let (text, is_known) = match between::text(&first, &second, &now) {
        Ok(text) => (text, true),
        Err(text) => (text, false),
    };
    let drifts = first.drifts() || second.drifts();
    print(&(text + &about_clocks(&[first, second], now)))?;
    Ok(verdict(drifts, is_known))
}

/// Below the sentences, when there is something to say.
fn about_clocks(rows: &[Row], now: Now) -> String {
    let lines = table::clocks(&Fleet { rows: rows.to_vec(), now });
    if lines.is_empty() { String::new() } else { format!("\n{}\n", lines.join("\n")) }
}

/// Paints the table anew whenever something changes, until it is ended or nobody reads any more.
async fn watch(reader: &Reader, args: &TableArgs) -> Result<Exit, CommandError> {
    let selector = args.selector.as_deref();
    let mut screen =
        Screen { look: look(args), is_terminal: stdout().is_terminal(), last: None, trouble: None };
    // What fails at once fails for good.
    let mut listing = reader.list(selector).await?;
    let mut backoff = Backoff::default();
    loop {
        let ended = match reader.watch(selector, &listing.version).await {
            Ok(stream) => follow(&mut listing, stream, &mut screen, &mut backoff).await,
            Err(failure) => Err(failure),
        };
        match ended {
            Ok(Ended::Out(done)) => return done,
            Ok(Ended::InTime) => continue,
            Err(fetch::FetchError::Gone) => {}
            Err(failure) => {
                screen.trouble = Some(CommandError::from(failure).1);
                if !screen.paint(&listing)? {
                    return Ok(Exit::Ok);
                }
            }
        }
        loop {
            sleep(backoff.wait(None, spread())).await;
            match reader.list(selector).await {
                Ok(anew) => {
                    listing = anew;
                    break;
                }
                Err(failure) => screen.trouble = Some(CommandError::from(failure).1),
            }
        }
    }
}

/// Why a watch is over, without fault.
enum Ended {
    /// The API server ends each after some minutes.
    InTime,
    /// Nobody reads what we print, or it cannot be printed.
    Out(Result<Exit, CommandError>),
}

async fn follow(
    listing: &mut Listing,
    stream: impl Stream<Item = Result<WatchEvent<Item>, fetch::FetchError>>,
    screen: &mut Screen,
    backoff: &mut Backoff,
) -> Result<Ended, fetch::FetchError> {
    let mut stream = pin!(stream);
    screen.trouble = None;
    loop {
        match screen.paint(listing) {
            Ok(true) => {}
            Ok(false) => return Ok(Ended::Out(Ok(Exit::Ok))),
            Err(failure) => return Ok(Ended::Out(Err(failure))),
        }
        // Whatever comes within a second is painted at once.
        let (mut quiet, mut ages) = (pin!(sleep(QUIET)), pin!(sleep(AGES)));
        let (mut may_paint, mut changed) = (false, false);
        while !(may_paint && changed) {
            tokio::select! {
                event = timeout(SILENCE, stream.next()) => match event {
                    Ok(Some(event)) => {
                        changed |= listing.apply(event?)?;
                        *backoff = Backoff::default();
                    }
                    Ok(None) | Err(_) => return Ok(Ended::InTime),
                },
                () = &mut quiet, if !may_paint => may_paint = true,
                () = async { if screen.is_terminal { ages.as_mut().await } else { pending().await } } => break,
            }
        }
    }
}

/// A number in 0..1 that differs from run to run: the standard library keys its hash maps by the system's randomness.
fn spread() -> f64 {
    let bits = RandomState::new().hash_one(());
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// Where the table is painted.
struct Screen {
    look: table::TableOptions,
    is_terminal: bool,
    /// What a pipe got last.
    last: Option<BTreeMap<String, Row>>,
    /// Why it may be out of date.
    trouble: Option<String>,
}

impl Screen {
    /// `false` when nobody reads any more.
    fn paint(&mut self, listing: &Listing) -> Result<bool, CommandError> {
        let fleet = Fleet::new(listing.rows.values().cloned().collect(), listing.clock.now());
        let mut text = table::text(&fleet, self.look);
        if let Some(trouble) = &self.trouble {
            let _ = writeln!(text, "Out of date, trying again: {trouble}.");
        }
        if self.is_terminal {
            // Home, each line to its end, and what is below: no flicker.
            return print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")));
        }
        // A pipe gets a table for each change, with an empty line between two.
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
    fn the_plugins_command_line_is_sound() {
        super::plugin_command().debug_assert();
    }
}
