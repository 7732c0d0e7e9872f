//! The command line: one file per command.

mod check;
mod check_config;
mod check_node;
mod check_report;
mod demo;
mod examples;
mod jwt;
mod jwt_report;
mod run;
mod step;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint};

use clock_drift::cli::{CommandError, Exit, block_on, print};
use clock_drift::command as nodes;

use crate::config::raw::RawConfig;
use crate::config::{ConfigError, Settings, read_file};
use crate::os::clock::{Clock as _, LinuxClock};

/// Measures this machine's clock against two NTP pools; on Kubernetes, annotates the Node.
///
/// It observes and reports. It changes the clock only when `step.mode` or a person says so.
#[derive(Debug, Parser)]
#[command(name = "drift-agent", version, max_term_width = 100, propagate_version = true, after_help = examples::ALL)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, export metrics and annotate the Node, until ended
    #[command(after_help = examples::RUN)]
    Run(ConfigArgs),
    /// Measure once and say how the clock is
    ///
    /// Also says what the kernel and the time daemon believe of it.
    /// Exits with 0 in sync, 1 drifting, 2 the servers contradict each other, 3 nothing measured.
    #[command(after_help = examples::CHECK)]
    Check(check::CheckArgs),
    /// Show the whole agent on this machine: no network, no cluster, no root
    #[command(after_help = examples::DEMO)]
    Demo(demo::DemoArgs),
    /// Step the clock now, if every rule for a step holds but those about who may ask
    ///
    /// Measures both pools first. Steps as step.mode says; where that is off, as auto does: by the kernel, and chrony, if its
    /// command socket answers, is told to measure anew, so that it does not take the step back. Beside a time daemon that
    /// cannot be told nothing is stepped. Exits with 0 stepped or nothing to step, 1 refused, 3 nothing measured, 70 failed.
    #[command(after_help = examples::STEP)]
    Step(step::StepArgs),
    /// Explain a JSON Web Token's times, and say which clock it is that refuses it
    ///
    /// The signature is not verified. Exits with 0 valid in time, 1 not, 2 suspicious or this clock is off,
    /// 3 valid by this clock while true time could not be measured, 65 not a token.
    Jwt(jwt::JwtArgs),
    /// Show how far the clocks of a cluster's Nodes are off, as their agents have annotated them
    ///
    /// The same as `kubectl clock-drift`, when this program is in PATH under the name kubectl-clock_drift.
    Nodes(nodes::NodesArgs),
    /// Check a configuration and print the settings it leads to
    #[command(after_help = examples::CHECK_CONFIG)]
    CheckConfig(ConfigArgs),
}

/// Where the settings come from. A flag wins over the environment, that over the file, that over the default.
#[derive(Debug, Args)]
struct ConfigArgs {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE", env = "DRIFT_AGENT_CONFIG", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    #[command(flatten)]
    raw: RawConfig,
}

impl ConfigArgs {
    fn settings(self) -> Result<Settings, CommandError> {
        let file = read_file(self.config.as_deref())?;
        Ok(Settings::new(self.raw, file)?)
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self(if error.is_usage() { Exit::Usage } else { Exit::Config }, error.to_string())
    }
}

/// The command line as a value: what completions and manual pages are made from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let is_plugin = nodes::is_plugin();
    let parsed =
        if is_plugin { nodes::plugin().map(Command::Nodes) } else { Cli::try_parse().map(|cli| cli.command) };
    let command = match parsed {
        Ok(command) => command,
        Err(error) => {
            // Help and version come this way too, and are no errors.
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::from(Exit::Ok as u8);
            }
            eprint!("{}", fit_to_print(error.to_string()));
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    let done = match command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Step(args) => step::run(args),
        Command::Jwt(args) => jwt::run(args),
        Command::Nodes(args) => nodes::run(args, || LinuxClock.read()),
        Command::CheckConfig(args) => check_config::run(args),
    };
    let exit = done.unwrap_or_else(|CommandError(exit, message)| {
        let name = if is_plugin { "kubectl clock-drift" } else { "drift-agent" };
        eprintln!("{name}: {}", fit_to_print(message));
        exit
    });
    ExitCode::from(exit as u8)
}

/// An error quotes what is wrong; when that is a token at the wrong place, it must not.
fn fit_to_print(message: String) -> String {
    jwt::without_tokens(message, std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_put_together_right() {
        super::Cli::command().debug_assert();
    }
}
