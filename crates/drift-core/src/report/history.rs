//! What is remembered of the last two hours, for the status page: offset, bound and verdict over time, and what happened.
//!
//! The axis has to run on while the machine stands still. The raw clock does not, and the base clock counts only the sleep that the
//! kernel knows of. How long a pause was that nobody noticed, only reference time tells: as soon as it is measured again, what was
//! recorded since the pause moves to where it belongs. The wall clock plays no part: whoever sets it, nothing moves here.

use std::collections::VecDeque;
use std::time::Duration;

use crate::resume::{Class, Detection};
use crate::step::outcome::{Outcome, StepResult};
use crate::time::{Measurement, Mono, Reading, Wall};
use crate::verdict::State;

/// How far back it goes.
pub const KEPT: Duration = Duration::from_secs(7_200);
/// Without a change a point is taken this often.
pub const SPACING: Duration = Duration::from_secs(30);
/// A verdict that flaps takes no more points than this in [`SPACING`]; the last of them holds the newest.
const POINTS_IN_SPACING: usize = 4;
/// Five points in a row span [`SPACING`], so these are enough for all of [`KEPT`].
const POINTS: usize = 240 * POINTS_IN_SPACING + POINTS_IN_SPACING;
/// Things that happened; more than these in two hours, and only the newest are of use.
const MARKS: usize = 64;
/// A longer text is cut, in bytes.
const LONGEST_TEXT: usize = 240;
/// Nobody looked for so long: what was known before does not hold in between.
const UNSEEN: Duration = Duration::from_secs(60);

/// What was known at one instant. It holds until the next point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The verdict; `None`: from here on the machine, or the agent, stood still.
    pub state: Option<State>,
    /// Offset and bound, when they were known.
    pub measured: Option<Measurement>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A sign that the machine did not run all the time, or that somebody set a clock.
    Resume(Detection),
    /// What came of a reason to step the clock.
    Step {
        /// In a word.
        result: StepResult,
        /// In a sentence.
        text: Box<str>,
    },
}

/// The last two hours. Bounded: see the test of its size.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: VecDeque<(Mono, Point)>,
    marks: VecDeque<(Mono, Mark)>,
    /// Time that the base clock does not know of.
    lost: Duration,
    /// The newest instant at which reference time was known, on our axis.
    known: Option<(Mono, Wall)>,
    /// A pause whose length is not measured yet: what was recorded after this may belong later.
    pause: Option<Mono>,
    /// When somebody looked last.
    seen: Option<Mono>,
}

impl History {
    /// Takes in what is known now; to be called whenever something happens. `reference`: reference time, if it is known.
    pub fn note(
        &mut self,
        now: Reading,
        state: State,
        measured: Option<Measurement>,
        reference: Option<Wall>,
    ) {
        if let Some(reference) = reference {
            self.settle(now, reference);
        }
        let at = self.at(now);
        if let Some(seen) = self.seen.filter(|seen| at.since(*seen) > UNSEEN) {
            self.stop(seen);
        }
        self.seen = Some(at);
        let is_due = self
            .points
            .back()
            .is_none_or(|(last, point)| point.state != Some(state) || at.since(*last) >= SPACING);
        if is_due {
            self.push(at, Point { state: Some(state), measured });
        }
        forget(&mut self.points, at, POINTS);
        forget(&mut self.marks, at, MARKS);
    }

    /// Takes in a sign of a resume, before [`Self::note`] takes in what follows from it.
    pub fn resumed(&mut self, detection: Detection, now: Reading) {
        let at = self.at(now);
        if matches!(detection.class, Class::Suspend | Class::Pause) {
            let seen = self.seen.unwrap_or(at);
            self.stop(seen);
            self.pause.get_or_insert(seen);
        }
        let first = detection.replaces.and_then(|class| {
            self.marks
                .iter()
                .rposition(|(_, mark)| matches!(mark, Mark::Resume(first) if first.class == class))
        });
        if let Some(first) = first {
            self.marks.remove(first);
        }
        self.marks.push_back((at, Mark::Resume(detection)));
        forget(&mut self.marks, at, MARKS);
    }

