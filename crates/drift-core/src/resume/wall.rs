//! The wall clock against the base clock: did somebody set it?

use std::time::Duration;

use super::range::Range;
use crate::time::{Bound, Measurement, Mono, Offset, Ppb, Reading, Wall};

/// A smaller step shows only in the kernel's own notice.
const SET: Duration = Duration::from_millis(20);
/// The fastest slew: `adjtimex` takes a tick of +-10 %, chrony uses 83,333 ppm of it. A slew is no step, however long it takes.
const FASTEST_SLEW: Ppb = Ppb::from_ppm(100_000);

/// The wall clock was set, not by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockWasSet {
    /// Seen in the reading itself; if not, only the kernel said so.
    pub moved: bool,
    /// The kernel said so.
    pub cancelled: bool,
    /// By how much; positive: forward.
    pub by: Measurement,
}

/// A step of our own that is under way.
#[derive(Clone, Copy, Debug)]
struct OwnStep {
    by: Offset,
    until: Mono,
}

/// Watches the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallWatch {
    last: Option<(Mono, Wall)>,
    own: Option<OwnStep>,
    /// Until then the kernel's notice is of our own step.
    ours_until: Option<Mono>,
}

impl WallWatch {
    /// A step by `by` is about to be made, by us or for us; it happens before `until`.
    pub fn own_step(&mut self, by: Offset, until: Mono) {
        self.own = Some(OwnStep { by, until });
    }

    /// The base clock was put forward: begin again.
    pub fn reset(&mut self) {
        self.last = None;
    }

    /// It will not happen, or not any more.
    pub fn own_step_failed(&mut self) {
        self.own = None;
    }

    /// Takes a reading in; `cancelled` when the kernel said that the clock was set.
    pub fn on(&mut self, now: Reading, cancelled: bool, notice: Duration) -> Option<ClockWasSet> {
        let (at, origin) = (now.base(), origin(now));
        let (then, before) = self.last.replace((at, origin)).unwrap_or((at, origin));
        let moved = origin.minus(before);
        let slack = Bound::from(SET) + Bound::from_nanos(FASTEST_SLEW.over(at.since(then)));
        let exceeds = |by: Offset, limit: Bound| by.magnitude() > limit.as_duration();
        self.own = self.own.filter(|own| at <= own.until);
        if let Some(own) = self.own {
            // A daemon steps by what it believes itself; a step is made only when both agree on it better than by a quarter.
            let rest = Offset::from_nanos(moved.as_nanos().saturating_sub(own.by.as_nanos()));
            let quarter = Bound::from(own.by.magnitude() / 4);
            if exceeds(moved, quarter) && !exceeds(rest, slack + quarter) {
                self.own = None;
                self.ours_until = Some(at.plus(notice));
                return None;
            }
        }
        // The notice has no size. Whatever it is that moved the clock by more than ours shows in the reading.
        let ours = self.own.is_some() || self.ours_until.is_some_and(|until| at <= until);
        let moved_by_other = exceeds(moved, slack);
        let cancelled = cancelled && !ours;
        (moved_by_other || cancelled).then_some(ClockWasSet {
            moved: moved_by_other,
            cancelled,
            by: Measurement::new(moved, slack),
        })
    }
}

/// Wall - base, wherever it has been while the RTC may have jumped unseen.
///
/// The RTC shows a jump late, by its next second or, on a busy node, by several. The wall clock may be slewed or set meanwhile, and whether
/// a write made the jump is a question of the wall clock's time then.
#[derive(Clone, Copy, Debug, Default)]
pub struct Whereabouts {
    before: Option<Range>,
    since: Option<Range>,
}

impl Whereabouts {
    /// The wall clock is here now.
    pub fn add(&mut self, now: Reading) {
        let here = origin(now).as_nanos();
        let seen = self.since.unwrap_or(Range { low: here, high: here });
        self.since = Some(seen.joined(Range { low: here, high: here }));
    }

    /// The RTC was checked by now: what jumped before it was checked the last time is out.
    pub fn checked(&mut self) {
        *self = Self { before: self.since, since: None };
    }

    /// Everywhere.
    pub fn all(&self) -> Option<Range> {
        let both = self.before.into_iter().chain(self.since);
        both.reduce(Range::joined)
    }
}

/// The wall time at which the base clock read 0.
fn origin(now: Reading) -> Wall {
    Wall::from_nanos(now.wall.as_nanos().saturating_sub(now.base().as_nanos()))
}
