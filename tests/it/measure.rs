//! The agent measures NTP servers on loopback whose true offset is known, and all its outputs agree.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use drift_agent::agent::Agent;
use drift_agent::config::raw::{ConfigText, RawConfig, RawPool};
use drift_agent::config::{Listen, Settings};
use drift_agent::http::server;
use drift_agent::os::clock::ShiftedClock;
use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_agent::sources::dns::Dns;
use drift_core::time::Offset;
use jiff::Timestamp;
use serde_json::Value;

use crate::support::{
    BackgroundRuntime, Exposition, Folder, RunningAgent, finish, get, pool, tool, wait_for,
};

const OFF: [&str; 2] = ["--kubernetes", "off"];

fn ahead(millis: i64) -> TimeScale {
    TimeScale::new(millis_of(millis))
}

fn millis_of(millis: i64) -> Offset {
    Offset::from_nanos(millis * 1_000_000)
}

/// Two pools of one server each, on the same time.
fn two_pools(background: &BackgroundRuntime, time: &TimeScale) -> [Server; 2] {
    [(); 2].map(|()| background.server(time, Behaviour::Honest))
}

fn names(servers: &[Server]) -> Vec<String> {
    servers.iter().map(pool).collect()
}

fn offset_and_bound(scrape: &Exposition) -> Option<(f64, f64)> {
    Some((scrape.value("drift_agent_offset_seconds")?, scrape.value("drift_agent_offset_bound_seconds")?))
}

fn is_unknown(scrape: &Exposition) -> Option<()> {
    scrape.is_state("unknown").then_some(())
}

fn clock(port: u16) -> (u16, Value) {
    let (status, body) = get(port, "/v1/clock").expect("it listens");
    (status, serde_json::from_str(&body).expect("JSON"))
}

/// Whether `truth` (reference minus host time, in seconds) is inside the bound that `/v1/clock` reports. Host
/// time is read before and after the request.
fn assert_clock_brackets(port: u16, truth: f64) -> Value {
    let host = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        Timestamp::from_nanosecond(i128::try_from(since.as_nanos()).expect("in range")).expect("in range")
    };
    let plus = |time: Timestamp| time + jiff::SignedDuration::from_secs_f64(truth);
    let before = host();
    let (status, body) = clock(port);
    let after = host();
    assert_eq!(status, 200, "{body}");
    let time = |key: &str| body[key].as_str().expect(key).parse::<Timestamp>().expect(key);
    let (earliest, latest) = (time("earliest"), time("latest"));
    assert!(earliest <= plus(after) && plus(before) <= latest, "{body}, asked from {before} to {after}");
    let width = latest.duration_since(earliest).as_secs_f64();
    let bound = body["boundSeconds"].as_f64().expect("boundSeconds");
    assert!((width - 2.0 * bound).abs() < 1e-8, "{body}");
    assert!((body["offsetSeconds"].as_f64().expect("offsetSeconds") - truth).abs() <= bound, "{body}");
    body
}

#[test]
fn pools_250_ms_ahead_are_reported_as_drift_by_every_output() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("measure-ahead"));
    let servers = two_pools(&background, &ahead(250));
    let agent = RunningAgent::start(folder.path(), &names(&servers), &OFF, |_| {});
    // The truth must be inside the bound of every scrape, from the first one on.
    let scrape = agent.wait_for_scrape("a bound under 5 ms", |scrape| {
        let (offset, bound) = offset_and_bound(scrape)?;
        assert!((offset - 0.25).abs() <= bound, "{offset} ± {bound} lacks the truth");
        (bound < 0.005).then(|| Exposition(scrape.0.clone()))
    });
    assert!(scrape.is_state("drifting"), "{}", scrape.0);
    assert_eq!(scrape.value("drift_agent_pools_agreeing"), Some(2.0));
    for name in names(&servers) {
        let (offset, bound) = (
            scrape.of_pool("pool_offset_seconds", &name),
            scrape.of_pool("pool_offset_bound_seconds", &name),
        );
        assert!((offset.unwrap() - 0.25).abs() <= bound.unwrap(), "{}", scrape.0);
    }
    let body = assert_clock_brackets(agent.port, 0.25);
    assert_eq!(body["state"], "drifting");
    assert!(
        body["boundSeconds"].as_f64().unwrap() < 0.005 && body["estimateAgeSeconds"].as_f64().unwrap() < 10.0
    );
    let (status, text) = get(agent.port, "/readyz").unwrap();
    let in_words = text.starts_with("drifting: The clock is 2") && text.contains(" ms behind (±");
    assert!(status == 200 && in_words, "{status} {text}");
    assert_eq!(get(agent.port, "/healthz"), Some((200, "ok\n".to_owned())));
    eprintln!("offset and bound: {:?}", offset_and_bound(&scrape));
}

