//! Everything that is known at one instant. A snapshot is computed for each use and never stored.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::http_date::coarse::CoarseReadings;
use crate::ntp::reject::RejectReason;
use crate::ntp::server::ServerState;
use crate::report::leeway::Leeway;
use crate::resume::{Class, SignalSet};
use crate::step::last_step::LastStep;
use crate::step::outcome::StepCounts;
use crate::step::policy::Mode;
use crate::step::time_daemon::DaemonReport;
use crate::time::rate::Rate;
use crate::time::{Measurement, Offset, Wall};
use crate::verdict::State;

/// The label `result` of an exchange that gave a sample.
pub const ACCEPTED: &str = "accepted";

/// A server whose kisses-o'-death make the requests so rare that its samples grow old.
const SLOWED: &str = "slowed by the server (kiss-o'-death)";

/// Everything that metrics, pages and reports show.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The verdict in force.
    pub state: State,
    /// A first verdict was reached, or the first burst has ended without one.
    pub ready: bool,
    /// Offset and bound; `None`: not measured, too old, or the servers contradict each other.
    pub measured: Option<Measurement>,
    /// Reference time now, by the last agreement of the servers, however old: a drifted node must not publish
    /// drifted times.
    pub reference: Option<Wall>,
    /// Node time now.
    pub node_time: Wall,
    /// Age of the newest sample behind the estimate.
    pub estimate_age: Option<Duration>,
    /// Pools that agree on the estimate.
    pub pools_agreeing: usize,
    /// The pools contradict each other, though what they have in common may decide the state.
    pub is_contradiction: bool,
    /// Do the pools look like different clocks? `None`: no two were compared yet.
    pub pools_independent: Option<bool>,
    /// How much faster reference time runs than the node's oscillator; `None` before the second measurement.
    pub rate: Option<Rate>,
    /// The threshold in force.
    pub threshold: Duration,
    /// Each pool, in the order of the settings.
    pub pools: Vec<PoolSnapshot>,
    /// What the HTTP `Date` headers show; empty as long as NTP gives an estimate or a contradiction.
    pub coarse: CoarseReadings,
    /// The recommended leeway for verifiers of tokens on this node.
    pub leeway: Leeway,
    /// Stepping.
    pub step: StepSnapshot,
    /// The time daemon, once it was inspected.
    pub daemon: Option<DaemonReport>,
    /// Which signals of a resume this machine has; `None` until they were observed, as in `drift-agent
    /// check`.
    pub signals: Option<SignalSet>,
    /// Uncertainty of the hardware clock; `None`: there is none.
    pub rtc_uncertainty: Option<Duration>,
    /// Counters since the start.
    pub counts: Counts,
}

/// Stepping at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSnapshot {
    /// Whether and how the clock may be stepped.
    pub mode: Mode,
    /// The annotation `last-step`.
    pub last_text: Option<String>,
    /// The last step.
    pub last: Option<LastStep>,
    /// How long ago it was, by reference time.
    pub last_age: Option<Duration>,
    /// The annotation `step-result`.
    pub answer: Option<String>,
    /// Triggers so far, by method and result.
    pub counts: StepCounts,
}

/// One pool at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSnapshot {
    /// Its name as configured.
    pub name: String,
    /// What its own servers report; `None`: none is reachable, or no majority of them agrees.
    pub measured: Option<Measurement>,
    /// A majority of the other pools contradicts it.
    pub is_falseticker: bool,
    /// The root distance that an operator promises in place of what its servers declare.
    pub assumed_root_distance: Option<Duration>,
    /// The index of a pool that looks like the same clock.
    pub same_server_as: Option<usize>,
    /// Most of its reachable servers announce a leap second. Steps wait for it on the last day of a month only.
    pub announces_leap: bool,
    /// Round trip of its best sample.
    pub round_trip: Option<Duration>,
    /// Root distance of its best sample.
    pub root_distance: Option<Duration>,
    /// Stratum of its best sample.
    pub stratum: Option<u8>,
    /// Age of its newest sample.
    pub sample_age: Option<Duration>,
    /// Why its name does not resolve.
    pub resolve_error: Option<String>,
    /// Its servers.
    pub servers: Vec<ServerSnapshot>,
}

/// One server at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSnapshot {
    /// Its address and port.
    pub address: SocketAddr,
    /// Reachable, unreachable or backed off.
    pub state: ServerState,
    /// It is outside the interval that the majority agreed on in the last round.
    pub is_falseticker: bool,
    /// Offset and bound by its best sample.
    pub measured: Option<Measurement>,
    /// The result of the last exchange.
    pub last: Option<Result<(), RejectReason>>,
    /// The last rejection, even if samples came after it, and how long ago it was by the raw clock.
    pub rejected: Option<(Duration, RejectReason)>,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Exchanges by pool and result.
    pub samples: Vec<BTreeMap<&'static str, u64>>,
    /// Requests to the API server by result.
    pub writes: BTreeMap<&'static str, u64>,
    /// Disruptions by class.
    pub resumes: [u64; Class::ALL.len()],
}

impl Snapshot {
    /// The best time to publish: reference time; else the HTTP-Date estimate; else node time.
    pub fn best_time(&self) -> Wall {
        best_time(self.reference, &self.coarse, self.node_time)
    }

