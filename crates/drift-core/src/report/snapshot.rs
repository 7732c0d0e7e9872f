//! What is known at one instant: computed when somebody asks, never stored.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::http_date::coarse::CoarseReadings;
use crate::ntp::sample::RejectReason;
use crate::ntp::server::ServerState;
use crate::report::leeway::Leeway;
use crate::resume::{Class, Signal};
use crate::step::last_step::LastStep;
use crate::step::outcome::StepCounts;
use crate::step::policy::Mode;
use crate::step::time_daemon::DaemonReport;
use crate::time::{Measurement, Offset, Ppb, Wall, span_in_words};
use crate::verdict::State;

/// The label `result` of an exchange that gave a sample.
pub const ACCEPTED: &str = "accepted";

/// Everything that metrics, pages and reports show.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The verdict in force.
    pub state: State,
    /// A first verdict was reached, or positively failed.
    pub ready: bool,
    /// Offset and bound, when they are known and nobody contradicts them.
    pub measured: Option<Measurement>,
    /// Reference time now; kept from the last good measurement, since a drifted node must not publish drifted times.
    pub reference: Option<Wall>,
    /// Node time now.
    pub node_time: Wall,
    /// Age of the newest sample behind the estimate.
    pub estimate_age: Option<Duration>,
    /// Pools with a live server inside the estimate.
    pub pools_agreeing: usize,
    /// How much faster reference time runs than the node's oscillator, once it is known.
    pub frequency: Option<Ppb>,
    /// The threshold in force.
    pub threshold: Duration,
    /// Each pool, in the order of the settings.
    pub pools: Vec<PoolSnapshot>,
    /// What the sources of last resort say; empty as long as NTP says something.
    pub coarse: CoarseReadings,
    /// What to recommend to verifiers of tokens on this node.
    pub leeway: Leeway,
    /// Stepping.
    pub step: StepSnapshot,
    /// The time daemon, once it was looked at.
    pub daemon: Option<DaemonReport>,
    /// Which signals of a resume this machine has; `None` where nobody looks for them.
    pub signals: Option<[(Signal, bool); 6]>,
    /// How exactly the hardware clock is known; `None` where there is none.
    pub rtc_uncertainty: Option<Duration>,
    /// What was counted since the start.
    pub counts: Counts,
}

/// Stepping.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSnapshot {
    /// Whether and how the clock may be stepped.
    pub mode: Mode,
    /// The annotation `last-step`.
    pub last_text: Option<String>,
    /// The last step.
    pub last: Option<LastStep>,
    /// How long ago it was.
    pub last_age: Option<Duration>,
    /// The annotation `step-result`.
    pub answer: Option<String>,
    /// Triggers so far, by method and result.
    pub counts: StepCounts,
}

