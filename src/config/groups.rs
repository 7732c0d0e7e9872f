//! The keys that come in groups: `step`, `chrony`, `leeway`.

use std::path::PathBuf;
use std::time::Duration;

use super::http_url::HttpUrl;
use super::raw::{Fallback, HTTP_DATE};
use super::value::{Origin, Setting};
use super::{Chrony, ConfigError, DEFAULT_CHRONY_SOCKET, MILLI, SECOND, raw};
use crate::os::chrony::parse_makestep;
use drift_core::report::leeway;
use drift_core::step::policy::{self, Mode};
use drift_core::time::SettingSpan;

const DAY: Duration = Duration::from_secs(86_400);
/// The kernel takes 107, and our own socket beside it has a longer name.
const LONGEST_SOCKET_PATH: usize = 80;
/// A leeway keeps expired tokens alive for as long; more than two minutes is a hole, not a tolerance.
const LARGEST_LEEWAY: Duration = Duration::from_secs(120);

pub(super) fn step(flags: raw::Step, file: raw::Step) -> Result<policy::Settings, ConfigError> {
    let raw::Step { mode, min_offset, max_offset, cooldown, dry_run, on_request } = flags;
    let yes_or_no = |given: Setting| given.one_of(&[("true", true), ("false", false)]);
    let min = Setting::pick("step.minOffset", min_offset, file.min_offset, "100ms");
    let max = Setting::pick("step.maxOffset", max_offset, file.max_offset, "24h");
    let min_offset = min.time(10 * MILLI..=3_600 * SECOND, "100ms")?;
    let max_offset = max.time(SECOND..=30 * DAY, "24h")?;
    if max_offset < min_offset {
        return Err(max.wrong("not below step.minOffset, or nothing is ever stepped"));
    }
    let modes = [Mode::Off, Mode::Chrony, Mode::Kernel, Mode::Auto].map(|mode| (mode.label(), mode));
    Ok(policy::Settings {
        mode: Setting::pick("step.mode", mode, file.mode, "off").one_of(&modes)?,
        min_offset,
        max_offset,
        cooldown: Setting::pick("step.cooldown", cooldown, file.cooldown, "5m").time(SECOND..=DAY, "5m")?,
        dry_run: yes_or_no(Setting::pick("step.dryRun", dry_run, file.dry_run, "false"))?,
        on_request: yes_or_no(Setting::pick("step.onRequest", on_request, file.on_request, "false"))?,
    })
}

pub(super) fn chrony(flags: raw::Chrony, file: raw::Chrony) -> Result<Chrony, ConfigError> {
    let raw::Chrony { socket, makestep } = flags;
    let socket = Setting::pick("chrony.socket", socket, file.socket, DEFAULT_CHRONY_SOCKET);
    let path = PathBuf::from(&socket.text);
    if path.is_absolute() && path.file_name().is_some() && socket.text.len() <= LONGEST_SOCKET_PATH {
        let makestep = Setting::pick("chrony.makestep", makestep, file.makestep, "1 3");
        let rule = Some(makestep.text.trim()).filter(|text| !text.is_empty()).map(parse_makestep).transpose();
        Ok(Chrony { socket: path, makestep: rule.map_err(|expected| makestep.wrong(&expected))? })
    } else {
        Err(socket.wrong("the absolute path of chrony's command socket, of at most 80 characters"))
    }
}

/// A source that is named on the command line replaces those of the file, as a pool does.
pub(super) fn last_resort(
    flags: Option<Vec<Fallback>>,
    file: Option<Vec<Fallback>>,
) -> Result<Vec<HttpUrl>, ConfigError> {
    let origin = if flags.is_some() { Origin::CommandLine } else { Origin::File };
    let mut urls: Vec<HttpUrl> = Vec::new();
    for Fallback { kind, url } in flags.or(file).unwrap_or_default() {
        Setting { key: "lastResort.kind", text: kind.0, origin }.one_of(&[(HTTP_DATE, ())])?;
        let given = Setting { key: "lastResort.url", text: url.0, origin };
        let url = HttpUrl::parse(&given.text).map_err(|expected| given.wrong(expected))?;
        if urls.iter().any(|other| other.is_same_as(&url)) {
            return Err(given.wrong("each URL once: a server cannot confirm itself"));
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
    let peers = Setting::pick("leeway.peerAllowance", peer_allowance, file.peer_allowance, &threshold);
    let least = Setting::pick("leeway.minimum", minimum, file.minimum, "5s");
    let most = Setting::pick("leeway.maximum", maximum, file.maximum, "30s");
    let minimum = least.time(Duration::ZERO..=LARGEST_LEEWAY, "5s")?;
    let maximum = most.time(SECOND..=LARGEST_LEEWAY, "30s")?;
    if maximum < minimum {
        return Err(most.wrong("not below leeway.minimum"));
    }
    let peer_allowance = peers.time(Duration::ZERO..=LARGEST_LEEWAY, "100ms")?;
    Ok(leeway::Settings { peer_allowance, minimum, maximum })
}
