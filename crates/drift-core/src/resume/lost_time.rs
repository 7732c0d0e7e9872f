//! A jump of the RTC that looks like a write of it, against the pools: a write takes no time from the raw clock, a pause does.
//!
//! Each server is compared with itself: an honest one never shows a loss that was none, however others move what all agree on. Most
//! servers of a pool have to show it, and two pools, so that no pool by itself can make it up.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::range::Range;
use super::tracker::JUMP;
use crate::estimate::Candidate;
use crate::time::line::{Frequency, Interval};
use crate::time::{Measurement, Mono, nanos};

/// Less is not told from what bounds leave out.
const LEAST: Duration = Duration::from_millis(20);
/// The RTC shows a jump by its next second, on a busy node by several. What was measured less long before may be of after it.
const SHOWS_LATE: Duration = Duration::from_secs(5);

/// Rounds whose words are kept: more than end within [`SHOWS_LATE`], even in a burst.
const ROUNDS: usize = 16;

/// What the servers said at the end of a round.
#[derive(Clone, Debug)]
struct Words {
    at: Mono,
    servers: Vec<Candidate>,
}

/// A jump of the RTC that looks like a write.
#[derive(Clone, Debug)]
struct Suspect {
    /// When the RTC showed it; of several, the first and the last.
    first: Mono,
    last: Mono,
    /// How far it jumped, in ns.
    by: Range,
    /// What each server said before it, and when.
    before: Vec<(Mono, Candidate)>,
}

/// Remembers what the servers said, for when the RTC jumps.
#[derive(Clone, Debug, Default)]
pub struct LostTime {
    /// Of the last rounds, oldest first.
    words: VecDeque<Words>,
    suspect: Option<Suspect>,
}

impl LostTime {
    /// A round has ended, and the servers say this.
    pub fn remember(&mut self, servers: Vec<Candidate>, now: Mono) {
        if self.words.len() == ROUNDS {
            self.words.pop_front();
        }
        self.words.push_back(Words { at: now, servers });
    }

    /// The RTC has jumped by this to where a write would have put it.
    pub fn suspect(&mut self, by: Measurement, now: Mono) {
        let by = around(by);
        self.suspect = match self.suspect.take() {
            // What the servers show is of both jumps, or of this one, if the first was a write.
            Some(Suspect { first, by: earlier, before, .. }) => {
                let both = Range {
                    low: earlier.low.saturating_add(by.low),
                    high: earlier.high.saturating_add(by.high),
                };
                Some(Suspect { first, last: now, by: by.joined(both), before })
            }
            None => Some(Suspect { first: now, last: now, by, before: self.before_jump(now) }),
        };
    }

    /// The newest word of each server that is surely of before a jump which the RTC shows at `now`; else the oldest.
    fn before_jump(&self, now: Mono) -> Vec<(Mono, Candidate)> {
        let sure = self.words.iter().rev().filter(|words| now.since(words.at) >= SHOWS_LATE);
        let mut words: Vec<&Words> = sure.collect();
        if words.is_empty() {
            // Soon after a start or a resume there are none so old. Were they of after the jump, they would only show no loss.
            words.extend(&self.words);
        }
        let mut servers = BTreeSet::new();
        let all = words.into_iter().flat_map(|words| words.servers.iter().map(|c| (words.at, *c)));
        all.filter(|(_, c)| servers.insert(c.server)).collect()
    }

    /// Since when evidence is wanted, if it is: after the RTC has shown the jump.
    pub fn wants(&self) -> Option<Mono> {
        self.suspect.as_ref().map(|suspect| suspect.last)
    }

    /// Was the first jump so long ago?
    pub fn is_older(&self, than: Duration, now: Mono) -> bool {
        self.suspect.as_ref().is_some_and(|suspect| now.since(suspect.first) > than)
    }

    /// By then nothing had happened.
    pub fn before(&self) -> Option<Mono> {
        let first = self.suspect.as_ref()?.first;
        Some(Mono::from_nanos(first.as_nanos().saturating_sub(nanos(SHOWS_LATE))))
    }

    /// The servers say this, measured since [`Self::wants`]. How much was lost, if two pools show about as much as the RTC.
    pub fn borne_out(&self, after: &[Candidate], now: Mono) -> Option<Measurement> {
        let suspect = self.suspect.as_ref()?;
        let pools: BTreeSet<usize> = after.iter().map(|c| c.pool).collect();
        let shown: Vec<Vec<Range>> =
            pools.into_iter().filter_map(|pool| suspect.shown_by(pool, after, now)).collect();
        let lost = shown.iter().flatten().copied().reduce(Range::joined)?;
        (shown.len() > 1).then(|| lost.as_offset())
    }

