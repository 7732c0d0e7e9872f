//! Clients that use up connections and memory: the agent still answers other clients, and stays small.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_core::time::Offset;

use crate::support::process::memory;
use crate::support::{BackgroundRuntime, Folder, RunningAgent, get, pool, wait_for};

/// Connections of one kind: many times the limit of the server, and below the usual limit of open files of a
/// process.
const MANY: usize = 400;

fn agent(background: &BackgroundRuntime, folder: &Folder) -> (RunningAgent, [Server; 2]) {
    let time = TimeScale::new(Offset::ZERO);
    let servers = [(); 2].map(|()| background.server(&time, Behaviour::Honest));
    let names = servers.each_ref().map(pool);
    let agent = RunningAgent::start(folder.path(), &names, &["--kubernetes", "off"], |_| {});
    agent.wait_for_state("in-sync");
    (agent, servers)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Sends the bytes and returns the status of the answer; `None` if the connection closed without one.
fn status(port: u16, request: &[u8]) -> Option<u16> {
    let mut stream = connect(port);
    // The server may reject the request before all of it is sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut bytes = [0; 4_096];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        answer.extend_from_slice(&bytes[..read]);
    }
    let answer = String::from_utf8_lossy(&answer);
    answer.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()
}

#[test]
fn malformed_requests_are_rejected_without_side_effects() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("http-requests"));
    let (mut agent, _servers) = agent(&background, &folder);
    let long = "x".repeat(1 << 20);
    for (request, answer) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), Some(&[414, 431][..])),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {long}\r\n\r\n"), Some(&[431])),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(2_000)), Some(&[431])),
        (format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n{long}"), Some(&[405])),
        (
            "POST /v1/clock HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".to_owned(),
            Some(&[405]),
        ),
        ("\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), Some(&[400])),
        (format!("{long}\r\n\r\n"), Some(&[400, 431])),
        ("GET / HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(), Some(&[400, 505])),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Some(&[404])),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), None),
    ] {
        let found = status(agent.port, request.as_bytes());
        let start: String = request.chars().take(60).collect();
        match answer {
            // A client that goes on sending may miss the answer: the connection is reset then.
            Some(codes) => assert!(found.is_none_or(|code| codes.contains(&code)), "{start:?}: {found:?}"),
            None => assert_ne!(found, Some(200), "{start:?}"),
        }
        assert_eq!(get(agent.port, "/healthz").map(|(code, _)| code), Some(200), "after {start:?}");
    }
    let short = "GET / HTTP/1.1\r\nHost: a\r\nCookie: ".to_owned() + &"x".repeat(17_000) + "\r\n\r\n";
    assert_eq!(
        status(agent.port, short.as_bytes()),
        Some(431),
        "a head over 16 KiB is rejected with an answer"
    );
    assert_eq!(agent.process.exit_code(), None);
    assert!(!agent.process.output().contains("panicked"), "{}", agent.process.output());
}

/// Whether the server has closed the connection.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match { stream }.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn the_longest_idle_connection_is_closed_first_and_the_others_stay() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("http-room"));
    let (agent, _servers) = agent(&background, &folder);
    // As many as the server serves at the same time.
    let stuck: Vec<TcpStream> = (0..64).map(|_| connect(agent.port)).collect();
    assert_eq!(get(agent.port, "/healthz").map(|(code, _)| code), Some(200));
    assert!(is_closed(&stuck[0]), "no connection was closed to make room");
    assert!(!is_closed(&stuck[63]), "all connections were closed, not only the oldest");
}

#[test]
fn stuck_clients_do_not_block_others_or_grow_memory() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("http-stuck"));
    let (mut agent, _servers) = agent(&background, &folder);
    for _ in 0..50 {
        get(agent.port, "/").unwrap();
    }
    let before = memory(agent.process.id());
    let half = "GET / HTTP/1.1\r\nHost: a\r\nCookie: ".to_owned() + &"x".repeat(15_000);
    let page = "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n".to_owned();
    for request in [String::new(), half, page] {
        // They neither complete their request nor read the answer.
        let mut stuck = Vec::new();
        for _ in 0..MANY {
            let mut stream = connect(agent.port);
            // A connection that was closed already may be reset.
            let _ = stream.write_all(request.as_bytes());
            stuck.push(stream);
        }
        for path in ["/healthz", "/readyz", "/v1/clock", "/metrics", "/"] {
            let answer = wait_for(path, || get(agent.port, path));
            assert_eq!(answer.0, 200, "{path}: {}", answer.1);
        }
        let grown = memory(agent.process.id()).saturating_sub(before);
        eprintln!("{} KiB more", grown / 1_024);
        assert!(grown < 6 << 20, "{grown} bytes more for {MANY} connections of {:?}", request.get(..20));
    }
    assert_eq!(agent.process.exit_code(), None);
    let offset = agent.metric("drift_agent_offset_seconds").unwrap();
    assert!(offset.abs() <= agent.metric("drift_agent_offset_bound_seconds").unwrap());
}
