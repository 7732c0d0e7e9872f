//! Stepping the node's clock, behind a trait so that a test can step another.

use std::sync::atomic::Ordering;

use clock_steering::unix::UnixClock;
use clock_steering::{Clock as _, TimeOffset};
use rustix::thread::{CapabilitySet, capabilities};

use super::clock::ShiftedClock;
use super::timex;
use drift_core::time::{NANOS_PER_SEC, Offset};

/// Steps a clock.
pub trait SetClock: Send + Sync {
    /// What is missing to step it.
    fn allowed(&self) -> Result<(), String>;

    /// Does somebody discipline it, or did until a moment ago?
    fn is_disciplined(&self) -> bool;

    /// Moves it by this, at once; positive is forward.
    fn step(&self, by: Offset) -> Result<(), String>;
}

/// The kernel's wall clock: `clock_adjtime(2)` with `ADJ_SETOFFSET`, which needs `CAP_SYS_TIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl SetClock for Kernel {
    fn allowed(&self) -> Result<(), String> {
        let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        if effective.contains(CapabilitySet::SYS_TIME) {
            Ok(())
        } else {
            Err("the capability SYS_TIME is missing".to_owned())
        }
    }

    fn is_disciplined(&self) -> bool {
        timex::read().is_some_and(|kernel| kernel.synchronized)
    }

    fn step(&self, by: Offset) -> Result<(), String> {
        // The kernel wants whole seconds, rounded down, and what is left.
        let seconds = by.as_nanos().div_euclid(NANOS_PER_SEC);
        let nanos = u32::try_from(by.as_nanos().rem_euclid(NANOS_PER_SEC)).unwrap_or(0);
        let stepped = UnixClock::CLOCK_REALTIME.step_clock(TimeOffset { seconds, nanos });
        stepped.map(drop).map_err(|error| format!("the kernel refuses: {error}"))
    }
}

impl SetClock for ShiftedClock {
    fn allowed(&self) -> Result<(), String> {
        if self.forbidden.load(Ordering::Relaxed) { Err("not allowed".to_owned()) } else { Ok(()) }
    }

    fn is_disciplined(&self) -> bool {
        self.disciplined.load(Ordering::Relaxed)
    }

    fn step(&self, by: Offset) -> Result<(), String> {
        self.shift(by);
        Ok(())
    }
}
