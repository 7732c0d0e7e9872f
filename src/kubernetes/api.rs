//! The three requests to the API server: read the Node, apply its status, create an event. Each has a
//! deadline, and each failure is an [`ApiError`], from which the core decides whether and when to try again.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::http::{HeaderMap, HeaderValue, StatusCode, header};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams, Request};
use kube::client::Body;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config, Resource};
use serde_json::json;
use tokio::time::timeout;
use tracing::instrument::WithSubscriber;
use tracing::{Dispatch, debug};

use super::event::{self, NAMESPACE};
use super::node::{self, FIELD_MANAGER};
use drift_core::report::node::{NodeEvent, NodeReport, Prior};
use drift_core::report::publish::ApiError;

/// The longest that one request may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer response is an error. A Node with all its images is far below this.
const RESPONSE_LIMIT: usize = 4 << 20;
/// The response to an apply is not used, and a Node is large: without `spec` and `status` it is not.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Where the API server is, and the agent's identity there.
pub enum Access {
    /// A kubeconfig that was named (`KUBECONFIG`). The one in the home directory is never used.
    File(PathBuf),
    /// The pod's service account.
    InCluster,
}

/// Why an [`Access`] cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The service account's files or variables are missing or malformed.
    #[error(transparent)]
    InCluster(#[from] InClusterError),
    /// The kubeconfig is missing or malformed.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// No TLS client can be made of it.
    #[error(transparent)]
    Client(#[from] kube::Error),
}

/// Sends requests about one Node.
#[derive(Clone)]
pub struct NodeApi {
    client: Client,
    node: String,
}

impl NodeApi {
    /// Connects nowhere yet: an error is one of the configuration.
    pub async fn new(access: Access, node: String) -> Result<Self, AccessError> {
        let mut config = match access {
            Access::InCluster => Config::incluster()?,
            Access::File(path) => {
                let kubeconfig = Kubeconfig::read_from(path)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(kubeconfig, &options).await?
            }
        };
        // The core decides when to try again.
        config.default_retry = false;
        config.connect_timeout = Some(REQUEST_TIMEOUT);
        let client = Client::try_from(config)?;
        Ok(Self { client, node })
    }

    /// The client, for other requests.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The Node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Reads what an earlier run left on the Node. It sends an empty merge patch, which changes nothing and
    /// returns the object, so that the agent needs no permission to get Nodes.
    pub async fn read(&self) -> Result<Prior, ApiError> {
        let patch = Patch::Merge(json!({}));
        let request = nodes().patch_subresource("status", &self.node, &PatchParams::default(), &patch);
        let body = self.send(request.map_err(|_| ApiError::Rejected)?).await?;
        let node: Node = serde_json::from_slice(&body).map_err(|_| ApiError::Server(None))?;
        Ok(node::prior(&node))
    }

    /// Applies annotations and condition in one request.
    pub async fn write(&self, report: &NodeReport) -> Result<(), ApiError> {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(node::patch(&self.node, report));
        let request = nodes().patch_subresource("status", &self.node, &params, &patch);
        let mut request = request.map_err(|_| ApiError::Rejected)?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(METADATA_ONLY));
        self.send(request).await.map(drop)
    }

    /// Creates an event. A conflict is a success: the event was created before.
    pub async fn send_event(&self, event: &NodeEvent) -> Result<(), ApiError> {
        let body = serde_json::to_vec(&event::build(&self.node, event)).map_err(|_| ApiError::Rejected)?;
        let url = Event::url_path(&(), Some(NAMESPACE));
        let request =
            Request::new(url).create(&PostParams::default(), body).map_err(|_| ApiError::Rejected)?;
        match self.exchange(request).await? {
            (StatusCode::CONFLICT, _, _) => Ok(()),
            (status, headers, _) => check_status(status, &headers),
        }
    }

    async fn send(&self, request: hyper::Request<Vec<u8>>) -> Result<Vec<u8>, ApiError> {
        let (status, headers, body) = self.exchange(request).await?;
        check_status(status, &headers).map(|()| body)
    }

    async fn exchange(
        &self,
        request: hyper::Request<Vec<u8>>,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), ApiError> {
        let exchange = async {
            let response = self.client.send(request.map(Body::from)).await.map_err(|e| e.to_string())?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, RESPONSE_LIMIT).collect().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((parts.status, parts.headers, body.to_bytes().to_vec()))
        };
        // The client library would log every failed attempt. The core reports when the result changes.
        let exchange = exchange.with_subscriber(Dispatch::none());
        let answer =
            timeout(REQUEST_TIMEOUT, exchange).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if let Ok((status, _, body)) = &answer
            && !status.is_success()
        {
            debug!(%status, body = %String::from_utf8_lossy(body), "the API server rejected a request");
        }
        answer.map_err(|error| {
            debug!(reason = error, "the API server does not respond");
            ApiError::Unreachable
        })
    }
}

fn nodes() -> Request {
    Request::new(Node::url_path(&(), None))
}

/// The result of a request, by its status code.
fn check_status(status: StatusCode, headers: &HeaderMap) -> Result<(), ApiError> {
    let retry_after = || {
        let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        // The limit of a day is for a faulty proxy, which could silence the agent for ever.
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
