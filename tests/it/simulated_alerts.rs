//! Each alert fires on what an agent exports: promtool evaluates the shipped rules on the metrics of agents in simulated
//! worlds. (`tests/monitoring` tests texts, limits and restarts, on series that are written by hand.)

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use drift_agent::http::metrics;
use drift_agent::os::timex::KernelClock;
use drift_agent::sim::behaviour::{Behaviour, Reference, ServerModel};
use drift_agent::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::step::policy::Mode;
use drift_core::step::time_daemon::{Daemon, DaemonReport};
use drift_core::time::{Offset, Ppb, Wall};
use serde_json::{Value, json};

use crate::monitoring::{RULES, in_rules};
use crate::support::monitoring::repository;
use crate::support::{Folder, finish, tool};

/// What no agent exports: whether it can be scraped, and the tokens of other services.
const NOT_OF_AN_AGENT: [&str; 3] = ["DriftAgentDown", "TokensFromTheFuture", "TokenAgeShifted"];
const MINUTE: Duration = Duration::from_secs(60);

/// A node and the world around it, before it starts.
struct Node {
    plan: Plan,
    /// How long the machine is paused after five minutes.
    pause: Duration,
    /// What chrony and the kernel report. The simulated world has neither.
    has_daemon: bool,
    /// For how long it has not updated the clock, at least.
    update_age: Duration,
}

fn host(behaviour: Behaviour) -> Host {
    let path = Path {
        there: Duration::from_millis(1),
        back: Duration::from_millis(1),
        jitter: Duration::from_micros(50),
        loss: 0.01,
    };
    Host { model: ServerModel::new(behaviour), path }
}

/// With one server for each pool.
fn node(pools: &[Behaviour], behind_ms: i64) -> Node {
    let plan = Plan {
        seed: 7,
        present: Wall::from_secs(1_795_341_600),
        offset: Offset::from_nanos(behind_ms * 1_000_000),
        oscillator: Oscillator { error: Ppb::from_ppm(20), swing: Ppb(0), period: MINUTE * 60 },
        rtc_ahead: Offset::ZERO,
        pools: pools.iter().map(|behaviour| vec![host(*behaviour)]).collect(),
        settings: default_settings(),
        api_errors: 0.0,
        steps_work: true,
    };
    Node { plan, pause: Duration::ZERO, has_daemon: true, update_age: MINUTE }
}

fn healthy() -> Node {
    node(&[Behaviour::Honest; 2], 0)
}

fn ahead(seconds: i64) -> Behaviour {
    Behaviour::Offset(Offset::from_nanos(seconds * 1_000_000_000))
}

impl Node {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn expositions(self, minutes: u32) -> Vec<String> {
        let error = self.plan.oscillator.error;
        let mut world = World::new(self.plan);
        world.slew_wall(Ppb(-error.0));
        let mut texts = Vec::new();
        for minute in 1..=minutes {
            if minute == 5 && !self.pause.is_zero() {
                world.pause(self.pause);
            }
            // The pause has taken some of the time.
            let until = (MINUTE * minute).max(world.elapsed());
            world.run_until(until, |_| Ok(())).expect("no check fails");
            let mut snapshot = world.snapshot();
            let believes = Some(Offset::from_nanos(20_000));
            snapshot.daemon = self.has_daemon.then_some(DaemonReport {
                daemon: Daemon::Chrony,
                believes,
                update_age: Some(self.update_age),
                ..DaemonReport::NONE
            });
            let disciplined = KernelClock { max_error: Duration::from_millis(5), ..KernelClock::ALONE };
            let kernel = if self.has_daemon { disciplined } else { KernelClock::ALONE };
            texts.push(metrics::render(&snapshot, Some(kernel)));
        }
        texts
    }
}

/// The expositions of one node as promtool's series: a value for each minute, from the first on.
fn series(name: &str, expositions: &[String]) -> Vec<Value> {
    let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (minute, text) in expositions.iter().enumerate() {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.rsplit_once(' ').expect("a sample");
            let of_key = values.entry(key).or_default();
            // A series that is not exported has ended.
            of_key.resize(minute, "stale");
            of_key.push(value);
        }
    }
    let labels = format!("job=\"drift-agent\",node=\"{name}\"");
    let up = json!({"series": format!("up{{{labels}}}"), "values": format!("1+0x{}", expositions.len())});
    let each = values.into_iter().map(|(key, mut values)| {
        values.resize(expositions.len(), "stale");
        let (metric, own) = key.split_once('{').unwrap_or((key, "}"));
        let own = own.trim_end_matches('}');
        let comma = if own.is_empty() { "" } else { "," };
        json!({"series": format!("{metric}{{{own}{comma}{labels}}}"), "values": values.join(" ")})
    });
    each.chain([up]).collect()
}

/// One run of promtool: these nodes for so long, and what must fire at the end, each as its name and how often.
struct Case {
    nodes: Vec<Node>,
    minutes: u32,
    firing: &'static [(&'static str, u32)],
}

