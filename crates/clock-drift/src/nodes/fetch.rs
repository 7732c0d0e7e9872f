//! Reading Nodes: metadata only, in pages, and a watch; each failure as one line for people.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Limited};
use hyper::http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::{Request, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use k8s_openapi::api::core::v1::Node;
use kube::api::{GetParams, ListParams, WatchEvent, WatchParams};
use kube::client::{AuthError, Body};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::now::{Now, Source};
use super::row::{Item, Metadata, Row, escape_for_terminal};
use drift_core::http_date;
use drift_core::time::{Measurement, Mono, Offset, Reading, Wall};

/// Nodes a page: the API server's own default for kubectl.
const PAGE: u32 = 500;
/// A page takes no longer; nor does a connection.
const DEADLINE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// A page of Nodes with very many annotations is below this.
const LARGEST_PAGE: usize = 256 << 20;
/// What a continue token points at is gone after some minutes (410): then all is read anew, so often.
const RESTARTS: usize = 2;
/// The API server ends a watch after this, in seconds.
const WATCH_SECONDS: u32 = 290;
/// A watch that says nothing for so long has lost its connection: at the latest its end was due.
pub const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 30);

const LIST_OF_METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const WHOLE: &str = "application/json";

/// Where kubectl's settings are, by kubectl's own rules.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The files, the first to say something wins; those that are not there are passed over.
    pub files: Vec<PathBuf>,
    /// They were named by a flag: then they must be there, and a pod's own account is not taken instead.
    pub is_explicit: bool,
    /// The context, instead of the current one.
    pub context: Option<String>,
    /// What the environment says of proxies.
    pub proxies: Proxies,
}

/// Proxies by the environment.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// `HTTP_PROXY`, for a server without TLS.
    pub http: String,
    /// `HTTPS_PROXY`.
    pub https: String,
    /// `NO_PROXY`: for which servers there is none.
    pub none: String,
}

/// Why nothing can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// What was asked for does not exist, or cannot be: a context, a Node, a selector.
    Asked(String),
    /// The kubeconfig is wrong, or there is none.
    Config(String),
    /// Not reached, not allowed, or not understood.
    Failed(String),
    /// 410: what was read is too old to go on from.
    Gone,
}

/// All Nodes at one time.
#[derive(Debug)]
pub struct Listing {
    /// By name.
    pub rows: BTreeMap<String, Row>,
    /// From where a watch goes on.
    pub version: String,
    /// The present, and how it goes on.
    pub clock: ApiClock,
}

/// The API server's clock: what it said once, and how long ago that is, also if this machine slept meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct ApiClock {
    at: Wall,
    told: Mono,
    by: Source,
    machine: Option<Measurement>,
    read_clocks: ReadClocks,
}

/// Reads this machine's clocks. The platform's program knows how.
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
    /// From the headers of an answer.
    fn new(headers: &HeaderMap, sent: Reading, received: Reading, read_clocks: ReadClocks) -> Self {
        let date = headers.get(header::DATE).and_then(|d| http_date::parse(d.to_str().ok()?));
        let machine = date.map(|date| http_date::offset_range(date, sent.wall, received.wall).measurement());
        match machine {
            Some(Measurement { offset, .. }) => Self {
                at: received.wall.plus(offset),
                told: received.base(),
                by: Source::ApiServer,
                machine,
                read_clocks,
            },
            None => Self {
                at: received.wall,
                told: received.base(),
                by: Source::ThisMachine,
                machine,
                read_clocks,
            },
        }
    }

    /// The present.
    pub fn now(&self) -> Now {
        let passed = drift_core::time::nanos((self.read_clocks)().base().since(self.told));
        Now { at: self.at.plus(Offset::from_nanos(passed)), by: self.by, machine: self.machine }
    }
}

impl Reader {
    /// Connects nothing yet, but may run the credential plugin that the kubeconfig names.
    pub async fn new(target: Target, read_clocks: ReadClocks) -> Result<Self, FetchError> {
        let mut config = config(target).await?;
        config.connect_timeout = Some(CONNECT);
        let server = config.cluster_url.to_string();
        let plugin = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
        let client = Client::try_from(config).map_err(|error| client_failure(&error, plugin.as_deref()))?;
        Ok(Self { client, server, read_clocks })
    }

    /// All Nodes that the selector allows.
    pub async fn list(&self, selector: Option<&str>) -> Result<Listing, FetchError> {
        let mut restarts = 0;
        loop {
            match self.pages(selector).await {
                Err(FetchError::Gone) if restarts < RESTARTS => restarts += 1,
                Err(FetchError::Gone) => {
                    return Err(FetchError::Failed(
                        "the Nodes change faster than they can be read".to_owned(),
                    ));
                }
                done => return done,
            }
        }
    }

