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
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint};

use clock_drift::cli::{CommandError, Exit, block_on, print};
use clock_drift::command as nodes;

use crate::config::raw::RawConfig;
use crate::config::{ConfigError, Settings, read_file};
use crate::os::clock::{Clock as _, LinuxClock};

/// Measures this machine's clock against two or more NTP pools. On Kubernetes, annotates the Node.
///
/// It observes and reports. It steps the clock only where step.mode allows it, or when an operator runs
/// `drift-agent step`.
#[derive(Debug, Parser)]
#[command(name = "drift-agent", version, max_term_width = 100, propagate_version = true, after_help = examples::ALL)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until stopped: measure, export metrics, annotate the Node
    #[command(after_help = examples::RUN)]
    Run(ConfigArgs),
    /// Measure once and report the clock's offset
    ///
    /// Takes at most 5 s. Also prints what the kernel and chrony report about the clock, and whether chrony
    /// is wrong.
    ///
    /// Exits with 0 if the clock is in sync, 1 if it drifts, 2 if the servers disagree, 3 if nothing was
    /// measured.
    #[command(after_help = examples::CHECK)]
    Check(check::CheckArgs),
    /// Run the whole agent against simulated servers for half a minute: no network, no cluster, no root
    #[command(after_help = examples::DEMO)]
    Demo(demo::DemoArgs),
    /// Step the clock now, if all safety rules allow it
    ///
    /// Measures all pools first. Overrides step.maxOffset and the budget of automatic steps, but no other
    /// rule.
    ///
    /// Steps as step.mode has it; where that is off, as auto does: the kernel steps, and chrony, if its
    /// command socket answers, is made to measure again, so that it does not undo the step. Beside a time
    /// daemon that the agent cannot control, it does not step.
    ///
    /// Exits with 0 if the clock was stepped or needs no step, 1 if a rule refused the step, 3 if nothing was
    /// measured, 70 if the step failed.
    #[command(after_help = examples::STEP)]
    Step(step::StepArgs),
    /// Explain the times in a JSON Web Token, and which clock rejects it
    ///
    /// Does not verify the signature.
    ///
    /// Exits with 0 if the token is valid in time, 1 if it is not, 2 if it is suspicious or this clock is
    /// off, 3 if it is valid by this clock but true time could not be measured, 65 if the input is not a
    /// token.
    Jwt(jwt::JwtArgs),
    /// Show the offset of each Node's clock, as the agents of the cluster report it
    ///
    /// The same as `kubectl clock-drift`: kubectl finds this program in PATH under the name
    /// kubectl-clock_drift.
    Nodes(nodes::NodesArgs),
    /// Check a configuration and print the settings that result from it
    #[command(after_help = examples::CHECK_CONFIG)]
    CheckConfig(ConfigArgs),
    /// Print the version and the commit that it was built from
    #[command(after_help = examples::VERSION)]
    Version,
}

/// Where the settings come from: a flag, else the environment, else the file, else the default.
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

/// The command line as a value, to generate completions and manual pages from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line and runs its command.
pub fn main() -> ExitCode {
    let is_plugin = nodes::is_plugin();
    let parsed =
        if is_plugin { nodes::plugin().map(Command::Nodes) } else { Cli::try_parse().map(|cli| cli.command) };
    let command = match parsed {
        Ok(command) => command,
        Err(error) => {
            // clap returns help and version as errors, too.
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::from(Exit::Ok as u8);
            }
            eprint!("{}", redact_tokens(error.to_string()));
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    let result = match command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Step(args) => step::run(args),
        Command::Jwt(args) => jwt::run(args),
        Command::Nodes(args) => nodes::run(args, || LinuxClock.read()),
        Command::CheckConfig(args) => check_config::run(args),
        Command::Version => version::run(),
    };
    let exit = result.unwrap_or_else(|CommandError(exit, message)| {
        let name = if is_plugin { "kubectl clock-drift" } else { "drift-agent" };
        eprintln!("{name}: {}", redact_tokens(message));
        exit
    });
    ExitCode::from(exit as u8)
}

/// An error quotes invalid arguments. If one of them is a token, the quotation must not contain it.
fn redact_tokens(message: String) -> String {
    jwt::without_tokens(message, std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Cli, Command};

    #[test]
    fn clap_accepts_the_command_line_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn switches_without_a_value_leave_the_next_flag_alone() {
        let line = ["drift-agent", "run", "--step-dry-run", "--step-on-request", "--allow-single-pool"];
        let cli = Cli::try_parse_from(line.into_iter().chain(["--log-level", "debug"])).unwrap();
        let Command::Run(args) = cli.command else { panic!("another command: {cli:?}") };
        let text = |value: Option<crate::config::raw::ConfigText>| value.map(|text| text.0);
        let raw = args.raw;
        for switch in [raw.step.dry_run, raw.step.on_request, raw.allow_single_pool] {
            assert_eq!(text(switch).as_deref(), Some("true"));
        }
        assert_eq!(text(raw.log_level).as_deref(), Some("debug"));
    }
}
