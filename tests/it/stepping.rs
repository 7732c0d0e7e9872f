//! Stepping from the annotation to the answer: a real API server, real exchanges, and a clock of the test's own. The
//! machine's clock is never touched.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use drift_agent::agent::Agent;
use drift_agent::config::Settings;
use drift_agent::config::raw::{ConfigText, RawConfig, RawPool, Step};
use drift_agent::kubernetes::api::{Access, NodeApi};
use drift_agent::kubernetes::requests;
use drift_agent::os::clock::ShiftedClock;
use drift_agent::sources::dns::Dns;
use drift_agent::step::ClockStepper;
use drift_core::io::Effect;
use drift_core::step::last_step::LastStep;
use drift_core::step::outcome::Outcome;
use serde_json::Value;

use crate::support::BackgroundRuntime;
use crate::support::cluster::Cluster;
use crate::support::test_node::{TestNode, annotation, number};

/// An agent in this process that steps a clock of its own.
struct Stepping {
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    _background: BackgroundRuntime,
}

impl Stepping {
    fn start(test_node: &TestNode, mode: &str, ahead: Duration) -> Self {
        let (clock, background) = (Arc::new(ShiftedClock::default()), BackgroundRuntime::new());
        clock.set(ahead);
        let text = |value: &str| Some(ConfigText(value.to_owned()));
        let step =
            Step { mode: text(mode), on_request: text("true"), cooldown: text("1s"), ..Step::default() };
        let raw = RawConfig {
            pools: Some(test_node.pools.names().iter().map(|name| RawPool::named(name)).collect()),
            interval: text("1s"),
            step,
            ..RawConfig::default()
        };
        let settings = Settings::new(raw, RawConfig::default()).expect("settings");
        let access = Access::File(test_node.kubeconfig.clone());
        let runtime = background.runtime().clone();
        let _inside = runtime.enter();
        let api = runtime.block_on(NodeApi::new(access, test_node.name.to_owned())).expect("a kubeconfig");
        let clock_stepper = ClockStepper::new(&settings, clock.clone(), clock.clone());
        let mut agent = Agent::new(&settings, clock.clone(), Dns::default(), Some(api.clone()))
            .with_stepper(clock_stepper);
        runtime.spawn(requests::watch(api, agent.inputs()));
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let reported = Arc::clone(&outcomes);
        let observe = move |effect: &Effect| {
            if let Effect::LogStep(outcome) = effect {
                reported.lock().unwrap().push(outcome.clone());
            }
        };
        runtime.spawn(async move { agent.run(std::future::pending(), observe).await });
        Self { outcomes, _background: background }
    }

    fn outcomes(&self) -> usize {
        self.outcomes.lock().unwrap().len()
    }
}

fn ask(test_node: &TestNode, id: &str) {
    let request = format!("drift-agent.io/step-request={id}");
    test_node.cluster.kubectl(&["annotate", "--overwrite", "node", test_node.name, &request]);
}

fn last_step(node: &Value) -> LastStep {
    annotation(node, "last-step").expect("a last step").parse().expect("one that can be read")
}

fn wait_for_answer(test_node: &TestNode, begins: &str) -> Value {
    test_node.wait_for_node(&format!("step-result {begins}"), |node| {
        annotation(node, "step-result").is_some_and(|answer| answer.starts_with(begins))
    })
}

#[test]
fn step_requests_by_annotation_are_answered_once_even_across_restarts() {
    let test_node = TestNode::new(Cluster::shared(), "asked", 0);
    test_node.allow_watching();
    // Twenty seconds ahead of both pools.
    let agent = Stepping::start(&test_node, "kernel", Duration::from_secs(20));
    test_node.wait_for_written("drifting");
    assert_eq!(agent.outcomes(), 0, "a drift alone is no trigger");

    ask(&test_node, "window-7");
    let node = wait_for_answer(
        &test_node,
        "window-7: The clock was 20.0 s ahead and was stepped by kernel (step-request); now",
    );
    let last = last_step(&node);
    assert!((last.before.as_secs_f64() + 20.0).abs() < 0.1, "{last}");
    assert!(last.after.unwrap().as_secs_f64().abs() < 0.1, "{last}");
    assert_eq!((last.method.as_str(), last.trigger.as_str(), last.in_hour), ("kernel", "step-request", 1));
    let node = test_node.wait_for_written("in-sync");
    assert!(number(&node, "offset-seconds").abs() < 0.05, "the clock itself was moved");
    assert_eq!(annotation(&node, "step-request"), Some("window-7"), "only the operator writes it");
    let event = test_node.wait_for_event("ClockStepped");
    assert!(event["note"].as_str().unwrap().contains("20.0 s ahead"), "{event}");

    // The next run finds the request still there, and a clock that is off again: it was answered.
    drop(agent);
    let next = Stepping::start(&test_node, "kernel", Duration::from_secs(5));
    test_node.wait_for_written("drifting");
    ask(&test_node, "window-8");
    wait_for_answer(&test_node, "window-8: The clock was 5.00 s ahead");
    assert_eq!(next.outcomes(), 1, "window-7 was answered by the run before");
    let last = last_step(&test_node.node());
    assert!((last.total.as_secs_f64() - 5.0).abs() < 0.1, "a request starts the budget again: {last}");
}

#[test]
fn step_requests_in_mode_off_are_rejected_with_a_reason() {
    let test_node = TestNode::new(Cluster::shared(), "asked-in-vain", 0);
    test_node.allow_watching();
    let agent = Stepping::start(&test_node, "off", Duration::from_secs(20));
    test_node.wait_for_written("drifting");
    ask(&test_node, "please");
    wait_for_answer(&test_node, "please: The clock is not stepped (step-request): step.mode is off.");
    assert_eq!(test_node.wait_for_event("ClockStepRefused")["type"], "Warning");
    assert_eq!(annotation(&test_node.node(), "last-step"), None);
    assert_eq!(agent.outcomes(), 1);
    assert!(number(&test_node.node(), "offset-seconds") < -19.0);
}

#[test]
fn the_agent_observes_without_permission_to_watch_nodes() {
    let test_node = TestNode::new(Cluster::shared(), "may-not-watch", 0);
    let agent = Stepping::start(&test_node, "kernel", Duration::from_secs(20));
    test_node.wait_for_written("drifting");
    ask(&test_node, "unheard");
    test_node.pools.set(20_000);
    test_node.wait_for_written("in-sync");
    assert_eq!((agent.outcomes(), annotation(&test_node.node(), "step-result")), (0, None));
}
