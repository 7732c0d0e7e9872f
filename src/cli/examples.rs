//! Examples for `--help`; a test parses every one of them.

pub(super) const ALL: &str = "\
Examples:
  drift-agent check                                    is it this machine's clock?
  drift-agent jwt < token                              is it the token?
  drift-agent run --kubernetes off                     watch this machine's clock, metrics on :10123
  drift-agent nodes                                    which node of the cluster is it?
  drift-agent help run                                 everything that can be set

Exit codes that all commands share: 64 wrong use, 70 a failure of the program, 78 a wrong configuration.";

pub(super) const RUN: &str = "\
Examples:
  drift-agent run --kubernetes off                     without a cluster: metrics on :10123, the log on standard error
  drift-agent run --pool ntp-a.example --pool ntp-b.example --interval 16s
                                                       against time servers of your own
  drift-agent run --last-resort-http-date http://10.0.0.1
                                                       coarsely by HTTP while no NTP server answers
  drift-agent run --config /etc/drift-agent/config.yaml --log-format json

In a cluster it is installed by the chart, one on each node.";

pub(super) const CHECK: &str = "\
Examples:
  drift-agent check                                    against time.google.com and time.cloudflare.com
  drift-agent check --pool 10.0.0.1 --pool 10.0.0.2    against time servers of your own
  drift-agent check --http-date http://10.0.0.1        coarsely by HTTP too, where UDP 123 is blocked
  drift-agent check --threshold 500ms --output json    for programs
  drift-agent check > /dev/null || echo \"not in sync\"";

pub(super) const DEMO: &str = "\
Examples:
  drift-agent demo                                     the story, in half a minute
  drift-agent demo --serve                             and stay, to look at the metrics";

pub(super) const CHECK_CONFIG: &str = "\
Examples:
  drift-agent check-config                             the defaults
  drift-agent check-config --config config.yaml        what a file leads to
  drift-agent check-config --config config.yaml --interval 32s
                                                       a flag wins over the file";

pub(super) const STEP: &str = "\
Examples:
  drift-agent step --dry-run                           would it step, and if not, why?
  drift-agent step                                     step now, if both pools bear it out
  drift-agent step --step-mode chrony                  leave it to chrony";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, Parser};

    use super::super::Cli;

    /// The commands that a line of examples runs, without what the shell does and without what is said about them.
    fn invocations(examples: &str) -> Vec<Vec<String>> {
        let starts = examples
            .lines()
            .filter(|line| line.starts_with("  "))
            .filter_map(|line| line.find("drift-agent ").map(|at| &line[at..]));
        let bare = |line: &str| {
            let ends = ["  ", " < ", " > ", " | ", " || "];
            let end = ends.iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
            line[..end].split_whitespace().map(str::to_owned).collect()
        };
        starts.map(bare).collect()
    }

    fn all_commands(command: &Command, path: &str, found: &mut Vec<(String, String)>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        found.push((path.to_owned(), help));
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            all_commands(sub, &format!("{path} {}", sub.get_name()), found);
        }
    }

    #[test]
    fn every_command_has_examples_and_they_are_right() {
        let mut commands = Vec::new();
        all_commands(&Cli::command(), "drift-agent", &mut commands);
        assert!(commands.len() > 5, "{commands:?}");
        for (path, help) in commands {
            let examples = invocations(&help);
            assert!(examples.len() > 1, "{path} has too few examples: {help:?}");
            for words in examples {
                assert!(words.join(" ").starts_with(&path), "{words:?} is an example of {path}");
                if let Err(error) = Cli::try_parse_from(&words) {
                    assert!(!error.use_stderr(), "{words:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