    /// Takes in what came of a reason to step. That none was needed is not worth a mark: every short stall asks.
    pub fn stepped(&mut self, outcome: &Outcome, now: Reading) {
        if outcome.result == StepResult::NotNeeded {
            return;
        }
        let at = self.at(now);
        let mut text = outcome.sentence();
        if text.len() > LONGEST_TEXT {
            text.truncate(text.floor_char_boundary(LONGEST_TEXT - '…'.len_utf8()));
            text.push('…');
        }
        self.marks.push_back((at, Mark::Step { result: outcome.result, text: text.into() }));
        forget(&mut self.marks, at, MARKS);
    }

    /// The points, oldest first, and how long ago each was.
    pub fn points(&self, now: Reading) -> impl Iterator<Item = (Duration, Point)> {
        let at = self.at(now);
        self.points.iter().map(move |(then, point)| (at.since(*then), *point))
    }

    /// What happened, oldest first, and how long ago.
    pub fn marks(&self, now: Reading) -> impl Iterator<Item = (Duration, &Mark)> {
        let at = self.at(now);
        self.marks.iter().map(move |(then, mark)| (at.since(*then), mark))
    }

    /// Our axis: the base clock, and what it does not know of. It never runs backwards.
    fn at(&self, now: Reading) -> Mono {
        let at = now.base().plus(self.lost);
        self.seen.map_or(at, |seen| at.max(seen))
    }

    /// Reference time is known: how long was the pause, if there was one?
    fn settle(&mut self, now: Reading, reference: Wall) {
        let at = self.at(now);
        if let Some((from, (then, before))) = self.pause.take().zip(self.known) {
            let passed = u64::try_from(reference.minus(before).as_nanos()).unwrap_or(0);
            let lost = Duration::from_nanos(passed).saturating_sub(at.since(then));
            self.lost = self.lost.saturating_add(lost);
            let times =
                self.points.iter_mut().map(|(at, _)| at).chain(self.marks.iter_mut().map(|(at, _)| at));
            times.chain(&mut self.seen).filter(|at| **at > from).for_each(|at| *at = at.plus(lost));
        }
        self.known = Some((self.at(now), reference));
    }

    fn stop(&mut self, at: Mono) {
        if self.points.back().is_some_and(|(_, point)| point.state.is_some()) {
            self.push(at, Point { state: None, measured: None });
        }
    }

    fn push(&mut self, at: Mono, point: Point) {
        let nth = self.points.len().checked_sub(POINTS_IN_SPACING);
        let is_crowded =
            nth.and_then(|n| self.points.get(n)).is_some_and(|(then, _)| at.since(*then) < SPACING);
        if is_crowded {
            self.points.pop_back();
        }
        self.points.push_back((at, point));
    }
}

