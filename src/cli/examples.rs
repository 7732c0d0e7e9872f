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

pub(super) const NODES: &str = "\
Examples:
  drift-agent nodes                                    all Nodes, worst first
  drift-agent nodes --worst 10 --watch                 the ten worst, painted anew when something changes
  drift-agent nodes -l pool=gpu -o json                for programs
  drift-agent nodes explain n0                         what, since when, why, what to do
  drift-agent nodes between n0 n1                      would a token issued on n0 verify on n1 now?

Exits with 0 when no Node drifts, 1 when one does, 3 when nothing is measured. Needs get, list and, with --watch, watch on nodes.";

pub(super) const NODES_EXPLAIN: &str = "\
Examples:
  drift-agent nodes explain n0                         the Node n0 of the current context
  drift-agent nodes explain n0 --context staging       of another";

pub(super) const NODES_BETWEEN: &str = "\
Examples:
  drift-agent nodes between n0 n1                      issued on n0, verified on n1, and the other way round
  drift-agent nodes between n0 n1 --context staging    in another cluster";

/// The examples of `drift-agent nodes` as they are for the plugin of kubectl, whose name is two letters longer.
pub(super) fn for_kubectl(examples: &str) -> String {
    let mut text = String::new();
    for line in examples.lines() {
        let named = line.replace("drift-agent nodes", "kubectl clock-drift");
        let kept = if named == line { named } else { named.replacen("    ", "  ", 1) };
        text.push_str(kept.trim_end());
        text.push('\n');
    }
    text.trim_end().to_owned()
}

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
    fn the_plugins_examples_are_the_same_under_its_name() {
        let text = super::for_kubectl(super::NODES);
        let column = |text: &str, word: &str| text.lines().find_map(|line| line.find(word));
        assert_eq!(column(&text, "all Nodes"), column(super::NODES, "all Nodes"), "{text}");
        assert!(text.contains("\n  kubectl clock-drift explain n0  "), "{text}");
        assert!(!text.contains("drift-agent"), "{text}");
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
