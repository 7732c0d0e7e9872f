//! `drift-agent check` as a diagnosis: the node's own state, a network without NTP, and the time by HTTP.

use drift_agent::os::chrony::Tracking;
use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::manners::Limit;
use drift_agent::sim::server::{Server, TimeScale};
use drift_core::time::Offset;
use jiff::SignedDuration;
use serde_json::Value;

use crate::support::chronyd::Chronyd;
use crate::support::dates::{DateServer, Manner, ahead, date};
use crate::support::{BackgroundRuntime, Ended, Folder, drift_agent, finish, free_udp_port, pool};

/// Without the socket of the machine's own chronyd.
const NO_CHRONY: [&str; 2] = ["--chrony-socket", "/nonexistent/run/chronyd.sock"];

fn check(pools: &[String], options: &[&str]) -> Ended {
    let pools = pools.iter().flat_map(|pool| ["--pool", pool]);
    finish(drift_agent().arg("check").args(pools).args(options), "")
}

/// The same as JSON: exit code and report.
fn report(pools: &[String], options: &[&str]) -> (i32, Value) {
    let ended = check(pools, &[options, &["--output", "json"]].concat());
    assert_eq!(ended.stderr, "", "{ended:?}");
    (ended.code, serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}")))
}

fn seconds(secs: i64) -> SignedDuration {
    SignedDuration::from_secs(secs)
}

fn servers(
    background: &BackgroundRuntime,
    ahead_ms: [i64; 2],
    behaviour: Behaviour,
) -> ([Server; 2], [String; 2]) {
    let time = |millis: i64| TimeScale::new(Offset::from_nanos(millis * 1_000_000));
    let servers = ahead_ms.map(|millis| background.server(&time(millis), behaviour));
    let names = servers.each_ref().map(pool);
    (servers, names)
}

/// Pools whose ports are closed.
fn no_server() -> [String; 2] {
    [(); 2].map(|()| format!("127.0.0.1:{}", free_udp_port()))
}

fn line<'a>(table: &'a str, name: &str) -> &'a str {
    table
        .lines()
        .map(str::trim_end)
        .find(|line| line.starts_with(name))
        .unwrap_or_else(|| panic!("no {name:?} in {table}"))
}

#[test]
fn check_prints_chrony_and_kernel_state_below_the_pools() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("check-chrony"));
    let (_servers, names) = servers(&background, [0, 0], Behaviour::Honest);
    let port = names[0].rsplit_once(':').unwrap().1;
    let source = format!("server 127.0.0.1 port {port} iburst minpoll 0 maxpoll 0");
    let chronyd = Chronyd::start(&background, &folder, &[&source]);
    let tracking = chronyd.wait_for(&background, "chronyd to follow", Tracking::is_synchronised);
    let socket = chronyd.socket().display().to_string();
    let ended = check(&names, &["--chrony-socket", &socket]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let (_, section) = ended.stdout.split_once("\nTHIS NODE\n").expect("the section");
    let chrony = line(section, "chrony");
    let stratum = format!("follows 127.0.0.1 at stratum {}; reports the clock ", tracking.stratum);
    assert!(chrony.contains(&stratum) && chrony.contains("leap status normal; last update "), "{chrony}");
    assert!(chrony.ends_with(&format!("({socket})")), "{chrony}");
    assert!(line(section, "time daemon").ends_with("  chrony"), "{section}");
    let kernel = line(section, "kernel");
    assert!(
        kernel.contains("synchronised") && kernel.contains("; error at most ") && kernel.contains(" ppm; "),
        "{kernel}"
    );

    let (code, report) = report(&names, &["--chrony-socket", &socket]);
    let node = &report["node"];
    assert_eq!((code, &node["timeDaemon"]), (0, &Value::from("chrony")), "{report}");
    for (key, value) in
        [("reference", Value::from("127.0.0.1")), ("leap", "none".into()), ("synchronized", true.into())]
    {
        assert_eq!(node["chrony"][key], value, "{node}");
    }
    assert_eq!(node["chrony"]["contradictsMeasurement"], false, "{node}");
    assert!(node["chrony"]["offsetSeconds"].as_f64().unwrap().abs() < 1.0, "{node}");
    assert!(node["chrony"]["lastUpdateAgeSeconds"].as_f64().unwrap() >= 0.0, "{node}");
    for key in ["maxErrorSeconds", "estimatedErrorSeconds", "frequencyRatio"] {
        assert!(node["kernel"][key].is_f64(), "{node}");
    }
}

