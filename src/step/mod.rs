//! Looking at the time daemon, and stepping the clock by it or by the kernel. Nothing else on the node is touched.

pub mod chrony;

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::config::Settings;
use crate::os::chrony::{ChronyError, Client, Makestep, Tracking};
use crate::os::clock::Clock;
use crate::os::step_clock::SetClock;
use drift_core::step::outcome::Method;
use drift_core::step::policy::Mode;
use drift_core::step::stepper::{StepDone, StepOrder};
use drift_core::step::time_daemon::{Daemon, DaemonReport};

/// If the wall clock has moved by more since the step was decided, somebody else has set it.
const MOVED: Duration = Duration::from_millis(10);
/// chrony measures for six seconds; five times that is long enough.
const CHRONY_TAKES: Duration = Duration::from_secs(30);

/// What a step is carried out with.
#[derive(Clone)]
pub struct ClockStepper {
    clock: Arc<dyn Clock>,
    kernel: Arc<dyn SetClock>,
    chrony: Client,
    makestep: Option<Makestep>,
    mode: Mode,
}

impl ClockStepper {
    /// Touches nothing yet.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, kernel: Arc<dyn SetClock>) -> Self {
        Self {
            clock,
            kernel,
            chrony: Client::unix(&settings.chrony.socket),
            makestep: settings.chrony.makestep,
            mode: settings.core.step.mode,
        }
    }

    /// Who disciplines the clock, what does it believe, and could the clock be stepped?
    pub async fn look(&self) -> DaemonReport {
        let tracking = self.chrony.tracking().await;
        let daemon = self.daemon(&tracking);
        let believes = tracking.as_ref().ok().filter(|t| t.is_synchronised()).map(|t| t.offset);
        DaemonReport { daemon, believes, ready: self.method(daemon, &tracking).map(drop) }
    }

    fn daemon(&self, tracking: &Result<Tracking, ChronyError>) -> Daemon {
        match tracking {
            Ok(_) => Daemon::Chrony,
            Err(_) if self.kernel.is_disciplined() => Daemon::Unknown,
            Err(_) => Daemon::None,
        }
    }

    fn method(&self, daemon: Daemon, tracking: &Result<Tracking, ChronyError>) -> Result<Method, String> {
        match (self.mode, daemon, tracking) {
            (Mode::Off, ..) => Err("step.mode is off".to_owned()),
            // Chrony measures for seconds before it steps. Where the kernel may be told as well, the clock is right at once, and
            // chrony is told to measure anew.
            (Mode::Auto, _, Ok(_)) if self.kernel.allowed().is_ok() => Ok(Method::Kernel),
            (Mode::Chrony | Mode::Auto, _, Ok(_)) => Ok(Method::Chrony),
            (Mode::Chrony, _, Err(error)) => Err(format!("step.mode is chrony, but {error}")),
            (Mode::Kernel | Mode::Auto, Daemon::None, _) => self.kernel.allowed().map(|()| Method::Kernel),
            (Mode::Kernel, ..) => Err(
                "step.mode is kernel, but a time daemon disciplines this clock and would be fought; use chrony, or auto".to_owned(),
            ),
            (Mode::Auto, _, Err(error)) => {
                Err(format!("a time daemon disciplines this clock, and if it is chrony, it cannot be told: {error}"))
            }
        }
    }

    /// Carries an order out, unless somebody else was faster.
    pub async fn step(&self, order: StepOrder) -> StepDone {
        let tracking = self.chrony.tracking().await;
        let method = match self.method(self.daemon(&tracking), &tracking) {
            Ok(method) => method,
            Err(missing) => return StepDone::Failed(missing),
        };
        let moved = self.clock.read().origin().minus(order.origin).magnitude();
        if moved > MOVED {
            return StepDone::Failed("somebody else set the clock in the meantime".to_owned());
        }
        match method {
            Method::Chrony => self.by_chrony(order.dry_run).await,
            Method::Kernel if order.dry_run => StepDone::DryRun(Method::Kernel),
            Method::Kernel => match self.kernel.step(order.offset) {
                Ok(()) if tracking.is_ok() => self.tell_chrony().await,
                Ok(()) => StepDone::Stepped(Method::Kernel),
                Err(error) => StepDone::Failed(error),
            },
        }
    }

    /// The clock was stepped under chrony: what it measured before is void, or it would take the step back.
    async fn tell_chrony(&self) -> StepDone {
        match chrony::measure_anew(&self.chrony).await {
            Ok(()) => StepDone::Stepped(Method::Kernel),
            Err(failure) => StepDone::PartlyApplied(Method::Kernel, failure.to_string()),
        }
    }

    async fn by_chrony(&self, dry_run: bool) -> StepDone {
        let plan = chrony::Plan { makestep: self.makestep, deadline: CHRONY_TAKES, dry_run };
        let report = chrony::step(&self.chrony, &plan).await;
        if let Some(error) = report.not_put_back {
            warn!("chrony's own makestep rule could not be put back: {error}");
        }
        match report.failure {
            None if dry_run => StepDone::DryRun(Method::Chrony),
            None => StepDone::Stepped(Method::Chrony),
            Some(failure) if report.done.is_empty() => StepDone::Failed(failure.to_string()),
            Some(failure) => StepDone::PartlyApplied(Method::Chrony, failure.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::config::raw::{self, ConfigText, RawConfig};
    use crate::os::clock::ShiftedClock;
    use drift_core::time::Offset;

    /// No chronyd is there.
    fn clock_stepper(mode: &str) -> (ClockStepper, Arc<ShiftedClock>) {
        let clock = Arc::new(ShiftedClock::default());
        let text = |value: &str| Some(ConfigText(value.to_owned()));
        let step = raw::Step { mode: text(mode), ..raw::Step::default() };
        let chrony = raw::Chrony { socket: text("/nonexistent/chronyd.sock"), ..raw::Chrony::default() };
        let settings =
            Settings::new(RawConfig { step, chrony, ..RawConfig::default() }, RawConfig::default()).unwrap();
        (ClockStepper::new(&settings, clock.clone(), clock.clone()), clock)
    }

    fn order(clock: &ShiftedClock, dry_run: bool) -> StepOrder {
        let offset = Offset::from_nanos(-20_000_000_000);
        StepOrder { offset, origin: clock.read().origin(), dry_run }
    }

    fn ready(clock_stepper: &ClockStepper) -> Result<(), String> {
        block_on(clock_stepper.look()).ready
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    #[test]
    fn the_kernel_steps_only_where_nobody_disciplines_the_clock_and_it_may() {
        for (mode, word) in [("kernel", "would be fought"), ("auto", "cannot be told: no socket")] {
            let (clock_stepper, clock) = clock_stepper(mode);
            assert_eq!(ready(&clock_stepper), Ok(()), "{mode}");
            clock.disciplined.store(true, Ordering::Relaxed);
            assert!(ready(&clock_stepper).unwrap_err().contains(word), "{:?}", ready(&clock_stepper));
            assert_eq!(block_on(clock_stepper.look()).daemon, Daemon::Unknown);
            clock.disciplined.store(false, Ordering::Relaxed);
            clock.forbidden.store(true, Ordering::Relaxed);
            assert_eq!(ready(&clock_stepper).unwrap_err(), "not allowed");
        }
    }

    #[test]
    fn without_its_socket_chrony_is_not_replaced_by_the_kernel() {
        let (clock_stepper, clock) = clock_stepper("chrony");
        let missing = ready(&clock_stepper).unwrap_err();
        assert!(missing.contains("no socket at /nonexistent/chronyd.sock"), "{missing}");
        let done = block_on(clock_stepper.step(order(&clock, false)));
        assert!(matches!(done, StepDone::Failed(_)), "{done:?}");
        assert_eq!(clock.ahead_of_machine(), Offset::ZERO);
    }

    #[test]
    fn a_step_moves_the_clock_by_what_was_ordered_unless_somebody_was_faster_or_it_is_a_dry_run() {
        let (clock_stepper, clock) = clock_stepper("auto");
        let dry = order(&clock, true);
        assert_eq!(block_on(clock_stepper.step(dry)), StepDone::DryRun(Method::Kernel));
        assert_eq!(clock.ahead_of_machine(), Offset::ZERO);
        let late = order(&clock, false);
        clock.shift(Offset::from_nanos(-20_000_000_000));
        let done = block_on(clock_stepper.step(late));
        assert_eq!(done, StepDone::Failed("somebody else set the clock in the meantime".to_owned()));
        assert_eq!(clock.ahead_of_machine(), Offset::from_nanos(-20_000_000_000), "and not by twice as much");
        let now = order(&clock, false);
        assert_eq!(block_on(clock_stepper.step(now)), StepDone::Stepped(Method::Kernel));
        assert_eq!(clock.ahead_of_machine(), Offset::from_nanos(-40_000_000_000));
    }
}
