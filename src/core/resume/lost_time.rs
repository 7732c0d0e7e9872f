//! A jump of the RTC that looks like a write of it, against the pools: a write takes no time from the raw clock, a pause does.
//!
//! Each pool is compared with itself: an honest one never shows a loss that was none, however another one moves what they agree on. Two
//! have to show it, so that one that lies cannot make it up.

use std::time::Duration;

use super::range::Range;
use super::tracker::JUMP;
use crate::core::line::{Frequency, Interval};
use crate::core::time::{Bound, Mono, Offset, nanos};

/// Less is not told from what bounds leave out.
const LEAST: Duration = Duration::from_millis(20);
/// The RTC shows a jump by its next second. What the pools said less long before may be of after it.
const SHOWS_LATE: Duration = Duration::from_millis(1_500);

/// What each pool says by itself: the wall times at which the raw clock may have read 0. `None`: it is silent, or of two minds.
pub type OwnWords = Vec<Option<Interval>>;

/// What the pools said at the end of a round.
#[derive(Clone, Debug)]
struct Words {
    at: Mono,
    frequency: Frequency,
    pools: OwnWords,
}

/// A jump of the RTC that looks like a write.
#[derive(Clone, Debug)]
struct Suspect {
    at: Mono,
    by: (Offset, Bound),
    before: Words,
}

/// Remembers what the pools said, for when the RTC jumps.
#[derive(Clone, Debug, Default)]
pub struct LostTime {
    /// Newer and older, [`SHOWS_LATE`] apart at least: one of them is from before whatever the RTC shows.
    words: [Option<Words>; 2],
    suspect: Option<Suspect>,
}

impl LostTime {
    /// A round has ended, and the pools say this.
    pub fn remember(&mut self, pools: OwnWords, frequency: Frequency, now: Mono) {
        let [newer, older] = &mut self.words;
        if newer.as_ref().is_none_or(|words| now.since(words.at) >= SHOWS_LATE) {
            *older = newer.replace(Words { at: now, frequency, pools });
        }
    }

    /// The RTC has jumped by this to where a write would have put it.
    pub fn suspect(&mut self, by: (Offset, Bound), now: Mono) {
        // Soon after a resume there may be none so old. Were they of after the jump, they would only show no loss.
        let heard = || self.words.iter().flatten();
        let words = heard().find(|words| now.since(words.at) >= SHOWS_LATE).or(heard().last());
        let (before, by) = match self.suspect.take() {
            // Nobody was heard in between: what they show is of both.
            Some(first) => {
                let sum = first.by.0.as_nanos().saturating_add(by.0.as_nanos());
                (Some(first.before), (Offset::from_nanos(sum), first.by.1 + by.1))
            }
            None => (words.cloned(), by),
        };
        self.suspect = before.map(|before| Suspect { at: now, by, before });
    }

    /// Since when evidence is wanted, if it is: after the RTC has shown the jump.
    pub fn wants(&self) -> Option<Mono> {
        self.suspect.as_ref().map(|suspect| suspect.at)
    }

    /// By then the jump had not happened.
    pub fn before(&self) -> Option<Mono> {
        self.wants().map(|at| Mono::from_nanos(at.as_nanos().saturating_sub(nanos(SHOWS_LATE))))
    }

    /// The pools say this, measured since [`Self::wants`]. How much was lost, if two of them show about as much as the RTC.
    pub fn borne_out(&self, pools: &[Option<Interval>], now: Mono) -> Option<(Offset, Bound)> {
        let Suspect { by: (jump, bound), before, .. } = self.suspect.as_ref()?;
        let jumped = around(*jump, *bound + Bound::from(JUMP));
        let losses = before.pools.iter().zip(pools).filter_map(|(before_, after)| {
            let then = before.frequency.carry((*before_)?, before.at, now);
            let lost = difference((*after)?, then);
            (lost.low > nanos(LEAST) && lost.distance(jumped) == 0).then_some(lost)
        });
        let losses: Vec<Range> = losses.collect();
        let lost = losses.iter().copied().reduce(Range::joined)?;
        (losses.len() > 1).then(|| lost.as_offset())
    }

    /// It was told, or what happened since makes it no pause to tell of.
    pub fn acquit(&mut self) {
        self.suspect = None;
    }

