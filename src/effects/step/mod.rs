//! Looking at the time daemon, and stepping the clock by it or by the kernel. Nothing else on the node is touched.

pub mod chrony;

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::config::Settings;
use crate::core::daemon::{Daemon, DaemonReport};
use crate::core::step_policy::Mode;
use crate::core::stepper::{Done, Method, Order};
use crate::os::chrony::{ChronyError, Client, Makestep, Tracking};
use crate::os::clock::Clock;
use crate::os::set_clock::SetClock;

/// If the wall clock has moved by more since the step was decided, somebody else has set it.
const MOVED: Duration = Duration::from_millis(10);
/// chrony measures for six seconds; five times that is long enough.
const CHRONY_TAKES: Duration = Duration::from_secs(30);

/// What a step is carried out with.
#[derive(Clone)]
pub struct Hands {
    clock: Arc<dyn Clock>,
    kernel: Arc<dyn SetClock>,
    chrony: Client,
    makestep: Option<Makestep>,
    mode: Mode,
}

impl Hands {
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
    pub async fn step(&self, order: Order) -> Done {
        let tracking = self.chrony.tracking().await;
        let method = match self.method(self.daemon(&tracking), &tracking) {
            Ok(method) => method,
            Err(missing) => return Done::Failed(missing),
        };
        let moved = self.clock.read().origin().minus(order.origin).magnitude();
        if moved > MOVED {
            return Done::Failed("somebody else set the clock in the meantime".to_owned());
        }
        match method {
            Method::Chrony => self.by_chrony(order.dry_run).await,
            Method::Kernel if order.dry_run => Done::DryRun(Method::Kernel),
            Method::Kernel => match self.kernel.step(order.offset) {
                Ok(()) => Done::Stepped(Method::Kernel),
                Err(error) => Done::Failed(error),
            },
        }
    }

    async fn by_chrony(&self, dry_run: bool) -> Done {
        let plan = chrony::Plan { makestep: self.makestep, deadline: CHRONY_TAKES, dry_run };
        let report = chrony::step(&self.chrony, &plan).await;
        if let Some(error) = report.not_put_back {
            warn!("chrony's own makestep rule could not be put back: {error}");
        }
        match report.failure {
            None if dry_run => Done::DryRun(Method::Chrony),
            None => Done::Stepped(Method::Chrony),
            Some(failure) if report.done.is_empty() => Done::Failed(failure.to_string()),
            Some(failure) => Done::Broken(Method::Chrony, failure.to_string()),
        }
    }
}
