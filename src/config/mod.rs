//! From what a person wrote to settings that are right: flags before environment before file before default.

pub mod pool;
pub mod raw;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::machine;
use crate::core::sample::Limits;
use pool::PoolName;
use raw::{Raw, Text};

/// The pools of the default: one smears leap seconds and one does not, and they share no operator.
pub const DEFAULT_POOLS: [&str; 2] = ["time.google.com", "time.cloudflare.com"];
/// Public servers take more exchanges than one in this for a nuisance.
const POLITE_INTERVAL: Duration = Duration::from_secs(16);

/// Settings that were checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The pools, at least two.
    pub pools: Vec<PoolName>,
    /// What the core needs.
    pub core: machine::Settings,
    /// Where to serve HTTP.
    pub listen: Listen,
    /// Name of the Node object; `None` when none was given.
    pub node_name: Option<String>,
    /// Whether to write to an API server.
    pub kubernetes: Kubernetes,
    /// Form of the log.
    pub log_format: LogFormat,
    /// How much to log.
    pub log_level: tracing::Level,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<String>,
}

/// Whether to write to an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kubernetes {
    /// When one is configured.
    Auto,
    /// Always; none is an error.
    On,
    /// Never.
    Off,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// Where to serve HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `None`: every address of the node, of both families where it has both.
    pub host: Option<IpAddr>,
    /// 0: any free port.
    pub port: u16,
}

/// A setting that is not right: which, what it is, and what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// One value is wrong.
    #[error("{key}: {value:?} is not right: {expected} (from {origin})")]
    Value {
        /// The key as in the file.
        key: &'static str,
        /// What was written.
        value: String,
        /// What would be right.
        expected: String,
        /// Where it was written.
        origin: Origin,
    },
    /// The file is not to be had, or not of the right form.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is the matter.
        reason: String,
    },
}

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag or an environment variable.
    CommandLine,
    /// The configuration file.
    File,
    /// Nowhere: it is what we take when nothing is written.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CommandLine => "the command line or the environment",
            Self::File => "the configuration file",
            Self::Default => "the default",
        })
    }
}

