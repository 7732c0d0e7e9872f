//! The last two hours, for the status page: offset, bound and verdict over time, and events.
//!
//! The time axis must go on while the machine is stopped. The raw clock does not, and the base clock
//! ([`Reading::base`]) counts only suspends, not pauses. Only reference time shows how long a pause was: as
//! soon as it is measured again, what was recorded since the pause moves to its place. The wall clock is not
//! used, so that setting it moves nothing here.

use std::collections::VecDeque;
use std::time::Duration;

use crate::resume::{Class, Detection};
use crate::step::outcome::{Outcome, StepResult};
use crate::time::{Measurement, Mono, Reading, Wall};
use crate::verdict::State;

/// How far back the history goes.
pub const HISTORY_LENGTH: Duration = Duration::from_secs(7_200);
/// Without a change of the verdict a point is recorded this often.
const POINT_SPACING: Duration = Duration::from_secs(30);
/// Points in [`POINT_SPACING`] at most, while the verdict flaps. The last of them is replaced by the newest.
const MAX_POINTS_IN_SPACING: usize = 4;
/// Points at most. Five points in a row span [`POINT_SPACING`], so these are enough for [`HISTORY_LENGTH`].
const MAX_POINTS: usize = 240 * MAX_POINTS_IN_SPACING + MAX_POINTS_IN_SPACING;
/// Events at most; the oldest are dropped.
const MAX_MARKS: usize = 64;
/// Length of an event's text at most, in bytes.
const MAX_TEXT_BYTES: usize = 240;
/// A longer time without [`History::note`] is a gap: what was known before it does not hold in it.
const MIN_GAP: Duration = Duration::from_secs(60);

/// What was known at one instant. It holds until the next point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The verdict; `None`: from here on the machine or the agent was stopped.
    pub state: Option<State>,
    /// Offset and bound, if they were known.
    pub measured: Option<Measurement>,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A disruption: the machine or the agent was stopped, or a process set a clock.
    Resume(Detection),
    /// The end of a step trigger.
    Step {
        /// How it ended.
        result: StepResult,
        /// The outcome in a sentence.
        text: Box<str>,
    },
}

/// The last two hours, in bounded memory: under 100 KiB.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: VecDeque<(Mono, Point)>,
    marks: VecDeque<(Mono, Mark)>,
    /// Length of all pauses: time that the base clock has not counted.
    lost: Duration,
    /// The newest instant on the axis at which reference time was known, and that time.
    known: Option<(Mono, Wall)>,
    /// Begin of a pause whose length is not measured yet. What was recorded after it may belong later.
    pause: Option<Mono>,
    /// When [`History::note`] was last called.
    seen: Option<Mono>,
}

