//! The keys that come in groups: `step`, `chrony`, `leeway`.

use std::path::PathBuf;
use std::time::Duration;

use super::http_url::HttpUrl;
use super::raw::{ConfigText, Fallback, HTTP_DATE};
use super::value::{Origin, Setting};
use super::{Chrony, ConfigError, DEFAULT_CHRONY_SOCKET, MILLI, SECOND, raw};
use drift_core::report::leeway;
use drift_core::step::policy::{self, Mode};
use drift_core::step::window::{Schedule, Window, Zone};
use drift_core::time::SettingSpan;

const DAY: Duration = Duration::from_secs(86_400);
/// The kernel allows 107 bytes. The agent binds its own socket in the same folder, and its name is longer.
const SOCKET_PATH_MAX: usize = 80;
/// A verifier accepts expired tokens for as long as its leeway, so a longer one would be a security risk.
const LEEWAY_MAX: Duration = Duration::from_secs(120);

pub(super) fn step(flags: raw::Step, file: raw::Step) -> Result<policy::Settings, ConfigError> {
    let raw::Step { mode, min_offset, max_offset, cooldown, dry_run, on_request, windows } = flags;
    let min = Setting::resolve("step.minOffset", min_offset, file.min_offset, "100ms");
    let max = Setting::resolve("step.maxOffset", max_offset, file.max_offset, "24h");
    let min_offset = min.duration(10 * MILLI..=3_600 * SECOND)?;
    let max_offset = max.duration(SECOND..=30 * DAY)?;
    if max_offset < min_offset {
        return Err(max.invalid("at least step.minOffset, or no clock is ever stepped"));
    }
    let modes = [Mode::Off, Mode::Chrony, Mode::Kernel, Mode::Auto].map(|mode| (mode.label(), mode));
    let cooldown = Setting::resolve("step.cooldown", cooldown, file.cooldown, "5m").duration(SECOND..=DAY)?;
    let windows = step_windows(windows, file.windows, (min_offset, max_offset, cooldown))?;
    Ok(policy::Settings {
        windows,
        mode: Setting::resolve("step.mode", mode, file.mode, "off").one_of(&modes)?,
        min_offset,
        max_offset,
        cooldown,
        dry_run: Setting::resolve("step.dryRun", dry_run, file.dry_run, "false").boolean()?,
        on_request: Setting::resolve("step.onRequest", on_request, file.on_request, "false").boolean()?,
    })
}

/// The maintenance windows. What a window does not limit is as outside of it.
fn step_windows(
    flags: Option<Vec<raw::Window>>,
    file: Option<Vec<raw::Window>>,
    (min_offset, max_offset, cooldown): (Duration, Duration, Duration),
) -> Result<Vec<Window>, ConfigError> {
    let origin = if flags.is_some() { Origin::CommandLine } else { Origin::File };
    let checked = |raw: raw::Window| -> Result<Window, ConfigError> {
        let cron = Setting::new("step.windows.cron", raw.cron.0, origin);
        let zone =
            Setting::new("step.windows.zone", raw.zone.map_or("UTC".to_owned(), |zone| zone.0), origin);
        let duration = Setting::with_example("step.windows.duration", raw.duration.0, origin, "4h");
        let limit = |key, text: Option<ConfigText>, otherwise: Duration, range| match text {
            None => Ok(otherwise),
            Some(ConfigText(text)) => {
                let example = SettingSpan(otherwise).to_string();
                Setting::with_example(key, text, origin, &example).duration(range)
            }
        };
        let least = 10 * MILLI..=max_offset.min(3_600 * SECOND);
        Ok(Window {
            schedule: Schedule::parse(&cron.text).map_err(|expected| cron.invalid(expected))?,
            duration: duration.duration(60 * SECOND..=7 * DAY)?,
            zone: Zone::parse(&zone.text).map_err(|expected| zone.invalid(expected))?,
            min_offset: limit("step.windows.minOffset", raw.min_offset, min_offset, least)?,
            cooldown: limit("step.windows.cooldown", raw.cooldown, cooldown, SECOND..=DAY)?,
        })
    };
    flags.or(file).unwrap_or_default().into_iter().map(checked).collect()
}

pub(super) fn chrony(flags: raw::Chrony, file: raw::Chrony) -> Result<Chrony, ConfigError> {
    let raw::Chrony { socket } = flags;
    let socket = Setting::resolve("chrony.socket", socket, file.socket, DEFAULT_CHRONY_SOCKET);
    let path = PathBuf::from(&socket.text);
    if path.is_absolute() && path.file_name().is_some() && socket.text.len() <= SOCKET_PATH_MAX {
        Ok(Chrony { socket: path })
    } else {
        Err(socket.invalid("the absolute path of chrony's command socket, at most 80 characters"))
    }
}

/// Sources on the command line replace those in the file, as pools do.
pub(super) fn last_resort(
    flags: Option<Vec<Fallback>>,
    file: Option<Vec<Fallback>>,
) -> Result<Vec<HttpUrl>, ConfigError> {
    let origin = if flags.is_some() { Origin::CommandLine } else { Origin::File };
    let mut urls: Vec<HttpUrl> = Vec::new();
    for Fallback { kind, url } in flags.or(file).unwrap_or_default() {
        Setting::new("lastResort.kind", kind.0, origin).one_of(&[(HTTP_DATE, ())])?;
        let setting = Setting::new("lastResort.url", url.0, origin);
        let url = HttpUrl::parse(&setting.text).map_err(|expected| setting.invalid(expected))?;
        if urls.iter().any(|other| other.is_same_as(&url)) {
            return Err(setting.invalid("each URL once, because a server cannot confirm itself"));
        }
        urls.push(url);
    }
    Ok(urls)
}

pub(super) fn leeway(
    flags: raw::Leeway,
    file: raw::Leeway,
    threshold: Duration,
) -> Result<leeway::Settings, ConfigError> {
    let raw::Leeway { peer_allowance, minimum, maximum } = flags;
    let threshold = SettingSpan(threshold).to_string();
    let peers = Setting::resolve("leeway.peerAllowance", peer_allowance, file.peer_allowance, &threshold);
    let least = Setting::resolve("leeway.minimum", minimum, file.minimum, "5s");
    let most = Setting::resolve("leeway.maximum", maximum, file.maximum, "30s");
    let minimum = least.duration(Duration::ZERO..=LEEWAY_MAX)?;
    let maximum = most.duration(SECOND..=LEEWAY_MAX)?;
    if maximum < minimum {
        return Err(most.invalid("at least leeway.minimum"));
    }
    let peer_allowance = peers.duration(Duration::ZERO..=LEEWAY_MAX)?;
    Ok(leeway::Settings { peer_allowance, minimum, maximum })
}
