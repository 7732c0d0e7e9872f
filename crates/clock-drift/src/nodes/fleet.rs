//! All Nodes together: the order in which they are shown, and the summary.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::now::Now;
use super::row::{ReportedState, Row};
use super::skew::Skew;
use drift_core::report::leeway::Settings;
use drift_core::time::{Bound, Measurement, Offset};
use drift_core::verdict::State;

/// The limits of a recommended leeway: the agent's own defaults.
pub const LEEWAY_LIMITS: Settings = Settings {
    peer_allowance: Duration::ZERO,
    minimum: Duration::from_secs(5),
    maximum: Duration::from_secs(30),
};

/// The Nodes of a cluster, worst first.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The Nodes.
    pub rows: Vec<Row>,
    /// The present.
    pub now: Now,
}

/// Counts, the worst pair and the recommended leeway over all Nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary<'a> {
    /// The number of Nodes by [`ReportedState::label`], without the states that no Node reports.
    pub states: Vec<(&'static str, usize)>,
    /// Measured too long ago, or at an unknown time.
    pub stale: usize,
    /// Measured recently.
    pub current: usize,
    /// The Nodes whose clocks are furthest apart: the one behind, the one ahead, and their skew.
    pub worst_pair: Option<(&'a Row, &'a Row, Skew)>,
    /// The leeway that verifiers of tokens should allow; `None` when no clock was measured recently.
    pub leeway: Option<Leeway>,
    /// Nodes on which no agent has ever written.
    pub without_agent: Vec<&'a str>,
}

/// A leeway for all measured Nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leeway {
    /// Whole seconds.
    pub seconds: u64,
    /// More would be necessary than any verifier should allow: a clock must be fixed.
    pub is_too_little: bool,
}

impl Leeway {
    /// For clocks that are `apart` ± `bound`.
    pub fn covering(apart: Duration, bound: Bound) -> Self {
        let needed = Offset::from_nanos(drift_core::time::nanos(apart));
        let recommended = LEEWAY_LIMITS.recommend(Some(Measurement::new(needed, bound))).seconds;
        let is_too_little = apart.saturating_add(bound.as_duration()) > LEEWAY_LIMITS.maximum;
        Self { seconds: recommended, is_too_little }
    }
}

impl Fleet {
    /// Sorts the Nodes: drifting ones, by the certain part of the offset; those of unknown state; those in
    /// sync, by offset; those without an agent.
    pub fn new(mut rows: Vec<Row>, now: Now) -> Self {
        rows.sort_by_cached_key(|row| {
            let (offset, bound) = (row.offset.value(), row.bound.value());
            let size = offset.map_or(Duration::ZERO, |offset| offset.magnitude());
            let certain = size.saturating_sub(bound.copied().unwrap_or_default().as_duration());
            (group(row, &now), Reverse(certain), Reverse(size), row.name.clone())
        });
        Self { rows, now }
    }

    /// Does any Node report that it drifts?
    pub fn drifts(&self) -> bool {
        self.rows.iter().any(Row::drifts)
    }

    /// Was any Node measured recently?
    pub fn is_measured(&self) -> bool {
        self.rows.iter().any(|row| row.current(&self.now).is_some())
    }

