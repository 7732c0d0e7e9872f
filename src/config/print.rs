//! The settings in force, printed as a configuration file that gives the same settings.

use std::time::Duration;

use super::raw::HTTP_DATE;
use super::{Kubernetes, LogFormat, Settings};
use drift_core::step::policy;
use drift_core::time::SettingSpan;

impl Settings {
    /// All settings as YAML.
    pub fn in_yaml(&self) -> String {
        // Destructured in full, so that the compiler reports a new setting that is not printed here.
        let Self {
            pools,
            allow_single_pool,
            picked: _,
            last_resort,
            core,
            chrony,
            listen,
            node_name,
            kubernetes,
            log_format,
            log_level,
            warnings: _,
        } = self;
        let time = |t: Duration| SettingSpan(t).to_string();
        let mut lines = vec!["pools:".to_owned()];
        for (index, pool) in pools.iter().enumerate() {
            match core.root_distances.get(&index) {
                None => lines.push(format!("  - \"{pool}\"")),
                Some(promised) => lines.extend([
                    format!("  - name: \"{pool}\""),
                    format!("    rootDistance: {}", time(*promised)),
                ]),
            }
        }
        lines.push(format!("allowSinglePool: {allow_single_pool}"));
        lines.push(format!("interval: {}", time(core.interval)));
        lines.push(format!("threshold: {}", time(core.threshold)));
        lines.push(format!("staleAfter: {}", time(core.stale_after)));
        lines.push(format!("serversPerPool: {}", core.servers_per_pool));
        lines.push(format!("maxRoundTrip: {}", time(core.limits.max_round_trip)));
        lines.push(format!("maxRootDistance: {}", time(core.limits.max_root_distance)));
        lines.push(format!("lastResort:{}", if last_resort.is_empty() { " []" } else { "" }));
        for url in last_resort {
            lines.extend([format!("  - kind: {HTTP_DATE}"), format!("    url: \"{url}\"")]);
        }
        let policy::Settings { mode, min_offset, max_offset, cooldown, dry_run, on_request, windows } =
            &core.step;
        lines.push("step:".to_owned());
        lines.push(format!("  mode: \"{}\"", mode.label()));
        lines.push(format!("  minOffset: {}", time(*min_offset)));
        lines.push(format!("  maxOffset: {}", time(*max_offset)));
        lines.push(format!("  cooldown: {}", time(*cooldown)));
        lines.push(format!("  dryRun: {dry_run}"));
        lines.push(format!("  onRequest: {on_request}"));
        lines.push(format!("  windows:{}", if windows.is_empty() { " []" } else { "" }));
        for window in windows {
            lines.extend([
                format!("    - cron: \"{}\"", window.schedule.text()),
                format!("      duration: {}", time(window.duration)),
                format!("      zone: \"{}\"", window.zone.text()),
                format!("      minOffset: {}", time(window.min_offset)),
                format!("      cooldown: {}", time(window.cooldown)),
            ]);
        }
        lines.push("chrony:".to_owned());
        lines.push(format!("  socket: \"{}\"", chrony.socket.display()));
        lines.push("leeway:".to_owned());
        lines.push(format!("  peerAllowance: {}", time(core.leeway.peer_allowance)));
        lines.push(format!("  minimum: {}", time(core.leeway.minimum)));
        lines.push(format!("  maximum: {}", time(core.leeway.maximum)));
        lines.push(format!("listen: \"{listen}\""));
        lines.extend(node_name.iter().map(|name| format!("nodeName: \"{name}\"")));
        let kubernetes = match kubernetes {
            Kubernetes::Auto => "auto",
            Kubernetes::On => "\"on\"",
            Kubernetes::Off => "\"off\"",
        };
        lines.push(format!("kubernetes: {kubernetes}"));
        lines.push(format!("logFormat: {}", if *log_format == LogFormat::Json { "json" } else { "text" }));
        lines.push(format!("logLevel: {}", log_level.as_str().to_ascii_lowercase()));
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::config::raw::RawConfig;

    #[test]
    fn printed_settings_give_the_same_settings_when_read_again() {
        let written = "pools: [a.example, {name: '[2001:db8::1]:1123', rootDistance: 250ms}]\nthreshold: 250ms\nstep: {windows: [{cron: '0 2,3 * * 6', duration: 4h, zone: '+02:00', cooldown: 1m}]}\nkubernetes: 'off'\nnodeName: n0\nlogFormat: json\nlastResort: [{kind: http-date, url: 'http://[::1]:8080/a?b=%22c'}]";
        let settings = Settings::new(RawConfig::default(), parse(written).unwrap()).unwrap();
        let again = Settings::new(RawConfig::default(), parse(&settings.in_yaml()).unwrap()).unwrap();
        assert_eq!(again, settings);
    }
}
