//! The settings as an operator writes them: one declaration for the keys of the file, the flags and the
//! environment.

use std::collections::BTreeMap;
use std::fmt;

use clap::Args;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// The only value of `lastResort.kind`.
pub const HTTP_DATE: &str = "http-date";

/// The values as written: all optional, none checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawConfig {
    /// NTP pool: name or address (IPv6 in brackets), with :PORT if not 123; repeat it, at least two unless
    /// --allow-single-pool; auto: the cloud's own, beside a public one. Or name=HOST,rootDistance=TIME: replaces what its servers declare (Windows domain
    /// controllers)
    /// [default: time.google.com, time.cloudflare.com]
    #[arg(long = "pool", value_name = "HOST[:PORT]", env = "DRIFT_AGENT_POOLS", value_delimiter = ',')]
    pub pools: Option<Vec<RawPool>>,
    /// Accept one pool alone: true or false. Nothing confirms it, and it leads to a step only when an operator
    /// requests one [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        env = "DRIFT_AGENT_ALLOW_SINGLE_POOL",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub allow_single_pool: Option<ConfigText>,
    /// The pools of each region; in the file only.
    #[arg(skip)]
    pub regions: Option<BTreeMap<String, Region>>,
    /// Region of this node; it uses the region's pools from `regions` in the file, if it has any
    /// [default: none]
    #[arg(long, value_name = "NAME", env = "DRIFT_AGENT_REGION", allow_hyphen_values = true)]
    pub region: Option<ConfigText>,
    /// Time between two polls of a server; sooner after a start or a disruption [default: 64s]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_INTERVAL", allow_hyphen_values = true)]
    pub interval: Option<ConfigText>,
    /// Offset from which the clock counts as drifting [default: 100ms]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_THRESHOLD", allow_hyphen_values = true)]
    pub threshold: Option<ConfigText>,
    /// Age from which a sample and an estimate no longer count, at least three intervals [default: 10m]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_STALE_AFTER", allow_hyphen_values = true)]
    pub stale_after: Option<ConfigText>,
    /// Addresses polled per pool, 1 to 16 [default: 4]
    #[arg(long, value_name = "N", env = "DRIFT_AGENT_SERVERS_PER_POOL", allow_hyphen_values = true)]
    pub servers_per_pool: Option<ConfigText>,
    /// Maximum round trip; longer ones are rejected [default: 1s]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_MAX_ROUND_TRIP", allow_hyphen_values = true)]
    pub max_round_trip: Option<ConfigText>,
    /// Maximum root distance of a server (its possible error to its own reference) [default: 1s]
    #[arg(long, value_name = "TIME", env = "DRIFT_AGENT_MAX_ROOT_DISTANCE", allow_hyphen_values = true)]
    pub max_root_distance: Option<ConfigText>,
    /// URL whose HTTP Date header is requested every 64s while NTP gives no estimate: coarse, http:// only;
    /// may be repeated [default: none]
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
    /// The recommended leeway for token verifiers.
    #[command(flatten)]
    pub leeway: Leeway,
    /// Address of the HTTP server: /metrics, /v1/clock, /healthz, /readyz and the status page /
    /// [default: :10123]
    #[arg(long, value_name = "[HOST]:PORT", env = "DRIFT_AGENT_LISTEN", allow_hyphen_values = true)]
    pub listen: Option<ConfigText>,
    /// Name of the Node object [default: the host name, if no API server is used]
    #[arg(long, value_name = "NAME", env = "NODE_NAME", allow_hyphen_values = true)]
    pub node_name: Option<ConfigText>,
    /// Annotate the Node: on, off, or auto (on where KUBECONFIG is set or in a pod) [default: auto]
    #[arg(long, value_name = "WHEN", env = "DRIFT_AGENT_KUBERNETES", allow_hyphen_values = true)]
    pub kubernetes: Option<ConfigText>,
    /// Log format: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "DRIFT_AGENT_LOG_FORMAT", allow_hyphen_values = true)]
    pub log_format: Option<ConfigText>,
    /// Log level: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", env = "DRIFT_AGENT_LOG_LEVEL", allow_hyphen_values = true)]
    pub log_level: Option<ConfigText>,
}

