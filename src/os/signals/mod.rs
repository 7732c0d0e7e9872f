//! The signals of a disruption, one file each. In: files and descriptors of the kernel. Out: an
//! [`Observation`]. Nothing here decides what a signal means: see [`drift_core::resume`].
//!
//! Each signal may be absent. Only the device file of vmclock needs a privilege: a pod has to be given it.

pub mod clock_set;
pub mod clocksource;
pub mod rtc;
pub mod vmclock;
pub mod waker;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use self::clock_set::ClockSet;
use self::clocksource::ClocksourceFile;
use self::rtc::Rtc;
use self::vmclock::Vmclock;
use crate::os::clock::Clock;
use drift_core::resume::Observation;
use drift_core::time::Mono;

/// Reads all signals at once.
pub trait Signals: Send + Sync {
    /// Reads them now. `due`: when the observation was due, by the raw clock. It is as late as it is made
    /// after that.
    fn observe(&mut self, due: Mono) -> Observation;

    /// A descriptor that becomes readable when an observation should be made before it is due.
    /// [`Signals::observe`] makes it unreadable again. `None` without such a signal. See
    /// [`waker::SignalWakeup`].
    fn waker(&self) -> Option<BorrowedFd<'_>>;
}

/// The files of the signals.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The folder of the hardware clocks.
    pub rtc: PathBuf,
    /// Where the kernel reports its version and the processor.
    pub proc: PathBuf,
    /// The device of the hypervisor's vmclock.
    pub vmclock: PathBuf,
    /// The shared memory of `ClockBound` 2, which has the marker for processes that may not read the device.
    pub clockbound: PathBuf,
    /// The name of the clocksource in use.
    pub clocksource: PathBuf,
}

/// The signals of this machine.
pub struct LinuxSignals {
    clock: Arc<dyn Clock>,
    rtc: Option<Rtc>,
    clock_set: Option<ClockSet>,
    vmclock: Option<Vmclock>,
    clocksource: Option<ClocksourceFile>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            rtc: "/sys/class/rtc".into(),
            proc: "/proc".into(),
            vmclock: "/dev/vmclock0".into(),
            clockbound: "/var/run/clockbound/shm0".into(),
            clocksource: "/sys/devices/system/clocksource/clocksource0/current_clocksource".into(),
        }
    }
}

impl LinuxSignals {
    /// Opens the signals that exist. Files stay open: an observation costs one `pread` each.
    pub fn open(clock: Arc<dyn Clock>, paths: &Paths) -> Self {
        Self {
            clock,
            rtc: Rtc::open(&paths.rtc, &paths.proc),
            clock_set: ClockSet::new(),
            vmclock: Vmclock::open(&paths.vmclock, &paths.clockbound),
            clocksource: ClocksourceFile::open(&paths.clocksource),
        }
    }
}

impl Signals for LinuxSignals {
    fn observe(&mut self, due: Mono) -> Observation {
        // The clocks are read last, right after the notification: they show everything that a signal shows.
        let rtc = self.rtc.as_ref().and_then(|rtc| rtc.read(self.clock.as_ref()));
        let vmclock = self.vmclock.as_ref().and_then(Vmclock::marker);
        let clocksource = self.clocksource.as_ref().and_then(ClocksourceFile::read);
        let clock_set = self.clock_set.as_ref().map(ClockSet::take_notification);
        let now = self.clock.read();
        Observation { now, rtc, clock_set, vmclock, clocksource, late: now.raw.since(due) }
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
        Paths {
            rtc: none.clone(),
            proc: none.clone(),
            vmclock: none.clone(),
            clockbound: none.clone(),
            clocksource: none,
        }
    }

    #[test]
    fn clocks_are_observed_on_a_machine_without_signals() {
        let clock = Arc::new(LinuxClock);
        let mut signals = LinuxSignals::open(clock.clone(), &nowhere());
        let due = clock.read().raw;
        let seen = signals.observe(due);
        assert_eq!((seen.rtc, seen.vmclock, seen.clocksource), (None, None, None));
        assert!(seen.now.raw >= due);
        assert_eq!(seen.late, seen.now.raw.since(due));
        assert_eq!(signals.observe(due.plus(Duration::from_secs(3_600))).late, Duration::ZERO);
    }
    #[test]
    fn the_clocksource_is_observed_each_time() {
        let path = std::env::temp_dir().join(format!("drift-agent-signals-{}", std::process::id()));
        std::fs::write(&path, "tsc\n").unwrap();
        let clock = Arc::new(LinuxClock);
        let mut signals =
            LinuxSignals::open(clock.clone(), &Paths { clocksource: path.clone(), ..nowhere() });
        let mut observe = || signals.observe(clock.read().raw).clocksource.map(|c| c.to_string());
        assert_eq!(observe().as_deref(), Some("tsc"));
        std::fs::write(&path, "hpet\n").unwrap();
        assert_eq!(observe().as_deref(), Some("hpet"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(observe().as_deref(), Some("hpet"), "the file stays open");
    }
}
