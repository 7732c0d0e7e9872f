//! Name resolution with a name server on loopback: the queries, their order, and the addresses and errors
//! that follow from the answers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drift_agent::config::pool::PoolName;
use drift_agent::sources::dns::{Dns, Resolve};
use drift_core::ntp::pool::Resolution;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

use crate::support::BackgroundRuntime;

/// A name server that answers by a function and records the queries.
struct NameServer {
    background: BackgroundRuntime,
    port: u16,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

/// The answer to a query; `None`: no answer.
type Answers = fn(&str, RecordType) -> Option<Result<Vec<Record>, ResponseCode>>;

fn record(name: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii(name).unwrap(), ttl, data)
}

fn a(name: &str, ttl: u32, last: u8) -> Record {
    record(name, ttl, RData::A(A::new(192, 0, 2, last)))
}

fn aaaa(name: &str, ttl: u32, last: u16) -> Record {
    record(name, ttl, RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)))
}

impl NameServer {
    fn start(answers: Answers) -> Self {
        let background = BackgroundRuntime::new();
        let asked = Arc::<Mutex<Vec<_>>>::default();
        let socket = background.runtime().block_on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = socket.local_addr().unwrap().port();
        background.runtime().spawn(serve(socket, answers, Arc::clone(&asked)));
        Self { background, port, asked }
    }

    /// As in a pod: `ndots:5` and search domains.
    fn resolve(&self, pool: &str) -> Result<Resolution, String> {
        let mut connection = ConnectionConfig::udp();
        connection.port = self.port;
        let mut server = NameServerConfig::udp(IpAddr::V4(Ipv4Addr::LOCALHOST));
        server.connections = vec![connection];
        let search = ["time.svc.test.", "svc.test."].map(|name| Name::from_ascii(name).unwrap());
        let config = ResolverConfig::from_parts(None, search.to_vec(), vec![server]);
        let mut options = ResolverOpts::default();
        (options.ndots, options.use_hosts_file) = (5, ResolveHosts::Never);
        let dns = Dns::with_servers(config, options);
        self.background.runtime().block_on(dns.resolve(PoolName::parse(pool).unwrap()))
    }

    /// The queried names so far, in order, without the retries that follow after a third of a second.
    fn names_asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let mut names: Vec<String> = asked.iter().map(|(name, _)| name.clone()).collect();
        names.dedup();
        names
    }
}

async fn serve(socket: UdpSocket, answers: Answers, asked: Arc<Mutex<Vec<(String, RecordType)>>>) {
    let mut buffer = [0; 4_096];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let question = Message::from_vec(&buffer[..length]).expect("a DNS question");
        let query = &question.queries[0];
        let (name, kind) = (query.name().to_ascii().to_ascii_lowercase(), query.query_type());
        asked.lock().unwrap().push((name.clone(), kind));
        let Some(answer) = answers(&name, kind) else { continue };
        let mut response = question.clone().into_response();
        match answer {
            Ok(records) => response.insert_answers(records),
            Err(code) => response.metadata.response_code = code,
        }
        socket.send_to(&response.to_vec().unwrap(), client).await.unwrap();
    }
}

fn addresses(resolution: &Resolution) -> Vec<String> {
    let mut addresses: Vec<String> = resolution.addresses.iter().map(ToString::to_string).collect();
    addresses.sort();
    addresses
}

#[test]
fn absolute_names_are_queried_once_and_without_the_search_list() {
    let once = (0..3).any(|_| {
        let server = NameServer::start(|name, kind| match (name, kind) {
            ("time.example.", RecordType::A) => Some(Ok(vec![a(name, 300, 1), a(name, 300, 2)])),
            ("time.example.", _) => Some(Ok(vec![])),
            _ => Some(Err(ResponseCode::NXDomain)),
        });
        let resolution = server.resolve("time.example:1123").unwrap();
        assert_eq!(addresses(&resolution), ["192.0.2.1:1123", "192.0.2.2:1123"]);
        assert_eq!(resolution.ttl, Some(Duration::from_secs(300)));
        assert_eq!(server.names_asked(), ["time.example."]);
        server.asked.lock().unwrap().len() == 2
    });
    assert!(
        once,
        "one query for each family, if the machine answers within a third of a second in one of three runs"
    );
}

#[test]
fn relative_names_are_queried_as_absolute_first_and_then_through_the_search_list() {
    let server = NameServer::start(|name, kind| match (name, kind) {
        ("ntp.svc.test.", RecordType::A) => Some(Ok(vec![a(name, 30, 7)])),
        ("ntp.svc.test.", _) => Some(Ok(vec![])),
        _ => Some(Err(ResponseCode::NXDomain)),
    });
    assert_eq!(addresses(&server.resolve("ntp").unwrap()), ["192.0.2.7:123"]);
    assert_eq!(server.names_asked(), ["ntp.", "ntp.time.svc.test.", "ntp.svc.test."]);
}

