//! One exchange with one NTP server: this client measures, rsntp cross-checks it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rsntp::{AsyncSntpClient, Config};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::os::clock::Clock;
use crate::os::random;
use drift_core::ntp::cross_check::{CrossCheck, is_clock_in_range};
use drift_core::ntp::packet::{NtpTimestamp, request};
use drift_core::ntp::reject::RejectReason;
use drift_core::ntp::sample::{Exchange, Limits, Sample};
use drift_core::ntp::server::{Answer, Ask};
use drift_core::time::Offset;

/// How long after its own time-out rsntp may take until the cross-check ends without it.
const LIBRARY_GRACE: Duration = Duration::from_millis(250);
/// An answer has 48 bytes, and extension fields may follow. Longer ones are cut off: only the first 48 bytes
/// are read.
const MAX_ANSWER: usize = 512;

/// Asks NTP servers.
#[derive(Clone)]
pub struct Ntp {
    clock: Arc<dyn Clock>,
    limits: Limits,
}

impl Ntp {
    /// Reads `clock`; `limits.max_round_trip` is also the time-out of an exchange.
    pub fn new(clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self { clock, limits }
    }

    /// One exchange with one server. Always returns, at most [`LIBRARY_GRACE`] after the time-out.
    pub async fn ask(&self, address: SocketAddr, ask: Ask) -> Answer {
        match ask {
            Ask::Sample => self.sample(address).await.map_or_else(Answer::Rejected, Answer::Sample),
            Ask::CrossCheck => Answer::CrossChecked(self.cross_check(address).await),
        }
    }

    /// Asks from a port of its own, with a random number for the time, and listens until the time-out: packets
    /// that are no answer to this request, whoever sent them, do not end it.
    async fn sample(&self, address: SocketAddr) -> Result<Sample, RejectReason> {
        let nonce = NtpTimestamp(random::bits());
        let mut if_timed_out = RejectReason::Timeout;
        let exchange = async {
            let socket = UdpSocket::bind(any_port(address)).await?;
            socket.connect(address).await?;
            let mut buffer = [0; MAX_ANSWER];
            let sent = self.clock.read();
            socket.send(&request(nonce)).await?;
            loop {
                let length = socket.recv(&mut buffer).await?;
                let received = self.clock.read();
                match Exchange::complete(nonce, sent, received, buffer.get(..length).unwrap_or_default()) {
                    Ok(exchange) => return Ok(exchange),
                    Err(reason) => if_timed_out = reason,
                }
            }
        };
        let exchange: Result<std::io::Result<Exchange>, _> =
            timeout(self.limits.max_round_trip, exchange).await;
        match exchange {
            Ok(Ok(exchange)) => exchange.sample(self.limits),
            Ok(Err(error)) => Err(io_reject_reason(&error)),
            Err(_) => Err(if_timed_out),
        }
    }

    /// One exchange by rsntp; `None`: it failed, for whatever reason.
    async fn cross_check(&self, address: SocketAddr) -> Option<CrossCheck> {
        let sent = self.clock.read();
        // rsntp panics before 1970.
        if !is_clock_in_range(sent.wall) {
            return None;
        }
        let config = Config::default().bind_address(any_port(address)).timeout(self.limits.max_round_trip);
        let client = AsyncSntpClient::with_config(config);
        let result = timeout(self.limits.max_round_trip + LIBRARY_GRACE, client.synchronize(address)).await;
        let received = self.clock.read();
        let result = result.ok()?.ok()?;
        let offset = Offset::from_secs_f64(result.clock_offset().as_secs_f64())?;
        let round_trip = Offset::from_secs_f64(result.round_trip_delay().as_secs_f64())?;
        // It reads the machine's clock by itself.
        let ahead = self.clock.ahead_of_machine();
        let offset = Offset::from_nanos(offset.as_nanos().saturating_sub(ahead.as_nanos()));
        CrossCheck::new(sent, received, offset, round_trip)
    }
}

/// Any free port of the server's address family; rsntp's default is IPv4 only.
fn any_port(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn io_reject_reason(error: &std::io::Error) -> RejectReason {
    if error.kind() == ErrorKind::TimedOut { RejectReason::Timeout } else { RejectReason::Unreachable }
}