/// Drops what is older than [`KEPT`], and the oldest of what is too much.
fn forget<T>(entries: &mut VecDeque<(Mono, T)>, now: Mono, most: usize) {
    while entries.len() > most || entries.front().is_some_and(|(at, _)| now.since(*at) > KEPT) {
        entries.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::Signal;
    use crate::step::policy::Trigger;
    use proptest::prelude::*;
    use std::mem::size_of;

    const SECOND: i64 = 1_000_000_000;
    const MEASURED: Option<Measurement> = None;

    fn at(raw: i64) -> Reading {
        slept(raw, 0)
    }

    fn slept(raw: i64, suspended: u64) -> Reading {
        // The wall clock is nothing to go by.
        let wall = Wall::from_secs(raw * 7 % 1_000);
        Reading { wall, raw: Mono::from_nanos(raw * SECOND), suspended: Duration::from_secs(suspended) }
    }

    fn detection(class: Class) -> Detection {
        Detection { class, by: Signal::Rtc, amount: None, replaces: None }
    }

    fn outcome(result: StepResult, reason: &str) -> Outcome {
        let trigger = Trigger::Disruption(Class::Pause);
        Outcome { result, method: None, trigger, before: None, after: None, reason: Some(reason.to_owned()) }
    }

    /// In sync, second after second; `reference` is by how much reference time is ahead of the raw clock.
    fn run(history: &mut History, raws: std::ops::RangeInclusive<i64>, reference: i64) {
        for raw in raws {
            history.note(at(raw), State::InSync, MEASURED, Some(Wall::from_secs(raw + reference)));
        }
    }

    /// Ages in seconds, and the verdicts.
    fn points(history: &History, now: Reading) -> Vec<(u64, Option<State>)> {
        history.points(now).map(|(age, point)| (age.as_secs(), point.state)).collect()
    }

    #[test]
    fn a_point_every_thirty_seconds_and_one_at_each_change_of_the_verdict() {
        let mut history = History::default();
        run(&mut history, 0..=65, 0);
        history.note(at(70), State::Drifting, MEASURED, None);
        history.note(at(71), State::Drifting, MEASURED, None);
        let (calm, drifting) = (Some(State::InSync), Some(State::Drifting));
        assert_eq!(points(&history, at(71)), [(71, calm), (41, calm), (11, calm), (1, drifting)]);
    }

    #[test]
    fn nothing_is_older_than_two_hours() {
        let mut history = History::default();
        history.resumed(detection(Class::ClockSet), at(1));
        run(&mut history, 1..=10_000, 0);
        let points = points(&history, at(10_000));
        assert_eq!((points.len(), points[0].0), (240, 7_179));
        assert_eq!(history.marks(at(10_000)).count(), 0);
    }

    #[test]
    fn the_better_word_for_an_event_takes_the_place_of_the_first() {
        let mut history = History::default();
        let better = Detection { replaces: Some(Class::RtcWrite), ..detection(Class::Pause) };
        let written = detection(Class::RtcWrite);
        for told in [written, written, detection(Class::Stall), better] {
            history.resumed(told, at(1));
        }
        let marks: Vec<&Mark> = history.marks(at(2)).map(|(_, mark)| mark).collect();
        assert_eq!(
            marks,
            [written, detection(Class::Stall), better].map(Mark::Resume).iter().collect::<Vec<_>>()
        );
    }

    #[test]
    fn sleep_that_the_kernel_knows_of_is_on_the_axis_and_nothing_is_claimed_for_it() {
        let mut history = History::default();
        run(&mut history, 0..=10, 0);
        history.resumed(detection(Class::Suspend), slept(11, 600));
        history.note(slept(11, 600), State::Disrupted, None, None);
        let seen = points(&history, slept(11, 600));
        assert_eq!(seen, [(611, Some(State::InSync)), (601, None), (0, Some(State::Disrupted))]);
    }

    #[test]
    fn a_pause_that_nobody_counted_is_put_in_once_reference_time_tells_its_length() {
        let mut history = History::default();
        run(&mut history, 0..=10, 0);
        history.resumed(detection(Class::Pause), at(11));
        history.note(at(11), State::Disrupted, None, None);
        history.note(at(12), State::Disrupted, None, None);
        // Twenty minutes are missing: reference time has gone on.
        run(&mut history, 13..=14, 1_200);
        let (calm, disrupted) = (Some(State::InSync), Some(State::Disrupted));
        assert_eq!(points(&history, at(14)), [(1_214, calm), (1_204, None), (3, disrupted), (1, calm)]);
        assert_eq!(history.marks(at(14)).next().unwrap().0, Duration::from_secs(3), "the sign came after it");
        run(&mut history, 15..=80, 1_200);
        assert_eq!(points(&history, at(80))[0].0, 1_280, "once");
    }

    #[test]
    fn no_pause_makes_the_axis_run_backwards() {
        let mut history = History::default();
        run(&mut history, 0..=10, 0);
        history.resumed(detection(Class::Pause), at(11));
        run(&mut history, 11..=12, -500);
        assert_eq!(points(&history, at(12))[0].0, 12);
    }

    #[test]
    fn what_nobody_looked_at_is_a_gap() {
        let mut history = History::default();
        run(&mut history, 0..=10, 0);
        run(&mut history, 100..=100, 0);
        let calm = Some(State::InSync);
        assert_eq!(points(&history, at(100)), [(100, calm), (90, None), (0, calm)]);
    }

    #[test]
    fn a_step_that_was_not_needed_is_no_mark_and_a_long_text_is_cut_between_letters() {
        let mut history = History::default();
        history.stepped(&outcome(StepResult::NotNeeded, ""), at(1));
        history.stepped(&outcome(StepResult::Refused, &"é".repeat(1_000)), at(2));
        let marks: Vec<_> = history.marks(at(2)).map(|(_, mark)| mark).collect();
        let [Mark::Step { result: StepResult::Refused, text }] = marks[..] else { panic!("{marks:?}") };
        assert!(text.starts_with("The clock is not stepped (pause): é") && text.ends_with("é…"), "{text}");
        assert!((LONGEST_TEXT - 2..=LONGEST_TEXT).contains(&text.len()), "{}", text.len());
    }

    /// What it takes in memory, from what the collections say of themselves.
    fn bytes(history: &History) -> usize {
        let texts = history.marks.iter().map(|(_, mark)| match mark {
            Mark::Step { text, .. } => text.len(),
            Mark::Resume(_) => 0,
        });
        size_of::<History>()
            + history.points.capacity() * size_of::<(Mono, Point)>()
            + history.marks.capacity() * size_of::<(Mono, Mark)>()
            + texts.sum::<usize>()
    }

    #[test]
    fn at_its_worst_it_takes_less_than_100_kib() {
        let mut history = History::default();
        for tenth in 0..120_000 {
            let now = Reading { raw: Mono::from_nanos(tenth * SECOND / 10), ..at(0) };
            let state = if tenth % 2 == 0 { State::InSync } else { State::Drifting };
            history.note(now, state, MEASURED, None);
            history.stepped(&outcome(StepResult::Refused, &"x".repeat(10_000)), now);
        }
        assert!(history.points.len() > 700 && history.marks.len() == MARKS, "{}", history.points.len());
        let (now, most) = (bytes(&history), 100 << 10);
        eprintln!("{now} bytes");
        // While a collection grows, the old one is still there.
        let growing = POINTS.next_power_of_two() * size_of::<(Mono, Point)>() * 3 / 2;
        let derived = size_of::<History>() + growing + MARKS * (2 * size_of::<(Mono, Mark)>() + LONGEST_TEXT);
        assert!(now <= derived && derived < most, "{now} bytes now, {derived} at worst");
    }

    proptest! {
        #[test]
        fn whatever_the_clocks_do_it_is_bounded_and_in_order(
            looks in prop::collection::vec((any::<i64>(), any::<u32>(), 0..5_usize, any::<Option<i64>>(), 0..8_usize), 0..200)
        ) {
            let mut history = History::default();
            let mut last = at(0);
            for (raw, sleep, state, reference, class) in looks {
                last = slept(raw / SECOND, sleep.into());
                if let Some(class) = Class::ALL.get(class) {
                    history.resumed(detection(*class), last);
                }
                history.note(last, State::ALL[state], None, reference.map(Wall::from_nanos));
            }
            prop_assert!(history.points.len() <= POINTS && history.marks.len() <= MARKS);
            prop_assert!(history.points(last).all(|(age, _)| age <= KEPT));
            prop_assert!(history.points(last).is_sorted_by_key(|(age, _)| std::cmp::Reverse(age)));
        }
    }
}