    async fn pages(&self, selector: Option<&str>) -> Result<Listing, FetchError> {
        let mut params = ListParams {
            limit: Some(PAGE),
            label_selector: selector.map(str::to_owned),
            ..ListParams::default()
        };
        let mut rows = BTreeMap::new();
        loop {
            let request = nodes().list(&params).map_err(|e| FetchError::Asked(e.to_string()))?;
            let (page, clock): (Page, _) = self.ask(request, LIST_OF_METADATA).await?;
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
    pub async fn whole(&self, name: &str) -> Result<(Row, ApiClock), FetchError> {
        self.one(name, WHOLE).await
    }

    /// One Node's metadata.
    pub async fn metadata(&self, name: &str) -> Result<(Row, ApiClock), FetchError> {
        self.one(name, METADATA).await
    }

    async fn one(&self, name: &str, accept: &'static str) -> Result<(Row, ApiClock), FetchError> {
        // What is no name would become another path.
        let is_name =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
        if !is_name {
            return Err(FetchError::Asked(format!(
                "\"{}\" is no name of a Node",
                escape_for_terminal(name, 60)
            )));
        }
        let request =
            nodes().get(name, &GetParams::default()).map_err(|e| FetchError::Asked(e.to_string()))?;
        let (item, clock): (Item, _) = self.ask(request, accept).await?;
        Ok((Row::read(item), clock))
    }

    async fn ask<T: DeserializeOwned>(
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
            let body = Limited::new(body, LARGEST_PAGE).collect().await;
            let body = body.map_err(|e| {
                FetchError::Failed(format!("the API server's answer broke off: {}", last_cause(&*e)))
            })?;
            Ok((parts.status, body.to_bytes(), clock))
        };
        let late =
            || FetchError::Failed(format!("{} did not answer within {} s", self.server, DEADLINE.as_secs()));
        let (status, body, clock) = timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(late()))?;
        if !status.is_success() {
            return Err(refused(status, &body));
        }
        let read = serde_json::from_slice(&body);
        let read =
            read.map_err(|e| FetchError::Failed(format!("the API server's answer cannot be read: {e}")))?;
        Ok((read, clock))
    }

    /// What changes from that version on; it ends by itself after some minutes.
    pub async fn watch(
        &self,
        selector: Option<&str>,
        version: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent<Item>, FetchError>> + use<>, FetchError> {
        let params = WatchParams { label_selector: selector.map(str::to_owned), ..WatchParams::default() };
        let params = params.timeout(WATCH_SECONDS);
        let mut request = nodes().watch(&params, version).map_err(|e| FetchError::Asked(e.to_string()))?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(METADATA));
        let late = |_| FetchError::Failed("the API server did not answer".to_owned());
        let stream = timeout(DEADLINE, self.client.request_events::<Item>(request)).await.map_err(late)?;
        let server = self.clone();
        let stream = stream.map_err(|e| self.unreachable(&e))?;
        Ok(stream.map(move |event| event.map_err(|e| server.unreachable(&e))))
    }

    fn unreachable(&self, error: &kube::Error) -> FetchError {
        match error {
            kube::Error::Api(status) if status.code == StatusCode::GONE.as_u16() => FetchError::Gone,
            kube::Error::Api(status) => FetchError::Failed(escape_for_terminal(&status.message, 400)),
            kube::Error::Auth(_) => client_failure(error, None),
            _ => {
                let cause = last_cause(error);
                let mut text = format!("{} is not reached: {cause}", self.server);
                // rustls says "certificate expired" and "certificate not valid yet".
                if cause.contains("certificate expired") || cause.contains("not valid yet") {
                    text.push_str(". Or is it this machine's clock? drift-agent check tells");
                }
                FetchError::Failed(text)
            }
        }
    }
}

impl Listing {
    /// Takes a change in; `true` when a row is another now. `Err` when the watch cannot go on.
    pub fn apply(&mut self, event: WatchEvent<Item>) -> Result<bool, FetchError> {
        match event {
            WatchEvent::Added(item) | WatchEvent::Modified(item) => {
                self.seen(&item.metadata);
                let (name, row) = (item.metadata.name.clone(), Row::read(item));
                Ok(self.rows.insert(name, row.clone()).is_none_or(|before| before != row))
            }
            WatchEvent::Deleted(item) => {
                self.seen(&item.metadata);
                Ok(self.rows.remove(&item.metadata.name).is_some())
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = bookmark.metadata.resource_version;
                Ok(false)
            }
            WatchEvent::Error(status) if status.code == StatusCode::GONE.as_u16() => Err(FetchError::Gone),
            WatchEvent::Error(status) => Err(FetchError::Failed(escape_for_terminal(&status.message, 400))),
        }
    }

    fn seen(&mut self, metadata: &Metadata) {
        if let Some(version) = &metadata.resource_version {
            self.version.clone_from(version);
        }
    }
}

fn nodes() -> kube::api::Request {
    kube::api::Request::new(Node::url_path(&(), None))
}

