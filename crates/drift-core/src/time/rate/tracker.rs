//! The rate over time: what the intervals that the servers agreed on show together.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{HOUR, MAX_RATE, Rate, WANDER, mean_rate};
use crate::time::interval::Interval;
use crate::time::{Mono, Ppb, nanos};

/// How far the rate may differ after a pause: the machine may run on other hardware. The kernel corrects no
/// clock by more (MAXFREQ in linux/timex.h).
const AFTER_PAUSE: Ppb = Ppb::from_ppm(500);
/// Points that a [`RateTracker`] keeps.
const MAX_POINTS: usize = 32;
/// How often in an hour a refuted rate is measured from the start again. After that it widens.
const RESTARTS_AN_HOUR: usize = 3;
/// A pause is found out about within this time, by the hardware clock or by the servers.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(300);
/// Before a pause is found out about it may have bent a rate that was wide: within this time, in the regular case.
const BENT_WITHIN: Duration = Duration::from_secs(60);
/// Points before the one that gives a first rate that is not [`ORDINARY`]. Two servers' times in turn give a rate,
/// too, and the third point shows that it is none.
const POINTS_TO_LEARN: u8 = 2;
/// Points that must agree with a widened rate before later ones narrow it: it may be as before at any time.
const POINTS_TO_NARROW: u8 = 2;

/// The rate over time.
#[derive(Clone, Debug)]
pub struct RateTracker {
    rate: Rate,
    /// What the servers agreed on, oldest first.
    points: VecDeque<Point>,
    /// When the rate was measured again from the start, in the last hour.
    restarts: VecDeque<Mono>,
    /// Points until the rate is narrowed again.
    hold: u8,
    /// When the wander last changed.
    wander_changed: Mono,
    /// The rate of the clock before it was last refuted, and when that was. A pause that is found out about later
    /// explains it.
    before: Option<(Mono, Rate)>,
    /// When it became known after it was not.
    learnt_at: Option<Mono>,
    /// The last rate that was wider than [`AFTER_PAUSE`], and when a narrower one followed.
    wide: Option<(Mono, Rate)>,
}

/// What the servers agreed on.
#[derive(Clone, Debug)]
struct Point {
    at: Mono,
    origin: Interval,
    pools: BTreeSet<usize>,
}

/// What a refuted rate leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Refuted {
    /// It is measured again: polls start from the shortest wait.
    Restart,
    /// It was refuted too often: it is taken to change faster.
    Widened,
}

impl Default for RateTracker {
    fn default() -> Self {
        Self {
            rate: Rate::UNKNOWN,
            points: VecDeque::new(),
            restarts: VecDeque::new(),
            hold: POINTS_TO_LEARN,
            wander_changed: Mono::from_nanos(0),
            before: None,
            learnt_at: None,
            wide: None,
        }
    }
}

impl RateTracker {
    /// The rate, as it was last measured.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes in what the servers agreed on at `now`. `Err`: no rate leads from the earlier points to this
    /// one; the tracker has started again with it.
    ///
    /// `pools`: those that agreed. Earlier points that one of them had no part in do not count any more: most of those
    /// that supported such a point may be wrong although most of these are right.
    ///
    /// Not a regression: two true intervals bound the mean rate between them, for any noise. The rate now
    /// differs from a mean by what it wanders from the middle of the span to its end.
    pub fn push(&mut self, now: Mono, origin: Interval, pools: &BTreeSet<usize>) -> Result<(), Refuted> {
        self.calm_down(now);
        self.points.retain(|point| point.pools.is_superset(pools));
        let rate = self.points.iter().try_fold(self.rate.at(now), |rate, point| {
            match mean_rate(point.at, point.origin, now, origin, self.rate.wander) {
                Some(mean) => rate.intersection(mean),
                None => Some(rate),
            }
        });
        let Some(rate) = rate else { return Err(self.refute(now, origin, pools)) };
        let is_learnt = !self.rate.is_known() && rate.is_known() && rate.is_ordinary();
        if self.hold == 0 || is_learnt {
            if !self.rate.is_known() && rate.is_known() {
                self.learnt_at = Some(now);
            }
            if self.rate.bound() > AFTER_PAUSE {
                self.wide = Some((now, self.rate));
            }
            (self.rate, self.hold) = (rate, 0);
        }
        if self.points.back().is_none_or(|last| now > last.at) {
            self.hold = self.hold.saturating_sub(1);
            self.points.push_back(Point { at: now, origin, pools: pools.clone() });
        }
        self.thin_out(now);
        Ok(())
    }

