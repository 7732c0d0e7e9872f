//! The network of the simulated world: paths, NTP servers at their ends, and what was exchanged with each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::behaviour::ServerModel;
use super::service::{Moment, Service};
use drift_core::ntp::sample::Sample;
use drift_core::time::{Mono, Offset, Wall, nanos};

/// The agent's address, as servers see it.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// The network path to one server and back.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Shortest delay of a request.
    pub there: Duration,
    /// Shortest delay of an answer. No client can measure a difference between the two.
    pub back: Duration,
    /// Mean of the additional, exponentially distributed delay, by which packets can overtake each other.
    pub jitter: Duration,
    /// Share of the exchanges whose answer is lost, 0 to 1.
    pub loss: f64,
}

/// One NTP server and the path to it.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Clock and behaviour.
    pub model: ServerModel,
    /// The path.
    pub path: Path,
}

/// A server in operation, the path to it, and what was exchanged with it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The server.
    pub service: Service,
    /// The path to it.
    pub path: Path,
    /// The index of the pool whose name has it.
    pub pool: usize,
    /// When it was last asked, on the node's raw clock.
    pub last_asked: Option<Mono>,
    /// True time since the start at which it last gave a wrong time.
    pub last_wrong: Option<Duration>,
    /// The last sample that it gave.
    pub sample: Option<Sample>,
    /// Answers in a row that were lost.
    lost: u8,
}

/// All servers, and which paths are down.
#[derive(Clone, Debug)]
pub struct Network {
    /// The servers by address.
    pub endpoints: BTreeMap<SocketAddr, Endpoint>,
    /// Pools whose servers cannot be reached.
    pub down: BTreeSet<usize>,
    /// At most so many answers of one server are lost in a row.
    pub lost_max: u8,
}

/// What comes back of a request.
#[derive(Clone, Debug, Default)]
pub struct Returned {
    /// How long after the request it comes.
    pub after: Duration,
    /// The packets, in their order.
    pub packets: Vec<Vec<u8>>,
}

impl Network {
    /// The servers of each pool.
    pub fn new(pools: &[Vec<Host>]) -> Self {
        let endpoint = |pool: usize, index: usize, host: &Host| {
            let address = address(pool, index);
            let service = Service::new(host.model, name(address));
            let (last_asked, last_wrong, sample) = (None, None, None);
            let path = host.path;
            (address, Endpoint { service, path, pool, last_asked, last_wrong, sample, lost: 0 })
        };
        let endpoints = pools.iter().enumerate().flat_map(|(pool, hosts)| {
            hosts.iter().enumerate().map(move |(index, host)| endpoint(pool, index, host))
        });
        Self { endpoints: endpoints.collect(), down: BTreeSet::new(), lost_max: u8::MAX }
    }

    /// Sends a request which leaves the node at this reference time, so long after the start. `None`: nothing comes
    /// back.
    pub fn send(
        &mut self,
        address: SocketAddr,
        request: &[u8],
        leaves: Wall,
        elapsed: Duration,
        rng: &mut fastrand::Rng,
    ) -> Option<Returned> {
        let endpoint = self.endpoints.get_mut(&address).filter(|e| !self.down.contains(&e.pool))?;
        let path = endpoint.path;
        let there = path.there + jitter(path, rng);
        let processing = Duration::from_micros(rng.u64(5..200));
        let later = |wall: Wall, span: Duration| wall.plus(Offset::from_nanos(nanos(span)));
        let receive = later(leaves, there);
        let at = Moment { receive, transmit: later(receive, processing), uptime: elapsed + there };
        let packets = endpoint.service.serve(request, CLIENT, at);
        if !endpoint.service.model.is_honest() {
            endpoint.last_wrong = Some(elapsed);
        }
        let back = path.back + jitter(path, rng);
        if rng.f64() < path.loss && endpoint.lost < self.lost_max {
            endpoint.lost = endpoint.lost.saturating_add(1);
            return None;
        }
        endpoint.lost = 0;
        Some(Returned { after: there + processing + back, packets })
    }
}

fn jitter(path: Path, rng: &mut fastrand::Rng) -> Duration {
    path.jitter.mul_f64(-(1.0 - rng.f64()).ln())
}

/// One way to a server of any kind: the shortest delay and jitter.
pub(super) fn one_way(shortest: Duration, path: Path, rng: &mut fastrand::Rng) -> Duration {
    shortest + jitter(path, rng)
}

/// The address of a pool's server.
pub fn address(pool: usize, index: usize) -> SocketAddr {
    let byte = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, byte(pool), byte(index))), 123)
}

/// A number for each server.
fn name(address: SocketAddr) -> u32 {
    match address.ip() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(_) => 0,
    }
}
