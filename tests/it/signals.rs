//! The signals of this machine under tokio, as the agent observes them. A measurement of reads and CPU time
//! is run by hand: `cargo test --release --test it signals:: -- --ignored --nocapture`

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use drift_agent::agent::Agent;
use drift_agent::config::Settings;
use drift_agent::config::pool::PoolName;
use drift_agent::config::raw::RawConfig;
use drift_agent::os::clock::{Clock, LinuxClock};
use drift_agent::os::signals::waker::SignalWakeup;
use drift_agent::os::signals::{LinuxSignals, Paths, Signals};
use drift_agent::sources::dns::Resolve;
use drift_core::io::{Effect, Input, LogEvent};
use drift_core::ntp::pool::Resolution;
use drift_core::resume::{Class, Detector, Observation, RtcRead};
use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Reading};
use tokio::time::{sleep, timeout};

/// The signals of this machine; where it has no RTC, with one that shows the wall clock's second, at the cost
/// of reading a file.
struct WithRtc {
    signals: LinuxSignals,
    replace: bool,
}

impl WithRtc {
    fn open() -> Self {
        let paths = Paths::default();
        let replace = !paths.rtc.exists();
        let folder = std::env::temp_dir().join(format!("drift-agent-signals-{}", std::process::id()));
        if !replace {
            return Self { signals: LinuxSignals::open(Arc::new(LinuxClock), &paths), replace };
        }
        std::fs::create_dir_all(folder.join("rtc0")).expect("a folder");
        std::fs::write(folder.join("rtc0/since_epoch"), "1795341600\n").expect("a file");
        let paths = Paths { rtc: folder.clone(), ..paths };
        let signals = LinuxSignals::open(Arc::new(LinuxClock), &paths);
        // The file stays open.
        std::fs::remove_dir_all(folder).expect("the folder");
        Self { signals, replace }
    }
}

impl Signals for WithRtc {
    fn observe(&mut self, due: Mono) -> Observation {
        let seen = self.signals.observe(due);
        if !self.replace {
            return seen;
        }
        let wall = LinuxClock.read().wall.as_nanos();
        let now = LinuxClock.read().raw;
        let rtc =
            seen.rtc.map(|read| RtcRead { seconds: wall.div_euclid(NANOS_PER_SEC), after: now, ..read });
        Observation { rtc, ..seen }
    }

    fn waker(&self) -> Option<BorrowedFd<'_>> {
        self.signals.waker()
    }
}

/// Observes for `span`, as the agent does, and prints the detections; returns the number of observations.
async fn observe_for(span: Duration) -> u32 {
    let mut signals = WithRtc::open();
    let waker = SignalWakeup::new(&signals);
    let mut detector = Detector::new();
    let mut observations = 0;
    let start = Instant::now();
    while start.elapsed() < span {
        let now = LinuxClock.read().raw;
        let idle = detector.poll_timeout(now);
        tokio::select! {
            () = waker.woken() => {}
            () = sleep(idle) => {}
        }
        if let Some(detection) = detector.handle_observation(&signals.observe(now.plus(idle))) {
            let disruption = detection.disruption;
            println!(
                "{:9.3} s {} by {}: {disruption}",
                start.elapsed().as_secs_f64(),
                disruption.class().label(),
                disruption.signal().label()
            );
        }
        observations += 1;
    }
    observations
}

#[tokio::test]
async fn clock_set_notifications_can_be_awaited_and_do_not_come_without_a_step() {
    let signals = LinuxSignals::open(Arc::new(LinuxClock), &Paths::default());
    assert!(signals.waker().is_some());
    let waker = SignalWakeup::new(&signals);
    assert!(timeout(Duration::from_millis(50), waker.woken()).await.is_err(), "no process has set the clock");
}

/// The machine's clocks, ahead by the time of a stall that a test made up.
#[derive(Default)]
struct StallingClock(AtomicI64);

impl Clock for StallingClock {
    fn read(&self) -> Reading {
        let ahead = self.0.load(Ordering::Relaxed);
        let now = LinuxClock.read();
        Reading {
            wall: now.wall.plus(Offset::from_nanos(ahead)),
            raw: Mono::from_nanos(now.raw.as_nanos() + ahead),
            ..now
        }
    }
}

/// No pool has an address, so no server is asked.
#[derive(Clone)]
struct NoAddresses;

impl Resolve for NoAddresses {
    async fn resolve(&self, _: PoolName) -> Result<Resolution, String> {
        Err("no address".to_owned())
    }
}

#[tokio::test]
async fn stalls_are_detected_though_inputs_wait_for_the_loop() {
    let settings = Settings::new(RawConfig::default(), RawConfig::default()).expect("the defaults");
    let clock = Arc::new(StallingClock::default());
    let none = || "/nonexistent".into();
    let paths = Paths { rtc: none(), proc: none(), vmclock: none(), clockbound: none(), clocksource: none() };
    let signals = LinuxSignals::open(clock.clone(), &paths);
    let mut agent = Agent::new(&settings, clock.clone(), NoAddresses, None).with_signals(Box::new(signals));
    let (inputs, mut detected) = (agent.inputs(), Vec::new());
    let (found, mut is_found) = tokio::sync::watch::channel(false);
    let mut has_stalled = false;
    let end = async {
        timeout(Duration::from_secs(60), is_found.wait_for(|found| *found))
            .await
            .expect("a stall")
            .expect("open");
    };
    let run = agent.run(end, |effect| {
        if !std::mem::replace(&mut has_stalled, true) {
            // The stall comes while effects are carried out, and an answer arrives in it.
            clock.0.store(10 * NANOS_PER_SEC, Ordering::Relaxed);
            inputs.try_send(Input::EventSkipped).expect("room in the queue");
        }
        if let Effect::Log(LogEvent::Disrupted(detection)) = effect {
            detected.push(detection.disruption.class());
            found.send_replace(true);
        }
    });
    run.await;
    assert_eq!(detected, [Class::Stall]);
}

#[test]
#[ignore = "measures for a minute; run by hand"]
fn detector_reads_and_cpu_time_of_a_minute_are_printed() {
    let seconds = std::env::var("SIGNALS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    let span = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let before = cpu();
    let observations = runtime.block_on(observe_for(span));
    let spent = cpu().saturating_sub(before);
    let share = spent.as_secs_f64() / span.as_secs_f64();
    println!("{observations} observations in {span:?}, {spent:?} of CPU: {:.4} % of one core", share * 100.0);
}

/// CPU time of this thread, by the scheduler's own count.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    let nanos = text.split_whitespace().next().and_then(|n| n.parse().ok()).expect("nanoseconds");
    Duration::from_nanos(nanos)
}