    /// It was told, or what happened since makes it no pause to tell of.
    pub fn acquit(&mut self) {
        self.suspect = None;
    }

    /// The raw clock did not run through, and that is told: what the servers said before is void.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Suspect {
    /// What each server lost that shows a loss, if most of this pool's do: of those heard before, and of those heard now.
    fn shown_by(&self, pool: usize, after: &[Candidate], now: Mono) -> Option<Vec<Range>> {
        let heard = || after.iter().filter(|c| c.pool == pool);
        let before = || self.before.iter().filter(|(_, c)| c.pool == pool);
        let shown: Vec<Range> = heard()
            .filter_map(|here| {
                let (at, then) = before().find(|(_, then)| then.server == here.server)?;
                // What was learned of the oscillator is what the servers agreed on, and one of them may have made it up.
                let lost = difference(here.interval, Frequency::UNKNOWN.carry(then.interval, *at, now));
                (lost.low > nanos(LEAST) && lost.distance(self.by) <= nanos(JUMP)).then_some(lost)
            })
            .collect();
        (shown.len() * 2 > heard().count().max(before().count())).then_some(shown)
    }
}

fn around(Measurement { offset: middle, bound }: Measurement) -> Range {
    let middle = middle.as_nanos();
    Range { low: middle, high: middle }.widened(bound.as_nanos())
}