    /// The summary over all Nodes.
    pub fn summary(&self) -> Summary<'_> {
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        for row in &self.rows {
            *counts.entry(row.reported.label()).or_default() += 1;
        }
        let order = ["drifting", "disagree", "disrupted", "unknown", "unreadable", "in-sync", "no-agent"];
        let current: Vec<(&Row, Measurement)> = self
            .rows
            .iter()
            .filter_map(|row| {
                let (Measurement { offset, bound }, age) = row.current(&self.now)?;
                Some((row, Measurement::new(offset, Skew::aged(bound, age))))
            })
            .collect();
        // The furthest behind and the furthest ahead.
        let most_behind = current.iter().max_by_key(|(_, measured)| measured.offset);
        let most_ahead = current.iter().min_by_key(|(_, measured)| measured.offset);
        let worst_pair = most_behind.zip(most_ahead).filter(|(a, b)| a.0.name != b.0.name);
        let worst_pair = worst_pair.and_then(|(a, b)| Some((a.0, b.0, Skew::between(b.0, a.0, &self.now)?)));
        // Tokens also come from issuers outside the cluster, whose clocks are correct: so each Node's own
        // offset counts, too.
        let own = current.iter().map(|(_, measured)| (measured.offset.magnitude(), measured.bound));
        let pair = worst_pair.iter().map(|(_, _, skew)| (skew.ahead.magnitude(), skew.now));
        let widest = own.chain(pair).max_by_key(|(apart, bound)| apart.saturating_add(bound.as_duration()));
        Summary {
            states: order.iter().filter_map(|state| Some((*state, *counts.get(state)?))).collect(),
            stale: self.rows.iter().filter(|row| row.is_stale(&self.now)).count(),
            current: current.len(),
            worst_pair,
            leeway: widest.map(|(apart, bound)| Leeway::covering(apart, bound)),
            without_agent: self
                .rows
                .iter()
                .filter(|row| row.reported == ReportedState::NoAgent)
                .map(|row| row.name.as_str())
                .collect(),
        }
    }
}

