//! What a simulated world is made of: its plan and its surroundings.

use std::time::Duration;

use super::clocks::Oscillator;
use super::dns::Zone;
use super::network::{Host, Path};
use super::steps::StepFaults;
use crate::config::{self, raw::RawConfig};
use drift_core::machine::Settings;
use drift_core::time::{Offset, Ppb, Wall};

/// An HTTP server that is asked for its `Date`, and the path to it.
#[derive(Clone, Copy, Debug)]
pub struct DateHost {
    /// How far its clock is ahead.
    pub ahead: Offset,
    /// The age of its header.
    pub header_age: Duration,
    /// The path.
    pub path: Path,
}

/// The properties of a world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of all random values.
    pub seed: u64,
    /// Reference time at the start.
    pub present: Wall,
    /// Reference time - node time at the start.
    pub offset: Offset,
    /// The node's oscillator.
    pub oscillator: Oscillator,
    /// Hardware clock - wall clock at the start.
    pub rtc_ahead: Offset,
    /// The pools' servers.
    pub pools: Vec<Vec<Host>>,
    /// The agent's settings; the names of the pools are made from `pools`.
    pub settings: Settings,
    /// Share of the requests to the API server that fail.
    pub api_errors: f64,
    /// Do steps move the clock? If not, they are reported as done all the same.
    pub steps_work: bool,
}

/// What a world has beyond its plan.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// How each pool's name is answered; the names of further pools always have all servers.
    pub zones: Vec<Zone>,
    /// Is there a hardware clock?
    pub has_rtc: bool,
    /// Frequency error of the hardware clock; `None`: it runs as fast as the raw clock.
    pub rtc_rate: Option<Ppb>,
    /// The hardware clock shows multiples of so many seconds.
    pub rtc_resolution: i64,
    /// Is there a vmclock?
    pub has_vmclock: bool,
    /// At most so many answers of one server are lost in a row.
    pub lost_max: u8,
    /// How steps are carried out.
    pub step_faults: StepFaults,
    /// The annotation `last-step` that an earlier run has left on the Node.
    pub last_step: Option<String>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            zones: Vec::new(),
            has_rtc: true,
            rtc_rate: None,
            rtc_resolution: 1,
            has_vmclock: false,
            lost_max: u8::MAX,
            step_faults: StepFaults::default(),
            last_step: None,
        }
    }
}

/// The default settings, without the pools, which [`World::new`] names.
#[expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "constants that a test of the configuration checks"
)]
pub fn default_settings() -> Settings {
    let defaults = config::Settings::new(RawConfig::default(), RawConfig::default());
    Settings { pools: Vec::new(), ..defaults.expect("valid defaults").core }
}