/// How much later the one is than the other, at least and at most, in ns.
fn difference(one: Interval, other: Interval) -> Range {
    Range { low: one.low.minus(other.high).as_nanos(), high: one.high.minus(other.low).as_nanos() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntp::server::ServerId;
    use crate::time::Bound;
    use crate::time::Offset;
    use crate::time::Wall;

    const MS: i64 = 1_000_000;

    fn at(millis: i64) -> Mono {
        Mono::from_nanos(1_000_000_000_000 + millis * MS)
    }

    /// What pools of one server say whose time is so many milliseconds later than it was at first, known to 1 ms.
    fn say(pools: &[Option<i64>]) -> Vec<Candidate> {
        let servers: Vec<Vec<Option<i64>>> = pools.iter().map(|later| vec![*later]).collect();
        each(&servers)
    }

    /// The same of each server in each pool.
    fn each(pools: &[Vec<Option<i64>>]) -> Vec<Candidate> {
        let own = |later: i64| {
            Interval::around(Wall::from_nanos(1_795_341_600_000 * MS + later * MS), Bound::from_nanos(MS))
        };
        let mut heard = Vec::new();
        for (pool, servers) in pools.iter().enumerate() {
            for (index, later) in (0..).zip(servers) {
                let server = ServerId(u32::try_from(pool).unwrap() * 100 + index);
                heard.extend(later.map(|later| Candidate { pool, server, interval: own(later) }));
            }
        }
        heard
    }

    fn of(lost: i64, bound: i64) -> Measurement {
        Measurement::new(Offset::from_nanos(lost * MS), Bound::from_nanos(bound * MS))
    }

    /// They were heard, and a minute later the RTC jumps by 994 ms ±508 ms.
    fn suspecting_after(before: Vec<Candidate>) -> LostTime {
        let mut lost = LostTime::default();
        lost.remember(before, at(-60_000));
        lost.suspect(of(994, 508), at(0));
        assert_eq!((lost.wants(), lost.before()), (Some(at(0)), Some(at(-5_000))));
        lost
    }

    fn suspecting() -> LostTime {
        suspecting_after(say(&[Some(0), Some(0)]))
    }

    fn is_borne_out(lost: &LostTime, heard: &[Candidate]) -> bool {
        lost.borne_out(heard, at(500)).is_some()
    }

    #[test]
    fn two_pools_that_miss_what_the_rtc_shows_tell_of_a_pause() {
        let lost = suspecting();
        let Measurement { offset: by, bound } =
            lost.borne_out(&say(&[Some(501), Some(503)]), at(500)).unwrap();
        assert_eq!(by, Offset::from_nanos(502 * MS));
        // Twice 1 ms, 200 ppm of a minute, and what they are apart.
        assert_eq!(bound.as_duration(), Duration::from_micros(2_000 + 12_100 + 1_000));
        assert!(is_borne_out(&lost, &say(&[Some(480), Some(520)])), "as much as the RTC may have jumped by");
    }

    #[test]
    fn one_pool_is_not_enough_nor_is_a_loss_that_is_too_small_or_not_the_rtcs() {
        let lost = suspecting();
        for pools in [
            [Some(501), None],
            [Some(501), Some(0)],
            [Some(501), Some(30)],
            [Some(0), Some(0)],
            [Some(-501), Some(-501)],
            [Some(400), Some(400)],
            [Some(1_600), Some(501)],
        ] {
            assert!(!is_borne_out(&lost, &say(&pools)), "{pools:?}");
        }
        let unheard = suspecting_after(say(&[Some(0), None]));
        assert!(!is_borne_out(&unheard, &say(&[Some(501), Some(501)])), "the second was not heard before");
    }

    #[test]
    fn most_servers_of_a_pool_have_to_show_it_of_those_that_were_heard() {
        let (none, lost, bad) = (Some(0), Some(501), Some(501));
        let both = |servers: &[Option<i64>]| each(&[vec![lost], servers.to_vec()]);
        for (before, after, wanted) in [
            (vec![none, none, none], vec![lost, lost, none], true),
            (vec![none, none, none], vec![bad, none, none], false),
            (vec![none, none], vec![bad, none], false),
            (vec![none, none], vec![bad, None], false),
            (vec![none, None], vec![bad, lost], false),
            (vec![none, None], vec![None, lost], false),
            (vec![none, none, none], vec![lost, lost, None], true),
        ] {
            let suspecting = suspecting_after(each(&[vec![none], before.clone()]));
            assert_eq!(is_borne_out(&suspecting, &both(&after)), wanted, "{before:?}, then {after:?}");
        }
    }

    #[test]
    fn little_is_nothing_however_small_the_jump() {
        let mut lost = LostTime::default();
        lost.remember(say(&[Some(0); 2]), at(-5_000));
        lost.suspect(of(20, 4_000), at(0));
        // Twice 1 ms, and 200 ppm of five seconds and a half.
        assert!(!is_borne_out(&lost, &say(&[Some(23); 2])));
        assert!(is_borne_out(&lost, &say(&[Some(24); 2])));
    }

    #[test]
    fn an_oscillator_may_be_off_by_200_ppm_and_that_is_no_loss() {
        let mut lost = LostTime::default();
        lost.remember(say(&[Some(0); 2]), at(-1_000_000));
        lost.suspect(of(20, 4_000), at(0));
        assert!(!is_borne_out(&lost, &say(&[Some(221); 2])));
        assert!(is_borne_out(&lost, &say(&[Some(223); 2])));
    }

    #[test]
    fn what_was_heard_just_before_the_rtc_shows_it_may_be_of_after_it() {
        let mut lost = suspecting();
        lost.acquit();
        assert_eq!((lost.wants(), is_borne_out(&lost, &say(&[Some(501); 2]))), (None, false));
        for millis in [1_000, 1_500, 5_900] {
            lost.remember(say(&[Some(501); 2]), at(millis));
        }
        lost.suspect(of(994, 508), at(5_950));
        assert!(lost.borne_out(&say(&[Some(501); 2]), at(6_500)).is_some());
        lost.forget();
        lost.suspect(of(994, 508), at(7_000));
        assert!(
            lost.borne_out(&say(&[Some(501); 2]), at(7_500)).is_none(),
            "there is nothing to compare with"
        );
        lost.forget();
        for (millis, said) in [(7_900, [None; 2]), (8_000, [Some(501); 2]), (8_500, [Some(1_002); 2])] {
            lost.remember(say(&said), at(millis));
        }
        lost.suspect(of(994, 508), at(8_700));
        assert!(lost.borne_out(&say(&[Some(1_002); 2]), at(9_000)).is_some(), "better than nothing");
        assert!(lost.borne_out(&say(&[Some(501); 2]), at(9_000)).is_none());
    }

    #[test]
    fn a_pool_that_was_silent_in_the_last_round_is_compared_with_the_one_before() {
        let mut lost = LostTime::default();
        lost.remember(say(&[Some(0), Some(0)]), at(-124_000));
        lost.remember(say(&[Some(0), None]), at(-60_000));
        lost.suspect(of(994, 508), at(0));
        assert!(is_borne_out(&lost, &say(&[Some(501); 2])));
    }

    #[test]
    fn two_jumps_in_a_row_are_compared_with_what_was_before_both() {
        let mut lost = suspecting();
        lost.suspect(of(300, 10), at(2_000));
        assert_eq!(lost.wants(), Some(at(2_000)), "what was measured in between is of neither");
        assert_eq!(lost.before(), Some(at(-5_000)), "who set the clock since then set it after the first");
        let after = |millis: i64| lost.borne_out(&say(&[Some(millis); 2]), at(2_500)).is_some();
        assert!(after(1_290), "both took time");
        assert!(after(300), "the first was a write");
        assert!(!after(250) && !after(1_900));
    }
}
