//! What all commands share: exit codes, failures, printing.

use std::fmt::Display;
use std::future::Future;
use std::io::{ErrorKind, Write};

/// A command's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well; for `check`: in sync; for `jwt`: valid in time.
    Ok = 0,
    /// `check`: drifting; `nodes`: one drifts; `step`: refused; `jwt`: not valid in time.
    Negative = 1,
    /// `check`: the servers contradict each other; `jwt`: suspicious.
    Inconclusive = 2,
    /// `check`, `nodes`: nothing measured; `jwt`: valid by this clock, and true time was not measured.
    Unknown = 3,
    /// The command line is wrong (`EX_USAGE` of sysexits.h).
    Usage = 64,
    /// `jwt`: what was given is no token (`EX_DATAERR`).
    DataError = 65,
    /// The program failed (`EX_SOFTWARE`).
    Software = 70,
    /// The configuration is wrong (`EX_CONFIG`).
    Config = 78,
}

/// Why a command did not do its work: an exit code and a line for people.
pub struct CommandError(pub Exit, pub String);

impl CommandError {
    /// The program failed at `what`.
    pub fn software(what: &str, error: impl Display) -> Self {
        Self(Exit::Software, format!("{what}: {error}"))
    }
}

/// Prints to standard output; `false` when nobody reads it any more, as after `| head`: no failure, and no panic.
pub fn print(text: &str) -> Result<bool, CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CommandError::software("cannot print", error)),
    }
}

/// One thread is enough for everything here, and keeps the footprint small.
pub fn block_on<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::software("cannot start", e))?;
    let result = runtime.block_on(work);
    // What still waits for the network is not waited for.
    runtime.shutdown_background();
    result
}