    /// The raw clock did not run through, and that is told: what the pools said before is void.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

fn around(middle: Offset, bound: Bound) -> Range {
    let (middle, bound) = (middle.as_nanos(), bound.as_nanos());
    Range { low: middle.saturating_sub(bound), high: middle.saturating_add(bound) }
}

/// How much later the one is than the other, at least and at most.
fn difference(one: Interval, other: Interval) -> Range {
    Range { low: one.low.minus(other.high).as_nanos(), high: one.high.minus(other.low).as_nanos() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Wall;

    const MS: i64 = 1_000_000;

    fn at(millis: i64) -> Mono {
        Mono::from_nanos(1_000_000_000_000 + millis * MS)
    }

    /// What pools say whose time is so many milliseconds later than it was at first, known to 1 ms.
    fn say(pools: &[Option<i64>]) -> OwnWords {
        let own = |later: i64| {
            Interval::around(Wall::from_nanos(1_795_341_600_000 * MS + later * MS), Bound::from_nanos(MS))
        };
        pools.iter().map(|later| later.map(own)).collect()
    }

    fn of(lost: i64, bound: i64) -> (Offset, Bound) {
        (Offset::from_nanos(lost * MS), Bound::from_nanos(bound * MS))
    }

    /// Two pools were heard, and a minute later the RTC jumps by 994 ms ±508 ms.
    fn suspecting() -> LostTime {
        let mut lost = LostTime::default();
        lost.remember(say(&[Some(0), Some(0)]), Frequency::UNKNOWN, at(-60_000));
        lost.suspect(of(994, 508), at(0));
        assert_eq!((lost.wants(), lost.before()), (Some(at(0)), Some(at(-1_500))));
        lost
    }

    /// What is lost by what they say half a second later.
    fn heard(lost: &LostTime, pools: &[Option<i64>]) -> Option<Offset> {
        lost.borne_out(&say(pools), at(500)).map(|(by, _)| by)
    }

    #[test]
    fn two_pools_that_miss_what_the_rtc_shows_tell_of_a_pause() {
        let lost = suspecting();
        let (by, bound) = lost.borne_out(&say(&[Some(501), Some(503)]), at(500)).unwrap();
        assert_eq!(by, Offset::from_nanos(502 * MS));
        // Twice 1 ms, 200 ppm of a minute, and what they are apart.
        let most = Duration::from_micros(2_000 + 12_100 + 1_000);
        assert_eq!(bound.as_duration(), most);
        assert!(heard(&lost, &[Some(480), Some(520)]).is_some(), "as much as the RTC may have jumped by");
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
            assert_eq!(heard(&lost, &pools), None, "{pools:?}");
        }
        let mut unheard = LostTime::default();
        unheard.remember(say(&[Some(0), None]), Frequency::UNKNOWN, at(-60_000));
        unheard.suspect(of(994, 508), at(0));
        assert_eq!(heard(&unheard, &[Some(501), Some(501)]), None, "the second was not heard before");
    }

    #[test]
    fn little_is_nothing_however_small_the_jump() {
        let mut lost = LostTime::default();
        lost.remember(say(&[Some(0); 2]), Frequency::UNKNOWN, at(-1_500));
        lost.suspect(of(20, 4_000), at(0));
        // Twice 1 ms, and 200 ppm of two seconds.
        assert_eq!(heard(&lost, &[Some(22); 2]), None);
        assert!(heard(&lost, &[Some(23); 2]).is_some());
    }

    #[test]
    fn what_was_heard_just_before_the_rtc_shows_it_may_be_of_after_it() {
        let mut lost = suspecting();
        lost.acquit();
        assert_eq!((lost.wants(), heard(&lost, &[Some(501); 2])), (None, None));
        lost.remember(say(&[Some(501); 2]), Frequency::UNKNOWN, at(1_000));
        lost.remember(say(&[Some(501); 2]), Frequency::UNKNOWN, at(1_600));
        lost.suspect(of(994, 508), at(2_000));
        assert!(lost.borne_out(&say(&[Some(501); 2]), at(2_500)).is_some());
        lost.forget();
        lost.suspect(of(994, 508), at(3_000));
        assert_eq!(lost.wants(), None, "there is nothing to compare with");
        lost.remember(say(&[Some(501); 2]), Frequency::UNKNOWN, at(4_000));
        lost.suspect(of(994, 508), at(4_700));
        assert!(lost.borne_out(&say(&[Some(1_002); 2]), at(5_000)).is_some(), "better than nothing");
        assert_eq!(lost.borne_out(&say(&[Some(501); 2]), at(5_000)), None);
    }

    #[test]
    fn two_jumps_in_a_row_are_compared_with_what_was_before_both() {
        let mut lost = suspecting();
        lost.suspect(of(300, 10), at(2_000));
        assert_eq!(lost.wants(), Some(at(2_000)), "what was measured in between is of neither");
        assert!(lost.borne_out(&say(&[Some(1_290); 2]), at(2_500)).is_some());
        assert_eq!(lost.borne_out(&say(&[Some(300); 2]), at(2_500)), None);
    }
}
