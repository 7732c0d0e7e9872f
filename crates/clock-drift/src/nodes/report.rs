//! Output for programs: `-o json`, `-o yaml`, `-o name`. Untrusted text is escaped as in the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::fleet::{Fleet, Summary};
use super::now::Now;
use super::row::{CELL_CHARS_MAX, Row, escape_for_terminal};
use drift_core::step::last_step::LastStep;
use drift_core::time::{Measurement, Offset, Wall};

/// The whole output of `-o json` and `-o yaml`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report<'a> {
    /// The present from which ages are counted.
    now: String,
    /// `api-server` or `this-machine`.
    now_by: &'static str,
    /// The API server's time minus this machine's; `null` when the API server sent no `Date`. Positive: this
    /// machine is behind.
    this_machine_offset_seconds: Option<f64>,
    this_machine_offset_bound_seconds: Option<f64>,
    nodes: Vec<NodeReport<'a>>,
    /// Over all Nodes, including those that `--worst` leaves out.
    summary: SummaryReport<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeReport<'a> {
    name: &'a str,
    /// A state of the agent, or `no-agent`, or `unreadable`.
    state: &'static str,
    /// Measured too long ago, or at an unknown time.
    stale: bool,
    /// Positive: the node is behind.
    offset_seconds: Option<f64>,
    offset_bound_seconds: Option<f64>,
    observed_at: Option<String>,
    observed_age_seconds: Option<i64>,
    exceeded_since: Option<String>,
    last_step: Option<StepReport>,
    pools: Option<&'a str>,
    /// What the node's own time daemon has of what it should have.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_daemon_audit: Option<BTreeMap<&'static str, &'static str>>,
    zone: Option<&'a str>,
    /// Annotations that cannot be read: the name after `drift-agent.io/`, and the text.
    unreadable: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StepReport {
    at: String,
    /// Offset before; positive: the node was behind.
    before_seconds: f64,
    after_seconds: Option<f64>,
    method: String,
    trigger: String,
    /// The offset did not go away: automatic steps are disabled until an operator requests one.
    had_no_effect: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryReport<'a> {
    nodes: usize,
    states: BTreeMap<&'static str, usize>,
    stale: usize,
    measured: usize,
    without_agent: Vec<&'a str>,
    worst_pair: Option<PairReport<'a>>,
    recommended_leeway_seconds: Option<u64>,
    /// More would be necessary, but no verifier should allow more than this.
    leeway_is_too_little: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PairReport<'a> {
    behind: &'a str,
    ahead: &'a str,
    skew_seconds: f64,
    /// The sum of both bounds, each at the time of its measurement.
    measured_bound_seconds: f64,
    /// The same, plus what both clocks may have drifted since.
    bound_seconds: f64,
}

impl<'a> Report<'a> {
    /// The `worst` first Nodes, or all; the summary covers all.
    pub fn new(fleet: &'a Fleet, worst: Option<usize>) -> Self {
        let now = &fleet.now;
        let machine = now
            .machine
            .map(|Measurement { offset, bound }| (offset.as_secs_f64(), bound.as_secs_f64()))
            .unzip();
        Self {
            now: now.at.rfc3339(0),
            now_by: now.by.label(),
            this_machine_offset_seconds: machine.0,
            this_machine_offset_bound_seconds: machine.1,
            nodes: fleet
                .rows
                .iter()
                .take(worst.unwrap_or(usize::MAX))
                .map(|row| NodeReport::new(row, now))
                .collect(),
            summary: SummaryReport::new(&fleet.summary(), fleet.rows.len()),
        }
    }
}

impl<'a> NodeReport<'a> {
    fn new(row: &'a Row, now: &Now) -> Self {
        let time = |at: Option<&Wall>| at.map(|at| at.rfc3339(0));
        Self {
            name: &row.name,
            state: row.reported.label(),
            stale: row.is_stale(now),
            offset_seconds: row.offset.value().map(|offset| offset.as_secs_f64()),
            offset_bound_seconds: row.bound.value().map(|bound| bound.as_secs_f64()),
            observed_at: time(row.observed_at.value()),
            observed_age_seconds: row.observed(now).map(|age| age.0),
            exceeded_since: time(row.exceeded_since.value()),
            last_step: row.last_step.value().map(StepReport::new),
            pools: row.pools.as_deref(),
            time_daemon_audit: row.audit.value().map(|audit| {
                audit.findings().into_iter().map(|(key, _, finding)| (key, finding.label())).collect()
            }),
            zone: row.zone.as_deref(),
            unreadable: row.unreadable().into_iter().collect(),
        }
    }
}

