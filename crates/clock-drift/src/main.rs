//! `kubectl-clock_drift` for platforms without an agent. On Linux, `drift-agent` under this name is the same
//! program.

use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clock_drift::command;
use drift_core::time::{Mono, Reading, Wall, nanos};

/// The clocks of the standard library. Whether its monotonic clock counts a suspend depends on the platform.
#[expect(clippy::disallowed_methods, reason = "the one place in which this program reads a clock")]
fn read_clocks() -> Reading {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let raw = Mono::from_nanos(nanos(START.elapsed()));
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos);
    Reading { wall: Wall::from_nanos(wall), raw, suspended: Duration::ZERO }
}

fn main() -> ExitCode {
    command::main(read_clocks)
}