#[test]
fn a_pool_10_s_off_is_reported_as_disagreement_and_never_as_drift() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("measure-disagree"));
    let servers = [0, 10_000].map(|ahead_by| background.server(&ahead(ahead_by), Behaviour::Honest));
    let agent = RunningAgent::start(folder.path(), &names(&servers), &OFF, |_| {});
    let disagreement = agent.wait_for_scrape("eight rounds of disagreement", |scrape| {
        assert!(!scrape.is_state("drifting") && !scrape.is_state("in-sync"), "{}", scrape.0);
        assert_eq!(offset_and_bound(scrape), None, "the offset is unknown");
        let disagreement = scrape.value("drift_agent_pool_disagreement_seconds");
        disagreement.filter(|_| scrape.is_state("disagree") && servers[0].served() > 8)
    });
    assert!((disagreement - 10.0).abs() < 0.1, "{disagreement}");
    let (scrape, pools) = (agent.scrape().unwrap(), names(&servers));
    assert_eq!(scrape.value("drift_agent_pools_agreeing"), Some(0.0));
    assert!(
        scrape.of_pool("pool_offset_seconds", &pools[0]).unwrap().abs() < 0.1,
        "each pool is still shown"
    );
    assert_eq!(scrape.of_pool("pool_falseticker", &pools[1]), Some(0.0), "which one is wrong is not known");
    let (status, body) = clock(agent.port);
    assert_eq!((status, &body["state"]), (503, &Value::from("disagree")));
    let reason = body["reason"].as_str().unwrap();
    // `10.0 s`, or `10.00 s` if it is slightly less.
    let off = format!("{} reports 10", pools[1]);
    assert!(reason.contains(&off) && reason.contains(" s behind"), "{reason}");
    assert_eq!(get(agent.port, "/readyz").unwrap().0, 200, "a finding is an answer");
}

#[test]
fn two_of_three_pools_decide_and_the_third_is_named_as_a_falseticker() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("measure-majority"));
    let servers = [250, 10_000, 250].map(|ahead_by| background.server(&ahead(ahead_by), Behaviour::Honest));
    let pools = names(&servers);
    let agent = RunningAgent::start(folder.path(), &pools, &OFF, |_| {});
    let scrape = agent.wait_for_scrape("eight rounds", |scrape| {
        let wrong = ["disagree", "in-sync"].into_iter().find(|state| scrape.is_state(state));
        assert_eq!(wrong, None, "{}", scrape.0);
        if let Some((offset, bound)) = offset_and_bound(scrape) {
            assert!((offset - 0.25).abs() <= bound, "{offset} ± {bound} lacks the truth");
        }
        (scrape.is_state("drifting") && servers[0].served() > 8).then(|| Exposition(scrape.0.clone()))
    });
    assert_eq!(scrape.value("drift_agent_pools_agreeing"), Some(2.0));
    let falsetickers = pools.iter().map(|name| scrape.of_pool("pool_falseticker", name)).collect::<Vec<_>>();
    assert_eq!(falsetickers, [Some(0.0), Some(1.0), Some(0.0)]);
    let (_, text) = get(agent.port, "/readyz").unwrap();
    assert!(text.contains(&pools[1]), "{text}");
}

