//! Shared by all commands: exit codes, errors, printing.

use std::fmt::Display;
use std::future::Future;
use std::io::{ErrorKind, Write};

/// A command's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success. `check`: in sync; `nodes`: no Node drifts; `jwt`: valid in time.
    Ok = 0,
    /// `check`: drifting; `nodes`: a Node drifts; `step`: refused; `jwt`: not valid in time.
    Negative = 1,
    /// `check`: the servers contradict each other; `jwt`: suspicious.
    Inconclusive = 2,
    /// `check`, `nodes`: no measurement; `jwt`: valid by this clock, but true time was not measured.
    Unknown = 3,
    /// Usage error (`EX_USAGE` of sysexits.h).
    Usage = 64,
    /// `jwt`: the input is not a token (`EX_DATAERR`).
    DataError = 65,
    /// Internal failure (`EX_SOFTWARE`).
    Software = 70,
    /// Configuration error (`EX_CONFIG`).
    Config = 78,
}

/// Why a command failed: its exit code, and one line for standard error.
pub struct CommandError(pub Exit, pub String);

impl CommandError {
    /// An internal failure: `what: error`.
    pub fn software(what: &str, error: impl Display) -> Self {
        Self(Exit::Software, format!("{what}: {error}"))
    }
}

/// Prints to standard output; `false` when it is closed, as after `| head`, which is not an error.
pub fn print(text: &str) -> Result<bool, CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CommandError::software("cannot print", error)),
    }
}

/// Runs a future to its end on one thread, which keeps the footprint small.
pub fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::software("cannot start", e))?;
    let result = runtime.block_on(work);
    // Look-ups that still wait for the network must not delay the end of the program.
    runtime.shutdown_background();
    result
}