/// Whether and how the clock may be stepped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Step {
    /// Whether and how the agent may step the clock after a suspend or pause: off, chrony, kernel or auto
    /// [default: off]
    #[arg(
        id = "step-mode",
        long,
        value_name = "MODE",
        env = "DRIFT_AGENT_STEP_MODE",
        allow_hyphen_values = true
    )]
    pub mode: Option<ConfigText>,
    /// Smaller offsets are not stepped [default: 100ms]
    #[arg(
        id = "step-min-offset",
        long,
        value_name = "TIME",
        env = "DRIFT_AGENT_STEP_MIN_OFFSET",
        allow_hyphen_values = true
    )]
    pub min_offset: Option<ConfigText>,
    /// Larger offsets are stepped only when an operator requests it [default: 24h]
    #[arg(
        id = "step-max-offset",
        long,
        value_name = "TIME",
        env = "DRIFT_AGENT_STEP_MAX_OFFSET",
        allow_hyphen_values = true
    )]
    pub max_offset: Option<ConfigText>,
    /// Shortest time between two steps [default: 5m]
    #[arg(
        id = "step-cooldown",
        long,
        value_name = "TIME",
        env = "DRIFT_AGENT_STEP_COOLDOWN",
        allow_hyphen_values = true
    )]
    pub cooldown: Option<ConfigText>,
    /// Do everything except the step: true or false [default: false]
    #[arg(
        id = "step-dry-run", long,
        value_name = "BOOL",
        env = "DRIFT_AGENT_STEP_DRY_RUN",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub dry_run: Option<ConfigText>,
    /// Step when an operator sets the Node's annotation drift-agent.io/step-request: true or false
    /// [default: false]
    #[arg(
        id = "step-on-request", long,
        value_name = "BOOL",
        env = "DRIFT_AGENT_STEP_ON_REQUEST",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub on_request: Option<ConfigText>,
    /// Maintenance window with limits of its own: cron=\"0 2 * * 6\",duration=4h, and as needed zone=+02:00,
    /// minOffset=TIME, cooldown=TIME; may be repeated [default: none]
    #[arg(
        id = "step-window",
        long = "step-window",
        value_name = "cron=CRON,duration=TIME",
        env = "DRIFT_AGENT_STEP_WINDOWS",
        value_delimiter = ';'
    )]
    pub windows: Option<Vec<Window>>,
}

/// A maintenance window.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// When it begins: the five fields of cron.
    pub cron: ConfigText,
    /// How long it lasts.
    pub duration: ConfigText,
    /// The zone of the schedule.
    pub zone: Option<ConfigText>,
    /// Smaller offsets are not stepped in it.
    pub min_offset: Option<ConfigText>,
    /// Shortest time between two steps in it.
    pub cooldown: Option<ConfigText>,
}

impl std::str::FromStr for Window {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut values: Vec<(&str, String)> = Vec::new();
        for piece in text.split(',') {
            match (piece.split_once('='), values.last_mut()) {
                (Some((key, value)), _) => values.push((key, value.to_owned())),
                // A comma in the list of a cron field.
                (None, Some((_, value))) => value.extend([",", piece]),
                (None, None) => return Err("expected cron=…,duration=…".to_owned()),
            }
        }
        let mut window = Self::default();
        for (key, value) in values {
            let value = ConfigText(value);
            match key {
                "cron" => window.cron = value,
                "duration" => window.duration = value,
                "zone" => window.zone = Some(value),
                "minOffset" => window.min_offset = Some(value),
                "cooldown" => window.cooldown = Some(value),
                _ => {
                    let expected = "expected cron, duration, zone, minOffset or cooldown";
                    return Err(format!("unknown key {key:?}: {expected}"));
                }
            }
        }
        Ok(window)
    }
}

