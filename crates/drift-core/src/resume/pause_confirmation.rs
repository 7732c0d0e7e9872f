//! Confirms by NTP that a jump of the RTC which looks like a write was a pause, and refutes one that looks like a
//! pause: a pause takes time from the raw clock, a write does not.
//!
//! In: what each server reported by the end of every round, jumps of the RTC, and what the servers report
//! since. Out: how much time the machine lost, if NTP shows it. Each server is compared with itself: an
//! honest one never shows a loss that was none, whatever the others report. Most servers of a pool have to
//! show the loss, and two pools, so that no pool alone can invent it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::tracker::RTC_JUMP_MIN;
use crate::estimate::Candidate;
use crate::ntp::server::ServerId;
use crate::time::interval::Interval;
use crate::time::rate::Rate;
use crate::time::{Measurement, Mono, OffsetRange, nanos};

/// Smaller losses cannot be distinguished from measurement error.
const CONFIRMED_LOSS_MIN: Duration = Duration::from_millis(20);
/// The RTC shows a jump at its next second, on a busy node several seconds later. A sample from less long
/// before may be of after the jump.
const RTC_SHOWS_JUMP_WITHIN: Duration = Duration::from_secs(5);
/// Rounds that are kept: more than end within [`RTC_SHOWS_JUMP_WITHIN`], even in a burst.
const ROUNDS_KEPT: usize = 16;

/// What the servers reported by the end of a round.
#[derive(Clone, Debug)]
struct RoundRecord {
    at: Mono,
    servers: Vec<Candidate>,
}

/// A jump of the RTC that looks like a write. Of several jumps in a row, all of them.
#[derive(Clone, Debug)]
struct PendingJump {
    /// When the RTC showed the first jump.
    first: Mono,
    /// When it showed the last one.
    last: Mono,
    /// How far the RTC jumped.
    by: OffsetRange,
    /// What each server reported before the first jump, and when.
    before: Vec<(Mono, Candidate)>,
    /// The rate of the raw clock before a jump that was reported as a pause; `None`: it was reported as a write.
    if_pause: Option<Rate>,
}

/// Keeps what the servers reported, for when the RTC jumps. All times are of the raw clock.
#[derive(Clone, Debug, Default)]
pub struct PauseConfirmation {
    /// The last rounds, oldest first.
    rounds: VecDeque<RoundRecord>,
    /// The rate of the raw clock as of the last round.
    rate: Option<Rate>,
    pending: Option<PendingJump>,
}

impl PauseConfirmation {
    /// Takes what the servers reported by the end of a round, and the rate of the raw clock.
    pub fn record_round(&mut self, servers: Vec<Candidate>, rate: Rate, now: Mono) {
        self.rate = Some(rate);
        if self.rounds.len() == ROUNDS_KEPT {
            self.rounds.pop_front();
        }
        self.rounds.push_back(RoundRecord { at: now, servers });
    }

    /// Takes a jump of the RTC to where a write would have set it.
    pub fn rtc_jumped(&mut self, by: Measurement, now: Mono) {
        let by = OffsetRange::from(by);
        self.pending = Some(match self.pending.take() {
            // The servers show the sum of both jumps, or this one alone, if the first was a write.
            Some(PendingJump { first, by: earlier, before, if_pause: None, .. }) => {
                PendingJump { first, last: now, by: by.joined(earlier.plus(by)), before, if_pause: None }
            }
            _ => self.jump(by, now),
        });
    }

    /// Takes a jump of the RTC that was reported as a pause. What the servers reported before it shows whether it was
    /// one, and is void otherwise.
    pub fn rtc_paused(&mut self, by: Measurement, now: Mono) {
        let if_pause = self.rate;
        let jump = match self.pending.take() {
            Some(PendingJump { first, before, if_pause: None, .. }) => {
                PendingJump { first, before, ..self.jump(OffsetRange::from(by), now) }
            }
            _ => self.jump(OffsetRange::from(by), now),
        };
        *self = Self { pending: Some(PendingJump { if_pause, ..jump }), ..Self::default() };
    }

    fn jump(&self, by: OffsetRange, now: Mono) -> PendingJump {
        PendingJump { first: now, last: now, by, before: self.servers_before_jump(now), if_pause: None }
    }

    /// The servers have other numbers from now on: the old ones, and the new ones.
    pub fn renumber(&mut self, numbers: &BTreeMap<ServerId, ServerId>) {
        for (_, candidate) in self.pending.iter_mut().flat_map(|pending| &mut pending.before) {
            candidate.server = numbers.get(&candidate.server).copied().unwrap_or(candidate.server);
        }
    }

