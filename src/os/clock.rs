//! The node's clocks, behind a trait so that a test can use others.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, Timespec};

use super::timex::KernelClock;
use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Reading, Wall, nanos};

/// Reads the node's clocks.
pub trait Clock: Send + Sync {
    /// All of them, as close to one instant as possible.
    fn read(&self) -> Reading;
}

/// The clocks of the kernel (`clock_gettime(2)`); no privilege needed.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxClock;

/// Two readings of the raw clock that are closer than this were not interrupted.
const UNINTERRUPTED_MAX: Duration = Duration::from_micros(5);
/// Attempts to read the clocks without an interruption.
const READ_ATTEMPTS: usize = 5;

impl Clock for LinuxClock {
    fn read(&self) -> Reading {
        // Wall time is read between two readings of the raw clock. If the scheduler interrupts, the two are
        // apart by as much. The closest pair is used.
        let mut best: Option<(Duration, Reading)> = None;
        for _ in 0..READ_ATTEMPTS {
            let before = Mono::from_nanos(get(ClockId::MonotonicRaw));
            let wall = Wall::from_nanos(get(ClockId::Realtime));
            let after = Mono::from_nanos(get(ClockId::MonotonicRaw));
            let width = after.since(before);
            let raw = before.plus(width / 2);
            if best.is_none_or(|(narrowest, _)| width < narrowest) {
                best = Some((width, Reading { wall, raw, suspended: Duration::ZERO }));
            }
            if width < UNINTERRUPTED_MAX {
                break;
            }
        }
        let reading = best.map_or(
            Reading { wall: Wall::from_nanos(0), raw: Mono::from_nanos(0), suspended: Duration::ZERO },
            |(_, r)| r,
        );
        Reading { suspended: suspended(), ..reading }
    }
}

/// Time spent suspended: BOOTTIME - MONOTONIC. BOOTTIME is read first, so the result may be too low by the
/// time between.
fn suspended() -> Duration {
    let boot = get(ClockId::Boottime);
    Duration::from_nanos(u64::try_from(boot.saturating_sub(get(ClockId::Monotonic))).unwrap_or(0))
}

#[expect(clippy::disallowed_methods, reason = "the one place where clocks are read")]
fn get(id: ClockId) -> i64 {
    let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(id);
    tv_sec.saturating_mul(NANOS_PER_SEC).saturating_add(tv_nsec)
}

/// A clock whose wall time is off by a settable amount, for tests: they must not set the machine's.
#[derive(Debug)]
pub struct ShiftedClock {
    ahead: AtomicI64,
    /// What the kernel reports about it; `None`: that cannot be read.
    pub kernel: Mutex<Option<KernelClock>>,
    /// Is permission to set it missing?
    pub forbidden: AtomicBool,
}

impl Default for ShiftedClock {
    /// The machine's time, without a time daemon.
    fn default() -> Self {
        Self {
            ahead: AtomicI64::default(),
            kernel: Mutex::new(Some(KernelClock::ALONE)),
            forbidden: AtomicBool::default(),
        }
    }
}

impl ShiftedClock {
    /// Sets the wall time this far ahead of the machine's.
    pub fn set(&self, ahead: Duration) {
        self.ahead.store(nanos(ahead), Ordering::Relaxed);
    }

    /// Moves the wall time by this; positive is forward.
    pub fn shift(&self, by: Offset) {
        self.ahead.fetch_add(by.as_nanos(), Ordering::Relaxed);
    }

    /// How far its wall time is ahead of the machine's.
    pub fn ahead_of_machine(&self) -> Offset {
        Offset::from_nanos(self.ahead.load(Ordering::Relaxed))
    }
}

impl Clock for ShiftedClock {
    fn read(&self) -> Reading {
        let reading = LinuxClock.read();
        Reading { wall: reading.wall.plus(self.ahead_of_machine()), ..reading }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_clock_reads_a_raw_clock_that_runs_forward_and_the_machines_wall_clock() {
        let first = LinuxClock.read();
        let second = LinuxClock.read();
        assert!(second.raw >= first.raw);
        #[expect(clippy::disallowed_methods, reason = "compared with the standard library's reading")]
        let std = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(std.as_secs().abs_diff(u64::try_from(first.wall.as_nanos()).unwrap() / 1_000_000_000) <= 1);
    }

    #[test]
    fn shifted_clock_shifts_the_wall_clock_only() {
        let clock = ShiftedClock::default();
        clock.set(Duration::from_secs(3_600));
        let (shifted, real) = (clock.read(), LinuxClock.read());
        let ahead = shifted.origin().minus(real.origin()).as_nanos();
        assert!((ahead - 3_600 * NANOS_PER_SEC).abs() < 1_000_000_000, "{ahead}");
    }
}