#[test]
fn verdicts_survive_one_silent_pool_and_end_with_two_until_they_return() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("measure-silent"));
    let servers = two_pools(&background, &ahead(0));
    let pools = names(&servers);
    let arguments = [&OFF[..], &["--max-round-trip", "800ms"]].concat();
    let mut agent = RunningAgent::start(folder.path(), &pools, &arguments, |_| {});
    let in_sync = |agreeing: f64| {
        move |scrape: &Exposition| {
            let agreed = scrape.value("drift_agent_pools_agreeing") == Some(agreeing);
            (agreed && scrape.is_state("in-sync")).then_some(())
        }
    };
    agent.wait_for_scrape("both pools in sync", in_sync(2.0));

    servers[1].behave(Behaviour::Silent);
    agent.wait_for_scrape("one pool in sync", |scrape| {
        assert!(scrape.is_state("in-sync"), "the other pool still speaks: {}", scrape.0);
        in_sync(1.0)(scrape)
    });
    let scrape = agent.scrape().unwrap();
    assert_eq!(scrape.of_pool("pool_offset_seconds", &pools[1]), None);
    assert_eq!(
        scrape.value(&format!("drift_agent_pool_servers{{pool=\"{}\",state=\"unreachable\"}}", pools[1])),
        Some(1.0)
    );
    let ready = get(agent.port, "/readyz").unwrap().1;
    assert!(
        ready.contains(&format!("Measured against {} alone: {} is unreachable", pools[0], pools[1])),
        "{ready}"
    );
    let patch = format!(" {}=unknown\"", pools[1]);
    agent.process.wait_for_output(&patch);

    servers[0].behave(Behaviour::Silent);
    let bounds = std::cell::RefCell::new(Vec::new());
    agent.wait_for_scrape("unknown", |scrape| {
        assert!(!scrape.is_state("drifting") && !scrape.is_state("disagree"), "{}", scrape.0);
        bounds.borrow_mut().extend(offset_and_bound(scrape).map(|(_, bound)| bound));
        is_unknown(scrape)
    });
    let bounds = bounds.into_inner();
    assert!(bounds.last() > bounds.first(), "the bound grows: {:?} to {:?}", bounds.first(), bounds.last());
    let scrape = agent.scrape().unwrap();
    for gone in
        ["offset_seconds", "offset_bound_seconds", "estimate_age_seconds", "pool_disagreement_seconds"]
    {
        assert_eq!(scrape.value(&format!("drift_agent_{gone}")), None, "{gone} is not known any more");
    }
    assert_eq!(scrape.value("drift_agent_pools_agreeing"), Some(0.0));
    let (status, body) = clock(agent.port);
    assert_eq!((status, &body["state"]), (503, &Value::from("unknown")));
    assert!(body["reason"].as_str().unwrap().contains("No pool answers"), "{body}");
    assert_eq!(agent.process.exit_code(), None, "the process lives");
    assert_eq!(get(agent.port, "/healthz").unwrap().0, 200);

    for server in &servers {
        server.behave(Behaviour::Honest);
    }
    agent.wait_for_scrape("both pools in sync again", in_sync(2.0));
    assert_clock_brackets(agent.port, 0.0);
}

/// In sync, over the threshold, and while the pools contradict each other.
#[test]
fn servers_are_asked_at_most_once_per_interval_from_the_start() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("measure-polite"));
    let started = Instant::now();
    let agents = [[0, 0], [250, 250], [0, 10_000]].map(|millis| {
        let servers = millis.map(|ahead_by| background.server(&ahead(ahead_by), Behaviour::Honest));
        (RunningAgent::start(folder.path(), &names(&servers), &OFF, |_| {}), servers)
    });
    for (_agent, servers) in &agents {
        wait_for("twenty exchanges", || (servers[0].served() >= 20).then_some(()));
        for server in servers {
            // The count is read before the clock, so that a slow machine can only widen the limit.
            let (served, seconds) = (server.served(), started.elapsed().as_secs());
            assert!(served <= seconds + 1, "{served} exchanges in {seconds} intervals");
            eprintln!("{served} exchanges in {seconds} s");
        }
    }
}

