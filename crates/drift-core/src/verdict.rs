//! The verdict and its hysteresis: an uncertain change needs three rounds, a certain one none.

use std::time::Duration;

use crate::time::{HOUR, Measurement};

/// Rounds in a row that an uncertain change must last.
pub const CONFIRMATIONS: u8 = 3;
/// Share of the threshold below which an uncertain offset ends a drift, as a fraction. A clock that stays
/// near the threshold does not flap then.
const RELEASE_SHARE: (u32, u32) = (4, 5);
/// The same for a certain one.
const CERTAIN_RELEASE_SHARE: (u32, u32) = (9, 10);
/// Share of the threshold over which a bound ends a verdict.
const TOO_WIDE_SHARE: (u32, u32) = (6, 5);
/// Rounds in a row with such a bound that end it: slow answers in one of them do not.
const ROUNDS_TOO_WIDE: u8 = 2;
/// Share of the threshold below which a bound allows a new verdict, by how many verdicts a bound has ended in the last
/// hour: jitter that moves a bound by more than the hysteresis must not make the verdict flap.
const NARROW_SHARES: [(u32, u32); 3] = [(1, 1), (9, 10), (6, 10)];

/// What the agent reports about the node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// No measurement that is young and precise enough for a verdict.
    #[default]
    Unknown,
    /// The offset is within the threshold.
    InSync,
    /// The offset is over the threshold.
    Drifting,
    /// The servers contradict each other, so there is no offset.
    Disagree,
    /// The machine was suspended or paused, and the clock has not been measured since.
    Disrupted,
}

/// What is known about the clock at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// There is no estimate, or it is older than `staleAfter`.
    Nothing,
    /// The pools contradict each other. The true offset is in this, if one of them is right.
    Contradiction(Measurement),
    /// The machine was suspended or paused, and nothing has been measured since.
    Disruption,
    /// The offset with its bound.
    Measured(Measurement),
    /// There is no estimate, but the HTTP `Date` headers put the offset certainly over the threshold. They
    /// cannot show that it is within.
    CertainlyOver,
}

/// Why a finding is made. An uncertain change counts only when there is a new measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A round of exchanges has ended.
    Round,
    /// Time has passed, or a process has set the wall clock.
    Tick,
}

/// What the verdict needs after a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// Nothing: the next regular round is soon enough.
    Settled,
    /// More exchanges: an uncertain change is under way, and they would settle it.
    NeedsConfirmation,
}

/// The verdict over time.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    threshold: Duration,
    state: State,
    /// Rounds in a row with an uncertain offset over the threshold.
    over: u8,
    /// Rounds in a row with an uncertain offset under the threshold, or under [`RELEASE_SHARE`] of it while
    /// drifting.
    under: u8,
    /// Rounds in a row with a bound over [`TOO_WIDE_SHARE`].
    wide: u8,
    /// The state rests on HTTP `Date` headers, and nothing has been measured since.
    is_coarse: bool,
    /// Regular rounds in an hour.
    rounds_per_hour: u32,
    /// Verdicts that a bound has ended lately, and rounds until one less counts.
    wide_ends: (usize, u32),
}

impl State {
    /// Every state, in the order of the README.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::InSync, Self::Drifting, Self::Disagree, Self::Disrupted];

    /// The state's name in metrics, annotations and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::InSync => "in-sync",
            Self::Drifting => "drifting",
            Self::Disagree => "disagree",
            Self::Disrupted => "disrupted",
        }
    }

    /// The state with this label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.label() == label)
    }

    /// Does the state rest on a measured offset?
    pub const fn has_offset(self) -> bool {
        matches!(self, Self::InSync | Self::Drifting)
    }
}

impl Verdict {
    /// `unknown`, until the first finding. `interval`: the time between two regular rounds.
    pub fn new(threshold: Duration, interval: Duration) -> Self {
        let rounds_per_hour = HOUR.as_millis() / interval.as_millis().max(1);
        Self {
            threshold,
            state: State::Unknown,
            over: 0,
            under: 0,
            wide: 0,
            is_coarse: false,
            rounds_per_hour: u32::try_from(rounds_per_hour).unwrap_or(u32::MAX).max(1),
            wide_ends: (0, 0),
        }
    }

