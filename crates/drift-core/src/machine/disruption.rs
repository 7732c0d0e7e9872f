//! What the machine does about signs that it did not run all the time.

use std::time::Duration;

use super::Machine;
use crate::io::{Effect, Input, LogEvent};
use crate::report::node::EventReason;
use crate::resume::{Class, Detection, Signal};
use crate::step::policy::Trigger;
use crate::time::backoff::Bucket;
use crate::time::{Mono, Reading};

/// How often the pools are asked on a machine that nothing else would tell of a pause.
const BLIND_INTERVAL: Duration = Duration::from_secs(16);

/// The bursts that signals may ask for: one that will not end must not make us ask fast for ever.
#[derive(Debug)]
pub(crate) struct Bursts {
    bucket: Bucket,
    /// The last one was granted.
    granted: bool,
}

impl Bursts {
    pub(crate) fn new(now: Mono) -> Self {
        Self { bucket: Bucket::new(now), granted: false }
    }

    /// May it be sent? The better word for an event throws away what the burst for the first word has brought: that one is sent `again`,
    /// and counts once.
    fn take(&mut self, again: bool, now: Mono) -> bool {
        self.granted = (again && self.granted) || self.bucket.take(now);
        self.granted
    }
}

impl Machine {
    /// Every input brings a reading of the clocks, and with it a look at what they say.
    pub(crate) fn notice(&mut self, input: &Input, now: Reading, out: &mut Vec<Effect>) {
        let detection = if let Input::Observed(observation) = input {
            let is_first = self.detector.available().is_none();
            let detection = self.detector.on(observation);
            if is_first && !self.detector.sees_pauses() {
                self.rounds.hurry(BLIND_INTERVAL);
                out.push(Effect::Log(LogEvent::NoPauseSignal));
            }
            detection
        } else {
            self.detector.glance(now)
        };
        if let Some(detection) = detection {
            self.resumed(detection, now, out);
        }
    }

    /// A round has ended. If the RTC jumped to where a write would have put it: do the pools say that time was lost?
    pub(crate) fn bear_out(&mut self, now: Reading, out: &mut Vec<Effect>) {
        let Some((since, before)) = self.lost_time.wants().zip(self.lost_time.before()) else { return };
        // A clock that somebody has set meanwhile is left to them, and a network that is not back by then is not waited for.
        let is_over = self.lost_time.is_older(self.settings.interval * 2, now.raw);
        if is_over || self.detector.was_set_since(before) {
            self.lost_time.acquit();
            return;
        }
        let heard = self.measured_since(since, now);
        if let Some(lost) = self.lost_time.borne_out(&heard, now.raw) {
            let (class, by, replaces) = (Class::Pause, Signal::Pools, Some(self.detector.was_borne_out()));
            self.resumed(Detection { class, by, amount: Some(lost), replaces }, now, out);
        } else if !self.rounds.in_burst(now.raw)
            && (0..self.settings.pools.len()).all(|pool| heard.iter().any(|c| c.pool == pool))
        {
            // Heard out: it was a write.
            self.lost_time.acquit();
        }
    }

    fn resumed(&mut self, detection: Detection, now: Reading, out: &mut Vec<Effect>) {
        let class = detection.class;
        if let Some(count) = self.counts.resumes.get_mut(class.index()) {
            *count += 1;
        }
        out.push(Effect::Log(LogEvent::Resume(detection)));
        self.history.resumed(detection, now);
        match (class, detection.amount) {
            (Class::RtcWrite, Some(by)) => self.lost_time.suspect(by, now.raw),
            (Class::Suspend | Class::Pause, _) => self.lost_time.forget(),
            (Class::RtcWrite | Class::ClockSet | Class::Stall, _) => {}
        }
        if matches!(class, Class::Suspend | Class::Pause) {
            self.estimate.disrupt();
            self.rounds.forget_samples();
            self.fallback.forget();
            self.raise(EventReason::VMResumeDetected, in_a_sentence(detection), now);
        }
        self.stepper.trigger(Trigger::Disruption(class), now.raw);
        // Only the pools say how wrong the clock is. Without a burst the next round does.
        if self.bursts.take(detection.replaces.is_some(), now.raw) {
            self.rounds.request_burst();
        }
    }
}

/// `The machine slept for 12 s.`
fn in_a_sentence(detection: Detection) -> String {
    let text = detection.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_events_have_their_burst_at_once_in_however_many_words() {
        let now = Mono::from_nanos(1_000_000_000_000);
        let mut bursts = Bursts::new(now);
        for nth in 1..=3 {
            assert!(bursts.take(false, now), "{nth}");
            assert!(bursts.take(true, now), "{nth}: a better word");
        }
        assert!(!bursts.take(false, now) && !bursts.take(true, now), "the fourth, by either word");
        let later = now.plus(Duration::from_secs(61));
        assert!(bursts.take(true, later), "a minute gives another one");
    }
}
