//! The rows of the first table: what happens to a machine with an agent in it.

use std::time::{Duration, Instant};

use drift_agent::sim::behaviour::Behaviour;
use drift_core::time::Offset;

use crate::SECOND;
use crate::guest::scenario::{GuestScenario, Seen};
use crate::guest::{AMD, Daemon, Guest, Spec};

/// Runs of the first row.
const RUNS: usize = 10;
/// Runs of a row that is compared with it.
const RUNS_TO_COMPARE: usize = 5;
/// The default cool-down, and time to spare.
const COOL_DOWN: Duration = Duration::from_secs(360);
const KERNEL: &str = "--step-mode kernel";

pub const AGENT: &str = "`stop` 20 s, `cont`";
pub const CHRONY_AND_AGENT: &str = "`stop` 20 s, `cont`; chrony disciplines the clock, `step.mode: auto`";
pub const TIMESYNCD_AND_AGENT: &str =
    "`stop` 20 s, `cont`; systemd-timesyncd disciplines the clock, `step.mode: auto`";

/// A row that is not measured yet.
pub type Plan = (&'static str, Box<dyn FnOnce() -> Vec<Seen> + Send>);

/// Those that wait for minutes, and the others; in the order of the table.
pub fn all() -> (Vec<Plan>, Vec<Plan>) {
    let long = vec![
        second_pause(
            "the second `stop` of 5 s, `cont`, 3 s after the first of 20 s; `cooldown: 5m`",
            3 * SECOND,
        ),
        second_pause(
            "the second `stop` of 5 s, `cont`, 200 s after the first of 20 s; `cooldown: 5m`",
            200 * SECOND,
        ),
    ];
    (long, [put_right(), beside_daemons(), with_less(), left_alone()].into_iter().flatten().collect())
}

fn spec() -> Spec {
    Spec::new("bench")
}

fn put_right() -> Vec<Plan> {
    let hpet = || Spec { kernel_options: "clocksource=hpet", ..spec() };
    let amd = || Spec { vendor: AMD, ..spec() };
    vec![
        (AGENT, Box::new(|| (0..RUNS).map(|_| pause(GuestScenario::new(spec(), KERNEL))).collect())),
        stepped_unprepared(
            "`stop` 20 s, `cont`, in the agent's first second",
            || GuestScenario::new(spec(), KERNEL),
            |scenario| scenario.guest.pause(20 * SECOND),
        ),
        stepped("`stop` 2 s, `cont`", spec(), KERNEL, |guest| guest.pause(2 * SECOND)),
        stepped("`stop` 0.5 s, `cont`", spec(), KERNEL, |guest| guest.pause(SECOND / 2)),
        stepped("`stop` 20 s, `cont`; an AMD processor", amd(), KERNEL, |guest| guest.pause(20 * SECOND)),
        stepped("`stop` 0.5 s, `cont`; an AMD processor", amd(), KERNEL, |guest| guest.pause(SECOND / 2)),
        stepped("saved, restored 8 s later in a new QEMU", spec(), KERNEL, |guest| {
            guest.save_and_restore(8 * SECOND)
        }),
        stepped("`loadvm` 12 s after `savevm` (hpet)", hpet(), KERNEL, |guest| {
            guest.snapshot_and_load(12 * SECOND)
        }),
        stepped("suspended to RAM for 12 s", spec(), "--step-mode kernel --step-min-offset 10ms", |guest| {
            guest.suspend(12 * SECOND)
        }),
        stepped("the same on a machine with a vmclock", Spec::with_vmclock("bench"), KERNEL, |guest| {
            guest.save_and_restore(8 * SECOND)
        }),
    ]
}

fn beside_daemons() -> Vec<Plan> {
    let beside = |daemon: Daemon| {
        let mut scenario = GuestScenario::new(Spec { daemon, ..spec() }, "--step-mode off");
        let [port, _] = scenario.pools.ports();
        if daemon == Daemon::Chrony {
            scenario.guest.start_chrony(port);
            scenario.guest.settle_chrony();
        } else {
            scenario.guest.start_timesyncd(port);
            scenario.guest.settle_timesyncd();
        }
        scenario.restart_agent("--step-mode auto");
        vec![pause(scenario)]
    };
    vec![
        (CHRONY_AND_AGENT, Box::new(move || beside(Daemon::Chrony))),
        (TIMESYNCD_AND_AGENT, Box::new(move || beside(Daemon::Timesyncd))),
    ]
}

/// Without a part of what tells the time.
fn with_less() -> Vec<Plan> {
    vec![
        (
            "`stop` 20 s, `cont`; one of eight servers is dead",
            Box::new(|| {
                let scenario = || GuestScenario::with_a_dead_server_of_eight(spec(), KERNEL);
                (0..RUNS_TO_COMPARE).map(|_| pause(scenario())).collect()
            }),
        ),
        (
            "`stop` 20 s, `cont`; the network is back 12 s later; stepped: from its return on",
            Box::new(|| {
                let mut scenario = GuestScenario::new(spec(), KERNEL);
                scenario.rtc_is_known();
                let (since, back) = scenario.guest.pause_and_miss_network(20 * SECOND, 12 * SECOND);
                let seen = scenario.stepped(since);
                let missed = back.duration_since(since).as_secs_f64();
                vec![Seen { stepped: seen.stepped.map(|s| s - missed), ..seen }]
            }),
        ),
        stepped_unprepared(
            "`stop` 20 s, `cont`; no RTC, no vmclock",
            || GuestScenario::new(Spec::without_rtc("bench"), KERNEL),
            |scenario| scenario.guest.pause(20 * SECOND),
        ),
    ]
}

fn left_alone() -> Vec<Plan> {
    let ten_seconds_off = Behaviour::Offset(Offset::from_nanos(10_000_000_000));
    vec![
        not_stepped("QEMU frozen for 10 s", KERNEL, |scenario| scenario.guest.freeze(10 * SECOND)),
        not_stepped("a step of +3 s by another process", KERNEL, |scenario| {
            let since = Instant::now();
            scenario.guest.step(3.0);
            since
        }),
        not_stepped("`stop` 2 s, `cont`; `step.mode: off`", "--step-mode off", |scenario| {
            scenario.guest.pause(2 * SECOND)
        }),
        not_stepped(
            "`stop` 5 s, `cont`; `maxOffset: 2s`",
            "--step-mode kernel --step-max-offset 2s",
            |scenario| scenario.guest.pause(5 * SECOND),
        ),
        not_stepped_by(
            "`stop` 5 s, `cont`; one pool is 10 s off",
            || GuestScenario::with_pools(spec(), [false, true], KERNEL),
            move |scenario| {
                scenario.pools.behave(ten_seconds_off);
                scenario.guest.pause(5 * SECOND)
            },
        ),
        not_stepped("`stop` 5 s, `cont`; both pools unreachable", KERNEL, |scenario| {
            scenario.pools.behave(Behaviour::Silent);
            scenario.guest.pause(5 * SECOND)
        }),
    ]
}

/// An agent that has seen the RTC tick is paused.
fn pause(mut scenario: GuestScenario) -> Seen {
    scenario.rtc_is_known();
    let since = scenario.guest.pause(20 * SECOND);
    scenario.stepped(since)
}

/// Counted from the end of the second pause.
fn second_pause(what: &'static str, apart: Duration) -> Plan {
    let measure = move || {
        let mut scenario = GuestScenario::new(spec(), KERNEL);
        scenario.rtc_is_known();
        let first = scenario.guest.pause(20 * SECOND);
        let _ = scenario.stepped(first);
        std::thread::sleep(apart.saturating_sub(first.elapsed()));
        let since = scenario.guest.pause(5 * SECOND);
        vec![scenario.stepped_within(COOL_DOWN, since)]
    };
    (what, Box::new(measure))
}

fn stepped(
    what: &'static str,
    spec: Spec,
    arguments: &'static str,
    act: impl FnOnce(&mut Guest) -> Instant + Send + 'static,
) -> Plan {
    let start = move || {
        let scenario = GuestScenario::new(spec, arguments);
        scenario.rtc_is_known();
        scenario
    };
    stepped_unprepared(what, start, |scenario| act(&mut scenario.guest))
}

fn stepped_unprepared(
    what: &'static str,
    start: impl FnOnce() -> GuestScenario + Send + 'static,
    act: impl FnOnce(&mut GuestScenario) -> Instant + Send + 'static,
) -> Plan {
    let measure = || {
        let mut scenario = start();
        let since = act(&mut scenario);
        vec![scenario.stepped_within(2 * crate::support::DEADLINE, since)]
    };
    (what, Box::new(measure))
}

/// Observed for long enough that a step would have been made.
fn not_stepped(
    what: &'static str,
    arguments: &'static str,
    act: impl FnOnce(&mut GuestScenario) -> Instant + Send + 'static,
) -> Plan {
    not_stepped_by(what, || GuestScenario::with_pools(spec(), [true, true], arguments), act)
}

fn not_stepped_by(
    what: &'static str,
    start: impl FnOnce() -> GuestScenario + Send + 'static,
    act: impl FnOnce(&mut GuestScenario) -> Instant + Send + 'static,
) -> Plan {
    let measure = move || {
        let mut scenario = start();
        scenario.rtc_is_known();
        let since = act(&mut scenario);
        scenario.detected(since);
        std::thread::sleep(10 * SECOND);
        // The table says "not" of these: it must not be said of a clock that was stepped.
        assert_eq!(scenario.metrics().expect("the agent").steps("stepped"), 0, "{what}");
        vec![scenario.detected(since)]
    };
    (what, Box::new(measure))
}
