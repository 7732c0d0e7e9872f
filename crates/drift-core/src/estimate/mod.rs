//! What the reachable servers agree on, and the offset that follows from it.
//!
//! One interval per server goes in at the end of each round. Between the rounds the [`Estimate`] carries what
//! was agreed on to the present, along the reference line.

mod independence;
mod select;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

pub use self::independence::Independence;
pub use self::select::{Candidate, Combined, PoolInterval, combine, pool_intervals};
use crate::time::interval::Interval;
use crate::time::line::Line;
use crate::time::rate::{Rate, RateTracker, Refuted};
use crate::time::{Bound, Measurement, Mono, Offset, Reading, Wall};

/// What the offset rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Basis {
    /// Nothing was measured yet, or only servers that contradicted each other and are unreachable by now.
    Nothing,
    /// The servers agreed on this line, in the last round or before.
    Line(Line),
    /// The pools contradict each other; a line through all that any server allows.
    Contradiction(Line),
    /// The machine was suspended or paused, and nothing has been measured since.
    Disruption,
}

/// What the servers agreed on in the last round.
#[derive(Clone, Debug)]
struct Agreement {
    line: Line,
    pools: BTreeSet<usize>,
    falsetickers: BTreeSet<usize>,
}

/// The bound that a likely offset away from the middle may have, as a fraction of the bound around the middle.
const LIKELY_BOUND_SHARE: (i64, i64) = (3, 2);
/// Agreements that are kept: half an hour of them at the default interval, if `staleAfter` allows it.
const MAX_RECENT: usize = 32;

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
    /// What they agreed on in the rounds before, oldest first. Each holds the truth, so all together are
    /// narrower than the last: what one round with slow answers lacks, an earlier one has.
    recent: VecDeque<Recent>,
    rate: RateTracker,
}

/// What the servers agreed on in a round.
#[derive(Clone, Debug)]
struct Recent {
    at: Mono,
    interval: Interval,
    /// The same if the rate has not stepped, for the most likely point.
    if_steady: Interval,
    pools: BTreeSet<usize>,
}

impl Estimate {
    /// Without a measurement. A measurement of `stale_after` or older gives no offset.
    pub fn new(stale_after: Duration) -> Self {
        Self {
            stale_after,
            basis: Basis::Nothing,
            last_line: None,
            agreement: None,
            recent: VecDeque::new(),
            rate: RateTracker::default(),
        }
    }

    /// How much faster reference time runs than the raw clock, as far as it is known.
    pub fn rate(&self) -> Rate {
        self.rate.rate()
    }

    /// How often the rate was measured again from the start in the hour before it was last refuted.
    pub fn restarts(&self) -> usize {
        self.rate.restarts()
    }

    /// The rate, if the machine was paused in the last minutes.
    pub fn rate_if_paused(&self, now: Mono) -> Rate {
        self.rate.rate_if_paused(now)
    }

    /// Does what the newest samples alone agree on contradict what was measured before?
    pub fn is_contradicted_by(&self, newest: &Combined, now: Mono) -> bool {
        match (self.basis, newest) {
            (Basis::Line(line), Combined::Agree { interval, .. }) => !line.origin(now).meets(*interval),
            _ => false,
        }
    }

    /// Compares what the newest samples alone agree on with what was measured before. `Some`: the two contradict each
    /// other. Then the raw clock changed its rate, or lost time unnoticed, or the time of most servers jumped.
    pub fn check_newest(&mut self, newest: &Combined, now: Mono) -> Option<Refuted> {
        match newest {
            Combined::Agree { interval, pools, .. } if self.is_contradicted_by(newest, now) => {
                self.recent.clear();
                Some(self.rate.refute(now, *interval, pools))
            }
            _ => None,
        }
    }

