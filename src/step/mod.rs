//! Finds out what disciplines the clock, and steps it: by chrony or by the kernel. Changes nothing else on
//! the node.

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

/// If the wall clock has moved by more since the step was decided, another process has set it.
const CLOCK_MOVED_MIN: Duration = Duration::from_millis(10);
/// chrony measures for six seconds before it steps; this is five times as long.
const CHRONY_STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// Steps the clock of the node, and reports who disciplines it.
#[derive(Clone)]
pub struct ClockStepper {
    clock: Arc<dyn Clock>,
    kernel: Arc<dyn SetClock>,
    chrony: Client,
    makestep: Option<Makestep>,
    mode: Mode,
}

impl ClockStepper {
    /// Connects nowhere and changes nothing yet.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, kernel: Arc<dyn SetClock>) -> Self {
        Self {
            clock,
            kernel,
            chrony: Client::unix(&settings.chrony.socket),
            makestep: settings.chrony.makestep,
            mode: settings.core.step.mode,
        }
    }

    /// Which time daemon disciplines the clock, what it takes for the offset, and whether the clock could be
    /// stepped.
    pub async fn inspect(&self) -> DaemonReport {
        let tracking = self.chrony.tracking().await;
        let daemon = self.daemon(&tracking);
        let believes = tracking.as_ref().ok().filter(|t| t.is_synchronised()).map(|t| t.offset);
        DaemonReport { daemon, believes, ready: self.method(daemon, &tracking).map(drop) }
    }

    fn daemon(&self, tracking: &Result<Tracking, ChronyError>) -> Daemon {
        Daemon::identify(tracking.is_ok(), self.kernel.is_disciplined())
    }

    /// How a step would be carried out, or why it cannot be.
    fn method(&self, daemon: Daemon, tracking: &Result<Tracking, ChronyError>) -> Result<Method, String> {
        match (self.mode, daemon, tracking) {
            (Mode::Off, ..) => Err("step.mode is off".to_owned()),
            // Chrony measures for seconds before it steps. Where the kernel may be used as well, the clock is
            // right at once, and chrony has to measure again.
            (Mode::Auto, _, Ok(_)) if self.kernel.check_permission().is_ok() => Ok(Method::Kernel),
            (Mode::Chrony | Mode::Auto, _, Ok(_)) => Ok(Method::Chrony),
            (Mode::Chrony, _, Err(error)) => Err(format!("step.mode is chrony, but {error}")),
            (Mode::Kernel | Mode::Auto, Daemon::None, _) => {
                self.kernel.check_permission().map(|()| Method::Kernel).map_err(|error| error.to_string())
            }
            (Mode::Kernel, ..) => Err(
                "step.mode is kernel, but a time daemon disciplines this clock and would take the step back; use chrony, or auto"
                    .to_owned(),
            ),
            (Mode::Auto, _, Err(error)) => {
                Err(format!("a time daemon disciplines this clock, and it cannot be reached as chrony: {error}"))
            }
        }
    }

    /// Carries an order out, unless another process has set the clock since it was given.
    pub async fn step(&self, order: StepOrder) -> StepDone {
        let tracking = self.chrony.tracking().await;
        let method = match self.method(self.daemon(&tracking), &tracking) {
            Ok(method) => method,
            Err(missing) => return StepDone::Failed(missing),
        };
        let moved = self.clock.read().origin().minus(order.origin).magnitude();
        if moved > CLOCK_MOVED_MIN {
            return StepDone::Failed("another process set the clock in the meantime".to_owned());
        }
        match method {
            Method::Chrony => self.step_by_chrony(order.dry_run).await,
            Method::Kernel if order.dry_run => StepDone::DryRun(Method::Kernel),
            Method::Kernel => match self.kernel.step(order.offset) {
                Ok(()) if tracking.is_ok() => self.resync_chrony().await,
                Ok(()) => StepDone::Stepped(Method::Kernel),
                Err(error) => StepDone::Failed(error.to_string()),
            },
        }
    }

    /// Makes chrony discard what it measured before the kernel stepped the clock. Otherwise it would take the
    /// step back.
    async fn resync_chrony(&self) -> StepDone {
        match chrony::measure_again(&self.chrony).await {
            Ok(()) => StepDone::Stepped(Method::Kernel),
            Err(failure) => StepDone::PartlyApplied(Method::Kernel, failure.to_string()),
        }
    }

    async fn step_by_chrony(&self, dry_run: bool) -> StepDone {
        let plan = chrony::Plan { makestep: self.makestep, deadline: CHRONY_STEP_TIMEOUT, dry_run };
        let report = chrony::step(&self.chrony, &plan).await;
        if let Some(error) = report.restore_error {
            warn!(reason = %error, "cannot restore chrony's makestep rule");
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

    /// Without a chronyd.
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
        block_on(clock_stepper.inspect()).ready
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    #[test]
    fn kernel_steps_need_permission_and_a_clock_without_a_time_daemon() {
        for (mode, word) in
            [("kernel", "would take the step back"), ("auto", "cannot be reached as chrony: no socket")]
        {
            let (clock_stepper, clock) = clock_stepper(mode);
            assert_eq!(ready(&clock_stepper), Ok(()), "{mode}");
            clock.disciplined.store(true, Ordering::Relaxed);
            assert!(ready(&clock_stepper).unwrap_err().contains(word), "{:?}", ready(&clock_stepper));
            assert_eq!(block_on(clock_stepper.inspect()).daemon, Daemon::Unknown);
            clock.disciplined.store(false, Ordering::Relaxed);
            clock.forbidden.store(true, Ordering::Relaxed);
            assert_eq!(ready(&clock_stepper).unwrap_err(), "the capability SYS_TIME is missing");
        }
    }

    #[test]
    fn mode_chrony_without_a_socket_does_not_step_by_the_kernel() {
        let (clock_stepper, clock) = clock_stepper("chrony");
        let missing = ready(&clock_stepper).unwrap_err();
        assert!(missing.contains("no socket at /nonexistent/chronyd.sock"), "{missing}");
        let done = block_on(clock_stepper.step(order(&clock, false)));
        assert!(matches!(done, StepDone::Failed(_)), "{done:?}");
        assert_eq!(clock.ahead_of_machine(), Offset::ZERO);
    }

    #[test]
    fn steps_move_the_clock_unless_dry_or_after_another_process_has_set_it() {
        let (clock_stepper, clock) = clock_stepper("auto");
        let dry = order(&clock, true);
        assert_eq!(block_on(clock_stepper.step(dry)), StepDone::DryRun(Method::Kernel));
        assert_eq!(clock.ahead_of_machine(), Offset::ZERO);
        let late = order(&clock, false);
        clock.shift(Offset::from_nanos(-20_000_000_000));
        let done = block_on(clock_stepper.step(late));
        assert_eq!(done, StepDone::Failed("another process set the clock in the meantime".to_owned()));
        assert_eq!(clock.ahead_of_machine(), Offset::from_nanos(-20_000_000_000), "and not by twice as much");
        let now = order(&clock, false);
        assert_eq!(block_on(clock_stepper.step(now)), StepDone::Stepped(Method::Kernel));
        assert_eq!(clock.ahead_of_machine(), Offset::from_nanos(-40_000_000_000));
    }
}
