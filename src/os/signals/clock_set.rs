//! The kernel's notice that the wall clock was set: `TFD_TIMER_CANCEL_ON_SET` (`timerfd_create(2)`). A slew gives none.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer that never ends, but is cancelled when the wall clock is set. Its descriptor is readable then.
#[derive(Debug)]
pub struct ClockSet(OwnedFd);

impl ClockSet {
    /// `None` where the kernel gives no such timer.
    pub fn new() -> Option<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = Self(timerfd_create(TimerfdClockId::Realtime, flags).ok()?);
        timer.arm().ok()?;
        Some(timer)
    }

    /// Was the clock set since this was last asked?
    pub fn fired(&self) -> bool {
        let fired = matches!(rustix::io::read(&self.0, &mut [0; 8]), Ok(_) | Err(Errno::CANCELED));
        if fired {
            // If it is set again in between, the kernel says so to this call, and the answer given here covers it.
            let _ = self.arm();
        }
        fired
    }

    fn arm(&self) -> Result<(), Errno> {
        let never = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: i64::MAX, tv_nsec: 0 },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        match timerfd_settime(&self.0, flags, &never) {
            Ok(_) | Err(Errno::CANCELED) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for ClockSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for ClockSet {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // That it fires is proved in a guest: no test sets this machine's clock.
    #[test]
    fn it_is_armed_for_being_cancelled_and_silent_until_then() {
        let timer = ClockSet::new().unwrap();
        assert!(!timer.fired() && !timer.fired());
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", timer.as_raw_fd())).unwrap();
        // CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
        assert!(info.contains("clockid: 0\n") && info.contains("settime flags: 03\n"), "{info}");
    }
}
