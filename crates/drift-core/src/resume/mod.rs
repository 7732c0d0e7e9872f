//! Was the machine paused, suspended, restored, migrated? From what the signals show to at most one word about it.
//!
//! ```text
//! Observation -> sleep, RTC tracker, wall watch, marker, lateness -> evidence -> class -> told once
//! ```
//!
//! How wrong the clock is, only NTP says. What is told here asks for a fresh burst, and some classes may lead to a step.
//!
//! One event shows in several signals, over about a second: the hypervisor's marker at once, the RTC at its next tick. The first one is
//! told. What follows within [`SAME_EVENT`] from *other* signals belongs to it, and is told only if its class is stronger, or may step
//! where the told one may not. The same signal twice is two events.
//!
//! A jump of the RTC that may be a write (see [`may_be_written`]) is told as one. It takes up to five seconds to know the RTC to the
//! millisecond again; if it turns out then that no write can have made it, `resume` is told after all. So it is when the pools say that
//! time was lost with it: see [`LostTime`].

mod classify;
mod detection;
mod jumps;
mod lost_time;
mod range;
mod tracker;
mod wall;

use std::time::Duration;

use self::classify::{Evidence, RtcFinding, classify, may_be_written};
use self::jumps::Jumps;
use self::range::Range;
use self::tracker::{DRIFT, Jump, NARROW, Tracker};
use self::wall::{ClockWasSet, WallWatch, Whereabouts};
use crate::time::{Measurement, Mono, Offset, Reading, nanos};

pub use self::classify::Class;
pub use self::detection::{Detection, Signal};
pub use self::lost_time::LostTime;
pub use self::tracker::{RtcRead, RtcSetBehavior};

/// A sleep shorter than this is not worth a word; the clocks cannot be read at one instant either.
const SLEPT: Duration = Duration::from_millis(50);
/// The RTC is followed on over a smaller step of the base clock.
const SAME_BASE: Duration = Duration::from_millis(1);
/// Later than this is late.
const LATE: Duration = Duration::from_secs(1);
/// Without an RTC there is nothing to aim at: look this often.
const TICK: Duration = Duration::from_secs(1);
/// The slowest signal is the RTC, which ticks once a second.
pub const SAME_EVENT: Duration = Duration::from_millis(1_100);
/// A jump that looks like a write is looked at again for so long.
const DOUBT: Duration = Duration::from_secs(5);
/// What all signals show at one instant. Copied, never allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The clocks, read after everything else.
    pub now: Reading,
    /// The RTC; `None` where there is none or it does not answer.
    pub rtc: Option<RtcRead>,
    /// Has the kernel cancelled our timer because the wall clock was set? `None` without a timer.
    pub clock_set: Option<bool>,
    /// The hypervisor's disruption marker; `None` where it cannot be seen.
    pub vmclock: Option<u64>,
    /// How much later this was made than asked.
    pub late: Duration,
}

/// What was told, while more may follow of the same event.
#[derive(Clone, Copy, Debug)]
struct Event {
    until: Mono,
    signals: u8,
    told: Class,
}

/// Something to tell.
#[derive(Clone, Copy, Debug)]
struct News {
    /// What was told of the same event.
    replaces: Option<Class>,
}

impl Event {
    fn is_of_the_rtc(&self) -> bool {
        self.signals & 1 << Signal::Rtc as u8 != 0
    }
}

/// A jump that was told as a write, until the RTC is known well enough.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// When the jump was found.
    at: Mono,
    /// RTC - base, had nothing happened.
    expected: Range,
    /// Wall - base, wherever it was when the RTC jumped.
    wall: Range,
    on_set: RtcSetBehavior,
}

/// What a read of the RTC shows.
#[derive(Clone, Copy, Debug)]
struct RtcSeen {
    finding: RtcFinding,
    /// How far it jumped; positive: forward.
    by: Option<Measurement>,
    /// That is about a jump which was told as a write.
    again: bool,
}

impl RtcSeen {
    const STEADY: Self = Self { finding: RtcFinding::Steady, by: None, again: false };
}

impl Doubt {
    /// With RTC - base as it is known at `now`, can it have been a write?
    fn remains(&self, found: Range, now: Mono) -> bool {
        may_be_written(self.expected_at(now), found, self.wall, self.on_set)
    }

    fn expected_at(&self, now: Mono) -> Range {
        self.expected.widened(DRIFT.over(now.since(self.at)))
    }

    /// Another jump while this one is in doubt. What each of them did shows in their sum, too: one that began from a second that is not
    /// known yet would hide the first.
    fn joined_by(self, next: Self) -> Self {
        let wall = self.wall.joined(next.wall);
        Self { expected: self.expected_at(next.at), wall, ..next }
    }
}

/// Watches all signals. Pure: it is told what they show, and never looks itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detector {
    tracker: Tracker,
    wall: WallWatch,
    whereabouts: Whereabouts,
    /// The most the kernel ever counted. One reading may show less: its two clocks are read one after the other.
    suspended: Duration,
    /// What of it was told.
    slept: Option<Duration>,
    marker: Option<u64>,
    event: Option<Event>,
    doubt: Option<Doubt>,
    /// When somebody else set the wall clock last, told or not.
    set_at: Option<Mono>,
    jumps: Jumps,
    last: Option<Observation>,
}

