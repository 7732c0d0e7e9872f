//! The state of the kernel's clock discipline (`adjtimex(2)`, `include/uapi/linux/timex.h`). Reading it needs
//! no privilege.

use std::time::Duration;

use drift_core::ntp::packet::Leap;
use drift_core::step::discipline::MAX_ERROR_LIMIT;
use drift_core::time::Ppb;

/// The kernel's clock state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KernelClock {
    /// `STA_UNSYNC` is clear: the kernel copies the time to the hardware clock every eleven minutes. A chrony
    /// without `rtcsync` leaves the bit set, so it does not show whether a process disciplines the clock.
    pub synchronized: bool,
    /// `maxerror`: the largest error as the daemon set it; the kernel adds 500 ppm of the time since.
    pub max_error: Duration,
    /// `esterror`: the likely error as the daemon set it.
    pub estimated_error: Duration,
    /// `STA_INS`, `STA_DEL`: the leap second that the kernel will insert or delete at the end of the day.
    pub leap: Leap,
    /// `freq`: the correction in force. Positive: the kernel makes the clock run faster.
    pub frequency: Ppb,
}

impl KernelClock {
    /// Does a process discipline the clock, or did one within the last hours? What `timedatectl` prints as
    /// "System clock synchronized": it depends on `maxerror` alone. It is no evidence of the offset.
    pub fn is_disciplined(&self) -> bool {
        self.max_error < MAX_ERROR_LIMIT
    }

    /// Does the kernel copy the time to the hardware clock? `None` while no process disciplines the clock.
    pub fn keeps_rtc(&self) -> Option<bool> {
        self.is_disciplined().then_some(self.synchronized)
    }

    /// The state of a clock that no process disciplines, as after a boot.
    pub const ALONE: Self = Self {
        synchronized: false,
        max_error: MAX_ERROR_LIMIT,
        estimated_error: MAX_ERROR_LIMIT,
        leap: Leap::None,
        frequency: Ppb(0),
    };
}

/// Reads the kernel's state; `None` where a sandbox forbids it.
#[expect(unsafe_code, reason = "no crate in use has a safe wrapper of adjtimex")]
pub fn read() -> Option<KernelClock> {
    // SAFETY: all-zero is a valid `timex`: plain integers, and `modes` 0 means "change nothing, only report".
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed `timex` of the size that the C library declares.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then(|| KernelClock {
        synchronized: timex.status & libc::STA_UNSYNC == 0,
        max_error: micros(timex.maxerror),
        estimated_error: micros(timex.esterror),
        leap: leap(timex.status),
        frequency: from_scaled_ppm(timex.freq),
    })
}

/// `maxerror` and `esterror` are in microseconds and never negative.
fn micros(count: libc::c_long) -> Duration {
    Duration::from_micros(u64::try_from(count).unwrap_or(0))
}

fn leap(status: libc::c_int) -> Leap {
    if status & libc::STA_INS != 0 {
        Leap::Insert
    } else if status & libc::STA_DEL != 0 {
        Leap::Delete
    } else {
        Leap::None
    }
}

/// `freq` is in 2^-16 ppm.
fn from_scaled_ppm(scaled: libc::c_long) -> Ppb {
    Ppb(scaled.saturating_mul(1_000) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_are_read_in_units_of_2_to_the_minus_16_ppm() {
        assert_eq!(from_scaled_ppm(65_536 * 12), Ppb::from_ppm(12));
        assert_eq!(from_scaled_ppm(-65_536 / 2), Ppb(-500));
    }

    #[test]
    fn leap_seconds_are_read_from_the_status_bits() {
        assert_eq!(leap(libc::STA_INS | libc::STA_UNSYNC), Leap::Insert);
        assert_eq!(leap(libc::STA_DEL | libc::STA_PLL), Leap::Delete);
        assert_eq!(leap(libc::STA_PLL | libc::STA_UNSYNC), Leap::None);
    }

    #[test]
    fn clocks_are_disciplined_below_16_s_of_maxerror_whatever_the_status_bit() {
        for synchronized in [true, false] {
            let with = |max_error| KernelClock { synchronized, max_error, ..KernelClock::ALONE };
            assert!(with(Duration::from_micros(15_999_999)).is_disciplined());
            assert!(!with(Duration::from_secs(16)).is_disciplined());
            assert_eq!(with(Duration::ZERO).keeps_rtc(), Some(synchronized));
            assert_eq!(with(Duration::from_secs(16)).keeps_rtc(), None);
        }
    }

    #[test]
    fn reading_changes_nothing_and_needs_no_privilege() {
        let Some(clock) = read() else { return };
        assert!(clock.frequency.0.abs() <= 500_000, "the kernel's own limit is 500 ppm: {clock:?}");
        assert_eq!(read().map(|c| c.frequency), Some(clock.frequency));
    }
}
