//! Misbehaving servers on real sockets: each rejected sample is counted by its reason and logged once.

use std::collections::BTreeMap;

use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_core::time::Offset;

use crate::support::{BackgroundRuntime, Exposition, Folder, RunningAgent, get, pool};

const ARGUMENTS: [&str; 4] = ["--kubernetes", "off", "--max-round-trip", "800ms"];

/// A behaviour, its reject reason when the first header read meets it, and its two reasons when it begins
/// after good exchanges: that of rsntp's exchange, which checks less, and then that of the next header read.
const CASES: [(Behaviour, &str, [&str; 2]); 18] = [
    (Behaviour::Stratum16, "unsynchronised", ["unsynchronised"; 2]),
    (Behaviour::LeapAlarm, "unsynchronised", ["unsynchronised"; 2]),
    (Behaviour::Kiss(*b"RATE"), "kiss_of_death", ["kiss_of_death"; 2]),
    (Behaviour::Kiss(*b"DENY"), "kiss_of_death", ["kiss_of_death"; 2]),
    (Behaviour::Kiss(*b"XXXX"), "kiss_of_death", ["kiss_of_death"; 2]),
    // rsntp accepts it; the header read does not.
    (Behaviour::ForgedKiss(*b"XXXX"), "wrong_origin", ["kiss_of_death", "wrong_origin"]),
    // rsntp reads zero as the year 2036.
    (Behaviour::ZeroTransmit, "zero_timestamp", ["impossible_round_trip", "zero_timestamp"]),
    (Behaviour::ZeroBoth, "zero_timestamp", ["zero_timestamp"; 2]),
    (Behaviour::Swapped, "transmit_before_receive", ["impossible_round_trip", "transmit_before_receive"]),
    // rsntp does not check these two.
    (Behaviour::HugeRootDispersion, "root_distance", ["accepted", "root_distance"]),
    (Behaviour::Broadcast, "malformed", ["accepted", "malformed"]),
    (Behaviour::Silent, "timeout", ["timeout"; 2]),
    (Behaviour::WrongOrigin, "wrong_origin", ["wrong_origin"; 2]),
    (Behaviour::Garbage(0), "malformed", ["malformed"; 2]),
    (Behaviour::Garbage(1), "malformed", ["malformed"; 2]),
    (Behaviour::Garbage(47), "malformed", ["malformed"; 2]),
    (Behaviour::Garbage(48), "malformed", ["wrong_origin", "malformed"]),
    (Behaviour::Garbage(65_507), "malformed", ["wrong_origin", "malformed"]),
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
    let scrape = agent.wait_for_scrape("sixteen rounds", |scrape| {
        assert!(!["drifting", "disagree"].iter().any(|state| scrape.is_state(state)), "{}", scrape.0);
        (fixture.honest[0].served() >= 20).then(|| Exposition(scrape.0.clone()))
    });
    assert!(scrape.is_state("in-sync"), "{}", scrape.0);

    let log = agent.process.output();
    for (server, (behaviour, label, _)) in fixture.misbehaving.iter().zip(CASES) {
        let name = pool(server);
        let (samples, served) = (scrape.samples(&name), server.served());
        assert_eq!(samples.keys().map(String::as_str).collect::<Vec<_>>(), [label], "{behaviour:?}");
        let backed_off =
            scrape.value(&format!("drift_agent_pool_servers{{pool=\"{name}\",state=\"backed-off\"}}"));
        match behaviour {
            // Obeyed when it comes twice in a row: not asked for an hour.
            Behaviour::Kiss(code) if code == *b"DENY" => {
                assert_eq!((samples[label], served, backed_off), (2, 2, Some(1.0)));
            }
            // Each two in a row double the interval.
            Behaviour::Kiss(code) if code == *b"RATE" => {
                assert!((3..=8).contains(&served) && backed_off == Some(0.0), "{served}");
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
    let before = agent.scrape().unwrap();
    fixture.misbehaving.iter_mut().zip(CASES).for_each(|(server, (behaviour, ..))| server.behave(behaviour));
    drop(stopping);

    let gained = |scrape: &Exposition, name: &str, label: &str| {
        let count = |scrape: &Exposition| scrape.samples(name).get(label).copied().unwrap_or(0);
        count(scrape) - count(&before)
    };
    for phase in [0, 1] {
        agent.wait_for_scrape(
            ["the reasons of rsntp's exchange", "the reasons of the header read"][phase],
            |scrape| {
                assert!(scrape.is_state("in-sync"), "the honest servers still answer: {}", scrape.0);
                let counted = |(server, case): (&Server, &(Behaviour, &str, [&str; 2]))| {
                    // The header read after a kiss-o'-death confirms it, or shows that it was forged.
                    let least = if matches!(case.0, Behaviour::ForgedKiss(_)) { 1 } else { 2 };
                    gained(scrape, &pool(server), case.2[phase]) >= least
                };
                (fixture.misbehaving.iter().zip(&CASES).all(counted)
                    && gained(scrape, &gone, "unreachable") >= 2)
                    .then_some(())
            },
        );
    }

    let (log, scrape) = (agent.process.output(), agent.scrape().unwrap());
    for (server, (behaviour, _, labels)) in fixture.misbehaving.iter().zip(CASES) {
        let name = pool(server);
        let mut rejected: BTreeMap<String, u64> = scrape.samples(&name);
        rejected.remove("accepted");
        let expected: std::collections::BTreeSet<&str> =
            labels.into_iter().filter(|label| *label != "accepted").collect();
        assert_eq!(
            rejected.keys().map(String::as_str).collect::<Vec<_>>(),
            Vec::from_iter(expected),
            "{behaviour:?}"
        );
        let logged = logged(&log, &name);
        assert_eq!(logged[0], "accepted");
        assert!(
            logged.windows(2).all(|pair| pair[0] != pair[1]),
            "{behaviour:?} is logged twice in a row: {logged:?}"
        );
        assert_eq!(logged.len() - 1, rejected.len(), "{behaviour:?}: one line for each change: {logged:?}");
        eprintln!("{behaviour:?}: {rejected:?}, logged {logged:?}");
    }
    assert_eq!(logged(&log, &gone), ["accepted", "unreachable"]);
    assert_runs(&mut agent);
}
