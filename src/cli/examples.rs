//! The examples and exit codes in `--help`. A test parses each example.

pub(super) const ALL: &str = "\
Examples:
  drift-agent check                                    is this machine's clock wrong?
  drift-agent jwt < token                              is this token valid, and by which clock?
  drift-agent nodes                                    which node's clock is wrong?
  drift-agent run --kubernetes off                     watch this machine's clock; metrics on :10123
  drift-agent help run                                 list all settings

Exit codes:
   0  yes: in sync, valid, stepped, or done
   1  no: drifting, not valid, or refused
   2  inconclusive: the servers disagree, or the token is suspicious, or this clock is off
   3  unknown: nothing was measured
  64  invalid command line or environment
  65  the input is not a token
  70  failed
  78  invalid configuration
What 0 to 3 mean for a command is in its own --help.";

pub(super) const RUN: &str = "\
Examples:
  drift-agent run --kubernetes off                     without a cluster; metrics on :10123, log on standard error
  drift-agent run --pool ntp-a.example --pool ntp-b.example --interval 16s
                                                       use your own time servers
  drift-agent run --last-resort-http-date http://10.0.0.1
                                                       use HTTP, which is coarse, while no NTP server answers
  drift-agent run --config /etc/drift-agent/config.yaml --log-format json

In a cluster, install the chart: it runs one agent on each node.";

pub(super) const CHECK: &str = "\
Examples:
  drift-agent check                                    use time.google.com and time.cloudflare.com
  drift-agent check --pool 10.0.0.1 --pool 10.0.0.2    use your own time servers
  drift-agent check --http-date http://10.0.0.1        also use HTTP, where UDP 123 is blocked
  drift-agent check --threshold 500ms --output json    print JSON for programs
  drift-agent check > /dev/null || echo \"not in sync\"";

pub(super) const DEMO: &str = "\
Examples:
  drift-agent demo                                     takes half a minute
  drift-agent demo --serve                             keep running, to read the metrics";

pub(super) const CHECK_CONFIG: &str = "\
Examples:
  drift-agent check-config                             print the defaults
  drift-agent check-config --config config.yaml        check a file
  drift-agent check-config --config config.yaml --interval 32s
                                                       a flag overrides the file";

pub(super) const VERSION: &str = "\
Examples:
  drift-agent version                                  print version and revision
  drift-agent version | cut -d ' ' -f 2                print the version alone";

pub(super) const STEP: &str = "\
Examples:
  drift-agent step --dry-run                           would it step? if not, why?
  drift-agent step                                     step now, if all safety rules allow it
  drift-agent step --step-mode chrony                  let chrony step";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, Parser};

    use super::super::Cli;

    /// The command lines of the examples, without redirections and without their descriptions.
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
    fn every_command_has_examples_that_parse() {
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
}