    /// A round has ended with this, made of `candidates`. `Some`: it refutes the rate.
    ///
    /// `if_steady`: what the pools agree on if the rate has not stepped since their older samples. It is narrower, and
    /// shows where in the interval the truth most likely is.
    pub fn update(
        &mut self,
        combined: Combined,
        if_steady: Option<Interval>,
        candidates: &[Candidate],
        now: Mono,
    ) -> Option<Refuted> {
        self.agreement = None;
        let newest = |pools: Option<&BTreeSet<usize>>, interval: Interval| {
            let is_behind =
                |c: &&Candidate| pools.is_none_or(|p| p.contains(&c.pool)) && c.interval.meets(interval);
            candidates.iter().filter(is_behind).map(|c| c.newest).max().unwrap_or(now)
        };
        match combined {
            Combined::Agree { interval, pools, falsetickers } => {
                let if_steady =
                    if_steady.and_then(|steady| steady.intersection(interval)).unwrap_or(interval);
                // Narrower points show the rate better, and that it has stepped.
                let refuted = self.rate.push(now, if_steady, &pools).err();
                let newest = newest(Some(&pools), interval);
                let mut narrowed = self.narrowed(interval, if_steady, &pools, now);
                if is_against_a_pool(narrowed, &pools, candidates) {
                    // Wide pools that allow both must not hold an old time against a narrow one that has a new.
                    self.recent.clear();
                    narrowed = self.narrowed(interval, if_steady, &pools, now);
                }
                let likely = self.likely(narrowed, interval.bound(), now);
                let line = Line::new(now, narrowed, self.rate(), newest).through(likely);
                (self.basis, self.last_line) = (Basis::Line(line), Some(line));
                self.agreement = Some(Agreement { line, pools, falsetickers });
                return refuted;
            }
            Combined::Disagree { hull } => {
                self.recent.clear();
                // Whichever of them is right, the truth is inside.
                let pools = candidates.iter().map(|c| c.pool).collect();
                let refuted = self.rate.push(now, hull, &pools).err();
                self.basis = Basis::Contradiction(Line::new(now, hull, self.rate(), newest(None, hull)));
                return refuted;
            }
            // A line ages by itself. A contradiction ends with the servers that made it.
            Combined::Nothing if self.is_contradiction() => self.basis = Basis::Nothing,
            Combined::Nothing => {}
        }
        None
    }