impl Detector {
    /// It has seen nothing yet, so its first observation is only a beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an observation in, and tells what happened, once.
    pub fn on(&mut self, seen: &Observation) -> Option<Detection> {
        self.last = Some(*seen);
        self.look(seen)
    }

    /// Between two observations the clocks alone are at hand, with every answer of a server: better than nothing.
    pub fn glance(&mut self, now: Reading) -> Option<Detection> {
        self.look(&Observation { now, rtc: None, clock_set: None, vmclock: None, late: Duration::ZERO })
    }

    fn look(&mut self, seen: &Observation) -> Option<Detection> {
        let (before, slept) = (self.suspended, self.sleep(seen.now));
        let now = Reading { suspended: self.suspended, ..seen.now };
        let at = now.base();
        let disrupted =
            seen.vmclock.is_some_and(|m| self.marker.replace(m).is_some_and(|before| before != m));
        // The base clock was put forward, to the second at best.
        let moved = self.suspended.saturating_sub(before) > SAME_BASE;
        if moved {
            self.wall.reset();
        }
        // Or the hypervisor tells, and the RTC would tell of the same event a second later or, when it is short, much later.
        let is_new_start = self.jumps.forget(at) || moved || disrupted;
        if is_new_start {
            self.tracker.reset();
            self.whereabouts = Whereabouts::default();
            self.doubt = None;
        }
        let set = self.wall.on(now, seen.clock_set == Some(true), SAME_EVENT);
        if set.is_some() {
            // Whoever sets the wall clock may have the RTC written too: what is read of it now may be of that write.
            self.doubt = None;
            self.set_at = Some(now.raw);
        }
        let read = seen.rtc.filter(|_| !is_new_start && self.jumps.is_trusted());
        let rtc = read.map_or(RtcSeen::STEADY, |read| self.rtc(read, now));
        let late = (seen.late > LATE).then_some(seen.late);

        let evidence = Evidence {
            slept: slept.is_some(),
            disrupted,
            rtc: rtc.finding,
            clock_set: set.is_some(),
            late: late.is_some(),
        };
        let class = classify(evidence)?;
        let signals = signals(evidence, set);
        let settled = rtc.again.then(|| self.told_of_the_rtc());
        if rtc.again {
            // However long ago the first word was.
            self.event = None;
        }
        let News { replaces } = self.is_news(class, signals, at)?;
        let replaces = settled.or(replaces);
        if matches!(class, Class::Suspend | Class::Pause) {
            self.doubt = None;
        }
        let exactly = |span: Duration| Measurement::exact(Offset::from_nanos(nanos(span)));
        let (by, amount) = match class {
            Class::Suspend => (Signal::Suspend, slept.map(exactly)),
            Class::Pause if disrupted => (Signal::Vmclock, None),
            Class::Pause | Class::RtcWrite => (Signal::Rtc, rtc.by),
            Class::ClockSet if set.is_some_and(|s| s.cancelled) => (Signal::ClockSet, set.map(|s| s.by)),
            Class::ClockSet => (Signal::Wall, set.map(|s| s.by)),
            Class::Stall => (Signal::LateTick, late.map(exactly)),
        };
        Some(Detection { class, by, amount, replaces })
    }

    /// When the next observation is due.
    pub fn next(&self, now: Mono) -> Duration {
        if self.last.is_none_or(|last| last.rtc.is_none()) || !self.jumps.is_trusted() {
            return TICK;
        }
        let now = now.plus(self.suspended);
        self.tracker.next_read(now).since(now).min(TICK)
    }

    /// We are about to step the wall clock by `by` (positive: forward), or have it stepped; it is done within `within` of `now`.
    ///
    /// Say so before it is done. A step of about that size is then not told as `clock-set`, nor is the kernel's notice of it.
    /// Nothing else is hidden: the RTC and the marker know nothing of steps, and a movement of another size is told.
    pub fn own_step(&mut self, by: Offset, now: Mono, within: Duration) {
        self.wall.own_step(by, now.plus(self.suspended).plus(within));
    }

    /// The step was not made.
    pub fn own_step_failed(&mut self) {
        self.wall.own_step_failed();
    }

    /// Has somebody else set the wall clock since `then` (of the raw clock)?
    pub fn was_set_since(&self, then: Mono) -> bool {
        self.set_at.is_some_and(|at| at >= then)
    }

    /// What was told as a write of the RTC was a pause: the pools have borne it out, and it is told. What the RTC has still to show of it
    /// is no news. Returns the word that was told of it last.
    pub fn was_borne_out(&mut self) -> Class {
        self.doubt = None;
        let told = self.told_of_the_rtc();
        if let Some(event) = self.event.as_mut().filter(|event| event.is_of_the_rtc()) {
            event.told = event.told.min(Class::Pause);
        }
        told
    }