#[test]
fn check_reports_a_chrony_that_takes_a_wrong_clock_for_right() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("check-deceived"));
    let (_right, names) = servers(&background, [0, 0], Behaviour::Honest);
    let (_wrong, pools) = servers(&background, [20_000, 20_000], Behaviour::Honest);
    let port = names[0].rsplit_once(':').unwrap().1;
    let source = format!("server 127.0.0.1 port {port} iburst minpoll 0 maxpoll 0");
    let chronyd = Chronyd::start(&background, &folder, &[&source]);
    chronyd.wait_for(&background, "chronyd to follow", Tracking::is_synchronised);
    let socket = chronyd.socket().display().to_string();
    let ended = check(&pools, &["--chrony-socket", &socket]);
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stdout.contains(
            "chrony reports an offset within the threshold, but the clock was measured 20.0 s behind (±"
        ),
        "{ended:?}"
    );
    let (_, report) = report(&pools, &["--chrony-socket", &socket]);
    assert_eq!(report["node"]["chrony"]["contradictsMeasurement"], true, "{report}");
}

#[test]
fn check_without_chrony_reports_its_absence_and_keeps_the_verdict() {
    let background = BackgroundRuntime::new();
    let (_servers, names) = servers(&background, [0, 0], Behaviour::Honest);
    let (code, report) = report(&names, &NO_CHRONY);
    assert_eq!(code, 0, "{report}");
    // The machine's own chronyd may answer by UDP, but not at the socket.
    let chrony = &report["node"]["chrony"];
    let by_udp = chrony["asked"].as_str().is_some_and(|asked| asked.starts_with("UDP"));
    let error = chrony["error"].as_str().unwrap_or_default();
    assert!(
        by_udp || error.contains("/nonexistent/run/chronyd.sock") && error.contains("UDP 127.0.0.1:323"),
        "{report}"
    );
}

/// Pools of one server each, ahead by so much, and their names.
fn pools_ahead(background: &BackgroundRuntime, ahead_ms: &[i64]) -> (Vec<Server>, Vec<String>) {
    let start = |millis: &i64| {
        background.server(&TimeScale::new(Offset::from_nanos(millis * 1_000_000)), Behaviour::Honest)
    };
    let servers: Vec<Server> = ahead_ms.iter().map(start).collect();
    let names = servers.iter().map(pool).collect();
    (servers, names)
}

#[test]
fn a_third_pool_names_the_wrong_one_of_two() {
    let background = BackgroundRuntime::new();
    let (_servers, names) = pools_ahead(&background, &[0, 10_000, 0]);
    let ended = check(&names, &NO_CHRONY);
    assert_eq!(ended.code, 0, "{ended:?}");
    let wrong = format!(" Pool {} is wrong: 10.0 s ahead of the others.\n", names[1]);
    assert!(ended.stdout.starts_with("in-sync: The clock is ") && ended.stdout.contains(&wrong), "{ended:?}");
    let row = line(&ended.stdout, &names[1]);
    assert!(row.ends_with("falseticker: 10.0 s ahead of the others; 1 of 1 servers answer"), "{row}");
    let server = line(&ended.stdout, &format!("  {}", names[1]));
    assert!(server.ends_with("  falseticker"), "{server}");
    let (_, report) = report(&names, &NO_CHRONY);
    let of_pools =
        |key: &str| report["pools"].as_array().unwrap().iter().map(|p| p[key].clone()).collect::<Vec<_>>();
    assert_eq!(of_pools("isFalseticker"), [false, true, false].map(Value::from), "{report}");
    assert_eq!(report["contradiction"], false, "{report}");
    assert_eq!(of_pools("sameServerAs"), [(); 3].map(|()| Value::Null), "{report}");
}

