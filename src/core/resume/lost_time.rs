//! A jump of the RTC that looks like a write of it, against the pools: a write takes no time from the base clock, a pause does.

use std::time::Duration;

use super::tracker::JUMP;
use crate::core::time::{Bound, Mono, Offset, nanos};

/// How much, as far as it is known. Positive: the base clock fell behind.
type Amount = (Offset, Bound);

/// Less than this is not told from what bounds leave out.
const LEAST: Duration = Duration::from_millis(20);
/// The RTC shows a jump by its next second, and on a busy node by several. The pools may be asked in between.
const SHOWS_LATE: Duration = Duration::from_secs(5);

/// What the RTC shows and what the pools show, until one bears the other out.
#[derive(Clone, Copy, Debug, Default)]
pub struct LostTime {
    rtc: Option<(Mono, Amount)>,
    pools: Option<(Mono, Amount)>,
}

impl LostTime {
    /// The RTC jumped to where a write would have put it.
    pub fn shown_by_the_rtc(&mut self, by: Amount, at: Mono) {
        self.rtc = Some((at, by));
    }

    /// By more than one pool's word true time is not where it would be, had the raw clock run on.
    pub fn shown_by_the_pools(&mut self, by: Amount, at: Mono) {
        let (lost, bound) = by;
        if lost.as_nanos().saturating_sub(bound.as_nanos()) > nanos(LEAST) {
            self.pools = Some((at, by));
        }
    }

    /// Told, or overtaken by something else.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Do both show the same? Then time was lost: how much, by the pools. What the pools show later than `patience` is of something else.
    pub fn take(&mut self, patience: Duration) -> Option<Amount> {
        let ((jumped, rtc), (missed, pools)) = self.rtc.zip(self.pools)?;
        let in_time = missed.since(jumped) <= patience && jumped.since(missed) <= SHOWS_LATE;
        let apart = rtc.0.as_nanos().abs_diff(pools.0.as_nanos());
        let is_same = apart <= (rtc.1 + pools.1 + Bound::from(JUMP)).as_nanos().unsigned_abs();
        (in_time && is_same).then(|| {
            self.clear();
            pools
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const PATIENCE: Duration = Duration::from_secs(128);

    fn of(lost: i64, bound: i64) -> Amount {
        (Offset::from_nanos(lost * MS), Bound::from_nanos(bound * MS))
    }

    fn at(seconds: i64) -> Mono {
        Mono::from_nanos(1_000_000_000_000 + seconds * 1_000 * MS)
    }

    /// The RTC shows the first at 0, the pools the second so many seconds later.
    fn both(rtc: Amount, pools: Amount, later: i64) -> Option<Amount> {
        let mut lost = LostTime::default();
        if later < 0 {
            lost.shown_by_the_pools(pools, at(later));
            assert_eq!(lost.take(PATIENCE), None, "one alone says nothing");
            lost.shown_by_the_rtc(rtc, at(0));
        } else {
            lost.shown_by_the_rtc(rtc, at(0));
            assert_eq!(lost.take(PATIENCE), None, "one alone says nothing");
            lost.shown_by_the_pools(pools, at(later));
        }
        let told = lost.take(PATIENCE);
        assert_eq!(lost.take(PATIENCE), None, "told once");
        told
    }

    #[test]
    fn a_pause_is_what_both_show_in_either_order() {
        for later in [-5, -1, 0, 1, 128] {
            assert_eq!(both(of(994, 508), of(501, 1), later), Some(of(501, 1)), "{later} s");
        }
        assert_eq!(both(of(994, 508), of(501, 1), 129), None);
        assert_eq!(both(of(994, 508), of(501, 1), -6), None);
    }

    #[test]
    fn a_write_takes_no_time() {
        for (lost, bound) in [(0, 1), (20, 0), (500, 480), (500, 600), (-500, 1)] {
            assert_eq!(both(of(500, 4_000), of(lost, bound), 1), None, "{lost} ms ±{bound} ms");
        }
        assert_eq!(both(of(500, 4_000), of(21, 0), 1), Some(of(21, 0)));
    }

    #[test]
    fn the_two_show_the_same_to_their_bounds_and_ten_milliseconds() {
        for apart in [-15, 15] {
            assert_eq!(both(of(500, 3), of(500 + apart, 2), 1), Some(of(500 + apart, 2)));
            assert_eq!(both(of(500, 3), of(500 + apart + apart.signum(), 2), 1), None);
        }
    }
}
