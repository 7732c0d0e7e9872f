//! The sources of last resort: rules that they never break in simulated worlds, and how every output marks
//! them with real HTTP servers.

use drift_core::time::Measurement;
use std::time::Duration;

use drift_agent::sim::behaviour::{Behaviour, ServerModel};
use drift_agent::sim::world::{DateHost, Host, Oscillator, Path, Plan, World, default_settings};
use drift_core::http_date::coarse::HttpSource;
use drift_core::io::Effect;
use drift_core::step::policy::Mode;
use drift_core::time::{Offset, Ppb, Wall};
use drift_core::verdict::State;
use jiff::SignedDuration;
use serde_json::Value;

use crate::support::dates::{DateServer, Manner, ahead};
use crate::support::seeds::for_seeds;
use crate::support::{
    BackgroundRuntime, Folder, RunningAgent, drift_agent, finish, free_udp_port, get, pool, wait_for,
};

const MS: i64 = 1_000_000;
const SEC: i64 = 1_000 * MS;
const MINUTE: Duration = Duration::from_secs(60);
const MIN_INTERVAL: Duration = Duration::from_secs(64);
const PRESENT: Wall = Wall::from_secs(1_795_341_600);
const BURST: Duration = Duration::from_secs(10);

fn path(rng: &mut fastrand::Rng, most: u64) -> Path {
    let mut millis = || Duration::from_millis(rng.u64(1..most));
    Path { there: millis(), back: millis(), jitter: millis() / 4, loss: 0.0 }
}

fn source(name: &str) -> HttpSource {
    HttpSource { url: format!("http://{name}/"), host: name.to_owned() }
}

/// Two pools of two servers with this behaviour, and one to three HTTP servers with the right time.
fn world(seed: u64, offset: Offset, behaviour: Behaviour, change: impl FnOnce(&mut Plan)) -> World {
    let mut rng = fastrand::Rng::with_seed(seed);
    let hosts = rng.usize(1..4);
    let mut settings = default_settings();
    settings.last_resort =
        ["a.invalid", "b.invalid", "c.invalid"][..hosts].iter().map(|n| source(n)).collect();
    let mut host = || Host { model: ServerModel::new(behaviour), path: path(&mut rng, 20) };
    let mut plan = Plan {
        seed,
        present: PRESENT,
        offset,
        oscillator: Oscillator { error: Ppb(0), swing: Ppb(0), period: MINUTE * 600 },
        rtc_ahead: Offset::ZERO,
        pools: vec![vec![host(), host()], vec![host(), host()]],
        settings,
        api_errors: 0.0,
        steps_work: true,
    };
    plan.oscillator.error = Ppb(rng.i64(-190_000..190_000));
    change(&mut plan);
    let error = plan.oscillator.error.0;
    let mut world = World::new(plan);
    world.slew_wall(Ppb(-error));
    let header_age = Duration::from_millis(rng.u64(0..1_000));
    world.date_hosts =
        (0..hosts).map(|_| DateHost { ahead: Offset::ZERO, header_age, path: path(&mut rng, 100) }).collect();
    world
}

fn all_behave(world: &mut World, behaviour: Behaviour) {
    for (pool, index) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        world.change(pool, index, ServerModel::new(behaviour));
    }
}

fn was_asked_seldom(world: &World) -> Result<(), String> {
    for source in 0..3 {
        let times: Vec<Duration> =
            world.date_requests.iter().filter(|(_, s)| *s == source).map(|(at, _)| *at).collect();
        // A request waits up to a second for its send phase.
        let is_fast = |pair: &[Duration]| {
            pair[1].saturating_sub(pair[0]) < MIN_INTERVAL.saturating_sub(Duration::from_secs(1))
        };
        if times.windows(2).any(is_fast) {
            return Err(format!("too often: {times:?}"));
        }
    }
    Ok(())
}

/// Times in reports and events of a drifting node are reference time, to the coarse bound.
fn published_times_are_reference_time(world: &World) -> Result<(), String> {
    let slack = Offset::from_nanos(2 * SEC);
    for (at, effect) in &world.effects {
        let now = PRESENT.plus(Offset::from_nanos(i64::try_from(at.as_nanos()).unwrap_or(0)));
        let times = match effect {
            Effect::WriteNode(report) if report.state == State::Drifting => {
                vec![report.heartbeat, report.transition, report.exceeded_since.unwrap_or(report.heartbeat)]
            }
            Effect::SendEvent(event) => vec![event.at],
            _ => vec![],
        };
        let is_true = |time: &Wall| now.plus(slack) >= *time && time.plus(slack) >= PRESENT;
        if !times.iter().all(is_true) {
            return Err(format!("at {at:?} {effect:?}"));
        }
    }
    Ok(())
}

