//! The settings as they are written: one declaration for the file's keys, the flags and the environment.

use std::collections::BTreeMap;

use clap::Args;
use serde::de::{Deserialize, Deserializer};

/// The one kind of source of last resort.
pub const HTTP_DATE: &str = "http-date";

/// What a person wrote: everything optional, nothing checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawConfig {
    /// NTP pool to measure against: a name or an address (IPv6 in brackets), with :PORT if not 123. Repeat it: at least two
    #[arg(long = "pool", value_name = "HOST[:PORT]", env = "DRIFT_AGENT_POOLS", value_delimiter = ',')]
    pub pools: Option<Vec<ConfigText>>,
    /// Pools for the nodes of one region each; only in the file.
    #[arg(skip)]
    pub regions: Option<BTreeMap<String, Region>>,
    /// Region of this node: where the file's `regions` has it, its pools are used [default: none]
    #[arg(long, value_name = "NAME", env = "DRIFT_AGENT_REGION", allow_hyphen_values = true)]
    pub region: Option<ConfigText>,
    /// Time between two exchanges with a server [default: 64s]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_INTERVAL", allow_hyphen_values = true)]
    pub interval: Option<ConfigText>,
    /// Offset from which the clock counts as drifting [default: 100ms]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_THRESHOLD", allow_hyphen_values = true)]
    pub threshold: Option<ConfigText>,
    /// Age from which an estimate is worth nothing [default: 10m]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_STALE_AFTER", allow_hyphen_values = true)]
    pub stale_after: Option<ConfigText>,
    /// Addresses asked per pool [default: 4]
    #[arg(long, value_name = "N", env = "DRIFT_AGENT_SERVERS_PER_POOL", allow_hyphen_values = true)]
    pub servers_per_pool: Option<ConfigText>,
    /// Longest round trip that is still of use [default: 1s]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_MAX_ROUND_TRIP", allow_hyphen_values = true)]
    pub max_round_trip: Option<ConfigText>,
    /// Largest root distance a server may have [default: 1s]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_MAX_ROOT_DISTANCE", allow_hyphen_values = true)]
    pub max_root_distance: Option<ConfigText>,
    /// URL whose HTTP Date header is asked for while no NTP server answers, every 64s: coarse, http:// only. Repeat it [default: none]
    #[arg(
        long = "last-resort-http-date",
        value_name = "URL",
        env = "DRIFT_AGENT_LAST_RESORT_HTTP_DATE",
        value_delimiter = ','
    )]
    pub last_resort: Option<Vec<Fallback>>,
    /// Whether and how the clock may be stepped.
    #[command(flatten)]
    pub step: Step,
    /// How to reach chrony.
    #[command(flatten)]
    pub chrony: Chrony,
    /// What to recommend to verifiers of tokens.
    #[command(flatten)]
    pub leeway: Leeway,
    /// Address for / (a page), /metrics, /healthz, /readyz and /v1/clock [default: :10123]
    #[arg(long, value_name = "[HOST]:PORT", env = "DRIFT_AGENT_LISTEN", allow_hyphen_values = true)]
    pub listen: Option<ConfigText>,
    /// Name of this Node object [default: the host name, where no API server is used]
    #[arg(long, value_name = "NAME", env = "NODE_NAME", allow_hyphen_values = true)]
    pub node_name: Option<ConfigText>,
    /// Annotate the Node: auto (when an API server is configured), on, or off [default: auto]
    #[arg(long, value_name = "WHEN", env = "DRIFT_AGENT_KUBERNETES", allow_hyphen_values = true)]
    pub kubernetes: Option<ConfigText>,
    /// Form of the log: text or json [default: text]
    #[arg(long, value_name = "FORM", env = "DRIFT_AGENT_LOG_FORMAT", allow_hyphen_values = true)]
    pub log_format: Option<ConfigText>,
    /// How much to log: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", env = "DRIFT_AGENT_LOG_LEVEL", allow_hyphen_values = true)]
    pub log_level: Option<ConfigText>,
}