    /// The verdict in force.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Judges by a finding.
    pub fn handle(&mut self, finding: Finding, occasion: Occasion) -> Next {
        match finding {
            Finding::Nothing => self.become_state(State::Unknown),
            Finding::Contradiction(hull) => self.handle_contradiction(hull),
            Finding::Disruption => self.become_state(State::Disrupted),
            Finding::CertainlyOver => {
                self.become_state(State::Drifting);
                self.is_coarse = true;
            }
            Finding::Measured(measured) => return self.handle_measured(measured, occasion),
        }
        Next::Settled
    }

    fn handle_measured(&mut self, measured: Measurement, occasion: Occasion) -> Next {
        // A measurement ends a disagreement and a disruption at once. Whether the clock drifts may take more
        // rounds. A coarse verdict does not count either: the hysteresis starts from what was measured.
        if matches!(self.state, State::Disagree | State::Disrupted) || self.is_coarse {
            self.become_state(State::Unknown);
        }
        let (bound, is_round) = (measured.bound.as_duration(), occasion == Occasion::Round);
        if is_round {
            self.count_round();
            self.wide = if bound > self.share(TOO_WIDE_SHARE) { self.wide.saturating_add(1) } else { 0 };
        }
        let within = measured.offset.magnitude().saturating_add(bound);
        if measured.certainly_exceeds(self.threshold) {
            self.become_state(State::Drifting);
        } else if bound > self.share(TOO_WIDE_SHARE) {
            if self.state == State::Drifting && measured.certainly_exceeds(self.share(RELEASE_SHARE)) {
                // The nearer end is still almost over the threshold.
                return Next::Settled;
            }
            // Bounds grow until the next round. What that one gives counts.
            if self.wide >= ROUNDS_TOO_WIDE && is_round && self.state != State::Unknown {
                self.become_state(State::Unknown);
                self.wide_ends = ((self.wide_ends.0 + 1).min(NARROW_SHARES.len() - 1), self.rounds_per_hour);
            }
        } else if self.state == State::Unknown && bound >= self.wide_release() {
            // Too wide for a new verdict.
        } else if within < self.certain_release() {
            self.become_state(State::InSync);
        } else if is_round {
            return self.count_uncertain(measured.offset.magnitude());
        }
        Next::Settled
    }

    /// All pools certainly over the threshold on one side are a drift, and all certainly within are none,
    /// whatever they differ by. Its ends move from round to round, so that a verdict ends later than it begins.
    fn handle_contradiction(&mut self, hull: Measurement) {
        let over = if self.state == State::Drifting { self.certain_release() } else { self.threshold };
        let under =
            if self.state == State::InSync { self.share(TOO_WIDE_SHARE) } else { self.certain_release() };
        self.become_state(if hull.certainly_exceeds(over) {
            State::Drifting
        } else if hull.certainly_within(under) {
            State::InSync
        } else {
            State::Disagree
        });
    }

    fn share(&self, (numerator, denominator): (u32, u32)) -> Duration {
        self.threshold.saturating_mul(numerator) / denominator
    }

    /// An hour after a bound has last ended a verdict, one less of them counts.
    fn count_round(&mut self) {
        self.wide_ends = match self.wide_ends {
            (0, _) => (0, 0),
            (count, left) if left > 1 => (count, left - 1),
            (count, _) => (count - 1, self.rounds_per_hour),
        };
    }

    /// Below this a bound allows a new verdict.
    fn wide_release(&self) -> Duration {
        self.share(NARROW_SHARES.get(self.wide_ends.0).copied().unwrap_or((1, 1)))
    }

    /// Below this a certain offset is in sync.
    fn certain_release(&self) -> Duration {
        if self.state == State::Drifting { self.share(CERTAIN_RELEASE_SHARE) } else { self.threshold }
    }

    /// Counts a round whose bound reaches across the threshold.
    fn count_uncertain(&mut self, magnitude: Duration) -> Next {
        let release = if self.state == State::Drifting { self.share(RELEASE_SHARE) } else { self.threshold };
        self.over = if magnitude > self.threshold { self.over + 1 } else { 0 };
        self.under = if magnitude < release { self.under + 1 } else { 0 };
        if self.over >= CONFIRMATIONS {
            self.become_state(State::Drifting);
            return Next::Settled;
        }
        if self.under >= CONFIRMATIONS {
            self.become_state(State::InSync);
            return Next::Settled;
        }
        let is_changing = match self.state {
            State::InSync => self.over > 0,
            State::Drifting => self.under > 0,
            State::Unknown | State::Disagree | State::Disrupted => true,
        };
        if is_changing { Next::NeedsConfirmation } else { Next::Settled }
    }