    /// What was told of a jump that looked like a write: a stall in the same moment is the better word.
    fn told_of_the_rtc(&self) -> Class {
        self.event.filter(Event::is_of_the_rtc).map_or(Class::RtcWrite, |event| event.told)
    }

    /// Which signals this node has; `None` before the first observation.
    pub fn available(&self) -> Option<[(Signal, bool); 6]> {
        let seen = self.last.as_ref()?;
        let has = |signal: fn(&Observation) -> bool| signal(seen);
        Some([
            (Signal::Suspend, true),
            (Signal::Vmclock, has(|seen| seen.vmclock.is_some())),
            (Signal::Rtc, has(|seen| seen.rtc.is_some()) && self.jumps.is_trusted()),
            (Signal::ClockSet, has(|seen| seen.clock_set.is_some())),
            (Signal::Wall, true),
            (Signal::LateTick, true),
        ])
    }

    /// How exactly the RTC is known at `now`: a pause shorter than this does not show there. `None` without a read of it.
    pub fn rtc_uncertainty(&self, now: Reading) -> Option<Duration> {
        let width = self.tracker.origin(now.base())?.width();
        Some(Duration::from_nanos(u64::try_from(width).unwrap_or(0)))
    }

    /// Can a pause that the kernel does not notice be seen at all? If not, only NTP shows it.
    pub fn sees_pauses(&self) -> bool {
        self.available()
            .into_iter()
            .flatten()
            .any(|(s, has)| has && matches!(s, Signal::Vmclock | Signal::Rtc))
    }

    /// How long the machine slept since that was last told, if long enough.
    fn sleep(&mut self, now: Reading) -> Option<Duration> {
        self.suspended = self.suspended.max(now.suspended);
        let told = *self.slept.get_or_insert(self.suspended);
        let slept = self.suspended.saturating_sub(told);
        (slept > SLEPT).then(|| {
            self.slept = Some(self.suspended);
            slept
        })
    }

    fn rtc(&mut self, read: RtcRead, now: Reading) -> RtcSeen {
        let lift = |raw: Mono| raw.plus(self.suspended);
        let read = RtcRead { before: lift(read.before), after: lift(read.after), ..read };
        let at = now.base();
        self.whereabouts.add(now);
        let Some(Jump { expected, found }) = self.tracker.on(read) else {
            if self.tracker.take_checked() {
                self.whereabouts.checked();
            }
            let jumped =
                |by: Range| RtcSeen { finding: RtcFinding::Jumped, by: Some(by.as_offset()), again: true };
            return self.settle_doubt(at).map_or(RtcSeen::STEADY, jumped);
        };
        self.jumps.add(at, found.low > expected.high);
        let wall = self.whereabouts.all();
        self.whereabouts = Whereabouts::default();
        let next = wall.map(|wall| Doubt { at, expected, wall, on_set: read.on_set });
        let next = next.filter(|doubt| doubt.remains(found, at));
        self.doubt = next.map(|next| self.doubt.map_or(next, |doubt| doubt.joined_by(next)));
        let finding = if self.doubt.is_some() { RtcFinding::Written } else { RtcFinding::Jumped };
        RtcSeen { finding, by: Some(found.from(expected).as_offset()), again: false }
    }

    /// Better known by now, can it still have been a write? If not, how far the RTC jumped, in ns.
    fn settle_doubt(&mut self, at: Mono) -> Option<Range> {
        let (doubt, origin) = self.doubt.zip(self.tracker.origin(at))?;
        let remains = doubt.remains(origin, at);
        if !remains || origin.width() <= nanos(NARROW) || at.since(doubt.at) > DOUBT {
            self.doubt = None;
        }
        (!remains).then(|| origin.from(doubt.expected_at(at)))
    }

    /// Is it another event than the one told last, or a better word for that one?
    fn is_news(&mut self, class: Class, signals: u8, at: Mono) -> Option<News> {
        match &mut self.event {
            // A sleep shows whole in the second reading at the latest; the first may have been held up between its clocks.
            Some(event) if at <= event.until && event.told == Class::Suspend && class == Class::Suspend => {
                None
            }
            Some(event) if at <= event.until && event.signals & signals == 0 => {
                event.signals |= signals;
                class
                    .upgrades(event.told)
                    .then(|| News { replaces: Some(std::mem::replace(&mut event.told, class)) })
            }
            event => {
                *event = Some(Event { until: at.plus(SAME_EVENT), signals, told: class });
                Some(News { replaces: None })
            }
        }
    }
}

/// The signals behind the evidence, one bit each.
fn signals(evidence: Evidence, set: Option<ClockWasSet>) -> u8 {
    let bit = |signal: Signal, is_there: bool| u8::from(is_there) << signal as u8;
    bit(Signal::Suspend, evidence.slept)
        | bit(Signal::Vmclock, evidence.disrupted)
        | bit(Signal::Rtc, evidence.rtc != RtcFinding::Steady)
        | bit(Signal::ClockSet, set.is_some_and(|s| s.cancelled))
        | bit(Signal::Wall, set.is_some_and(|s| s.moved))
        | bit(Signal::LateTick, evidence.late)
}
