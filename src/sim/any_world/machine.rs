//! Draws the machine's own clocks and signals, and how it carries steps out.

use super::{Draw, HOUR, Kind, SECOND};
use crate::sim::clocks::Oscillator;
use crate::sim::dns::Zone;
use crate::sim::steps::StepFaults;
use crate::sim::world::Surroundings;
use drift_core::time::Ppb;

impl Draw {
    pub(super) fn oscillator(&mut self) -> Oscillator {
        let most = self.rng.choice([100, 100, 100, 100, 500, 500, 5_000, 100_000]).unwrap_or(100);
        let error = Ppb::from_ppm(self.rng.i64(-most..=most));
        self.note("rate-500", error.0.abs() > 200_000);
        self.note("rate-percents", error.0.abs() > 10_000_000);
        let period = self.spread(HOUR, HOUR * 24);
        // The fastest change of a sine is its amplitude times 2 pi in a period: 20 ppm an hour at most.
        let steepest = 20_000.0 * self.rng.f64() * if self.one_in(3) { 1.0 } else { 0.1 };
        let swing = steepest * period.as_secs_f64() / HOUR.as_secs_f64() / std::f64::consts::TAU;
        self.note("swing-10-ppm-an-hour", steepest > 10_000.0);
        #[expect(clippy::cast_possible_truncation, reason = "at most 80 ppm")]
        Oscillator { error, swing: Ppb(swing as i64), period }
    }

    pub(super) fn surroundings(&mut self, zones: Vec<Zone>, oscillator: Oscillator) -> Surroundings {
        let is_bare = self.kind == Kind::OnePause && self.one_in(2);
        let has_rtc = !is_bare && !self.one_in(6);
        let rtc_rate = Ppb(oscillator.error.0 + self.rng.i64(-200_000..200_000));
        let rtc_resolution = if self.one_in(30) { self.rng.choice([2, 60]).unwrap_or(2) } else { 1 };
        let has_vmclock = !is_bare && self.one_in(4);
        let step_faults = self.step_faults();
        let last_step = self.one_in(6).then(|| self.last_step());
        self.note("no-signals", !has_rtc && !has_vmclock);
        self.note("vmclock", has_vmclock);
        self.note("rtc-own-rate", has_rtc && rtc_rate.0.abs_diff(oscillator.error.0) > 100_000);
        self.note("rtc-coarse", has_rtc && rtc_resolution > 1);
        Surroundings {
            zones,
            has_rtc,
            rtc_rate: Some(rtc_rate),
            rtc_resolution,
            has_vmclock,
            lost_max: 2,
            step_faults,
            last_step,
        }
    }

    fn step_faults(&mut self) -> StepFaults {
        let mut faults = StepFaults::default();
        if self.one_in(4) {
            faults.daemon = Some(self.spread(SECOND, SECOND * 30));
            self.traits.insert("steps-by-daemon");
        }
        let (name, share) = match self.rng.u8(0..15) {
            0 => ("steps-denied", &mut faults.denied),
            1 => ("steps-raced", &mut faults.raced),
            2 => ("steps-doubled", &mut faults.doubled),
            3 => ("steps-partly", &mut faults.partly),
            4 => ("steps-without-effect", &mut faults.without_effect),
            _ => return faults,
        };
        *share = if self.rng.bool() { 0.5 } else { 1.0 };
        self.traits.insert(name);
        faults
    }

    /// The annotation of an earlier run, or what an operator has made of it.
    fn last_step(&mut self) -> String {
        self.traits.insert("last-step");
        let at = self.rng.choice([
            "2026-11-22T10:00:00Z",
            "2027-06-01T00:00:00Z",
            "2200-01-01T00:00:00Z",
            "1980-01-01T00:00:00Z",
        ]);
        let count = self.rng.choice(["0", "1", "3", "18446744073709551615"]);
        let total = self.rng.choice(["0.0", "40.5", "1e308"]);
        match (at, count, total) {
            (Some(at), Some(count), Some(total)) if !self.one_in(8) => {
                format!(
                    "{at} before=+20.0 after=+0.0 method=kernel trigger=pause in-hour={count} total={total}"
                )
            }
            _ => "unreadable".to_owned(),
        }
    }
}
