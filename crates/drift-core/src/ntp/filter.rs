//! The last eight samples of one server, on the raw clock (RFC 5905 section 10). The sample of least bound
//! leads.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ntp::packet::Leap;
use crate::ntp::sample::Sample;
use crate::time::Mono;
use crate::time::line::{Frequency, Interval};

/// Samples kept per server (NSTAGE, RFC 5905 section 7.2).
const WINDOW_LEN: usize = 8;

/// The last samples of one server.
#[derive(Clone, Debug, Default)]
pub struct Window {
    samples: VecDeque<Sample>,
}

/// The sample that leads a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The sample as it was taken.
    pub sample: Sample,
    /// The origins that it allows now: wider than when it was taken.
    pub interval: Interval,
}

fn measured(sample: &Sample) -> Interval {
    Interval::around(sample.origin, sample.bound)
}

impl Window {
    /// Takes a sample in, and removes the older ones that it contradicts.
    ///
    /// Two samples that no oscillator could lead to have the raw clock or the server's time jump between
    /// them: the older one is no evidence for the present.
    pub fn push(&mut self, sample: Sample, frequency: Frequency) {
        let new = measured(&sample);
        self.samples.retain(|old| frequency.carry(measured(old), old.at, sample.at).meets(new));
        if self.samples.len() == WINDOW_LEN {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Removes all samples: the raw clock did not count all of the time.
    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// The sample of least bound at `now`, among those younger than `stale_after`.
    ///
    /// RFC 5905 sorts by delay alone, since its clocks are disciplined. The raw clock is not: within 8
    /// minutes it may drift by more than any delay, so that the age counts, too.
    pub fn leader(&self, now: Mono, frequency: Frequency, stale_after: Duration) -> Option<Leader> {
        self.samples
            .iter()
            .filter(|s| now.since(s.at) < stale_after)
            .map(|&sample| Leader { sample, interval: frequency.carry(measured(&sample), sample.at, now) })
            .min_by_key(|leader| leader.interval.bound())
    }

    /// The leap indicator of the newest sample.
    pub fn newest_leap(&self) -> Option<Leap> {
        self.samples.back().map(|s| s.leap)
    }

    /// When the newest sample was taken.
    pub fn newest(&self) -> Option<Mono> {
        self.samples.back().map(|s| s.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::packet::Leap;
    use crate::time::{Bound, Wall};

    const MS: i64 = 1_000_000;
    const STALE: Duration = Duration::from_secs(600);

    fn sample(secs: i64, origin_ms: i64, bound_ms: i64) -> Sample {
        Sample {
            at: Mono::from_nanos(secs * 1_000 * MS),
            origin: Wall::from_nanos(origin_ms * MS),
            bound: Bound::from_nanos(bound_ms * MS),
            round_trip: Duration::from_nanos((2 * bound_ms * MS).unsigned_abs()),
            root_distance: Duration::ZERO,
            stratum: 1,
            leap: Leap::None,
        }
    }

    fn leader(samples: &[Sample], now_secs: i64) -> Option<Leader> {
        let mut window = Window::default();
        for sample in samples {
            window.push(*sample, Frequency::UNKNOWN);
        }
        window.leader(Mono::from_nanos(now_secs * 1_000 * MS), Frequency::UNKNOWN, STALE)
    }

    #[test]
    fn samples_of_less_delay_lead_over_newer_ones() {
        let led = leader(&[sample(0, 0, 2), sample(1, 30, 40)], 2).unwrap();
        assert_eq!(led.sample, sample(0, 0, 2));
    }

    #[test]
    fn samples_of_less_delay_lose_the_lead_as_the_raw_clock_drifts() {
        let led = leader(&[sample(0, 0, 2), sample(300, 30, 40)], 301).unwrap();
        assert_eq!(led.sample, sample(300, 30, 40), "300 s at 200 ppm are 60 ms");
    }

    #[test]
    fn contradicted_older_samples_are_removed() {
        let led = leader(&[sample(0, 0, 2), sample(1, 5_000, 40)], 2).unwrap();
        assert_eq!(led.sample, sample(1, 5_000, 40));
    }

    #[test]
    fn windows_hold_eight_samples_and_no_stale_sample_leads() {
        let samples: Vec<Sample> = (0..9).map(|n| sample(n, 0, if n == 0 { 1 } else { 10 })).collect();
        assert_ne!(leader(&samples, 9).unwrap().sample, samples[0], "the ninth replaces the first");
        assert_eq!(leader(&samples, 608), leader(&samples[8..], 608));
        assert_eq!(leader(&samples, 700), None);
    }
}
