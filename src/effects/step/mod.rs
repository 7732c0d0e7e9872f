//! Looking at the time daemon, and stepping the clock by it or by the kernel. Nothing else on the node is touched.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::core::daemon::{Daemon, DaemonReport};
use crate::core::step_policy::Mode;
use crate::core::stepper::{Done, Method, Order};
use crate::os::clock::Clock;
use crate::os::set_clock::SetClock;

/// If the wall clock has moved by more since the step was decided, somebody else has set it.
const MOVED: Duration = Duration::from_millis(10);

/// What a step is carried out with.
#[derive(Clone)]
pub struct Hands {
    clock: Arc<dyn Clock>,
    kernel: Arc<dyn SetClock>,
    mode: Mode,
}

impl Hands {
    /// Touches nothing yet.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, kernel: Arc<dyn SetClock>) -> Self {
        Self { clock, kernel, mode: settings.core.step.mode }
    }

    /// Who disciplines the clock, and could it be stepped?
    pub async fn look(&self) -> DaemonReport {
        let daemon = if self.kernel.is_disciplined() { Daemon::Unknown } else { Daemon::None };
        let ready = self.method(daemon).map(drop);
        DaemonReport { daemon, believes: None, ready }
    }

    fn method(&self, daemon: Daemon) -> Result<Method, String> {
        match (self.mode, daemon) {
            (Mode::Off, _) => Err("step.mode is off".to_owned()),
            (Mode::Kernel | Mode::Auto, Daemon::None) => self.kernel.allowed().map(|()| Method::Kernel),
            _ => Err("a time daemon disciplines this clock".to_owned()),
        }
    }

    /// Carries an order out, unless somebody else was faster.
    pub async fn step(&self, order: Order) -> Done {
        let report = self.look().await;
        let method = match self.method(report.daemon) {
            Ok(method) => method,
            Err(missing) => return Done::Failed(missing),
        };
        if order.dry_run {
            return Done::DryRun(method);
        }
        let moved = self.clock.read().origin().minus(order.origin).magnitude();
        if moved > MOVED {
            return Done::Failed("somebody else set the clock in the meantime".to_owned());
        }
        match self.kernel.step(order.offset) {
            Ok(()) => Done::Stepped(Method::Kernel),
            Err(error) => Done::Failed(error),
        }
    }
}
