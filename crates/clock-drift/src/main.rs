//! `kubectl-clock_drift` for platforms that have no agent. On Linux the agent itself answers to this name.

use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clock_drift::command;
use drift_core::time::{Mono, Reading, Wall, nanos};

/// The standard library's clocks: all that every platform has. Whether its monotonic clock counts sleep depends on the platform.
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