    /// The part of `interval` that the rounds before allow, too, if the same pools made them. One that contradicts it is
    /// no evidence any more, and neither is one that one of these pools had no part in: what a pool gave alone must not
    /// hold against the majority that comes later. What a pool gave that is gone does not count while it is gone.
    fn narrowed(
        &mut self,
        interval: Interval,
        if_steady: Interval,
        pools: &BTreeSet<usize>,
        now: Mono,
    ) -> Interval {
        let (rate, stale_after) = (self.rate().with_step(), self.stale_after);
        let mut narrowed = interval;
        self.recent.retain(|recent| now.since(recent.at) < stale_after && recent.pools.is_superset(pools));
        self.recent.retain(|recent| {
            if recent.pools != *pools {
                return true;
            }
            let both = narrowed.intersection(rate.carry(recent.interval, recent.at, now));
            narrowed = both.unwrap_or(narrowed);
            both.is_some()
        });
        // A round is judged more than once.
        if self.recent.back().is_some_and(|recent| recent.at == now) {
            self.recent.pop_back();
        }
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { at: now, interval, if_steady, pools: pools.clone() });
        narrowed
    }

    /// The newest samples contradict the older ones. What was made of both is void; `combined` is made of the newest.
    pub fn replace(&mut self, combined: Combined, candidates: &[Candidate], now: Mono) {
        self.recent.clear();
        self.rate.forget_points();
        // There is no point that it could contradict.
        let _ = self.update(combined, None, candidates, now);
    }

    /// The most likely point of `narrowed`: the middle of what all rounds allow, if the rate is the middle of
    /// what it may be. The ends of old rounds are narrow only then, and with jitter they are better than new
    /// ones.
    ///
    /// From there to the farther end it is no more than [`LIKELY_BOUND_SHARE`] of `bound_max`.
    fn likely(&self, narrowed: Interval, bound_max: Bound, now: Mono) -> Wall {
        let rate = Rate::exactly(self.rate().middle());
        let carried = self.recent.iter().map(|recent| rate.carry(recent.if_steady, recent.at, now));
        let common = carried.map(Some).reduce(|all, one| all?.intersection(one?));
        let likely = common.flatten().unwrap_or(narrowed).middle();
        let bound = bound_max.max(narrowed.bound()).as_nanos();
        let farthest = Offset::from_nanos(bound.saturating_mul(LIKELY_BOUND_SHARE.0) / LIKELY_BOUND_SHARE.1);
        let lowest = narrowed.high.plus(Offset::from_nanos(-farthest.as_nanos())).max(narrowed.low);
        likely.clamp(lowest, narrowed.low.plus(farthest).min(narrowed.high).max(lowest))
    }

    /// The machine was suspended or paused, so the raw clock did not run all the time: all that was measured
    /// is void. `is_moved`: the machine may run on other hardware.
    pub fn disrupt(&mut self, is_moved: bool, now: Mono) {
        self.basis = Basis::Disruption;
        (self.last_line, self.agreement) = (None, None);
        self.recent.clear();
        if is_moved {
            self.rate.reset(now);
        } else {
            self.rate.handle_pause(now);
        }
    }

    /// The raw clock has another rate since a time after `since`, which is not known. What was measured holds
    /// until `since`; from there on any rate is possible.
    pub fn handle_other_clock(&mut self, since: Mono, now: Mono) {
        self.rate.reset(now);
        self.recent.clear();
        let rate = self.rate();
        let forget_rate = |line: Line| line.with_rate_from(since, rate);
        self.basis = match self.basis {
            Basis::Line(line) => Basis::Line(forget_rate(line)),
            Basis::Contradiction(line) => Basis::Contradiction(forget_rate(line)),
            other @ (Basis::Nothing | Basis::Disruption) => other,
        };
        self.last_line = self.last_line.map(forget_rate);
        if let Some(agreement) = &mut self.agreement {
            agreement.line = forget_rate(agreement.line);
        }
    }

    /// The offset now, if there is a line that is young enough.
    pub fn measured(&self, now: Reading) -> Option<Measurement> {
        match self.basis {
            Basis::Line(line) if line.age(now.raw) < self.stale_after => Some(line.offset(now)),
            _ => None,
        }
    }

    /// All that the pools allow which contradict each other: the true offset is in it if one of them is right.
    pub fn contradiction(&self, now: Reading) -> Option<Measurement> {
        match self.basis {
            Basis::Contradiction(line) => Some(line.offset(now)),
            _ => None,
        }
    }

    /// Does the offset rest on a line, however old?
    pub fn has_line(&self) -> bool {
        matches!(self.basis, Basis::Line(_))
    }

    /// Did the pools contradict each other when they were last heard?
    pub fn is_contradiction(&self) -> bool {
        matches!(self.basis, Basis::Contradiction(_))
    }

    /// Was the machine suspended or paused, and nothing measured since?
    pub fn is_disrupted(&self) -> bool {
        self.basis == Basis::Disruption
    }

    /// Reference time now, by the last line, however old.
    pub fn reference(&self, now: Reading) -> Option<Wall> {
        self.last_line.map(|line| line.reference(now))
    }

    /// Age of the newest sample behind the last line, or behind a contradiction.
    pub fn age(&self, now: Mono) -> Option<Duration> {
        match self.basis {
            Basis::Contradiction(line) => Some(line.age(now)),
            _ => self.last_line.map(|line| line.age(now)),
        }
    }

    /// The interval that the servers agreed on in the last round, carried to `now`. A server outside is a
    /// falseticker.
    pub fn agreed(&self, now: Mono) -> Option<Interval> {
        self.agreement.as_ref().map(|agreement| agreement.line.origin(now))
    }

    /// How many pools agreed in the last round.
    pub fn pools_agreeing(&self) -> usize {
        self.agreement.as_ref().map_or(0, |agreement| agreement.pools.len())
    }

    /// Was this pool outside of what the majority of pools agreed on in the last round?
    pub fn is_falseticker(&self, pool: usize) -> bool {
        self.agreement.as_ref().is_some_and(|agreement| agreement.falsetickers.contains(&pool))
    }
}

