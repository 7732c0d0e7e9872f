//! `kubectl-clock_drift`, the program for platforms without an agent: help, errors and exit codes.

#![expect(clippy::unwrap_used, reason = "tests panic to fail")]

use std::process::{Command, Output};

/// Runs the program with neither a kubeconfig nor a home directory.
fn run(arguments: &[&str]) -> Output {
    let empty = std::env::temp_dir().join("clock-drift-no-such-home");
    Command::new(env!("CARGO_BIN_EXE_kubectl-clock_drift"))
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("HOME", &empty)
        .env("USERPROFILE", &empty)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_and_version_have_the_name_of_the_plugin() {
    for (arguments, start) in [
        (&["--help"][..], "Usage: kubectl clock-drift [OPTIONS] [COMMAND]"),
        (&["explain", "--help"], "Usage: kubectl clock-drift explain [OPTIONS] <NODE>"),
        (&["between", "--help"], "Usage: kubectl clock-drift between [OPTIONS] <A> <B>"),
        (&["--version"], "kubectl clock-drift "),
    ] {
        let output = run(arguments);
        let stdout = text(&output.stdout);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{arguments:?}");
        assert!(stdout.contains(start) && !stdout.contains("drift-agent nodes"), "{stdout}");
    }
}

#[test]
fn usage_errors_exit_with_64() {
    for arguments in [
        &["--worst", "0"][..],
        &["--no-such-flag"],
        &["--output", "xml"],
        &["between", "a"],
        &["between", "a", "a"],
        &["--watch", "--output", "json"],
        &["--selector", "a=b", "explain", "n0"],
        &["--context", "c"],
    ] {
        let output = run(arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(64), String::new()), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn missing_kubeconfig_exits_with_78_and_one_line() {
    let output = run(&[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(78), String::new()));
    assert_eq!(
        text(&output.stderr),
        "kubectl clock-drift: there is no kubeconfig: name one with --kubeconfig or KUBECONFIG, or run in a pod\n"
    );
}
