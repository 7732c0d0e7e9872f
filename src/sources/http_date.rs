//! Requests the `Date` header of a URL; [`drift_core::http_date`] derives the offset from it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::dns::Resolve;
use crate::config::http_url::HttpUrl;
use crate::os::clock::Clock;
use drift_core::http_date::coarse::{HttpDateError, HttpReading};
use drift_core::http_date::search::{Search, SendPhase};
use drift_core::http_date::{DateSample, parse};
use drift_core::time::Wall;

/// The time-out of connecting, and of the request after it.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer with a longer head is rejected; hyper has no smaller limit.
const MAX_HEAD: usize = 8 * 1_024;
/// Answers to narrow an offset: after six, half of the interval is 1/64 s, far below the possible age of a
/// header.
const ANSWERS_WANTED: u32 = 6;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;

/// Asks HTTP servers for their `Date`.
#[derive(Clone)]
pub struct HttpDate<R> {
    clock: Arc<dyn Clock>,
    resolver: R,
}

impl<R: Resolve> HttpDate<R> {
    /// Reads `clock`, resolves names by `resolver`.
    pub fn new(clock: Arc<dyn Clock>, resolver: R) -> Self {
        Self { clock, resolver }
    }

    /// One request, sent at this phase of a second of the raw clock; at once without one.
    pub async fn ask(&self, url: &HttpUrl, phase: Option<SendPhase>) -> Result<DateSample, HttpDateError> {
        self.ask_at(&mut self.resolve(url).await?, url, phase).await
    }

    async fn resolve(&self, url: &HttpUrl) -> Result<Vec<SocketAddr>, HttpDateError> {
        let resolved = self.resolver.resolve(url.target().clone()).await;
        resolved.map(|resolved| resolved.addresses).map_err(HttpDateError::Unresolved)
    }

    /// Follows no redirect and reads no body.
    async fn ask_at(
        &self,
        at: &mut Vec<SocketAddr>,
        url: &HttpUrl,
        phase: Option<SendPhase>,
    ) -> Result<DateSample, HttpDateError> {
        let stream = connect(at).await?;
        // The connection comes first, so that the request is sent at the right phase.
        if let Some(phase) = phase {
            sleep(phase.wait(self.clock.read().raw)).await;
        }
        let request = request(url)?;
        let sent = self.clock.read().raw;
        let headers = in_time(exchange(stream, request)).await??;
        let received = self.clock.read().raw;
        Ok(DateSample { date: date(&headers)?, sent, received })
    }

    /// Several requests, each at the phase that halves the interval of the offset; the result so far after
    /// `limit`.
    pub async fn narrow(&self, url: &HttpUrl, limit: Duration) -> HttpReading {
        let mut search = Search::default();
        let asking = async {
            let mut at = self.resolve(url).await?;
            while search.answers() < ANSWERS_WANTED {
                let DateSample { date, sent, received } =
                    self.ask_at(&mut at, url, search.send_phase()).await?;
                search.handle_answer(date, sent, received).map_err(|_| HttpDateError::Contradiction)?;
            }
            Ok(())
        };
        let rejected = timeout(limit, asking).await.unwrap_or(Err(HttpDateError::TimedOut)).err();
        let measured = search.measured(self.clock.read());
        // The limit, not the server, ended the search when there is a measurement already.
        let rejected = rejected.filter(|error| measured.is_none() || *error != HttpDateError::TimedOut);
        HttpReading { source: url.source(), measured, answers: search.answers(), rejected }
    }
}

/// Connects to the first address that answers, and moves it to the front for the next call.
///
/// Each address has an equal share of [`EXCHANGE_TIMEOUT`], so that one that does not answer leaves time for
/// the others.
async fn connect(at: &mut Vec<SocketAddr>) -> Result<TcpStream, HttpDateError> {
    at.truncate(MAX_ADDRESSES);
    let share = EXCHANGE_TIMEOUT / u32::try_from(at.len()).unwrap_or(1).max(1);
    let mut error = HttpDateError::Unreachable("the name has no address".to_owned());
    for (index, address) in at.iter().enumerate() {
        error = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                at.swap(0, index);
                return Ok(stream);
            }
            Ok(Err(refused)) => HttpDateError::Unreachable(refused.to_string()),
            Err(_) => HttpDateError::TimedOut,
        };
    }
    Err(error)
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, HttpDateError> {
    timeout(EXCHANGE_TIMEOUT, work).await.map_err(|_| HttpDateError::TimedOut)
}

fn request(url: &HttpUrl) -> Result<Request<Empty<Bytes>>, HttpDateError> {
    Request::builder()
        .method(Method::HEAD)
        .uri(url.path())
        .header(header::HOST, url.host())
        .header(header::USER_AGENT, concat!("drift-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::CACHE_CONTROL, "no-cache")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|_| HttpDateError::NotHttp)
}

/// The head of the answer, of any status: redirects and errors have a date, too.
async fn exchange(stream: TcpStream, request: Request<Empty<Bytes>>) -> Result<HeaderMap, HttpDateError> {
    // The request is one small segment; Nagle's algorithm would only delay it.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| reason(&e))?;
    let answer = Box::pin(sender.send_request(request));
    let answer = match select(answer, Box::pin(connection)).await {
        Either::Left((answer, _)) => answer,
        // The connection has ended, so the answer is complete or will not come.
        Either::Right((_, answer)) => answer.await,
    };
    answer.map(|answer| answer.headers().clone()).map_err(|e| reason(&e))
}

fn reason(error: &hyper::Error) -> HttpDateError {
    if error.is_parse_too_large() {
        HttpDateError::HeadTooLong
    } else if error.is_parse() {
        HttpDateError::NotHttp
    } else {
        HttpDateError::Unreachable("it was closed without an answer".to_owned())
    }
}

fn date(headers: &HeaderMap) -> Result<Wall, HttpDateError> {
    if headers.contains_key(header::AGE) {
        return Err(HttpDateError::FromACache);
    }
    let mut dates = headers.get_all(header::DATE).iter();
    let first = dates.next().ok_or(HttpDateError::NoDate)?;
    let read = first.to_str().ok().and_then(parse).filter(|_| dates.next().is_none());
    read.ok_or(HttpDateError::UnreadableDate)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn connect_tries_the_other_addresses_when_one_does_not_answer() {
        // A listen queue of one that is full: the kernel drops further connections, as a firewall does.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(ANY).unwrap();
        let blocked = socket.listen(0).unwrap();
        let blocked_at = blocked.local_addr().unwrap();
        let _first = TcpStream::connect(blocked_at).await.unwrap();

        let open = TcpListener::bind(ANY).await.unwrap();
        let open_at = open.local_addr().unwrap();
        let mut both = vec![blocked_at, open_at];
        let connected = connect(&mut both).await.unwrap();
        assert_eq!(connected.peer_addr().unwrap(), open_at);
        assert_eq!(both, [open_at, blocked_at], "the address that answered is tried first next time");
        assert_eq!(connect(&mut vec![blocked_at]).await.err(), Some(HttpDateError::TimedOut), "no answer");

        drop(open);
        let rejected = connect(&mut vec![open_at]).await.err();
        assert!(matches!(rejected, Some(HttpDateError::Unreachable(_))), "{rejected:?}");
        assert!(matches!(connect(&mut vec![]).await.err(), Some(HttpDateError::Unreachable(_))));
    }
}
