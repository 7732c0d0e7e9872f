//! Reading Nodes from the API server: metadata only, in pages, and a watch. Each failure is one line of text.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::http::{HeaderMap, HeaderValue, StatusCode, header};
use k8s_openapi::api::core::v1::Node;
use kube::api::{GetParams, ListParams, WatchEvent, WatchParams};
use kube::client::Body;
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::{FetchError, last_cause, message};
use super::kubeconfig::{Target, client_error, config};
use super::now::{Now, Source};
use super::row::{CELL_CHARS_MAX, Item, Metadata, Row, escape_for_terminal};
use drift_core::http_date;
use drift_core::time::{Measurement, Mono, Offset, Reading, Wall};

/// Nodes per page: kubectl's own chunk size.
const NODES_PER_PAGE: u32 = 500;
/// The longest wait for one page, one Node, or the start of a watch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest page that is read, in bytes; a page of Nodes with very many annotations is smaller.
const PAGE_BYTES_MAX: usize = 256 << 20;
/// A continue token expires after some minutes (410 Gone). Then the list is read again from the start, at
/// most so many times.
const LIST_RESTARTS_MAX: usize = 2;
/// The API server ends a watch after this, in seconds.
const WATCH_SECONDS: u32 = 290;
/// A watch without an event for so long has lost its connection: the API server should have ended it by then.
pub const WATCH_SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);

/// `Accept` header for the metadata of many Nodes, of one Node, and for one whole Node.
const ACCEPT_METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const ACCEPT_METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const ACCEPT_NODE: &str = "application/json";

/// All Nodes at one time.
#[derive(Debug)]
pub struct Listing {
    /// By name.
    pub rows: BTreeMap<String, Row>,
    /// The resource version from which a watch continues.
    pub version: String,
    /// The present, at any later time.
    pub clock: ApiClock,
}

/// The API server's clock: the time of one response, and the time since then, including a suspend of this
/// machine.
#[derive(Clone, Copy, Debug)]
pub struct ApiClock {
    at: Wall,
    received: Mono,
    by: Source,
    machine: Option<Measurement>,
    read_clocks: ReadClocks,
}

/// Reads this machine's clocks; given by the program, because it depends on the platform.
pub type ReadClocks = fn() -> Reading;

/// Reads Nodes.
#[derive(Clone)]
pub struct Reader {
    client: Client,
    server: String,
    read_clocks: ReadClocks,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    /// `null` when there are none.
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(rename = "continue")]
    more: Option<String>,
    resource_version: Option<String>,
}

#[derive(Default, Deserialize)]
struct ApiStatus {
    #[serde(default)]
    message: String,
}

impl ApiClock {
    /// From the headers of a response, and this machine's clocks before the request and after it.
    fn new(headers: &HeaderMap, sent: Reading, received: Reading, read_clocks: ReadClocks) -> Self {
        let date = headers.get(header::DATE).and_then(|d| http_date::parse(d.to_str().ok()?));
        let machine = date.map(|date| http_date::offset_range(date, sent.wall, received.wall).measurement());
        match machine {
            Some(Measurement { offset, .. }) => Self {
                at: received.wall.plus(offset),
                received: received.base(),
                by: Source::ApiServer,
                machine,
                read_clocks,
            },
            None => Self {
                at: received.wall,
                received: received.base(),
                by: Source::ThisMachine,
                machine,
                read_clocks,
            },
        }
    }

    /// The present.
    pub fn now(&self) -> Now {
        let passed = drift_core::time::nanos((self.read_clocks)().base().since(self.received));
        Now { at: self.at.plus(Offset::from_nanos(passed)), by: self.by, machine: self.machine }
    }
}

impl Reader {
    /// Does not connect yet, but may run the credential plugin that the kubeconfig names.
    pub async fn new(target: Target, read_clocks: ReadClocks) -> Result<Self, FetchError> {
        let mut config = config(target).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let server = config.cluster_url.to_string();
        let plugin = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
        let client = Client::try_from(config).map_err(|error| client_error(&error, plugin.as_deref()))?;
        Ok(Self { client, server, read_clocks })
    }

    /// All Nodes that match the selector.
    pub async fn list(&self, selector: Option<&str>) -> Result<Listing, FetchError> {
        let mut restarts = 0;
        loop {
            match self.pages(selector).await {
                Err(FetchError::Gone) if restarts < LIST_RESTARTS_MAX => restarts += 1,
                Err(FetchError::Gone) => return Err(FetchError::ChangesTooFast),
                done => return done,
            }
        }
    }

