//! The state of the kernel's clock discipline (`adjtimex(2)`, `include/uapi/linux/timex.h`). Reading it needs
//! no privilege.

use std::time::Duration;

use drift_core::ntp::packet::Leap;
use drift_core::time::Ppb;

/// `maxerror` from which `timedatectl` (systemd's `ntp_synced`) reports a clock as not synchronized.
const TIMEDATECTL_LIMIT: Duration = Duration::from_secs(16);

/// The kernel's clock state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct KernelClock {
    /// `STA_UNSYNC` is clear: a time daemon disciplines the clock, or did until a moment ago. It is no
    /// evidence of the offset.
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
    /// What `timedatectl` prints as "System clock synchronized". It depends on `maxerror` alone.
    pub fn timedatectl_says_synchronized(&self) -> bool {
        self.max_error < TIMEDATECTL_LIMIT
    }
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
    fn timedatectl_reports_synchronized_below_16_s_of_maxerror() {
        let with = |max_error| KernelClock { max_error, ..KernelClock::default() };
        assert!(with(Duration::from_micros(15_999_999)).timedatectl_says_synchronized());
        assert!(!with(Duration::from_secs(16)).timedatectl_says_synchronized());
    }

    #[test]
    fn reading_changes_nothing_and_needs_no_privilege() {
        let Some(clock) = read() else { return };
        assert!(clock.frequency.0.abs() <= 500_000, "the kernel's own limit is 500 ppm: {clock:?}");
        assert_eq!(read().map(|c| c.frequency), Some(clock.frequency));
    }
}
