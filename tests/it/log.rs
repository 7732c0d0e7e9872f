//! The log as JSON: levels, constant messages, and values as fields with their own types.

use std::collections::BTreeSet;

use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::TimeScale;
use drift_core::time::Offset;
use serde_json::{Map, Value};

use crate::support::{BackgroundRuntime, Folder, RunningAgent, free_udp_port, pool, wait_for};

type Event = Map<String, Value>;

/// Standard error of a run with `--log-format json`: every line is one event.
fn events(agent: &RunningAgent) -> Vec<Event> {
    let output = agent.process.output();
    // The last line may be under way.
    let complete = output.rsplit_once('\n').map_or("", |(complete, _)| complete);
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    complete.lines().map(parse).collect()
}

/// The first event with these fields.
fn wait_for_event(agent: &RunningAgent, fields: &[(&str, &str)]) -> Event {
    let has = |event: &Event| fields.iter().all(|(key, value)| event.get(*key) == Some(&Value::from(*value)));
    wait_for(&format!("{fields:?} in the log"), || events(agent).into_iter().find(has))
}

fn number(event: &Event, key: &str) -> f64 {
    event.get(key).and_then(Value::as_f64).unwrap_or_else(|| panic!("{key} is not a number: {event:?}"))
}

fn assert_level(event: &Event, level: &str) {
    assert_eq!(event["level"], level, "{event:?}");
    assert!(event["timestamp"].is_string(), "{event:?}");
}

#[test]
fn log_as_json_has_the_values_of_a_run_as_typed_fields() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("log-json"));
    let time = TimeScale::new(Offset::ZERO);
    let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
    let closed = format!("127.0.0.1:{}", free_udp_port());
    let pools = [pool(&servers[0]), pool(&servers[1]), closed.clone()];
    let arguments = ["--kubernetes", "off", "--log-format", "json", "--log-level", "trace"];
    let agent = RunningAgent::start(
        folder.path(),
        &pools,
        &[&arguments[..], &["--max-round-trip", "800ms"]].concat(),
        |_| {},
    );

    let started = wait_for_event(&agent, &[("message", "drift-agent started")]);
    assert_level(&started, "INFO");
    assert_eq!((&started["pools"], &started["step_mode"]), (&pools.join(" ").into(), &"off".into()));
    assert_eq!(
        (&started["version"], &started["kubernetes"]),
        (&env!("CARGO_PKG_VERSION").into(), &false.into())
    );
    assert!((number(&started, "interval_seconds") - 1.0).abs() < 1e-9, "{started:?}");

    let in_sync = wait_for_event(&agent, &[("message", "clock state changed"), ("state", "in-sync")]);
    assert_level(&in_sync, "INFO");
    let (offset, bound) = (number(&in_sync, "offset_seconds"), number(&in_sync, "bound_seconds"));
    assert!(offset.abs() <= bound && bound < 0.1, "{in_sync:?}");
    assert_eq!((&in_sync["pools_agreeing"], in_sync["detail"].is_string()), (&2.into(), true));

    let unreachable = wait_for_event(&agent, &[("message", "NTP server rejected"), ("server", &closed)]);
    assert_level(&unreachable, "WARN");
    assert_eq!(
        (&unreachable["pool"], &unreachable["reason"]),
        (&closed.as_str().into(), &"unreachable".into())
    );

    for (message, level, field) in [
        ("sending NTP request", "TRACE", ("request", "sample")),
        ("sample rejected", "DEBUG", ("pool", &closed)),
        ("NTP server accepted", "INFO", ("server", &pools[0])),
    ] {
        assert_level(&wait_for_event(&agent, &[("message", message), field]), level);
    }
    let sample = wait_for_event(&agent, &[("message", "sample accepted"), ("server", &pools[1])]);
    assert_level(&sample, "DEBUG");
    assert!(number(&sample, "offset_seconds").abs() <= number(&sample, "bound_seconds"), "{sample:?}");
    assert!((0.0..0.8).contains(&number(&sample, "round_trip_seconds")), "{sample:?}");

    // Both pools are moved by 250 ms: the state changes, and so does what would be written to the Node.
    time.set(Offset::from_nanos(250_000_000));
    let drifting = wait_for_event(&agent, &[("message", "clock state changed"), ("state", "drifting")]);
    assert_level(&drifting, "WARN");
    assert!(number(&drifting, "offset_seconds") > 0.1, "{drifting:?}");
    let written =
        wait_for_event(&agent, &[("message", "would send an event"), ("reason", "ClockDriftExceeded")]);
    assert!(written["node"].is_string() && written["detail"].is_string(), "{written:?}");

    // One server falls silent.
    servers[1].behave(Behaviour::Silent);
    let silent = [("message", "NTP server rejected"), ("server", pools[1].as_str()), ("reason", "timeout")];
    assert_level(&wait_for_event(&agent, &silent), "WARN");

    // One of the two that are reachable is 10 s off, the other shows the node in sync: neither has a majority.
    time.set(Offset::ZERO);
    servers[1].behave(Behaviour::Offset(Offset::from_nanos(10_000_000_000)));
    let disagree = wait_for_event(&agent, &[("message", "clock state changed"), ("state", "disagree")]);
    assert_level(&disagree, "WARN");
    assert!(
        !disagree.contains_key("offset_seconds") && !disagree.contains_key("bound_seconds"),
        "{disagree:?}"
    );
    assert_eq!(disagree["pools_agreeing"], 0);

    // A message is constant: it holds none of the values.
    let messages: BTreeSet<String> =
        events(&agent).iter().map(|event| event["message"].as_str().expect("a message").to_owned()).collect();
    assert!(!messages.iter().any(|message| message.contains("127.0.0.1")), "{messages:?}");
    assert!(messages.len() < 25, "{messages:?}");
}

#[test]
fn log_at_the_default_level_has_changes_only() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("log-info"));
    let time = TimeScale::new(Offset::ZERO);
    let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
    let pools = servers.each_ref().map(pool);
    let arguments = ["--kubernetes", "off", "--log-format", "json"];
    let agent = RunningAgent::start(folder.path(), &pools, &arguments, |_| {});
    wait_for("ten exchanges", || (servers[0].served() >= 10).then_some(()));
    for event in events(&agent) {
        assert!(["INFO", "WARN"].contains(&event["level"].as_str().unwrap()), "{event:?}");
    }
    let count = |message: &str| events(&agent).iter().filter(|event| event["message"] == message).count();
    assert_eq!((count("NTP server accepted"), count("clock state changed")), (2, 1));
}
