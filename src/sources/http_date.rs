//! The `Date` header of one HTTP answer; [`drift_core::http_date`] judges.

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

/// How long a connection may take, and then an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// A head that is longer is refused; hyper takes no smaller limit.
const LONGEST_HEAD: usize = 8 * 1_024;
/// After so many answers half of what is still open is a 64th of a second: far less than a header may be old.
const ANSWERS: u32 = 6;
/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 4;

/// Asks servers for their `Date`.
#[derive(Clone)]
pub struct HttpDate<R> {
    clock: Arc<dyn Clock>,
    resolver: R,
}

impl<R: Resolve> HttpDate<R> {
    /// With this clock and this resolver.
    pub fn new(clock: Arc<dyn Clock>, resolver: R) -> Self {
        Self { clock, resolver }
    }

    /// One request, sent when `aim` says.
    pub async fn ask(&self, url: &HttpUrl, aim: Option<SendPhase>) -> Result<DateSample, HttpDateError> {
        self.ask_at(&mut self.resolve(url).await?, url, aim).await
    }

    async fn resolve(&self, url: &HttpUrl) -> Result<Vec<SocketAddr>, HttpDateError> {
        let resolved = self.resolver.resolve(url.target().clone()).await;
        resolved.map(|resolved| resolved.addresses).map_err(HttpDateError::Unresolved)
    }

    /// It is never redirected, and brings no body.
    async fn ask_at(
        &self,
        at: &mut Vec<SocketAddr>,
        url: &HttpUrl,
        aim: Option<SendPhase>,
    ) -> Result<DateSample, HttpDateError> {
        let stream = connect(at).await?;
        // The connection first, so that the request leaves when it should.
        if let Some(aim) = aim {
            sleep(aim.wait(self.clock.read().raw)).await;
        }
        let request = request(url)?;
        let sent = self.clock.read().raw;
        let headers = in_time(exchange(stream, request)).await??;
        let received = self.clock.read().raw;
        Ok(DateSample { date: date(&headers)?, sent, received })
    }

    /// Several requests, each where it halves what is still open; whatever there is when `until` has passed.
    pub async fn narrow(&self, url: &HttpUrl, until: Duration) -> HttpReading {
        let mut search = Search::default();
        let asking = async {
            let mut at = self.resolve(url).await?;
            while search.answers() < ANSWERS {
                let told = self.ask_at(&mut at, url, search.aim()).await?;
                search.on(told.date, told.sent, told.received).map_err(|_| HttpDateError::Contradiction)?;
            }
            Ok(())
        };
        let rejected = timeout(until, asking).await.unwrap_or(Err(HttpDateError::TimedOut)).err();
        let measured = search.measured(self.clock.read());
        // That there was no time for one more is no fault of the server.
        let rejected = rejected.filter(|why| measured.is_none() || *why != HttpDateError::TimedOut);
        HttpReading { site: url.site(), measured, answers: search.answers(), rejected }
    }
}

/// To the first address that answers, which is the first to be tried from then on. Each has its share of the time, so that one that is
/// dead does not hide the others.
async fn connect(at: &mut Vec<SocketAddr>) -> Result<TcpStream, HttpDateError> {
    at.truncate(MOST_ADDRESSES);
    let share = PATIENCE / u32::try_from(at.len()).unwrap_or(1).max(1);
    let mut why = HttpDateError::Unreachable("the name has no address".to_owned());
    for (index, address) in at.iter().enumerate() {
        why = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                at.swap(0, index);
                return Ok(stream);
            }
            Ok(Err(error)) => HttpDateError::Unreachable(error.to_string()),
            Err(_) => HttpDateError::TimedOut,
        };
    }
    Err(why)
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, HttpDateError> {
    timeout(PATIENCE, work).await.map_err(|_| HttpDateError::TimedOut)
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

/// The head of the answer, whatever its status: a redirect and an error have a date too.
async fn exchange(stream: TcpStream, request: Request<Empty<Bytes>>) -> Result<HeaderMap, HttpDateError> {
    // What is written is one small head; waiting for more would only make it late.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(LONGEST_HEAD);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| reason(&e))?;
    let answer = Box::pin(sender.send_request(request));
    let answer = match select(answer, Box::pin(connection)).await {
        Either::Left((answer, _)) => answer,
        // The connection is over, and with it the answer: it is there, or will not come.
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
    async fn an_address_that_is_dead_does_not_hide_the_others() {
        // A queue of one that is full: the kernel drops whoever comes next, as a firewall does.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(ANY).unwrap();
        let dead = socket.listen(0).unwrap();
        let dead_at = dead.local_addr().unwrap();
        let _first = TcpStream::connect(dead_at).await.unwrap();

        let live = TcpListener::bind(ANY).await.unwrap();
        let live_at = live.local_addr().unwrap();
        let mut both = vec![dead_at, live_at];
        let connected = connect(&mut both).await.unwrap();
        assert_eq!(connected.peer_addr().unwrap(), live_at);
        assert_eq!(both, [live_at, dead_at], "the next time it is the first");
        assert_eq!(connect(&mut vec![dead_at]).await.err(), Some(HttpDateError::TimedOut), "it is dead");

        drop(live);
        let rejected = connect(&mut vec![live_at]).await.err();
        assert!(matches!(rejected, Some(HttpDateError::Unreachable(_))), "{rejected:?}");
        assert!(matches!(connect(&mut vec![]).await.err(), Some(HttpDateError::Unreachable(_))));
    }
}
