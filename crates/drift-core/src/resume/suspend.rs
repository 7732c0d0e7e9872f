//! Suspends that the kernel knows of: `CLOCK_BOOTTIME` - `CLOCK_MONOTONIC` grows by their length.

use std::time::Duration;

use crate::time::{Mono, Reading};

/// The shortest suspend that is reported. A reading may be off by less: its two clocks are read one after the
/// other.
const SUSPEND_MIN: Duration = Duration::from_millis(50);
/// A larger growth between two readings sets the base clock forward, by a length that the kernel knows to the
/// second only.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    const MS: Duration = Duration::from_millis(1);

    /// Readings with so many milliseconds of suspended time, one after the other.
    fn findings(suspended: &[u32]) -> Vec<SuspendFinding> {
        let mut monitor = SuspendMonitor::default();
        let reading = |millis: u32| Reading {
            wall: Wall::from_secs(0),
            raw: Mono::from_nanos(0),
            suspended: MS * millis,
        };
        suspended.iter().map(|millis| monitor.handle_reading(reading(*millis))).collect()
    }

    fn slept(suspended: &[u32]) -> Vec<Option<Duration>> {
        findings(suspended).iter().map(|finding| finding.slept).collect()
    }

    #[test]
    fn suspends_before_the_first_reading_are_not_reported() {
        assert_eq!(slept(&[10_000, 10_000]), [None, None]);
    }

    #[test]
    fn suspends_longer_than_50_ms_are_reported_once() {
        assert_eq!(slept(&[0, 50, 50]), [None; 3]);
        assert_eq!(slept(&[0, 51, 51]), [None, Some(MS * 51), None]);
        assert_eq!(slept(&[0, 30, 60]), [None, None, Some(MS * 60)], "in two parts");
    }

    #[test]
    fn readings_that_show_less_than_before_do_not_shorten_the_suspended_time() {
        let findings = findings(&[0, 9_000, 8_900, 9_000]);
        let totals: Vec<Duration> = findings.iter().map(|finding| finding.now.suspended).collect();
        assert_eq!(totals, [Duration::ZERO, MS * 9_000, MS * 9_000, MS * 9_000]);
        assert_eq!(findings.iter().filter(|finding| finding.slept.is_some()).count(), 1);
    }

    #[test]
    fn base_clock_is_moved_by_more_than_a_millisecond_between_two_readings() {
        let is_moved: Vec<bool> = findings(&[0, 1, 3, 3]).iter().map(|f| f.is_base_moved).collect();
        assert_eq!(is_moved, [false, false, true, false]);
    }
}