/// Whether and how the clock may be stepped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Step {
    /// How the clock may be stepped after a resume: off, chrony, kernel, or auto [default: off]
    #[arg(
        id = "step-mode",
        long,
        value_name = "MODE",
        env = "DRIFT_AGENT_STEP_MODE",
        allow_hyphen_values = true
    )]
    pub mode: Option<ConfigText>,
    /// Smallest offset that is stepped [default: 100ms]
    #[arg(
        id = "step-min-offset",
        long,
        value_name = "TIME",
        env = "DRIFT_AGENT_STEP_MIN_OFFSET",
        allow_hyphen_values = true
    )]
    pub min_offset: Option<ConfigText>,
    /// Largest offset that is stepped without a person asking [default: 24h]
    #[arg(
        id = "step-max-offset",
        long,
        value_name = "TIME",
        env = "DRIFT_AGENT_STEP_MAX_OFFSET",
        allow_hyphen_values = true
    )]
    pub max_offset: Option<ConfigText>,
    /// Time between two steps at least [default: 5m]
    #[arg(
        id = "step-cooldown",
        long,
        value_name = "TIME",
        env = "DRIFT_AGENT_STEP_COOLDOWN",
        allow_hyphen_values = true
    )]
    pub cooldown: Option<ConfigText>,
    /// Do everything but the step itself: true or false [default: false]
    #[arg(
        id = "step-dry-run", long,
        value_name = "BOOL",
        env = "DRIFT_AGENT_STEP_DRY_RUN",
        num_args = 0..=1,
        default_missing_value = "true",
        allow_hyphen_values = true
    )]
    pub dry_run: Option<ConfigText>,
    /// Step when the Node's annotation drift-agent.io/step-request asks for it: true or false [default: false]
    #[arg(
        id = "step-on-request", long,
        value_name = "BOOL",
        env = "DRIFT_AGENT_STEP_ON_REQUEST",
        num_args = 0..=1,
        default_missing_value = "true",
        allow_hyphen_values = true
    )]
    pub on_request: Option<ConfigText>,
}

/// How to reach chrony.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Chrony {
    /// chrony's command socket [default: /run/chrony/chronyd.sock]
    #[arg(id = "chrony-socket", long, value_name = "PATH", env = "DRIFT_AGENT_CHRONY_SOCKET")]
    pub socket: Option<ConfigText>,
    /// The makestep directive of chrony's own configuration, put back after a step; "": none [default: 1 3]
    #[arg(
        id = "chrony-makestep",
        long = "chrony-makestep",
        value_name = "\"SECONDS COUNT\"",
        env = "DRIFT_AGENT_CHRONY_MAKESTEP",
        allow_hyphen_values = true
    )]
    pub makestep: Option<ConfigText>,
}

/// What to recommend to verifiers of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Leeway {
    /// How far the clock of a node that issues tokens may be off [default: the threshold]
    #[arg(
        id = "leeway-peer-allowance",
        long = "leeway-peer-allowance",
        value_name = "TIME",
        env = "DRIFT_AGENT_LEEWAY_PEER_ALLOWANCE",
        allow_hyphen_values = true
    )]
    pub peer_allowance: Option<ConfigText>,
    /// Smallest leeway that is recommended [default: 5s]
    #[arg(
        id = "leeway-minimum",
        long = "leeway-minimum",
        value_name = "TIME",
        env = "DRIFT_AGENT_LEEWAY_MINIMUM",
        allow_hyphen_values = true
    )]
    pub minimum: Option<ConfigText>,
    /// Largest leeway that is recommended [default: 30s]
    #[arg(
        id = "leeway-maximum",
        long = "leeway-maximum",
        value_name = "TIME",
        env = "DRIFT_AGENT_LEEWAY_MAXIMUM",
        allow_hyphen_values = true
    )]
    pub maximum: Option<ConfigText>,
}

/// A source that is asked only while no NTP server gives an estimate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// What kind of source it is.
    pub kind: ConfigText,
    /// Where it is.
    pub url: ConfigText,
}

impl std::str::FromStr for Fallback {
    type Err = std::convert::Infallible;
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Ok(Self { kind: ConfigText(HTTP_DATE.to_owned()), url: ConfigText(url.to_owned()) })
    }
}

/// What is different in one region.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// The pools of its nodes, instead of the default ones.
    pub pools: Vec<ConfigText>,
}

/// A scalar as it was written; YAML's numbers and booleans too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigText(pub String);

impl std::str::FromStr for ConfigText {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ConfigText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As a string, not as what YAML takes it for: `kubernetes: off` is no boolean here.
        String::deserialize(deserializer).map(Self)
    }
}
