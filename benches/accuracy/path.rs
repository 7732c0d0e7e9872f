//! NTP servers with a known time, each behind a path that delays and loses packets.
//!
//! The path is part of the server's socket: a request is held for the way out before the server stamps it, and the answer for the way
//! back. tokio's timers count in milliseconds, which is too coarse for that.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use drift_agent::os::clock::{Clock, LinuxClock};

use crate::namespace::client_of;

/// From 1900, where NTP's seconds begin, to 1970.
const NTP_EPOCH: i64 = 2_208_988_800;
const NANOS_PER_SEC: i64 = 1_000_000_000;
/// In NTP's 16.16 bits of a second.
const ROOT_DISPERSION: u32 = 4;
/// What a server reports as its possible error; its root delay is 0.
pub const ROOT_DISTANCE: f64 = ROOT_DISPERSION as f64 / 65_536.0;

/// What happens to packets between the clients and a server.
#[derive(Clone, Copy)]
pub struct Way {
    /// How long a request takes at least.
    pub there: Duration,
    /// How long an answer takes at least.
    pub back: Duration,
    /// What each packet takes longer: exponentially distributed, with this mean.
    pub jitter: Duration,
    /// The share of packets that is lost, of requests and of answers.
    pub loss: f64,
}

/// Reference time, which runs by this machine's raw clock and a rate error.
#[derive(Clone, Copy)]
pub struct Reference {
    raw: i64,
    time: i64,
    rate: f64,
}

impl Reference {
    /// Ahead of this machine's clock by `offset` now, and faster by `rate` (a ratio).
    pub fn new(offset: Duration, rate: f64) -> Self {
        let now = LinuxClock.read();
        let offset = i64::try_from(offset.as_nanos()).expect("a short offset");
        Self { raw: now.raw.as_nanos(), time: now.wall.as_nanos() + offset, rate }
    }

    fn at(&self, raw: i64) -> i64 {
        let elapsed = raw - self.raw;
        self.time + elapsed + (elapsed as f64 * self.rate).round() as i64
    }

    fn now(&self) -> i64 {
        self.at(LinuxClock.read().raw.as_nanos())
    }

    /// The true offset of this machine's clock now, in seconds; positive: the machine is behind.
    pub fn offset(&self) -> f64 {
        let now = LinuxClock.read();
        (self.at(now.raw.as_nanos()) - now.wall.as_nanos()) as f64 / 1e9
    }
}

type Task = Box<dyn FnOnce() + Send>;

/// Runs tasks on time, on a thread of its own.
pub struct Wheel {
    queue: Mutex<Queue>,
    added: Condvar,
}

#[derive(Default)]
struct Queue {
    /// By the instant when they are due; the number keeps two of one instant apart.
    tasks: BTreeMap<(Instant, u64), Task>,
    number: u64,
    lateness: Vec<f64>,
}

impl Wheel {
    pub fn start() -> Arc<Self> {
        let wheel = Arc::new(Self { queue: Mutex::default(), added: Condvar::new() });
        let turning = Arc::clone(&wheel);
        std::thread::spawn(move || {
            // The kernel may otherwise end each wait 50 µs late.
            rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).expect("a thread of ours");
            turning.turn();
        });
        wheel
    }

    fn at(&self, due: Instant, task: Task) {
        let mut queue = self.queue.lock().unwrap();
        queue.number += 1;
        let number = queue.number;
        queue.tasks.insert((due, number), task);
        self.added.notify_one();
    }

    fn turn(&self) {
        let mut queue = self.queue.lock().unwrap();
        loop {
            let (due, now) = (queue.tasks.keys().next().map(|(due, _)| *due), Instant::now());
            queue = match due {
                None => self.added.wait(queue).unwrap(),
                Some(due) if due > now => self.added.wait_timeout(queue, due - now).unwrap().0,
                Some(due) => {
                    let (_, task) = queue.tasks.pop_first().expect("it is due");
                    queue.lateness.push((now - due).as_secs_f64());
                    drop(queue);
                    task();
                    self.queue.lock().unwrap()
                }
            };
        }
    }

    /// How late each task was, in seconds.
    pub fn lateness(&self) -> Vec<f64> {
        self.queue.lock().unwrap().lateness.clone()
    }
}

/// The agent, chronyd, and the one-shot client.
pub const CLIENTS: usize = 3;
/// How many requests of each have reached the servers of a world.
pub type Requests = Arc<[AtomicU64; CLIENTS]>;

