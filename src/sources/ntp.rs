//! One exchange with one NTP server: rsntp measures, [`drift_core::ntp::sample`] accepts or rejects.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rsntp::{
    AsyncSntpClient, Config, KissCode, LeapIndicator, ProtocolError, SynchronizationError,
    SynchronizationResult,
};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::os::clock::Clock;
use crate::os::random;
use drift_core::ntp::packet::{Kiss, Leap, NtpTimestamp, read_answer, request};
use drift_core::ntp::reject::RejectReason;
use drift_core::ntp::sample::{Exchange, Limits, Root, Sample, clock_in_range};
use drift_core::ntp::server::{Answer, Ask};
use drift_core::time::Offset;

/// How long after its own time-out rsntp may take until the exchange ends without it.
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
            Ask::Header => self.header(address).await.map(Answer::Header),
            Ask::Exchange(root) => self.exchange(address, root).await.map(Answer::Sample),
        }
        .unwrap_or_else(Answer::Rejected)
    }

    async fn exchange(&self, address: SocketAddr, root: Root) -> Result<Sample, RejectReason> {
        let client = AsyncSntpClient::with_config(
            Config::default().bind_address(any_port(address)).timeout(self.limits.max_round_trip),
        );
        let before = self.clock.read();
        clock_in_range(before)?;
        let result = timeout(self.limits.max_round_trip + LIBRARY_GRACE, client.synchronize(address)).await;
        let after = self.clock.read();
        let result = result.map_err(|_| RejectReason::Timeout)?.map_err(|error| reject_reason(&error))?;
        let mut exchange = to_exchange(&result, before, after)?;
        let ahead = self.clock.ahead_of_machine().as_nanos();
        exchange.offset = Offset::from_nanos(exchange.offset.as_nanos().saturating_sub(ahead));
        Sample::validate(&exchange, root, self.limits)
    }

    async fn header(&self, address: SocketAddr) -> Result<Root, RejectReason> {
        let nonce = NtpTimestamp(random::bits());
        let mut if_timed_out = RejectReason::Timeout;
        let read = async {
            let socket = UdpSocket::bind(any_port(address)).await?;
            socket.connect(address).await?;
            socket.send(&request(nonce)).await?;
            let mut buffer = [0; MAX_ANSWER];
            loop {
                let length = socket.recv(&mut buffer).await?;
                match read_answer(buffer.get(..length).unwrap_or_default(), nonce) {
                    // Not an answer to this request: the right one may still come.
                    Err(RejectReason::WrongOrigin) => if_timed_out = RejectReason::WrongOrigin,
                    other => return Ok(other),
                }
            }
        };
        let answer: Result<std::io::Result<_>, _> = timeout(self.limits.max_round_trip, read).await;
        match answer {
            Ok(Ok(header)) => Root::from_header(&header?, self.clock.read().raw, self.limits),
            Ok(Err(error)) => Err(io_reject_reason(&error)),
            Err(_) => Err(if_timed_out),
        }
    }
}

/// Any free port of the server's address family; rsntp's default is IPv4 only.
fn any_port(server: SocketAddr) -> SocketAddr {
    match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn to_exchange(
    result: &SynchronizationResult,
    before: drift_core::time::Reading,
    after: drift_core::time::Reading,
) -> Result<Exchange, RejectReason> {
    let span = |secs: f64| Offset::from_secs_f64(secs).ok_or(RejectReason::Malformed);
    Ok(Exchange {
        before,
        after,
        offset: span(result.clock_offset().as_secs_f64())?,
        round_trip: span(result.round_trip_delay().as_secs_f64())?,
        stratum: result.stratum(),
        leap: match result.leap_indicator() {
            LeapIndicator::NoWarning => Leap::None,
            LeapIndicator::LastMinuteHas61Seconds => Leap::Insert,
            LeapIndicator::LastMinuteHas59Seconds => Leap::Delete,
            LeapIndicator::AlarmCondition => Leap::Alarm,
        },
    })
}

fn reject_reason(error: &SynchronizationError) -> RejectReason {
    match error {
        SynchronizationError::IOError(error) => io_reject_reason(error),
        SynchronizationError::ProtocolError(error) => match error {
            ProtocolError::KissODeath(KissCode::RateExceeded) => RejectReason::Kiss(Kiss::Rate),
            ProtocolError::KissODeath(KissCode::AccessDenied) => RejectReason::Kiss(Kiss::Deny),
            ProtocolError::KissODeath(_) => RejectReason::Kiss(Kiss::Other),
            ProtocolError::InvalidOriginateTimestamp => RejectReason::WrongOrigin,
            ProtocolError::InvalidTransmitTimestamp => RejectReason::ZeroTimestamp,
            ProtocolError::ServerNotSynchronized => RejectReason::Unsynchronised,
            ProtocolError::PacketIsTooShort
            | ProtocolError::InvalidPacketVersion
            | ProtocolError::InvalidLeapIndicator
            | ProtocolError::InvalidMode
            | ProtocolError::InvalidReferenceIdentifier => RejectReason::Malformed,
        },
    }
}

fn io_reject_reason(error: &std::io::Error) -> RejectReason {
    if error.kind() == ErrorKind::TimedOut { RejectReason::Timeout } else { RejectReason::Unreachable }
}
