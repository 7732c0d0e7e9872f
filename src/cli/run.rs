//! `drift-agent run`: the agent on a node.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::{CommandError, ConfigArgs, Exit, block_on};
use crate::agent::Agent;
use crate::config::{Kubernetes, Settings};
use crate::http::server;
use crate::kubernetes::api::{Access, NodeApi};
use crate::kubernetes::requests;
use crate::log::{self, EffectLog, NodeOutput};
use crate::os::clock::LinuxClock;
use crate::os::signals::{LinuxSignals, Paths};
use crate::os::step_clock::Kernel;
use crate::sources::dns::Dns;
use crate::step::ClockStepper;

pub(super) fn run(args: ConfigArgs) -> Result<Exit, CommandError> {
    let settings = args.settings()?;
    log::init(&settings);
    block_on(agent(settings))
}

async fn agent(settings: Settings) -> Result<Exit, CommandError> {
    let node = node_name(&settings);
    let api = connect(&settings, node.as_ref()).await?;
    let listener = server::bind(settings.listen).await.map_err(|error| {
        CommandError(
            Exit::Config,
            format!(
                "listen: cannot listen on \"{}\": {error}; name a free address and port",
                settings.listen
            ),
        )
    })?;
    let node = node.unwrap_or_else(|| "unknown".to_owned());
    let writes_node = api.is_some();
    log::started(&settings, &node, &server::local_url(&listener), writes_node);
    let node_output = if writes_node { NodeOutput::ApiServer } else { NodeOutput::Log(node) };
    let effect_log = EffectLog::new(&settings, node_output);
    let watched = api.clone().filter(|_| settings.core.step.on_request);
    let clock = Arc::new(LinuxClock);
    let clock_stepper = ClockStepper::new(&settings, clock.clone(), Arc::new(Kernel));
    let signals = LinuxSignals::open(clock.clone(), &Paths::default());
    let mut agent = Agent::new(&settings, clock, Dns::default(), api)
        .with_stepper(clock_stepper)
        .with_signals(Box::new(signals));
    let requests = watched.map(|api| tokio::spawn(requests::watch(api, agent.inputs())));
    let http = tokio::spawn(server::serve(listener, agent.handle()));
    agent.run(terminated()?, |effect| effect_log.log(effect)).await;
    http.abort();
    requests.inspect(JoinHandle::abort);
    log::shutting_down(writes_node);
    Ok(Exit::Ok)
}

/// `SIGTERM` from the kubelet, `SIGINT` from a terminal.
fn terminated() -> Result<impl Future<Output = ()>, CommandError> {
    let catch = |kind| signal(kind).map_err(|e| CommandError::failure("cannot wait for signals", e));
    let (mut term, mut int) = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Where an API server is configured: by name, or by the pod that the agent runs in. A kubeconfig in the home
/// directory is an operator's own, and is not used.
#[expect(clippy::disallowed_methods, reason = "the two variables that every Kubernetes client reads")]
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
            let hint = "no API server is configured: run in a pod with a service account, set KUBECONFIG, or set it to off";
            return Err(CommandError(Exit::Config, format!("kubernetes: \"on\", but {hint}")));
        }
        (Kubernetes::On | Kubernetes::Auto, Some(access)) => access,
    };
    let Some(node) = node else {
        let hint = "set NODE_NAME to the name of this Node (downward API: fieldPath spec.nodeName)";
        return Err(CommandError(
            Exit::Config,
            format!("nodeName: not set, but the agent is to annotate the Node; {hint}"),
        ));
    };
    let api = NodeApi::new(access, node.clone()).await;
    api.map(Some).map_err(|error| {
        CommandError(Exit::Config, format!("kubernetes: cannot use the API server's configuration: {error}"))
    })
}