impl History {
    /// Records what is known now; to be called with each input. `reference`: reference time, if it is known.
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
        if let Some(seen) = self.seen.filter(|seen| at.since(*seen) > MIN_GAP) {
            self.stop(seen);
        }
        self.seen = Some(at);
        let is_due = self
            .points
            .back()
            .is_none_or(|(last, point)| point.state != Some(state) || at.since(*last) >= POINT_SPACING);
        if is_due {
            self.push(at, Point { state: Some(state), measured });
        }
        forget(&mut self.points, at, MAX_POINTS);
        forget(&mut self.marks, at, MAX_MARKS);
    }

    /// Records a disruption; to be called before [`Self::note`] records what follows from it.
    pub fn resumed(&mut self, detection: Detection, now: Reading) {
        let at = self.at(now);
        if matches!(detection.disruption.class(), Class::Suspend | Class::Pause) {
            let seen = self.seen.unwrap_or(at);
            self.stop(seen);
            self.pause.get_or_insert(seen);
        }
        let first = detection.reclassifies.and_then(|class| {
            self.marks.iter().rposition(
                |(_, mark)| matches!(mark, Mark::Resume(first) if first.disruption.class() == class),
            )
        });
        if let Some(first) = first {
            self.marks.remove(first);
        }
        self.marks.push_back((at, Mark::Resume(detection)));
        forget(&mut self.marks, at, MAX_MARKS);
    }

    /// Records the end of a step trigger. An unneeded step is not recorded: every short stall is a trigger.
    pub fn stepped(&mut self, outcome: &Outcome, now: Reading) {
        if outcome.result == StepResult::NotNeeded {
            return;
        }
        let at = self.at(now);
        let mut text = outcome.sentence();
        if text.len() > MAX_TEXT_BYTES {
            text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES - '…'.len_utf8()));
            text.push('…');
        }
        self.marks.push_back((at, Mark::Step { result: outcome.result, text: text.into() }));
        forget(&mut self.marks, at, MAX_MARKS);
    }

    /// The points, oldest first, and how long ago each was.
    pub fn points(&self, now: Reading) -> impl Iterator<Item = (Duration, Point)> {
        let at = self.at(now);
        self.points.iter().map(move |(then, point)| (at.since(*then), *point))
    }

    /// The events, oldest first, and how long ago each was.
    pub fn marks(&self, now: Reading) -> impl Iterator<Item = (Duration, &Mark)> {
        let at = self.at(now);
        self.marks.iter().map(move |(then, mark)| (at.since(*then), mark))
    }

    /// The time axis: the base clock plus the pauses that it has not counted. It never runs backwards.
    fn at(&self, now: Reading) -> Mono {
        let at = now.base().plus(self.lost);
        self.seen.map_or(at, |seen| at.max(seen))
    }

    /// Reference time is known: moves what was recorded since a pause by the length of the pause.
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

    /// Records that nothing is known from `at` on.
    fn stop(&mut self, at: Mono) {
        if self.points.back().is_some_and(|(_, point)| point.state.is_some()) {
            self.push(at, Point { state: None, measured: None });
        }
    }

    fn push(&mut self, at: Mono, point: Point) {
        let nth = self.points.len().checked_sub(MAX_POINTS_IN_SPACING);
        let is_crowded =
            nth.and_then(|n| self.points.get(n)).is_some_and(|(then, _)| at.since(*then) < POINT_SPACING);
        if is_crowded {
            self.points.pop_back();
        }
        self.points.push_back((at, point));
    }
}

