//! `drift-agent jwt`: standard input, arguments, exit codes, both output formats; no part of a token is ever
//! printed.

use std::time::{SystemTime, UNIX_EPOCH};

use clock_drift::jwt::cases::{Key, cases};
use clock_drift::jwt::findings::Id;
use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::TimeScale;
use drift_core::time::Offset;
use serde_json::Value;

use crate::support::{BackgroundRuntime, Ended, drift_agent, finish, pool};

/// 2026-11-22T10:00:00Z.
const NOW: i64 = 1_795_341_600;
const AT: [&str; 3] = ["jwt", "--at", "2026-11-22T10:00:00Z"];

fn sign(claims: &str) -> String {
    Key::new([1, 2, 3, 4]).sign(claims)
}

/// Claims of a token that is issued and expires so many seconds from [`NOW`].
fn claims(issued: i64, expires: i64) -> String {
    format!(r#"{{"iat":{},"exp":{}}}"#, NOW + issued, NOW + expires)
}

fn run(arguments: &[&str], input: &str) -> Ended {
    finish(drift_agent().args(arguments), input)
}

/// Judges at [`NOW`], with these further arguments, and asserts that the output contains no part of the token.
fn judge(token: &str, arguments: &[&str]) -> Ended {
    let ended = run(&[&AT[..], arguments].concat(), token);
    assert_not_quoted(token, &ended);
    ended
}

fn assert_not_quoted(token: &str, ended: &Ended) {
    for part in token.split('.').filter(|part| part.len() > 3) {
        assert!(!ended.stdout.contains(part) && !ended.stderr.contains(part), "{part}: {ended:?}");
    }
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("{e}: {ended:?}"))
}

fn ids(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|f| f["id"].as_str().unwrap()).collect()
}

#[test]
fn exit_codes_match_the_first_line() {
    for (claims, arguments, code, first) in [
        (
            claims(-60, 240),
            &[][..],
            0,
            "valid in time: nothing against it at the given time; no clock was read",
        ),
        (claims(-60, -3), &[], 1, "not valid in time: exp: expired 3 s ago; 4 s of leeway would let it pass"),
        (
            claims(-60, -3),
            &["--leeway", "5s"],
            0,
            "valid in time: nothing against it at the given time; no clock was read",
        ),
        (
            claims(2, 300),
            &[],
            2,
            "suspicious: iat: issued 2 s in the future; 2 s of leeway would let it pass",
        ),
        (
            claims(0, 3_600),
            &[],
            2,
            "suspicious: the lifetime of this token is 1 h (from iat to exp); the limit for an access token is 15 min",
        ),
        (
            claims(0, 3_600),
            &["--kind", "id"],
            0,
            "valid in time: nothing against it at the given time; no clock was read",
        ),
        (
            claims(0, 86_400),
            &["--kind", "refresh"],
            0,
            "valid in time: nothing against it at the given time; no clock was read",
        ),
        (claims(0, 300), &["--leeway", "121s"], 2, "suspicious: the requested leeway is 2 min 1 s"),
        (
            claims(0, 300),
            &["--leeway", "120s"],
            0,
            "valid in time: nothing against it at the given time; no clock was read",
        ),
    ] {
        let ended = judge(&sign(&claims), arguments);
        assert_eq!(
            (ended.code, ended.stdout.lines().next(), ended.stderr.as_str()),
            (code, Some(first), ""),
            "{ended:?}"
        );
        assert!(
            ended.stdout.contains("NOT VERIFIED") && ended.stdout.contains("no clock was read"),
            "{ended:?}"
        );
        assert!(!ended.stdout.contains('\x1b'), "no colours in a pipe: {ended:?}");
        let json = judge(&sign(&claims), &[arguments, &["--output", "json"]].concat());
        assert_eq!((json.code, &report(&json)["signatureVerified"]), (code, &Value::Bool(false)), "{json:?}");
    }
}

