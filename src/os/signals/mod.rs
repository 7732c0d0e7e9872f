//! The signals of a pause, a restore or a set clock, one file each. Each may be absent; none needs a privilege but the device file
//! of vmclock, which a pod sees only when it is given it.

pub mod clock_set;
pub mod rtc;
pub mod vmclock;
pub mod waker;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use self::clock_set::ClockSet;
use self::rtc::Rtc;
use self::vmclock::Vmclock;
use crate::os::clock::Clock;
use drift_core::resume::Observation;
use drift_core::time::Mono;

/// Looks at all signals at once.
pub trait Signals: Send + Sync {
    /// What they show now. `due` is when it was asked for, by the raw clock: what is later is the observation's lateness.
    fn observe(&mut self, due: Mono) -> Observation;

    /// Becomes readable when there is reason to look before the time; [`Signals::observe`] makes it unreadable again. See
    /// [`waker::SignalWakeup`].
    fn waker(&self) -> Option<BorrowedFd<'_>>;
}

/// Where the signals are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The folder of the hardware clocks.
    pub rtc: PathBuf,
    /// Where the kernel says what it is, and what it runs on.
    pub proc: PathBuf,
    /// The hypervisor's page, as a device.
    pub vmclock: PathBuf,
    /// The shared memory of `ClockBound` 2, which passes the marker on to those who may not read the device.
    pub clockbound: PathBuf,
}

/// The signals of this machine.
pub struct LinuxSignals {
    clock: Arc<dyn Clock>,
    rtc: Option<Rtc>,
    clock_set: Option<ClockSet>,
    vmclock: Option<Vmclock>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            rtc: "/sys/class/rtc".into(),
            proc: "/proc".into(),
            vmclock: "/dev/vmclock0".into(),
            clockbound: "/var/run/clockbound/shm0".into(),
        }
    }
}

impl LinuxSignals {
    /// Opens what there is. Files stay open: an observation costs one `pread` each.
    pub fn open(clock: Arc<dyn Clock>, paths: &Paths) -> Self {
        Self {
            clock,
            rtc: Rtc::open(&paths.rtc, &paths.proc),
            clock_set: ClockSet::new(),
            vmclock: Vmclock::open(&paths.vmclock, &paths.clockbound),
        }
    }
}

impl Signals for LinuxSignals {
    fn observe(&mut self, due: Mono) -> Observation {
        // The clocks come last, and the notice before them: what a signal shows, they show too.
        let rtc = self.rtc.as_ref().and_then(|rtc| rtc.read(self.clock.as_ref()));
        let vmclock = self.vmclock.as_ref().and_then(Vmclock::marker);
        let clock_set = self.clock_set.as_ref().map(ClockSet::fired);
        let now = self.clock.read();
        Observation { now, rtc, clock_set, vmclock, late: now.raw.since(due) }
    }

    fn waker(&self) -> Option<BorrowedFd<'_>> {
        self.clock_set.as_ref().map(std::os::fd::AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::os::clock::LinuxClock;

    fn nowhere() -> Paths {
        let none = PathBuf::from("/nonexistent");
        Paths { rtc: none.clone(), proc: none.clone(), vmclock: none.clone(), clockbound: none }
    }

    #[test]
    fn where_there_is_nothing_there_are_still_the_clocks() {
        let clock = Arc::new(LinuxClock);
        let mut signals = LinuxSignals::open(clock.clone(), &nowhere());
        let due = clock.read().raw;
        let seen = signals.observe(due);
        assert_eq!((seen.rtc, seen.vmclock), (None, None));
        assert!(seen.now.raw >= due);
        assert_eq!(seen.late, seen.now.raw.since(due));
        assert_eq!(signals.observe(due.plus(Duration::from_secs(3_600))).late, Duration::ZERO);
    }
}