/// kubectl's rules: the files that are there, merged; without any, the pod that we run in.
async fn config(target: Target) -> Result<Config, FetchError> {
    let Target { files, is_explicit, context, proxies } = target;
    let wrong =
        |e: kube::config::KubeconfigError| FetchError::Config(format!("kubeconfig: {}", last_cause(&e)));
    let mut kubeconfig: Option<Kubeconfig> = None;
    for file in files {
        if !is_explicit && !file.exists() {
            continue;
        }
        let read = Kubeconfig::read_from(&file)
            .map_err(|e| FetchError::Config(format!("{}: {}", file.display(), last_cause(&e))))?;
        kubeconfig = Some(match kubeconfig {
            None => read,
            Some(before) => before.merge(read).map_err(wrong)?,
        });
    }
    let Some(kubeconfig) = kubeconfig else {
        if let Some(context) = context {
            return Err(FetchError::Asked(format!(
                "context \"{}\": there is no kubeconfig",
                escape_for_terminal(&context, 60)
            )));
        }
        return Config::incluster().map_err(|_| {
            let hint = "there is no kubeconfig: name one with --kubeconfig or KUBECONFIG, or run in a pod";
            FetchError::Config(hint.to_owned())
        });
    };
    let names = || {
        let names: Vec<String> =
            kubeconfig.contexts.iter().map(|c| escape_for_terminal(&c.name, 60)).collect();
        if names.is_empty() {
            "the kubeconfig has none".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        }
    };
    let chosen = context.or_else(|| kubeconfig.current_context.clone()).filter(|name| !name.is_empty());
    let Some(chosen) = chosen else {
        return Err(FetchError::Config(format!("no context is set: name one with --context ({})", names())));
    };
    let Some(found) = kubeconfig.contexts.iter().find(|c| c.name == chosen).and_then(|c| c.context.clone())
    else {
        return Err(FetchError::Asked(format!(
            "context \"{}\" does not exist: {}",
            escape_for_terminal(&chosen, 60),
            names()
        )));
    };
    let cluster =
        kubeconfig.clusters.iter().find(|c| c.name == found.cluster).and_then(|c| c.cluster.as_ref());
    let own_proxy = cluster.and_then(|c| c.proxy_url.clone()).filter(|url| !url.is_empty());
    let options = KubeConfigOptions { context: Some(chosen), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)?;
    // kube compares NO_PROXY with the address of the proxy instead of the server's, and so decides wrongly.
    config.proxy_url = match own_proxy.or_else(|| proxies.of(&config.cluster_url)) {
        Some(url) => Some(parse_proxy(&url).ok_or_else(|| {
            FetchError::Config(format!("proxy \"{}\" is no URL", escape_for_terminal(&url, 100)))
        })?),
        None => None,
    };
    Ok(config)
}

impl Proxies {
    /// The one for this server, by the rules of Go's HTTP client, and so of kubectl: never for loopback.
    fn of(&self, server: &Uri) -> Option<String> {
        let proxy = if server.scheme_str() == Some("http") { &self.http } else { &self.https };
        let host = server.host()?.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let rules = Matcher::builder().all("http://proxy.invalid").no(self.none.clone()).build();
        let is_wanted = !proxy.is_empty() && !is_loopback && rules.intercept(server).is_some();
        is_wanted.then(|| proxy.clone())
    }
}

/// Without a scheme it is an HTTP proxy.
fn parse_proxy(url: &str) -> Option<Uri> {
    if url.contains("://") { url.parse().ok() } else { format!("http://{url}").parse().ok() }
}

/// No client can be made, or it has no credentials.
fn client_failure(error: &kube::Error, plugin: Option<&str>) -> FetchError {
    let plugin = plugin.map_or_else(
        || "the credential plugin".to_owned(),
        |p| format!("the credential plugin \"{}\"", escape_for_terminal(p, 100)),
    );
    FetchError::Config(match error {
        kube::Error::Auth(AuthError::AuthExecStart(error)) => {
            format!("{plugin} that the kubeconfig names cannot be run: {error}")
        }
        kube::Error::Auth(AuthError::AuthExecRun { out, .. }) => {
            let said = String::from_utf8_lossy(&out.stderr);
            let said = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing was said");
            format!("{plugin} that the kubeconfig names failed: {}", escape_for_terminal(said.trim(), 200))
        }
        error => format!("kubeconfig: {}", last_cause(error)),
    })
}

/// What the API server refused, in its own words and ours.
fn refused(status: StatusCode, body: &[u8]) -> FetchError {
    let said: ApiStatus = serde_json::from_slice(body).unwrap_or_default();
    let said = escape_for_terminal(&said.message, 400);
    match status {
        StatusCode::GONE => FetchError::Gone,
        StatusCode::NOT_FOUND => FetchError::Asked(said),
        StatusCode::BAD_REQUEST => FetchError::Asked(format!("the API server does not understand: {said}")),
        StatusCode::UNAUTHORIZED => FetchError::Failed(
            "the API server does not know these credentials (401): log in again, or name another --context"
                .to_owned(),
        ),
        StatusCode::FORBIDDEN => FetchError::Failed(format!(
            "{said}; this command needs get, list and, with --watch, watch on nodes"
        )),
        _ => FetchError::Failed(format!("the API server answered {}: {said}", status.as_u16())),
    }
}

/// The end of the chain says what happened; what leads to it says which parts of a program it came through.
fn last_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    escape_for_terminal(&last.to_string(), 400)
}