/// One server and its path.
pub struct Server {
    pub address: Ipv4Addr,
    pub reference: Reference,
    pub way: Way,
    /// While it is set, no packet passes.
    pub outage: Arc<AtomicBool>,
    pub requests: Requests,
    pub seed: u64,
}

impl Server {
    /// Serves until the process ends.
    pub fn start(self, wheel: &Arc<Wheel>) {
        let socket = Arc::new(UdpSocket::bind((self.address, 123)).expect("a port of our own"));
        let wheel = Arc::clone(wheel);
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        thread.spawn(move || self.serve(&socket, &wheel)).expect("a thread");
    }

    fn serve(self, socket: &Arc<UdpSocket>, wheel: &Arc<Wheel>) {
        let mut random = fastrand::Rng::with_seed(self.seed);
        loop {
            let mut request = [0; 48];
            // An error here comes from an earlier answer (port closed) and does not concern the next request.
            let Ok((length, client)) = socket.recv_from(&mut request) else { continue };
            let now = Instant::now();
            let [there, back] = [self.way.there, self.way.back].map(|least| self.passes(least, &mut random));
            let (SocketAddr::V4(from), true) = (client, length == request.len()) else { continue };
            self.requests[client_of(*from.ip())].fetch_add(1, Ordering::Relaxed);
            let Some(there) = there else { continue };
            let (reference, address, outage) = (self.reference, self.address, Arc::clone(&self.outage));
            let (socket, next) = (Arc::clone(socket), Arc::clone(wheel));
            let arrive = move || {
                let answer = answer(&request, reference, address);
                let Some(back) = back else { return };
                let leave = move || send(&socket, &answer, client, &outage);
                next.at(Instant::now() + back, Box::new(leave));
            };
            wheel.at(now + there, Box::new(arrive));
        }
    }

    /// How long a packet takes; `None`: it is lost.
    fn passes(&self, least: Duration, random: &mut fastrand::Rng) -> Option<Duration> {
        let (lost, jitter) = (random.f64() < self.way.loss, -(1.0 - random.f64()).ln());
        let cut = self.outage.load(Ordering::Relaxed);
        (!lost && !cut).then(|| least + self.way.jitter.mul_f64(jitter))
    }
}

fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr, outage: &AtomicBool) {
    if !outage.load(Ordering::Relaxed) {
        // The client may have given up.
        let _ = socket.send_to(answer, client);
    }
}

/// The answer of a primary server that reports its time correctly (RFC 5905, section 7.3).
fn answer(request: &[u8; 48], reference: Reference, address: Ipv4Addr) -> [u8; 48] {
    let now = reference.now();
    // The last update of its own clock: every 16 s, at an instant of its own.
    let own = i64::from(address.octets()[3]) * 1_234_567_891;
    let updated = (now - own).div_euclid(16 * NANOS_PER_SEC) * 16 * NANOS_PER_SEC + own;
    let mut answer = [0; 48];
    // No leap second, the version of the request, a server.
    answer[0] = (request[0] & 0b0011_1000) | 4;
    // Stratum, poll, and a precision of 2^-24 s.
    answer[1..4].copy_from_slice(&[1, request[2], 0xe8]);
    answer[8..12].copy_from_slice(&ROOT_DISPERSION.to_be_bytes());
    answer[12..16].copy_from_slice(format!("REF{}", address.octets()[3]).as_bytes());
    answer[16..24].copy_from_slice(&stamp(updated));
    answer[24..32].copy_from_slice(&request[40..48]);
    answer[32..40].copy_from_slice(&stamp(now));
    answer[40..48].copy_from_slice(&stamp(now));
    answer
}

/// Nanoseconds since 1970 as a timestamp of NTP.
pub fn stamp(nanos: i64) -> [u8; 8] {
    let seconds = nanos.div_euclid(NANOS_PER_SEC) + NTP_EPOCH;
    let fraction = ((nanos.rem_euclid(NANOS_PER_SEC) as u64) << 32) / NANOS_PER_SEC as u64;
    (((seconds as u64) << 32) | fraction).to_be_bytes()
}

/// A timestamp of NTP as nanoseconds since 1970.
pub fn nanos(stamp: &[u8]) -> i64 {
    let stamp = u64::from_be_bytes(stamp.try_into().expect("eight bytes"));
    let fraction = ((stamp & 0xffff_ffff) * NANOS_PER_SEC as u64 + (1 << 31)) >> 32;
    ((stamp >> 32).cast_signed() - NTP_EPOCH) * NANOS_PER_SEC + fraction.cast_signed()
}
