//! What the machine does about disruptions: it passes the detector its inputs, and discards, measures again
//! and reports what a detection calls for.

use std::time::Duration;

use super::Machine;
use crate::io::{Effect, Input, LogEvent};
use crate::report::node::EventReason;
use crate::resume::{Class, Detection, Signal};
use crate::step::policy::Trigger;
use crate::time::backoff::Bucket;
use crate::time::{Mono, Reading};

/// The longest interval between two rounds on a machine without a signal that shows pauses.
const BLIND_INTERVAL: Duration = Duration::from_secs(16);

/// The budget for bursts after disruptions. A signal that fires without end must not make the agent poll fast
/// for ever.
#[derive(Debug)]
pub(crate) struct Bursts {
    bucket: Bucket,
    /// The last burst was granted.
    is_granted: bool,
}

impl Bursts {
    pub(crate) fn new(now: Mono) -> Self {
        Self { bucket: Bucket::new(now), is_granted: false }
    }

    /// Takes a burst from the budget, if there is one. A reclassified event discards the samples of its first
    /// burst: its second burst counts as part of the first.
    fn take(&mut self, is_reclassified: bool, now: Mono) -> bool {
        self.is_granted = (is_reclassified && self.is_granted) || self.bucket.take(now);
        self.is_granted
    }
}

impl Machine {
    /// Passes the reading that comes with every input, or the observation that it is, to the detector.
    pub(crate) fn detect_disruption(&mut self, input: &Input, now: Reading, out: &mut Vec<Effect>) {
        let detection = if let Input::Observed(observation) = input {
            let is_first = self.detector.available().is_none();
            let detection = self.detector.handle_observation(observation);
            if is_first && !self.detector.sees_pauses() {
                self.rounds.limit_interval(BLIND_INTERVAL);
                out.push(Effect::Log(LogEvent::NoPauseSignal {
                    poll: self.settings.interval.min(BLIND_INTERVAL),
                }));
            }
            detection
        } else {
            self.detector.observe_clocks(now)
        };
        if let Some(detection) = detection {
            self.handle_disruption(detection, now, out);
        }
    }

    /// A round has ended: does it confirm that a jump of the RTC was a pause?
    pub(crate) fn confirm_pause(&mut self, now: Reading, out: &mut Vec<Effect>) {
        let Some(since) = self.detector.pause_unconfirmed_since() else { return };
        let measured = self.measured_since(since, now);
        let is_complete = !self.rounds.is_quick()
            && (0..self.settings.pools.len()).all(|pool| measured.iter().any(|c| c.pool == pool));
        let max_wait = self.settings.interval * 2;
        if let Some(pause) =
            self.detector.confirm_pause(&measured, self.estimate.rate(), is_complete, max_wait, now.raw)
        {
            self.handle_disruption(pause, now, out);
        }
    }

    fn handle_disruption(&mut self, detection: Detection, now: Reading, out: &mut Vec<Effect>) {
        let class = detection.disruption.class();
        if let Some(count) = self.counts.resumes.get_mut(class.index()) {
            *count += 1;
        }
        out.push(Effect::Log(LogEvent::Disrupted(detection)));
        self.history.resumed(detection, now);
        if matches!(class, Class::Suspend | Class::Pause) {
            // The hypervisor reports a restore or a migration: other hardware may count the time.
            let is_moved = detection.disruption.signal() == Signal::Vmclock;
            self.estimate.disrupt(is_moved, now.raw);
            self.rounds.discard_samples();
            self.fallback.reset();
            self.raise(EventReason::VMResumeDetected, detection.disruption.sentence(), now);
        }
        self.stepper.trigger(Trigger::Disruption(class), now.raw);
        // Only NTP measures how wrong the clock is. Without a burst the next round does.
        if self.bursts.take(detection.reclassifies.is_some(), now.raw) {
            self.rounds.request_quick_rounds(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_events_get_a_burst_at_once_however_often_they_are_reclassified() {
        let now = Mono::from_nanos(1_000_000_000_000);
        let mut bursts = Bursts::new(now);
        for nth in 1..=3 {
            assert!(bursts.take(false, now), "{nth}");
            assert!(bursts.take(true, now), "{nth}, reclassified");
        }
        assert!(!bursts.take(false, now) && !bursts.take(true, now), "the fourth, reclassified or not");
        let later = now.plus(Duration::from_secs(61));
        assert!(bursts.take(true, later), "a minute later the budget has another burst");
    }
}
