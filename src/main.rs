//! The command `drift-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    drift_agent::cli::main()
}