/// An agent with a wall clock of its own that polls rarely. `None`: an exchange took place between the step and
/// the scrape.
fn step_of_the_wall_clock() -> Option<()> {
    let (background, clock) = (BackgroundRuntime::new(), Arc::new(ShiftedClock::default()));
    let servers = two_pools(&background, &ahead(0));
    let text = |value: &str| ConfigText(value.to_owned());
    let pools = names(&servers).iter().map(|name| RawPool::named(name)).collect();
    let raw = RawConfig { pools: Some(pools), interval: Some(text("64s")), ..RawConfig::default() };
    let settings = Settings::new(raw, RawConfig::default()).unwrap();
    let mut agent = Agent::new(&settings, clock.clone(), Dns::default(), None);
    let listen = Listen { host: Some(Ipv4Addr::LOCALHOST.into()), port: 0 };
    let listener = background.runtime().block_on(server::bind(listen)).unwrap();
    let port = listener.local_addr().unwrap().port();
    background.runtime().spawn(server::serve(listener, agent.handle()));
    background.runtime().spawn(async move { agent.run(std::future::pending(), |_| {}).await });
    let scrape = || get(port, "/metrics").map(|(_, text)| Exposition(text));
    let served = || servers.iter().map(Server::served).sum::<u64>();
    wait_for("in sync, and the quick rounds at the start over", || {
        (served() >= 8 && scrape()?.is_state("in-sync")).then_some(())
    });

    let before = served();
    clock.set(Duration::from_secs(3));
    let (next, body) = (scrape()?, self::clock(port).1);
    if served() != before {
        return None;
    }
    let (offset, bound) = offset_and_bound(&next).unwrap();
    assert!((offset + 3.0).abs() <= bound && bound < 0.1, "{offset} ± {bound}: three seconds ahead by now");
    assert!((body["offsetSeconds"].as_f64().unwrap() + 3.0).abs() <= bound, "{body}");
    wait_for("drifting", || scrape()?.is_state("drifting").then_some(()));
    clock.set(Duration::ZERO);
    let (offset, bound) = offset_and_bound(&scrape()?).unwrap();
    wait_for("in sync again", || scrape()?.is_state("in-sync").then_some(()));
    assert!(offset.abs() <= bound, "{offset} ± {bound}");
    Some(())
}

#[test]
fn wall_clock_steps_show_in_the_next_scrape_without_an_exchange() {
    // The phase of the rounds is random. A round between the step and the scrape makes an attempt useless.
    (0..3)
        .find_map(|_| step_of_the_wall_clock())
        .expect("a round between step and scrape, three times in a row");
}

#[test]
fn metrics_pass_promtool_and_labels_hold_configured_addresses_only() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("measure-promtool"));
    let servers = two_pools(&background, &ahead(250));
    let pools = names(&servers);
    let agent = RunningAgent::start(folder.path(), &pools, &OFF, |_| {});
    agent.wait_for_metric("drift_agent_frequency_error_ratio", |_| true);
    let text = agent.scrape().unwrap().0;
    let lint = finish(std::process::Command::new(tool("promtool")).args(["check", "metrics"]), &text);
    assert_eq!((lint.code, lint.stdout.as_str(), lint.stderr.as_str()), (0, "", ""), "{text}");
    let labels = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split('"').skip(1).step_by(2));
    let mut seen = 0;
    for value in
        labels.filter(|value| value.contains("127.0.0.1") || value.parse::<std::net::IpAddr>().is_ok())
    {
        assert!(pools.iter().any(|pool| pool == value), "{value} is no configured name");
        seen += 1;
    }
    assert!(seen > 0, "the pools are named by address here");
}

#[test]
fn ipv6_only_servers_are_measured() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("measure-ipv6"));
    let time = ahead(-250);
    let start = || {
        let at = (Ipv6Addr::LOCALHOST, 0).into();
        background.runtime().block_on(Server::start_at(at, time.clone(), Behaviour::Honest))
    };
    let servers = match (start(), start()) {
        (Ok(first), Ok(second)) => [first, second],
        (Err(error), _) | (_, Err(error)) => {
            println!("SKIPPED: this machine has no ::1 ({error})");
            return;
        }
    };
    let pools = names(&servers);
    assert!(pools[0].starts_with("[::1]:"), "{pools:?}");
    let agent = RunningAgent::start(folder.path(), &pools, &OFF, |_| {});
    agent.wait_for_state("drifting");
    let (offset, bound) = offset_and_bound(&agent.scrape().unwrap()).unwrap();
    assert!((offset + 0.25).abs() <= bound && bound < 0.1, "{offset} ± {bound}");
    assert!(
        get(agent.port, "/readyz").unwrap().1.contains("ahead"),
        "a negative offset is a clock that is ahead"
    );
}