    /// The largest offset of a pool minus the smallest, when two pools or more have one.
    pub fn disagreement(&self) -> Option<Duration> {
        let offsets: Vec<Offset> = self.pools.iter().filter_map(|p| p.measured.map(|m| m.offset)).collect();
        let (low, high) = (offsets.iter().min()?, offsets.iter().max()?);
        (offsets.len() > 1).then(|| Duration::from_nanos(high.as_nanos().abs_diff(low.as_nanos())))
    }

    /// One pool alone is configured (`allowSinglePool`): nothing confirms what it reports.
    pub fn is_single_pool(&self) -> bool {
        self.pools.len() == 1
    }

    /// The pools by which the bound rests on what an operator promises (`rootDistance`).
    pub fn assumed_pools(&self) -> impl Iterator<Item = &PoolSnapshot> {
        let is_measured = self.measured.is_some();
        let counts = move |p: &&PoolSnapshot| is_measured && p.measured.is_some() && !p.is_falseticker;
        self.pools.iter().filter(|p| p.assumed_root_distance.is_some()).filter(counts)
    }

    /// Does the bound rest on what an operator promises?
    pub fn is_assumed(&self) -> bool {
        self.assumed_pools().next().is_some()
    }

    /// Pools without a reachable server.
    pub fn unreachable_pools(&self) -> impl Iterator<Item = &PoolSnapshot> {
        self.pools.iter().filter(|p| p.reachable_servers() == 0)
    }

    /// Reports that names resolved but no server has answered, and the likely cause. `None`: a server has
    /// answered, or no name has resolved.
    pub fn blocked(&self) -> Option<String> {
        let servers: Vec<&ServerSnapshot> = self.pools.iter().flat_map(|p| &p.servers).collect();
        let is_unanswered = |s: &&ServerSnapshot| {
            matches!(s.last, Some(Err(RejectReason::Timeout | RejectReason::Unreachable)))
        };
        if servers.is_empty()
            || !servers.iter().all(is_unanswered)
            || servers.iter().any(|s| s.measured.is_some())
        {
            return None;
        }
        let ports: BTreeSet<u16> = servers.iter().map(|s| s.address.port()).collect();
        let (plural, look) = if ports.len() > 1 { ("s", "look") } else { ("", "looks") };
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ");
        let none = format!("one of {} servers answered on UDP port{plural} {ports}", servers.len());
        // A time-out is what a firewall causes. An ICMP error means a closed port, or no route.
        Some(if servers.iter().any(|s| s.last == Some(Err(RejectReason::Timeout))) {
            format!(
                "UDP {ports} {look} blocked: n{none}; something between here and them may drop it. The agent sends from an ephemeral port, not from 123, so a rule for source port 123 does not match."
            )
        } else {
            format!("N{none}: the port is closed, or there is no route to them.")
        })
    }
}

/// [`Snapshot::best_time`] from its parts.
pub(crate) fn best_time(reference: Option<Wall>, coarse: &CoarseReadings, node_time: Wall) -> Wall {
    let coarse = || coarse.offset().map(|Measurement { offset, .. }| node_time.plus(offset));
    reference.or_else(coarse).unwrap_or(node_time)
}

impl PoolSnapshot {
    /// Number of servers with a sample younger than `staleAfter`, those that are backed off included.
    pub fn reachable_servers(&self) -> usize {
        self.servers.iter().filter(|s| s.has_sample()).count()
    }

    /// Do its servers contradict each other, so that no majority of them agrees?
    pub fn contradicts_itself(&self) -> bool {
        self.measured.is_none() && self.reachable_servers() > 0
    }

    /// Is it measured only as seldom as the kisses-o'-death of its servers ask for?
    pub fn is_slowed(&self) -> bool {
        self.reachable_servers() > 0 && !self.servers.iter().any(|s| s.state == ServerState::Reachable)
    }

    /// Why it is unreachable, if it is: the last error. `None` as long as nothing has failed.
    pub fn trouble(&self) -> Option<String> {
        if self.servers.is_empty() {
            return self.resolve_error.as_ref().map(|e| format!("the name does not resolve: {e}"));
        }
        let error = self.servers.iter().rev().find_map(|s| s.last?.err()).map(RejectReason::in_words);
        let is_backed_off = self.servers.iter().any(|s| s.state == ServerState::BackedOff);
        error.or(is_backed_off.then_some(SLOWED)).map(str::to_owned)
    }
}

impl ServerSnapshot {
    /// Has it a sample younger than `staleAfter`?
    pub fn has_sample(&self) -> bool {
        self.state == ServerState::Reachable || self.measured.is_some()
    }

    /// Its state, for operators.
    pub fn state_in_words(&self) -> &'static str {
        let is_kissed = !matches!(self.last, Some(Err(RejectReason::ClientsDisagree)));
        match self.state {
            _ if self.is_falseticker && self.has_sample() => "falseticker",
            ServerState::Reachable => "reachable",
            ServerState::Starting => "starting",
            ServerState::Unreachable => "unreachable",
            ServerState::BackedOff if self.has_sample() => SLOWED,
            ServerState::BackedOff if is_kissed => "backed off (kiss-o'-death)",
            ServerState::BackedOff => "backed off",
        }
    }
}
