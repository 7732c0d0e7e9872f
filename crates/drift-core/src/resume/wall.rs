//! The wall clock against the base clock: has another process set it?
//!
//! In: readings of the clocks, and the kernel's notification. Out: steps that are not the agent's own. A slew
//! is never a step, however long it takes.

use std::time::Duration;

use crate::time::{Bound, Measurement, Mono, Offset, OffsetRange, Ppb, Reading, Wall};

/// The smallest step that the readings show. A smaller one shows only in the kernel's notification.
const WALL_STEP_MIN: Duration = Duration::from_millis(20);
/// The fastest slew: `adjtimex` takes a tick of ±10 %, of which chrony uses 83,333 ppm.
const FASTEST_SLEW: Ppb = Ppb::from_ppm(100_000);

/// Another process set the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallStep {
    /// The readings show it. If not, only the kernel has notified the agent.
    pub is_visible: bool,
    /// The kernel has notified the agent.
    pub is_notified: bool,
    /// How far, by the readings; positive: forward.
    pub by: Measurement,
}

/// A step by the agent that is under way.
#[derive(Clone, Copy, Debug)]
struct OwnStep {
    by: Offset,
    until: Mono,
}

/// Follows the wall clock. All times are of the base clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallMonitor {
    /// The last reading: when, and wall - base.
    last: Option<(Mono, Wall)>,
    own_step: Option<OwnStep>,
    /// A notification by then belongs to the agent's own last step.
    own_notification_until: Option<Mono>,
}

impl WallMonitor {
    /// The agent, or a daemon for it, is about to step the wall clock by `by`, before `until`.
    pub fn own_step(&mut self, by: Offset, until: Mono) {
        self.own_step = Some(OwnStep { by, until });
    }

    /// The announced step is not made.
    pub fn own_step_failed(&mut self) {
        self.own_step = None;
    }

    /// Starts again, because the base clock itself was set forward.
    pub fn reset(&mut self) {
        self.last = None;
    }

    /// Takes a reading. `is_notified`: the kernel has notified the agent of a step. `notification_delay`: the
    /// longest time between a step and its notification.
    pub fn handle_reading(
        &mut self,
        now: Reading,
        is_notified: bool,
        notification_delay: Duration,
    ) -> Option<WallStep> {
        let (at, origin) = (now.base(), origin(now));
        let (last_at, last_origin) = self.last.replace((at, origin)).unwrap_or((at, origin));
        let moved = origin.minus(last_origin);
        let slack = Bound::from(WALL_STEP_MIN) + Bound::from_nanos(FASTEST_SLEW.over(at.since(last_at)));
        self.own_step = self.own_step.filter(|own| at <= own.until);
        if self.own_step.is_some_and(|own| is_own(own, moved, slack)) {
            self.own_step = None;
            self.own_notification_until = Some(at.plus(notification_delay));
            return None;
        }
        // A notification has no size. A step by another process that is larger than the agent's own shows in
        // the reading.
        let is_own_notification =
            self.own_step.is_some() || self.own_notification_until.is_some_and(|until| at <= until);
        let is_visible = exceeds(moved, slack);
        let is_notified = is_notified && !is_own_notification;
        let by = Measurement::new(moved, slack);
        (is_visible || is_notified).then_some(WallStep { is_visible, is_notified, by })
    }
}

/// Is a movement of the wall clock the announced step? A daemon steps by its own estimate; but a step is only
/// made where the daemon and the agent agree on it to a quarter.
fn is_own(own: OwnStep, moved: Offset, slack: Bound) -> bool {
    let quarter = Bound::from(own.by.magnitude() / 4);
    let difference = Offset::from_nanos(moved.as_nanos().saturating_sub(own.by.as_nanos()));
    exceeds(moved, quarter) && !exceeds(difference, slack + quarter)
}

fn exceeds(by: Offset, limit: Bound) -> bool {
    by.magnitude() > limit.as_duration()
}