    /// What the servers agree on (`origin`) is not where the rate leads to.
    pub fn refute(&mut self, now: Mono, origin: Interval, pools: &BTreeSet<usize>) -> Refuted {
        self.restarts.retain(|at| now.since(*at) < HOUR);
        if self.rate.is_known() && self.is_of_the_clock(now) {
            self.before = Some((now, self.rate));
        }
        let last = self.points.pop_back();
        self.points.clear();
        self.points.push_back(Point { at: now, origin, pools: pools.clone() });
        if self.restarts.len() < RESTARTS_AN_HOUR {
            self.restarts.push_back(now);
            self.rate = Rate { wander: self.rate.wander, ..Rate::UNKNOWN.at(now) };
            self.hold = POINTS_TO_LEARN;
            return Refuted::Restart;
        }
        let wander = Ppb(self.rate.wander.0.saturating_mul(2).min(MAX_RATE.0));
        self.wander_changed = now;
        self.hold = POINTS_TO_NARROW;
        let seen = last.and_then(|last| mean_rate(last.at, last.origin, now, origin, wander));
        let rate = Rate { wander, ..self.rate.at(now) };
        self.rate =
            seen.map_or(Rate { wander, ..Rate::UNKNOWN.at(now) }, |seen| rate.hull(seen).within_max());
        Refuted::Widened
    }

    /// How often it was measured again from the start in the hour before it was last refuted.
    pub fn restarts(&self) -> usize {
        self.restarts.len()
    }

    /// The raw clock did not count all of the time. The machine may run on other hardware since.
    pub fn handle_pause(&mut self, now: Mono) {
        self.points.clear();
        let rate = self.rate_if_paused(now).at(now).widened(AFTER_PAUSE.0);
        let wide = self.wide.filter(|(at, _)| now.since(*at) < BENT_WITHIN);
        self.rate = wide.map_or(rate, |(_, wide)| rate.hull(wide.at(now))).within_max();
    }

    /// The rate, if what has refuted it in the last minutes was a pause, which changes no rate.
    pub fn rate_if_paused(&self, now: Mono) -> Rate {
        match self.before {
            Some((at, rate)) if now.since(at) < EXPLAINED_WITHIN => rate,
            _ if self.is_of_the_clock(now) => self.rate,
            _ => Rate::UNKNOWN.at(now),
        }
    }

    /// Is the rate certainly that of the clock? One that is not ordinary, and was first learnt in the last minutes, may
    /// be that of a pause.
    fn is_of_the_clock(&self, now: Mono) -> bool {
        self.rate.is_ordinary() || self.learnt_at.is_none_or(|at| now.since(at) >= EXPLAINED_WITHIN)
    }

    /// Another clock counts now, so nothing is known of its rate.
    pub fn reset(&mut self, now: Mono) {
        self.points.clear();
        (self.rate, self.hold) = (Rate::UNKNOWN.at(now), POINTS_TO_LEARN);
        (self.before, self.learnt_at, self.wide) = (None, None, None);
    }

    /// What the servers agreed on so far is no evidence any more: it was made of samples that contradict the new ones.
    pub fn forget_points(&mut self) {
        self.points.clear();
    }

    /// Halves a wander that nothing has refuted for an hour.
    fn calm_down(&mut self, now: Mono) {
        if self.rate.wander > WANDER && now.since(self.wander_changed) >= HOUR {
            self.rate.wander = Ppb((self.rate.wander.0 / 2).max(WANDER.0));
            self.wander_changed = now;
        }
    }

    /// Keeps the points spread by their age: half of them are of the last minutes, and the oldest may be of
    /// hours ago. A wide interval needs a long base, a narrow one a short.
    fn thin_out(&mut self, now: Mono) {
        if self.points.len() <= MAX_POINTS {
            return;
        }
        let age = |index: usize| self.points.get(index).map_or(0, |point| nanos(now.since(point.at)));
        let crowded = (1..self.points.len() - 1).min_by_key(|&index| {
            let between = age(index - 1).saturating_sub(age(index + 1));
            i128::from(between) * 1_000_000 / i128::from(age(index).max(1))
        });
        if let Some(index) = crowded {
            self.points.remove(index);
        }
    }
}

#[cfg(test)]
mod tests;
