//! One exchange with one NTP server: this client measures, rsntp cross-checks it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rsntp::{AsyncSntpClient, Config};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::os::clock::{Clock, LinuxClock};
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

    /// The same for a pool whose root distance an operator promises.
    #[must_use]
    pub fn with_limits(&self, limits: Limits) -> Self {
        Self { limits, ..self.clone() }
    }

    /// One exchange with one server. Always returns, at most [`LIBRARY_GRACE`] after the time-out.
    pub async fn ask(&self, address: SocketAddr, ask: Ask) -> Answer {
        match ask {
            Ask::Sample => self.sample(address).await.map_or_else(Answer::Rejected, Answer::Sample),
            Ask::CrossCheck => Answer::CrossChecked(self.cross_check(address, &LinuxClock).await),
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
    ///
    /// `machine`: the clocks that rsntp reads by itself. The result is an interval of origins, in which the wall
    /// clock cancels out, so that it can be compared whatever the agent's own clock reads.
    async fn cross_check(&self, address: SocketAddr, machine: &dyn Clock) -> Option<CrossCheck> {
        let sent = machine.read();
        // rsntp panics for times before 1970, which Linux refuses to set, and for its request after 2172. Between
        // this reading and its own there is nothing to wait for.
        if !is_clock_in_range(sent.wall) {
            return None;
        }
        let config = Config::default().bind_address(any_port(address)).timeout(self.limits.max_round_trip);
        let client = AsyncSntpClient::with_config(config);
        let result = timeout(self.limits.max_round_trip + LIBRARY_GRACE, client.synchronize(address)).await;
        let received = machine.read();
        let result = result.ok()?.ok()?;
        let offset = Offset::from_secs_f64(result.clock_offset().as_secs_f64())?;
        let round_trip = Offset::from_secs_f64(result.round_trip_delay().as_secs_f64())?;
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::os::clock::ShiftedClock;
    use crate::sim::behaviour::Behaviour;
    use crate::sim::server::{Server, TimeScale};
    use drift_core::time::{NANOS_PER_SEC, Reading, Wall};

    fn ntp() -> Ntp {
        let minute = Duration::from_secs(60);
        Ntp::new(
            Arc::new(LinuxClock),
            Limits { max_round_trip: minute, max_root_distance: minute, root_distance: None },
        )
    }

    async fn server() -> Server {
        Server::start(TimeScale::new(Offset::ZERO), Behaviour::Honest).await.unwrap()
    }

    #[tokio::test]
    async fn rsntp_is_not_called_with_a_clock_that_it_cannot_handle() {
        let server = server().await;
        let now = LinuxClock.read().wall.as_nanos();
        for (secs, is_handled) in
            [(-1, false), (0, true), (1_795_341_600, true), (4_233_462_143, true), (4_233_462_144, false)]
        {
            let clock = ShiftedClock::default();
            clock.shift(Offset::from_nanos(secs * NANOS_PER_SEC - now));
            let served = server.served();
            let check = ntp().cross_check(server.address(), &clock).await;
            assert_eq!((check.is_some(), server.served() > served), (is_handled, is_handled), "{secs}");
        }
    }

    /// Each reading is ahead of the machine's clock by the next of these; the last stays.
    struct Script(Mutex<Vec<Offset>>);

    impl Clock for Script {
        fn read(&self) -> Reading {
            let mut left = self.0.lock().unwrap();
            let ahead = if left.len() > 1 { left.remove(0) } else { left[0] };
            let now = LinuxClock.read();
            Reading { wall: now.wall.plus(ahead), ..now }
        }
    }

    #[tokio::test]
    async fn cross_checks_during_which_the_clock_was_set_measure_nothing() {
        let server = server().await;
        for (millis, is_valid) in [(0, true), (3_000, false), (-3_000, false)] {
            let ahead = [0, millis].map(|ms| Offset::from_nanos(ms * 1_000_000));
            let clock = Script(Mutex::new(ahead.to_vec()));
            assert_eq!(ntp().cross_check(server.address(), &clock).await.is_some(), is_valid, "{millis} ms");
        }
    }

    #[tokio::test]
    async fn cross_checks_bracket_reference_time() {
        let server = server().await;
        let check = ntp().cross_check(server.address(), &LinuxClock).await.unwrap();
        let truth: Wall = LinuxClock.read().origin();
        let low = truth.plus(Offset::from_nanos(-1_000_000));
        let high = truth.plus(Offset::from_nanos(1_000_000));
        assert!(check.interval.low <= high && low <= check.interval.high, "{check:?} {truth:?}");
    }
}