#[test]
fn contradicting_pools_on_one_side_of_the_threshold_give_a_verdict() {
    let background = BackgroundRuntime::new();
    for (ahead_ms, code, side) in [([5_000, 5_020], 1, "over"), ([0, 60], 0, "within"), ([0, 10_000], 2, "")]
    {
        let (_servers, names) = pools_ahead(&background, &ahead_ms);
        let (found, report) = report(&names, &NO_CHRONY);
        assert_eq!((found, &report["contradiction"]), (code, &Value::from(true)), "{report}");
        assert_eq!(report["offsetSeconds"].is_f64(), code != 2, "{report}");
        let message = report["message"].as_str().unwrap();
        let apart = format!("; all are {side} the threshold.");
        assert_eq!(
            message.contains("The pools differ by ") && message.ends_with(&apart),
            code != 2,
            "{message}"
        );
    }
}

#[test]
fn offsets_of_a_known_size_are_named() {
    let background = BackgroundRuntime::new();
    for (ahead_ms, shape, words) in [
        (37_000, "tai", "The clock is 37.0 s behind"),
        (-18_000, "gps", "That is 18 s, as far as GPS time is ahead of UTC: look for a GPS receiver"),
        (-25_200_000, "local-time", "The clock is 7 h ahead"),
    ] {
        let (_servers, names) = servers(&background, [ahead_ms, ahead_ms], Behaviour::Honest);
        let (code, report) = report(&names, &NO_CHRONY);
        assert_eq!((code, &report["offsetShape"]), (1, &Value::from(shape)), "{report}");
        let message = report["message"].as_str().unwrap();
        assert!(message.contains(words) && message.contains(" That is "), "{message}");
    }
    let (_servers, names) = servers(&background, [20_000, 20_000], Behaviour::Honest);
    let (code, report) = report(&names, &NO_CHRONY);
    assert_eq!((code, &report["offsetShape"]), (1, &Value::Null), "{report}");
}

#[test]
fn one_pool_alone_is_accepted_on_request_and_marked() {
    let background = BackgroundRuntime::new();
    let (_servers, [name, _]) = servers(&background, [0, 0], Behaviour::Honest);
    let refused = check(std::slice::from_ref(&name), &NO_CHRONY);
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.stderr.contains("a site that has one alone sets allowSinglePool"), "{refused:?}");
    let allowed = [&NO_CHRONY[..], &["--allow-single-pool"]].concat();
    let (code, report) = report(std::slice::from_ref(&name), &allowed);
    assert_eq!((code, &report["singlePool"]), (0, &Value::from(true)), "{report}");
    let words = format!(" {name} is the only pool (allowSinglePool): nothing confirms it.");
    assert!(report["message"].as_str().unwrap().ends_with(&words), "{report}");
    let ended = check(&[name], &allowed);
    assert!(ended.code == 0 && ended.stdout.contains(words.trim_start()), "{ended:?}");
}

#[test]
fn windows_servers_are_rejected_with_advice_and_measured_by_a_promise() {
    let background = BackgroundRuntime::new();
    let (_servers, names) = servers(&background, [0, 0], Behaviour::HugeRootDispersion);
    let (code, rejected) = report(&names, &NO_CHRONY);
    assert_eq!(code, 3, "{rejected}");
    let error = rejected["pools"][0]["error"].as_str().unwrap();
    assert_eq!(
        error,
        "root distance over the limit: a Windows domain controller? set rootDistance for this pool"
    );
    let promised = names.map(|name| format!("name={name},rootDistance=20ms"));
    let (code, report) = report(&promised, &NO_CHRONY);
    assert_eq!((code, &report["assumed"]), (0, &Value::from(true)), "{report}");
    assert!(report["message"].as_str().unwrap().contains(" The bound is assumed: it rests on"), "{report}");
    for pool in report["pools"].as_array().unwrap() {
        assert_eq!(pool["rootDistanceIsAssumed"], true, "{report}");
        assert!((pool["rootDistanceSeconds"].as_f64().unwrap() - 0.02).abs() < 1e-6, "{report}");
    }
    let bound = report["boundSeconds"].as_f64().unwrap();
    assert!((0.02..0.06).contains(&bound), "the promise, and not the 15 s that they declare: {report}");
    let ended = check(&promised, &NO_CHRONY);
    assert!(ended.stdout.contains("assumed root distance 20 ms; 1 of 1 servers answer"), "{ended:?}");
}

