//! `drift-agent step`: a person at the node asks for a step.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::run::{audit, log_notes};
use super::{CommandError, ConfigArgs, Exit, block_on, print, start_log};
use crate::agent::Agent;
use crate::config::Settings;
use crate::os::clock::LinuxClock;
use crate::os::step_clock::Kernel;
use crate::sources::dns::Dns;
use crate::step::ClockStepper;
use drift_core::step::outcome::StepResult;
use drift_core::step::policy::Mode;

/// A burst, a step through chrony and a second burst take about 15 s; a silent network, two intervals more.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct StepArgs {
    /// Measure and decide, but do not step
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: StepArgs) -> Result<Exit, CommandError> {
    let mut settings = args.config.settings()?;
    let step = &mut settings.core.step;
    step.dry_run |= args.dry_run;
    // Who types this command has decided that the clock may be stepped; `off` is about what happens by itself.
    if step.mode == Mode::Off {
        step.mode = Mode::Auto;
    }
    start_log(&settings);
    block_on(ask(settings))
}

async fn ask(settings: Settings) -> Result<Exit, CommandError> {
    let clock = Arc::new(LinuxClock);
    let clock_stepper = ClockStepper::new(&settings, clock.clone(), Arc::new(Kernel));
    let mut agent = Agent::new(&settings, clock, Dns::default(), None).with_stepper(clock_stepper);
    let outcome = timeout(DEADLINE, agent.step_once(log_notes)).await;
    let Ok(outcome) = outcome else {
        let sentence = agent.shared().snapshot().sentence();
        return Err(CommandError(Exit::Unknown, format!("no step: {sentence}")));
    };
    audit(&outcome);
    print(&format!("{}\n", outcome.sentence()))?;
    Ok(match outcome.result {
        StepResult::Stepped | StepResult::DryRun | StepResult::NotNeeded => Exit::Ok,
        StepResult::Refused => Exit::Negative,
        StepResult::Failed => Exit::Software,
    })
}