/// One pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSnapshot {
    /// Its name as configured.
    pub name: String,
    /// What its own servers say, when most of them agree.
    pub measured: Option<Measurement>,
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

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSnapshot {
    /// Where it is.
    pub address: SocketAddr,
    /// What it is to us.
    pub state: ServerState,
    /// It answers, but most others contradict it.
    pub is_falseticker: bool,
    /// What its best sample says.
    pub measured: Option<Measurement>,
    /// What the last exchange brought.
    pub last: Option<Result<(), RejectReason>>,
    /// What was refused last, whatever came after it, and how long ago by the raw clock.
    pub rejected: Option<(Duration, RejectReason)>,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Exchanges by pool and result.
    pub samples: Vec<BTreeMap<&'static str, u64>>,
    /// Writes to the API server by result.
    pub writes: BTreeMap<&'static str, u64>,
    /// Signs that the machine did not run all the time, by class.
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

    /// Pools that no live server speaks for.
    pub fn silent_pools(&self) -> impl Iterator<Item = &PoolSnapshot> {
        self.pools.iter().filter(|p| p.live_servers() == 0)
    }

    /// That names did resolve, and none of the servers answered: UDP may be blocked. Only what was seen is claimed.
    pub fn blocked(&self) -> Option<String> {
        let servers: Vec<&ServerSnapshot> = self.pools.iter().flat_map(|p| &p.servers).collect();
        let is_silent = |s: &&ServerSnapshot| {
            matches!(s.last, Some(Err(RejectReason::Timeout | RejectReason::Unreachable)))
        };
        if servers.is_empty()
            || !servers.iter().all(is_silent)
            || servers.iter().any(|s| s.measured.is_some())
        {
            return None;
        }
        let ports: BTreeSet<u16> = servers.iter().map(|s| s.address.port()).collect();
        let (plural, look) = if ports.len() > 1 { ("s", "look") } else { ("", "looks") };
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ");
        let none = format!("one of {} servers answered on UDP port{plural} {ports}", servers.len());
        // Silence is what a firewall makes. A message from the network says that the host is there, or that there is no way to it.
        Some(if servers.iter().any(|s| s.last == Some(Err(RejectReason::Timeout))) {
            format!("UDP {ports} {look} blocked: n{none}; something between here and them may drop it.")
        } else {
            format!("N{none}: the port is closed, or there is no route to them.")
        })
    }

    /// The verdict in a sentence or two: what, how sure, and what is missing.
    pub fn sentence(&self) -> String {
        match self.coarse.sentence(self.threshold) {
            // Without NTP only the `Date` headers can have said so.
            Some(coarse) if self.state == State::Drifting && self.measured.is_none() => {
                coarse + &self.silence()
            }
            Some(coarse) => format!("{} {coarse}", self.by_ntp()),
            None => self.by_ntp(),
        }
    }

    fn by_ntp(&self) -> String {
        let threshold = span_in_words(self.threshold);
        match (self.state, self.measured) {
            (State::InSync | State::Drifting, Some(Measurement { offset, bound })) => {
                let side = if self.state == State::InSync { "within" } else { "over" };
                let mut text = format!(
                    "The clock is {} (±{}), {side} the threshold of {threshold}.",
                    offset.in_words(),
                    bound.in_words()
                );
                text.push_str(&self.silence());
                text
            }
            (State::Disagree, _) => {
                let says: Vec<String> = self
                    .pools
                    .iter()
                    .map(|p| match p.measured {
                        Some(Measurement { offset, .. }) => format!("{} says {}", p.name, offset.in_words()),
                        None if p.live_servers() > 0 => {
                            format!("the servers of {} contradict each other", p.name)
                        }
                        None => format!("{} is silent", p.name),
                    })
                    .collect();
                format!("No offset is claimed, since the servers contradict each other: {}.", says.join("; "))
            }
            (State::Disrupted, _) => {
                "The machine did not run all the time, and the clock was not measured since.".to_owned()
            }
            _ => match (self.measured, self.estimate_age) {
                (Some(Measurement { offset, bound }), _) if bound.as_duration() <= self.threshold => {
                    format!(
                        "Not settled yet: {} (±{}).{}",
                        offset.in_words(),
                        bound.in_words(),
                        self.silence()
                    )
                }
                (Some(Measurement { bound, .. }), _) => format!(
                    "Too uncertain to judge: ±{}, wider than the threshold of {threshold}.{}",
                    bound.in_words(),
                    self.silence()
                ),
                (None, Some(age)) => {
                    format!("Nothing measured for {}.{}", span_in_words(age), self.silence())
                }
                (None, None) => format!("Nothing measured yet.{}", self.silence()),
            },
        }
    }

    /// The verdict, and what an operator has to mend so that a step is possible.
    pub fn message(&self) -> String {
        let missing = self.daemon.as_ref().and_then(|d| d.ready.as_ref().err());
        match missing.filter(|_| self.step.mode != Mode::Off) {
            Some(missing) => format!("{} The clock cannot be stepped: {missing}.", self.sentence()),
            None => self.sentence(),
        }
    }

    /// Which pools are silent, why, and what that leaves.
    fn silence(&self) -> String {
        let silent: Vec<String> = self
            .silent_pools()
            .filter_map(|p| Some(format!("{} is silent ({})", p.name, p.trouble()?)))
            .collect();
        let speaking: Vec<&str> =
            self.pools.iter().filter(|p| p.live_servers() > 0).map(|p| p.name.as_str()).collect();
        match (silent.as_slice(), speaking.as_slice()) {
            ([], _) => String::new(),
            (_, []) => format!(" No pool answers: {}.", silent.join("; ")),
            (_, names) => format!(" Measured against {} alone: {}.", names.join(" and "), silent.join("; ")),
        }
    }
}

/// [`Snapshot::best_time`] from its parts.
pub(crate) fn best_time(reference: Option<Wall>, coarse: &CoarseReadings, node_time: Wall) -> Wall {
    let coarse = || coarse.offset().map(|Measurement { offset, .. }| node_time.plus(offset));
    reference.or_else(coarse).unwrap_or(node_time)
}

impl PoolSnapshot {
    /// Servers that answer.
    pub fn live_servers(&self) -> usize {
        self.servers.iter().filter(|s| s.state == ServerState::Reachable).count()
    }

    /// Why nothing comes from it; `None` as long as nothing has failed.
    pub fn trouble(&self) -> Option<String> {
        if self.servers.is_empty() {
            return self.resolve_error.as_ref().map(|e| format!("the name does not resolve: {e}"));
        }
        self.servers.iter().rev().find_map(|s| s.last?.err()).map(|refusal| refusal.in_words().to_owned())
    }
}
