//! A small HTTP/1.1 server: a handful of paths, and a limit for everything a client can waste.

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

/// Connections served at once; the others wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// When all places are taken and none is given up for so long, who holds them is stuck: a request takes a fraction of it.
const PATIENCE: Duration = Duration::from_millis(10);
/// The oldest connections that are ended then. Whoever opens connections and says nothing must not keep the kubelet's probe out:
/// it would restart an agent that is well.
const GIVEN_UP: usize = CONNECTIONS / 4;
/// How long one connection may live: a client that writes or reads slowly does not hold its place for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(15);
/// The largest head of a request.
const LARGEST_HEAD: usize = 16 << 10;
/// The loop ticks once a second; this long without a tick, and it is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Binds the address; on every family where none is named.
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

/// Serves until dropped.
pub async fn serve(listener: TcpListener, shared: Arc<AgentHandle>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut served: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly. It ends when connections end; spinning would not help.
                warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        served.retain(|task| !task.is_finished());
        let place = loop {
            match tokio::time::timeout(PATIENCE, Arc::clone(&places).acquire_owned()).await {
                Ok(Ok(place)) => break place,
                // Nobody closes it.
                Ok(Err(_)) => return,
                Err(_) => served.drain(..GIVEN_UP.min(served.len())).for_each(|task| task.abort()),
            }
        };
        let connection = connection(stream, peer, Arc::clone(&shared));
        let task = tokio::spawn(async move {
            connection.await;
            drop(place);
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
        // A place is held for one request: whoever keeps connections open must not keep others out.
        .keep_alive(false)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_LIFE, connection).await {
        debug!(%peer, %error, "a connection ended early");
    }
}

fn respond(request: &Request<Incoming>, shared: &AgentHandle) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
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
            "not found; there are /, /metrics, /v1/clock, /healthz and /readyz\n",
        ),
    }
}

/// The page for browsers, a few lines for everybody else.
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
    // What is true now is not true in a second.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The address that was bound, with a host that can be asked from this machine.
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