impl Case {
    fn new(nodes: Vec<Node>, minutes: u32, firing: &'static [(&'static str, u32)]) -> Self {
        Self { nodes, minutes, firing }
    }

    fn test(self) -> Value {
        let Self { nodes, minutes, firing } = self;
        let series: Vec<Value> = nodes
            .into_iter()
            .enumerate()
            .flat_map(|(n, node)| series(&format!("n{n}"), &node.expositions(minutes)))
            .collect();
        let samples = firing
            .iter()
            .map(|(alert, count)| json!({"labels": format!("{{alertname=\"{alert}\"}}"), "value": count}));
        json!({
            "name": format!("{firing:?}"),
            "interval": "1m",
            "input_series": series,
            "promql_expr_test": [{
                "expr": "count by (alertname) (ALERTS{alertstate=\"firing\"})",
                "eval_time": format!("{}m", minutes - 1),
                "exp_samples": samples.collect::<Vec<_>>(),
            }],
        })
    }
}

fn cases() -> Vec<Case> {
    use Behaviour::{Honest, Silent};
    let off = |behind_ms| node(&[Honest; 2], behind_ms).with(|n| n.has_daemon = false);
    let paused = |mode| {
        healthy().with(|n| {
            n.pause = Duration::from_secs(20);
            n.plan.settings.step.mode = mode;
        })
    };
    let one_server = healthy().with(|n| {
        n.plan.pools.iter_mut().flatten().for_each(|host| host.model.reference = Reference::Shared(1));
    });
    let oscillator = |ppm| healthy().with(|n| n.plan.oscillator.error = Ppb::from_ppm(ppm));
    let far = healthy().with(|n| {
        for host in n.plan.pools.iter_mut().flatten() {
            (host.path.there, host.path.back) = (Duration::from_millis(130), Duration::from_millis(130));
        }
    });
    let over: &[_] = &[("ClockDriftExceeded", 1), ("ClockNotDisciplined", 1)];
    let over_one_second: &[_] =
        &[("ClockDriftExceeded", 2), ("ClockNotDisciplined", 1), ("ClockPairwiseSkewHigh", 1)];
    vec![
        Case::new(vec![healthy(), healthy(), oscillator(150), oscillator(-150)], 90, &[]),
        Case::new(vec![off(150), healthy()], 14, over),
        Case::new(vec![off(-2_000), healthy()], 14, over_one_second),
        // Its daemon has ended, and the kernel does not show it for hours.
        Case::new(
            vec![
                node(&[Honest; 2], 150).with(|n| n.update_age = MINUTE * 120),
                node(&[Honest; 2], 150).with(|n| n.update_age = MINUTE * 119),
                healthy().with(|n| n.update_age = MINUTE * 180),
            ],
            14,
            &[("ClockDriftExceeded", 2), ("ClockNotDisciplined", 1), ("TimeDaemonDeceived", 2)],
        ),
        // A quarter of an hour must have been recorded.
        Case::new(
            vec![off(150), healthy()],
            20,
            &[("ClockDriftExceeded", 1), ("ClockNotDisciplined", 1), ("ClockDriftBudgetBurn", 1)],
        ),
        Case::new(vec![node(&[Honest, ahead(10)], 0)], 25, &[("ClockPoolsDisagree", 1)]),
        // All pools are over the threshold on one side, whichever of them is wrong.
        Case::new(
            vec![node(&[ahead(5), ahead(10)], 0).with(|n| n.has_daemon = false)],
            14,
            &[("ClockDriftExceeded", 2), ("ClockNotDisciplined", 1)],
        ),
        Case::new(
            vec![node(&[Silent; 2], 0), far, healthy(), healthy(), healthy()],
            25,
            &[("ClockNotMeasured", 2)],
        ),
        Case::new(
            vec![node(&[Honest, Silent], 0), node(&[Honest, Silent], 0)],
            20,
            &[("ClockPoolUnreachable", 1)],
        ),
        Case::new(
            vec![node(&[Honest, ahead(10), Honest], 0), node(&[Honest, ahead(10), Honest], 0)],
            25,
            &[("ClockPoolWrong", 1)],
        ),
        Case::new(vec![one_server, healthy()], 40, &[("ClockPoolsNotIndependent", 1)]),
        Case::new(
            vec![oscillator(300), oscillator(-300), oscillator(1_944), oscillator(70_000), healthy()],
            90,
            &[("ClockFrequencyHigh", 4)],
        ),
        Case::new(vec![paused(Mode::Kernel), healthy()], 7, &[("ClockStepped", 1)]),
        Case::new(
            vec![paused(Mode::Kernel).with(|n| n.plan.steps_work = false), healthy()],
            12,
            &[
                ("ClockStepFailed", 1),
                ("ClockDriftExceeded", 2),
                ("ClockPairwiseSkewHigh", 1),
                ("TimeDaemonDeceived", 1),
                ("VMResumeUncorrected", 1),
            ],
        ),
    ]
}

#[test]
fn every_alert_fires_on_what_an_agent_exports_and_none_on_a_healthy_fleet() {
    let folder = Folder::new("simulated-alerts");
    let cases = cases();
    let shown: BTreeSet<String> =
        cases.iter().flat_map(|case| case.firing).map(|(alert, _)| (*alert).to_owned()).collect();
    let mut expected = in_rules("alert: ");
    expected.retain(|alert| !NOT_OF_AN_AGENT.contains(&alert.as_str()));
    assert_eq!(shown, expected, "each alert is shown to fire");
    let rules = RULES.map(|path| repository().join(path));
    let tests: Vec<Value> = cases.into_iter().map(Case::test).collect();
    let file = folder.path().join("tests.json");
    let text = json!({"rule_files": rules, "evaluation_interval": "1m", "tests": tests}).to_string();
    std::fs::write(&file, text).expect("the tests");
    let ended = finish(Command::new(tool("promtool")).args(["test", "rules"]).arg(&file), "");
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
}
