//! The detector: the state behind all signals, and the way from an observation to a detection.

use std::collections::BTreeMap;
use std::time::Duration;

use super::classify::{Class, Evidence, RtcFinding};
use super::clocksource::{Clocksource, ClocksourceChange, ClocksourceMonitor};
use super::disruption::{Detection, Disruption, PauseEvidence};
use super::merge::{EventMerger, Merge, SAME_EVENT_MAX};
use super::pause_confirmation::PauseConfirmation;
use super::pools::{PoolFinding, PoolWatch};
use super::rtc::RtcMonitor;
use super::rtc_trust::RtcFault;
use super::signal::{Signal, SignalSet};
use super::suspend::{SuspendFinding, SuspendMonitor};
use super::tracker::RtcRead;
use super::wall::WallMonitor;
use crate::estimate::Candidate;
use crate::ntp::server::ServerId;
use crate::time::rate::Rate;
use crate::time::{Mono, Offset, Reading};

/// An observation that is later than this shows a stall of the agent.
const STALL_MIN: Duration = Duration::from_secs(1);
/// The longest time between two observations, and the usual one without an RTC whose tick to aim at.
const OBSERVATION_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// What all signals of the machine show at one instant. Copied, never allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The clocks, read after everything else.
    pub now: Reading,
    /// A read of the RTC; `None` where there is none or the read failed.
    pub rtc: Option<RtcRead>,
    /// Has the kernel cancelled the agent's timer because the wall clock was set? `None` without a timer.
    pub clock_set: Option<bool>,
    /// The hypervisor's disruption marker; `None` where it cannot be read.
    pub vmclock: Option<u64>,
    /// By what the kernel counts time; `None` where that cannot be read.
    pub clocksource: Option<Clocksource>,
    /// How much later than planned the observation was made.
    pub late: Duration,
}

/// A pause is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseSuspected;

/// Detects disruptions. Pure: it is given observations, and never makes one itself.
///
/// Calls: [`handle_observation`](Self::handle_observation) when [`poll_timeout`](Self::poll_timeout) has
/// passed, or earlier when the kernel notifies the agent; [`observe_clocks`](Self::observe_clocks) with every
/// other input; at the end of a round [`record_round`](Self::record_round) and then
/// [`confirm_pause`](Self::confirm_pause). The raw clock of the readings must not go back.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    local: LocalSignals,
    clocksource: ClocksourceMonitor,
    confirmation: PauseConfirmation,
    pools: PoolWatch,
}

/// The signals of the machine, followed over time. `Copy`: an observation without a detection allocates
/// nothing.
#[derive(Clone, Copy, Debug, Default)]
struct LocalSignals {
    suspend: SuspendMonitor,
    wall: WallMonitor,
    rtc: RtcMonitor,
    /// The hypervisor's disruption marker.
    marker: Option<u64>,
    merger: EventMerger,
    /// When another process set the wall clock last (raw clock), whether reported or not.
    clock_set_at: Option<Mono>,
    last_observation: Option<Observation>,
}

impl Detector {
    /// A detector without any observation. The first one is only what the second one is compared with.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an observation of all signals.
    pub fn handle_observation(&mut self, observation: &Observation) -> Option<Detection> {
        self.local.last_observation = Some(*observation);
        self.detect(observation)
    }

    /// Takes the clocksource of an observation. Returns the change, if it is another one than before.
    pub fn handle_clocksource(&mut self, observation: &Observation) -> Option<ClocksourceChange> {
        let change = self.clocksource.handle_reading(observation.clocksource, observation.now.raw)?;
        self.local.rtc.handle_other_clock();
        self.pools.reset();
        Some(change)
    }

    /// Takes a reading of the clocks alone, as it comes with every input between two observations.
    pub fn observe_clocks(&mut self, now: Reading) -> Option<Detection> {
        self.detect(&Observation {
            now,
            rtc: None,
            clock_set: None,
            vmclock: None,
            clocksource: None,
            late: Duration::ZERO,
        })
    }

    /// Takes what each server reported by the end of a round, carried to `now`, and the rate of the raw clock.
    pub fn record_round(&mut self, servers: Vec<Candidate>, rate: Rate, now: Mono) {
        self.confirmation.record_round(servers, rate, now);
    }

    /// The servers have other numbers after a disruption: the old ones, and the new ones.
    pub fn renumber_servers(&mut self, numbers: &BTreeMap<ServerId, ServerId>) {
        self.confirmation.renumber(numbers);
    }

    /// When the RTC showed a jump that may be a write or a pause (raw clock). Samples from then on can
    /// confirm or refute a pause. `None` without such a jump, and once it is decided.
    pub fn pause_unconfirmed_since(&self) -> Option<Mono> {
        self.confirmation.waiting_since()
    }

