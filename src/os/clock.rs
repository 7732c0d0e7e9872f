//! The node's clocks, behind a trait so that a test can have others.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, Timespec};

use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Reading, Wall, nanos};

/// Reads the node's clocks.
pub trait Clock: Send + Sync {
    /// All of them at one instant, as nearly as can be.
    fn read(&self) -> Reading;

    /// How far its wall time is ahead of the machine's, which the NTP library reads by itself; zero but in tests.
    fn ahead_of_machine(&self) -> Offset {
        Offset::ZERO
    }
}

/// The clocks of the kernel (`clock_gettime(2)`); no privilege needed.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinuxClock;

/// Readings closer than this were not interrupted.
const UNDISTURBED: Duration = Duration::from_micros(5);
/// How often to try for one.
const TRIES: usize = 5;

impl Clock for LinuxClock {
    fn read(&self) -> Reading {
        // Wall time is read between two readings of the raw clock. If the scheduler steps in between, the pair is apart by as
        // much, and the next try is better.
        let mut best: Option<(Duration, Reading)> = None;
        for _ in 0..TRIES {
            let before = Mono::from_nanos(get(ClockId::MonotonicRaw));
            let wall = Wall::from_nanos(get(ClockId::Realtime));
            let after = Mono::from_nanos(get(ClockId::MonotonicRaw));
            let width = after.since(before);
            let raw = before.plus(width / 2);
            if best.is_none_or(|(narrowest, _)| width < narrowest) {
                best = Some((width, Reading { wall, raw, suspended: Duration::ZERO }));
            }
            if width < UNDISTURBED {
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

/// Time spent suspended: BOOTTIME - MONOTONIC. The two are read one after the other, so it errs on the low side.
fn suspended() -> Duration {
    let boot = get(ClockId::Boottime);
    Duration::from_nanos(u64::try_from(boot.saturating_sub(get(ClockId::Monotonic))).unwrap_or(0))
}

#[expect(clippy::disallowed_methods, reason = "the one place where clocks are read")]
fn get(id: ClockId) -> i64 {
    let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(id);
    tv_sec.saturating_mul(NANOS_PER_SEC).saturating_add(tv_nsec)
}

/// A clock whose wall time is off by a settable amount: for tests that may not set the machine's.
#[derive(Debug, Default)]
pub struct ShiftedClock {
    ahead: AtomicI64,
    /// Does somebody discipline it?
    pub disciplined: AtomicBool,
    /// May nobody set it?
    pub forbidden: AtomicBool,
}

impl ShiftedClock {
    /// Sets the wall time `offset` ahead of the machine's.
    pub fn set(&self, ahead: Duration) {
        self.ahead.store(nanos(ahead), Ordering::Relaxed);
    }

    /// Moves the wall time by this from where it is; positive is forward.
    pub fn shift(&self, by: Offset) {
        self.ahead.fetch_add(by.as_nanos(), Ordering::Relaxed);
    }
}

impl Clock for ShiftedClock {
    fn read(&self) -> Reading {
        let reading = LinuxClock.read();
        Reading { wall: reading.wall.plus(self.ahead_of_machine()), ..reading }
    }

    fn ahead_of_machine(&self) -> Offset {
        Offset::from_nanos(self.ahead.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raw_clock_runs_forward_and_the_wall_clock_is_the_machines() {
        let first = LinuxClock.read();
        let second = LinuxClock.read();
        assert!(second.raw >= first.raw);
        #[expect(clippy::disallowed_methods, reason = "compared with the standard library's reading")]
        let std = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(std.as_secs().abs_diff(u64::try_from(first.wall.as_nanos()).unwrap() / 1_000_000_000) <= 1);
    }

    #[test]
    fn a_shifted_clock_shifts_the_wall_and_nothing_else() {
        let clock = ShiftedClock::default();
        clock.set(Duration::from_secs(3_600));
        let (shifted, real) = (clock.read(), LinuxClock.read());
        let ahead = shifted.origin().minus(real.origin()).as_nanos();
        assert!((ahead - 3_600 * NANOS_PER_SEC).abs() < 1_000_000_000, "{ahead}");
    }
}
