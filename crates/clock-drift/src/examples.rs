//! Examples for `--help`; tests parse each of them.

pub(super) const NODES: &str = "\
Examples:
  drift-agent nodes                                    all Nodes, worst first
  drift-agent nodes --worst 10 --watch                 the ten worst, redrawn on change
  drift-agent nodes -l pool=gpu -o json                for programs
  drift-agent nodes explain n0                         state, since when, cause, what to do
  drift-agent nodes between n0 n1                      would a token issued on n0 verify on n1 now?

Exits with 0 when no Node drifts, 1 when a Node drifts, 3 when no Node was measured recently. Needs get, list and, with --watch, watch on nodes.";

pub(super) const NODES_EXPLAIN: &str = "\
Examples:
  drift-agent nodes explain n0                         the Node n0 of the current context
  drift-agent nodes explain n0 --context staging       the Node of another context";

pub(super) const NODES_BETWEEN: &str = "\
Examples:
  drift-agent nodes between n0 n1                      issued on n0, verified on n1, and the other way round
  drift-agent nodes between n0 n1 --context staging    in another cluster";

/// The examples of `drift-agent nodes` under the name of the kubectl plugin, which is two letters longer.
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
    #[test]
    fn examples_of_the_plugin_have_its_name_and_the_same_columns() {
        let text = super::for_kubectl(super::NODES);
        let column = |text: &str, word: &str| text.lines().find_map(|line| line.find(word));
        assert_eq!(column(&text, "all Nodes"), column(super::NODES, "all Nodes"), "{text}");
        assert!(text.contains("\n  kubectl clock-drift explain n0  "), "{text}");
        assert!(!text.contains("drift-agent"), "{text}");
    }
}
