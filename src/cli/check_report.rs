//! `drift-agent check`: what it found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::check_node::{Measured, Node, NodeReport};
use clock_drift::terminal::{Style, columns};
use drift_core::http_date::coarse::{CoarseReadings, HttpReading};
use drift_core::report::snapshot::{PoolSnapshot, ServerSnapshot, Snapshot};
use drift_core::time::{Measurement, Offset, span_in_words};
use drift_core::verdict::State;

/// Everything that was found.
pub(super) struct Diagnosis {
    snapshot: Snapshot,
    node: Node,
    /// What was asked for, whether it counts or not.
    coarse: CoarseReadings,
}

impl Diagnosis {
    /// NTP alone decides. Where no server answers, the `Date` headers may say that the clock drifts, and nothing else.
    pub fn new(mut snapshot: Snapshot, node: Node, coarse: CoarseReadings) -> Self {
        let is_without_ntp =
            snapshot.state == State::Unknown && snapshot.unreachable_pools().count() == snapshot.pools.len();
        if is_without_ntp {
            snapshot.coarse = coarse.clone();
            if coarse.certainly_over(snapshot.threshold).is_some() {
                snapshot.state = State::Drifting;
            }
        }
        Self { snapshot, node, coarse }
    }

    /// The verdict.
    pub fn state(&self) -> State {
        self.snapshot.state
    }

    /// The offset that the verdict rests on where NTP says nothing.
    fn by_headers(&self) -> Option<Measurement> {
        self.snapshot.coarse.certainly_over(self.snapshot.threshold)
    }

    fn sentence(&self) -> String {
        let sentence = self.snapshot.sentence();
        match self.snapshot.measured.and_then(|measured| self.coarse.against(measured)) {
            Some(against) => format!("{sentence} {against}"),
            None => sentence,
        }
    }

    /// What to do about it.
    fn hint(&self) -> Option<String> {
        let blocked = self.snapshot.blocked()?;
        Some(if self.coarse.0.is_empty() {
            format!(
                "{blocked} Where HTTP gets through, --http-date http://HOST tells the time to about half a second."
            )
        } else {
            blocked
        })
    }

    fn measured(&self) -> Measured {
        Measured {
            now: self.snapshot.node_time,
            offset: self.snapshot.measured.or(self.by_headers()),
            threshold: self.snapshot.threshold,
        }
    }

    pub fn table(&self, style: Style) -> String {
        let state = self.state();
        let mut text = format!("{}: {}\n\n", style.state(state, state.label()), self.sentence());
        let header = ["POOL", "OFFSET", "BOUND", "ROUND TRIP", "STRATUM", "RESULT"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for pool in &self.snapshot.pools {
            rows.push(vec![
                pool.name.clone(),
                words(pool.measured.map(|m| m.offset)),
                bound(pool.measured),
                pool.round_trip.map_or_else(|| "-".to_owned(), span_in_words),
                pool.stratum.map_or_else(|| "-".to_owned(), |s| s.to_string()),
                pool_result(pool),
            ]);
            for server in &pool.servers {
                rows.push(vec![
                    format!("  {}", server.address),
                    words(server.measured.map(|m| m.offset)),
                    bound(server.measured),
                    String::new(),
                    String::new(),
                    server_result(server).to_owned(),
                ]);
            }
        }
        text.push_str(&columns(&rows));
        if !self.coarse.0.is_empty() {
            let header = ["HTTP DATE (COARSE)", "OFFSET", "BOUND", "RESULT"].map(str::to_owned).to_vec();
            let rows: Vec<_> = std::iter::once(header).chain(self.coarse.0.iter().map(said_row)).collect();
            let _ = write!(text, "\n{}", columns(&rows));
        }
        if let Some(hint) = self.hint() {
            let _ = write!(text, "\n{hint}\n");
        }
        let header = vec!["THIS NODE".to_owned()];
        let rows: Vec<_> = std::iter::once(header).chain(self.node.lines(self.measured())).collect();
        let _ = write!(text, "\n{}", columns(&rows));
        text
    }

    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&Report::new(self))
    }
}

fn said_row(said: &HttpReading) -> Vec<String> {
    let answers = match said.answers {
        1 => "1 answer".to_owned(),
        n => format!("{n} answers"),
    };
    let result = match &said.rejected {
        Some(rejected) if said.measured.is_some() => format!("{answers}; then {rejected}"),
        Some(rejected) => rejected.to_string(),
        None => answers,
    };
    vec![said.site.url.clone(), words(said.measured.map(|m| m.offset)), bound(said.measured), result]
}

