//! How soon the clock of a paused machine is detected to be wrong, and corrected: in virtual machines, by the host's clock.
//! `make bench-resume` runs it and writes the tables in benches/RESUME.md.
#![allow(clippy::disallowed_methods, reason = "it measures time")]
#![allow(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that cannot go on ends; clippy knows only tests by themselves"
)]

#[path = "../tests/it/support/guest/mod.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod guest;
#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod support;

use drift_core::time::Offset;
use std::path::Path;
use std::time::{Duration, Instant};

use drift_agent::sim::behaviour::Behaviour;
use guest::scenario::{GuestScenario, NEAR, Pools, Seen};
use guest::{AMD, Daemon, Guest, Spec};

const SECOND: Duration = Duration::from_secs(1);
/// Runs of the first row.
const RUNS: usize = 10;
/// How long a time daemon has disciplined the clock before the pause.
const SETTLED: Duration = Duration::from_secs(300);
/// The longest wait: timesyncd polls every 2048 s.
const PATIENCE: Duration = Duration::from_secs(2_400);
const KERNEL: &str = "--step-mode kernel";

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    // The two daemons take long and do nothing most of the time.
    let alone =
        [Daemon::Chrony, Daemon::Timesyncd].map(|daemon| std::thread::spawn(move || daemon_alone(daemon)));
    let agent = [first_row(), others()].concat();
    let mut alone: Vec<String> = alone.into_iter().map(|daemon| daemon.join().expect("measured")).collect();
    alone.push(side_by_side(&agent));
    let (agent, alone) = (rows(&agent), alone.join("\n"));
    println!("{agent}\n\n{alone}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/RESUME.md");
    std::fs::write(&path, document(&agent, &alone)).expect("benches/RESUME.md");
}

/// A disruption of the machine, and what was observed; more than one observation where it was repeated.
type Row = (&'static str, Vec<Seen>);

fn first_row() -> Vec<Row> {
    let runs = (0..RUNS).map(|_| {
        let mut scenario = GuestScenario::new(Spec::new("bench"), KERNEL);
        let since = scenario.guest.pause(20 * SECOND);
        scenario.stepped(since)
    });
    vec![(AGENT, runs.collect())]
}

fn others() -> Vec<Row> {
    let spec = || Spec::new("bench");
    let hpet = Spec { kernel_options: "clocksource=hpet", ..spec() };
    let chrony = Spec { daemon: Daemon::Chrony, ..spec() };
    let amd = || Spec { vendor: AMD, ..spec() };
    let ten_seconds_off = Behaviour::Offset(Offset::from_nanos(10_000_000_000));
    vec![
        put_right("`stop` 2 s, `cont`", spec(), KERNEL, |guest| guest.pause(2 * SECOND)),
        put_right("`stop` 0.5 s, `cont`", spec(), KERNEL, |guest| guest.pause(SECOND / 2)),
        put_right("`stop` 20 s, `cont`; an AMD processor", amd(), KERNEL, |guest| guest.pause(20 * SECOND)),
        put_right("`stop` 0.5 s, `cont`; an AMD processor", amd(), KERNEL, |guest| guest.pause(SECOND / 2)),
        put_right("saved, restored 8 s later in a new QEMU", spec(), KERNEL, |guest| {
            guest.save_and_restore(8 * SECOND)
        }),
        put_right("`loadvm` 12 s after `savevm` (hpet)", hpet, KERNEL, |guest| {
            guest.snapshot_and_load(12 * SECOND)
        }),
        put_right(
            "suspended to RAM for 12 s",
            spec(),
            "--step-mode kernel --step-min-offset 10ms",
            |guest| guest.suspend(12 * SECOND),
        ),
        put_right("the same on a machine with a vmclock", Spec::with_vmclock("bench"), KERNEL, |guest| {
            guest.save_and_restore(8 * SECOND)
        }),
        {
            let mut scenario = GuestScenario::new(chrony, "--step-mode off");
            let [port, _] = scenario.pools.ports();
            scenario.guest.start_chrony(port);
            scenario.guest.settle_chrony();
            scenario.restart_agent("--step-mode auto");
            let since = scenario.guest.pause(20 * SECOND);
            (CHRONY_AND_AGENT, vec![scenario.stepped(since)])
        },
        left_alone("QEMU frozen for 10 s", spec(), KERNEL, |scenario| scenario.guest.freeze(10 * SECOND)),
        left_alone("a step of +3 s by another process", spec(), KERNEL, |scenario| {
            let since = Instant::now();
            scenario.guest.step(3.0);
            since
        }),
        left_alone("`stop` 2 s, `cont`; `step.mode: off`", spec(), "--step-mode off", |scenario| {
            scenario.guest.pause(2 * SECOND)
        }),
        left_alone(
            "`stop` 5 s, `cont`; `maxOffset: 2s`",
            spec(),
            "--step-mode kernel --step-max-offset 2s",
            |scenario| scenario.guest.pause(5 * SECOND),
        ),
        left_alone_by(
            "`stop` 5 s, `cont`; one pool is 10 s off",
            GuestScenario::with_pools(spec(), [false, true], KERNEL),
            |scenario| {
                scenario.pools.behave(ten_seconds_off);
                scenario.guest.pause(5 * SECOND)
            },
        ),
        left_alone("`stop` 5 s, `cont`; both pools unreachable", spec(), KERNEL, |scenario| {
            scenario.pools.behave(Behaviour::Silent);
            scenario.guest.pause(5 * SECOND)
        }),
    ]
}

const AGENT: &str = "`stop` 20 s, `cont`";
const CHRONY_AND_AGENT: &str = "`stop` 20 s, `cont`; chrony disciplines the clock, `step.mode: auto`";

fn put_right(
    what: &'static str,
    spec: Spec,
    arguments: &str,
    act: impl FnOnce(&mut Guest) -> Instant,
) -> Row {
    let mut scenario = GuestScenario::new(spec, arguments);
    scenario.rtc_is_known();
    let since = act(&mut scenario.guest);
    (what, vec![scenario.stepped(since)])
}

/// Observed for long enough that a step would have been made.
fn left_alone(
    what: &'static str,
    spec: Spec,
    arguments: &str,
    act: impl FnOnce(&mut GuestScenario) -> Instant,
) -> Row {
    left_alone_by(what, GuestScenario::with_pools(spec, [true, true], arguments), act)
}

fn left_alone_by(
    what: &'static str,
    mut scenario: GuestScenario,
    act: impl FnOnce(&mut GuestScenario) -> Instant,
) -> Row {
    let since = act(&mut scenario);
    scenario.detected(since);
    std::thread::sleep(10 * SECOND);
    // The table says "not" of these: it must not be said of a clock that was stepped.
    assert_eq!(scenario.metrics().expect("the agent").steps("stepped"), 0, "{what}");
    (what, vec![scenario.detected(since)])
}

/// Seconds from the end of a pause of 20 s until a daemon with Debian's configuration has the clock within 100 ms for good.
fn daemon_alone(daemon: Daemon) -> String {
    let (name, what) = match daemon {
        Daemon::Chrony => ("chrony", "chrony alone, with Debian's configuration"),
        _ => ("timesyncd", "systemd-timesyncd alone, with Debian's configuration"),
    };
    let mut guest = Guest::boot(Spec { daemon, ..Spec::new(name) });
    let pools = Pools::new(&guest, [false, false]);
    let [port, _] = pools.ports();
    match daemon {
        Daemon::Chrony => guest.start_chrony(port),
        _ => guest.start_timesyncd(port),
    }
    std::thread::sleep(SETTLED);
    let since = guest.pause(20 * SECOND);
    let before = guest.truth.now().offset;
    let right = loop {
        std::thread::sleep(SECOND);
        let settled = guest.truth.settled(since, NEAR);
        if settled.is_some() || since.elapsed() > PATIENCE {
            break settled;
        }
    };
    let took = right
        .map_or(format!("not within {PATIENCE:?}"), |r| format!("{:.0} s", (r.at - since).as_secs_f64()));
    format!("| {what} | {before:+.2} s | {took} |")
}

fn side_by_side(agent: &[Row]) -> String {
    let lines = agent.iter().filter(|(what, _)| [AGENT, CHRONY_AND_AGENT].contains(what));
    let line = |(what, seen): &Row| {
        let name = if *what == CHRONY_AND_AGENT {
            "chrony and the agent (`auto`)"
        } else {
            "the agent alone (`kernel`), p50"
        };
        let before = seen[0].before;
        format!(
            "| {name} | {before:+.2} s | {:.1} s |",
            quantile(seen, |s| s.stepped, 50).unwrap_or(f64::NAN)
        )
    };
    lines.map(line).collect::<Vec<_>>().join("\n")
}

fn quantile(seen: &[Seen], of: impl Fn(&Seen) -> Option<f64>, percent: usize) -> Option<f64> {
    let mut values: Vec<f64> = seen.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) * percent / 100).copied()
}

