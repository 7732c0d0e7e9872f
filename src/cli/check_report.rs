//! `drift-agent check`: its report as a table and as JSON. It only prints; [`Diagnosis`] decides.

use std::fmt::Write as _;

use serde::Serialize;

use super::check_node::{Measured, NodeClock, NodeReport};
use clock_drift::terminal::{Style, columns};
use drift_core::http_date::coarse::HttpReading;
use drift_core::ntp::server::ServerState;
use drift_core::report::diagnosis::Diagnosis;
use drift_core::report::shape::Shape;
use drift_core::report::snapshot::{PoolSnapshot, ServerSnapshot, Snapshot};
use drift_core::time::{ExactSpan, Measurement, Offset, Span};
use drift_core::verdict::State;

/// Everything that `check` found.
pub(super) struct CheckReport {
    diagnosis: Diagnosis,
    node: NodeClock,
    /// What `auto` among the pools has picked.
    picked: Option<String>,
}

impl CheckReport {
    pub fn new(diagnosis: Diagnosis, node: NodeClock, picked: Option<String>) -> Self {
        Self { diagnosis, node, picked }
    }

    /// The verdict.
    pub fn state(&self) -> State {
        self.diagnosis.state()
    }

    /// What the operator can do where UDP seems to be blocked, and which server chrony reaches where no pool
    /// answers.
    fn hint(&self) -> Option<String> {
        let snapshot = &self.diagnosis.snapshot;
        let by_http = "To measure by HTTP instead, to about half a second: --http-date http://HOST.";
        let by_http = Some(by_http.to_owned()).filter(|_| self.diagnosis.readings.0.is_empty());
        let blocked = snapshot.blocked();
        let by_http = by_http.filter(|_| blocked.is_some());
        let is_answered = snapshot.pools.iter().any(|pool| pool.reachable_servers() > 0);
        let own = self.node.ntp_source().filter(|_| !is_answered);
        let own = own.map(|own| {
            format!(
                "chrony on this node follows the NTP server {own}: if it may serve pods, use it as a pool."
            )
        });
        let hints: Vec<String> = blocked.into_iter().chain(by_http).chain(own).collect();
        (!hints.is_empty()).then(|| hints.join(" "))
    }

    fn measured(&self) -> Measured {
        let Diagnosis { snapshot, .. } = &self.diagnosis;
        Measured {
            node_time: snapshot.node_time,
            offset: self.diagnosis.measured(),
            threshold: snapshot.threshold,
        }
    }

