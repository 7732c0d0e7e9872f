//! The last eight samples of one server, on the raw clock, and what they allow together.
//!
//! RFC 5905 section 10 lets the sample of least delay lead. Here each sample is an interval that holds the
//! truth, so all of them together are narrower than the best.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ntp::packet::Leap;
use crate::ntp::sample::Sample;
use crate::time::Mono;
use crate::time::interval::Interval;
use crate::time::rate::{Rate, mean_rate};

/// Samples kept per server (NSTAGE, RFC 5905 section 7.2).
const WINDOW_LEN: usize = 8;
/// Jumps among the last eight samples by which a server contradicts itself: a clock that was set jumps once.
const JUMPS_TO_INCONSISTENT: u32 = 2;
/// Bends among the last eight samples by which it does: a clock that was set bends twice, and one wrong sample three
/// times. Several clocks that answer in turn bend with almost every sample.
const BENDS_TO_INCONSISTENT: u32 = 4;

/// The last samples of one server.
#[derive(Clone, Debug, Default)]
pub struct Window {
    samples: VecDeque<Sample>,
    /// One bit for each of the last eight samples, the newest lowest: did it make the window jump?
    jumps: u8,
    /// The same: did the rate from the sample before to this one contradict the rate before that?
    bends: u8,
    /// The last sample and the rates that lead to it from the one before, also when the samples are forgotten.
    last: Option<(Mono, Interval, Option<Rate>)>,
}