fn words(offset: Option<Offset>) -> String {
    offset.map_or_else(|| "-".to_owned(), Offset::in_words)
}

fn bound(measured: Option<Measurement>) -> String {
    measured.map_or_else(|| "-".to_owned(), |Measurement { bound, .. }| format!("±{}", bound.in_words()))
}

fn pool_result(pool: &PoolSnapshot) -> String {
    match (pool.reachable_servers(), pool.servers.len()) {
        (0, _) => pool.trouble().unwrap_or_else(|| "no answer".to_owned()),
        (live, all) => format!("{live} of {all} servers answer"),
    }
}

fn server_result(server: &ServerSnapshot) -> &'static str {
    match server.last {
        None => "not asked",
        Some(Ok(())) if server.is_falseticker => "outvoted",
        Some(Ok(())) => "ok",
        Some(Err(refusal)) => refusal.in_words(),
    }
}

/// `--output json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    state: &'static str,
    message: String,
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    /// The state, offset and bound are by `Date` headers: no NTP server answered.
    coarse: bool,
    observed_at: Option<String>,
    pools: Vec<PoolReport>,
    http_date: Vec<SaidReport>,
    hint: Option<String>,
    node: NodeReport,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PoolReport {
    name: String,
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    round_trip_seconds: Option<f64>,
    stratum: Option<u8>,
    error: Option<String>,
    servers: Vec<ServerReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerReport {
    address: String,
    result: &'static str,
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    is_falseticker: bool,
}

fn seconds(measured: Option<Measurement>) -> (Option<f64>, Option<f64>) {
    measured.map(|Measurement { offset, bound }| (offset.as_secs_f64(), bound.as_secs_f64())).unzip()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SaidReport {
    url: String,
    coarse: bool,
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    answers: u32,
    error: Option<String>,
    /// It cannot be true if NTP's word is; `null` where one of the two has none.
    contradicts_ntp: Option<bool>,
}

impl Report {
    fn new(diagnosis: &Diagnosis) -> Self {
        let snapshot = &diagnosis.snapshot;
        let by_headers = diagnosis.by_headers();
        let (offset_seconds, bound_seconds) = seconds(snapshot.measured.or(by_headers));
        Self {
            state: diagnosis.state().label(),
            message: diagnosis.sentence(),
            offset_seconds,
            bound_seconds,
            coarse: by_headers.is_some(),
            observed_at: snapshot.reference.map(|t| t.rfc3339(9)),
            pools: snapshot.pools.iter().map(PoolReport::new).collect(),
            http_date: diagnosis
                .coarse
                .0
                .iter()
                .map(|said| SaidReport::new(said, snapshot.measured))
                .collect(),
            hint: diagnosis.hint(),
            node: diagnosis.node.report(diagnosis.measured()),
        }
    }
}

impl SaidReport {
    fn new(said: &HttpReading, ntp: Option<Measurement>) -> Self {
        let (offset_seconds, bound_seconds) = seconds(said.measured);
        Self {
            url: said.site.url.clone(),
            coarse: true,
            offset_seconds,
            bound_seconds,
            answers: said.answers,
            error: said.rejected.as_ref().map(ToString::to_string),
            contradicts_ntp: said.measured.zip(ntp).map(|(said, ntp)| !said.overlaps(ntp)),
        }
    }
}

impl PoolReport {
    fn new(pool: &PoolSnapshot) -> Self {
        let (offset_seconds, bound_seconds) = seconds(pool.measured);
        Self {
            name: pool.name.clone(),
            offset_seconds,
            bound_seconds,
            round_trip_seconds: pool.round_trip.map(|d| d.as_secs_f64()),
            stratum: pool.stratum,
            error: pool.trouble().filter(|_| pool.reachable_servers() == 0),
            servers: pool.servers.iter().map(ServerReport::new).collect(),
        }
    }
}

impl ServerReport {
    fn new(server: &ServerSnapshot) -> Self {
        let (offset_seconds, bound_seconds) = seconds(server.measured);
        Self {
            address: server.address.to_string(),
            result: match server.last {
                None => "not_asked",
                Some(Ok(())) => drift_core::report::snapshot::ACCEPTED,
                Some(Err(refusal)) => refusal.label(),
            },
            offset_seconds,
            bound_seconds,
            is_falseticker: server.is_falseticker,
        }
    }
}