impl ConfigError {
    /// Is the command line to blame, and not the file?
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Value { origin: Origin::CommandLine, .. })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Some(host) => SocketAddr::new(host, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

/// Reads the file, if one is named.
pub fn read_file(path: Option<&Path>) -> Result<Raw, ConfigError> {
    let Some(path) = path else { return Ok(Raw::default()) };
    let wrong = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    parse(&text).map_err(|reason| wrong(format!("not a configuration: {reason}")))
}

/// Reads the text of a configuration file.
pub fn parse(yaml: &str) -> Result<Raw, String> {
    let is_blank =
        |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---";
    if yaml.lines().all(is_blank) {
        return Ok(Raw::default());
    }
    serde_saphyr::from_str(yaml).map_err(|e| e.to_string())
}

/// One value and where it came from.
struct Given {
    key: &'static str,
    text: String,
    origin: Origin,
}

impl Given {
    fn pick(key: &'static str, flag: Option<Text>, file: Option<Text>, default: &str) -> Self {
        let (text, origin) = match (flag, file) {
            (Some(Text(text)), _) => (text, Origin::CommandLine),
            (None, Some(Text(text))) => (text, Origin::File),
            (None, None) => (default.to_owned(), Origin::Default),
        };
        Self { key, text, origin }
    }

    fn wrong(&self, expected: &str) -> ConfigError {
        ConfigError::Value {
            key: self.key,
            value: self.text.clone(),
            expected: expected.to_owned(),
            origin: self.origin,
        }
    }

    fn time(
        &self,
        range: std::ops::RangeInclusive<Duration>,
        example: &str,
    ) -> Result<Duration, ConfigError> {
        let limits = format!(
            "a length of time from {} to {} with its unit, such as {example}",
            humantime::format_duration(*range.start()),
            humantime::format_duration(*range.end())
        );
        let time = humantime::parse_duration(self.text.trim()).map_err(|_| self.wrong(&limits))?;
        if range.contains(&time) { Ok(time) } else { Err(self.wrong(&limits)) }
    }

    fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, ConfigError> {
        let found = words.iter().find(|(word, _)| *word == self.text);
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        found.map(|(_, value)| *value).ok_or_else(|| self.wrong(&format!("one of {}", all.join(", "))))
    }
}

impl Settings {
    /// Checks what was written on the command line (with the environment) and in the file.
    pub fn new(flags: Raw, file: Raw) -> Result<Self, ConfigError> {
        // Taken apart whole, so that a new key cannot be forgotten here.
        let Raw {
            pools,
            interval,
            threshold,
            stale_after,
            servers_per_pool,
            max_round_trip,
            max_root_distance,
            listen,
            node_name,
            kubernetes,
            log_format,
            log_level,
        } = flags;
        const MILLI: Duration = Duration::from_millis(1);
        const SECOND: Duration = Duration::from_secs(1);
        let pools = pool_names(pools, file.pools)?;
        let interval =
            Given::pick("interval", interval, file.interval, "64s").time(SECOND..=1_024 * SECOND, "64s")?;
        let threshold = Given::pick("threshold", threshold, file.threshold, "100ms")
            .time(MILLI..=10 * SECOND, "100ms")?;
        let stale = Given::pick("staleAfter", stale_after, file.stale_after, "10m");
        let stale_after = stale.time(SECOND..=86_400 * SECOND, "10m")?;
        if stale_after < interval * 3 {
            return Err(stale.wrong(&format!(
                "at least three times the interval of {}, or one lost packet makes the clock unknown",
                humantime::format_duration(interval)
            )));
        }
        let servers = Given::pick("serversPerPool", servers_per_pool, file.servers_per_pool, "4");
        let servers_per_pool = servers.text.parse().ok().filter(|n| (1..=16).contains(n));
        let servers_per_pool =
            servers_per_pool.ok_or_else(|| servers.wrong("a whole number from 1 to 16"))?;
        let limits = Limits {
            max_round_trip: Given::pick("maxRoundTrip", max_round_trip, file.max_round_trip, "1s")
                .time(MILLI..=3 * SECOND, "1s")?,
            max_root_distance: Given::pick(
                "maxRootDistance",
                max_root_distance,
                file.max_root_distance,
                "1s",
            )
            .time(MILLI..=16 * SECOND, "1s")?,
        };
        let node_name = node_name.or(file.node_name).map(|Text(name)| name);
        if node_name.as_ref().is_some_and(|name| !is_node_name(name)) {
            return Err(Given { key: "nodeName", text: node_name.unwrap_or_default(), origin: Origin::CommandLine }.wrong(
                "the name of a Node object (lower-case letters, digits, '-' and '.'); by the downward API: fieldPath spec.nodeName",
            ));
        }
        let mut warnings = Vec::new();
        if interval < POLITE_INTERVAL {
            warnings.push(format!(
                "interval: {} is fine for your own servers, but public ones may refuse to answer below {}",
                humantime::format_duration(interval),
                humantime::format_duration(POLITE_INTERVAL)
            ));
        }
        Ok(Self {
            core: machine::Settings {
                pools: pools.iter().map(ToString::to_string).collect(),
                interval,
                threshold,
                stale_after,
                servers_per_pool,
                limits,
            },
            pools,
            listen: listen_address(&Given::pick("listen", listen, file.listen, ":10123"))?,
            node_name,
            kubernetes: Given::pick("kubernetes", kubernetes, file.kubernetes, "auto").one_of(&[
                ("auto", Kubernetes::Auto),
                ("on", Kubernetes::On),
                ("off", Kubernetes::Off),
            ])?,
            log_format: Given::pick("logFormat", log_format, file.log_format, "text")
                .one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
            log_level: Given::pick("logLevel", log_level, file.log_level, "info").one_of(&[
                ("error", tracing::Level::ERROR),
                ("warn", tracing::Level::WARN),
                ("info", tracing::Level::INFO),
                ("debug", tracing::Level::DEBUG),
                ("trace", tracing::Level::TRACE),
            ])?,
            warnings,
        })
    }
}

fn pool_names(flags: Option<Vec<Text>>, file: Option<Vec<Text>>) -> Result<Vec<PoolName>, ConfigError> {
    let (texts, origin) = match (flags, file) {
        (Some(texts), _) => (texts, Origin::CommandLine),
        (None, Some(texts)) => (texts, Origin::File),
        (None, None) => (DEFAULT_POOLS.map(|p| Text(p.to_owned())).to_vec(), Origin::Default),
    };
    let given = |text: &str| Given { key: "pools", text: text.to_owned(), origin };
    let mut names: Vec<PoolName> = Vec::with_capacity(texts.len());
    for Text(text) in &texts {
        let name = PoolName::parse(text).ok_or_else(|| {
            given(text).wrong("HOST, HOST:PORT, an IPv4 address, or [IPv6]:PORT, with a port from 1 to 65535")
        })?;
        if names.iter().any(|other| other.is_same_as(&name)) {
            return Err(given(text).wrong("each pool once: a pool cannot confirm itself"));
        }
        names.push(name);
    }
    if names.len() < 2 {
        let all: Vec<&str> = texts.iter().map(|Text(t)| t.as_str()).collect();
        return Err(given(&all.join(", ")).wrong("at least two pools, so that neither is believed alone"));
    }
    Ok(names)
}

fn listen_address(given: &Given) -> Result<Listen, ConfigError> {
    let parsed = match given.text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| Listen { host: None, port }),
        None => given.text.parse::<SocketAddr>().ok().map(|a| Listen { host: Some(a.ip()), port: a.port() }),
    };
    parsed.ok_or_else(|| given.wrong("[ADDRESS]:PORT, such as :10123, 127.0.0.1:10123 or [::1]:10123"))
}

