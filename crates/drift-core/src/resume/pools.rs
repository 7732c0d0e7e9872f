//! Pauses on a machine without any signal that shows them: what the servers of several pools report jumps by the same
//! amount, though the raw clock runs as before.
//!
//! In: what each server reported by new samples, at the end of a round. Out: how much time the machine lost. Each server
//! is compared with itself. A loss is a pause only if it is more than any known rate, and a step of it, makes of the
//! time between two polls, and if the polls after it show that the rate is not the one that would explain it. Most
//! servers of most pools have to show the same loss, and of two pools at least.
//!
//! It judges nothing that the machine did not count as lost: a clock that is set does not move the raw clock.

use std::collections::BTreeMap;
use std::time::Duration;

use super::pause_confirmation::difference;
use crate::estimate::Candidate;
use crate::ntp::server::ServerId;
use crate::time::interval::Interval;
use crate::time::rate::Rate;
use crate::time::{Measurement, Mono, OffsetRange, Ppb, nanos};

/// Smaller losses cannot be distinguished from measurement error.
const LOSS_MIN: Duration = Duration::from_millis(20);
/// What the rate may have stepped by without any sign: another crystal.
const RATE_STEP: Ppb = Ppb::from_ppm(600);
/// The shortest time over which two polls show the rate.
const RATE_BASE_MIN: Duration = Duration::from_secs(1);
/// A server whose jump is not explained for so long is taken as it is.
const UNDECIDED_MAX: Duration = Duration::from_secs(60);

/// What a server reported when it last agreed with itself, and the jump since.
#[derive(Clone, Copy, Debug)]
struct Server {
    pool: usize,
    /// When its first sample was taken.
    known_since: Mono,
    at: Mono,
    interval: Interval,
    /// The rate of the raw clock then.
    rate: Rate,
    /// Its newest sample.
    newest: Mono,
    jump: Option<Jump>,
}

/// A server contradicts itself.
#[derive(Clone, Copy, Debug)]
struct Jump {
    at: Mono,
    /// What it reported then.
    interval: Interval,
    /// The time that the machine has lost by that, at the known rate.
    lost: OffsetRange,
    /// The samples after it exclude the rate that would explain it.
    is_no_rate: bool,
}

/// Follows what the servers report. All times are of the raw clock.
#[derive(Clone, Debug, Default)]
pub struct PoolWatch {
    servers: BTreeMap<ServerId, Server>,
    looked: Option<Mono>,
    /// A loss was suspected in the last round.
    is_suspected: bool,
}

/// What a round shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolFinding {
    /// No loss.
    Steady,
    /// From this round on servers of two pools show a loss. Polls that follow soon show whether it is the rate.
    Suspected,
    /// The machine was paused.
    Paused {
        /// The time that it lost.
        lost: Measurement,
    },
}

impl PoolWatch {
    /// Samples since then are new; `None`: no round was looked at.
    pub fn since(&self) -> Option<Mono> {
        self.looked
    }

