//! How far the guest's clock is off, as the host sees it: asked of a program in the guest that is not the agent.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{DEADLINE, wait_as_long, wait_for};

/// Time between two questions.
const EVERY: Duration = Duration::from_millis(20);
/// Answers that took longer are too imprecise: the reading is uncertain by half of it.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Seconds over which the clock's offset now is read: the best of these answers counts.
const NOW: Duration = Duration::from_millis(400);

/// One reading.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When it was taken.
    pub at: Instant,
    /// Seconds, host's time - guest's time, as the agent counts: positive, the guest is behind.
    pub offset: f64,
    /// It may be wrong by so many seconds.
    pub bound: f64,
}

/// Reads the guest's clock all the time, until dropped.
pub struct Truth {
    readings: Arc<Mutex<Vec<Reading>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Truth {
    /// Asks at this UDP port of the host.
    pub fn start(port: u16) -> Self {
        let (readings, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
        socket.connect(("127.0.0.1", port)).expect("an address");
        let (all, end) = (Arc::clone(&readings), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                ask(&socket, |reading| all.lock().unwrap().push(reading));
            }
        });
        Self { readings, ended, thread: Some(thread) }
    }

    /// Readings since then, oldest first.
    pub fn since(&self, since: Instant) -> Vec<Reading> {
        self.readings.lock().unwrap().iter().filter(|r| r.at >= since).copied().collect()
    }

    /// The clock's offset now: the least uncertain of the readings to come.
    pub fn now(&self) -> Reading {
        let since = Instant::now();
        wait_for("the guest's clock", || {
            let readings = self.since(since);
            let enough = readings.last().is_some_and(|r| r.at.duration_since(since) >= NOW);
            readings.into_iter().min_by(|a, b| a.bound.total_cmp(&b.bound)).filter(|_| enough)
        })
    }

    /// Waits for the first reading since then that fits.
    pub fn wait_for(&self, what: &str, since: Instant, fits: impl Fn(f64) -> bool) -> Reading {
        self.wait_as_long(DEADLINE, what, since, fits)
    }

    /// The same for what takes long by itself.
    pub fn wait_as_long(
        &self,
        span: Duration,
        what: &str,
        since: Instant,
        fits: impl Fn(f64) -> bool,
    ) -> Reading {
        wait_as_long(span, what, || self.since(since).into_iter().find(|r| fits(r.offset)))
    }

    /// The largest offset since then that is certain, in seconds.
    pub fn worst(&self, since: Instant) -> f64 {
        self.since(since).iter().map(|r| r.offset.abs() - r.bound).fold(0.0, f64::max)
    }

    /// The first reading since then within `limit` seconds, and within it ever after.
    pub fn settled(&self, since: Instant, limit: f64) -> Option<Reading> {
        let readings = self.since(since);
        let outside = readings.iter().rposition(|r| r.offset.abs() - r.bound > limit);
        readings.get(outside.map_or(0, |at| at + 1)).copied()
    }

    /// The longest time without a reading between the two.
    pub fn widest_gap(&self, since: Instant, until: Instant) -> Duration {
        let times = self.since(since).into_iter().map(|r| r.at).take_while(|at| *at < until);
        let times: Vec<Instant> = std::iter::once(since).chain(times).chain([until]).collect();
        times.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().unwrap_or_default()
    }
}

impl Drop for Truth {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// One question, and the answers that come until the next is due. An answer carries its question: the host's clocks then.
fn ask(socket: &UdpSocket, mut each: impl FnMut(Reading)) {
    let asked = Instant::now();
    // While the guest is stopped, it does not answer.
    let _ = socket.send(&wall_nanos().to_be_bytes());
    while let Some(left) = EVERY.checked_sub(asked.elapsed()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left)).expect("a time-out");
        let mut answer = [0; 64];
        let Ok(length) = socket.recv(&mut answer) else {
            // Time out, or at once when no QEMU holds the port.
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let (at, now) = (Instant::now(), wall_nanos());
        let field =
            |n: usize| answer.get(n * 8..).and_then(|b| b.first_chunk()).map(|b| i64::from_be_bytes(*b));
        let (Some(then), Some(guest), 24) = (field(0), field(1), length) else { continue };
        let trip = Duration::from_nanos(u64::try_from(now - then).unwrap_or(u64::MAX));
        if trip <= ROUND_TRIP {
            let offset = seconds(then + (now - then) / 2 - guest);
            each(Reading {
                at: at.checked_sub(trip / 2).unwrap_or(at),
                offset,
                bound: trip.as_secs_f64() / 2.0,
            });
        }
    }
}

fn wall_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}

#[allow(clippy::cast_precision_loss, reason = "seconds of a difference")]
fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}
