//! Waiting for a person's `step-request` on the Node: the only watch there is, and only with `step.onRequest`.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{PartialObjectMeta, WatchEvent, WatchParams};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::api::NodeApi;
use crate::os::random;
use drift_core::io::Input;
use drift_core::report::names::STEP_REQUEST;
use drift_core::step::policy::RequestedBy;
use drift_core::time::backoff::Backoff;

/// The API server ends a watch after this, in seconds; it may not be asked for 295 or more.
const WATCH_SECONDS: u32 = 290;
/// Reading the Node takes no longer.
const DEADLINE: Duration = Duration::from_secs(10);
/// A watch that says nothing for this long has lost its connection: it should have ended by itself.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);

/// Passes each new request on, until nobody listens any more.
pub async fn watch(api: NodeApi, inputs: mpsc::Sender<Input>) {
    let nodes: Api<Node> = Api::all(api.client().clone());
    let mut backoff = Backoff::default();
    let mut fails = false;
    let mut last = None;
    while !inputs.is_closed() {
        let ended = until_it_ends(&nodes, api.node(), &inputs, &mut last).await;
        match ended {
            Ok(()) => (backoff, fails) = (Backoff::default(), false),
            Err(error) => {
                if !std::mem::replace(&mut fails, true) {
                    warn!(error, "step.onRequest: the Node cannot be watched; trying again");
                }
                let random =
                    f64::from(u32::try_from(random::bits() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
                sleep(backoff.wait(None, random)).await;
            }
        }
    }
}

async fn until_it_ends(
    nodes: &Api<Node>,
    node: &str,
    inputs: &mpsc::Sender<Input>,
    last: &mut Option<String>,
) -> Result<(), String> {
    let late = |_| "no answer in time".to_owned();
    let read = timeout(DEADLINE, nodes.get_metadata(node)).await.map_err(late)?.map_err(|e| e.to_string())?;
    pass_on(&read, inputs, last).await;
    let version = read.metadata.resource_version.unwrap_or_default();
    let only_ours = WatchParams::default().fields(&format!("metadata.name={node}")).timeout(WATCH_SECONDS);
    let stream = timeout(DEADLINE, nodes.watch_metadata(&only_ours, &version)).await.map_err(late)?;
    let mut stream = std::pin::pin!(stream.map_err(|e| e.to_string())?);
    while let Some(event) = timeout(SILENCE, stream.next()).await.map_err(late)? {
        match event.map_err(|e| e.to_string())? {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => pass_on(&node, inputs, last).await,
            WatchEvent::Bookmark(_) | WatchEvent::Deleted(_) => {}
            // Mostly 410: the version is too old, and reading anew is the remedy.
            WatchEvent::Error(status) => {
                debug!(?status, "the watch ended");
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn pass_on(node: &PartialObjectMeta<Node>, inputs: &mpsc::Sender<Input>, last: &mut Option<String>) {
    let request = node.metadata.annotations.as_ref().and_then(|a| a.get(STEP_REQUEST));
    let Some(id) = request.map(|id| id.trim()).filter(|id| !id.is_empty()) else { return };
    if last.as_deref() != Some(id) {
        *last = Some(id.to_owned());
        // The loop is gone only when the agent ends.
        let _ = inputs.send(Input::StepRequested { by: RequestedBy::Annotation(id.to_owned()) }).await;
    }
}