/// Wall - base, wherever it was while the RTC may have jumped without showing it.
///
/// The RTC shows a jump at its next second, on a busy node several seconds later. The wall clock may be
/// slewed or set meanwhile, and whether a write made the jump depends on the wall clock's time at the jump.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallRange {
    before_check: Option<OffsetRange>,
    since_check: Option<OffsetRange>,
}

impl WallRange {
    /// Takes a reading.
    pub fn add(&mut self, now: Reading) {
        let here = OffsetRange::exact(origin(now).as_nanos());
        self.since_check = Some(self.since_check.map_or(here, |seen| seen.joined(here)));
    }

    /// The RTC has not jumped by now. A jump that shows later is not older than the check before this one.
    pub fn rtc_checked(&mut self) {
        *self = Self { before_check: self.since_check, since_check: None };
    }

    /// All of it; `None` without a reading.
    pub fn all(&self) -> Option<OffsetRange> {
        let both = self.before_check.into_iter().chain(self.since_check);
        both.reduce(OffsetRange::joined)
    }
}

/// The wall time at which the base clock read 0.
fn origin(now: Reading) -> Wall {
    Wall::from_nanos(now.wall.as_nanos().saturating_sub(now.base().as_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTIFICATION_DELAY: Duration = Duration::from_secs(1);

    fn at(millis: i64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    /// At `millis` of the base clock, with a wall clock that is `ahead` ms ahead of where it was at first.
    fn reading(millis: i64, ahead: i64) -> Reading {
        let wall = Wall::from_nanos(1_795_341_600_000_000_000 + (millis + ahead) * 1_000_000);
        Reading { wall, raw: at(millis), suspended: Duration::ZERO }
    }

    /// What one second with a movement by `millis` shows, with a step of our own by `own` ms announced.
    fn step(millis: i64, is_notified: bool, own: Option<i64>) -> Option<(bool, bool)> {
        let mut monitor = WallMonitor::default();
        assert_eq!(monitor.handle_reading(reading(0, 0), false, NOTIFICATION_DELAY), None);
        if let Some(own) = own {
            monitor.own_step(Offset::from_nanos(own * 1_000_000), at(10_000));
        }
        let step = monitor.handle_reading(reading(1_000, millis), is_notified, NOTIFICATION_DELAY)?;
        assert_eq!(step.by.offset, Offset::from_nanos(millis * 1_000_000));
        Some((step.is_visible, step.is_notified))
    }

    #[test]
    fn movements_beyond_the_fastest_slew_and_20_ms_are_visible() {
        for sign in [-1, 1] {
            assert_eq!(step(sign * 119, false, None), None);
            assert_eq!(step(sign * 121, false, None), Some((true, false)));
        }
    }

    #[test]
    fn notifications_show_steps_of_any_size() {
        assert_eq!(step(0, true, None), Some((false, true)));
        assert_eq!(step(3_000, true, None), Some((true, true)));
    }

    #[test]
    fn announced_steps_are_hidden_with_their_notification_if_they_agree_to_a_quarter() {
        assert_eq!(step(3_000, true, Some(3_000)), None);
        assert_eq!(step(3_700, true, Some(3_000)), None);
        assert_eq!(step(4_000, true, Some(3_000)), Some((true, false)), "by too much");
        assert_eq!(step(-3_000, true, Some(3_000)), Some((true, false)), "in the other direction");
    }

    #[test]
    fn wall_range_goes_back_to_the_check_before_the_last() {
        let mut range = WallRange::default();
        assert_eq!(range.all(), None);
        range.add(reading(0, -5));
        range.rtc_checked();
        range.add(reading(1_000, 0));
        let first = range.all().map(OffsetRange::width);
        range.rtc_checked();
        range.add(reading(2_000, 3));
        assert_eq!((first, range.all().map(OffsetRange::width)), (Some(5_000_000), Some(3_000_000)));
    }
}