/// Is a pool that is part of the agreement outside of `narrowed` with all its servers?
fn is_against_a_pool(narrowed: Interval, pools: &BTreeSet<usize>, candidates: &[Candidate]) -> bool {
    let is_outside = |pool: &usize| {
        let mut own = candidates.iter().filter(|c| c.pool == *pool).peekable();
        own.peek().is_some() && own.all(|c| !c.interval.meets(narrowed))
    };
    pools.iter().any(is_outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const STALE_AFTER: Duration = Duration::from_secs(300);

    /// The wall clock reads what the raw clock does.
    fn at(secs: i64) -> Reading {
        Reading {
            wall: Wall::from_secs(secs),
            raw: Mono::from_nanos(secs * SECOND),
            suspended: Duration::ZERO,
        }
    }

    fn interval(behind_secs: i64) -> Interval {
        Interval::around(Wall::from_secs(behind_secs), Bound::from_nanos(1_000_000))
    }

    /// Two pools agree that the node is this far behind, to ±1 ms.
    fn agree(behind_secs: i64) -> Combined {
        Combined::Agree {
            interval: interval(behind_secs),
            pools: BTreeSet::from([0, 1]),
            falsetickers: BTreeSet::new(),
        }
    }

    fn disagree() -> Combined {
        Combined::Disagree { hull: interval(0).hull(interval(9)) }
    }

    /// An estimate after these rounds, one a minute.
    fn after(rounds: impl IntoIterator<Item = Combined>) -> Estimate {
        let mut estimate = Estimate::new(STALE_AFTER);
        for (minute, combined) in (0..).zip(rounds) {
            estimate.update(combined, None, &[], at(minute * 60).raw);
        }
        estimate
    }

    fn is_about(offset: Offset, secs: i64) -> bool {
        (offset.as_nanos() - secs * SECOND).abs() < 1_000_000
    }

    #[test]
    fn an_agreement_gives_an_offset_until_it_is_stale_and_reference_time_for_longer() {
        let estimate = after([agree(3)]);
        assert!(is_about(estimate.measured(at(299)).unwrap().offset, 3));
        assert_eq!(estimate.measured(at(300)), None);
        assert!(
            estimate.reference(at(300)).unwrap().minus(Wall::from_secs(303)).magnitude()
                < Duration::from_millis(1)
        );
        assert_eq!(estimate.age(at(300).raw), Some(Duration::from_secs(300)));
    }

    #[test]
    fn the_age_is_that_of_the_newest_sample_inside_the_agreement() {
        let of = |pool, behind, newest| Candidate {
            pool,
            server: crate::ntp::server::ServerId(1),
            interval: interval(behind),
            newest: at(newest).raw,
        };
        let mut estimate = Estimate::new(STALE_AFTER);
        estimate.update(
            agree(3),
            None,
            &[of(0, 3, 50), of(1, 3, 40), of(0, 9, 58), of(2, 3, 59)],
            at(60).raw,
        );
        assert_eq!(estimate.age(at(60).raw), Some(Duration::from_secs(10)));
    }

    #[test]
    fn rounds_narrow_each_other_unless_they_are_stale_or_contradict_a_pool() {
        let wide = |middle_ms: i64, half_ms: i64| {
            Interval::around(Wall::from_nanos(middle_ms * 1_000_000), Bound::from_nanos(half_ms * 1_000_000))
        };
        let round = |estimate: &mut Estimate, secs: i64, interval: Interval, near: Interval| {
            let pools = BTreeSet::from([0, 1]);
            let of = |pool, interval| Candidate {
                pool,
                server: crate::ntp::server::ServerId(1),
                interval,
                newest: at(secs).raw,
            };
            let candidates = [of(0, interval), of(1, near)];
            estimate.update(
                Combined::Agree { interval, pools, falsetickers: BTreeSet::new() },
                None,
                &candidates,
                at(secs).raw,
            );
            estimate.agreed(at(secs).raw).unwrap()
        };
        // A rate that is known well, for which the rounds are two hours apart.
        let mut estimate = Estimate::new(Duration::from_secs(600));
        for hour in 0..3 {
            round(&mut estimate, hour * 7_200, wide(0, 1), wide(0, 1));
        }
        let start = 2 * 7_200 + 10;
        let both = round(&mut estimate, start, wide(50, 60), wide(50, 60));
        assert!(both.bound() < Bound::from_nanos(15_000_000), "-10..1 ms and what the rate adds: {both:?}");
        let stale = round(&mut estimate, start + 6_000, wide(50, 60), wide(50, 60));
        assert_eq!(stale, wide(50, 60));
        let near = wide(90, 2);
        round(&mut estimate, start + 6_010, wide(0, 10), wide(0, 10));
        let against = round(&mut estimate, start + 6_020, wide(50, 60), near);
        assert_eq!(against, wide(50, 60), "the near pool is at 90 ms");
    }

    fn around(middle_ms: i64, half_ms: i64) -> Interval {
        Interval::around(Wall::from_nanos(middle_ms * 1_000_000), Bound::from_nanos(half_ms * 1_000_000))
    }

    fn agree_on(interval: Interval, pools: &[usize]) -> Combined {
        Combined::Agree { interval, pools: pools.iter().copied().collect(), falsetickers: BTreeSet::new() }
    }

    #[test]
    fn what_was_agreed_on_before_a_contradiction_narrows_nothing_after_it() {
        let mut estimate = Estimate::new(Duration::from_secs(600));
        estimate.update(agree_on(around(0, 1), &[0, 1]), None, &[], at(0).raw);
        estimate.update(Combined::Disagree { hull: around(0, 900) }, None, &[], at(2).raw);
        estimate.update(agree_on(around(60, 70), &[0, 1]), None, &[], at(4).raw);
        assert_eq!(estimate.agreed(at(4).raw), Some(around(60, 70)));
    }

    #[test]
    fn a_round_narrows_later_ones_only_if_the_same_pools_made_it() {
        let narrowed = |first: &[usize], second: &[usize]| {
            let mut estimate = Estimate::new(Duration::from_secs(600));
            for hour in 0..3 {
                estimate.update(agree_on(around(0, 1), &[0, 1, 2]), None, &[], at(hour * 7_200).raw);
            }
            let start = 3 * 7_200;
            estimate.update(agree_on(around(50, 9), first), None, &[], at(start).raw);
            estimate.update(agree_on(around(0, 75), second), None, &[], at(start + 2).raw);
            estimate.agreed(at(start + 2).raw).unwrap().bound() < Bound::from_nanos(15_000_000)
        };
        assert!(narrowed(&[0, 1], &[0, 1]) && !narrowed(&[0, 1, 2], &[0, 1]));
        assert!(!narrowed(&[2], &[0, 1, 2]) && !narrowed(&[1, 2], &[0, 1, 2]) && !narrowed(&[2], &[0]));
    }

    /// Before the newest samples contradict the older ones: both allow -1..3 ms.
    #[test]
    fn rounds_before_a_step_of_the_rate_by_480_ppm_do_not_cut_the_truth_off() {
        let mut estimate = Estimate::new(Duration::from_secs(600));
        for secs in [0, 7_200, 14_400, 21_600] {
            estimate.update(agree_on(around(0, 1), &[0, 1]), None, &[], at(secs).raw);
        }
        let step = 21_600;
        estimate.update(agree_on(around(5, 6), &[0, 1]), None, &[], at(step + 20).raw);
        let truth = Wall::from_nanos(20 * 480_000);
        assert!(estimate.agreed(at(step + 20).raw).unwrap().high >= truth, "9.6 ms");
    }

    #[test]
    fn the_likely_offset_widens_the_bound_by_half_at_most() {
        let mut estimate = Estimate::new(Duration::from_secs(600));
        for hour in 0..3 {
            estimate.update(agree_on(around(0, 1), &[0, 1]), None, &[], at(hour * 7_200).raw);
        }
        let start = 3 * 7_200;
        // At the likely rate the two have 9 to 10 ms in common; 300 s at 500 ppm allow all of the second.
        estimate.update(agree_on(around(59, 50), &[0, 1]), None, &[], at(start).raw);
        estimate.update(agree_on(around(0, 10), &[0, 1]), None, &[], at(start + 300).raw);
        let measured = estimate.measured(at(start + 300)).unwrap();
        assert!((14_999_000..15_000_002).contains(&measured.bound.as_nanos()), "{measured}");
    }

    #[test]
    fn a_contradiction_ends_the_offset_but_not_reference_time() {
        let estimate = after([agree(3), disagree()]);
        assert!(estimate.is_contradiction());
        assert_eq!((estimate.measured(at(61)), estimate.pools_agreeing()), (None, 0));
        let hull = estimate.contradiction(at(60)).unwrap();
        assert_eq!(
            (hull.offset.as_nanos(), hull.bound.as_nanos()),
            (9 * SECOND / 2, 9 * SECOND / 2 + 1_000_000)
        );
        assert!(estimate.reference(at(61)).is_some());
    }

    #[test]
    fn unreachable_servers_end_a_contradiction_and_leave_a_line() {
        let estimate = after([disagree(), Combined::Nothing]);
        assert!(!estimate.is_contradiction() && !estimate.has_line());
        let estimate = after([agree(3), Combined::Nothing]);
        assert!(estimate.has_line() && estimate.measured(at(61)).is_some());
        assert_eq!((estimate.pools_agreeing(), estimate.agreed(at(61).raw)), (0, None));
    }

    #[test]
    fn a_disruption_voids_the_line_and_keeps_the_rate_unless_the_machine_has_moved() {
        let mut estimate = after((0..5).map(|_| agree(0)));
        let before = estimate.rate();
        assert!(before.is_known() && estimate.pools_agreeing() == 2);
        estimate.disrupt(false, at(241).raw);
        assert!(estimate.is_disrupted() && estimate.rate().is_known());
        assert!(estimate.rate().bound() > before.bound());
        assert_eq!((estimate.measured(at(241)), estimate.reference(at(241))), (None, None));
        estimate.update(Combined::Nothing, None, &[], at(300).raw);
        assert!(estimate.is_disrupted(), "an empty round measures nothing");
        estimate.update(agree(20), None, &[], at(360).raw);
        assert!(!estimate.is_disrupted() && estimate.measured(at(360)).is_some());
        estimate.disrupt(true, at(361).raw);
        assert!(!estimate.rate().is_known());
    }

    #[test]
    fn another_clock_leaves_the_line_and_voids_the_rate_since_it_was_last_seen() {
        let mut estimate = after((0..5).map(|_| agree(3)));
        let before = estimate.measured(at(250)).unwrap();
        estimate.handle_other_clock(at(249).raw, at(250).raw);
        assert!(!estimate.rate().is_known());
        let measured = estimate.measured(at(250)).unwrap();
        assert!(is_about(measured.offset, 3));
        // A second at 12%.
        let wider = measured.bound.as_nanos() - before.bound.as_nanos();
        assert!((115_000_000..125_000_000).contains(&wider), "{wider}");
        assert!(estimate.agreed(at(250).raw).is_some() && estimate.reference(at(250)).is_some());
        let mut contradiction = after([disagree()]);
        contradiction.handle_other_clock(at(0).raw, at(1).raw);
        assert!(contradiction.contradiction(at(1)).unwrap().bound.as_nanos() > 9 * SECOND / 2 + 100_000_000);
    }

    #[test]
    fn newest_samples_refute_a_line_that_does_not_lead_to_them() {
        let mut estimate = after((0..5).map(|_| agree(0)));
        assert_eq!(estimate.check_newest(&agree(0), at(300).raw), None);
        assert_eq!(estimate.check_newest(&disagree(), at(300).raw), None, "no majority");
        assert!(estimate.rate().is_known());
        assert_eq!(estimate.check_newest(&agree(1), at(300).raw), Some(Refuted::Restart));
        assert!(!estimate.rate().is_known());
    }
}