impl Window {
    /// Takes a sample in.
    ///
    /// A single sample that contradicts the others does not count against them. When two in a row agree on another
    /// time, the server's clock was set, and the samples before are no evidence for the present.
    pub fn push(&mut self, sample: Sample, rate: Rate) {
        self.note_bend(&sample, rate);
        // What a step of this node's rate explains is no jump of the server's clock.
        let has_jumped = self.has_jumped(&sample, rate.with_step());
        self.jumps = (self.jumps << 1) | u8::from(has_jumped);
        if has_jumped && !self.is_inconsistent() {
            self.samples.drain(..self.samples.len() - 1);
        }
        if self.samples.len() == WINDOW_LEN {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Do this sample and the one before agree with each other, and contradict most of the rest?
    fn has_jumped(&self, sample: &Sample, rate: Rate) -> bool {
        let new = sample.interval(rate);
        let carried: Vec<Interval> = self.carried(sample.at, rate).collect();
        let Some((last, rest)) = carried.split_last() else { return false };
        let Some(of_rest) = deepest(rest) else { return false };
        last.meets(new) && !of_rest.meets(*last) && !of_rest.meets(new)
    }

    /// No rate of the raw clock, whatever it is, leads along a bend.
    fn note_bend(&mut self, sample: &Sample, rate: Rate) {
        let interval = sample.interval(rate);
        let (mut is_bent, mut leads_here) = (false, None);
        if let Some((at, older, before)) = self.last {
            leads_here = mean_rate(at, older, sample.at, interval, rate.wander());
            is_bent = before.zip(leads_here).is_some_and(|(a, b)| a.at(b.since()).intersection(b).is_none());
        }
        self.bends = (self.bends << 1) | u8::from(is_bent);
        self.last = Some((sample.at, interval, leads_here));
    }

    /// Removes all samples: the raw clock did not count all of the time.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Its contradictions so far are not its own: the raw clock has changed its rate, or lost time.
    pub fn forgive(&mut self) {
        (self.jumps, self.bends, self.last) = (0, 0, None);
    }

    /// Removes the samples from before `since`: the raw clock or all servers' time jumped.
    pub fn forget_before(&mut self, since: Mono) {
        self.samples.retain(|sample| sample.at >= since);
    }

    /// Does the server contradict itself?
    pub fn is_inconsistent(&self) -> bool {
        self.jumps.count_ones() >= JUMPS_TO_INCONSISTENT || self.bends.count_ones() >= BENDS_TO_INCONSISTENT
    }

    /// The origins that the samples younger than `stale_after` allow at `now`; `None`: there are none.
    ///
    /// Those that most of them share. Where that is undecided, and for a server that contradicts itself, all
    /// that any of them allows.
    pub fn interval(&self, now: Mono, rate: Rate, stale_after: Duration) -> Option<Interval> {
        let young = || self.samples.iter().filter(move |s| now.since(s.at) < stale_after);
        let carried = || young().map(|s| rate.carry(s.interval(rate), s.at, now));
        if self.is_inconsistent() {
            return carried().reduce(Interval::hull);
        }
        deepest(&carried().collect::<Vec<_>>())
    }

    fn carried(&self, now: Mono, rate: Rate) -> impl Iterator<Item = Interval> {
        self.samples.iter().map(move |s| rate.carry(s.interval(rate), s.at, now))
    }

    /// The sample of least bound at `now`, among those younger than `stale_after`.
    pub fn best(&self, now: Mono, rate: Rate, stale_after: Duration) -> Option<Sample> {
        let young = self.samples.iter().copied().filter(|s| now.since(s.at) < stale_after);
        young.min_by_key(|s| rate.carry(s.interval(rate), s.at, now).bound())
    }

    /// The newest sample.
    pub fn newest(&self) -> Option<&Sample> {
        self.samples.back()
    }

    /// The leap indicator of the newest sample.
    pub fn newest_leap(&self) -> Option<Leap> {
        self.newest().map(|s| s.leap)
    }
}

/// From the lowest to the highest point that the most of these intervals share; `None` without an interval.
fn deepest(intervals: &[Interval]) -> Option<Interval> {
    (1..=intervals.len()).rev().find_map(|count| Interval::shared_by(count, intervals))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use crate::test_support::Reached;
    use crate::time::{Bound, Ppb, Wall};
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const STALE: Duration = Duration::from_secs(600);

    /// A clock without wander, 100 ppm fast or slow at most.
    fn steady() -> Rate {
        Rate::exactly(Ppb(0))
    }

    fn at(secs: i64) -> Mono {
        Mono::from_nanos(secs * 1_000 * MS)
    }

    fn sample(secs: i64, origin_ms: i64, bound_ms: i64) -> Sample {
        Sample {
            round_trip: Duration::from_nanos((2 * bound_ms * MS).unsigned_abs()),
            ..fixtures::sample(at(secs), Wall::from_nanos(origin_ms * MS), Bound::from_nanos(bound_ms * MS))
        }
    }

    /// One sample a second, of ±`bound` ms around these origins.
    fn window(origins: &[i64], bound: i64) -> Window {
        let mut window = Window::default();
        for (secs, origin) in (0..).zip(origins) {
            window.push(sample(secs, *origin, bound), steady());
        }
        window
    }

    fn ends(window: &Window, now: i64) -> Option<(i64, i64)> {
        let interval = window.interval(at(now), steady(), STALE)?;
        // Carrying rounds outwards by a nanosecond or two.
        let ms = |wall: Wall| (wall.as_nanos() + MS / 2).div_euclid(MS);
        Some((ms(interval.low), ms(interval.high)))
    }

    #[test]
    fn samples_that_agree_are_narrower_together_than_the_best_alone() {
        assert_eq!(ends(&window(&[0, 6, -2], 10), 3), Some((-4, 8)));
        assert_eq!(window(&[0, 6, -2], 10).best(at(3), steady(), STALE), Some(sample(0, 0, 10)));
    }

    #[test]
    fn a_single_sample_against_the_rest_does_not_count() {
        assert_eq!(ends(&window(&[0, 0, 5_000], 10), 3), Some((-10, 10)));
        assert_eq!(ends(&window(&[0, 5_000], 10), 2), Some((-10, 5_010)), "one against one is undecided");
    }

    #[test]
    fn two_samples_in_a_row_that_agree_on_a_jump_win_against_the_rest() {
        let jumped = window(&[0, 0, 0, 5_000, 5_000], 10);
        assert_eq!(ends(&jumped, 5), Some((4_990, 5_010)));
        assert!(!jumped.is_inconsistent());
        assert_eq!(ends(&window(&[0, 0, 0, 5_000, 9_000], 10), 5), Some((-10, 10)), "they do not agree");
    }

    #[test]
    fn a_server_that_jumps_twice_in_eight_samples_contributes_all_that_it_reported() {
        let mut flips = window(&[0, 0, 0, 30, 30, 30, 0, 0], 10);
        assert!(flips.is_inconsistent());
        assert_eq!(ends(&flips, 8), Some((-10, 40)));
        for secs in 8..17 {
            flips.push(sample(secs, 0, 10), steady());
        }
        assert!(!flips.is_inconsistent(), "its samples agree for long enough");
        assert_eq!(ends(&flips, 17), Some((-10, 10)));
    }

    #[test]
    fn a_server_of_several_clocks_contradicts_itself_whatever_the_rate_is() {
        let bent = |origins: &[i64], rate: Rate| {
            let mut window = Window::default();
            for (secs, origin) in (0..).zip(origins) {
                window.push(sample(secs, *origin, 1), rate);
            }
            window.is_inconsistent()
        };
        for rate in [steady(), Rate::UNKNOWN] {
            assert!(bent(&[0, 30, 0, 30, 0, 30], rate), "in turn: four bends");
            assert!(!bent(&[0, 30, 0, 30, 0], rate), "three");
            assert!(bent(&[0, 0, 30, 30, 0, 30, 30], rate), "at random");
            assert!(!bent(&[0, 0, 0, 30, 0, 0, 0], rate), "one wrong sample");
            assert!(!bent(&[0, 0, 0, 30, 30, 30], rate), "a clock that was set");
            assert!(!bent(&[0, 0, 0, 70, 140, 210, 280], rate), "a rate of 7%");
            assert!(!bent(&[0, 1, 0, 1, 0, 1, 0, 1], rate), "within the bounds");
        }
        let mut window = Window::default();
        for (secs, origin) in (0..).zip([0, 30, 0, 30, 0, 30]) {
            window.push(sample(secs, origin, 1), Rate::UNKNOWN);
            window.forget_before(at(secs));
        }
        assert!(window.is_inconsistent(), "also when older samples are forgotten");
        window.forgive();
        assert!(!window.is_inconsistent());
    }

    #[test]
    fn a_sample_that_agrees_with_both_sides_of_a_jump_is_none() {
        // 14 ms agrees with the rest and with 28 ms, which does not agree with the rest.
        let mut window = window(&[0, 0, 0, 14, 28], 10);
        assert_eq!(window.samples.len(), 5);
        window.push(sample(5, 28, 10), steady());
        assert_eq!(window.samples.len(), 2, "the second that contradicts most of the rest");
    }

    #[test]
    fn servers_behind_one_address_that_alternate_contribute_both() {
        assert_eq!(ends(&window(&[0, 30, 0, 30, 0, 30, 0, 30], 10), 8), Some((-10, 40)));
    }

    #[test]
    fn windows_hold_eight_samples_and_forget_stale_ones() {
        let mut samples = window(&[0; 9], 10);
        assert_eq!(samples.samples.len(), 8);
        assert_eq!(samples.newest().map(|s| s.at), Some(at(8)));
        assert!(ends(&samples, 607).is_some() && ends(&samples, 608).is_none());
        samples.forget_before(at(7));
        assert_eq!(samples.samples.len(), 2);
    }

    /// The deepest region is that of a search point by point.
    #[test]
    fn deepest_is_that_of_a_brute_force_search() {
        let reached = Reached::new([("two deepest regions", 5), ("three deep or more", 20)]);
        proptest!(|(intervals in proptest::collection::vec((-20i64..20, 0i64..8), 1..9))| {
            let intervals: Vec<Interval> = intervals.into_iter().map(|(m, h)| Interval::around(Wall::from_nanos(m), Bound::from_nanos(h))).collect();
            let depth = |p: i64| intervals.iter().filter(|i| i.low.as_nanos() <= p && p <= i.high.as_nanos()).count();
            let most = (-40..40).map(depth).max().unwrap();
            let points: Vec<i64> = (-40..40).filter(|p| depth(*p) == most).collect();
            reached.case("two deepest regions", points.windows(2).any(|pair| pair[1] > pair[0] + 1));
            reached.case("three deep or more", most >= 3);
            let found = deepest(&intervals).unwrap();
            prop_assert_eq!((found.low.as_nanos(), found.high.as_nanos()), (points[0], points[points.len() - 1]));
        });
    }
}