#[test]
fn json_output_has_each_claim_and_each_finding() {
    let ended =
        judge(&sign(r#"{"iat":1795341602,"nbf":"later","exp":1795341899.500000001}"#), &["--output", "json"]);
    let report = report(&ended);
    assert_eq!((ended.code, &report["verdict"]), (1, &Value::from("not-valid")));
    assert_eq!(
        (&report["algorithm"], &report["type"], &report["kind"]),
        (&"HS256".into(), &"JWT".into(), &"access".into())
    );
    assert_eq!(
        (&report["clock"]["source"], &report["clock"]["time"]),
        (&"given".into(), &"2026-11-22T10:00:00.000000000Z".into())
    );
    assert_eq!(report["clock"]["trueTime"], Value::Null);
    let claims = report["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 3);
    assert_eq!(
        (&claims[0]["name"], &claims[0]["words"]),
        (&"iat".into(), &"issued 2 s in the future".into())
    );
    assert_eq!((&claims[1]["written"], &claims[1]["time"]), (&"\"later\"".into(), &Value::Null));
    assert_eq!(
        (&claims[2]["written"], &claims[2]["time"]),
        (&"1795341899.500000001".into(), &"2026-11-22T10:04:59.500000001Z".into())
    );
    assert_eq!(ids(&report), ["text-time", "issued-in-future", "fractional-time"]);
    let first = &report["findings"][0];
    assert_eq!(
        (&first["severity"], &first["message"]),
        (&"error".into(), &"nbf is the text \"later\"".into())
    );
    assert_eq!(first["advice"], Id::TextTime.advice());
}

#[test]
fn tokens_given_as_arguments_are_judged_with_a_warning() {
    let token = sign(&claims(-60, 240));
    let bearer = format!("Bearer {token}");
    for words in [&[token.as_str()][..], &["Bearer", &token], &[&bearer]] {
        let ended = run(&[&AT[..], words].concat(), "");
        assert_eq!((ended.code, ended.stderr.lines().count()), (0, 1), "{ended:?}");
        assert!(ended.stderr.contains("warning") && ended.stderr.contains("shell's history"), "{ended:?}");
        assert_not_quoted(&token, &ended);
    }
    let ended = run(&[&AT[..], &["-"]].concat(), &format!(" Authorization: {bearer}\r\n"));
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
}

#[test]
fn invalid_tokens_are_rejected_in_one_line_that_does_not_quote_them() {
    let token = sign(&claims(-60, 240));
    let parts: Vec<&str> = token.split('.').collect();
    for (input, text) in [
        (String::new(), "the input is empty"),
        ("secretsecret".to_owned(), "has 1: was it cut off"),
        (format!("{}.{}", parts[0], parts[1]), "has 2: was it cut off"),
        (format!("{}.{}.c.d.e", parts[0], parts[1]), "encrypted token (JWE, five parts)"),
        (token.replace('.', " . "), "white space inside"),
        (format!("{}.{}.{}", parts[1], parts[0], parts[2]), "names no algorithm"),
        (format!("{}.{}.{}", parts[0], parts[2], parts[2]), "second part (claims) is not a JSON object"),
        (format!("{token}{}", " ".repeat(70_000)), "longer than 64 KiB"),
    ] {
        for (arguments, input) in [(&["jwt"][..], input.as_str()), (&["jwt", "--output", "json"], &input)] {
            let ended = run(arguments, input);
            assert_eq!(
                (ended.code, ended.stdout.as_str(), ended.stderr.lines().count()),
                (65, "", 1),
                "{ended:?}"
            );
            assert!(ended.stderr.starts_with("drift-agent: not a token that can be read: "), "{ended:?}");
            assert!(ended.stderr.contains(text), "{text}: {ended:?}");
            assert_not_quoted(&token, &ended);
            assert!(!ended.stderr.contains("secret"), "{ended:?}");
        }
    }
}

#[test]
fn misplaced_tokens_are_usage_errors_that_do_not_quote_them() {
    let token = sign(&claims(-60, 240));
    let with_flag = format!("--leeway={token}");
    for wrong in [
        &["--kind", &token][..],
        &["--at", &token],
        &[&with_flag],
        &["--no-network", "--threshold", &token, "--frobnicate"],
        &["cases", &token],
        &["cases", "--output", &token],
    ] {
        let ended = run(&[&["jwt"], wrong].concat(), "");
        assert_eq!((ended.code, ended.stdout.as_str()), (64, ""), "{ended:?}");
        assert_not_quoted(&token, &ended);
    }
    for command in ["check", "run"] {
        let ended = run(&[command, "--threshold", &token], "");
        assert_eq!(ended.code, 64, "{ended:?}");
        assert!(ended.stderr.contains("[token]"), "{ended:?}");
        assert_not_quoted(&token, &ended);
    }
    for (wrong, text) in [
        (["--at", "yesterday"], "seconds since 1970"),
        (["--leeway", "5"], "e.g. 5s"),
        (["--leeway", "-5s"], "e.g. 5s"),
        (["--kind", "acces"], "access"),
    ] {
        let ended = run(&[&["jwt"], &wrong[..]].concat(), &token);
        assert!(
            ended.code == 64 && ended.stderr.contains(text) && ended.stderr.contains(wrong[1]),
            "{ended:?}"
        );
    }
}

#[test]
fn reference_time_shows_which_clock_is_wrong() {
    let background = BackgroundRuntime::new();
    // Reference time is an hour ahead of this machine: the machine is behind. The clocks differ by far more than a test takes.
    let time = TimeScale::new(Offset::from_nanos(3_600_000_000_000));
    let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
    let pools = servers.each_ref().map(pool);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let ask = |arguments: &[&str], issued: i64, expires: i64| {
        let token = sign(&format!(r#"{{"iat":{},"exp":{}}}"#, now + issued, now + expires));
        let named = ["--pool", &pools[0], "--pool", &pools[1]];
        let ended = run(&[&["jwt"], arguments, &named].concat(), &token);
        assert_eq!(ended.stderr, "", "{ended:?}");
        assert_not_quoted(&token, &ended);
        ended
    };
    let json = ["--output", "json"];
    // Issued just now by true time.
    let ended = ask(&json, 3_500, 4_200);
    let fresh = report(&ended);
    assert_eq!(
        (ended.code, ids(&fresh)),
        (2, vec!["issued-in-future-by-this-clock", "this-clock-is-off", "time-zone-shift"]),
        "{ended:?}"
    );
    let clock = &fresh["clock"];
    assert!(
        (clock["offsetSeconds"].as_f64().unwrap() - 3_600.0).abs() <= clock["boundSeconds"].as_f64().unwrap(),
        "{clock}"
    );
    assert!(clock["message"].as_str().unwrap().contains("1 h behind"), "{clock}");
    let words = fresh["claims"][0]["words"].as_str().unwrap();
    assert!(
        words.starts_with("issued 58 min ")
            && words.contains("in the future by this clock; by true time issued "),
        "{words}"
    );
    assert!(words.ends_with(": this clock is 1 h behind"), "{words}");
    // Expired by true time only.
    let ended = ask(&json, -60, 600);
    assert_eq!(
        (ended.code, ids(&report(&ended))),
        (2, vec!["expired-by-true-time", "this-clock-is-off", "time-zone-shift"]),
        "{ended:?}"
    );
    // Issued a minute ago by this clock, valid by both clocks: what is wrong is the clock.
    let ended = ask(&json, -60, 7_200);
    assert_eq!(
        (ended.code, ids(&report(&ended)), &report(&ended)["verdict"]),
        (2, vec!["this-clock-is-off", "lifetime-too-long", "time-zone-shift"], &"suspicious".into()),
        "{ended:?}"
    );
    let ended = ask(&[], -60, 7_200);
    let first = "suspicious: this clock is 1 h behind (±";
    assert!(ended.code == 2 && ended.stdout.starts_with(first), "{ended:?}");
    // By this clock alone there is nothing wrong with it.
    let ended = ask(&["--no-network"], -60, 600);
    assert!(
        ended.code == 0
            && ended
                .stdout
                .starts_with("valid by this clock: true time was not measured, so this clock may be wrong\n")
            && ended.stdout.contains("True time was not measured (--no-network)."),
        "{ended:?}"
    );
    assert!(
        ended.stdout.contains("expires in 9 min") && ended.stdout.contains("by this clock\n"),
        "{ended:?}"
    );
}

#[test]
fn contradicting_pools_confirm_no_clock() {
    let background = BackgroundRuntime::new();
    let server = |offset| background.server(&TimeScale::new(Offset::from_nanos(offset)), Behaviour::Honest);
    let servers = [server(0), server(10_000_000_000)];
    let pools = servers.each_ref().map(pool);
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let token = sign(&format!(r#"{{"iat":{},"exp":{}}}"#, now - 60, now + 600));
    let ended = run(&["jwt", "--pool", &pools[0], "--pool", &pools[1]], &token);
    assert!(
        ended.code == 3 && ended.stdout.starts_with("valid by this clock: true time was not measured"),
        "{ended:?}"
    );
}

#[test]
fn the_configuration_is_not_read_without_a_measurement() {
    let token = sign(&claims(-60, 240));
    for arguments in [&AT[..], &["jwt", "--no-network"]] {
        let mut command = drift_agent();
        command.args(arguments).env("DRIFT_AGENT_CONFIG", "/nonexistent").env("DRIFT_AGENT_INTERVAL", "zzz");
        let ended = finish(&mut command, &token);
        assert!(![64, 78].contains(&ended.code), "{ended:?}");
    }
}

#[test]
fn tokens_are_judged_by_this_clock_when_no_pool_answers() {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let token = sign(&format!(r#"{{"iat":{},"exp":{}}}"#, now - 60, now + 600));
    let no_server = ["jwt", "--output", "json", "--pool", "127.0.0.1:1", "--pool", "127.0.0.1:2"];
    let ended = run(&no_server, &token);
    let report = report(&ended);
    assert_eq!(
        (&report["clock"]["source"], &report["clock"]["trueTime"]),
        (&"machine".into(), &Value::Null),
        "{ended:?}"
    );
    assert!(report["clock"]["message"].as_str().unwrap().contains("No pool answers"), "{ended:?}");
    assert_eq!((ended.code, &report["verdict"]), (3, &"valid-by-this-clock".into()), "{ended:?}");
    assert!(report["claims"][0]["words"].as_str().unwrap().ends_with(" by this clock"), "{ended:?}");
}

#[test]
fn cases_are_signed_for_now_and_judged_as_listed() {
    let table = run(&["jwt", "cases", "--at", "1795341600"], "");
    assert_eq!((table.code, table.stderr.as_str()), (0, ""), "{table:?}");
    let json = report(&run(&["jwt", "cases", "--at", "2026-11-22T10:00:00.9Z", "--output", "json"], ""));
    assert_eq!((&json["signedFor"], &json["leewaySeconds"]), (&"2026-11-22T10:00:00Z".into(), &5.into()));
    let given = json["cases"].as_array().unwrap();
    assert_eq!(given.len(), cases(NOW).len());
    for (case, ours) in given.iter().zip(cases(NOW)) {
        assert_eq!((&case["id"], &case["claims"]), (&ours.id.into(), &ours.claims.into()));
        let token = case["token"].as_str().unwrap();
        for (leeway, right) in [("0s", &case["withoutLeeway"]), ("5s", &case["withLeeway"])] {
            let ended = judge(token, &["--leeway", leeway, "--output", "json"]);
            let is_rejected = ended.code == 1 || ids(&report(&ended)).contains(&"missing-exp");
            let expected = match right.as_str().unwrap() {
                "accept" => Some(false),
                "reject" => Some(true),
                "either" => None,
                other => panic!("{other}"),
            };
            assert!(expected.is_none_or(|expected| expected == is_rejected), "{leeway}: {case}");
        }
        let row = table.stdout.lines().find(|line| line.split_whitespace().next() == Some(ours.id)).unwrap();
        assert!(
            row.contains(ours.what) && row.split_whitespace().last().unwrap().split('.').count() == 3,
            "{row}"
        );
    }
    let key = |text: &str| text.lines().nth(1).unwrap().split(": ").nth(1).unwrap().to_owned();
    let again = run(&["jwt", "cases", "--at", "1795341600"], "");
    assert_ne!(key(&table.stdout), key(&again.stdout), "a key is for one run");
    let early = run(&["jwt", "cases", "--at", "0"], "");
    assert_eq!((early.code, early.stdout.as_str(), early.stderr.lines().count()), (64, "", 1), "{early:?}");
}

#[test]
fn the_document_lists_every_finding_and_every_case() {
    let document = include_str!("../../docs/jwt.md");
    let rows = |start: &str| document.lines().filter(|line| line.starts_with(start)).collect::<Vec<_>>();
    for id in Id::ALL {
        let name = id.as_str();
        let row = format!("| `{name}` | {} | {} | {} |", id.severity().as_str(), id.meaning(), id.advice());
        assert_eq!(rows(&format!("| `{name}` | {}", id.severity().as_str())), [row], "the table of findings");
    }
    for case in cases(NOW) {
        let row = rows(&format!("| `{}` | ✓", case.id)).len()
            + rows(&format!("| `{}` | ✗", case.id)).len()
            + rows(&format!("| `{}` | ·", case.id)).len();
        assert_eq!(row, 1, "{}: make jwt-verifiers", case.id);
    }
}