    /// Was the jump reported as a pause?
    pub fn is_pause(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.if_pause.is_some())
    }

    /// By how much the RTC was set, if two pools show that no time was lost with the jump that was reported as a
    /// pause. `measured`: what the servers report, of samples since [`Self::waiting_since`].
    pub fn refuted_by(&self, measured: &[Candidate], now: Mono) -> Option<Measurement> {
        let pending = self.pending.as_ref()?;
        let rate = pending.if_pause?;
        let shows_none = |lost: OffsetRange| {
            lost.distance(OffsetRange::exact(0)) == 0 && lost.distance(pending.by) > nanos(RTC_JUMP_MIN)
        };
        let pools: BTreeSet<usize> = measured.iter().map(|candidate| candidate.pool).collect();
        let against = pools
            .into_iter()
            .filter(|pool| pending.losses_of(*pool, measured, rate, now, shows_none).is_some());
        (against.count() > 1).then(|| pending.by.measurement())
    }

    /// What each server reported last before a jump that the RTC shows at `now`. Where no round is old
    /// enough: what each server reported first.
    fn servers_before_jump(&self, now: Mono) -> Vec<(Mono, Candidate)> {
        let is_before = |round: &&RoundRecord| now.since(round.at) >= RTC_SHOWS_JUMP_WITHIN;
        let mut rounds: Vec<&RoundRecord> = self.rounds.iter().rev().filter(is_before).collect();
        if rounds.is_empty() {
            // Soon after a start or a resume no round is that old. If the oldest one ended after the jump, it
            // only hides the loss.
            rounds.extend(&self.rounds);
        }
        let mut seen = BTreeSet::new();
        let all = rounds.into_iter().flat_map(|round| round.servers.iter().map(|server| (round.at, *server)));
        all.filter(|(_, candidate)| seen.insert(candidate.server)).collect()
    }

    /// Since when a server must be measured to confirm a pause: since the RTC has shown the last jump. `None`
    /// without a jump.
    pub fn waiting_since(&self) -> Option<Mono> {
        self.pending.as_ref().map(|pending| pending.last)
    }

    /// The last instant at which the machine had surely not been paused yet. `None` without a jump.
    pub fn last_undisturbed(&self) -> Option<Mono> {
        let first = self.pending.as_ref()?.first;
        Some(Mono::from_nanos(first.as_nanos().saturating_sub(nanos(RTC_SHOWS_JUMP_WITHIN))))
    }

    /// Is the first jump older than `age` at `now`?
    pub fn is_older_than(&self, age: Duration, now: Mono) -> bool {
        self.pending.as_ref().is_some_and(|pending| now.since(pending.first) > age)
    }

    /// The time that the machine has lost, if two pools show about as much as the RTC. `measured`: what the
    /// servers report, of samples since [`Self::waiting_since`]; `rate`: of the raw clock.
    pub fn confirmed_by(&self, measured: &[Candidate], rate: Rate, now: Mono) -> Option<Measurement> {
        let pending = self.pending.as_ref().filter(|pending| pending.if_pause.is_none())?;
        let is_loss = |lost: OffsetRange| {
            lost.low > nanos(CONFIRMED_LOSS_MIN) && lost.distance(pending.by) <= nanos(RTC_JUMP_MIN)
        };
        let pools: BTreeSet<usize> = measured.iter().map(|candidate| candidate.pool).collect();
        let losses: Vec<Vec<OffsetRange>> = pools
            .into_iter()
            .filter_map(|pool| pending.losses_of(pool, measured, rate, now, is_loss))
            .collect();
        let lost = losses.iter().flatten().copied().reduce(OffsetRange::joined)?;
        (losses.len() > 1).then(|| lost.measurement())
    }

    /// Drops the jump: explained otherwise.
    pub fn cancel(&mut self) {
        self.pending = None;
    }

    /// Drops everything: the raw clock has stopped for a while, which makes void what the servers reported
    /// before.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

impl PendingJump {
    /// The loss by each server of `pool` that shows one like this, if most do: of the servers measured before, and of
    /// those measured now.
    fn losses_of(
        &self,
        pool: usize,
        measured: &[Candidate],
        rate: Rate,
        now: Mono,
        is_like_this: impl Fn(OffsetRange) -> bool,
    ) -> Option<Vec<OffsetRange>> {
        let after = || measured.iter().filter(|candidate| candidate.pool == pool);
        let before = || self.before.iter().filter(|(_, candidate)| candidate.pool == pool);
        let losses: Vec<OffsetRange> = after()
            .filter_map(|after| {
                let (at, before) = before().find(|(_, before)| before.server == after.server)?;
                let expected = rate.doubted().carry(before.interval, *at, now);
                Some(difference(after.interval, expected))
            })
            .filter(|lost| is_like_this(*lost))
            .collect();
        (losses.len() * 2 > after().count().max(before().count())).then_some(losses)
    }
}

/// `later` - `earlier`, at least and at most.
pub(super) fn difference(later: Interval, earlier: Interval) -> OffsetRange {
    OffsetRange {
        low: later.low.minus(earlier.high).as_nanos(),
        high: later.high.minus(earlier.low).as_nanos(),
    }
}

#[cfg(test)]
mod tests;
