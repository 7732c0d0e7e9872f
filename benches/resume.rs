//! How soon the clock of a paused machine is detected to be wrong, and corrected: in virtual machines, by the host's clock.
//! `make bench-resume` runs it and writes the tables in benches/RESUME.md.
//!
//! `DRIFT_AGENT_BENCH_ROWS`: only the rows of the first table that contain this text; they are printed, and the file stays as it is.
#![allow(clippy::disallowed_methods, reason = "it measures time, and reads its variable")]
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
#[path = "resume/rows.rs"]
mod rows;
#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod support;

use std::path::Path;
use std::time::Duration;

use guest::scenario::{NEAR, Pools, Seen};
use guest::{Daemon, Guest, Spec};
use rows::{AGENT, CHRONY_AND_AGENT, Plan, TIMESYNCD_AND_AGENT};

const SECOND: Duration = Duration::from_secs(1);
/// How long a time daemon has disciplined the clock before the pause.
const SETTLED: Duration = Duration::from_secs(300);
/// The longest wait: timesyncd polls every 2048 s.
const PATIENCE: Duration = Duration::from_secs(2_400);

/// A disruption of the machine, and what was observed; more than one observation where it was repeated.
type Row = (&'static str, Vec<Seen>);

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    if let Ok(text) = std::env::var("DRIFT_AGENT_BENCH_ROWS") {
        let (long, plans) = rows::all();
        let wanted = long.into_iter().chain(plans).filter(|(what, _)| what.contains(&text));
        println!("{}", table(&wanted.map(measured).collect::<Vec<_>>()));
        return;
    }
    // Those that take long do nothing most of the time.
    let alone =
        [Daemon::Chrony, Daemon::Timesyncd].map(|daemon| std::thread::spawn(move || daemon_alone(daemon)));
    let (long, plans) = rows::all();
    let long: Vec<_> = long.into_iter().map(|plan| std::thread::spawn(move || measured(plan))).collect();
    let mut agent: Vec<Row> = plans.into_iter().map(measured).collect();
    agent.extend(long.into_iter().map(|row| row.join().expect("measured")));
    let mut alone: Vec<String> = alone.into_iter().map(|daemon| daemon.join().expect("measured")).collect();
    alone.push(side_by_side(&agent));
    let (agent, alone) = (table(&agent), alone.join("\n"));
    println!("{agent}\n\n{alone}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/RESUME.md");
    std::fs::write(&path, document(&agent, &alone)).expect("benches/RESUME.md");
}

fn measured((what, measure): Plan) -> Row {
    (what, measure())
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
    let lines =
        agent.iter().filter(|(what, _)| [AGENT, CHRONY_AND_AGENT, TIMESYNCD_AND_AGENT].contains(what));
    let line = |(what, seen): &Row| {
        let name = match *what {
            CHRONY_AND_AGENT => "chrony and the agent (`auto`)",
            TIMESYNCD_AND_AGENT => "systemd-timesyncd and the agent (`auto`)",
            _ => "the agent alone (`kernel`), p50",
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

fn table(all: &[Row]) -> String {
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
         the clock is within 100 ms. An offset is positive when the guest is behind; of several runs, the worst one afterwards is shown.\n\
         Where a network comes back, or where it is the second pause, the row says from when on the time until the step is counted.\n\n\
         | What happened | Detected after | Stepped after | Offset before | Offset after |\n|---|---|---|---|---|\n{agent}\n\n\
         The same pause of 20 s with a time daemon that has disciplined the clock for five minutes:\n\n\
         | Process that disciplines the clock | Offset after the pause | Within 100 ms after |\n|---|---|---|\n{alone}\n"
    )
}