#[test]
fn dropped_udp_is_suspected_only_when_no_server_answers() {
    let background = BackgroundRuntime::new();
    let (_silent, silent) = servers(&background, [0, 0], Behaviour::Silent);
    let (_honest, honest) = servers(&background, [0, 0], Behaviour::Honest);
    let ports = |names: &[String; 2]| {
        let mut ports: Vec<u16> =
            names.iter().map(|n| n.rsplit_once(':').unwrap().1.parse().unwrap()).collect();
        ports.sort_unstable();
        format!("{} and {}", ports[0], ports[1])
    };
    let ended = check(&silent, &NO_CHRONY);
    let said = format!(
        "UDP {0} look blocked: none of 2 servers answered on UDP ports {0}; something between here and them may drop it. The agent sends from an ephemeral port, not from 123,",
        ports(&silent)
    );
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stdout.contains(&said) && ended.stdout.contains("--http-date http://HOST"), "{ended:?}");
    let closed = no_server();
    let (_, report_of_closed) = report(&closed, &NO_CHRONY);
    let hint = report_of_closed["hint"].as_str().unwrap();
    assert!(
        hint.starts_with("None of 2 servers answered on UDP ports ") && !hint.contains("blocked"),
        "{hint}"
    );
    let one_answers = [silent[0].clone(), honest[1].clone()];
    let nameless = ["a.invalid.", "b.invalid."].map(str::to_owned);
    let garbage = background.server(&TimeScale::new(Offset::ZERO), Behaviour::Garbage(48));
    let one_speaks = [silent[0].clone(), pool(&garbage)];
    for pools in [&one_answers, &one_speaks, &nameless] {
        let (_, report) = report(pools, &NO_CHRONY);
        // The machine's own chronyd may give a hint of its own.
        let hint = report["hint"].as_str().unwrap_or_default();
        assert!(hint.is_empty() || hint.starts_with("chrony on this node follows"), "{report}");
    }
}

#[test]
fn three_checks_in_a_row_are_answered_by_servers_with_ntpds_limit() {
    let background = BackgroundRuntime::new();
    let (servers, names) = servers(&background, [250, 250], Behaviour::Honest);
    for server in &servers {
        server.limit(Limit::NTPD);
    }
    for run in 1..=3 {
        let (code, report) = report(&names, &NO_CHRONY);
        assert_eq!((code, &report["state"]), (1, &Value::from("drifting")), "{run}: {report}");
        assert_eq!(servers.each_ref().map(Server::served), [run, run], "one request for a verdict");
    }
}

#[test]
fn checks_of_servers_that_refuse_and_drop_name_the_refusal_and_ask_no_faster() {
    let background = BackgroundRuntime::new();
    let (servers, names) = servers(&background, [0, 0], Behaviour::Honest);
    for server in &servers {
        server.limit(Limit::KISS_AND_DROP);
    }
    let ended = check(&names, &NO_CHRONY);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stdout.contains("asks to be polled less often (kiss-o'-death RATE)"), "{ended:?}");
    assert!(servers.iter().all(|server| server.served() <= 2), "{ended:?}");
}