#[test]
fn http_dates_without_ntp_report_drifting_only_when_true_and_never_in_sync() {
    for_seeds(150, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let offset = Offset::from_nanos(match rng.u8(0..3) {
            0 => rng.i64(-99 * MS..99 * MS),
            1 => rng.i64(-3 * SEC..3 * SEC),
            _ => rng.i64(-1_000_000 * SEC..1_000_000 * SEC),
        });
        let mut world = world(seed, offset, Behaviour::Silent, |_| {});
        world.run_until(MINUTE * 15, |world| {
            let (snapshot, truth) = (world.snapshot(), world.truth());
            let at = world.elapsed();
            if snapshot.measured.is_some() || !matches!(snapshot.state, State::Unknown | State::Drifting) {
                return Err(format!("at {at:?} {:?} {:?}", snapshot.state, snapshot.measured));
            }
            if snapshot.state == State::Drifting && truth.magnitude() <= snapshot.threshold {
                return Err(format!("at {at:?} drifting, and the truth is {truth:?}"));
            }
            match snapshot.coarse.offset() {
                Some(Measurement { offset, bound })
                    if (offset.as_nanos() - truth.as_nanos()).abs() > bound.as_nanos() =>
                {
                    Err(format!("at {at:?} {offset:?} {bound:?}, and the truth is {truth:?}"))
                }
                Some(Measurement { bound, .. }) if bound.as_nanos() < 500 * MS => {
                    Err(format!("{bound:?} is too small"))
                }
                _ => Ok(()),
            }
        })?;
        was_asked_seldom(&world)?;
        let snapshot = world.snapshot();
        let is_far = world.truth().magnitude() > Duration::from_millis(1_900);
        if is_far && snapshot.state != State::Drifting {
            return Err(format!("not drifting with {:?}: {}", world.truth(), snapshot.message()));
        }
        let message = snapshot.message();
        if snapshot.coarse.offset().is_none() || !message.contains("by the HTTP Date header of ") {
            return Err(format!("no coarse offset in {message}"));
        }
        published_times_are_reference_time(&world)?;
        let steps = world.effects.iter().filter(|(_, e)| matches!(e, Effect::Step(_))).count();
        if steps > 0 { Err("stepped".to_owned()) } else { Ok(()) }
    });
}

#[test]
fn http_servers_are_not_asked_while_any_ntp_server_answers() {
    for_seeds(40, |seed| {
        for error in [Offset::ZERO, Offset::from_nanos(10 * SEC)] {
            let mut world = world(seed, Offset::ZERO, Behaviour::Honest, |_| {});
            for index in 0..2 {
                world.change(1, index, ServerModel::new(Behaviour::Offset(error)));
            }
            world.run_until(MINUTE * 20, |world| {
                let snapshot = world.snapshot();
                if snapshot.coarse.0.is_empty() { Ok(()) } else { Err(format!("{:?}", snapshot.coarse)) }
            })?;
            let state = if error == Offset::ZERO { State::InSync } else { State::Disagree };
            if world.snapshot().state != state || !world.date_requests.is_empty() {
                return Err(format!("{:?} {:?}", world.snapshot().state, world.date_requests));
            }
        }
        Ok(())
    });
}

#[test]
fn http_dates_are_used_from_a_stale_estimate_until_ntp_returns() {
    for_seeds(40, |seed| {
        let mut world = world(seed, Offset::ZERO, Behaviour::Honest, |_| {});
        world.run_until(MINUTE * 20, |_| Ok(()))?;
        all_behave(&mut world, Behaviour::Silent);
        let lost = world.elapsed();
        world.run_until(lost + MINUTE * 30, |world| {
            let snapshot = world.snapshot();
            let both = snapshot.measured.is_some() && !snapshot.coarse.0.is_empty();
            if both { Err("both at once".to_owned()) } else { Ok(()) }
        })?;
        let first = world.date_requests.first().map(|(at, _)| *at);
        let stale_after = world.machine.settings().stale_after;
        if first.is_none_or(|at| at + MIN_INTERVAL * 2 < lost + stale_after) {
            return Err(format!("lost at {lost:?}, asked at {first:?}"));
        }
        if world.snapshot().state != State::Unknown {
            return Err(format!("{:?} does not follow from a header", world.snapshot().state));
        }
        was_asked_seldom(&world)?;
        all_behave(&mut world, Behaviour::Honest);
        let back = world.elapsed() + MINUTE * 5;
        world.run_until(back, |_| Ok(()))?;
        let asked = world.date_requests.len();
        world.run_until(back + MINUTE * 20, |_| Ok(()))?;
        if world.snapshot().state != State::InSync || world.date_requests.len() != asked {
            return Err(format!(
                "{:?}, asked {} times more",
                world.snapshot().state,
                world.date_requests.len() - asked
            ));
        }
        Ok(())
    });
}

