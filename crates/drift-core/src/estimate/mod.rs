//! What the reachable servers agree on, and the offset that follows from it.
//!
//! One interval per server goes in at the end of each round. Between the rounds the [`Estimate`] carries what
//! was agreed on to the present, along the reference line.

mod select;

use std::time::Duration;

pub use self::select::{Candidate, Combined, combine, majority};
use crate::time::line::{Frequency, FrequencyTracker, Interval, Line};
use crate::time::{Measurement, Mono, Reading, Wall};

/// What the offset rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Basis {
    /// Nothing was measured yet, or only servers that contradicted each other and are unreachable by now.
    Nothing,
    /// The servers agreed on this line, in the last round or before.
    Line(Line),
    /// The servers contradict each other.
    Contradiction,
    /// The machine was suspended or paused, and nothing has been measured since.
    Disruption,
}

/// The last intervals that the servers agreed on.
#[derive(Clone, Copy, Debug)]
struct Agreement {
    at: Mono,
    interval: Interval,
    /// Pools with a reachable server inside.
    pools: usize,
}

/// The offset of the node over time.
#[derive(Debug)]
pub struct Estimate {
    /// Age from which a line gives no offset.
    stale_after: Duration,
    basis: Basis,
    /// The last line, for the times that are published. A contradiction does not end it, a disruption does.
    last_line: Option<Line>,
    /// `None` unless the servers agreed in the last round.
    agreement: Option<Agreement>,
    oscillator: FrequencyTracker,
}

impl Estimate {
    /// Without a measurement. A measurement of `stale_after` or older gives no offset.
    pub fn new(stale_after: Duration) -> Self {
        Self {
            stale_after,
            basis: Basis::Nothing,
            last_line: None,
            agreement: None,
            oscillator: FrequencyTracker::default(),
        }
    }

    /// How much faster reference time runs than the raw clock, as far as it is known.
    pub fn frequency(&self) -> Frequency {
        self.oscillator.frequency()
    }

    /// A round has ended with this. `newest_sample`: when the newest sample behind it was taken; `spacing`:
    /// the least time between two points of the frequency.
    pub fn update(&mut self, combined: Combined, newest_sample: Option<Mono>, spacing: Duration, now: Mono) {
        self.agreement = None;
        match combined {
            Combined::Agree { interval, pools } => {
                self.oscillator.push(now, interval, spacing);
                let line = Line::new(now, interval, self.frequency(), newest_sample.unwrap_or(now));
                (self.basis, self.last_line) = (Basis::Line(line), Some(line));
                self.agreement = Some(Agreement { at: now, interval, pools });
            }
            Combined::Disagree => self.basis = Basis::Contradiction,
            // A line ages by itself. A contradiction ends with the servers that made it.
            Combined::Nothing if self.is_contradiction() => self.basis = Basis::Nothing,
            Combined::Nothing => {}
        }
    }

    /// The machine was suspended or paused, so the raw clock did not run all the time: all that was measured
    /// is void.
    pub fn disrupt(&mut self) {
        self.basis = Basis::Disruption;
        (self.last_line, self.agreement) = (None, None);
        self.oscillator.clear();
    }

    /// The offset now, if there is a line that is young enough.
    pub fn measured(&self, now: Reading) -> Option<Measurement> {
        match self.basis {
            Basis::Line(line) if line.age(now.raw) < self.stale_after => Some(line.offset(now)),
            _ => None,
        }
    }

    /// Does the offset rest on a line, however old?
    pub fn has_line(&self) -> bool {
        matches!(self.basis, Basis::Line(_))
    }

    /// Did the servers contradict each other when they were last heard?
    pub fn is_contradiction(&self) -> bool {
        self.basis == Basis::Contradiction
    }

    /// Was the machine suspended or paused, and nothing measured since?
    pub fn is_disrupted(&self) -> bool {
        self.basis == Basis::Disruption
    }

    /// Reference time now, by the last line, however old.
    pub fn reference(&self, now: Reading) -> Option<Wall> {
        self.last_line.map(|line| line.reference(now))
    }

    /// Age of the newest sample behind the last line.
    pub fn age(&self, now: Mono) -> Option<Duration> {
        self.last_line.map(|line| line.age(now))
    }