impl Listen {
    /// The address to bind first, and another one for nodes without IPv6.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        match self.host {
            Some(host) => vec![SocketAddr::new(host, self.port)],
            None => vec![
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), self.port),
                SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), self.port),
            ],
        }
    }
}

/// DNS-1123 subdomain, as the API server asks of a Node's name.
fn is_node_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_label =
        |l: &str| !l.is_empty() && l.bytes().all(is_inner) && !l.starts_with('-') && !l.ends_with('-');
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from_file(yaml: &str) -> Result<Settings, String> {
        Settings::new(Raw::default(), parse(yaml)?).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_written_is_the_contract() {
        for yaml in ["", "---\n# nothing\n", "{}"] {
            let settings = from_file(yaml).unwrap();
            assert_eq!(settings.core.pools, DEFAULT_POOLS);
            assert_eq!(settings.core.interval, Duration::from_secs(64));
            assert_eq!(settings.core.threshold, Duration::from_millis(100));
            assert_eq!(settings.core.stale_after, Duration::from_secs(600));
            assert_eq!(settings.core.servers_per_pool, 4);
            assert_eq!(settings.listen.to_string(), ":10123");
            assert_eq!(settings.kubernetes, Kubernetes::Auto);
            assert!(settings.warnings.is_empty());
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let flags = Raw { interval: Some(Text("32s".into())), ..Raw::default() };
        let file = parse("interval: 128s\nthreshold: 250ms\nserversPerPool: 2").unwrap();
        let settings = Settings::new(flags, file).unwrap();
        assert_eq!(settings.core.interval, Duration::from_secs(32));
        assert_eq!(settings.core.threshold, Duration::from_millis(250));
        assert_eq!(settings.core.servers_per_pool, 2);
    }

    #[test]
    fn each_wrong_value_is_named_with_its_key_and_what_would_be_right() {
        for (yaml, key, hint) in [
            ("pools: [time.google.com]", "pools", "at least two pools"),
            ("pools: []", "pools", "at least two pools"),
            ("pools: [a.example, A.example:123]", "A.example:123", "each pool once"),
            ("pools: [a.example, 'b.example:99999']", "b.example:99999", "port from 1 to 65535"),
            ("threshold: 0s", "threshold", "from 1ms to 10s"),
            ("threshold: -100ms", "-100ms", "from 1ms to 10s"),
            ("threshold: 11s", "threshold", "from 1ms to 10s"),
            ("threshold: 100", "threshold", "with its unit"),
            ("interval: 500ms", "interval", "from 1s to"),
            ("interval: 5m", "staleAfter", "three times the interval"),
            ("serversPerPool: 0", "serversPerPool", "from 1 to 16"),
            ("listen: localhost", "listen", "[ADDRESS]:PORT"),
            ("nodeName: ''", "nodeName", "name of a Node object"),
            ("nodeName: Node_1", "nodeName", "name of a Node object"),
            ("kubernetes: maybe", "kubernetes", "one of auto, on, off"),
            ("logFormat: xml", "logFormat", "one of text, json"),
            ("logLevel: loud", "logLevel", "one of error"),
            ("intervall: 64s", "intervall", "interval"),
            ("pools: time.google.com", "pools", ""),
            ("interval: {a: b}", "a single value", ""),
            ("[not, a, map]", "", ""),
            ("a: b: c", "", ""),
        ] {
            let error = from_file(yaml).expect_err(yaml);
            assert!(error.contains(key) && error.contains(hint), "{yaml}: {error}");
        }
    }

    #[test]
    fn a_short_interval_is_a_warning_and_not_an_error() {
        assert!(from_file("interval: 1s\nstaleAfter: 10s").unwrap().warnings[0].contains("public ones"));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(yaml in ".{0,400}") {
            let _ = from_file(&yaml);
        }
    }
}
