//! Watches the Node for an operator's annotation `step-request`. Only with `step.onRequest`.

use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{PartialObjectMeta, WatchEvent, WatchParams};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::api::{NodeApi, REQUEST_TIMEOUT};
use crate::os::random;
use drift_core::io::Input;
use drift_core::report::names::STEP_REQUEST;
use drift_core::step::policy::RequestedBy;
use drift_core::time::backoff::Backoff;

/// The API server ends a watch after this, in seconds. kube rejects 295 and more.
const WATCH_SECONDS: u32 = 290;
/// A watch without an event or an end for this long has lost its connection.
const WATCH_TIMEOUT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);

/// Sends each new request to the loop, until the loop has ended.
pub async fn watch(api: NodeApi, inputs: mpsc::Sender<Input>) {
    let nodes: Api<Node> = Api::all(api.client().clone());
    let mut backoff = Backoff::default();
    let mut failures: u32 = 0;
    let mut last = None;
    while !inputs.is_closed() {
        match watch_once(&nodes, api.node(), &inputs, &mut last).await {
            Ok(()) => (backoff, failures) = (Backoff::default(), 0),
            Err(reason) => {
                failures = failures.saturating_add(1);
                if failures == 1 {
                    warn!(attempt = failures, reason, "cannot watch the Node for step requests");
                } else {
                    debug!(attempt = failures, reason, "cannot watch the Node for step requests");
                }
                let random =
                    f64::from(u32::try_from(random::bits() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
                sleep(backoff.wait(None, random)).await;
            }
        }
    }
}

/// Reads the Node and watches it until the watch ends, which it does regularly.
async fn watch_once(
    nodes: &Api<Node>,
    node: &str,
    inputs: &mpsc::Sender<Input>,
    last: &mut Option<String>,
) -> Result<(), String> {
    let late = |_| "no answer in time".to_owned();
    let read =
        timeout(REQUEST_TIMEOUT, nodes.get_metadata(node)).await.map_err(late)?.map_err(|e| e.to_string())?;
    send_new_request(&read, inputs, last).await;
    let version = read.metadata.resource_version.unwrap_or_default();
    let only_ours = WatchParams::default().fields(&format!("metadata.name={node}")).timeout(WATCH_SECONDS);
    let stream = timeout(REQUEST_TIMEOUT, nodes.watch_metadata(&only_ours, &version)).await.map_err(late)?;
    let mut stream = std::pin::pin!(stream.map_err(|e| e.to_string())?);
    while let Some(event) = timeout(WATCH_TIMEOUT, stream.next()).await.map_err(late)? {
        match event.map_err(|e| e.to_string())? {
            WatchEvent::Added(node) | WatchEvent::Modified(node) => {
                send_new_request(&node, inputs, last).await;
            }
            WatchEvent::Bookmark(_) | WatchEvent::Deleted(_) => {}
            // Mostly 410: the resource version is too old. The next read gets a new one.
            WatchEvent::Error(status) => {
                debug!(?status, "the watch ended");
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn send_new_request(
    node: &PartialObjectMeta<Node>,
    inputs: &mpsc::Sender<Input>,
    last: &mut Option<String>,
) {
    let request = node.metadata.annotations.as_ref().and_then(|a| a.get(STEP_REQUEST));
    let Some(id) = request.map(|id| id.trim()).filter(|id| !id.is_empty()) else { return };
    if last.as_deref() != Some(id) {
        *last = Some(id.to_owned());
        // This fails only when the agent has ended.
        let _ = inputs.send(Input::StepRequested { by: RequestedBy::Annotation(id.to_owned()) }).await;
    }
}