    /// The interval that the servers agreed on in the last round, carried to `now`. A server outside is a
    /// falseticker.
    pub fn agreed(&self, now: Mono) -> Option<Interval> {
        self.agreement.map(|agreement| self.frequency().carry(agreement.interval, agreement.at, now))
    }

    /// Pools with a reachable server inside what the servers agreed on in the last round.
    pub fn pools_agreeing(&self) -> usize {
        self.agreement.map_or(0, |agreement| agreement.pools)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Bound, Offset};

    const SECOND: i64 = 1_000_000_000;
    const SPACING: Duration = Duration::from_secs(64);
    const STALE_AFTER: Duration = Duration::from_secs(300);

    /// The wall clock reads what the raw clock does.
    fn at(secs: i64) -> Reading {
        Reading {
            wall: Wall::from_secs(secs),
            raw: Mono::from_nanos(secs * SECOND),
            suspended: Duration::ZERO,
        }
    }

    /// Two pools agree that the node is this far behind, to ±1 ms.
    fn agree(behind_secs: i64) -> Combined {
        let interval = Interval::around(Wall::from_secs(behind_secs), Bound::from_nanos(1_000_000));
        Combined::Agree { interval, pools: 2 }
    }

    /// An estimate after these rounds, one a minute.
    fn after(rounds: impl IntoIterator<Item = Combined>) -> Estimate {
        let mut estimate = Estimate::new(STALE_AFTER);
        for (minute, combined) in (0..).zip(rounds) {
            estimate.update(combined, None, SPACING, at(minute * 60).raw);
        }
        estimate
    }

    #[test]
    fn an_agreement_gives_an_offset_until_it_is_stale_and_reference_time_for_longer() {
        let estimate = after([agree(3)]);
        assert_eq!(estimate.measured(at(299)).unwrap().offset, Offset::from_nanos(3 * SECOND));
        assert_eq!(estimate.measured(at(300)), None);
        assert_eq!(estimate.reference(at(300)), Some(Wall::from_secs(303)));
        assert_eq!(estimate.age(at(300).raw), Some(Duration::from_secs(300)));
    }

    #[test]
    fn a_contradiction_ends_the_offset_but_not_reference_time() {
        let estimate = after([agree(3), Combined::Disagree]);
        assert!(estimate.is_contradiction());
        assert_eq!((estimate.measured(at(61)), estimate.pools_agreeing()), (None, 0));
        assert_eq!(estimate.reference(at(61)), Some(Wall::from_secs(64)));
    }

    #[test]
    fn unreachable_servers_end_a_contradiction_and_leave_a_line() {
        let estimate = after([Combined::Disagree, Combined::Nothing]);
        assert!(!estimate.is_contradiction() && !estimate.has_line());
        let estimate = after([agree(3), Combined::Nothing]);
        assert!(estimate.has_line() && estimate.measured(at(61)).is_some());
        assert_eq!((estimate.pools_agreeing(), estimate.agreed(at(61).raw)), (0, None));
    }

    #[test]
    fn a_disruption_voids_the_line_and_the_frequency_until_the_next_agreement() {
        let mut estimate = after((0..5).map(|_| agree(0)));
        assert!(estimate.frequency().is_known() && estimate.pools_agreeing() == 2);
        estimate.disrupt();
        assert!(estimate.is_disrupted() && !estimate.frequency().is_known());
        assert_eq!((estimate.measured(at(241)), estimate.reference(at(241))), (None, None));
        estimate.update(Combined::Nothing, None, SPACING, at(300).raw);
        assert!(estimate.is_disrupted(), "an empty round measures nothing");
        estimate.update(agree(20), None, SPACING, at(360).raw);
        assert!(!estimate.is_disrupted() && estimate.measured(at(360)).is_some());
    }

    #[test]
    fn an_agreement_is_carried_along_with_a_growing_bound() {
        let estimate = after([agree(0)]);
        let (first, later) = (estimate.agreed(at(0).raw).unwrap(), estimate.agreed(at(100).raw).unwrap());
        assert_eq!(first.bound(), Bound::from_nanos(1_000_000));
        assert_eq!(later.bound(), Bound::from_nanos(21_000_000), "200 ppm for 100 s");
    }
}
