//! One server's last samples (RFC 5905 section 10): eight, on the raw clock; the one that tells most leads.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ntp::packet::Leap;
use crate::ntp::sample::Sample;
use crate::time::Mono;
use crate::time::line::{Frequency, Interval};

/// Samples kept per server (NSTAGE, RFC 5905 section 7.2).
const WINDOW: usize = 8;

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
    /// What it still says now.
    pub interval: Interval,
}

fn measured(sample: &Sample) -> Interval {
    Interval::around(sample.origin, sample.bound)
}

impl Window {
    /// Takes a sample in.
    ///
    /// Older ones that it contradicts go: both are true only if the raw clock ran through, so either that or the server's
    /// time jumped, and the past says nothing about the present.
    pub fn push(&mut self, sample: Sample, frequency: Frequency) {
        let new = measured(&sample);
        self.samples.retain(|old| frequency.carry(measured(old), old.at, sample.at).meets(new));
        if self.samples.len() == WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Forgets everything: the raw clock did not run through.
    pub fn clear(&mut self) {
        self.samples.clear();
    }

    /// The sample of least bound at `now`, among those younger than `stale_after`.
    ///
    /// RFC 5905 sorts by delay alone, since its clocks are disciplined; over 8 minutes ours may drift by more than any
    /// delay, so the age counts too.
    pub fn leader(&self, now: Mono, frequency: Frequency, stale_after: Duration) -> Option<Leader> {
        self.samples
            .iter()
            .filter(|s| now.since(s.at) < stale_after)
            .map(|&sample| Leader { sample, interval: frequency.carry(measured(&sample), sample.at, now) })
            .min_by_key(|leader| leader.interval.bound())
    }

    /// What the newest sample says of leap seconds.
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
    fn the_sample_of_least_delay_leads_over_a_slow_one_that_is_newer() {
        let led = leader(&[sample(0, 0, 2), sample(1, 30, 40)], 2).unwrap();
        assert_eq!(led.sample, sample(0, 0, 2));
    }

    #[test]
    fn but_not_for_ever_since_the_raw_clock_drifts() {
        let led = leader(&[sample(0, 0, 2), sample(300, 30, 40)], 301).unwrap();
        assert_eq!(led.sample, sample(300, 30, 40), "300 s at 200 ppm are 60 ms");
    }

    #[test]
    fn a_sample_that_contradicts_the_past_ends_it() {
        let led = leader(&[sample(0, 0, 2), sample(1, 5_000, 40)], 2).unwrap();
        assert_eq!(led.sample, sample(1, 5_000, 40));
    }

    #[test]
    fn only_eight_are_kept_and_none_that_is_stale() {
        let samples: Vec<Sample> = (0..9).map(|n| sample(n, 0, if n == 0 { 1 } else { 10 })).collect();
        assert_ne!(leader(&samples, 9).unwrap().sample, samples[0], "the ninth pushes the first out");
        assert_eq!(leader(&samples, 608), leader(&samples[8..], 608));
        assert_eq!(leader(&samples, 700), None);
    }
}