    /// Takes what the servers report by samples since [`Self::since`], and the rate of the raw clock before anything
    /// has refuted it.
    pub fn look(&mut self, measured: &[Candidate], rate: Rate, now: Mono) -> PoolFinding {
        self.looked = Some(now);
        for candidate in measured {
            match self.servers.get_mut(&candidate.server) {
                Some(server) => server.take(candidate, rate, now),
                None => {
                    self.servers.insert(candidate.server, Server::new(candidate, rate, now));
                }
            }
        }
        let Some(first) = self.servers.values().filter_map(|server| Some(server.jump?.at)).min() else {
            return PoolFinding::Steady;
        };
        // A server that has not answered since shows nothing, and neither does one that was not known before.
        let mut pools: BTreeMap<usize, Vec<&Server>> = BTreeMap::new();
        for server in
            self.servers.values().filter(|server| server.newest >= first && server.known_since < first)
        {
            pools.entry(server.pool).or_default().push(server);
        }
        let shows = |is_decided: bool| {
            let is_shown = |jump: &Jump| jump.lost.low > nanos(LOSS_MIN) && (jump.is_no_rate || !is_decided);
            // One that has left after its jump decides nothing.
            let counts =
                |server: &&&Server| !is_decided || server.jump.is_none_or(|jump| server.newest > jump.at);
            let jumps = pools.values().filter_map(|servers| {
                let counted = || servers.iter().filter(counts);
                let shown: Vec<Jump> = counted().filter_map(|server| server.jump.filter(is_shown)).collect();
                (shown.len() * 2 > counted().count()).then_some(shown)
            });
            let jumps: Vec<Vec<Jump>> = jumps.collect();
            (jumps.len() > 1 && jumps.len() * 2 > pools.len())
                .then(|| jumps.into_iter().flatten().map(|jump| jump.lost).collect::<Vec<_>>())
                .filter(|losses| have_common_point(losses))
        };
        if let Some(lost) = shows(true).and_then(|losses| losses.into_iter().reduce(OffsetRange::joined)) {
            return PoolFinding::Paused { lost: lost.measurement() };
        }
        let was_suspected = std::mem::replace(&mut self.is_suspected, shows(false).is_some());
        if self.is_suspected && !was_suspected { PoolFinding::Suspected } else { PoolFinding::Steady }
    }

    /// Drops everything: the raw clock did not count all of the time, or counts in another way.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Server {
    fn new(candidate: &Candidate, rate: Rate, now: Mono) -> Self {
        let Candidate { pool, newest, .. } = *candidate;
        let interval = reported(candidate, rate, now);
        Self { pool, known_since: newest, at: newest, interval, rate, newest, jump: None }
    }

    /// `carried_to`: when the candidate's interval is of.
    fn take(&mut self, candidate: &Candidate, rate: Rate, carried_to: Mono) {
        if candidate.newest <= self.newest {
            return;
        }
        let (reported, now) = (reported(candidate, rate, carried_to), candidate.newest);
        let expected = self.rate.carry(self.interval, self.at, now);
        let slack = RATE_STEP.over(now.since(self.at));
        let agrees = expected.widened(slack).meets(reported);
        let is_over = self.jump.is_some_and(|jump| now.since(jump.at) >= UNDECIDED_MAX);
        if agrees || is_over {
            *self = Self { known_since: self.known_since, ..Self::new(candidate, rate, carried_to) };
            return;
        }
        self.newest = candidate.newest;
        match &mut self.jump {
            None => {
                let lost = difference(reported, expected);
                self.jump = Some(Jump { at: now, interval: reported, lost, is_no_rate: false });
            }
            Some(jump) => {
                let span = now.since(jump.at);
                if span >= RATE_BASE_MIN {
                    // The largest gain that the rate since the jump makes in the time before it.
                    let gained = difference(reported, jump.interval).high;
                    let gap = nanos(jump.at.since(self.at));
                    let explained = i128::from(gained) * i128::from(gap) / i128::from(nanos(span));
                    let moved = difference(jump.interval, self.interval).low;
                    jump.is_no_rate = explained + i128::from(slack) < i128::from(moved);
                }
            }
        }
    }
}

/// What a server reported, as of its newest sample. The rate may be wrong by now, and must not count.
fn reported(candidate: &Candidate, rate: Rate, carried_to: Mono) -> Interval {
    rate.carry(candidate.interval, carried_to, candidate.newest)
}