    /// Takes what the servers reported since a jump of the RTC, at the end of a round. Reports a pause if NTP
    /// confirms it, and takes a reported one back if NTP refutes it.
    ///
    /// `measured`: what each server reported, by samples since [`Self::pause_unconfirmed_since`]; `rate`: of the raw
    /// clock.
    /// `is_complete`: every pool is measured, and the burst is over; if that confirms no pause, the jump was
    /// a write. `max_wait`: no pause is confirmed later than this after the jump.
    pub fn confirm_pause(
        &mut self,
        measured: &[Candidate],
        rate: Rate,
        is_complete: bool,
        max_wait: Duration,
        now: Mono,
    ) -> Option<Detection> {
        // A clock that another process has set since the jump is left to that process.
        let since = self.confirmation.last_undisturbed()?;
        let is_pause = self.confirmation.is_pause();
        if (self.was_set_since(since) && !is_pause) || self.confirmation.is_older_than(max_wait, now) {
            self.confirmation.cancel();
            return None;
        }
        if is_pause {
            return self.refute_pause(measured, is_complete, now);
        }
        let Some(lost) = self.confirmation.confirmed_by(measured, rate, now) else {
            if is_complete {
                self.confirmation.cancel();
            }
            return None;
        };
        self.confirmation.reset();
        Some(Detection {
            disruption: Disruption::Pause(PauseEvidence::RtcAndNtp { lost }),
            reclassifies: Some(self.local.confirm_pause()),
        })
    }

    /// Samples since then are new to [`Self::watch_pools`]; `None`: all are.
    pub fn pools_seen_until(&self) -> Option<Mono> {
        self.pools.since()
    }

    /// Takes what each server reported by new samples, at the end of a round, on a machine without a signal that shows
    /// pauses. Polls that follow soon after a suspicion show whether it
    /// is a pause.
    ///
    /// `rate`: of the raw clock, before anything has refuted it.
    ///
    /// # Errors
    /// [`PauseSuspected`]: two pools show a loss, from this round on.
    pub fn watch_pools(
        &mut self,
        measured: &[Candidate],
        rate: Rate,
        now: Mono,
    ) -> Result<Option<Detection>, PauseSuspected> {
        match self.pools.look(measured, rate, now) {
            PoolFinding::Steady => Ok(None),
            PoolFinding::Suspected => Err(PauseSuspected),
            PoolFinding::Paused { lost } => {
                self.confirmation.reset();
                self.pools.reset();
                let disruption = Disruption::Pause(PauseEvidence::Ntp { lost });
                Ok(Some(Detection { disruption, reclassifies: None }))
            }
        }
    }

    fn refute_pause(&mut self, measured: &[Candidate], is_complete: bool, now: Mono) -> Option<Detection> {
        let refuted = self.confirmation.refuted_by(measured, now);
        if refuted.is_some() || is_complete {
            self.confirmation.cancel();
        }
        let by = refuted?;
        self.local.merger.refute_pause();
        Some(Detection { disruption: Disruption::RtcWrite { by }, reclassifies: Some(Class::Pause) })
    }

    /// The longest time until the next observation is due.
    pub fn poll_timeout(&self, now: Mono) -> Duration {
        self.local.poll_timeout(now)
    }

    /// The agent is about to step the wall clock by `by` (positive: forward), or to have it stepped, within
    /// `within` of `now`.
    ///
    /// To be called before the step. A step of about that size is not reported as `clock-set` then, nor is
    /// the kernel's notification of it. Nothing else is hidden: steps change neither the RTC nor the marker,
    /// and a movement of the wall clock by another amount is reported.
    pub fn own_step(&mut self, by: Offset, now: Mono, within: Duration) {
        self.local.wall.own_step(by, self.local.suspend.base(now).plus(within));
    }

    /// The announced step is not made.
    pub fn own_step_failed(&mut self) {
        self.local.wall.own_step_failed();
    }

    /// Has another process set the wall clock since `then` (raw clock), whether that was reported or not?
    pub fn was_set_since(&self, then: Mono) -> bool {
        self.local.clock_set_at.is_some_and(|at| at >= then)
    }

    /// The [local](Signal::LOCAL) signals that this machine has; `None` before the first observation.
    pub fn available(&self) -> Option<SignalSet> {
        self.local.available()
    }

    /// The width of the range in which the RTC is known at `now`: a shorter pause does not show there. Some seconds
    /// after the start its rate is not known, and neither is a pause of what that may add. `None` without a read.
    pub fn rtc_uncertainty(&self, now: Reading) -> Option<Duration> {
        let uncertainty = self.local.rtc.uncertainty(now.base())?;
        Some(Duration::from_nanos(u64::try_from(uncertainty).unwrap_or(0)))
    }

    /// Why the RTC is not used, where there is one that is no clock.
    pub fn rtc_fault(&self) -> Option<RtcFault> {
        self.local.last_observation.filter(|last| last.rtc.is_some()).and_then(|_| self.local.rtc.fault())
    }

    /// Does a signal of this machine show a pause that the kernel does not notice? If not, only NTP does.
    pub fn sees_pauses(&self) -> bool {
        self.available().is_some_and(SignalSet::shows_pauses)
    }

