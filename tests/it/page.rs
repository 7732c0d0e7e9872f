//! The status page: headers, content, and screenshots.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use drift_agent::http::page::CONTENT_SECURITY_POLICY;
use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::TimeScale;
use drift_core::time::Offset;
use drift_core::verdict::State;

use crate::support::page::{page, world};
use crate::support::{BackgroundRuntime, Folder, RunningAgent, finish, pool, tool, wait_for};

/// The `Accept` header of a browser.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

/// Status, headers in lower case, and body.
type Answer = (u16, BTreeMap<String, String>, String);

fn ask(port: u16, line: &str, headers: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned())).collect();
    Some((status, headers, body.to_owned()))
}

#[test]
fn browsers_get_the_page_and_other_clients_plain_text() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("page-headers"));
    let time = TimeScale::new(Offset::ZERO);
    let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
    let names = servers.each_ref().map(pool);
    let options = ["--kubernetes", "off", "--node-name", "n0"];
    let agent = RunningAgent::start(folder.path(), &names, &options, |_| {});
    agent.wait_for_state("in-sync");

    let (status, headers, body) = ask(agent.port, "GET /", BROWSER).unwrap();
    assert_eq!(status, 200);
    for (header, value) in [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("vary", "accept"),
    ] {
        assert_eq!(headers.get(header).map(String::as_str), Some(value), "{header}");
    }
    assert!(CONTENT_SECURITY_POLICY.starts_with("default-src 'none'; style-src 'sha256-"));
    assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
    for words in ["<h1>In sync</h1>", "<b>n0</b>", "Disruption signals", "interval: 1s", &names[0], &names[1]]
    {
        assert!(body.contains(words), "{words:?} is missing: {body}");
    }
    assert!(body.ends_with("</html>") && !body.contains("<script"), "{body}");

    let (status, headers, text) = ask(agent.port, "GET /", "Accept: */*\r\n").unwrap();
    assert_eq!((status, headers["content-type"].as_str()), (200, "text/plain; charset=utf-8"));
    assert_eq!(headers.get("content-security-policy"), None);
    assert!(text.starts_with("in-sync: The clock is ") && text.contains("/v1/clock"), "{text}");

    let (status, headers, nothing) = ask(agent.port, "HEAD /", BROWSER).unwrap();
    assert_eq!((status, nothing.as_str()), (200, ""));
    assert!(headers["content-length"].parse::<usize>().unwrap() > 10_000, "{headers:?}");
    let (.., still) = ask(agent.port, "GET /?still", BROWSER).unwrap();
    assert!(body.contains("http-equiv=\"refresh\"") && !still.contains("http-equiv"));
    let (status, headers, _) = ask(agent.port, "GET /metrics", BROWSER).unwrap();
    assert_eq!((status, headers["x-content-type-options"].as_str()), (200, "nosniff"));
}

#[test]
fn the_page_lists_events_of_a_running_agent() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("page-events"));
    let time = TimeScale::new(Offset::ZERO);
    let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
    let names = servers.each_ref().map(pool);
    let agent = RunningAgent::start(folder.path(), &names, &["--kubernetes", "off"], |_| {});
    let page = || ask(agent.port, "GET /", BROWSER).map(|(.., body)| body);
    let shows = |words: &str| wait_for(words, || page().filter(|page| page.contains(words)));
    shows("<h1>In sync</h1>");
    time.set(Offset::from_nanos(250_000_000));
    shows("<h1>Drifting</h1>");
    servers[1].behave(Behaviour::Stratum16);
    shows("reports that it is not synchronised</td>");
    servers[1].behave(Behaviour::Honest);
    time.set(Offset::ZERO);
    let page = shows("<h1>In sync</h1>");
    for words in
        ["Verdict: Drifting for ", "reports that it is not synchronised", "(±", "url(#pattern-drifting)"]
    {
        assert!(page.contains(words), "{words:?} is missing: {page}");
    }
}

/// Serves the page of each simulated node under the label of its state, until the end of the test.
fn serve(pages: BTreeMap<String, String>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let path = head.first().and_then(|line| line.split(['/', ' ']).nth(2)).unwrap_or_default();
            let body = pages.get(path).map_or("", String::as_str);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Security-Policy: \
                 {CONTENT_SECURITY_POLICY}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    port
}

/// `make page-shots` writes the screenshots into target/page-shots.
#[test]
#[ignore = "needs Chromium, and a review of the screenshots: make page-shots"]
fn screenshots_of_every_state_are_written_for_review() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page-shots");
    std::fs::create_dir_all(&folder).unwrap();
    let pages = State::ALL.map(|state| (state.label().to_owned(), page(&world(state))));
    let port = serve(pages.into_iter().collect());
    let shoot = |state: State, scheme: &str, (width, height): (u32, u32), name: &str| {
        let profile = Folder::new("page-chromium");
        let picture = folder.join(format!("{name}.png"));
        let _ = std::fs::remove_file(&picture);
        let mut chromium = Command::new(tool("chromium"));
        chromium
            .args(
                "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars"
                    .split(' '),
            )
            .args("--disable-background-networking --disable-component-update --disable-sync".split(' '))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(scheme == "light")))
            .arg(format!("--screenshot={}", picture.display()))
            .arg("--enable-logging=stderr")
            .arg(format!("http://127.0.0.1:{port}/{}", state.label()));
        let ended = finish(&mut chromium, "");
        assert!(picture.exists(), "{}", ended.stderr);
        assert!(!ended.stderr.contains("Content Security Policy"), "{}", ended.stderr);
        println!("{}", picture.display());
    };
    for state in State::ALL {
        for scheme in ["light", "dark"] {
            for (form, size) in [("wide", (1_280, 2_500)), ("narrow", (500, 3_900))] {
                shoot(state, scheme, size, &format!("{}-{scheme}-{form}", state.label()));
            }
        }
    }
    // The two screenshots of the README.
    shoot(State::InSync, "light", (1_040, 900), "readme-in-sync");
    shoot(State::Drifting, "dark", (1_040, 900), "readme-drifting");
}
