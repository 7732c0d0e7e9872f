//! What all commands share: exit codes, errors, printing.

use std::fmt::Display;
use std::future::Future;
use std::io::{ErrorKind, Write};

/// A command's exit code. 0 to 3 answer the question that the command asks. From 64 on (the codes of
/// sysexits.h) the command could not answer it. What 0 to 3 mean for each command:
///
/// | | `check` | `step` | `jwt` | `nodes` |
/// |---|---|---|---|---|
/// | 0 | in sync | stepped, or no step needed | valid in time | no Node drifts |
/// | 1 | drifting | refused by a rule | not valid in time | a Node drifts |
/// | 2 | the servers disagree | | suspicious | |
/// | 3 | nothing measured | nothing measured | valid by this clock, true time not measured | no Node measured |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Yes.
    Ok = 0,
    /// No.
    Negative = 1,
    /// There is evidence for both.
    Inconclusive = 2,
    /// There is no measurement to answer with.
    Unknown = 3,
    /// The command line or the environment is invalid (`EX_USAGE`).
    Usage = 64,
    /// The input is invalid: not a token (`EX_DATAERR`).
    DataError = 65,
    /// The operation failed (`EX_SOFTWARE`).
    Failure = 70,
    /// The configuration is invalid (`EX_CONFIG`).
    Config = 78,
}

/// Why a command failed: its exit code, and one line for standard error.
pub struct CommandError(pub Exit, pub String);

impl CommandError {
    /// [`Exit::Failure`], with `what: error` as its line.
    pub fn failure(what: &str, error: impl Display) -> Self {
        Self(Exit::Failure, format!("{what}: {error}"))
    }
}

/// Prints to standard output. `false`: the reader has closed it, as `| head` does, which is no error.
pub fn print(text: &str) -> Result<bool, CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CommandError::failure("cannot print", error)),
    }
}

/// Runs `work` on the calling thread. One thread is enough for every command, and keeps the footprint small.
pub fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::failure("cannot start", e))?;
    let result = runtime.block_on(work);
    // Does not wait for tasks that still wait for the network.
    runtime.shutdown_background();
    result
}
