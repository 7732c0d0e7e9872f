//! What the kernel's clock discipline says of itself (`adjtimex(2)`, `include/uapi/linux/timex.h`); reading needs no privilege.

use std::time::Duration;

use crate::core::time::Ppb;

/// The kernel's clock state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelClock {
    /// `STA_UNSYNC` is clear: somebody disciplines the clock, or did. It says nothing of the offset.
    pub synchronized: bool,
    /// `maxerror`: what the daemon, or the kernel ageing its word, says is the largest error.
    pub max_error: Duration,
    /// `freq`: the correction in force. Positive: the clock is made to run faster.
    pub frequency: Ppb,
}

/// Reads the kernel's state; `None` where that is forbidden.
#[expect(unsafe_code, reason = "adjtimex has no safe wrapper in the crates at hand")]
pub fn read() -> Option<KernelClock> {
    // SAFETY: all-zero is a valid `timex`: plain integers, and `modes` 0 means "change nothing, only report".
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, exclusively borrowed `timex` of the size that the C library declares.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then(|| KernelClock {
        synchronized: timex.status & libc::STA_UNSYNC == 0,
        max_error: Duration::from_micros(u64::try_from(timex.maxerror).unwrap_or(0)),
        frequency: from_scaled_ppm(timex.freq),
    })
}

/// The kernel counts in 2^-16 ppm.
fn from_scaled_ppm(scaled: libc::c_long) -> Ppb {
    Ppb(scaled.saturating_mul(1_000) >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_unit_is_two_to_the_minus_sixteen_ppm() {
        assert_eq!(from_scaled_ppm(65_536 * 12), Ppb::from_ppm(12));
        assert_eq!(from_scaled_ppm(-65_536 / 2), Ppb(-500));
    }

    #[test]
    fn reading_changes_nothing_and_needs_no_privilege() {
        let Some(clock) = read() else { return };
        assert!(clock.frequency.0.abs() <= 500_000, "the kernel's own limit is 500 ppm: {clock:?}");
        assert_eq!(read().map(|c| c.frequency), Some(clock.frequency));
    }
}
