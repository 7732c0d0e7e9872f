//! Values that several tests start from.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machine::Settings;
use crate::ntp::packet::Leap;
use crate::ntp::sample::{Limits, Sample};
use crate::report::leeway;
use crate::step::policy::{self, Mode};
use crate::time::{Bound, Mono, Wall};

/// Pools with these names; the default interval and threshold, and no steps.
pub(crate) fn settings(names: &[&str]) -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        pools: names.iter().map(|name| (*name).to_owned()).collect(),
        root_distances: BTreeMap::new(),
        interval: second * 64,
        threshold: Duration::from_millis(100),
        stale_after: second * 600,
        servers_per_pool: 4,
        limits: Limits { max_round_trip: second, max_root_distance: second, root_distance: None },
        last_resort: Vec::new(),
        step: policy::Settings {
            mode: Mode::Off,
            min_offset: second,
            max_offset: second,
            cooldown: second,
            dry_run: false,
            on_request: false,
            windows: Vec::new(),
        },
        leeway: leeway::Settings { peer_allowance: second, minimum: second, maximum: second },
    }
}

/// A sample of a primary server without a round trip.
pub(crate) fn sample(at: Mono, origin: Wall, bound: Bound) -> Sample {
    Sample {
        at,
        origin,
        bound,
        elapsed: Duration::ZERO,
        round_trip: Duration::ZERO,
        root_distance: Duration::ZERO,
        stratum: 1,
        leap: Leap::None,
        source: None,
    }
}
