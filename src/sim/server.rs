//! An NTP server on a loopback socket whose behaviour can be changed while it runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::behaviour::{Behaviour, ServerModel};
use super::manners::Limit;
use super::service::{Moment, Service};
use crate::os::clock::{Clock, LinuxClock};
use drift_core::time::{Mono, Offset, Ppb, Wall};

/// Longer requests are cut off.
const MAX_REQUEST: usize = 512;

/// The time that one or more servers report: this machine's time plus an offset, with a frequency error if
/// wanted.
#[derive(Clone, Debug)]
pub struct TimeScale(Arc<Mutex<Shift>>);

#[derive(Clone, Copy, Debug)]
struct Shift {
    from: Mono,
    offset: Offset,
    rate: Ppb,
}

impl TimeScale {
    /// This machine's time plus `offset`.
    pub fn new(offset: Offset) -> Self {
        Self(Arc::new(Mutex::new(Shift { from: LinuxClock.read().raw, offset, rate: Ppb(0) })))
    }

    /// Jumps to this machine's time plus `offset`, without a frequency error.
    pub fn set(&self, offset: Offset) {
        *self.lock() = Shift { from: LinuxClock.read().raw, offset, rate: Ppb(0) };
    }

    /// Has this frequency error from now on, starting at its present offset.
    pub fn drift(&self, rate: Ppb) {
        let now = LinuxClock.read().raw;
        let mut shift = self.lock();
        *shift = Shift { from: now, offset: shift.at(now), rate };
    }

    /// The present offset to this machine's time.
    pub fn offset(&self) -> Offset {
        self.lock().at(LinuxClock.read().raw)
    }

    fn now(&self) -> (Wall, Mono) {
        let now = LinuxClock.read();
        (now.wall.plus(self.lock().at(now.raw)), now.raw)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shift> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shift {
    fn at(&self, now: Mono) -> Offset {
        Offset::from_nanos(self.offset.as_nanos().saturating_add(self.rate.over(now.since(self.from))))
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<ServerState>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct ServerState {
    service: Service,
    delay: Duration,
    /// When each request arrived, since the start.
    arrivals: Vec<Duration>,
}

impl Server {
    /// Starts on a free port of 127.0.0.1.
    pub async fn start(time: TimeScale, behaviour: Behaviour) -> std::io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), time, behaviour).await
    }

    /// Starts on this address.
    pub async fn start_at(
        address: SocketAddr,
        time: TimeScale,
        behaviour: Behaviour,
    ) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let address = socket.local_addr()?;
        let service = Service::new(ServerModel::new(behaviour), address.port().into());
        let (delay, arrivals) = (Duration::ZERO, Vec::new());
        let state = Arc::new(Mutex::new(ServerState { service, delay, arrivals }));
        let task = tokio::spawn(serve(socket, time, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the behaviour.
    pub fn behave(&self, behaviour: Behaviour) {
        lock(&self.state).service.model.behaviour = behaviour;
    }

    /// Limits each client, by its address, from now on.
    pub fn limit(&self, limit: Limit) {
        lock(&self.state).service.model.limit = limit;
    }

    /// Delays each answer by this, so that the path is asymmetric.
    pub fn delay(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }

    /// Requests since the start.
    pub fn served(&self) -> u64 {
        lock(&self.state).service.served()
    }

    /// When each request arrived, since the start.
    pub fn arrivals(&self) -> Vec<Duration> {
        lock(&self.state).arrivals.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<ServerState>) -> std::sync::MutexGuard<'_, ServerState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(socket: UdpSocket, time: TimeScale, state: Arc<Mutex<ServerState>>) {
    let (_, started) = time.now();
    let mut buffer = [0; MAX_REQUEST];
    loop {
        // An error here comes from an earlier answer (port closed) and does not concern the next request.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let (receive, now) = time.now();
        let request = buffer.get(..length).unwrap_or_default();
        let (answers, delay) = {
            let mut state = lock(&state);
            let uptime = now.since(started);
            state.arrivals.push(uptime);
            let at = Moment { receive, transmit: time.now().0, uptime };
            (state.service.serve(request, client.ip(), at), state.delay)
        };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        for answer in answers {
            let _ = socket.send_to(&answer, client).await;
        }
    }
}