impl StepReport {
    fn new(step: &LastStep) -> Self {
        let escaped = |text: &str| escape_for_terminal(text, CELL_CHARS_MAX);
        Self {
            at: step.at.rfc3339(0),
            before_seconds: step.before.as_secs_f64(),
            after_seconds: step.after.map(Offset::as_secs_f64),
            method: escaped(&step.method),
            trigger: escaped(&step.trigger),
            had_no_effect: step.is_latched,
        }
    }
}

impl<'a> SummaryReport<'a> {
    fn new(summary: &Summary<'a>, nodes: usize) -> Self {
        Self {
            nodes,
            states: summary.states.iter().copied().collect(),
            stale: summary.stale,
            measured: summary.current,
            without_agent: summary.without_agent.clone(),
            worst_pair: summary.worst_pair.as_ref().map(|(behind, ahead, skew)| PairReport {
                behind: &behind.name,
                ahead: &ahead.name,
                skew_seconds: skew.ahead.as_secs_f64().abs(),
                measured_bound_seconds: skew.measured.as_secs_f64(),
                bound_seconds: skew.now.as_secs_f64(),
            }),
            recommended_leeway_seconds: summary.leeway.map(|leeway| leeway.seconds),
            leeway_is_too_little: summary.leeway.is_some_and(|leeway| leeway.is_too_little),
        }
    }
}

/// `node/NAME`, one per line, worst first: for `xargs kubectl`.
pub fn names(fleet: &Fleet, worst: Option<usize>) -> String {
    let mut text = String::new();
    for row in fleet.rows.iter().take(worst.unwrap_or(usize::MAX)) {
        let _ = writeln!(text, "node/{}", row.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::samples::{measured, node, now};
    use serde_json::{Value, json};

    #[test]
    fn json_has_every_field_of_the_table() {
        let step = "2026-11-22T09:00:00Z before=+20.0013 after=+0.0002 method=ker\u{1b}nel trigger=pause in-hour=1 total=20.0013";
        let rows = vec![
            measured("a", "drifting", 3_000, 2, 60),
            measured("b", "in-sync", -12, 3, 120),
            node("odd", &[("clock-state", "in-sync"), ("offset-seconds", "\u{1b}x"), ("last-step", step)]),
            node("none", &[]),
        ];
        let fleet = Fleet::new(rows, now());
        let report: Value = serde_json::to_value(Report::new(&fleet, Some(3))).unwrap();
        assert_eq!(
            report,
            json!({
                "now": "2026-11-22T10:00:00Z",
                "nowBy": "api-server",
                "thisMachineOffsetSeconds": null,
                "thisMachineOffsetBoundSeconds": null,
                "nodes": [
                    {
                        "name": "a", "state": "drifting", "stale": false,
                        "offsetSeconds": 3.0, "offsetBoundSeconds": 0.002,
                        "observedAt": "2026-11-22T09:59:00Z", "observedAgeSeconds": 60,
                        "exceededSince": null, "lastStep": null, "pools": null, "zone": null, "unreadable": {},
                    },
                    {
                        "name": "odd", "state": "in-sync", "stale": true,
                        "offsetSeconds": null, "offsetBoundSeconds": null,
                        "observedAt": null, "observedAgeSeconds": null, "exceededSince": null,
                        "lastStep": {
                            "at": "2026-11-22T09:00:00Z", "beforeSeconds": 20.0013, "afterSeconds": 0.0002,
                            "method": "ker\\u{1b}nel", "trigger": "pause", "hadNoEffect": false,
                        },
                        "pools": null, "zone": null, "unreadable": {"offset-seconds": "\\u{1b}x"},
                    },
                    {
                        "name": "b", "state": "in-sync", "stale": false,
                        "offsetSeconds": -0.012, "offsetBoundSeconds": 0.003,
                        "observedAt": "2026-11-22T09:58:00Z", "observedAgeSeconds": 120,
                        "exceededSince": null, "lastStep": null, "pools": null, "zone": null, "unreadable": {},
                    },
                ],
                "summary": {
                    "nodes": 4,
                    "states": {"drifting": 1, "in-sync": 2, "no-agent": 1},
                    "stale": 1,
                    "measured": 2,
                    "withoutAgent": ["none"],
                    "worstPair": {
                        "behind": "a", "ahead": "b", "skewSeconds": 3.012, "measuredBoundSeconds": 0.005,
                        // 200 ppm of 61 s and of 121 s.
                        "boundSeconds": 0.0414,
                    },
                    "recommendedLeewaySeconds": 5,
                    "leewayIsTooLittle": false,
                },
            })
        );
        assert_eq!(names(&fleet, Some(2)), "node/a\nnode/odd\n");
    }
}
