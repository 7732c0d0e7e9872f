//! The verdict and its hysteresis: slow to cry, quick when certain.

use std::time::Duration;

use crate::time::Measurement;

/// Evaluations in a row that an uncertain change must last.
pub const CONFIRMATIONS: u8 = 3;

/// What the agent says about the node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// Nothing measured that is young and tight enough to judge by.
    #[default]
    Unknown,
    /// The offset is within the threshold.
    InSync,
    /// The offset is over the threshold.
    Drifting,
    /// The servers contradict each other: nobody can say what time it is.
    Disagree,
    /// The machine slept; what was known before no longer counts, and nothing was measured since.
    Disrupted,
}

/// What one look at the clocks found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No estimate, or none that is young enough.
    Nothing,
    /// The servers contradict each other.
    Contradiction,
    /// The line was thrown away, and nothing was measured since.
    Disruption,
    /// The offset, give or take.
    Measured(Measurement),
    /// No estimate, but a coarse source by which the offset is over the threshold beyond doubt. It can say nothing else.
    CertainlyOver,
}

/// When it is looked: uncertain changes count only when something new was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A round of exchanges has ended.
    Round,
    /// Time has passed, or someone moved the wall clock.
    Tick,
}

/// The verdict over time.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    threshold: Duration,
    state: State,
    over: u8,
    under: u8,
    /// The state is a coarse source's word, and nobody has measured since.
    is_coarse: bool,
}

impl State {
    /// Every state, in the order of the README.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::InSync, Self::Drifting, Self::Disagree, Self::Disrupted];

    /// The word in metrics, annotations and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::InSync => "in-sync",
            Self::Drifting => "drifting",
            Self::Disagree => "disagree",
            Self::Disrupted => "disrupted",
        }
    }

    /// From the word.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.label() == label)
    }

    /// Is there an offset to speak of?
    pub const fn has_offset(self) -> bool {
        matches!(self, Self::InSync | Self::Drifting)
    }
}

impl Verdict {
    /// Nothing is known yet.
    pub const fn new(threshold: Duration) -> Self {
        Self { threshold, state: State::Unknown, over: 0, under: 0, is_coarse: false }
    }

    /// The verdict in force.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Takes a finding in; `true` when an uncertain change is under way and more exchanges would settle it.
    pub fn on(&mut self, finding: Finding, occasion: Occasion) -> bool {
        let measured = match finding {
            Finding::Nothing => return self.become_state(State::Unknown),
            Finding::Contradiction => return self.become_state(State::Disagree),
            Finding::Disruption => return self.become_state(State::Disrupted),
            Finding::CertainlyOver => {
                let changed = self.become_state(State::Drifting);
                self.is_coarse = true;
                return changed;
            }
            Finding::Measured(measured) => measured,
        };
        // What was measured refutes both; whether it drifts is another question, and may take more rounds.
        // Nor does a coarse word count for what is measured, not even by the hysteresis.
        if matches!(self.state, State::Disagree | State::Disrupted) || self.is_coarse {
            self.become_state(State::Unknown);
        }
        let (magnitude, threshold) = (measured.offset.magnitude(), self.threshold);
        if measured.certainly_exceeds(threshold) {
            return self.become_state(State::Drifting);
        }
        if measured.bound.as_duration() > threshold {
            return self.become_state(State::Unknown);
        }
        if measured.certainly_within(threshold) {
            return self.become_state(State::InSync);
        }
        if occasion == Occasion::Tick {
            return false;
        }
        // Out of `drifting` the way is longer than in, so that a clock near the threshold does not flap.
        let under = if self.state == State::Drifting { threshold * 4 / 5 } else { threshold };
        self.over = if magnitude > threshold { self.over + 1 } else { 0 };
        self.under = if magnitude < under { self.under + 1 } else { 0 };
        if self.over >= CONFIRMATIONS {
            return self.become_state(State::Drifting);
        }
        if self.under >= CONFIRMATIONS {
            return self.become_state(State::InSync);
        }
        match self.state {
            State::InSync => self.over > 0,
            State::Drifting => self.under > 0,
            State::Unknown | State::Disagree | State::Disrupted => true,
        }
    }