/// 0: drifting, 1: drifting when last measured, 2: unknown, 3: in sync, 4: no agent.
fn group(row: &Row, now: &Now) -> u8 {
    let is_current = row.current(now).is_some();
    match &row.reported {
        ReportedState::State(State::Drifting) if is_current => 0,
        ReportedState::State(State::Drifting) => 1,
        ReportedState::State(State::InSync) if is_current => 3,
        ReportedState::NoAgent => 4,
        ReportedState::State(_) | ReportedState::Unrecognised(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::samples::{measured, node, now};
    use crate::test_support::Reached;
    use proptest::prelude::*;

    fn names(rows: Vec<Row>) -> Vec<String> {
        Fleet::new(rows, now()).rows.into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn nodes_are_sorted_by_certain_offset_and_those_without_an_agent_come_last() {
        let rows = vec![
            node("none", &[]),
            measured("good", "in-sync", 20, 2, 60),
            measured("better", "in-sync", -1, 1, 60),
            measured("old-good", "in-sync", 3, 1, 90_000),
            node("lost", &[("clock-state", "unknown")]),
            node("odd", &[("clock-state", "?")]),
            measured("old-bad", "drifting", 9_000, 1, 90_000),
            measured("vague", "drifting", 4_000, 3_000, 60),
            measured("sure", "drifting", -3_000, 2, 60),
            measured("surer", "drifting", 3_001, 2, 60),
        ];
        assert_eq!(
            names(rows),
            ["surer", "sure", "vague", "old-bad", "old-good", "lost", "odd", "good", "better", "none"]
        );
    }

    #[test]
    fn worst_pair_is_the_furthest_behind_and_the_furthest_ahead() {
        let rows = vec![
            measured("a", "in-sync", 20, 2, 0),
            measured("b", "drifting", 3_000, 2, 0),
            measured("c", "drifting", -200, 3, 0),
            measured("stale", "drifting", -90_000, 1, 90_000),
            node("none", &[]),
        ];
        let fleet = Fleet::new(rows, now());
        let summary = fleet.summary();
        let (a, b, skew) = summary.worst_pair.unwrap();
        assert_eq!((a.name.as_str(), b.name.as_str()), ("b", "c"));
        assert_eq!(skew.ahead, Offset::from_nanos(3_200_000_000), "c is ahead of b by that");
        assert_eq!(skew.measured, Bound::from_nanos(5_000_000));
        assert_eq!(summary.states, [("drifting", 3), ("in-sync", 1), ("no-agent", 1)]);
        assert_eq!((summary.current, summary.stale), (3, 1));
        assert_eq!(summary.without_agent, ["none"]);
        assert_eq!(summary.leeway, Some(Leeway { seconds: 5, is_too_little: false }));
        assert!(fleet.drifts() && fleet.is_measured());
    }

    #[test]
    fn leeway_covers_pairs_and_correct_issuers_within_its_limits() {
        let leeway = |rows: Vec<Row>| Fleet::new(rows, now()).summary().leeway;
        let some = |seconds, is_too_little| Some(Leeway { seconds, is_too_little });
        let at = |name: &str, ms| measured(name, "drifting", ms, 1, 0);
        assert_eq!(leeway(vec![at("a", 4_000), at("b", -4_000)]), some(9, false), "8 s and the bounds");
        assert_eq!(
            leeway(vec![at("a", 7_000), at("b", 7_000)]),
            some(8, false),
            "the clock of an issuer elsewhere is correct"
        );
        assert_eq!(leeway(vec![at("a", 7_000)]), some(8, false), "one node has no pair");
        assert_eq!(leeway(vec![at("a", 20_000), at("b", -20_000)]), some(30, true));
        assert_eq!(leeway(vec![at("a", 3)]), some(5, false));
        assert_eq!(leeway(vec![node("a", &[])]), None);
        assert_eq!(leeway(vec![measured("a", "in-sync", 1, 1, 90_000)]), None, "the measurement is stale");
    }

    #[test]
    fn every_node_is_listed_once_in_the_order_of_its_group() {
        let reached = Reached::new([
            ("three groups or more", 20),
            ("a worst pair", 30),
            ("a leeway that suffices", 20),
            ("a leeway that is too little", 5),
        ]);
        let nodes = proptest::sample::select(vec![3_000i64, 9_000, 40_000]).prop_flat_map(|offset| {
            proptest::collection::vec((0usize..5, -offset..offset, 0i64..500, 0i64..3_000), 0..40)
        });
        proptest!(|(nodes in nodes)| {
            let states = ["in-sync", "drifting", "unknown", "disagree", "nonsense"];
            let rows: Vec<Row> = nodes.iter().enumerate()
                .map(|(n, (state, offset, bound, ago))| measured(&format!("n{n}"), states[*state], *offset, *bound, *ago))
                .collect();
            let fleet = Fleet::new(rows.clone(), now());
            prop_assert_eq!(fleet.rows.len(), rows.len());
            prop_assert!(rows.iter().all(|row| fleet.rows.contains(row)));
            let groups: Vec<u8> = fleet.rows.iter().map(|row| group(row, &now())).collect();
            prop_assert!(groups.is_sorted());
            reached.case("three groups or more", groups.iter().collect::<std::collections::BTreeSet<_>>().len() >= 3);
            let summary = fleet.summary();
            prop_assert_eq!(summary.states.iter().map(|(_, n)| n).sum::<usize>(), rows.len());
            // No pair is further apart than the worst.
            let worst = summary.worst_pair.as_ref().map_or(0, |(_, _, skew)| skew.ahead.as_nanos());
            for a in &rows {
                for b in &rows {
                    let skew = Skew::between(a, b, &now()).map_or(0, |skew| skew.ahead.as_nanos());
                    prop_assert!(skew <= worst);
                }
            }
            reached.case("a worst pair", summary.worst_pair.is_some());
            let is_too_little = summary.leeway.map(|leeway| leeway.is_too_little);
            reached.case("a leeway that suffices", is_too_little == Some(false));
            reached.case("a leeway that is too little", is_too_little == Some(true));
            // The leeway covers the worst pair, or is marked as too little.
            if let (Some((_, _, skew)), Some(leeway)) = (&summary.worst_pair, summary.leeway) {
                let needed = skew.ahead.magnitude() + skew.now.as_duration();
                prop_assert!(Duration::from_secs(leeway.seconds) >= needed || leeway.is_too_little);
                prop_assert!((5..=30).contains(&leeway.seconds));
            }
        });
    }
}
