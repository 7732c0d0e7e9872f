//! From what an operator wrote to checked settings: a flag, else the environment, else the file, else the
//! default.

pub mod cloud;
pub mod decidable;
mod groups;
pub mod http_url;
pub mod listen;
mod nearest;
pub mod pool;
mod pools;
mod print;
pub mod raw;
pub mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

use drift_core::machine;
use drift_core::ntp::sample::Limits;
use drift_core::time::SettingSpan;
use http_url::HttpUrl;
pub use listen::Listen;
use pool::PoolName;
use raw::{ConfigText, RawConfig};
use value::Setting;
pub use value::{ConfigError, Origin};

/// The default pools. They belong to different operators. Google smears leap seconds and Cloudflare does not.
pub const DEFAULT_POOLS: [&str; 2] = ["time.google.com", "time.cloudflare.com"];
/// Public servers may rate-limit clients that send requests more often.
const PUBLIC_INTERVAL_MIN: Duration = Duration::from_secs(16);

/// Characters of an invalid line of the file that an error quotes.
const QUOTE_MAX: usize = 80;

/// chrony's command socket, as distributions configure it.
pub const DEFAULT_CHRONY_SOCKET: &str = "/run/chrony/chronyd.sock";

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The settings, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The pools, at least two unless one is allowed.
    pub pools: Vec<PoolName>,
    /// One pool alone is accepted.
    pub allow_single_pool: bool,
    /// What `auto` among the pools has picked and why, as a sentence; `None` without `auto`.
    pub picked: Option<String>,
    /// The URLs whose `Date` header is requested while NTP gives no estimate.
    pub last_resort: Vec<HttpUrl>,
    /// The settings of the core.
    pub core: machine::Settings,
    /// How to reach chrony.
    pub chrony: Chrony,
    /// The address of the HTTP server.
    pub listen: Listen,
    /// Name of the Node object; `None` if not set.
    pub node_name: Option<String>,
    /// Whether to write to an API server.
    pub kubernetes: Kubernetes,
    /// Format of the log.
    pub log_format: LogFormat,
    /// Level of the log.
    pub log_level: tracing::Level,
    /// Settings that are valid but probably a mistake, one sentence each.
    pub warnings: Vec<String>,
}

/// How to reach chrony.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chrony {
    /// Its command socket.
    pub socket: PathBuf,
}

/// Whether to write to an API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kubernetes {
    /// If one is configured.
    Auto,
    /// Always; an error if none is configured.
    On,
    /// Never.
    Off,
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// One JSON object a line.
    Json,
}

/// Reads the file at `path`; without a path, an empty configuration.
pub fn read_file(path: Option<&Path>) -> Result<RawConfig, ConfigError> {
    let Some(path) = path else { return Ok(RawConfig::default()) };
    let invalid = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|e| invalid(format!("cannot be read: {e}")))?;
    parse(&text).map_err(|reason| invalid(format!("invalid configuration: {reason}")))
}

/// Parses the text of a configuration file; the error is one line.
pub fn parse(yaml: &str) -> Result<RawConfig, String> {
    let is_blank =
        |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---";
    if yaml.lines().all(is_blank) {
        return Ok(RawConfig::default());
    }
    serde_saphyr::from_str(yaml).map_err(|error| in_one_line(&error, yaml))
}

/// The library formats an error as several lines with a drawing. A log needs one line, with the quoted text.
fn in_one_line(error: &serde_saphyr::Error, yaml: &str) -> String {
    let line = error.location().and_then(|at| usize::try_from(at.line()).ok());
    let written = line.and_then(|n| yaml.lines().nth(n.checked_sub(1)?)).unwrap_or_default();
    let written: String = written.trim().chars().take(QUOTE_MAX).collect();
    let error = error.without_snippet();
    let reason = error.to_string();
    let meant = match error {
        serde_saphyr::Error::SerdeUnknownField { field, expected, .. } => {
            nearest::question(field, expected.iter().copied())
        }
        _ => String::new(),
    };
    format!("{written:?}: {}{meant}", reason.lines().collect::<Vec<_>>().join(" "))
}

