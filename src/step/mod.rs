//! Finds out what disciplines the clock, and steps it: by chrony or by the kernel. Changes nothing else on
//! the node.

pub mod chrony;
pub mod daemon;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::daemon::{DaemonProbe, DaemonView};
use crate::config::Settings;
use crate::os::chrony::Client;
use crate::os::clock::Clock;
use crate::os::step_clock::SetClock;
use drift_core::step::discipline::UpdateWatch;
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
    probe: DaemonProbe,
    updates: Arc<Mutex<UpdateWatch>>,
    mode: Mode,
}

impl ClockStepper {
    /// Connects nowhere and changes nothing yet.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, kernel: Arc<dyn SetClock>) -> Self {
        Self {
            clock,
            kernel,
            chrony: Client::unix(&settings.chrony.socket),
            probe: DaemonProbe::new(&settings.chrony.socket),
            updates: Arc::default(),
            mode: settings.core.step.mode,
        }
    }

    /// With chronyd's port for queries, and systemd-timesyncd's file, elsewhere: for tests.
    #[must_use]
    pub fn with_places(self, udp: SocketAddr, stamp: &Path) -> Self {
        Self { probe: self.probe.with_places(udp, stamp), ..self }
    }

    /// Which time daemon disciplines the clock, what it takes for the offset, and whether the clock could be
    /// stepped.
    pub async fn inspect(&self) -> DaemonReport {
        let (view, update_age) = self.look().await;
        let daemon = view.daemon(update_age);
        let believes = view.tracking().filter(|t| t.is_synchronised()).map(|t| t.offset);
        let ready = self.method(daemon, &view).map(drop);
        DaemonReport { daemon, believes, update_age, audit: view.audit(daemon), ready }
    }

    /// What is found now, and for how long no process has updated the clock, at least.
    async fn look(&self) -> (DaemonView, Option<Duration>) {
        let (kernel, now) = (self.kernel.kernel(), self.clock.read());
        let max_error = kernel.map(|kernel| kernel.max_error);
        let update_age =
            self.updates.lock().unwrap_or_else(PoisonError::into_inner).observe(now.raw, max_error);
        (self.probe.look(kernel, now.wall).await, update_age)
    }

    /// How a step would be carried out, or why it cannot be.
    fn method(&self, daemon: Daemon, view: &DaemonView) -> Result<Method, String> {
        match (self.mode, daemon, &view.socket_error) {
            (Mode::Off, ..) => Err("step.mode is off".to_owned()),
            // Chrony measures for seconds before it steps. Where the kernel may be used as well, the clock is
            // right at once, and chrony has to measure again.
            (Mode::Auto, _, None) if self.kernel.check_permission().is_ok() => Ok(Method::Kernel),
            (Mode::Chrony | Mode::Auto, _, None) => Ok(Method::Chrony),
            (Mode::Chrony, _, Some(error)) => Err(format!("step.mode is chrony, but {error}")),
            // systemd-timesyncd steps what is over 0.4 s itself, and measures again when the clock was set.
            (Mode::Kernel | Mode::Auto, Daemon::None | Daemon::Timesyncd, _) => {
                self.kernel.check_permission().map(|()| Method::Kernel).map_err(|error| error.to_string())
            }
            (Mode::Kernel | Mode::Auto, Daemon::Unknown, _) if view.kernel.is_none() => Err(
                "the kernel's clock state cannot be read (adjtimex), so a time daemon may discipline this clock and take the \
                 step back; use chrony"
                    .to_owned(),
            ),
            (Mode::Kernel, ..) => Err(
                "step.mode is kernel, but a time daemon disciplines this clock and would take the step back; use chrony, or auto"
                    .to_owned(),
            ),
            (Mode::Auto, Daemon::Chrony, Some(error)) => {
                Err(format!("chrony disciplines this clock, and takes commands over its socket only: {error}"))
            }
            (Mode::Auto, Daemon::Unknown, Some(error)) => Err(format!(
                "a time daemon disciplines this clock, and it is not known which: it cannot be reached as chrony ({error}), and no \
                 file of systemd-timesyncd (/run/systemd/timesync) belongs to its last update"
            )),
        }
    }

    /// Carries an order out, unless another process has set the clock since it was given.
    pub async fn step(&self, order: StepOrder) -> StepDone {
        let (view, update_age) = self.look().await;
        let method = match self.method(view.daemon(update_age), &view) {
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
                Ok(()) if view.socket_error.is_none() => self.resync_chrony().await,
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
        let plan = chrony::Plan { deadline: CHRONY_STEP_TIMEOUT, dry_run };
        let report = chrony::step(&self.chrony, &plan).await;
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
    use crate::os::random;
    use crate::os::timex::KernelClock;
    use drift_core::time::Offset;

    /// Without a chronyd.
    fn clock_stepper(mode: &str) -> (ClockStepper, Arc<ShiftedClock>) {
        let clock = Arc::new(ShiftedClock::default());
        let text = |value: &str| Some(ConfigText(value.to_owned()));
        let step = raw::Step { mode: text(mode), ..raw::Step::default() };
        let chrony = raw::Chrony { socket: text("/nonexistent/run/chronyd.sock") };
        let settings =
            Settings::new(RawConfig { step, chrony, ..RawConfig::default() }, RawConfig::default()).unwrap();
        let clock_stepper = ClockStepper::new(&settings, clock.clone(), clock.clone());
        (clock_stepper.with_places(unused_port(), Path::new("/nonexistent/stamp")), clock)
    }

    /// On which no process listens any more.
    fn unused_port() -> SocketAddr {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn report_kernel(clock: &ShiftedClock, kernel: Option<KernelClock>) {
        *clock.kernel.lock().unwrap() = kernel;
    }

    /// As a daemon leaves it that updates the clock. chrony without rtcsync leaves the status bit set.
    const DISCIPLINED: Option<KernelClock> =
        Some(KernelClock { max_error: Duration::from_millis(5), ..KernelClock::ALONE });

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
            [("kernel", "would take the step back"), ("auto", "cannot be reached as chrony (no socket")]
        {
            let (clock_stepper, clock) = clock_stepper(mode);
            assert_eq!(ready(&clock_stepper), Ok(()), "{mode}");
            report_kernel(&clock, DISCIPLINED);
            assert!(ready(&clock_stepper).unwrap_err().contains(word), "{:?}", ready(&clock_stepper));
            assert_eq!(block_on(clock_stepper.inspect()).daemon, Daemon::Unknown);
            report_kernel(&clock, Some(KernelClock::ALONE));
            clock.forbidden.store(true, Ordering::Relaxed);
            assert_eq!(ready(&clock_stepper).unwrap_err(), "the capability SYS_TIME is missing");
        }
    }

    #[test]
    fn a_kernel_state_that_cannot_be_read_forbids_kernel_steps() {
        for mode in ["kernel", "auto"] {
            let (clock_stepper, clock) = clock_stepper(mode);
            report_kernel(&clock, None);
            let missing = ready(&clock_stepper).unwrap_err();
            assert!(missing.contains("cannot be read (adjtimex)"), "{missing}");
            assert_eq!(block_on(clock_stepper.inspect()).daemon, Daemon::Unknown);
        }
    }

    #[test]
    fn kernel_steps_are_possible_beside_timesyncd_by_its_file() {
        let stamp = std::env::temp_dir().join(format!("drift-agent-timesync-{:016x}", random::bits()));
        for mode in ["kernel", "auto"] {
            let (clock_stepper, clock) = clock_stepper(mode);
            let clock_stepper = clock_stepper.with_places(unused_port(), &stamp);
            // timesyncd leaves 0, and touches the file.
            report_kernel(&clock, Some(KernelClock { max_error: Duration::ZERO, ..KernelClock::ALONE }));
            assert!(ready(&clock_stepper).is_err(), "{mode}");
            std::fs::write(&stamp, "").unwrap();
            let report = block_on(clock_stepper.inspect());
            assert_eq!((report.daemon, report.ready), (Daemon::Timesyncd, Ok(())), "{mode}");
            let done = block_on(clock_stepper.step(order(&clock, false)));
            assert_eq!(done, StepDone::Stepped(Method::Kernel), "{mode}");
            std::fs::remove_file(&stamp).unwrap();
        }
    }

    #[test]
    fn mode_chrony_without_a_socket_does_not_step_by_the_kernel() {
        let (clock_stepper, clock) = clock_stepper("chrony");
        let missing = ready(&clock_stepper).unwrap_err();
        assert!(missing.contains("no socket at /nonexistent/run/chronyd.sock"), "{missing}");
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