    fn detect(&mut self, observation: &Observation) -> Option<Detection> {
        let detection = self.local.detect(observation)?;
        let now = observation.now.raw;
        match detection.disruption {
            Disruption::RtcWrite { by } => self.confirmation.rtc_jumped(by, now),
            Disruption::Pause(PauseEvidence::Rtc { lost }) => self.confirmation.rtc_paused(lost, now),
            Disruption::Suspend { .. } | Disruption::Pause(_) => self.confirmation.reset(),
            Disruption::ClockSet { .. } | Disruption::Stall { .. } => {}
        }
        if matches!(detection.disruption.class(), Class::Suspend | Class::Pause) {
            self.pools.reset();
        }
        Some(detection)
    }
}

impl LocalSignals {
    /// From an observation to evidence, its strongest disruption, and what to report of that.
    fn detect(&mut self, observation: &Observation) -> Option<Detection> {
        let evidence = self.gather(observation);
        let disruption = evidence.disruption()?;
        let (class, signals, at) =
            (disruption.class(), evidence.signals(), self.suspend.base(observation.now.raw));
        let merge = if matches!(evidence.rtc, RtcFinding::NotWritten { .. }) {
            self.merger.reclassify_rtc_write(class, signals, at)
        } else {
            self.merger.merge_or_start_event(class, signals, at)
        };
        let reclassifies = match merge {
            Merge::NewEvent => None,
            Merge::Reclassifies(reported) => Some(reported),
            Merge::AlreadyReported => return None,
        };
        if matches!(class, Class::Suspend | Class::Pause) {
            self.rtc.drop_unconfirmed_write();
        }
        Some(Detection { disruption, reclassifies })
    }

    /// Gives every monitor its part of the observation.
    fn gather(&mut self, observation: &Observation) -> Evidence {
        let SuspendFinding { slept, is_base_moved, now } = self.suspend.handle_reading(observation.now);
        let is_marker_changed = self.handle_marker(observation.vmclock);
        if is_base_moved {
            self.wall.reset();
        }
        let is_notified = observation.clock_set == Some(true);
        let wall_step = self.wall.handle_reading(now, is_notified, SAME_EVENT_MAX);
        if wall_step.is_some() {
            self.clock_set_at = Some(now.raw);
            // The process may have the RTC written, too: what the RTC shows from here on may be that write.
            self.rtc.drop_unconfirmed_write();
        }
        // After a disruption that the hypervisor reports, the RTC would show the same event a second later,
        // or later still.
        let read = observation.rtc.map(|read| self.lift(read));
        let rtc = self.rtc.handle_observation(read, is_base_moved, is_marker_changed, now);
        let late = Some(observation.late).filter(|late| *late > STALL_MIN);
        Evidence { slept, is_marker_changed, rtc, wall_step, late }
    }

    /// Takes the hypervisor's disruption marker. Returns `true` when it differs from the last one.
    fn handle_marker(&mut self, marker: Option<u64>) -> bool {
        let Some(marker) = marker else { return false };
        self.marker.replace(marker).is_some_and(|before| before != marker)
    }

    /// A read of the RTC between two readings of the base clock instead of the raw clock.
    fn lift(&self, read: RtcRead) -> RtcRead {
        let base = |raw| self.suspend.base(raw);
        RtcRead { before: base(read.before), after: base(read.after), ..read }
    }

    /// NTP has confirmed that a reported RTC write was a pause. Returns the class that was reported last.
    fn confirm_pause(&mut self) -> Class {
        self.rtc.drop_unconfirmed_write();
        self.merger.confirm_pause()
    }

    fn poll_timeout(&self, now: Mono) -> Duration {
        let has_rtc = self.last_observation.is_some_and(|last| last.rtc.is_some()) && self.rtc.is_trusted();
        if !has_rtc {
            return OBSERVATION_INTERVAL_MAX;
        }
        let now = self.suspend.base(now);
        self.rtc.next_read(now).since(now).min(OBSERVATION_INTERVAL_MAX)
    }

    fn available(&self) -> Option<SignalSet> {
        let last = self.last_observation.as_ref()?;
        let has = |signal: &Signal| match signal {
            Signal::Suspend | Signal::Wall | Signal::LateTick => true,
            Signal::Vmclock => last.vmclock.is_some(),
            Signal::Rtc => last.rtc.is_some() && self.rtc.is_trusted(),
            Signal::ClockSet => last.clock_set.is_some(),
            Signal::Pools => false,
        };
        Some(Signal::LOCAL.into_iter().filter(has).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A type that is `Copy` owns no memory on the heap.
    #[test]
    fn observations_and_detections_own_no_heap_memory() {
        fn owns_no_heap_memory<T: Copy>() {}
        owns_no_heap_memory::<LocalSignals>();
        owns_no_heap_memory::<Observation>();
        owns_no_heap_memory::<Detection>();
    }
}
