//! A node's clocks on a virtual time: it can be paused, put to sleep, slewed, and its hardware clock be set. The fake of
//! [`Signals`].

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::os::signals::Signals;
use drift_core::resume::{Observation, RtcRead, RtcSetBehavior};
use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Ppb, Reading, Wall, nanos};

/// What a node is made of.
#[derive(Clone, Copy, Debug)]
pub struct Hardware {
    /// What the raw clock gains over true time.
    pub raw: Ppb,
    /// What the hardware clock gains over true time.
    pub rtc: Ppb,
    /// Hardware clock - wall clock at the start.
    pub gap: Offset,
    /// What setting the hardware clock does to its second.
    pub second: Second,
    /// The longest that reading it takes.
    pub latency: Duration,
    /// Is there a hypervisor that tells of disruptions?
    pub vmclock: bool,
}

/// What setting the hardware clock does to its second.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    /// It begins anew.
    pub restarts: bool,
    /// As the agent knows: a PC's CMOS clock. The kernel writes that half a second after the second it writes, any other 5 ms before.
    pub is_known: bool,
}

impl Second {
    /// A PC's.
    pub const RESTARTS: Self = Self { restarts: true, is_known: true };
    /// A PC's with a processor by AMD.
    pub const GOES_ON: Self = Self { restarts: false, is_known: true };

    fn set_behavior(self) -> RtcSetBehavior {
        match self {
            Self { is_known: false, .. } => RtcSetBehavior::Unknown,
            Self { restarts: true, .. } => RtcSetBehavior::ResetsSubsecond,
            Self { restarts: false, .. } => RtcSetBehavior::KeepsSubsecond,
        }
    }

    /// How long after a second's beginning the kernel writes that second, ns.
    const fn delay(self) -> i64 {
        if self.is_known { NANOS_PER_SEC / 2 } else { -5_000_000 }
    }
}

/// The node. Time passes only when it is told to.
#[derive(Clone, Debug)]
pub struct Node {
    hardware: Hardware,
    rng: fastrand::Rng,
    /// True time since the start, ns.
    elapsed: i64,
    /// Of it: time in which no clock but the hardware's ran, ns.
    stood: i64,
    /// What the kernel added for it, because it knew, ns.
    slept: i64,
    /// What was done to the wall clock, ns.
    stepped: i64,
    slew: Ppb,
    /// What was done to the hardware clock, ns.
    written: i64,
    cancelled: bool,
    marker: u64,
}

const START: Wall = Wall::from_secs(1_795_341_600);
const RAW_START: Mono = Mono::from_nanos(1_234_567_890_123);

impl Node {
    /// Everything random is drawn from `seed`.
    pub fn new(hardware: Hardware, seed: u64) -> Self {
        Self {
            hardware,
            rng: fastrand::Rng::with_seed(seed),
            elapsed: 0,
            stood: 0,
            slept: 0,
            stepped: 0,
            slew: Ppb(0),
            written: 0,
            cancelled: false,
            marker: 1,
        }
    }

    /// True time since the start.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.unsigned_abs())
    }

    /// Time passes, and everything runs.
    pub fn pass(&mut self, span: Duration) {
        self.elapsed += nanos(span);
        self.stepped += self.slew.over(span);
    }

    /// The machine stands still, and its kernel does not know.
    pub fn pause(&mut self, span: Duration) {
        self.elapsed += nanos(span);
        self.stood += nanos(span);
    }

    /// The machine sleeps. Its kernel learns by the hardware clock, to the second: `missed` is what it does not see of it.
    pub fn suspend(&mut self, span: Duration, missed: Duration) {
        self.pause(span);
        self.slept += nanos(span.saturating_sub(missed));
        self.cancelled = true;
    }

    /// Somebody sets the wall clock; positive: forward.
    pub fn step(&mut self, by: Offset) {
        self.stepped += by.as_nanos();
        self.cancelled = true;
    }

    /// Somebody slews the wall clock from now on.
    pub fn slew(&mut self, rate: Ppb) {
        self.slew = rate;
    }

    /// The kernel writes the wall clock's time into the hardware clock, held up by `late`.
    pub fn write_rtc(&mut self, late: Duration) {
        let wall = self.reading().wall.as_nanos();
        let shown = self.rtc();
        let wanted = if self.hardware.second.restarts {
            wall - nanos(late)
        } else {
            let second = (wall - self.hardware.second.delay() + NANOS_PER_SEC / 2).div_euclid(NANOS_PER_SEC);
            second * NANOS_PER_SEC + shown.rem_euclid(NANOS_PER_SEC)
        };
        self.written += wanted - shown;
    }

    /// How long until the kernel would write it: it waits for the right instant of the second.
    pub fn until_write(&self) -> Duration {
        let now = self.reading().wall.as_nanos();
        Duration::from_nanos((self.hardware.second.delay() - now).rem_euclid(NANOS_PER_SEC).unsigned_abs())
    }

    /// The hypervisor says that time was disrupted.
    pub fn disrupt(&mut self) {
        self.marker += 1;
    }

    /// Hardware clock - wall clock.
    pub fn gap(&self) -> Offset {
        Offset::from_nanos(self.rtc() - self.reading().wall.as_nanos())
    }

    /// The clocks now.
    pub fn reading(&self) -> Reading {
        let awake = self.elapsed - self.stood;
        let counted = awake + self.hardware.raw.over(Duration::from_nanos(awake.unsigned_abs()));
        Reading {
            wall: START.plus(Offset::from_nanos(counted + self.slept + self.stepped)),
            raw: RAW_START.plus(Duration::from_nanos(counted.unsigned_abs())),
            suspended: Duration::from_nanos(self.slept.unsigned_abs()),
        }
    }

    /// What the hardware clock would show, did it show fractions.
    fn rtc(&self) -> i64 {
        let gained = self.hardware.rtc.over(self.elapsed());
        START.as_nanos() + self.hardware.gap.as_nanos() + self.elapsed + gained + self.written
    }

    fn read_rtc(&mut self) -> RtcRead {
        let before = self.reading().raw;
        // Mostly it is fast, now and then as slow as it gets.
        let most = if self.rng.u8(0..16) == 0 { self.hardware.latency } else { self.hardware.latency / 16 };
        let mut part =
            || Duration::from_nanos(self.rng.u64(0..=u64::try_from(most.as_nanos() / 2).unwrap_or(0)));
        let (first, second) = (part(), part());
        self.pass(first);
        // A CMOS clock that is about to tick over is waited for, at most 2 ms.
        let until_tick = NANOS_PER_SEC - self.rtc().rem_euclid(NANOS_PER_SEC);
        if until_tick < 250_000 {
            self.pass(Duration::from_nanos(until_tick.unsigned_abs() + 1_000_000));
        }
        let seconds = self.rtc().div_euclid(NANOS_PER_SEC);
        self.pass(second);
        RtcRead {
            seconds,
            before,
            after: self.reading().raw,
            set_behavior: self.hardware.second.set_behavior(),
        }
    }
}

impl Signals for Node {
    fn observe(&mut self, due: Mono) -> Observation {
        let rtc = Some(self.read_rtc());
        let mut now = self.reading();
        if self.rng.u8(0..8) == 0 {
            // The two clocks behind it are read one after the other, and the reader may be held up in between.
            now.suspended = now.suspended.saturating_sub(Duration::from_micros(self.rng.u64(0..200_000)));
        }
        let clock_set = Some(std::mem::take(&mut self.cancelled));
        let vmclock = self.hardware.vmclock.then_some(self.marker);
        Observation { now, rtc, clock_set, vmclock, late: now.raw.since(due) }
    }

    fn waker(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
