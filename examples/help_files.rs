//! Writes shell completions and manual pages: `make help-files`.
//!
//! A program of its own, so that the agent, which runs where there is neither shell nor `man`, does not carry
//! it: completions alone would add 81 kB.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};

use clap_complete::Shell;

/// Everything, into `folder`.
pub fn write(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = drift_agent::cli::command();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let script = clap_complete::generate_to(shell, &mut command, "drift-agent", folder)?;
        // In a name with a hyphen the script writes its states in two ways (clap-rs/clap#6421), and nothing
        // completes.
        let text = std::fs::read_to_string(&script)?;
        std::fs::write(&script, text.replace("drift__subcmd__agent", "drift__agent"))?;
    }
    // A page of its own for `help` and what it helps with would say everything twice.
    clap_mangen::generate_to(drift_agent::cli::command().disable_help_subcommand(true), folder)
}

#[allow(dead_code, reason = "the test takes the rest of this file")]
fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Error::other("usage: help_files FOLDER"))?;
    write(&folder)?;
    println!("{}", folder.display());
    Ok(())
}
