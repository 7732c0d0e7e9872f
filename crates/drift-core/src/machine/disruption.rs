//! What the machine does about disruptions: it passes the detector its inputs, and discards, measures again
//! and reports what a detection calls for.

use std::time::Duration;

use super::Machine;
use crate::io::{Effect, Input, LogEvent};
use crate::report::node::EventReason;
use crate::resume::{Class, ClocksourceChange, Detection, PauseSuspected, RtcFault, Signal};
use crate::step::policy::Trigger;
use crate::step::stepper::Triggered;
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

/// What was reported of the signals, once.
#[derive(Debug, Default)]
pub(crate) struct ReportedSignals {
    /// No signal shows pauses.
    is_blind: bool,
    /// Why the RTC is no clock.
    rtc_fault: Option<RtcFault>,
}

impl Machine {
    /// Passes the reading that comes with every input, or the observation that it is, to the detector.
    pub(crate) fn detect_disruption(&mut self, input: &Input, now: Reading, out: &mut Vec<Effect>) {
        let detection = if let Input::Observed(observation) = input {
            if let Some(change) = self.detector.handle_clocksource(observation) {
                self.handle_clocksource_change(change, now, out);
            }
            let detection = self.detector.handle_observation(observation);
            self.report_signals(out);
            detection
        } else {
            self.detector.observe_clocks(now)
        };
        if let Some(detection) = detection {
            self.handle_disruption(detection, now, out);
        }
    }

    /// Reports once that the RTC is no clock, and that no signal shows pauses.
    fn report_signals(&mut self, out: &mut Vec<Effect>) {
        let reported = &mut self.reported_signals;
        if let Some(fault) = self.detector.rtc_fault().filter(|fault| reported.rtc_fault != Some(*fault)) {
            reported.rtc_fault = Some(fault);
            out.push(Effect::Log(LogEvent::RtcUnusable(fault)));
        }
        if !reported.is_blind && !self.detector.sees_pauses() {
            reported.is_blind = true;
            self.rounds.limit_interval(BLIND_INTERVAL);
            let poll = self.settings.interval.min(BLIND_INTERVAL);
            out.push(Effect::Log(LogEvent::NoPauseSignal { poll }));
        }
    }

    /// A round has ended: does it show a pause that no signal of this machine shows?
    pub(crate) fn watch_pools(&mut self, now: Reading, out: &mut Vec<Effect>) {
        // One server behind all names proves nothing by contradicting itself.
        if self.detector.available().is_none()
            || self.detector.sees_pauses()
            || self.independence.is_doubtful()
        {
            return;
        }
        let since = self.detector.pools_seen_until();
        let max_age = since.map_or(self.settings.stale_after, |since| now.raw.since(since));
        let rate = self.estimate.rate_if_paused(now.raw);
        let measured = self.rounds.candidates(now.raw, rate, max_age);
        match self.detector.watch_pools(&measured, rate, now.raw) {
            Ok(Some(pause)) => self.handle_disruption(pause, now, out),
            Err(PauseSuspected) if self.bursts.take(false, now.raw) => {
                self.rounds.request_quick_rounds(false);
            }
            Ok(None) | Err(PauseSuspected) => {}
        }
    }

    /// A round has ended: does it confirm that a jump of the RTC was a pause?
    pub(crate) fn confirm_pause(&mut self, now: Reading, out: &mut Vec<Effect>) {
        let Some(since) = self.detector.pause_unconfirmed_since() else { return };
        let measured = self.measured_since(since, now);
        let is_complete = !self.rounds.is_quick()
            && (0..self.settings.pools.len()).all(|pool| measured.iter().any(|c| c.pool == pool));
        let max_wait = self.settings.interval * 2;
        if let Some(pause) = self.detector.confirm_pause(
            &measured,
            self.estimate.rate_if_paused(now.raw),
            is_complete,
            max_wait,
            now.raw,
        ) {
            self.handle_disruption(pause, now, out);
        }
    }

