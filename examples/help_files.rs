//! Writes shell completions and manual pages: `make help-files`.
//!
//! It is a separate program, because the agent runs where there is neither a shell nor `man`, and completions
//! alone would add 81 kB to it.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};

use clap_complete::Shell;

/// Writes all files into `folder`.
pub fn write(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = drift_agent::cli::command();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let script = clap_complete::generate_to(shell, &mut command, "drift-agent", folder)?;
        // For a name with a hyphen, the script spells its states in two ways (clap-rs/clap#6421) and completes
        // nothing.
        let text = std::fs::read_to_string(&script)?;
        std::fs::write(&script, text.replace("drift__subcmd__agent", "drift__agent"))?;
    }
    // Pages for `help` and its subcommands would repeat all other pages.
    clap_mangen::generate_to(drift_agent::cli::command().disable_help_subcommand(true), folder)
}

#[allow(dead_code, reason = "the test includes this file for `write`")]
fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Error::other("usage: help_files FOLDER"))?;
    write(&folder)?;
    println!("{}", folder.display());
    Ok(())
}