    pub fn table(&self, style: Style) -> String {
        let state = self.state();
        let mut text = format!("{}: {}\n\n", style.state(state, state.label()), self.diagnosis.sentence());
        let header = ["POOL", "OFFSET", "BOUND", "ROUND TRIP", "STRATUM", "RESULT"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for pool in &self.diagnosis.snapshot.pools {
            rows.push(vec![
                pool.name.clone(),
                offset_cell(pool.measured.map(|m| m.offset)),
                bound_cell(pool.measured),
                pool.round_trip.map_or_else(|| "-".to_owned(), |trip| Span(trip).to_string()),
                pool.stratum.map_or_else(|| "-".to_owned(), |s| s.to_string()),
                pool_result(&self.diagnosis.snapshot, pool),
            ]);
            for server in &pool.servers {
                rows.push(vec![
                    format!("  {}", server.address),
                    offset_cell(server.measured.map(|m| m.offset)),
                    bound_cell(server.measured),
                    String::new(),
                    String::new(),
                    server_result(server).to_owned(),
                ]);
            }
        }
        text.push_str(&columns(&rows));
        let readings = &self.diagnosis.readings.0;
        if !readings.is_empty() {
            let header = ["HTTP DATE (COARSE)", "OFFSET", "BOUND", "RESULT"].map(str::to_owned).to_vec();
            let rows: Vec<_> = std::iter::once(header).chain(readings.iter().map(reading_row)).collect();
            let _ = write!(text, "\n{}", columns(&rows));
        }
        if let Some(hint) = self.hint() {
            let _ = write!(text, "\n{hint}\n");
        }
        if let Some(picked) = &self.picked {
            let _ = write!(text, "\n{picked}\n");
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

fn reading_row(reading: &HttpReading) -> Vec<String> {
    let answers = match reading.answers {
        1 => "1 answer".to_owned(),
        n => format!("{n} answers"),
    };
    let result = match &reading.rejected {
        Some(rejected) if reading.measured.is_some() => format!("{answers}; then {rejected}"),
        Some(rejected) => rejected.to_string(),
        None => answers,
    };
    let offset = offset_cell(reading.measured.map(|m| m.offset));
    vec![reading.source.url.clone(), offset, bound_cell(reading.measured), result]
}

fn offset_cell(offset: Option<Offset>) -> String {
    offset.map_or_else(|| "-".to_owned(), Offset::in_words)
}

fn bound_cell(measured: Option<Measurement>) -> String {
    measured.map_or_else(|| "-".to_owned(), |Measurement { bound, .. }| format!("±{}", bound.in_words()))
}

fn pool_result(snapshot: &Snapshot, pool: &PoolSnapshot) -> String {
    let answers = match (pool.reachable_servers(), pool.servers.len()) {
        (0, _) => pool.trouble().unwrap_or_else(|| "no answer".to_owned()),
        (reachable, all) => format!("{reachable} of {all} servers answer"),
    };
    let wrong = pool.is_falseticker.then(|| format!("falseticker: {}", snapshot.error_in_words(pool)));
    let undecided =
        (!pool.is_falseticker && pool.contradicts_itself()).then(|| "contradicts itself".to_owned());
    let same = same_server(snapshot, pool).map(|other| format!("looks like the same server as {other}"));
    let assumed = pool.assumed_root_distance.map(|d| format!("assumed root distance {}", ExactSpan(d)));
    let leap = pool.announces_leap.then(|| "announces a leap second".to_owned());
    wrong
        .into_iter()
        .chain(undecided)
        .chain(same)
        .chain(assumed)
        .chain(leap)
        .chain([answers])
        .collect::<Vec<_>>()
        .join("; ")
}

/// The name of the pool that looks like the same clock.
fn same_server<'a>(snapshot: &'a Snapshot, pool: &PoolSnapshot) -> Option<&'a str> {
    Some(snapshot.pools.get(pool.same_server_as?)?.name.as_str())
}

fn server_result(server: &ServerSnapshot) -> &'static str {
    match server.last {
        None => "not polled",
        _ if server.is_falseticker && server.has_sample() => "falseticker",
        Some(Ok(())) if server.state == ServerState::BackedOff => server.state_in_words(),
        Some(Ok(())) => "ok",
        Some(Err(reason)) => reason.in_words(),
    }
}

/// `--output json`.
#[expect(clippy::struct_excessive_bools, reason = "the members of a JSON object")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    state: &'static str,
    message: String,
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    /// `true`: the state, offset and bound come from HTTP `Date` headers, because no NTP server answered.
    coarse: bool,
    /// `tai`, `gps` or `local-time`, where the offset has the size of that mistake.
    offset_shape: Option<&'static str>,
    observed_at: Option<String>,
    /// Whether pools contradict each other, though what they have in common may decide the state.
    contradiction: bool,
    /// `false`: two pools look like one server; `null`: no two were compared.
    pools_independent: Option<bool>,
    /// One pool alone is configured: nothing confirms it.
    single_pool: bool,
    /// The bound rests on what an operator promises for a pool.
    assumed: bool,
    pools: Vec<PoolReport>,
    http_date: Vec<HttpDateReport>,
    /// What `auto` among the pools has picked.
    picked: Option<String>,
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
    root_distance_seconds: Option<f64>,
    /// The root distance is what an operator promises, not what the servers declare.
    root_distance_is_assumed: bool,
    is_falseticker: bool,
    /// The pool that looks like the same server.
    same_server_as: Option<String>,
    /// Whether most of its servers announce a leap second.
    announces_leap: bool,
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
struct HttpDateReport {
    url: String,
    coarse: bool,
    offset_seconds: Option<f64>,
    bound_seconds: Option<f64>,
    answers: u32,
    error: Option<String>,
    /// Whether the reading and NTP's measurement exclude each other; `null` where one of the two is missing.
    contradicts_ntp: Option<bool>,
}

impl Report {
    fn new(report: &CheckReport) -> Self {
        let CheckReport { diagnosis, node, picked } = report;
        let snapshot = &diagnosis.snapshot;
        let (offset_seconds, bound_seconds) = seconds(diagnosis.measured());
        let readings = diagnosis.readings.0.iter();
        Self {
            state: diagnosis.state().label(),
            message: diagnosis.sentence(),
            offset_seconds,
            bound_seconds,
            coarse: diagnosis.coarse().is_some(),
            offset_shape: snapshot.shape().map(Shape::label),
            observed_at: snapshot.reference.map(|t| t.rfc3339(9)),
            contradiction: snapshot.is_contradiction,
            pools_independent: snapshot.pools_independent,
            single_pool: snapshot.is_single_pool(),
            assumed: snapshot.is_assumed(),
            pools: snapshot.pools.iter().map(|pool| PoolReport::new(snapshot, pool)).collect(),
            http_date: readings.map(|reading| HttpDateReport::new(reading, snapshot.measured)).collect(),
            picked: picked.clone(),
            hint: report.hint(),
            node: node.report(report.measured()),
        }
    }
}

impl HttpDateReport {
    fn new(reading: &HttpReading, ntp: Option<Measurement>) -> Self {
        let (offset_seconds, bound_seconds) = seconds(reading.measured);
        Self {
            url: reading.source.url.clone(),
            coarse: true,
            offset_seconds,
            bound_seconds,
            answers: reading.answers,
            error: reading.rejected.as_ref().map(ToString::to_string),
            contradicts_ntp: reading.measured.zip(ntp).map(|(by_header, by_ntp)| !by_header.overlaps(by_ntp)),
        }
    }
}

impl PoolReport {
    fn new(snapshot: &Snapshot, pool: &PoolSnapshot) -> Self {
        let (offset_seconds, bound_seconds) = seconds(pool.measured);
        Self {
            name: pool.name.clone(),
            offset_seconds,
            bound_seconds,
            round_trip_seconds: pool.round_trip.map(|d| d.as_secs_f64()),
            stratum: pool.stratum,
            root_distance_seconds: pool.root_distance.map(|d| d.as_secs_f64()),
            root_distance_is_assumed: pool.assumed_root_distance.is_some(),
            is_falseticker: pool.is_falseticker,
            same_server_as: same_server(snapshot, pool).map(str::to_owned),
            announces_leap: pool.announces_leap,
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
                Some(Err(reason)) => reason.label(),
            },
            offset_seconds,
            bound_seconds,
            is_falseticker: server.is_falseticker,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::check_node::tests::following_chrony;
    use crate::sim::behaviour::{Behaviour, ServerModel};
    use crate::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
    use drift_core::http_date::coarse::CoarseReadings;
    use drift_core::time::{Ppb, Wall};

    /// What a burst to these pools of one server each shows, on a node whose chrony follows 192.0.2.7.
    fn report(pools: &[Behaviour]) -> CheckReport {
        let path = Path {
            there: Duration::from_millis(1),
            back: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0.0,
        };
        let mut world = World::new(Plan {
            seed: 1,
            present: Wall::from_secs(1_795_341_600),
            offset: Offset::ZERO,
            oscillator: Oscillator { error: Ppb(0), swing: Ppb(0), period: Duration::from_secs(60) },
            rtc_ahead: Offset::ZERO,
            pools: pools.iter().map(|b| vec![Host { model: ServerModel::new(*b), path }]).collect(),
            settings: default_settings(),
            api_errors: 0.0,
            steps_work: true,
        });
        world.run_until(Duration::from_secs(20), |_| Ok(())).unwrap();
        let diagnosis = Diagnosis::new(world.snapshot(), CoarseReadings::default());
        CheckReport::new(diagnosis, following_chrony(), None)
    }

    #[test]
    fn the_server_of_chrony_is_named_only_where_no_pool_answers() {
        let silent = report(&[Behaviour::Silent; 2]);
        let hint = silent.hint().unwrap();
        assert!(
            hint.contains("--http-date http://HOST. chrony on this node follows the NTP server 192.0.2.7:"),
            "{hint}"
        );
        assert!(silent.table(Style::PLAIN).contains(&hint));
        assert_eq!(report(&[Behaviour::Silent, Behaviour::Honest]).hint(), None);
        let rejected = report(&[Behaviour::Stratum16; 2]).hint().unwrap();
        assert!(rejected.starts_with("chrony on this node follows"), "{rejected}");
    }

    #[test]
    fn what_auto_has_picked_is_printed() {
        let mut auto = report(&[Behaviour::Honest; 2]);
        auto.picked = Some("pools: auto is 169.254.169.123 and time.google.com: Amazon EC2.".to_owned());
        let table = auto.table(Style::PLAIN);
        assert!(table.contains("\npools: auto is 169.254.169.123 and"), "{table}");
        let json: serde_json::Value = serde_json::from_str(&auto.json().unwrap()).unwrap();
        assert!(json["picked"].as_str().unwrap().ends_with("Amazon EC2."), "{json}");
    }

    #[test]
    fn pools_that_look_like_one_server_are_marked() {
        let mut one = report(&[Behaviour::Honest; 2]);
        one.diagnosis.snapshot.pools[1].same_server_as = Some(0);
        one.diagnosis.snapshot.pools_independent = Some(false);
        let table = one.table(Style::PLAIN);
        assert!(
            table.contains("looks like the same server as pool-0.invalid; 1 of 1 servers answer"),
            "{table}"
        );
        let json: serde_json::Value = serde_json::from_str(&one.json().unwrap()).unwrap();
        assert_eq!(json["poolsIndependent"], false);
        assert_eq!(json["pools"][1]["sameServerAs"], "pool-0.invalid");
        assert!(json["pools"][0]["sameServerAs"].is_null());
    }

    #[test]
    fn pools_that_announce_a_leap_second_are_marked() {
        let announced = report(&[Behaviour::LeapInsert, Behaviour::Honest]);
        let table = announced.table(Style::PLAIN);
        assert_eq!(table.matches("announces a leap second; 1 of 1 servers answer").count(), 1, "{table}");
        let json: serde_json::Value = serde_json::from_str(&announced.json().unwrap()).unwrap();
        assert_eq!(
            (&json["pools"][0]["announcesLeap"], &json["pools"][1]["announcesLeap"]),
            (&true.into(), &false.into())
        );
    }
}
