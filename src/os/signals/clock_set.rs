//! The kernel's notification that a process set the wall clock: `TFD_TIMER_CANCEL_ON_SET`
//! (`timerfd_create(2)`). A slew causes none.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer that never expires, and that the kernel cancels when the wall clock is set. Its descriptor becomes
/// readable then.
#[derive(Debug)]
pub struct ClockSet(OwnedFd);

impl ClockSet {
    /// `None` where the kernel has no such timer.
    pub fn new() -> Option<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = Self(timerfd_create(TimerfdClockId::Realtime, flags).ok()?);
        timer.arm().ok()?;
        Some(timer)
    }

    /// Was the clock set since the last call? Arms the timer again if so.
    pub fn take_notification(&self) -> bool {
        let fired = matches!(rustix::io::read(&self.0, &mut [0; 8]), Ok(_) | Err(Errno::CANCELED));
        if fired {
            // If the clock is set again in between, `arm` receives the notification, and this answer covers
            // it.
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

    // A guest test shows that the timer is cancelled: no test sets this machine's clock.
    #[test]
    fn timer_is_armed_to_be_cancelled_on_set_and_does_not_fire_before() {
        let timer = ClockSet::new().unwrap();
        assert!(!timer.take_notification() && !timer.take_notification());
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", timer.as_raw_fd())).unwrap();
        // CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
        assert!(info.contains("clockid: 0\n") && info.contains("settime flags: 03\n"), "{info}");
    }
}