    /// The raw clock goes on at another rate: samples from before show where reference time was, but not how
    /// fast it gains from now on.
    fn handle_clocksource_change(&mut self, change: ClocksourceChange, now: Reading, out: &mut Vec<Effect>) {
        let ClocksourceChange { before, now: clocksource, last_seen } = change;
        out.push(Effect::Log(LogEvent::ClocksourceChanged {
            before: before.to_string(),
            now: clocksource.to_string(),
        }));
        self.estimate.handle_other_clock(last_seen, now.raw);
        self.rounds.forget_before(now.raw);
        if self.bursts.take(false, now.raw) {
            self.rounds.restart(now.raw);
        }
    }

    fn handle_disruption(&mut self, detection: Detection, now: Reading, out: &mut Vec<Effect>) {
        let class = detection.disruption.class();
        if let Some(count) = self.counts.resumes.get_mut(class.index()) {
            *count += 1;
        }
        out.push(Effect::Log(LogEvent::Disrupted(detection)));
        self.history.resumed(detection, now);
        if detection.refutes_pause() {
            // What was measured since is of this clock, and nothing is to be stepped.
            self.stepper.withdraw_pause();
            let note =
                format!("NTP shows that the machine was not paused. {}", detection.disruption.sentence());
            self.raise(EventReason::VMResumeRefuted, note, now);
            return;
        }
        if matches!(class, Class::Suspend | Class::Pause) {
            // The hypervisor reports a restore or a migration: other hardware may count the time.
            let is_moved = detection.disruption.signal() == Signal::Vmclock;
            self.estimate.disrupt(is_moved, now.raw);
            let numbers = self.rounds.discard_samples();
            self.detector.renumber_servers(&numbers);
            self.fallback.reset();
            self.raise(EventReason::VMResumeDetected, detection.disruption.sentence(), now);
        }
        if let Triggered::Measure(Some(superseded)) =
            self.stepper.trigger(Trigger::Disruption(class), now.raw)
        {
            self.record_outcome(superseded, now, out);
        }
        // Only NTP measures how wrong the clock is. Without a burst the next round does.
        if self.bursts.take(detection.reclassifies.is_some(), now.raw) {
            self.rounds.request_quick_rounds(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{sample, settings};
    use crate::machine::Settings;
    use crate::ntp::pool::Resolution;
    use crate::ntp::reject::RejectReason;
    use crate::ntp::sample::Sample;
    use crate::ntp::server::Answer;
    use crate::resume::{Clocksource, Observation};
    use crate::time::rate::Rate;
    use crate::time::{Bound, Offset, Ppb, Wall};

    const SECOND: Duration = Duration::from_secs(1);

    /// A machine with two pools of one server each, which answer at once and report the node's own time.
    struct Observed {
        machine: Machine,
        now: Mono,
        /// From then on the raw clock is slow by this.
        slow: (Mono, Ppb),
        /// The servers do not answer.
        is_silent: bool,
    }

    impl Observed {
        fn new() -> Self {
            let settings = Settings { servers_per_pool: 1, ..settings(&["a.example", "b.example"]) };
            let now = Mono::from_nanos(1_000_000_000_000);
            let mut observed = Self {
                machine: Machine::new(settings, 1, reading(now)),
                now,
                slow: (now, Ppb(0)),
                is_silent: false,
            };
            for pool in 0..2 {
                let address = ([192, 0, 2, u8::try_from(pool).unwrap()], 123).into();
                let answer = Ok(Resolution { addresses: vec![address], ttl: None });
                observed.feed(Input::Resolved { pool, answer });
            }
            observed
        }

        /// What was logged, and the number of requests.
        fn feed(&mut self, input: Input) -> (Vec<LogEvent>, usize) {
            let (mut logged, mut requests) = (Vec::new(), 0);
            let mut effects = self.machine.handle(input, reading(self.now));
            while !effects.is_empty() {
                let asked: Vec<_> = effects
                    .iter()
                    .filter_map(|e| if let Effect::Query { server, .. } = e { Some(*server) } else { None })
                    .collect();
                requests += asked.len();
                logged.extend(
                    effects.drain(..).filter_map(|e| if let Effect::Log(e) = e { Some(e) } else { None }),
                );
                for server in asked {
                    let answer = if self.is_silent {
                        Answer::Rejected(RejectReason::Timeout)
                    } else {
                        Answer::Sample(self.sample())
                    };
                    effects
                        .extend(self.machine.handle(Input::Answered { server, answer }, reading(self.now)));
                }
            }
            (logged, requests)
        }

        /// The origin of reference time.
        fn truth(&self) -> Wall {
            let (since, rate) = self.slow;
            reading(self.now).origin().plus(Offset::from_nanos(rate.over(self.now.since(since))))
        }

        fn sample(&self) -> Sample {
            let millisecond = Duration::from_millis(1);
            Sample {
                elapsed: millisecond,
                round_trip: millisecond,
                ..sample(self.now, self.truth(), Bound::from_nanos(1_000_000))
            }
        }

        /// A second later.
        fn observe(&mut self, clocksource: &str) -> (Vec<LogEvent>, usize) {
            self.now = self.now.plus(SECOND);
            self.feed(Input::Observed(Observation {
                now: reading(self.now),
                rtc: None,
                clock_set: None,
                vmclock: None,
                clocksource: Some(Clocksource::from_name(clocksource)),
                late: Duration::ZERO,
            }))
        }
    }

    fn reading(raw: Mono) -> Reading {
        Reading {
            wall: Wall::from_nanos(1_795_341_600_000_000_000 + raw.as_nanos()),
            raw,
            suspended: Duration::ZERO,
        }
    }

    #[test]
    fn another_clocksource_restarts_the_rate_and_the_polls() {
        let mut observed = Observed::new();
        let is_change = |e: &LogEvent| matches!(e, LogEvent::ClocksourceChanged { .. });
        // Until ten seconds after a poll of the regular rhythm.
        let mut idle = 0;
        for second in 0.. {
            let (logged, asked) = observed.observe("tsc");
            assert!(!logged.iter().any(is_change), "{logged:?}");
            idle = if asked == 0 { idle + 1 } else { 0 };
            if second > 300 && idle == 10 {
                break;
            }
        }
        let before = observed.machine.estimate.rate().bound();
        assert!(observed.machine.estimate.rate().is_known());

        let (logged, asked_at_once) = observed.observe("hpet");
        let change = LogEvent::ClocksourceChanged { before: "tsc".to_owned(), now: "hpet".to_owned() };
        assert_eq!(logged.iter().filter(|e| **e == change).count(), 1, "{logged:?}");
        assert_eq!(asked_at_once, 2, "polls start again");
        assert!(observed.machine.estimate.rate().bound() > before);
        let asked: usize = (0..8).map(|_| observed.observe("hpet").1).sum();
        assert!((4..=6).contains(&asked), "after 2 and 4 more seconds: {asked}");
        assert_eq!(observed.machine.counts.resumes, [0; Class::ALL.len()], "no disruption");
    }

    #[test]
    fn the_truth_stays_inside_when_another_clocksource_runs_at_another_rate() {
        for ppm in [-1_000, 300, 50_000] {
            let mut observed = Observed::new();
            for _ in 0..400 {
                observed.observe("tsc");
            }
            observed.slow = (observed.now, Ppb::from_ppm(ppm));
            for second in 1..300 {
                observed.observe("hpet");
                let now = reading(observed.now);
                let measured = observed.machine.estimate.measured(now).expect("a line");
                let error = observed.truth().minus(now.origin().plus(measured.offset)).as_nanos().abs();
                assert!(error <= measured.bound.as_nanos(), "{ppm} ppm, {second} s: {error} {measured:?}");
                assert!(
                    second < 30 || measured.bound.as_nanos() < 20_000_000,
                    "{ppm} ppm, {second} s: {measured:?}"
                );
            }
        }
    }

    #[test]
    fn until_the_next_answer_the_bound_allows_any_rate_since_the_old_clocksource_was_last_seen() {
        let mut observed = Observed::new();
        for _ in 0..400 {
            observed.observe("tsc");
        }
        observed.slow = (observed.now, Ppb::from_ppm(100_000));
        observed.is_silent = true;
        observed.observe("hpet");
        let now = reading(observed.now);
        let measured = observed.machine.estimate.measured(now).unwrap();
        let error = observed.truth().minus(now.origin().plus(measured.offset)).as_nanos().abs();
        assert!(error > 50_000_000 && error <= measured.bound.as_nanos(), "{error} {measured:?}");
        let rate = Rate::exactly(Ppb(0));
        let by_old_samples = observed.machine.rounds.candidates(now.raw, rate, SECOND * 600);
        assert_eq!(by_old_samples, [], "the next estimate rests on new samples alone");
    }

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