#[test]
fn names_with_a_trailing_dot_skip_the_search_list() {
    let server = NameServer::start(|_, _| Some(Err(ResponseCode::NXDomain)));
    assert_eq!(server.resolve("ntp.").unwrap_err(), "no such name");
    assert_eq!(server.names_asked(), ["ntp."]);
}

/// Answers for all names under the search domains, as a wildcard or the owner of a namespace does.
fn captured(name: &str, kind: RecordType, upstream: ResponseCode) -> Result<Vec<Record>, ResponseCode> {
    match kind {
        _ if !name.ends_with(".svc.test.") => Err(upstream),
        RecordType::A => Ok(vec![a(name, 30, 66)]),
        _ => Ok(vec![]),
    }
}

#[test]
fn names_with_a_dot_skip_the_search_list_after_every_kind_of_failure() {
    let cases: [(Answers, &str); 4] = [
        (|name, kind| Some(captured(name, kind, ResponseCode::ServFail)), "SERVFAIL"),
        (|name, kind| Some(captured(name, kind, ResponseCode::Refused)), "REFUSED"),
        (|name, kind| Some(captured(name, kind, ResponseCode::NXDomain)), "NXDOMAIN"),
        (
            |name, kind| name.ends_with(".svc.test.").then(|| captured(name, kind, ResponseCode::NoError)),
            "no answer",
        ),
    ];
    for (answers, failure) in cases {
        let server = NameServer::start(answers);
        assert!(server.resolve("time.google.com").is_err(), "{failure}");
        assert_eq!(server.names_asked(), ["time.google.com."], "{failure}");
    }
}

#[test]
fn addresses_of_both_families_are_used_with_the_shortest_ttl() {
    let server = NameServer::start(|name, kind| {
        let target = "target.example.";
        let alias = record(name, 40, RData::CNAME(CNAME(Name::from_ascii(target).unwrap())));
        Some(Ok(match (name, kind) {
            ("alias.example.", RecordType::A) => vec![alias, a(target, 300, 1)],
            ("alias.example.", _) => vec![alias, aaaa(target, 300, 1)],
            (_, RecordType::A) => vec![a(name, 300, 1), a(name, 120, 2)],
            _ => vec![aaaa(name, 90, 1)],
        }))
    });
    let both = server.resolve("time.example").unwrap();
    // A family that this machine has no route to is left out.
    let (v4, v6) = (["192.0.2.1:123", "192.0.2.2:123"], ["[2001:db8::1]:123"]);
    let found = addresses(&both);
    let all = [&v4[..], &v6[..]].concat();
    assert!(found == all || found == v4 || found == v6, "{found:?}");
    assert_eq!(both.ttl, Some(Duration::from_secs(90)));
    assert_eq!(
        server.resolve("alias.example").unwrap().ttl,
        Some(Duration::from_secs(40)),
        "the TTL of the alias"
    );
}

#[test]
fn names_resolve_when_the_name_server_answers_for_one_family_only() {
    let server = NameServer::start(|name, kind| (kind == RecordType::A).then(|| Ok(vec![a(name, 300, 1)])));
    assert_eq!(addresses(&server.resolve("time.example").unwrap()), ["192.0.2.1:123"]);
}

#[test]
fn resolution_errors_are_short_and_readable() {
    let error = |answers: Answers| NameServer::start(answers).resolve("time.example").unwrap_err();
    assert_eq!(error(|_, _| Some(Err(ResponseCode::NXDomain))), "no such name");
    assert_eq!(error(|_, _| Some(Ok(vec![]))), "the name has no address");
    assert_eq!(error(|_, _| None), "no answer from the name servers");
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let error = error(if code == ResponseCode::ServFail {
            |_, _| Some(Err(ResponseCode::ServFail))
        } else {
            |_, _| Some(Err(ResponseCode::Refused))
        });
        assert!(error.len() < 80 && !error.contains('{'), "{error}");
        eprintln!("{code:?}: {error}");
    }
}

#[test]
fn addresses_resolve_without_a_name_server() {
    let server = NameServer::start(|_, _| None);
    for (pool, address) in [
        ("192.0.2.7", "192.0.2.7:123"),
        ("192.0.2.7:1123", "192.0.2.7:1123"),
        ("[2001:db8::7]:1123", "[2001:db8::7]:1123"),
        ("2001:db8::7", "[2001:db8::7]:123"),
    ] {
        let resolution = server.resolve(pool).unwrap();
        assert_eq!((addresses(&resolution), resolution.ttl), (vec![address.to_owned()], None));
    }
    assert!(server.names_asked().is_empty(), "no query");
}
