//! Talking to the API server: three requests, each with a deadline, each answer turned into what the core decides by.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::http::{HeaderMap, HeaderValue, StatusCode, header};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams, Request};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use serde_json::json;
use tokio::time::timeout;
use tracing::instrument::WithSubscriber;
use tracing::{Dispatch, debug};

use super::event::{self, NAMESPACE};
use super::node::{self, FIELD_MANAGER};
use drift_core::report::node::{NodeEvent, NodeReport, Prior};
use drift_core::report::publish::ApiError;

/// No request takes longer.
const DEADLINE: Duration = Duration::from_secs(10);
/// A Node with all its images is far below this.
const LARGEST_ANSWER: usize = 4 << 20;
/// We need nothing of what an apply returns, and a Node is large.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Where the API server is, and who we are there.
pub enum Access {
    /// A kubeconfig that was named (`KUBECONFIG`); never one that merely lies in the home directory.
    File(PathBuf),
    /// The pod's service account.
    InCluster,
}

/// Writes to one Node.
#[derive(Clone)]
pub struct NodeApi {
    client: Client,
    node: String,
}

impl NodeApi {
    /// Connects nothing yet; an error is one of the configuration.
    pub async fn new(access: Access, node: String) -> Result<Self, String> {
        let mut config = match access {
            Access::InCluster => Config::incluster().map_err(|e| e.to_string())?,
            Access::File(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(|e| e.to_string())?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| e.to_string())?
            }
        };
        // The core decides when to try again.
        config.default_retry = false;
        config.connect_timeout = Some(DEADLINE);
        let client = Client::try_from(config).map_err(|e| e.to_string())?;
        Ok(Self { client, node })
    }

    /// The connection, for those who ask other things.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The Node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Reads what an earlier run left on the Node. An empty merge patch changes nothing and returns the whole object: so the
    /// agent needs no permission to read.
    pub async fn read(&self) -> Result<Prior, ApiError> {
        let patch = Patch::Merge(json!({}));
        let request = nodes().patch_subresource("status", &self.node, &PatchParams::default(), &patch);
        let body = self.send(request.map_err(|_| ApiError::Rejected)?).await?;
        let node: Node = serde_json::from_slice(&body).map_err(|_| ApiError::Server(None))?;
        Ok(node::prior(&node))
    }

    /// Applies annotations and condition at once.
    pub async fn write(&self, report: &NodeReport) -> Result<(), ApiError> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(node::patch(&self.node, report));
        let request = nodes().patch_subresource("status", &self.node, &params, &patch);
        let mut request = request.map_err(|_| ApiError::Rejected)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(METADATA_ONLY));
        self.send(request).await.map(drop)
    }

    /// Sends an event. One that is there already was sent before: that is what was wanted.
    pub async fn send_event(&self, event: &NodeEvent) -> Result<(), ApiError> {
        let body = serde_json::to_vec(&event::build(&self.node, event)).map_err(|_| ApiError::Rejected)?;
        let url = Event::url_path(&(), Some(NAMESPACE));
        let request =
            Request::new(url).create(&PostParams::default(), body).map_err(|_| ApiError::Rejected)?;
        match self.exchange(request).await? {
            (StatusCode::CONFLICT, _, _) => Ok(()),
            (status, headers, _) => judge(status, &headers),
        }
    }

    async fn send(&self, request: hyper::Request<Vec<u8>>) -> Result<Vec<u8>, ApiError> {
        let (status, headers, body) = self.exchange(request).await?;
        judge(status, &headers).map(|()| body)
    }

    async fn exchange(
        &self,
        request: hyper::Request<Vec<u8>>,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), ApiError> {
        let exchange = async {
            let response = self.client.send(request.map(Body::from)).await.map_err(|e| e.to_string())?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((parts.status, parts.headers, body.to_bytes().to_vec()))
        };
        // The client's own word on each failure would be one line per attempt; what has changed is told by the core.
        let exchange = exchange.with_subscriber(Dispatch::none());
        let answer =
            timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if let Ok((status, _, body)) = &answer
            && !status.is_success()
        {
            debug!(%status, body = %String::from_utf8_lossy(body), "the API server refused");
        }
        answer.map_err(|error| {
            debug!(error, "the API server was not reached");
            ApiError::Unreachable
        })
    }
}

fn nodes() -> Request {
    Request::new(Node::url_path(&(), None))
}

/// What an answer means to us.
fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), ApiError> {
    let retry_after = || {
        let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        // A day is as good as for ever, and keeps a broken proxy from silencing us.
        Some(Duration::from_secs(seconds.min(86_400)))
    };
    Err(match status {
        _ if status.is_success() => return Ok(()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ApiError::Forbidden,
        StatusCode::NOT_FOUND => ApiError::NotFound,
        StatusCode::TOO_MANY_REQUESTS => ApiError::TooManyRequests(retry_after()),
        _ if status.is_server_error() => ApiError::Server(retry_after()),
        _ => ApiError::Rejected,
    })
}