    /// Starts all counts again.
    fn become_state(&mut self, state: State) {
        (self.state, self.over, self.under, self.is_coarse) = (state, 0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Bound, Offset};

    const THRESHOLD: Duration = Duration::from_millis(100);
    const INTERVAL: Duration = Duration::from_secs(64);

    fn measured(offset_ms: i64, bound_ms: i64) -> Finding {
        Finding::Measured(Measurement::new(
            Offset::from_nanos(offset_ms * 1_000_000),
            Bound::from_nanos(bound_ms * 1_000_000),
        ))
    }

    /// The states after each finding, each at the end of a round.
    fn states(findings: &[Finding]) -> Vec<State> {
        let mut verdict = Verdict::new(THRESHOLD, INTERVAL);
        findings
            .iter()
            .map(|f| {
                let _ = verdict.handle(*f, Occasion::Round);
                verdict.state()
            })
            .collect()
    }

    use State::{Disagree, Disrupted, Drifting, InSync, Unknown};

    #[test]
    fn certain_drift_needs_no_confirmation_in_either_direction() {
        assert_eq!(states(&[measured(103, 2), measured(-103, 2)]), [Drifting, Drifting]);
        assert_eq!(states(&[measured(1, 1), measured(102, 1)]), [InSync, Drifting]);
    }

    #[test]
    fn coarse_drift_does_not_count_once_the_clock_is_measured() {
        let near = [Finding::CertainlyOver, measured(90, 20), measured(90, 20), measured(90, 20)];
        assert_eq!(states(&near), [Drifting, Unknown, Unknown, InSync]);
    }

    #[test]
    fn bounds_that_swing_around_the_threshold_end_few_verdicts() {
        // 85% of the threshold and 130% twice in turn: the second verdict needs 90%, the third 60%.
        let swinging: Vec<Finding> =
            (0..51).map(|n| measured(1, if n % 3 == 0 { 85 } else { 130 })).collect();
        let seen = states(&swinging);
        let changes = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!((changes, seen[50]), (3, Unknown), "{seen:?}");
        let later: Vec<Finding> = swinging.iter().copied().chain([measured(1, 59)]).collect();
        assert_eq!(states(&later)[51], InSync, "60% is always enough");
        // An hour later one less counts.
        let calm = |bound: i64, rounds: usize| {
            let rest = std::iter::repeat_n(measured(1, bound), rounds);
            *states(&swinging[..6].iter().copied().chain(rest).collect::<Vec<_>>()).last().unwrap()
        };
        assert_eq!(
            [calm(89, 40), calm(89, 60), calm(99, 60), calm(99, 120)],
            [Unknown, InSync, Unknown, InSync]
        );
    }

    #[test]
    fn wide_bounds_end_a_drift_below_80_percent_of_the_threshold() {
        let seen =
            states(&[measured(-236, 134), measured(-235, 136), measured(-231, 150), measured(-229, 150)]);
        assert_eq!(seen, [Drifting, Drifting, Drifting, Unknown]);
        assert_eq!(states(&[measured(-235, 136)]), [Unknown], "over 80% is not enough to begin");
    }

    #[test]
    fn an_offset_of_exactly_the_threshold_is_in_sync() {
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

    /// From 300 ms ahead to 300 ms behind.
    fn contradiction() -> Finding {
        hull(0, 300)
    }

    fn hull(offset_ms: i64, bound_ms: i64) -> Finding {
        match measured(offset_ms, bound_ms) {
            Finding::Measured(hull) => Finding::Contradiction(hull),
            other => other,
        }
    }

    #[test]
    fn contradicting_pools_that_are_all_over_or_all_within_the_threshold_decide_the_state() {
        assert_eq!(states(&[hull(5_010, 12)]), [Drifting], "pools 5.000 and 5.020 s ahead");
        assert_eq!(states(&[hull(-5_010, 12)]), [Drifting]);
        assert_eq!(states(&[hull(30, 40)]), [InSync], "pools 60 ms apart");
        assert_eq!(states(&[hull(30, 80)]), [Disagree]);
    }

    #[test]
    fn a_contradiction_ends_a_verdict_later_than_it_begins_one() {
        assert_eq!(
            states(&[hull(0, 99), hull(0, 119), hull(0, 121), hull(0, 119)]),
            [InSync, InSync, Disagree, Disagree]
        );
        let drift = [hull(150, 45), hull(150, 55), hull(150, 61), hull(150, 55)];
        assert_eq!(states(&drift), [Drifting, Drifting, Disagree, Disagree]);
        assert_eq!(
            states(&[hull(150, 45), hull(0, 95)]),
            [Drifting, Disagree],
            "from drifting it must be under 90 ms"
        );
    }

    #[test]
    fn a_certain_recovery_must_reach_90_percent_of_the_threshold() {
        assert_eq!(states(&[measured(150, 1), measured(95, 1)])[1], Drifting, "certainly under, but near");
        assert_eq!(states(&[measured(150, 1), measured(88, 1)])[1], InSync);
    }

    #[test]
    fn a_bound_ends_a_verdict_over_120_percent_of_the_threshold_in_two_rounds() {
        let widths = [1, 119, 121, 119, 121, 121, 91, 89].map(|bound| measured(1, bound));
        assert_eq!(
            states(&widths),
            [InSync, InSync, InSync, InSync, InSync, Unknown, Unknown, InSync],
            "slow answers in one round end nothing"
        );
        assert_eq!(states(&[measured(1, 110); 5]), [Unknown; 5], "too wide for a new verdict, however often");
        let mut verdict = Verdict::new(THRESHOLD, INTERVAL);
        let _ = verdict.handle(measured(1, 1), Occasion::Round);
        let _ = verdict.handle(measured(1, 500), Occasion::Tick);
        assert_eq!(verdict.state(), InSync, "between two rounds");
    }

    #[test]
    fn ticks_do_not_count_as_rounds() {
        let mut verdict = Verdict::new(THRESHOLD, INTERVAL);
        let _ = verdict.handle(measured(0, 1), Occasion::Round);
        for _ in 0..10 {
            let _ = verdict.handle(measured(105, 10), Occasion::Tick);
        }
        assert_eq!(verdict.state(), InSync);
        let _ = verdict.handle(measured(115, 10), Occasion::Tick);
        assert_eq!(verdict.state(), Drifting, "a certain drift needs no round");
    }

    #[test]
    fn uncertain_recovery_must_reach_80_percent_of_the_threshold() {
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
    fn a_bound_over_the_threshold_is_unknown_unless_the_drift_is_certain() {
        assert_eq!(states(&[measured(1, 1), measured(0, 121), measured(0, 121)])[2], Unknown);
        assert_eq!(
            states(&[measured(10_000, 300)])[0],
            Drifting,
            "certainly over, in spite of the wide bound"
        );
    }

    #[test]
    fn contradiction_disruption_and_a_missing_estimate_need_no_confirmation() {
        let all = [measured(1, 1), contradiction(), Finding::Nothing, Finding::Disruption];
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
    fn an_uncertain_measurement_turns_disagree_and_disrupted_into_unknown() {
        for finding in [contradiction(), Finding::Disruption] {
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
    fn confirmation_is_needed_only_while_a_change_is_under_way() {
        let mut verdict = Verdict::new(THRESHOLD, INTERVAL);
        assert_eq!(verdict.handle(measured(1, 1), Occasion::Round), Next::Settled);
        assert_eq!(verdict.handle(measured(95, 10), Occasion::Round), Next::Settled, "near, but not over");
        assert_eq!(verdict.handle(measured(105, 10), Occasion::Round), Next::NeedsConfirmation);
        assert_eq!(verdict.handle(measured(105, 10), Occasion::Tick), Next::Settled);
    }

    #[test]
    fn state_labels_are_those_of_the_readme() {
        assert_eq!(State::ALL.map(State::label), ["unknown", "in-sync", "drifting", "disagree", "disrupted"]);
        assert!(State::ALL.into_iter().all(|s| State::from_label(s.label()) == Some(s)));
    }
}
