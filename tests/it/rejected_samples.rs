//! Misbehaving servers on real sockets: each rejected sample is counted by its reason and logged once.

use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_core::time::Offset;

use crate::support::{BackgroundRuntime, Exposition, Folder, RunningAgent, get, pool};

const ARGUMENTS: [&str; 4] = ["--kubernetes", "off", "--max-round-trip", "800ms"];

/// A behaviour and the reason for which its answers are rejected.
const CASES: [(Behaviour, &str); 18] = [
    (Behaviour::Stratum16, "unsynchronised"),
    (Behaviour::LeapAlarm, "unsynchronised"),
    (Behaviour::Kiss(*b"RATE"), "kiss_of_death"),
    (Behaviour::Kiss(*b"DENY"), "kiss_of_death"),
    (Behaviour::Kiss(*b"XXXX"), "kiss_of_death"),
    (Behaviour::ForgedKiss(*b"DENY"), "wrong_origin"),
    (Behaviour::ZeroTransmit, "zero_timestamp"),
    (Behaviour::ZeroBoth, "zero_timestamp"),
    (Behaviour::Swapped, "transmit_before_receive"),
    (Behaviour::HugeRootDispersion, "root_distance"),
    (Behaviour::Broadcast, "malformed"),
    (Behaviour::Silent, "timeout"),
    (Behaviour::WrongOrigin, "wrong_origin"),
    (Behaviour::Garbage(0), "malformed"),
    (Behaviour::Garbage(1), "malformed"),
    (Behaviour::Garbage(47), "malformed"),
    (Behaviour::Garbage(48), "wrong_origin"),
    (Behaviour::Garbage(65_507), "wrong_origin"),
];

/// Two honest servers and one server for each case. Each is a pool of its own, so that it is counted
/// separately.
struct Fixture {
    background: BackgroundRuntime,
    time: TimeScale,
    honest: [Server; 2],
    misbehaving: Vec<Server>,
}

impl Fixture {
    fn new(behaviour: impl Fn(usize) -> Behaviour) -> Self {
        let (background, time) = (BackgroundRuntime::new(), TimeScale::new(Offset::ZERO));
        let honest = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
        let misbehaving = (0..CASES.len()).map(|n| background.server(&time, behaviour(n))).collect();
        Self { background, time, honest, misbehaving }
    }

    fn pools<'a>(&'a self, more: impl IntoIterator<Item = &'a Server>) -> Vec<String> {
        self.honest.iter().chain(&self.misbehaving).chain(more).map(pool).collect()
    }
}

/// What the log has about a server, in order: `accepted`, or the reason for which its exchanges are rejected.
fn logged(log: &str, server: &str) -> Vec<String> {
    let field = format!("server={server}");
    let result = |line: &str| match line.split_once(" reason=\"") {
        Some((_, reason)) => reason.split('"').next().unwrap_or_default().to_owned(),
        None if line.contains("NTP server accepted") => "accepted".to_owned(),
        None => line.to_owned(),
    };
    log.lines().filter(|line| line.split_whitespace().any(|word| word == field)).map(result).collect()
}

fn assert_runs(agent: &mut RunningAgent) {
    assert_eq!(agent.process.exit_code(), None);
    assert_eq!(get(agent.port, "/healthz").map(|(status, _)| status), Some(200));
    assert!(!agent.process.output().contains("panicked"));
}

