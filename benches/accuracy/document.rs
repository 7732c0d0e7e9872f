//! The tables.

use std::path::Path;
use std::time::Duration;

use crate::clients::STATES;
use crate::figures::{Group, Run, Spread};
use crate::path::ROOT_DISTANCE;
use crate::scenario::{FASTEST, JITTER, LAN, OUTAGE, SCENARIOS, Scenario};
use crate::support::process::machine;
use crate::support::{clean, finish, tool};
use crate::{INTERVAL, SEEDS};

/// Errors count from then on: at the start no client has measured for long. The truth outside the bound counts from the first scrape.
const SETTLED: f64 = 60.0;
/// From when on the goal for the bound on a LAN holds.
const LAN_SETTLED: f64 = 600.0;

pub fn document(runs: &[Run], agent: &Path, length: Duration, lateness: &[f64]) -> String {
    let seconds = length.as_secs_f64();
    let settled = SETTLED.min(seconds * 0.1);
    let groups: Vec<Group<'_>> = SCENARIOS.iter().flat_map(|scenario| groups(runs, scenario)).collect();
    let version = finish(clean(agent).arg("version"), "").stdout;
    let version = version.lines().next().unwrap_or("unknown").to_owned();
    let chrony = finish(std::process::Command::new(tool("chronyd")).arg("-v"), "").stdout;
    let chrony = chrony.split_whitespace().nth(3).unwrap_or("unknown").to_owned();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown");
    let late = Spread::of(lateness.iter().copied());
    let fastest = runs.iter().find(|run| run.scenario.name == FASTEST && run.seed == 0).expect("the row");
    format!(
        "# How accurate offset and bound are\n\n\
         Written by `make bench-accuracy` (`benches/accuracy.rs`); not edited by hand. {version}, chronyd {chrony} with `-x`, which does not \
         set the\nclock, and a client that sends one SNTP request to one server per poll measure the clock of this machine at the same time, on the same paths \
         and at the\nsame poll interval: `--interval {interval}s`, and `minpoll {poll} maxpoll {poll}`. Nothing sets the clock. Two pools of two servers; all four report the same time, \
         20 ms ahead of\nthis machine at the start. The servers run in the bench; each holds every packet for its way there and back, by random numbers of its \
         own.\n\n\
         Each row: {SEEDS} runs of {minutes:.0} min together, all rows at once. Each second the agent's `/metrics`, \"System time\" of `chronyc tracking` (what chronyd would \
         have corrected,\nup to that instant) and the last offset of the one-shot client are compared with the truth at that instant. Errors count from second {settled:.0} on; \
         the truth outside\noffset ± bound counts from the first scrape on, in every state. The outage lasts from {from:.0} % to {to:.0} % of a run.\n\n\
         Figures of one machine: {machine}, load average {load} at the end. Packets left {p50:.3} ms (p50), {p99:.3} ms (p99), {max:.1} ms (max) later than \
         the path says.\n\n\
         ## Errors\n\n\
         All in milliseconds, without their sign: p50 / p95 / max. In brackets: the largest error, in bounds.\n\n\
         | Path | Agent | Bound, p50 | Truth outside | chronyd | One-shot |\n|---|---|---|---|---|---|\n{errors}\n\n\
         ## The truth outside the bound, by state\n\n\
         Of the scrapes with an offset in this state; then the share of scrapes without an offset (agent, chronyd, one-shot), and the requests that reached \
         a server\nin a minute (from the three, in the same order).\n\n\
         | Path | {states} | No offset | Requests a minute |\n|---|{columns}---|---|\n{by_state}\n\n\
         ## Goals\n\n\
         | Goal | Measured | Met |\n|---|---|---|\n{goals}\n\n\
         ## What chronyd reports at 70,000 ppm\n\n```text\n{chronyd}\n```\n",
        interval = INTERVAL.as_secs(),
        poll = INTERVAL.as_secs().ilog2(),
        minutes = seconds / 60.0,
        from = OUTAGE.0 * 100.0,
        to = OUTAGE.1 * 100.0,
        machine = machine(),
        p50 = late.at(50) * 1e3,
        p99 = late.at(99) * 1e3,
        max = late.at(100) * 1e3,
        errors = lines(&groups, |group| errors(group, settled)),
        states = STATES.join(" | "),
        columns = "---|".repeat(STATES.len()),
        by_state = lines(&groups, by_state),
        goals = goals(runs, settled, LAN_SETTLED.min(seconds - 60.0)).join("\n"),
        chronyd = fastest.chronyd.trim(),
    )
}