#[test]
fn http_dates_without_ntp_report_a_20_s_offset_as_coarse_drift() {
    let server = DateServer::start(ahead(seconds(20)));
    let (code, report) = report(&no_server(), &["--http-date", &server.url()]);
    assert_eq!(
        (code, &report["state"], &report["coarse"]),
        (1, &Value::from("drifting"), &Value::from(true)),
        "{report}"
    );
    let number = |of: &Value, key: &str| of[key].as_f64().unwrap_or_else(|| panic!("no {key} in {of}"));
    let said = &report["httpDate"][0];
    for of in [&report, said] {
        let (offset, bound) = (number(of, "offsetSeconds"), number(of, "boundSeconds"));
        assert!((offset - 20.0).abs() <= bound && (0.5..1.6).contains(&bound), "{of}");
    }
    assert!(said["error"].is_null() && said["contradictsNtp"].is_null() && said["coarse"] == true, "{said}");
    let answers = said["answers"].as_u64().unwrap();
    let heads = server.heads();
    assert!((1..=6).contains(&answers) && (1..=6).contains(&heads.len()), "{answers} {heads:?}");
    let lower = heads[0].to_ascii_lowercase();
    assert!(
        lower.starts_with("head / http/1.1\r\n") && lower.contains(&format!("host: {}\r\n", server.host())),
        "{lower}"
    );

    server.behave(ahead(seconds(-20)));
    let ended = check(&no_server(), &["--http-date", &server.url()]);
    assert!(
        ended.code == 1
            && ended.stdout.starts_with("drifting: The clock is ")
            && ended.stdout.contains(" s ahead (±"),
        "{ended:?}"
    );
    let coarse =
        format!("by the HTTP Date header of {}, coarse: over the threshold of 100 ms.", server.host());
    assert!(ended.stdout.contains(&coarse) && ended.stdout.contains("\nHTTP DATE (COARSE)"), "{ended:?}");
    assert!(
        !ended.stdout.contains("--http-date"),
        "the hint is only for commands without the option: {ended:?}"
    );
}

#[test]
fn http_dates_without_ntp_leave_a_clock_that_may_be_right_unknown() {
    let servers = [0, 0].map(|secs| DateServer::start(ahead(seconds(secs))));
    let urls = servers.each_ref().map(DateServer::url);
    let (code, report) = report(&no_server(), &["--http-date", &urls[0], "--http-date", &urls[1]]);
    assert_eq!(
        (code, &report["state"], &report["coarse"]),
        (3, &Value::from("unknown"), &Value::from(false)),
        "{report}"
    );
    assert!(report["offsetSeconds"].is_null() && report["httpDate"][1]["offsetSeconds"].is_f64(), "{report}");
    let message = report["message"].as_str().unwrap();
    assert!(message.contains(", coarse: too imprecise for a verdict."), "{message}");

    servers[0].behave(ahead(seconds(20)));
    servers[1].behave(ahead(seconds(-20)));
    let ended = check(&no_server(), &["--http-date", &urls[0], "--http-date", &urls[1]]);
    assert!(
        ended.code == 3 && ended.stdout.contains("contradict each other; no offset is reported"),
        "{ended:?}"
    );
}

#[test]
fn ntp_alone_decides_the_verdict_and_contradicting_http_dates_are_reported() {
    let background = BackgroundRuntime::new();
    let (_servers, names) = servers(&background, [0, 0], Behaviour::Honest);
    let server = DateServer::start(ahead(seconds(20)));
    let (code, report) = report(&names, &["--http-date", &server.url()]);
    assert_eq!(
        (code, &report["state"], &report["coarse"]),
        (0, &Value::from("in-sync"), &Value::from(false)),
        "{report}"
    );
    assert!(report["offsetSeconds"].as_f64().unwrap().abs() < 1.0, "{report}");
    assert_eq!(report["httpDate"][0]["contradictsNtp"], true, "{report}");
    let message = report["message"].as_str().unwrap();
    assert!(message.contains("Contradicts NTP, coarse and not used: the HTTP Date header of"), "{message}");
    server.behave(ahead(seconds(0)));
    let ended = check(&names, &["--http-date", &server.url()]);
    assert!(ended.code == 0 && !ended.stdout.contains("Contradicts NTP"), "{ended:?}");
    let (_apart, apart) = servers(&background, [0, 10_000], Behaviour::Honest);
    assert_eq!(
        check(&apart, &["--http-date", &server.url()]).code,
        2,
        "headers do not resolve a disagreement"
    );
}

