//! A small HTTP/1.1 server: a few paths, and a limit for every resource that a client can use up.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use super::clock::Clock;
use super::page::{self, PageContext};
use crate::agent::AgentHandle;
use crate::config::Listen;
use crate::http::metrics;
use crate::os::timex;

/// Connections served at the same time; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// A request takes a fraction of this. If all permits are taken and none is returned for so long, their
/// clients are stuck.
const PERMIT_TIMEOUT: Duration = Duration::from_millis(10);
/// How many of the oldest connections are closed then. Idle connections must not block the kubelet's probe,
/// which would restart a healthy agent.
const CLOSED_AT_ONCE: usize = CONNECTIONS_MAX / 4;
/// The longest life of a connection, so that a slow client returns its permit.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest head of a request, bytes.
const HEAD_MAX: usize = 16 << 10;
/// The agent's loop ticks once a second. After so long without a tick it is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Binds the address; without an address, all addresses of the node.
pub async fn bind(listen: Listen) -> Result<TcpListener, String> {
    let mut error = String::new();
    for address in listen.candidates() {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                return Err(format!("{address} is in use"));
            }
            Err(e) => error = e.to_string(),
        }
    }
    Err(error)
}

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, shared: Arc<AgentHandle>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut served: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS_MAX);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually out of file descriptors. Connections have to end first, so the loop waits.
                warn!(reason = %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        served.retain(|task| !task.is_finished());
        let permit = loop {
            match tokio::time::timeout(PERMIT_TIMEOUT, Arc::clone(&permits).acquire_owned()).await {
                Ok(Ok(permit)) => break permit,
                // The semaphore is never closed.
                Ok(Err(_)) => return,
                Err(_) => served.drain(..CLOSED_AT_ONCE.min(served.len())).for_each(|task| task.abort()),
            }
        };
        let connection = connection(stream, peer, Arc::clone(&shared));
        let task = tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
        served.push_back(task.abort_handle());
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, shared: Arc<AgentHandle>) {
    let service = service_fn(move |request| {
        let response = respond(&request, &shared);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        // One request a connection: clients that keep connections open must not block others.
        .keep_alive(false)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        debug!(%peer, %error, "connection ended early");
    }
}

fn respond(request: &Request<Incoming>, shared: &AgentHandle) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are allowed\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => {
            let text = metrics::render(&shared.snapshot(), timex::read());
            reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        "/healthz" => {
            let age = shared.since_last_tick();
            if age < STUCK_AFTER {
                reply(StatusCode::OK, TEXT, "ok\n")
            } else {
                reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("no tick for {} s\n", age.as_secs()))
            }
        }
        "/readyz" => {
            let snapshot = shared.snapshot();
            let text = format!("{}: {}\n", snapshot.state.label(), snapshot.sentence());
            reply(if snapshot.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, TEXT, text)
        }
        "/v1/clock" => match Clock::new(&shared.snapshot()) {
            Ok(clock) => json(StatusCode::OK, &clock),
            Err(none) => json(StatusCode::SERVICE_UNAVAILABLE, &none),
        },
        "/" => status_page(request, shared),
        _ => reply(
            StatusCode::NOT_FOUND,
            TEXT,
            "not found; the paths are /, /metrics, /v1/clock, /healthz and /readyz\n",
        ),
    }
}

/// The page for browsers, a few lines of text for other clients.
fn status_page(request: &Request<Incoming>, shared: &AgentHandle) -> Response<Full<Bytes>> {
    let mut response = if page::wants_html(request.headers()) {
        let html = shared.with_machine(|machine, now| {
            let snapshot = machine.snapshot(now);
            let (history, settings) = (machine.history(), shared.settings());
            let context = PageContext { snapshot: &snapshot, history, now, settings, kernel: timex::read() };
            page::render(&context, request.uri().query())
        });
        let mut response = reply(StatusCode::OK, HTML, html);
        let policy = HeaderValue::from_static(page::CONTENT_SECURITY_POLICY);
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        response
    } else {
        reply(StatusCode::OK, TEXT, page::in_text(&shared.snapshot()))
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

fn json(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(body) {
        Ok(bytes) => reply(status, JSON, bytes),
        Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
    }
}

fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // The next request may have another answer.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The URL of the server, with a host that is reachable from this machine.
pub fn local_url(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(
        |_| String::from("unknown"),
        |address| {
            let host = if address.ip().is_unspecified() {
                SocketAddr::from(([127, 0, 0, 1], address.port()))
            } else {
                address
            };
            format!("http://{host}")
        },
    )
}