#[test]
fn rejected_samples_are_counted_by_reason_from_the_first_exchange() {
    let folder = Folder::new("rejected-first");
    let fixture = Fixture::new(|n| CASES[n].0);
    let twice = fixture.background.server(&fixture.time, Behaviour::Twice);
    let closed = format!("127.0.0.1:{}", crate::support::free_udp_port());
    let pools = [fixture.pools([&twice]), vec![closed.clone()]].concat();
    let mut agent = RunningAgent::start(folder.path(), &pools, &ARGUMENTS, |_| {});
    let scrape = agent.wait_for_scrape("twenty rounds", |scrape| {
        assert!(!["drifting", "disagree"].iter().any(|state| scrape.is_state(state)), "{}", scrape.0);
        (fixture.honest[0].served() >= 20).then(|| Exposition(scrape.0.clone()))
    });
    assert!(scrape.is_state("in-sync"), "{}", scrape.0);

    let log = agent.process.output();
    for (server, (behaviour, label)) in fixture.misbehaving.iter().zip(CASES) {
        let name = pool(server);
        let (samples, served) = (scrape.samples(&name), server.served());
        assert_eq!(samples.keys().map(String::as_str).collect::<Vec<_>>(), [label], "{behaviour:?}");
        let backed_off =
            scrape.value(&format!("drift_agent_pool_servers{{pool=\"{name}\",state=\"backed-off\"}}"));
        match behaviour {
            // Obeyed at once: not asked for an hour.
            Behaviour::Kiss(code) if code == *b"DENY" => {
                assert_eq!((samples[label], served, backed_off), (1, 1, Some(1.0)));
            }
            // Once more after 2 s, and then not within 17 s.
            Behaviour::Kiss(code) if code == *b"RATE" => {
                assert!((2..=3).contains(&served) && backed_off == Some(1.0), "{served} {backed_off:?}");
            }
            _ => assert!(samples[label] >= 12 && backed_off == Some(0.0), "{behaviour:?}: {samples:?}"),
        }
        assert!(
            served <= fixture.honest[0].served() + 1,
            "{behaviour:?} was asked faster than an honest server: {served}"
        );
        assert_eq!(logged(&log, &name).len(), 1, "{behaviour:?} is logged once\n{log}");
        assert_eq!(scrape.of_pool("pool_offset_seconds", &name), None, "{behaviour:?} gives no offset");
        eprintln!("{behaviour:?}: asked {served} times, {samples:?}, logged {}", logged(&log, &name)[0]);
    }
    let samples = scrape.samples(&closed);
    assert!(samples["unreachable"] >= 12 && samples.len() == 1, "{samples:?}");
    assert_eq!(logged(&log, &closed), ["unreachable"]);
    let samples = scrape.samples(&pool(&twice));
    assert!(samples["accepted"] >= 12 && samples.len() == 1, "duplicates are accepted: {samples:?}");
    assert_runs(&mut agent);
}

#[test]
fn rejected_samples_are_counted_by_reason_after_good_exchanges() {
    let folder = Folder::new("rejected-later");
    let mut fixture = Fixture::new(|_| Behaviour::Honest);
    let stopping = fixture.background.server(&fixture.time, Behaviour::Honest);
    let gone = pool(&stopping);
    let mut agent = RunningAgent::start(folder.path(), &fixture.pools([&stopping]), &ARGUMENTS, |_| {});
    let all = fixture.pools([&stopping]).len().to_string();
    agent.wait_for_metric("drift_agent_pools_agreeing", |pools| pools.to_string() == all);
    // Most pools are about to vanish. While the rate is unknown, their last samples would allow almost any offset.
    agent.wait_for_metric("drift_agent_frequency_error_bound_ratio", |bound| bound < 0.01);
    fixture.misbehaving.iter_mut().zip(CASES).for_each(|(server, (behaviour, _))| server.behave(behaviour));
    drop(stopping);

    // A kiss-o'-death may end the requests for longer than this test.
    let least = |behaviour: &Behaviour| if matches!(behaviour, Behaviour::Kiss(_)) { 1 } else { 2 };
    let is_counted = |scrape: &Exposition, name: &str, label: &str, least: u64| {
        scrape.samples(name).get(label).is_some_and(|count| *count >= least)
    };
    agent.wait_for_scrape("each reason", |scrape| {
        assert!(scrape.is_state("in-sync"), "the honest servers still answer: {}", scrape.0);
        let is_done = |(server, (behaviour, label)): (&Server, &(Behaviour, &str))| {
            is_counted(scrape, &pool(server), label, least(behaviour))
        };
        let all = fixture.misbehaving.iter().zip(&CASES).all(is_done);
        (all && is_counted(scrape, &gone, "unreachable", 2)).then_some(())
    });
    // A single time-out is no news: it is logged when several come in a row.
    agent.process.wait_for_output("reason=\"timeout\"");

    let (log, scrape) = (agent.process.output(), agent.scrape().unwrap());
    for (server, (behaviour, label)) in fixture.misbehaving.iter().zip(CASES) {
        let name = pool(server);
        let results = scrape.samples(&name).into_keys().collect::<Vec<_>>();
        let mut expected = ["accepted", label];
        expected.sort_unstable();
        assert_eq!(results, expected, "{behaviour:?}");
        assert_eq!(logged(&log, &name), ["accepted", label], "{behaviour:?} is logged when it changes");
    }
    assert_eq!(logged(&log, &gone), ["accepted", "unreachable"]);
    assert_runs(&mut agent);
}