#[test]
fn unusable_http_answers_are_rejected_with_a_reason() {
    let right = date(seconds(20));
    let with = |head: &str| Manner::Bytes(format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes());
    let long = format!("Date: {right}\r\nX: {}\r\n", "x".repeat(64 * 1_024));
    let cases = [
        (Manner::Date(seconds(20), "200 OK", "Age: 0\r\n"), "a cache on the way"),
        (with(""), "no Date header"),
        (with("Date: yesterday\r\n"), "cannot be read"),
        (with("Date: 2026-11-22T10:00:00Z\r\n"), "cannot be read"),
        (with("Date: Sun, 22 Nov 2026 10:00:00 \u{1b}[2J\r\n"), ""),
        (with(&format!("Date: {right}\r\nDate: {right}\r\n")), "cannot be read"),
        (with(&long), "too long"),
        (Manner::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), "not an HTTP answer"),
        (Manner::Close, "closed without an answer"),
        (Manner::Silence, "no answer in time"),
        (Manner::Two(seconds(20), seconds(-20)), "contradict each other"),
    ];
    let pools = no_server();
    std::thread::scope(|scope| {
        for (manner, why) in &cases {
            let pools = &pools;
            scope.spawn(move || {
                let server = DateServer::start(manner.clone());
                let (code, report) = report(pools, &["--http-date", &server.url()]);
                let said = &report["httpDate"][0];
                assert_eq!(code, 3, "{manner:?}: {report}");
                assert!(said["offsetSeconds"].is_null(), "{manner:?}: {said}");
                let error = said["error"].as_str().unwrap_or_else(|| panic!("{manner:?}: {said}"));
                assert!(error.contains(why) && !error.contains('\x1b'), "{manner:?}: {error}");
            });
        }
    });
}

#[test]
fn redirects_are_used_for_their_date_and_not_followed() {
    let elsewhere = DateServer::start(ahead(seconds(-20)));
    let location: &'static str = format!("Location: {}\r\n", elsewhere.url()).leak();
    let server = DateServer::start(Manner::Date(seconds(20), "301 Moved Permanently", location));
    let (code, report) = report(&no_server(), &["--http-date", &server.url()]);
    assert!(code == 1 && report["offsetSeconds"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(elsewhere.heads(), [] as [String; 0]);
}

#[test]
fn unreachable_urls_are_reported_beside_urls_that_answer() {
    let server = DateServer::start(ahead(seconds(20)));
    let closed = format!("http://127.0.0.1:{}/", crate::support::free_tcp_port());
    let arguments =
        ["--http-date", &closed, "--http-date", "http://a.invalid./", "--http-date", &server.url()];
    let (code, report) = report(&no_server(), &arguments);
    let error = |n: usize| report["httpDate"][n]["error"].as_str().unwrap_or_default().to_owned();
    assert!(error(0).contains("no connection"), "{report}");
    assert!(error(1).contains("does not resolve: no such name"), "{report}");
    assert_eq!((code, error(2).as_str()), (1, ""), "{report}");
}

#[test]
fn invalid_urls_are_usage_errors_and_https_urls_get_an_explanation() {
    let refused = |url: &str, says: &str| {
        let ended = check(&no_server(), &["--http-date", url]);
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.lines().count()),
            (64, "", 1),
            "{ended:?}"
        );
        assert!(ended.stderr.contains("--http-date") && ended.stderr.contains(says), "{ended:?}");
    };
    refused("https://www.example.com", "with a wrong clock no certificate is valid");
    refused("www.example.com", "http://HOST");
    refused("http://user:secret@www.example.com", "http://HOST");
}