fn rows(all: &[Row]) -> String {
    let seconds = |value: Option<f64>| value.map_or("not".to_owned(), |s| format!("{s:.2} s"));
    let times = |seen: &[Seen], of: &dyn Fn(&Seen) -> Option<f64>| {
        let p50 = seconds(quantile(seen, of, 50));
        if seen.len() > 1 { format!("{p50} (max {})", seconds(quantile(seen, of, 100))) } else { p50 }
    };
    let row = |(what, seen): &Row| {
        let runs = if seen.len() > 1 { format!(", {} runs: p50 (max)", seen.len()) } else { String::new() };
        let after = seen.iter().map(|s| s.after).max_by(|a, b| a.abs().total_cmp(&b.abs())).expect("a run");
        format!(
            "| {what}{runs} | {} | {} | {:+.3} s | {:+.4} s |",
            times(seen, &|s| s.detected),
            times(seen, &|s| s.stepped),
            seen[0].before,
            after
        )
    };
    all.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn document(agent: &str, alone: &str) -> String {
    format!(
        "# After a pause\n\nWritten by `make bench-resume` (`benches/resume.rs`); not edited by hand. Virtual machines (QEMU without KVM, an Intel processor unless stated, Debian's kernel), the \
         static\nrelease binary in them, two chronyd on the host as the pools, the default interval of 64 s. All times are the host's, counted from the moment \
         the\nmachine went on; the guest's clock is read by a separate program every 20 ms, not taken from the agent. Detected: the agent's line in the log.\nStepped: \
         the clock is within 100 ms. An offset is positive when the guest is behind; of several runs, the worst one afterwards is shown.\n\n\
         | What happened | Detected after | Stepped after | Offset before | Offset after |\n|---|---|---|---|---|\n{agent}\n\n\
         The same pause of 20 s with a time daemon that has disciplined the clock for five minutes:\n\n\
         | Process that disciplines the clock | Offset after the pause | Within 100 ms after |\n|---|---|---|\n{alone}\n"
    )
}