impl Settings {
    /// Checks the values of the command line (with the environment) and of the file. Reads this machine's firmware
    /// tables where a pool is `auto`.
    pub fn new(flags: RawConfig, file: RawConfig) -> Result<Self, ConfigError> {
        Self::on_machine(flags, file, Path::new("/"))
    }

    /// The same on a machine whose files are below `root`.
    pub fn on_machine(flags: RawConfig, file: RawConfig, root: &Path) -> Result<Self, ConfigError> {
        // Destructured in full, so that the compiler reports a new key that is not handled here.
        let RawConfig {
            pools,
            allow_single_pool,
            // There is no flag for regions.
            regions: _,
            region,
            interval,
            threshold,
            stale_after,
            servers_per_pool,
            max_round_trip,
            max_root_distance,
            last_resort,
            step,
            chrony,
            leeway,
            listen,
            node_name,
            kubernetes,
            log_format,
            log_level,
        } = flags;
        let mut warnings = Vec::new();
        let allow_single_pool =
            Setting::resolve("allowSinglePool", allow_single_pool, file.allow_single_pool, "false")
                .boolean()?;
        let written = pools::Written {
            flags: pools,
            file: file.pools,
            regions: file.regions.unwrap_or_default(),
            region: Setting::resolve("region", region, file.region, "").text,
            allow_single_pool,
        };
        let pools::Resolved { pools: (pools, root_distances), picked } =
            written.resolve(root, &mut warnings)?;
        let interval =
            Setting::resolve("interval", interval, file.interval, "64s").duration(SECOND..=1_024 * SECOND)?;
        let threshold = Setting::resolve("threshold", threshold, file.threshold, "100ms")
            .duration(MILLI..=10 * SECOND)?;
        let stale = Setting::resolve("staleAfter", stale_after, file.stale_after, "10m");
        let stale_after = stale.duration(SECOND..=86_400 * SECOND)?;
        if stale_after < interval * 3 {
            return Err(stale.invalid(&format!(
                "at least three times the interval of {}, or one lost packet makes the clock unknown",
                SettingSpan(interval)
            )));
        }
        let servers = Setting::resolve("serversPerPool", servers_per_pool, file.servers_per_pool, "4");
        let servers_per_pool = servers.text.parse().ok().filter(|n| (1..=16).contains(n));
        let servers_per_pool =
            servers_per_pool.ok_or_else(|| servers.invalid("a whole number from 1 to 16"))?;
        let limits =
            limits((max_round_trip, file.max_round_trip), (max_root_distance, file.max_root_distance))?;
        let last_resort = groups::last_resort(last_resort, file.last_resort)?;
        let step = groups::step(step, file.step)?;
        let chrony = groups::chrony(chrony, file.chrony)?;
        let leeway = groups::leeway(leeway, file.leeway, threshold)?;
        let node_name = checked_node_name(node_name, file.node_name)?;
        if interval < PUBLIC_INTERVAL_MIN {
            warnings.push(format!(
                "interval: {} is fine for your own servers, but public ones may rate-limit below {}",
                SettingSpan(interval),
                SettingSpan(PUBLIC_INTERVAL_MIN)
            ));
        }
        Ok(Self {
            core: machine::Settings {
                pools: pools.iter().map(ToString::to_string).collect(),
                root_distances,
                interval,
                threshold,
                stale_after,
                servers_per_pool,
                limits,
                last_resort: last_resort.iter().map(HttpUrl::source).collect(),
                step,
                leeway,
            },
            chrony,
            pools,
            allow_single_pool,
            picked,
            last_resort,
            listen: listen_address(&Setting::resolve("listen", listen, file.listen, ":10123"))?,
            node_name,
            kubernetes: Setting::resolve("kubernetes", kubernetes, file.kubernetes, "auto").one_of(&[
                ("auto", Kubernetes::Auto),
                ("on", Kubernetes::On),
                ("off", Kubernetes::Off),
            ])?,
            log_format: Setting::resolve("logFormat", log_format, file.log_format, "text")
                .one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
            log_level: Setting::resolve("logLevel", log_level, file.log_level, "info").one_of(&[
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

/// The limits of a sample; each argument is the value of the command line and that of the file.
fn limits(
    (round_trip, file_round_trip): (Option<ConfigText>, Option<ConfigText>),
    (root_distance, file_root_distance): (Option<ConfigText>, Option<ConfigText>),
) -> Result<Limits, ConfigError> {
    let round_trip = Setting::resolve("maxRoundTrip", round_trip, file_round_trip, "1s");
    let root_distance = Setting::resolve("maxRootDistance", root_distance, file_root_distance, "1s");
    Ok(Limits {
        max_round_trip: round_trip.duration(MILLI..=3 * SECOND)?,
        max_root_distance: root_distance.duration(MILLI..=16 * SECOND)?,
        root_distance: None,
    })
}

fn listen_address(setting: &Setting) -> Result<Listen, ConfigError> {
    let hint = "[ADDRESS]:PORT, e.g. :10123, 127.0.0.1:10123 or [::1]:10123";
    Listen::parse(&setting.text).ok_or_else(|| setting.invalid(hint))
}

fn checked_node_name(
    flag: Option<ConfigText>,
    file: Option<ConfigText>,
) -> Result<Option<String>, ConfigError> {
    let (flag, file) = (flag.map(|text| (text, Origin::CommandLine)), file.map(|text| (text, Origin::File)));
    let Some((ConfigText(text), origin)) = flag.or(file) else { return Ok(None) };
    if is_node_name(&text) {
        return Ok(Some(text));
    }
    Err(Setting::new("nodeName", text, origin).invalid(
        "the name of a Node object (lower-case letters, digits, '-' and '.'); in a pod, set it by the downward API: fieldPath spec.nodeName",
    ))
}

/// Whether `name` is a DNS-1123 subdomain, as a Node's name must be.
fn is_node_name(name: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_label =
        |l: &str| !l.is_empty() && l.bytes().all(is_inner) && !l.starts_with('-') && !l.ends_with('-');
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use proptest::prelude::*;

    fn from_file(yaml: &str) -> Result<Settings, String> {
        Settings::new(RawConfig::default(), parse(yaml)?).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_configuration_gives_the_documented_defaults() {
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
    fn defaults_in_the_help_are_the_defaults_in_force() {
        let command = RawConfig::augment_args(clap::Command::new("test"));
        let command = command.mut_args(|argument| argument.env(clap::builder::Resettable::Reset));
        let mut line = vec!["test".to_owned()];
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let default = help.split_once("[default: ").and_then(|(_, rest)| rest.strip_suffix(']'));
            let default = default.unwrap_or_else(|| panic!("no default in {help:?}"));
            // "none", "the threshold", "the host name, …" are no values.
            if default != "none" && !default.starts_with("the ") {
                for value in default.split(", ") {
                    line.extend([format!("--{}", argument.get_long().unwrap()), value.to_owned()]);
                }
            }
        }
        assert!(line.len() > 40, "{line:?}");
        let written = RawConfig::from_arg_matches(&command.get_matches_from(line)).unwrap();
        let defaults = Settings::new(RawConfig::default(), RawConfig::default());
        assert_eq!(Settings::new(written, RawConfig::default()), defaults);
    }

    #[test]
    fn flags_override_the_file_which_overrides_the_default() {
        let flags = RawConfig { interval: Some(ConfigText("32s".into())), ..RawConfig::default() };
        let file = parse("interval: 128s\nthreshold: 250ms\nserversPerPool: 2").unwrap();
        let settings = Settings::new(flags, file).unwrap();
        assert_eq!(settings.core.interval, Duration::from_secs(32));
        assert_eq!(settings.core.threshold, Duration::from_millis(250));
        assert_eq!(settings.core.servers_per_pool, 2);
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn errors_name_the_key_the_value_and_what_is_expected() {
        for (yaml, key, hint) in [
            ("pools: [time.google.com]", "pools", "at least two pools"),
            ("pools: [time.google.com]", "pools", "sets allowSinglePool"),
            ("pools: []", "pools", "at least one pool"),
            ("pools: []\nallowSinglePool: true", "pools", "at least one pool"),
            ("allowSinglePool: yes", "allowSinglePool", "one of true, false"),
            ("pools: [a.example, A.example:123]", "A.example:123", "each pool once"),
            ("pools: [a.example, 'b.example:99999']", "b.example:99999", "port from 1 to 65535"),
            (
                "pools: [a.example, {name: b.example, rootdistance: 1s}]",
                "rootdistance",
                "did you mean rootDistance?",
            ),
            ("pools: [a.example, {rootDistance: 1s}]", "pools", "name"),
            (
                "pools: [a.example, {name: b.example, rootDistance: 17s}]",
                "pools.rootDistance",
                "from 1ms to 16s",
            ),
            (
                "pools: [a.example, {name: b.example, rootDistance: 0s}]",
                "pools.rootDistance",
                "from 1ms to 16s",
            ),
            ("pools: [a.example, {name: a.example, rootDistance: 1s}]", "pools", "each pool once"),
            ("threshold: 0s", "threshold", "from 1ms to 10s"),
            ("threshold: -100ms", "-100ms", "from 1ms to 10s"),
            ("threshold: 11s", "threshold", "from 1ms to 10s"),
            ("threshold: 100", "threshold", "with a unit, e.g. 100ms"),
            ("interval: 500ms", "interval", "from 1s to"),
            ("interval: 5m", "staleAfter", "three times the interval"),
            ("serversPerPool: 0", "serversPerPool", "from 1 to 16"),
            ("regions: {eu: {pools: [a.example]}}", "regions", "at least two pools"),
            (
                "regions: {eu: {pools: [a.example, 'b:0']}}",
                "regions: invalid value \"b:0\"",
                "port from 1 to 65535",
            ),
            ("regions: {eu: {pool: [a.example, b.example]}}", "pool", "; did you mean pools?"),
            ("regions: {eu: {}}", "regions", "pools"),
            (
                "lastResort: [{kind: http-date, url: 'https://a.example'}]",
                "lastResort.url",
                "no certificate is valid",
            ),
            (
                "lastResort: [{kind: http-date, url: a.example}]",
                "lastResort.url: invalid value \"a.example\"",
                "http://HOST",
            ),
            (
                "lastResort: [{kind: http-dat, url: 'http://a.example'}]",
                "lastResort.kind",
                "; did you mean http-date?",
            ),
            ("lastResort: [{kind: http-date}]", "lastResort", "url"),
            ("lastResort: [{kind: http-date, uri: 'http://a.example'}]", "uri", "; did you mean url?"),
            ("lastResort: ['http://a.example']", "lastResort", ""),
            (
                "lastResort: [{kind: http-date, url: 'http://a.example'}, {kind: http-date, url: 'http://A.example:80/'}]",
                "lastResort.url: invalid value \"http://A.example:80/\"",
                "each URL once",
            ),
            ("listen: localhost", "listen", "[ADDRESS]:PORT"),
            ("step: {mode: always}", "step.mode", "one of off, chrony, kernel, auto"),
            ("step: {minOffset: 1ms}", "step.minOffset", "from 10ms to 1h"),
            ("step: {minOffset: -1s}", "step.minOffset", "from 10ms to 1h"),
            ("step: {maxOffset: 31days}", "step.maxOffset", "from 1s to 720h"),
            ("step: {minOffset: 10s, maxOffset: 5s}", "step.maxOffset", "at least step.minOffset"),
            ("step: {cooldown: 0s}", "step.cooldown", "from 1s to 24h"),
            ("step: {dryRun: perhaps}", "step.dryRun", "one of true, false"),
            ("step: {onRequest: 1}", "step.onRequest", "one of true, false"),
            ("step: {max: 1s}", "max", "maxOffset"),
            ("step: auto", "step", ""),
            (
                "step: {windows: [{cron: '0 2 * *', duration: 4h}]}",
                "step.windows.cron",
                "five fields of cron",
            ),
            ("step: {windows: [{cron: '0 0 30 2 *', duration: 4h}]}", "step.windows.cron", "a day that"),
            (
                "step: {windows: [{cron: '0 2 * * 6', duration: 8days}]}",
                "step.windows.duration",
                "from 1m to 168h",
            ),
            (
                "step: {windows: [{cron: '0 2 * * 6', duration: 4h, zone: Europe/Berlin}]}",
                "step.windows.zone: invalid value \"Europe/Berlin\"",
                "UTC, or a fixed distance from it such as +02:00",
            ),
            (
                "step: {maxOffset: 1s, windows: [{cron: '0 2 * * 6', duration: 4h, minOffset: 2s}]}",
                "step.windows.minOffset",
                "from 10ms to 1s",
            ),
            (
                "step: {windows: [{cron: '0 2 * * 6', duration: 4h, cooldown: 0s}]}",
                "step.windows.cooldown",
                "from 1s to 24h",
            ),
            ("step: {windows: [{cron: '0 2 * * 6'}]}", "duration", ""),
            ("step: {windows: [{crom: '0 2 * * 6', duration: 4h}]}", "crom", "did you mean cron?"),
            ("chrony: {socket: chronyd.sock}", "chrony.socket", "absolute path"),
            ("leeway: {maximum: 3m}", "leeway.maximum", "from 1s to 2m"),
            ("leeway: {minimum: 10s, maximum: 5s}", "leeway.maximum", "at least leeway.minimum"),
            ("leeway: {peerAllowance: -1s}", "leeway.peerAllowance", "from 0s to 2m"),
            ("chrony: {makestep: '1 3'}", "makestep", "unknown field"),
            ("chrony: {socket: ''}", "chrony.socket", "absolute path"),
            ("nodeName: ''", "nodeName", "name of a Node object"),
            ("nodeName: Node_1", "nodeName", "name of a Node object"),
            ("kubernetes: maybe", "kubernetes", "one of auto, on, off"),
            ("logFormat: xml", "logFormat", "one of text, json"),
            ("logLevel: loud", "logLevel", "one of error"),
            ("intervall: 64s", "intervall", "; did you mean interval?"),
            ("stale-after: 10m", "stale-after", "; did you mean staleAfter?"),
            ("kubernetes: onn", "kubernetes", "auto, on, off; did you mean on?"),
            ("pools: time.google.com", "pools", ""),
            ("interval: {a: b}", "interval: {a: b}", "string scalar"),
            ("[not, a, map]", "", ""),
            ("a: b: c", "", ""),
        ] {
            let error = from_file(yaml).expect_err(yaml);
            assert!(error.contains(key) && error.contains(hint), "{yaml}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn a_node_uses_the_pools_of_its_region_or_else_the_key_pools() {
        let regions = "regions: {eu: {pools: [a.eu, b.eu]}, us: {pools: [a.us, b.us]}}\n";
        let of = |yaml: &str| from_file(&format!("{regions}{yaml}")).unwrap();
        assert_eq!(of("region: eu\npools: [a.example, b.example]").core.pools, ["a.eu", "b.eu"]);
        assert!(of("region: us").warnings.is_empty());
        let elsewhere = of("region: ap\npools: [a.example, b.example]");
        assert_eq!(elsewhere.core.pools, ["a.example", "b.example"]);
        assert!(elsewhere.warnings[0].contains("eu, us"), "{:?}", elsewhere.warnings);
        assert_eq!(
            of("region: ''").core.pools,
            DEFAULT_POOLS,
            "an empty region, from a label that the Node lacks"
        );
        assert!(
            from_file("region: eu").unwrap().warnings.is_empty(),
            "without regions the region has no effect"
        );
    }

    #[test]
    fn pools_have_a_root_distance_of_their_own_in_the_file_and_in_flags() {
        let file = "pools: [a.example, {name: 'dc1.example:1123', rootDistance: 100ms}, {name: b.example}]";
        let settings = from_file(file).unwrap();
        assert_eq!(settings.core.pools, ["a.example", "dc1.example:1123", "b.example"]);
        assert_eq!(settings.core.root_distances, [(1, Duration::from_millis(100))].into());
        let promised = |pool: usize| settings.core.limits_of(pool).root_distance;
        assert_eq!([promised(0), promised(1)], [None, Some(Duration::from_millis(100))]);
        let flags = |texts: &[&str]| {
            let pools = texts.iter().map(|text| text.parse().unwrap()).collect();
            let flags = RawConfig { pools: Some(pools), ..RawConfig::default() };
            Settings::new(flags, RawConfig::default()).map_err(|e| e.to_string())
        };
        // As clap splits `--pool a.example --pool name=dc1.example:1123,rootDistance=100ms --pool b.example`.
        let same = flags(&["a.example", "name=dc1.example:1123", "rootDistance=100ms", "b.example"]).unwrap();
        assert_eq!(same.core, settings.core);
        for wrong in
            [&["rootDistance=1s", "a.example"][..], &["a", "rootDistance=1s", "rootDistance=2s", "b"]]
        {
            assert!(flags(wrong).unwrap_err().contains("rootDistance after the name"), "{wrong:?}");
        }
        assert!("nmae=a".parse::<raw::RawPool>().unwrap_err().contains("expected name or rootDistance"));
    }

    #[test]
    fn step_windows_are_the_same_from_the_file_and_from_flags() {
        let file = "step: {cooldown: 10m, windows: [{cron: '0 2,14 * * 6', duration: 4h, zone: '+02:00', minOffset: 20ms}]}";
        let step = from_file(file).unwrap().core.step;
        let window = &step.windows[0];
        assert_eq!((window.schedule.text(), window.zone.text()), ("0 2,14 * * 6", "+02:00"));
        let limits = (window.duration, window.min_offset, window.cooldown);
        let (hours, minutes) = (Duration::from_secs(4 * 3_600), Duration::from_secs(600));
        assert_eq!(limits, (hours, Duration::from_millis(20), minutes), "its cool-down is that of outside");
        let text = "cron=0 2,14 * * 6,duration=4h,zone=+02:00,minOffset=20ms";
        let windows = Some(vec![text.parse().unwrap()]);
        let flags = raw::Step { windows, cooldown: Some(ConfigText("10m".into())), ..raw::Step::default() };
        let flags = RawConfig { step: flags, ..RawConfig::default() };
        assert_eq!(Settings::new(flags, RawConfig::default()).unwrap().core.step, step);
        for invalid in ["0 2 * * 6", "cron=* * * * *,length=4h"] {
            assert!(invalid.parse::<raw::Window>().unwrap_err().contains("expected cron"), "{invalid}");
        }
    }

    #[test]
    fn auto_is_the_clouds_own_source_beside_a_public_pool() {
        use cloud::tests::Firmware;
        let amazon = Firmware::new("auto-amazon", &[("sys_vendor", "Amazon EC2")]);
        let oracle = Firmware::new("auto-oracle", &[("chassis_asset_tag", "OracleCloud.com")]);
        let chassis = ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77");
        let azure = Firmware::new("auto-azure", &[("sys_vendor", "Microsoft Corporation"), chassis]);
        let google = Firmware::new("auto-google", &[("sys_vendor", "Google")]);
        let on = |firmware: &Firmware, yaml: &str| {
            let settings = Settings::on_machine(RawConfig::default(), parse(yaml).unwrap(), &firmware.0);
            settings.unwrap_or_else(|e| panic!("{yaml}: {e}"))
        };
        let auto = "pools: [auto]";
        assert_eq!(on(&amazon, auto).core.pools, ["169.254.169.123", "time.google.com"]);
        assert_eq!(on(&google, auto).core.pools, ["169.254.169.254", "time.google.com"]);
        assert_eq!(on(&oracle, auto).core.pools, ["169.254.169.254", "time.cloudflare.com"]);
        let named = on(&amazon, "pools: [ntp.example, auto, {name: dc.example, rootDistance: 1s}]");
        assert_eq!(named.core.pools, ["ntp.example", "169.254.169.123", "dc.example"]);
        assert_eq!(named.core.root_distances, [(2, SECOND)].into());
        let twice = on(&amazon, "pools: ['169.254.169.123:123', auto]");
        assert_eq!(twice.core.pools, ["169.254.169.123:123", "time.google.com"], "it is there already");
        assert_eq!(on(&amazon, "pools: [auto, time.google.com]").core.pools[1], "time.google.com");
        let regional = on(&amazon, "regions: {eu: {pools: [auto]}}\nregion: eu");
        assert_eq!(regional.core.pools, ["169.254.169.123", "time.google.com"]);
        let picked = on(&amazon, auto);
        let words = "pools: auto is 169.254.169.123 and time.google.com: Amazon EC2: its link-local";
        assert!(
            picked.picked.as_ref().unwrap().starts_with(words) && picked.warnings.is_empty(),
            "{picked:?}"
        );
        let without = on(&azure, auto);
        assert_eq!(without.core.pools, DEFAULT_POOLS);
        assert!(without.warnings[0].contains("Azure has no NTP server; its host clock (PTP by hv_utils"));
        assert_eq!(on(&azure, "pools: [ntp.example, auto]").core.pools, ["ntp.example", "time.google.com"]);
        assert_eq!(on(&amazon, "").picked, None);
        for (yaml, hint) in [
            ("pools: [auto, auto]", "auto once"),
            ("pools: [{name: auto, rootDistance: 1s}]", "auto without rootDistance"),
        ] {
            assert!(from_file(yaml).unwrap_err().contains(hint), "{yaml}");
        }
    }

    #[test]
    fn one_pool_alone_is_accepted_where_it_is_allowed() {
        let alone = from_file("pools: [ntp.example]\nallowSinglePool: true").unwrap();
        assert_eq!((alone.core.pools, alone.allow_single_pool), (vec!["ntp.example".to_owned()], true));
        let regional =
            from_file("regions: {eu: {pools: [a.eu]}}\nregion: eu\nallowSinglePool: true").unwrap();
        assert_eq!(regional.core.pools, ["a.eu"]);
        assert_eq!(from_file("allowSinglePool: true").unwrap().core.pools, DEFAULT_POOLS);
    }

    #[test]
    fn pools_on_the_command_line_override_the_regions() {
        let named = |names: [&str; 2]| Some(names.map(raw::RawPool::named).to_vec());
        let flags = RawConfig { pools: named(["a.example", "b.example"]), ..RawConfig::default() };
        let file = parse("region: eu\nregions: {eu: {pools: [a.eu, b.eu]}}").unwrap();
        assert_eq!(Settings::new(flags, file).unwrap().core.pools, ["a.example", "b.example"]);
    }

    #[test]
    fn only_values_of_the_command_line_are_usage_errors() {
        let error = Settings::new(RawConfig::default(), parse("nodeName: ''").unwrap()).unwrap_err();
        assert!(!error.is_usage(), "{error}");
        let flags = RawConfig { node_name: Some(ConfigText(String::new())), ..RawConfig::default() };
        assert!(Settings::new(flags, parse("nodeName: n0").unwrap()).unwrap_err().is_usage());
    }

    #[test]
    fn yaml_booleans_and_numbers_are_read_as_text() {
        let settings = from_file("kubernetes: off\nnodeName: 1e3").unwrap();
        assert_eq!((settings.kubernetes, settings.node_name.as_deref()), (Kubernetes::Off, Some("1e3")));
    }

    #[test]
    fn intervals_below_16_s_give_a_warning_and_no_error() {
        assert!(
            from_file("interval: 1s\nstaleAfter: 10s").unwrap().warnings[0]
                .contains("public ones may rate-limit")
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics_for_any_text(yaml in ".{0,400}") {
            let _ = from_file(&yaml);
        }
    }
}
