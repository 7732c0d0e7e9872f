//! Steps the node's clock, behind a trait so that a test can step another.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use clock_steering::unix::UnixClock;
use clock_steering::{Clock as _, TimeOffset};
use rustix::thread::{CapabilitySet, capabilities};

use super::clock::ShiftedClock;
use super::timex::{self, KernelClock};
use drift_core::time::{NANOS_PER_SEC, Offset};

/// Steps a clock.
pub trait SetClock: Send + Sync {
    /// May this process step the clock?
    fn check_permission(&self) -> Result<(), SetClockError>;

    /// What the kernel reports about the clock; `None` where it cannot be read.
    fn kernel(&self) -> Option<KernelClock>;

    /// Moves the clock by this, at once; positive is forward.
    fn step(&self, by: Offset) -> Result<(), SetClockError>;
}

/// Why a clock cannot be stepped.
#[derive(Debug, thiserror::Error)]
pub enum SetClockError {
    /// The process lacks `CAP_SYS_TIME`.
    #[error("the capability SYS_TIME is missing")]
    NotPermitted,
    /// The kernel did not do it.
    #[error("the kernel rejected the step: {0}")]
    Rejected(clock_steering::unix::Error),
}

/// The kernel's wall clock: `clock_adjtime(2)` with `ADJ_SETOFFSET`, which needs `CAP_SYS_TIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl SetClock for Kernel {
    fn check_permission(&self) -> Result<(), SetClockError> {
        let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        if effective.contains(CapabilitySet::SYS_TIME) { Ok(()) } else { Err(SetClockError::NotPermitted) }
    }

    fn kernel(&self) -> Option<KernelClock> {
        timex::read()
    }

    fn step(&self, by: Offset) -> Result<(), SetClockError> {
        // The kernel takes whole seconds, rounded down, and the rest as 0 or more nanoseconds.
        let seconds = by.as_nanos().div_euclid(NANOS_PER_SEC);
        let nanos = u32::try_from(by.as_nanos().rem_euclid(NANOS_PER_SEC)).unwrap_or(0);
        let stepped = UnixClock::CLOCK_REALTIME.step_clock(TimeOffset { seconds, nanos });
        stepped.map(drop).map_err(SetClockError::Rejected)
    }
}

impl SetClock for ShiftedClock {
    fn check_permission(&self) -> Result<(), SetClockError> {
        if self.forbidden.load(Ordering::Relaxed) { Err(SetClockError::NotPermitted) } else { Ok(()) }
    }

    fn kernel(&self) -> Option<KernelClock> {
        *self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, by: Offset) -> Result<(), SetClockError> {
        self.shift(by);
        Ok(())
    }
}