#[test]
fn http_servers_are_not_asked_during_the_first_burst() {
    for_seeds(40, |seed| {
        let mut world = world(seed, Offset::ZERO, Behaviour::Honest, |plan| {
            // The slowest answers that still count.
            for host in plan.pools.iter_mut().flatten() {
                (host.path.there, host.path.back) = (Duration::from_millis(400), Duration::from_millis(400));
            }
        });
        world.run_until(BURST, |_| Ok(()))?;
        if world.date_requests.is_empty() { Ok(()) } else { Err(format!("{:?}", world.date_requests)) }
    });
}

#[test]
fn http_dates_from_before_a_resume_are_discarded_and_never_cause_a_step() {
    for_seeds(60, |seed| {
        let mut world = world(seed, Offset::ZERO, Behaviour::Silent, |plan| {
            plan.settings.step.mode = Mode::Kernel;
        });
        world.run_until(MINUTE * 10, |_| Ok(()))?;
        if world.snapshot().coarse.offset().is_none() {
            return Err("no offset was reported".to_owned());
        }
        // Whole quarter hours would look like an RTC in local time, as long as no pool answers.
        world.pause(Duration::from_secs(3_700));
        let resumed = world.elapsed();
        let mut states = Vec::new();
        world.run_until(resumed + MINUTE * 10, |world| {
            let (snapshot, truth) = (world.snapshot(), world.truth());
            if states.last() != Some(&snapshot.state) {
                states.push(snapshot.state);
            }
            let Some(Measurement { offset, bound }) = snapshot.coarse.offset() else { return Ok(()) };
            // The agent detects the resume within a second.
            let is_wrong = (offset.as_nanos() - truth.as_nanos()).abs() > bound.as_nanos();
            let is_late = world.elapsed() > resumed + Duration::from_secs(2);
            if is_wrong && is_late { Err(format!("{offset:?} {bound:?} {truth:?}")) } else { Ok(()) }
        })?;
        if !states.ends_with(&[State::Disrupted, State::Drifting]) {
            return Err(format!("{states:?}"));
        }
        match world.effects.iter().find(|(_, e)| matches!(e, Effect::Step(_))) {
            Some(step) => Err(format!("{step:?}")),
            None => Ok(()),
        }
    });
}