/// Is there a loss that all of them allow?
fn have_common_point(losses: &[OffsetRange]) -> bool {
    let low = losses.iter().map(|lost| lost.low).max();
    let high = losses.iter().map(|lost| lost.high).min();
    low.zip(high).is_some_and(|(low, high)| low <= high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Bound, NANOS_PER_SEC, Offset, Wall};
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const STEADY: Rate = Rate::exactly(Ppb(0));

    fn at(millis: i64) -> Mono {
        Mono::from_nanos(1_000 * NANOS_PER_SEC + millis * MS)
    }

    /// By pool and server, what they report at `millis`, in ms later than at first; each known to `bound` ms.
    fn candidates(pools: &[&[Option<i64>]], millis: i64, bound: i64) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (pool, servers) in pools.iter().enumerate() {
            for (index, later) in (0u32..).zip(servers.iter()) {
                let Some(later) = later else { continue };
                let middle = Wall::from_secs(1_795_341_600).plus(Offset::from_nanos(later * MS));
                candidates.push(Candidate {
                    pool,
                    server: ServerId(u32::try_from(pool).unwrap() * 100 + index),
                    interval: Interval::around(middle, Bound::from_nanos(bound * MS)),
                    newest: at(millis),
                });
            }
        }
        candidates
    }

    /// The servers report `first` twice, 16 s apart, then `then` 16 s later, and `later` two seconds after that.
    fn findings(
        first: &[&[Option<i64>]],
        then: &[&[Option<i64>]],
        later: &[&[Option<i64>]],
    ) -> (PoolFinding, PoolFinding) {
        let mut watch = PoolWatch::default();
        for millis in [0, 16_000] {
            let finding = watch.look(&candidates(first, millis, 2), STEADY, at(millis));
            assert_eq!(finding, PoolFinding::Steady);
        }
        let mut look = |pools, millis| watch.look(&candidates(pools, millis, 2), STEADY, at(millis));
        (look(then, 32_000), look(later, 34_000))
    }

    fn both(later: i64) -> [[Option<i64>; 2]; 2] {
        [[Some(later); 2]; 2]
    }

    #[test]
    fn two_pools_that_jump_by_the_same_and_keep_the_rate_show_a_pause() {
        let (first, then) = (both(0), both(1_000));
        let [a, b] = [&first[0][..], &first[1][..]];
        let [c, d] = [&then[0][..], &then[1][..]];
        let (suspected, paused) = findings(&[a, b], &[c, d], &[c, d]);
        assert_eq!(suspected, PoolFinding::Suspected);
        let PoolFinding::Paused { lost } = paused else { panic!("{paused:?}") };
        assert_eq!(lost.offset, Offset::from_nanos(1_000 * MS));
        assert_eq!(lost.bound.as_duration(), Duration::from_millis(4));
    }

    #[test]
    fn a_pause_shows_on_a_raw_clock_of_any_rate() {
        for percent in [-8, 8] {
            let rate = Rate::exactly(Ppb::from_ppm(percent * 10_000));
            let mut watch = PoolWatch::default();
            let mut look = |millis: i64, lost: i64| {
                let own = [Some(millis * percent / 100 + lost)];
                watch.look(&candidates(&[&own, &own], millis, 2), rate, at(millis))
            };
            assert_eq!([look(0, 0), look(16_000, 0)], [PoolFinding::Steady; 2]);
            assert_eq!(look(32_000, 1_000), PoolFinding::Suspected, "{percent}%");
            assert!(matches!(look(34_000, 1_000), PoolFinding::Paused { .. }), "{percent}%");
        }
    }

    #[test]
    fn rates_that_step_are_no_pause() {
        // 5 % since the last poll, and two seconds later.
        let (first, then, later) = (both(0), both(800), both(900));
        let (suspected, found) =
            findings(&[&first[0], &first[1]], &[&then[0], &then[1]], &[&later[0], &later[1]]);
        assert_eq!((suspected, found), (PoolFinding::Suspected, PoolFinding::Steady));
        // 500 ppm are no jump at all.
        let (then, later) = (both(8), both(9));
        let found = findings(&[&first[0], &first[1]], &[&then[0], &then[1]], &[&later[0], &later[1]]);
        assert_eq!(found, (PoolFinding::Steady, PoolFinding::Steady));
    }

    #[test]
    fn servers_and_pools_that_jump_alone_or_differently_are_no_pause() {
        let (none, lost, other) = (Some(0), Some(1_000), Some(3_000));
        for (then, is_pause) in [
            ([[lost, none], [none, none]], false),
            ([[lost, lost], [none, none]], false),
            ([[lost, lost], [lost, none]], false),
            ([[lost, lost], [other, other]], false),
            ([[lost, lost], [None, None]], false),
            ([[Some(-1_000); 2]; 2], false),
            ([[lost, None], [lost, lost]], true),
            ([[lost, lost], [lost, lost]], true),
        ] {
            let first = both(0);
            let (_, found) = findings(&[&first[0], &first[1]], &[&then[0], &then[1]], &[&then[0], &then[1]]);
            assert_eq!(matches!(found, PoolFinding::Paused { .. }), is_pause, "{then:?}: {found:?}");
        }
        let (first, one) = ([none; 1], [lost; 1]);
        let three = |last: Option<i64>| {
            let last = [last];
            findings(&[&first, &first, &first], &[&one, &one, &last], &[&one, &one, &last]).1
        };
        assert!(matches!(three(none), PoolFinding::Paused { .. }), "two of three");
    }

    #[test]
    fn servers_that_come_or_go_at_a_pause_do_not_hide_it() {
        let (none, lost) = (Some(0), Some(1_000));
        let first = [[none, none, None], [none, none, none]];
        let then = [[lost, lost, lost], [lost, lost, lost]];
        // The first pool has a new server then, and loses one after it.
        let later = [[lost, None, lost], [lost, lost, lost]];
        let (suspected, found) =
            findings(&[&first[0], &first[1]], &[&then[0], &then[1]], &[&later[0], &later[1]]);
        assert_eq!(suspected, PoolFinding::Suspected);
        assert!(matches!(found, PoolFinding::Paused { .. }), "{found:?}");
    }

    #[test]
    fn jumps_that_stay_unexplained_are_forgotten_after_a_minute() {
        let mut watch = PoolWatch::default();
        let alone = [Some(1_000), Some(0), Some(0)];
        for millis in [0, 16_000, 32_000, 48_000, 64_000, 80_000, 96_000] {
            let first = if millis < 16_000 { [Some(0); 3] } else { alone };
            watch.look(&candidates(&[&first, &[Some(0)]], millis, 2), STEADY, at(millis));
        }
        assert!(watch.servers.values().all(|server| server.jump.is_none()));
    }

    #[test]
    fn unknown_rates_explain_everything_that_a_raw_clock_may_do() {
        let mut watch = PoolWatch::default();
        for (millis, later) in [(0, 0), (16_000, 1_500), (18_000, 1_500)] {
            let own = [Some(later)];
            let found = watch.look(&candidates(&[&own, &own], millis, 2), Rate::UNKNOWN, at(millis));
            assert_eq!(found, PoolFinding::Steady, "{millis}");
        }
    }

    proptest! {
        /// Any step of the rate of up to 500 ppm, or of percents, at any time between two polls.
        #[test]
        fn no_rate_is_a_pause(
            ppm in prop_oneof![-500i64..500, -100_000i64..100_000], into in 0..16_000i64, bound in 1i64..100,
            shifts in proptest::collection::vec(-1.0f64..1.0, 40),
        ) {
            let mut watch = PoolWatch::default();
            let (mut shifts, step) = (shifts.into_iter().cycle(), 16_000 + into);
            for millis in [0, 16_000, 32_000, 34_000, 36_000, 40_000, 48_000, 64_000] {
                let gained = (millis - step).max(0) * 1_000 * ppm;
                let mut candidates = candidates(&[&[Some(0); 2], &[Some(0); 2]], millis, bound);
                for candidate in &mut candidates {
                    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "milliseconds")]
                    let shift = ((bound * MS) as f64 * shifts.next().unwrap()) as i64;
                    let by = Offset::from_nanos(gained + shift);
                    candidate.interval.low = candidate.interval.low.plus(by);
                    candidate.interval.high = candidate.interval.high.plus(by);
                }
                let found = watch.look(&candidates, STEADY, at(millis));
                prop_assert!(!matches!(found, PoolFinding::Paused { .. }), "{millis}: {found:?}");
            }
        }
    }
}