/// How to reach chrony.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Chrony {
    /// chrony's command socket [default: /run/chrony/chronyd.sock]
    #[arg(id = "chrony-socket", long, value_name = "PATH", env = "DRIFT_AGENT_CHRONY_SOCKET")]
    pub socket: Option<ConfigText>,
}

/// The recommended leeway for token verifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Leeway {
    /// Possible offset of the issuers' clocks [default: the threshold]
    #[arg(
        id = "leeway-peer-allowance",
        long = "leeway-peer-allowance",
        value_name = "TIME",
        env = "DRIFT_AGENT_LEEWAY_PEER_ALLOWANCE",
        allow_hyphen_values = true
    )]
    pub peer_allowance: Option<ConfigText>,
    /// Smallest recommended leeway for token verifiers [default: 5s]
    #[arg(
        id = "leeway-minimum",
        long = "leeway-minimum",
        value_name = "TIME",
        env = "DRIFT_AGENT_LEEWAY_MINIMUM",
        allow_hyphen_values = true
    )]
    pub minimum: Option<ConfigText>,
    /// Largest recommended leeway for token verifiers [default: 30s]
    #[arg(
        id = "leeway-maximum",
        long = "leeway-maximum",
        value_name = "TIME",
        env = "DRIFT_AGENT_LEEWAY_MAXIMUM",
        allow_hyphen_values = true
    )]
    pub maximum: Option<ConfigText>,
}

/// A source that is used only while NTP gives no estimate.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// The kind of source: [`HTTP_DATE`].
    pub kind: ConfigText,
    /// Its URL.
    pub url: ConfigText,
}

impl std::str::FromStr for Fallback {
    type Err = std::convert::Infallible;
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Ok(Self { kind: ConfigText(HTTP_DATE.to_owned()), url: ConfigText(url.to_owned()) })
    }
}

/// The settings of one region.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// The pools of its nodes, in place of `pools`.
    pub pools: Vec<RawPool>,
}

/// One pool as written, or one `key=value` of the pool before it: commas separate both on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawPool {
    /// Its name; `None`: the other keys belong to the pool before it.
    pub name: Option<ConfigText>,
    /// What an operator promises in place of the root distance that the servers declare.
    pub root_distance: Option<ConfigText>,
}

impl RawPool {
    /// A pool without more keys.
    pub fn named(name: &str) -> Self {
        Self { name: Some(ConfigText(name.to_owned())), root_distance: None }
    }
}

impl std::str::FromStr for RawPool {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None => Ok(Self::named(text)),
            Some(("name", name)) => Ok(Self::named(name)),
            Some(("rootDistance", promise)) => {
                Ok(Self { name: None, root_distance: Some(ConfigText(promise.to_owned())) })
            }
            Some((key, _)) => Err(format!("unknown key {key:?}: expected name or rootDistance")),
        }
    }
}

/// A pool with more keys than its name.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PoolKeys {
    name: ConfigText,
    root_distance: Option<ConfigText>,
}

impl<'de> Deserialize<'de> for RawPool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrKeys;
        impl<'de> Visitor<'de> for TextOrKeys {
            type Value = RawPool;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a pool, or name and rootDistance")
            }
            fn visit_str<E>(self, name: &str) -> Result<RawPool, E> {
                Ok(RawPool::named(name))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawPool, A::Error> {
                let PoolKeys { name, root_distance } =
                    PoolKeys::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawPool { name: Some(name), root_distance })
            }
        }
        deserializer.deserialize_any(TextOrKeys)
    }
}

/// A scalar as written, also where YAML would read a number or a boolean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigText(pub String);

impl std::str::FromStr for ConfigText {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ConfigText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As a string, because YAML would read `kubernetes: off` as a boolean.
        String::deserialize(deserializer).map(Self)
    }
}