/// The rows of a scenario: two where there is an outage.
fn groups<'a>(runs: &'a [Run], scenario: &Scenario) -> Vec<Group<'a>> {
    let part = |name: &str, from: f64, to: f64| {
        let runs = runs.iter().filter(|run| run.scenario.name == scenario.name);
        Group::of(name, runs, |sample| (from..to).contains(&sample.share))
    };
    if scenario.outage {
        let way = "round trip 20 ms, rate 50 ppm";
        let name = |when: &str| format!("{when} {} ({way})", scenario.name);
        vec![part(&name("during"), OUTAGE.0, OUTAGE.1), part(&name("after"), OUTAGE.1, f64::INFINITY)]
    } else {
        vec![part(scenario.name, 0.0, f64::INFINITY)]
    }
}

fn lines(groups: &[Group<'_>], line: impl Fn(&Group<'_>) -> String) -> String {
    groups.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn errors(group: &Group<'_>, settled: f64) -> String {
    let spread = |s: &Spread| [50, 95, 100].map(|percent| millis(s.at(percent))).join(" / ");
    let (scrapes, outside) = group.outside(None);
    let share = outside as f64 / scrapes.max(1) as f64 * 100.0;
    format!(
        "| {} | {} | {} | {outside} of {scrapes}, {share:.1} % ({:.2}) | {} | {} |",
        group.name,
        spread(&group.agent(settled)),
        millis(group.bound(settled).at(50)),
        group.worst(),
        spread(&group.chronyd(settled)),
        spread(&group.one_shot(settled)),
    )
}

fn by_state(group: &Group<'_>) -> String {
    let states = group.by_state().map(|(scrapes, outside)| match scrapes {
        0 => "-".to_owned(),
        _ => format!("{outside} of {scrapes}"),
    });
    let without = [
        group.share(|sample| sample.agent.is_none()),
        group.share(|sample| sample.chronyd.is_none()),
        group.share(|sample| sample.one_shot.is_none()),
    ];
    let without = without.map(|share| format!("{:.1} %", share * 100.0));
    let requests = group.requests.map(|rate| format!("{rate:.1}")).join(", ");
    format!("| {} | {} | {} | {requests} |", group.name, states.join(" | "), without.join(", "))
}

fn goals(runs: &[Run], settled: f64, lan_settled: f64) -> Vec<String> {
    let all = Group::of("all", runs.iter(), |_| true);
    let (scrapes, outside) = all.outside(None);
    let mut rows = vec![row(
        "The truth is never outside offset ± bound",
        &format!("{outside} of {scrapes} scrapes"),
        outside == 0 && scrapes > 0,
    )];
    for percent in [50, 95] {
        let pair = |group: &Group<'_>| {
            let (agent, chronyd) = (group.agent(settled).at(percent), group.chronyd(settled).at(percent));
            (agent, chronyd, agent / chronyd)
        };
        let (agent, chronyd, ratio) = pair(&of(runs, JITTER, None));
        let seeds = (0..SEEDS).map(|seed| format!("{:.2}", pair(&of(runs, JITTER, Some(seed))).2));
        rows.push(row(
            &format!("With jitter and loss, the error's p{percent} is at most half of chronyd's"),
            &format!(
                "{} and {} ms: {ratio:.2} times (run by run: {})",
                millis(agent),
                millis(chronyd),
                seeds.collect::<Vec<_>>().join(", ")
            ),
            ratio <= 0.5,
        ));
    }
    let bound = of(runs, LAN, None).bound(lan_settled).at(50);
    let lan = SCENARIOS.iter().find(|scenario| scenario.name == LAN).expect("the row");
    let limit = (lan.way.there + lan.way.back).as_secs_f64() / 2.0 + ROOT_DISTANCE + 1e-3;
    let measured = runs.iter().filter(|run| run.scenario.name == LAN).flat_map(|run| &run.round_trips);
    rows.push(row(
        &format!("On a LAN, after {lan_settled:.0} s, the bound's p50 is under RTT/2 + root distance + 1 ms"),
        &format!(
            "{} ms; the limit is {} ms (the one-shot client's round trips: p50 {} ms)",
            millis(bound),
            millis(limit),
            millis(Spread::of(measured.copied()).at(50))
        ),
        bound < limit,
    ));
    rows
}

/// All samples of a scenario, or those of one run.
fn of<'a>(runs: &'a [Run], name: &str, seed: Option<u64>) -> Group<'a> {
    let fits = |run: &&Run| run.scenario.name == name && seed.is_none_or(|seed| run.seed == seed);
    Group::of(name, runs.iter().filter(fits), |_| true)
}

fn row(goal: &str, measured: &str, met: bool) -> String {
    format!("| {goal} | {measured} | {} |", if met { "yes" } else { "no" })
}

/// Three digits or more; the unit is in the table's head.
fn millis(seconds: f64) -> String {
    match seconds * 1e3 {
        ms if ms.is_nan() => "-".to_owned(),
        ms if ms < 0.1 => format!("{ms:.3}"),
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 1_000.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}