#[test]
fn ntp_is_asked_before_http_after_more_resumes_than_there_are_bursts_for() {
    for_seeds(60, |seed| {
        let mut world = world(seed, Offset::ZERO, Behaviour::Honest, |_| {});
        world.run_until(MINUTE * 2, |_| Ok(()))?;
        // Without a burst, the pools are probed after two seconds.
        for _ in 0..5 {
            world.pause(Duration::from_secs(60));
            let resumed = world.elapsed();
            world.run_until(resumed + Duration::from_secs(6), |_| Ok(()))?;
            if world.snapshot().state != State::Drifting {
                return Err(format!("{:?}", world.snapshot().state));
            }
        }
        let then = world.elapsed();
        world.run_until(then + MINUTE * 3, |_| Ok(()))?;
        match (world.snapshot().state, world.date_requests.as_slice()) {
            (State::Drifting, []) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

#[test]
fn contradicting_http_dates_leave_the_clock_unknown() {
    for_seeds(40, |seed| {
        let mut world = world(seed, Offset::ZERO, Behaviour::Silent, |plan| {
            plan.settings.last_resort = vec![source("a.invalid"), source("b.invalid")];
        });
        let honest = world.date_hosts[0];
        world.date_hosts = vec![honest, DateHost { ahead: Offset::from_nanos(3_600 * SEC), ..honest }];
        let mut has_contradicted = false;
        world.run_until(MINUTE * 15, |world| {
            let snapshot = world.snapshot();
            has_contradicted |= snapshot.message().contains("contradict each other; no offset is reported");
            // The one that answers first must not decide alone, not even for a moment.
            if snapshot.state == State::Unknown {
                Ok(())
            } else {
                Err(format!("{:?}: {}", snapshot.state, snapshot.message()))
            }
        })?;
        if has_contradicted { Ok(()) } else { Err("the contradiction was not reported".to_owned()) }
    });
}

/// An agent whose pools have no servers, with these HTTP servers as last resort.
fn agent_without_ntp(folder: &Folder, urls: &[String], arguments: &[&str]) -> RunningAgent {
    let pools = [(); 2].map(|()| format!("127.0.0.1:{}", free_udp_port()));
    let urls: Vec<&str> = urls.iter().flat_map(|url| ["--last-resort-http-date", url]).collect();
    let arguments = [&urls[..], &["--kubernetes", "off"], arguments].concat();
    RunningAgent::start(folder.path(), &pools, &arguments, |_| {})
}

fn clock(agent: &RunningAgent) -> (u16, Value) {
    let (status, body) = get(agent.port, "/v1/clock").expect("an answer");
    (status, serde_json::from_str(&body).expect("JSON"))
}

#[test]
fn every_output_marks_http_dates_as_coarse() {
    let folder = Folder::new("last-resort-coarse");
    let server = DateServer::start(ahead(SignedDuration::from_secs(20)));
    let agent = agent_without_ntp(&folder, &[server.url()], &[]);
    agent.wait_for_state("drifting");
    let scrape = agent.scrape().unwrap();
    assert_eq!(scrape.value("drift_agent_offset_is_coarse"), Some(1.0));
    let value = |name: &str| scrape.value(name).unwrap_or_else(|| panic!("no {name} in {}", scrape.0));
    let (offset, bound) =
        (value("drift_agent_coarse_offset_seconds"), value("drift_agent_coarse_offset_bound_seconds"));
    assert!((offset - 20.0).abs() <= bound && (0.5..1.6).contains(&bound), "{offset} ± {bound}");
    for name in ["offset_seconds", "offset_bound_seconds", "recommended_leeway_seconds"] {
        assert_eq!(scrape.value(&format!("drift_agent_{name}")), None, "{name} is for measurements");
    }

    let (status, clock) = clock(&agent);
    assert_eq!(
        (status, &clock["state"], &clock["coarse"]),
        (503, &"drifting".into(), &true.into()),
        "{clock}"
    );
    assert!(clock["offsetSeconds"].is_null() && clock["earliest"].is_null(), "{clock}");
    let number = |key: &str| clock[key].as_f64().unwrap_or_else(|| panic!("no {key} in {clock}"));
    assert!((number("coarseOffsetSeconds") - 20.0).abs() <= number("coarseBoundSeconds"), "{clock}");
    // 20 s, the bound, and 100 ms for others, in whole seconds.
    assert!((21.0..=23.0).contains(&number("recommendedLeewaySeconds")), "{clock}");
    assert!(
        clock["leewayReason"].as_str().unwrap().ends_with("coarse, by HTTP Date headers alone"),
        "{clock}"
    );

    let coarse =
        format!("by the HTTP Date header of {}, coarse: over the threshold of 100 ms.", server.host());
    assert!(clock["reason"].as_str().unwrap().contains(&coarse), "{clock}");
    let page = page(&agent);
    for text in [coarse.as_str(), "coarse: by HTTP Date headers", "Last resort: HTTP Date headers (coarse)"] {
        assert!(page.contains(text), "{text:?} is missing: {page}");
    }
    let annotation = "\"drift-agent.io/pools\":\"127.0.0.1:";
    wait_for("the patch in the log", || {
        let log = agent.process.output();
        let patch =
            log.lines().find(|line| line.contains("would apply") && line.contains("drifting"))?.to_owned();
        let named = format!("http-date:{}=+", server.host());
        assert!(patch.contains(annotation) && patch.contains(&named) && patch.contains(&coarse), "{patch}");
        assert!(!patch.contains("offset-seconds") && !patch.contains("observed-at"), "{patch}");
        Some(())
    });
    agent.process.wait_for_output("no NTP server responds: using an HTTP Date header (coarse)");
    assert_eq!(server.heads().len(), 1, "one request within 64 s");
}

/// The page as a browser gets it.
fn page(agent: &RunningAgent) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", agent.port)).unwrap();
    write!(stream, "GET /?still HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn clocks_within_the_precision_of_http_dates_stay_unknown() {
    let folder = Folder::new("last-resort-near");
    let server = DateServer::start(ahead(SignedDuration::ZERO));
    let agent = agent_without_ntp(&folder, &[server.url()], &[]);
    agent.wait_for_metric("drift_agent_offset_is_coarse", |coarse| coarse > 0.5);
    assert!(agent.scrape().unwrap().is_state("unknown"));
    let (status, clock) = clock(&agent);
    assert_eq!(
        (status, &clock["state"], &clock["coarse"]),
        (503, &"unknown".into(), &true.into()),
        "{clock}"
    );
    let reason = clock["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("Nothing measured yet.")
            && reason.ends_with(", coarse: too imprecise for a verdict."),
        "{reason}"
    );
    assert_eq!(clock["recommendedLeewaySeconds"], 5, "{clock}");
}

#[test]
fn unusable_http_dates_are_logged_and_give_no_offset() {
    let folder = Folder::new("last-resort-useless");
    let server = DateServer::start(Manner::Date(SignedDuration::from_secs(20), "200 OK", "Age: 30\r\n"));
    let agent = agent_without_ntp(&folder, &[server.url()], &[]);
    agent.process.wait_for_output(&format!(
        "HTTP Date header rejected host=\"{}\" reason=a cache on the way",
        server.host()
    ));
    let scrape = agent.scrape().unwrap();
    assert!(
        scrape.is_state("unknown") && scrape.value("drift_agent_offset_is_coarse") == Some(0.0),
        "{}",
        scrape.0
    );
    assert_eq!(scrape.value("drift_agent_coarse_offset_seconds"), None);
    assert_eq!(clock(&agent).1["recommendedLeewaySeconds"], 30);
}

#[test]
fn http_servers_get_no_request_when_ntp_works() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("last-resort-idle"));
    let time = drift_agent::sim::server::TimeScale::new(Offset::ZERO);
    let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
    let pools = servers.each_ref().map(pool);
    let server = DateServer::start(ahead(SignedDuration::from_secs(20)));
    let arguments = ["--kubernetes", "off", "--last-resort-http-date", &server.url()];
    let agent = RunningAgent::start(folder.path(), &pools, &arguments, |_| {});
    agent.wait_for_state("in-sync");
    wait_for("some rounds", || (servers[0].served() >= 10).then_some(()));
    assert_eq!(agent.metric("drift_agent_offset_is_coarse"), Some(0.0));
    let (status, clock) = clock(&agent);
    assert_eq!((status, &clock["coarse"]), (200, &false.into()), "{clock}");
    assert_eq!(server.heads(), [] as [String; 0]);
}

#[test]
fn http_date_servers_are_set_by_flag_environment_or_file() {
    let folder = Folder::new("last-resort-config");
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, "lastResort:\n  - kind: http-date\n    url: http://file.example\n").unwrap();
    let printed = |arguments: &[&str], env: Option<&str>| {
        let mut command = drift_agent();
        command
            .arg("check-config")
            .args(arguments)
            .envs(env.map(|urls| ("DRIFT_AGENT_LAST_RESORT_HTTP_DATE", urls)));
        let ended = finish(&mut command, "");
        let urls = ended.stdout.lines().filter_map(|line| line.strip_prefix("    url: "));
        (ended.code, urls.map(str::to_owned).collect::<Vec<_>>(), ended)
    };
    let config = ["--config", file.to_str().unwrap()];
    assert_eq!(printed(&config, None).1, ["\"http://file.example\""]);
    assert_eq!(printed(&config, Some("http://a.example,http://b.example")).1.len(), 2);
    let flag = [&config[..], &["--last-resort-http-date", "http://c.example:8080/x"]].concat();
    assert_eq!(printed(&flag, Some("http://a.example")).1, ["\"http://c.example:8080/x\""]);
    assert!(printed(&[], None).2.stdout.contains("\nlastResort: []\n"));
    let (code, _, ended) = printed(&["--last-resort-http-date", "https://a.example"], None);
    assert_eq!((code, ended.stderr.lines().count()), (64, 1), "{ended:?}");
    for word in ["lastResort.url", "\"https://a.example\"", "no certificate is valid", "the command line"] {
        assert!(ended.stderr.contains(word), "{word:?} is missing: {ended:?}");
    }
}