    /// Never `true`: what is settled asks for nothing.
    fn become_state(&mut self, state: State) -> bool {
        (self.state, self.over, self.under, self.is_coarse) = (state, 0, 0, false);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Bound;
    use crate::time::Offset;

    const THRESHOLD: Duration = Duration::from_millis(100);

    fn measured(offset_ms: i64, bound_ms: i64) -> Finding {
        Finding::Measured(Measurement::new(
            Offset::from_nanos(offset_ms * 1_000_000),
            Bound::from_nanos(bound_ms * 1_000_000),
        ))
    }

    /// The states after each finding, each at the end of a round.
    fn states(findings: &[Finding]) -> Vec<State> {
        let mut verdict = Verdict::new(THRESHOLD);
        findings
            .iter()
            .map(|f| {
                verdict.on(*f, Occasion::Round);
                verdict.state()
            })
            .collect()
    }

    use State::{Disagree, Disrupted, Drifting, InSync, Unknown};

    #[test]
    fn certain_drift_is_said_at_once_in_both_directions() {
        assert_eq!(states(&[measured(103, 2), measured(-103, 2)]), [Drifting, Drifting]);
        assert_eq!(states(&[measured(1, 1), measured(102, 1)]), [InSync, Drifting]);
    }

    #[test]
    fn what_was_said_coarsely_does_not_count_for_what_is_measured() {
        let near = [Finding::CertainlyOver, measured(90, 20), measured(90, 20), measured(90, 20)];
        assert_eq!(states(&near), [Drifting, Unknown, Unknown, InSync]);
    }

    #[test]
    fn the_threshold_itself_is_not_over() {
        assert_eq!(states(&[measured(1, 1), measured(100, 0)])[1], InSync);
    }

    #[test]
    fn uncertain_drift_must_last_three_rounds() {
        let rounds = [measured(1, 1), measured(105, 10), measured(105, 10), measured(105, 10)];
        assert_eq!(states(&rounds), [InSync, InSync, InSync, Drifting]);
        let broken =
            [measured(1, 1), measured(105, 10), measured(105, 10), measured(95, 10), measured(105, 10)];
        assert_eq!(states(&broken)[4], InSync, "in a row");
    }

    #[test]
    fn ticks_do_not_count_as_rounds() {
        let mut verdict = Verdict::new(THRESHOLD);
        verdict.on(measured(0, 1), Occasion::Round);
        for _ in 0..10 {
            verdict.on(measured(105, 10), Occasion::Tick);
        }
        assert_eq!(verdict.state(), InSync);
        verdict.on(measured(115, 10), Occasion::Tick);
        assert_eq!(verdict.state(), Drifting, "but what is certain needs no round");
    }

    #[test]
    fn the_way_back_is_longer_than_the_way_in() {
        assert_eq!(states(&[measured(150, 1), measured(95, 4)])[1], InSync, "certainly under, at once");
        assert_eq!(states(&[measured(150, 1), measured(95, 10)])[1], Drifting);
        let near = [measured(150, 1), measured(95, 10), measured(95, 10), measured(95, 10), measured(95, 10)];
        assert_eq!(states(&near)[4], Drifting, "95 is not under 80");
        let under = [measured(150, 1), measured(79, 30), measured(79, 30), measured(79, 30)];
        assert_eq!(states(&under), [Drifting, Drifting, Drifting, InSync]);
    }

    #[test]
    fn a_first_measurement_near_the_threshold_is_settled_by_three_rounds() {
        assert_eq!(states(&[measured(90, 20); 3]), [Unknown, Unknown, InSync]);
        assert_eq!(states(&[measured(110, 20); 3]), [Unknown, Unknown, Drifting]);
    }

    #[test]
    fn a_bound_over_the_threshold_is_no_verdict_unless_the_drift_is_certain() {
        assert_eq!(states(&[measured(1, 1), measured(0, 101)])[1], Unknown);
        assert_eq!(states(&[measured(10_000, 300)])[0], Drifting, "10 s off is 10 s off, however coarse");
    }

    #[test]
    fn contradiction_disruption_and_silence_are_said_at_once() {
        let all = [measured(1, 1), Finding::Contradiction, Finding::Nothing, Finding::Disruption];
        assert_eq!(states(&all), [InSync, Disagree, Unknown, Disrupted]);
    }

    #[test]
    fn a_coarse_excess_is_drifting_at_once_and_its_end_is_unknown() {
        assert_eq!(
            states(&[Finding::Nothing, Finding::CertainlyOver, Finding::Nothing]),
            [Unknown, Drifting, Unknown]
        );
    }

    #[test]
    fn a_measurement_ends_a_disagreement_even_when_it_settles_nothing_else() {
        for finding in [Finding::Contradiction, Finding::Disruption] {
            let rounds = [
                finding,
                measured(99, 5),
                measured(101, 5),
                measured(99, 5),
                measured(99, 5),
                measured(99, 5),
            ];
            assert_eq!(states(&rounds)[1..], [Unknown, Unknown, Unknown, Unknown, InSync]);
        }
    }

    #[test]
    fn it_asks_for_a_burst_only_while_a_change_is_under_way() {
        let mut verdict = Verdict::new(THRESHOLD);
        assert!(!verdict.on(measured(1, 1), Occasion::Round));
        assert!(!verdict.on(measured(95, 10), Occasion::Round), "near, but not over");
        assert!(verdict.on(measured(105, 10), Occasion::Round));
        assert!(!verdict.on(measured(105, 10), Occasion::Tick));
    }

    #[test]
    fn labels_are_the_readmes() {
        assert_eq!(State::ALL.map(State::label), ["unknown", "in-sync", "drifting", "disagree", "disrupted"]);
        assert!(State::ALL.into_iter().all(|s| State::from_label(s.label()) == Some(s)));
    }
}
