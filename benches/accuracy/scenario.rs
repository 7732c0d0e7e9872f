//! The paths and clocks that are measured, and one run of each.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clients::{Agent, Chronyd, OneShot};
use crate::figures::{Run, Sample, Seen};
use crate::namespace::{SERVERS, address};
use crate::path::{Reference, Requests, Server, Way, Wheel};
use crate::support::Folder;

/// How far the servers are ahead of this machine at the start.
const AHEAD: Duration = Duration::from_millis(20);
/// Time between two scrapes.
const SCRAPE: Duration = Duration::from_secs(1);
/// When the outage begins and ends, in shares of the whole length.
pub const OUTAGE: (f64, f64) = (0.35, 0.55);

/// A row of the table.
pub struct Scenario {
    pub name: &'static str,
    pub way: Way,
    /// How much faster the servers' time runs than this machine's raw clock.
    pub ppm: f64,
    /// Is there an outage?
    pub outage: bool,
}

/// The row of the goal about jitter and loss.
pub const JITTER: &str = "jitter 30 ms each way, loss 10 %";
/// The row of the goal about a LAN.
pub const LAN: &str = "round trip 0.3 ms";
/// The row whose chronyd is quoted.
pub const FASTEST: &str = "rate 70,000 ppm";
/// The row that becomes two.
pub const WITH_OUTAGE: &str = "an outage";

pub const SCENARIOS: [Scenario; 12] = [
    Scenario {
        way: Way { jitter: Duration::from_millis(30), loss: 0.1, ..symmetric(10_000) },
        ..steady(JITTER, 10_000, 0.0)
    },
    Scenario {
        way: Way { there: Duration::from_millis(13), ..symmetric(10_000) },
        ..steady("asymmetry: 13 ms there, 5 ms back", 10_000, 0.0)
    },
    steady(LAN, 300, 0.0),
    steady("round trip 20 ms", 20_000, 0.0),
    steady("round trip 150 ms", 150_000, 0.0),
    steady("round trip 300 ms", 300_000, 0.0),
    steady("rate 0 ppm", 5_000, 0.0),
    steady("rate 50 ppm", 5_000, 50.0),
    steady("rate 300 ppm", 5_000, 300.0),
    steady("rate 2,000 ppm", 5_000, 2_000.0),
    steady(FASTEST, 5_000, 70_000.0),
    Scenario { outage: true, ..steady(WITH_OUTAGE, 20_000, 50.0) },
];

const fn steady(name: &'static str, round_trip_micros: u64, ppm: f64) -> Scenario {
    Scenario { name, way: symmetric(round_trip_micros), ppm, outage: false }
}

const fn symmetric(round_trip_micros: u64) -> Way {
    let half = Duration::from_micros(round_trip_micros / 2);
    Way { there: half, back: half, jitter: Duration::ZERO, loss: 0.0 }
}

/// One run of a scenario, under way.
pub struct World {
    scenario: &'static Scenario,
    seed: u64,
    requests: Requests,
    thread: JoinHandle<(Vec<Sample>, Vec<f64>, String)>,
}

impl World {
    pub fn start(
        number: usize,
        scenario: &'static Scenario,
        seed: u64,
        program: &Path,
        folder: &Folder,
        wheel: &Arc<Wheel>,
        length: Duration,
    ) -> Self {
        let reference = Reference::new(AHEAD, scenario.ppm * 1e-6);
        let outage = Arc::new(AtomicBool::new(false));
        let requests = Requests::default();
        for server in 0..SERVERS {
            Server {
                address: address(number, server),
                reference,
                way: scenario.way,
                outage: Arc::clone(&outage),
                requests: Arc::clone(&requests),
                seed: seed * 10_000 + (number * SERVERS + server) as u64,
            }
            .start(wheel);
        }
        let observer = Observer {
            agent: Agent::start(program, number, folder),
            chronyd: Chronyd::start(number, folder),
            one_shot: OneShot::start(number),
            reference,
            outage: scenario.outage.then_some(outage),
        };
        let thread = std::thread::spawn(move || observer.observe(length));
        Self { scenario, seed, requests, thread }
    }

    /// Waits for the end; an error is a panic.
    pub fn finish(self) -> std::thread::Result<Run> {
        let (samples, round_trips, chronyd) = self.thread.join()?;
        let minutes = samples.last().map_or(f64::NAN, |sample| sample.at) / 60.0;
        let rate = |client: usize, servers: usize| {
            self.requests[client].load(Ordering::Relaxed) as f64 / servers as f64 / minutes
        };
        // The one-shot client has one server.
        let requests = [rate(0, SERVERS), rate(1, SERVERS), rate(2, 1)];
        Ok(Run { scenario: self.scenario, seed: self.seed, samples, round_trips, chronyd, requests })
    }
}

struct Observer {
    agent: Agent,
    chronyd: Chronyd,
    one_shot: OneShot,
    reference: Reference,
    outage: Option<Arc<AtomicBool>>,
}

impl Observer {
    fn observe(self, length: Duration) -> (Vec<Sample>, Vec<f64>, String) {
        let started = Instant::now();
        let mut samples = Vec::new();
        while started.elapsed() < length {
            let share = started.elapsed().as_secs_f64() / length.as_secs_f64();
            if let Some(outage) = &self.outage {
                outage.store((OUTAGE.0..OUTAGE.1).contains(&share), Ordering::Relaxed);
            }
            samples.push(self.sample(started.elapsed().as_secs_f64(), share));
            // The next whole second: a late scrape does not delay those after it.
            let due = SCRAPE * (started.elapsed().as_secs() as u32 + 1);
            std::thread::sleep(due.saturating_sub(started.elapsed()));
        }
        let report = self.chronyd.report();
        (samples, self.one_shot.finish(), report)
    }

    fn sample(&self, at: f64, share: f64) -> Sample {
        let before = self.reference.offset();
        let scrape = self.agent.scrape();
        let between = self.reference.offset();
        let chronyd = self.chronyd.offset();
        let after = self.reference.offset();
        Sample {
            at,
            share,
            state: scrape.as_ref().and_then(|scrape| scrape.state),
            agent: scrape.and_then(|scrape| scrape.measured).map(|(offset, bound)| {
                let error = beyond(offset, before, between);
                Seen { error, bound }
            }),
            chronyd: chronyd.map(|offset| beyond(offset, between, after)),
            one_shot: self.one_shot.offset().map(|offset| beyond(offset, after, after)),
        }
    }
}

/// How far an offset is from the truth, which moved from one value to the other while it was asked for.
fn beyond(offset: f64, before: f64, after: f64) -> f64 {
    offset - offset.clamp(before.min(after), before.max(after))
}
