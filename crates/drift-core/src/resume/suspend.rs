//! Suspends that the kernel knows of: `CLOCK_BOOTTIME` - `CLOCK_MONOTONIC` grows by their length.

use std::time::Duration;

use crate::time::{Mono, Reading};

/// The shortest suspend that is reported. A reading may be off by less: its two clocks are read one after the
/// other.
const SUSPEND_MIN: Duration = Duration::from_millis(50);
/// A larger growth at once is a jump of the base clock, which the kernel adds to the second only.
const BASE_JUMP_MIN: Duration = Duration::from_millis(1);

/// Follows the time for which the machine was suspended.
#[derive(Clone, Copy, Debug, Default)]
pub struct SuspendMonitor {
    /// The most that a reading ever showed. One reading may show less: see [`SUSPEND_MIN`].
    total: Duration,
    /// The part of it that was reported; `None` before the first reading.
    reported: Option<Duration>,
}

/// What a reading shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuspendFinding {
    /// The machine was suspended for this long since the last report, if long enough to be reported.
    pub slept: Option<Duration>,
    /// The base clock was set forward: what is known of the other clocks against it is void.
    pub is_base_moved: bool,
    /// The reading, with the largest suspended time so far.
    pub now: Reading,
}

impl SuspendMonitor {
    /// Takes a reading.
    pub fn handle_reading(&mut self, now: Reading) -> SuspendFinding {
        let before = self.total;
        self.total = before.max(now.suspended);
        let unreported = self.total.saturating_sub(*self.reported.get_or_insert(self.total));
        let slept = (unreported > SUSPEND_MIN).then_some(unreported);
        if slept.is_some() {
            self.reported = Some(self.total);
        }
        SuspendFinding {
            slept,
            is_base_moved: self.total.saturating_sub(before) > BASE_JUMP_MIN,
            now: Reading { suspended: self.total, ..now },
        }
    }

    /// From the raw clock to the base clock.
    pub fn base(&self, raw: Mono) -> Mono {
        raw.plus(self.total)
    }
}