/// Drops entries older than [`HISTORY_LENGTH`], and the oldest beyond `most`.
fn forget<T>(entries: &mut VecDeque<(Mono, T)>, now: Mono, most: usize) {
    while entries.len() > most || entries.front().is_some_and(|(at, _)| now.since(*at) > HISTORY_LENGTH) {
        entries.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::{Disruption, PauseEvidence};
    use crate::step::policy::Trigger;
    use crate::test_support::Reached;
    use proptest::prelude::*;
    use std::mem::size_of;

    const SECOND: i64 = 1_000_000_000;
    const MEASURED: Option<Measurement> = None;

    fn at(raw: i64) -> Reading {
        slept(raw, 0)
    }

    fn slept(raw: i64, suspended: u64) -> Reading {
        // The history must not depend on the wall clock.
        let wall = Wall::from_secs(raw * 7 % 1_000);
        Reading { wall, raw: Mono::from_nanos(raw * SECOND), suspended: Duration::from_secs(suspended) }
    }

    fn detection(class: Class) -> Detection {
        let by = Measurement::exact(crate::time::Offset::ZERO);
        let disruption = match class {
            Class::Suspend => Disruption::Suspend { slept: Duration::ZERO },
            Class::Pause => Disruption::Pause(PauseEvidence::Hypervisor),
            Class::RtcWrite => Disruption::RtcWrite { by },
            Class::ClockSet => Disruption::ClockSet { by, is_notified: true },
            Class::Stall => Disruption::Stall { late: Duration::ZERO },
        };
        Detection { disruption, reclassifies: None }
    }

    fn outcome(result: StepResult, reason: &str) -> Outcome {
        let trigger = Trigger::Disruption(Class::Pause);
        Outcome { result, method: None, trigger, before: None, after: None, reason: Some(reason.to_owned()) }
    }

    /// In sync once a second; `reference`: by how many seconds reference time is ahead of the raw clock.
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
    fn points_are_recorded_every_thirty_seconds_and_at_each_change_of_the_verdict() {
        let mut history = History::default();
        run(&mut history, 0..=65, 0);
        history.note(at(70), State::Drifting, MEASURED, None);
        history.note(at(71), State::Drifting, MEASURED, None);
        let (calm, drifting) = (Some(State::InSync), Some(State::Drifting));
        assert_eq!(points(&history, at(71)), [(71, calm), (41, calm), (11, calm), (1, drifting)]);
    }

    #[test]
    fn entries_older_than_two_hours_are_dropped() {
        let mut history = History::default();
        history.resumed(detection(Class::ClockSet), at(1));
        run(&mut history, 1..=10_000, 0);
        let points = points(&history, at(10_000));
        assert_eq!((points.len(), points[0].0), (240, 7_179));
        assert_eq!(history.marks(at(10_000)).count(), 0);
    }

    #[test]
    fn a_reclassified_disruption_replaces_the_newest_one_of_its_first_class() {
        let mut history = History::default();
        let better = Detection { reclassifies: Some(Class::RtcWrite), ..detection(Class::Pause) };
        let written = detection(Class::RtcWrite);
        for recorded in [written, written, detection(Class::Stall), better] {
            history.resumed(recorded, at(1));
        }
        let marks: Vec<&Mark> = history.marks(at(2)).map(|(_, mark)| mark).collect();
        assert_eq!(
            marks,
            [written, detection(Class::Stall), better].map(Mark::Resume).iter().collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_suspend_that_the_kernel_counts_is_a_gap_on_the_axis() {
        let mut history = History::default();
        run(&mut history, 0..=10, 0);
        history.resumed(detection(Class::Suspend), slept(11, 600));
        history.note(slept(11, 600), State::Disrupted, None, None);
        let seen = points(&history, slept(11, 600));
        assert_eq!(seen, [(611, Some(State::InSync)), (601, None), (0, Some(State::Disrupted))]);
    }

    #[test]
    fn a_pause_is_a_gap_on_the_axis_once_reference_time_shows_its_length() {
        let mut history = History::default();
        run(&mut history, 0..=10, 0);
        history.resumed(detection(Class::Pause), at(11));
        history.note(at(11), State::Disrupted, None, None);
        history.note(at(12), State::Disrupted, None, None);
        // Reference time went on for 20 min during the pause.
        run(&mut history, 13..=14, 1_200);
        let (calm, disrupted) = (Some(State::InSync), Some(State::Disrupted));
        assert_eq!(points(&history, at(14)), [(1_214, calm), (1_204, None), (3, disrupted), (1, calm)]);
        assert_eq!(
            history.marks(at(14)).next().unwrap().0,
            Duration::from_secs(3),
            "the event is after the gap"
        );
        run(&mut history, 15..=80, 1_200);
        assert_eq!(points(&history, at(80))[0].0, 1_280, "the pause is added once");
    }

    #[test]
    fn the_axis_never_runs_backwards_after_a_pause() {
        let mut history = History::default();
        run(&mut history, 0..=10, 0);
        history.resumed(detection(Class::Pause), at(11));
        run(&mut history, 11..=12, -500);
        assert_eq!(points(&history, at(12))[0].0, 12);
    }

    #[test]
    fn a_minute_without_a_record_is_a_gap() {
        let mut history = History::default();
        run(&mut history, 0..=10, 0);
        run(&mut history, 100..=100, 0);
        let calm = Some(State::InSync);
        assert_eq!(points(&history, at(100)), [(100, calm), (90, None), (0, calm)]);
    }

    #[test]
    fn unneeded_steps_are_not_recorded_and_long_texts_are_cut_between_letters() {
        let mut history = History::default();
        history.stepped(&outcome(StepResult::NotNeeded, ""), at(1));
        history.stepped(&outcome(StepResult::Refused, &"é".repeat(1_000)), at(2));
        let marks: Vec<_> = history.marks(at(2)).map(|(_, mark)| mark).collect();
        let [Mark::Step { result: StepResult::Refused, text }] = marks[..] else { panic!("{marks:?}") };
        assert!(text.starts_with("The clock is not stepped (pause): é") && text.ends_with("é…"), "{text}");
        assert!((MAX_TEXT_BYTES - 2..=MAX_TEXT_BYTES).contains(&text.len()), "{}", text.len());
    }

    /// Memory in bytes, by the capacity of the collections.
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
    fn the_history_takes_less_than_100_kib_at_worst() {
        let mut history = History::default();
        for tenth in 0..120_000 {
            let now = Reading { raw: Mono::from_nanos(tenth * SECOND / 10), ..at(0) };
            let state = if tenth % 2 == 0 { State::InSync } else { State::Drifting };
            history.note(now, state, MEASURED, None);
            history.stepped(&outcome(StepResult::Refused, &"x".repeat(10_000)), now);
        }
        assert!(history.points.len() > 700 && history.marks.len() == MAX_MARKS, "{}", history.points.len());
        let (now, most) = (bytes(&history), 100 << 10);
        eprintln!("{now} bytes");
        // While a collection grows, the old one is still there.
        let growing = MAX_POINTS.next_power_of_two() * size_of::<(Mono, Point)>() * 3 / 2;
        let derived =
            size_of::<History>() + growing + MAX_MARKS * (2 * size_of::<(Mono, Mark)>() + MAX_TEXT_BYTES);
        assert!(now <= derived && derived < most, "{now} bytes now, {derived} at worst");
    }

    /// Clocks that go anywhere, and clocks that go on: raw ns, sleep, state, reference time and class.
    fn readings() -> impl Strategy<Value = Vec<(i64, u32, usize, Option<i64>, usize)>> {
        let anywhere = (any::<i64>(), any::<u32>(), 0..5_usize, any::<Option<i64>>(), 0..8_usize);
        let onwards = prop::sample::select(vec![4_i64, 20, 90]).prop_flat_map(|step| {
            prop::collection::vec((0..step * SECOND, 0..5_usize, 0..8_usize), 0..1_500).prop_map(|steps| {
                steps
                    .into_iter()
                    .scan(0, |raw, (step, state, class)| {
                        *raw += step;
                        Some((*raw, 0, state, None, class))
                    })
                    .collect()
            })
        });
        prop_oneof![prop::collection::vec(anywhere, 0..200).boxed(), onwards.boxed()]
    }

    #[test]
    fn the_history_is_bounded_and_in_order_for_any_clocks() {
        let reached = Reached::new([
            ("as many events as are kept", 15),
            ("more than 200 points", 10),
            ("points that are too old", 8),
        ]);
        proptest!(|(readings in readings())| {
            let mut history = History::default();
            let mut last = at(0);
            let length = readings.iter().map(|(raw, ..)| raw).max().copied().unwrap_or(0);
            for (raw, sleep, state, reference, class) in readings {
                last = slept(raw / SECOND, sleep.into());
                if let Some(class) = Class::ALL.get(class) {
                    history.resumed(detection(*class), last);
                }
                history.note(last, State::ALL[state], None, reference.map(Wall::from_nanos));
            }
            prop_assert!(history.points.len() <= MAX_POINTS && history.marks.len() <= MAX_MARKS);
            prop_assert!(history.points(last).all(|(age, _)| age <= HISTORY_LENGTH));
            prop_assert!(history.points(last).is_sorted_by_key(|(age, _)| std::cmp::Reverse(age)));
            reached.case("as many events as are kept", history.marks.len() == MAX_MARKS);
            reached.case("more than 200 points", history.points.len() > 200);
            reached.case("points that are too old", length > crate::time::nanos(HISTORY_LENGTH) && history.points.len() > 100);
        });
    }
}
