//! `drift-agent step`: an operator requests a step at the node.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use super::{CommandError, ConfigArgs, Exit, block_on, print};
use crate::agent::Agent;
use crate::config::Settings;
use crate::log::{self, EffectLog, NodeOutput};
use crate::os::clock::LinuxClock;
use crate::os::step_clock::Kernel;
use crate::sources::dns::Dns;
use crate::step::ClockStepper;
use drift_core::step::outcome::StepResult;
use drift_core::step::policy::Mode;

/// A burst, a step by chrony and a second burst take about 15 s; with lost packets, up to two intervals more.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

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
    // `off` forbids automatic steps. An operator who runs this command allows this one.
    if step.mode == Mode::Off {
        step.mode = Mode::Auto;
    }
    log::init(&settings);
    block_on(request(settings))
}

async fn request(settings: Settings) -> Result<Exit, CommandError> {
    let clock = Arc::new(LinuxClock);
    let clock_stepper = ClockStepper::new(&settings, clock.clone(), Arc::new(Kernel));
    let mut agent = Agent::new(&settings, clock, Dns::default(), None).with_stepper(clock_stepper);
    let effect_log = EffectLog::new(&settings, NodeOutput::Nowhere);
    let outcome = timeout(STEP_TIMEOUT, agent.step_once(|effect| effect_log.log(effect))).await;
    let Ok(outcome) = outcome else {
        let sentence = agent.handle().snapshot().sentence();
        return Err(CommandError(Exit::Unknown, format!("no step: {sentence}")));
    };
    print(&format!("{}\n", outcome.sentence()))?;
    Ok(match outcome.result {
        StepResult::Stepped | StepResult::DryRun | StepResult::NotNeeded => Exit::Ok,
        StepResult::Deferred | StepResult::Refused => Exit::Negative,
        StepResult::Failed => Exit::Failure,
    })
}