    async fn pages(&self, selector: Option<&str>) -> Result<Listing, FetchError> {
        let mut params = ListParams {
            limit: Some(NODES_PER_PAGE),
            label_selector: selector.map(str::to_owned),
            ..ListParams::default()
        };
        let mut rows = BTreeMap::new();
        loop {
            let request = nodes().list(&params).map_err(|e| FetchError::BadRequest(e.to_string()))?;
            let (page, clock): (Page, _) = self.send(request, ACCEPT_METADATA_LIST).await?;
            rows.extend(
                page.items.into_iter().flatten().map(|item| (item.metadata.name.clone(), Row::read(item))),
            );
            match page.metadata.more.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    return Ok(Listing {
                        rows,
                        version: page.metadata.resource_version.unwrap_or_default(),
                        clock,
                    });
                }
            }
        }
    }

    /// One Node with its conditions.
    pub async fn node(&self, name: &str) -> Result<(Row, ApiClock), FetchError> {
        self.get(name, ACCEPT_NODE).await
    }

    /// One Node's metadata.
    pub async fn node_metadata(&self, name: &str) -> Result<(Row, ApiClock), FetchError> {
        self.get(name, ACCEPT_METADATA).await
    }

    async fn get(&self, name: &str, accept: &'static str) -> Result<(Row, ApiClock), FetchError> {
        // Any other text could lead to another path of the API.
        let is_name =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        if !is_name {
            return Err(FetchError::InvalidName(escape_for_terminal(name, CELL_CHARS_MAX)));
        }
        let request =
            nodes().get(name, &GetParams::default()).map_err(|e| FetchError::BadRequest(e.to_string()))?;
        let (item, clock): (Item, _) = self.send(request, accept).await?;
        Ok((Row::read(item), clock))
    }

    /// Sends a request and reads the response, with the API server's clock from its `Date` header.
    async fn send<T: DeserializeOwned>(
        &self,
        mut request: Request<Vec<u8>>,
        accept: &'static str,
    ) -> Result<(T, ApiClock), FetchError> {
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
        let exchange = async {
            let sent = (self.read_clocks)();
            let response =
                self.client.send(request.map(Body::from)).await.map_err(|e| self.unreachable(&e))?;
            let clock = ApiClock::new(response.headers(), sent, (self.read_clocks)(), self.read_clocks);
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, PAGE_BYTES_MAX).collect().await;
            let body = body.map_err(|e| FetchError::Interrupted(last_cause(&*e)))?;
            Ok((parts.status, body.to_bytes(), clock))
        };
        let (status, body, clock) =
            timeout(REQUEST_TIMEOUT, exchange).await.unwrap_or_else(|_| Err(self.timed_out()))?;
        if !status.is_success() {
            return Err(status_error(status, &body));
        }
        let object = serde_json::from_slice(&body).map_err(|e| FetchError::InvalidResponse(e.to_string()))?;
        Ok((object, clock))
    }

    /// The changes since a resource version; the API server ends the stream after [`WATCH_SECONDS`].
    pub async fn watch(
        &self,
        selector: Option<&str>,
        version: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent<Item>, FetchError>> + use<>, FetchError> {
        let params = WatchParams { label_selector: selector.map(str::to_owned), ..WatchParams::default() };
        let params = params.timeout(WATCH_SECONDS);
        let mut request =
            nodes().watch(&params, version).map_err(|e| FetchError::BadRequest(e.to_string()))?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(ACCEPT_METADATA));
        let stream = timeout(REQUEST_TIMEOUT, self.client.request_events::<Item>(request)).await;
        let stream = stream.map_err(|_| self.timed_out())?;
        let server = self.clone();
        let stream = stream.map_err(|e| self.unreachable(&e))?;
        Ok(stream.map(move |event| event.map_err(|e| server.unreachable(&e))))
    }

    fn unreachable(&self, error: &kube::Error) -> FetchError {
        match error {
            kube::Error::Api(status) if status.code == StatusCode::GONE.as_u16() => FetchError::Gone,
            kube::Error::Api(status) => FetchError::Watch(message(&status.message)),
            kube::Error::Auth(_) => client_error(error, None),
            _ => FetchError::Unreachable { server: self.server.clone(), cause: last_cause(error) },
        }
    }

    fn timed_out(&self) -> FetchError {
        FetchError::TimedOut { server: self.server.clone(), timeout: REQUEST_TIMEOUT }
    }
}

impl Listing {
    /// Applies an event of the watch; `true` when a row has changed. `Err` when the watch cannot continue.
    pub fn apply(&mut self, event: WatchEvent<Item>) -> Result<bool, FetchError> {
        match event {
            WatchEvent::Added(item) | WatchEvent::Modified(item) => {
                self.set_version(&item.metadata);
                let (name, row) = (item.metadata.name.clone(), Row::read(item));
                Ok(self.rows.insert(name, row.clone()).is_none_or(|before| before != row))
            }
            WatchEvent::Deleted(item) => {
                self.set_version(&item.metadata);
                Ok(self.rows.remove(&item.metadata.name).is_some())
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = bookmark.metadata.resource_version;
                Ok(false)
            }
            WatchEvent::Error(status) if status.code == StatusCode::GONE.as_u16() => Err(FetchError::Gone),
            WatchEvent::Error(status) => Err(FetchError::Watch(message(&status.message))),
        }
    }

    fn set_version(&mut self, metadata: &Metadata) {
        if let Some(version) = &metadata.resource_version {
            self.version.clone_from(version);
        }
    }
}

fn nodes() -> kube::api::Request {
    kube::api::Request::new(Node::url_path(&(), None))
}

/// The error for a response that is not a success.
fn status_error(status: StatusCode, body: &[u8]) -> FetchError {
    let body: ApiStatus = serde_json::from_slice(body).unwrap_or_default();
    let message = message(&body.message);
    match status {
        StatusCode::GONE => FetchError::Gone,
        StatusCode::NOT_FOUND => FetchError::NotFound(message),
        StatusCode::BAD_REQUEST => FetchError::BadRequest(message),
        StatusCode::UNAUTHORIZED => FetchError::Unauthorized,
        StatusCode::FORBIDDEN => FetchError::Forbidden(message),
        _ => FetchError::Status { code: status.as_u16(), message },
    }
}
