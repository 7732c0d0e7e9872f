//! `drift-agent run`: the agent on a node.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::{CommandError, ConfigArgs, Exit, block_on, start_log};
use crate::agent::Agent;
use crate::build_info::{REVISION, VERSION};
use crate::config::{Kubernetes, Settings};
use crate::http::server;
use crate::kubernetes::api::{Access, NodeApi};
use crate::kubernetes::{node, requests};
use crate::os::clock::LinuxClock;
use crate::os::signals::{LinuxSignals, Paths};
use crate::os::step_clock::Kernel;
use crate::sources::dns::Dns;
use crate::step::ClockStepper;
use drift_core::io::Effect;
use drift_core::step::outcome::{Method, Outcome, StepResult};
use drift_core::step::policy::Mode;
use drift_core::time::Offset;

pub(super) fn run(args: ConfigArgs) -> Result<Exit, CommandError> {
    let settings = args.settings()?;
    start_log(&settings);
    block_on(agent(settings))
}

async fn agent(settings: Settings) -> Result<Exit, CommandError> {
    let node = node_name(&settings);
    let api = connect(&settings, node.as_ref()).await?;
    let listener = server::bind(settings.listen).await.map_err(|error| {
        CommandError(
            Exit::Config,
            format!("listen: \"{}\" cannot be had: {error}; name a free address and port", settings.listen),
        )
    })?;
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    let doing = if settings.core.step.mode == Mode::Off { "observes" } else { "observes and may step" };
    info!(
        version = VERSION,
        revision = REVISION,
        node = node.as_deref().unwrap_or("unknown"),
        pools = settings.core.pools.join(" "),
        url = server::local_url(&listener),
        kubernetes = api.is_some(),
        "drift-agent {doing} this clock"
    );
    let node = node.unwrap_or_else(|| "unknown".to_owned());
    let writes = api.is_some();
    let watched = api.clone().filter(|_| settings.core.step.on_request);
    let clock = Arc::new(LinuxClock);
    let clock_stepper = ClockStepper::new(&settings, clock.clone(), Arc::new(Kernel));
    let signals = LinuxSignals::open(clock.clone(), &Paths::default());
    let mut agent = Agent::new(&settings, clock, Dns::default(), api)
        .with_stepper(clock_stepper)
        .with_signals(Box::new(signals));
    let requests = watched.map(|api| tokio::spawn(requests::watch(api, agent.inputs())));
    let http = tokio::spawn(server::serve(listener, agent.shared()));
    agent.run(ended()?, |effect| log(effect, &node, writes)).await;
    http.abort();
    requests.inspect(JoinHandle::abort);
    info!("ended; what was written to the Node stays");
    Ok(Exit::Ok)
}

/// `SIGTERM` from the kubelet, `SIGINT` from a terminal.
fn ended() -> Result<impl Future<Output = ()>, CommandError> {
    let catch = |kind| signal(kind).map_err(|e| CommandError::software("cannot wait for signals", e));
    let (mut term, mut int) = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Where an API server is configured: by name, or by the pod we run in. A kubeconfig in the home directory is a person's, and
/// not taken.
#[expect(clippy::disallowed_methods, reason = "the two variables that Kubernetes' clients go by")]
fn access() -> Option<Access> {
    match std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        Some(path) => Some(Access::File(PathBuf::from(path))),
        None => std::env::var_os("KUBERNETES_SERVICE_HOST").map(|_| Access::InCluster),
    }
}

fn node_name(settings: &Settings) -> Option<String> {
    settings.node_name.clone().or_else(|| {
        let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        Some(host).filter(|host| !host.is_empty() && settings.kubernetes == Kubernetes::Off)
    })
}

async fn connect(settings: &Settings, node: Option<&String>) -> Result<Option<NodeApi>, CommandError> {
    let access = match (settings.kubernetes, access()) {
        (Kubernetes::Off, _) | (Kubernetes::Auto, None) => return Ok(None),
        (Kubernetes::On, None) => {
            let hint = "no API server is configured: run in a pod with a service account, set KUBECONFIG, or say off";
            return Err(CommandError(Exit::Config, format!("kubernetes: \"on\", but {hint}")));
        }
        (Kubernetes::On | Kubernetes::Auto, Some(access)) => access,
    };
    let Some(node) = node else {
        let hint = "set NODE_NAME to the name of this Node (downward API: fieldPath spec.nodeName)";
        return Err(CommandError(
            Exit::Config,
            format!("nodeName: not set, but the Node is to be annotated; {hint}"),
        ));
    };
    let api = NodeApi::new(access, node.clone()).await;
    api.map(Some).map_err(|error| {
        CommandError(
            Exit::Config,
            format!("kubernetes: the API server's configuration is not right: {error}"),
        )
    })
}

/// What goes to the log: what changed, and what would be written where there is no API server.
fn log(effect: &Effect, node: &str, writes: bool) {
    log_notes(effect);
    match effect {
        Effect::LogStep(outcome) => audit(outcome),
        Effect::WriteNode(report) if !writes => {
            info!(patch = %node::patch(node, report), "would apply to nodes/{node}/status");
        }
        Effect::SendEvent(event) if !writes => {
            info!(reason = event.reason.label(), note = event.note, "would send an event");
        }
        _ => {}
    }
}

/// What changed.
pub(super) fn log_notes(effect: &Effect) {
    match effect {
        Effect::Log(what) if what.is_warning() => warn!("{what}"),
        Effect::Log(what) => info!("{what}"),
        _ => {}
    }
}

/// What came of a trigger, for those who have to account for it: target `audit`, whatever the log level of the rest.
pub(super) fn audit(outcome: &Outcome) {
    let seconds = |offset: Option<Offset>| offset.map(Offset::as_secs_f64);
    info!(
        target: "audit",
        audit = outcome.result.label(),
        method = outcome.method.map(Method::label),
        trigger = outcome.trigger.label(),
        before_seconds = seconds(outcome.before),
        after_seconds = seconds(outcome.after),
        "{}",
        outcome.sentence()
    );
    if outcome.result == StepResult::Failed {
        warn!("{}", outcome.sentence());
    }
}
