//! Shell completions, run by a real bash, and manual pages, both generated from the command line.

#[path = "../../examples/help_files.rs"]
mod help_files;

use std::process::Command;

use crate::support::{Folder, finish};

#[test]
fn bash_completes_commands_flags_and_values() {
    let folder = Folder::new("help-bash");
    help_files::write(folder.path()).unwrap();
    let script = folder.path().join("drift-agent.bash");
    let complete = |words: &[&str]| {
        // What bash does when an operator presses Tab after these words.
        let ask = r#"source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); ours=$(complete -p "$1"); ours=${ours##*-F }; "${ours%% *}" "$1" "${!#}" "${@:$#-1:1}"; printf '%s\n' "${COMPREPLY[@]}""#;
        let ended = finish(Command::new("bash").args(["--norc", "-c", ask]).arg(&script).args(words), "");
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
        ended.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["drift-agent", "chec"]), ["check", "check-config"]);
    assert_eq!(complete(&["drift-agent", "jwt", "--thr"]), ["--threshold"]);
    assert_eq!(complete(&["drift-agent", "jwt", "--kind", "re"]), ["refresh"]);
    assert_eq!(complete(&["drift-agent", "check", "--output", ""]), ["table", "json"]);
}

#[test]
fn every_command_has_a_manual_page_with_examples() {
    let folder = Folder::new("help-man");
    help_files::write(folder.path()).unwrap();
    for page in
        ["drift-agent", "drift-agent-run", "drift-agent-check", "drift-agent-jwt", "drift-agent-jwt-cases"]
    {
        let text = std::fs::read_to_string(folder.path().join(format!("{page}.1"))).unwrap();
        assert!(
            text.contains(".TH ") && text.contains("Examples:") && text.contains(".SH SYNOPSIS"),
            "{page}: {text}"
        );
    }
    assert!(!folder.path().join("drift-agent-help.1").exists(), "a page of help about help");
    for script in ["drift-agent.bash", "drift-agent.fish", "_drift-agent"] {
        assert!(std::fs::read_to_string(folder.path().join(script)).unwrap().contains("leeway"), "{script}");
    }
}
