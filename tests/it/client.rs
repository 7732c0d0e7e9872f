//! The agent's own NTP client and the cross-check by rsntp, over real sockets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use drift_agent::os::clock::{Clock, LinuxClock, ShiftedClock};
use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_agent::sources::ntp::Ntp;
use drift_core::ntp::cross_check::CrossCheck;
use drift_core::ntp::packet::{HEADER_LEN, Header, Kiss, Leap, MODE_SERVER, NtpTimestamp};
use drift_core::ntp::reject::RejectReason;
use drift_core::ntp::sample::{Limits, Sample};
use drift_core::ntp::server::{Answer, Ask};
use drift_core::time::interval::Interval;
use drift_core::time::rate::Rate;
use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Ppb, Reading, Wall};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::support::{BackgroundRuntime, DEADLINE, Exposition, Folder, RunningAgent, pool};

/// Reference time at which the raw clock read 0, in the servers here: nothing that sets the wall clock moves it.
const ORIGIN: i64 = 1_795_341_600 * NANOS_PER_SEC;
/// So long that nothing times out in a test; the test itself has [`DEADLINE`].
const NEVER: Duration = Duration::from_secs(3_600);

fn client(clock: Arc<dyn Clock>, max_round_trip: Duration) -> Ntp {
    Ntp::new(clock, Limits { max_round_trip, max_root_distance: Duration::from_secs(1), root_distance: None })
}

fn patient() -> Ntp {
    client(Arc::new(LinuxClock), NEVER)
}

/// The result of an exchange for a sample. Panics after [`DEADLINE`].
async fn sample(ntp: &Ntp, server: SocketAddr) -> Result<Sample, RejectReason> {
    let answer = timeout(DEADLINE, ntp.ask(server, Ask::Sample)).await.expect("an end of the exchange");
    match answer {
        Answer::Sample(sample) => Ok(sample),
        Answer::Rejected(reason) => Err(reason),
        Answer::CrossChecked(_) => panic!("not what was asked for"),
    }
}

/// A server whose packets the test sends by hand.
struct ByHand(UdpSocket);

/// One request to it.
#[derive(Clone)]
struct Request {
    bytes: Vec<u8>,
    client: SocketAddr,
    arrived: Mono,
}

impl ByHand {
    async fn start() -> Self {
        Self(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port"))
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    async fn request(&self) -> Request {
        let mut buffer = [0; 512];
        let (length, client) =
            timeout(DEADLINE, self.0.recv_from(&mut buffer)).await.expect("a request").expect("no error");
        Request { bytes: buffer[..length].to_vec(), client, arrived: LinuxClock.read().raw }
    }

    async fn send(&self, bytes: &[u8], to: SocketAddr) {
        self.0.send_to(bytes, to).await.expect("sent");
    }
}

impl Request {
    /// The right answer, sent now.
    fn answer(&self) -> Header {
        let stamp = |raw: Mono| NtpTimestamp::from_unix_nanos(ORIGIN + raw.as_nanos());
        Header {
            leap: Leap::None,
            version: 4,
            mode: MODE_SERVER,
            stratum: 1,
            precision: -24,
            root_delay: Duration::ZERO,
            root_dispersion: Duration::ZERO,
            reference_id: *b"TEST",
            reference: NtpTimestamp::ZERO,
            origin: Header::from_bytes(&self.bytes).expect("a request").transmit,
            receive: stamp(self.arrived),
            transmit: stamp(LinuxClock.read().raw),
        }
    }

    /// An answer that would be right by another clock, to a request that nobody sent.
    fn wrong_origin(&self) -> Header {
        let answer = self.answer();
        Header {
            origin: NtpTimestamp(answer.origin.0 ^ 1),
            receive: NtpTimestamp(1 << 63),
            transmit: NtpTimestamp(1 << 63),
            ..answer
        }
    }
}

/// Does the sample contain the true origin, and is its bound what the exchange allows?
fn assert_true(sample: &Sample) {
    let interval = sample.interval(Rate::UNKNOWN);
    let truth = Wall::from_nanos(ORIGIN);
    assert!(interval.low <= truth && truth <= interval.high, "{interval:?} lacks {truth:?}: {sample:?}");
    let error = sample.origin.minus(truth).as_nanos().abs();
    assert!(
        error <= sample.bound.as_nanos(),
        "no oscillator is between two readings of one clock: {sample:?}"
    );
}

#[tokio::test]
async fn packets_that_are_no_answer_do_not_end_an_exchange_whoever_sent_them() {
    type Stray = fn(&Request) -> Vec<u8>;
    let strays: [(&str, Stray); 9] = [
        ("empty", |_| Vec::new()),
        ("one byte", |_| vec![0x24]),
        ("short", |request| request.answer().to_bytes()[..HEADER_LEN - 1].to_vec()),
        ("wrong origin", |request| request.wrong_origin().to_bytes().to_vec()),
        ("forged RATE", |request| {
            Header { stratum: 0, reference_id: *b"RATE", ..request.wrong_origin() }.to_bytes().to_vec()
        }),
        ("forged DENY", |request| {
            Header { stratum: 0, reference_id: *b"DENY", origin: NtpTimestamp::ZERO, ..request.answer() }
                .to_bytes()
                .to_vec()
        }),
        ("the request itself", |request| request.bytes.clone()),
        ("garbage", |_| vec![0xa5; HEADER_LEN]),
        ("longer than any answer", |_| vec![0xa5; 60_000]),
    ];
    let (server, ntp) = (ByHand::start().await, patient());
    for (kind, stray) in strays {
        let serve = async {
            let request = server.request().await;
            server.send(&stray(&request), request.client).await;
            server.send(&stray(&request), request.client).await;
            server.send(&request.answer().to_bytes(), request.client).await;
        };
        let (sample, ()) = tokio::join!(sample(&ntp, server.address()), serve);
        assert_true(&sample.unwrap_or_else(|reason| panic!("{kind}: {reason:?}")));
    }
    let serve = async {
        let request = server.request().await;
        for (_, stray) in strays {
            server.send(&stray(&request), request.client).await;
        }
        let long = [&request.answer().to_bytes()[..], &[7; 200]].concat();
        server.send(&long, request.client).await;
    };
    let (sample, ()) = tokio::join!(sample(&ntp, server.address()), serve);
    assert_true(&sample.expect("all of them, and then an answer with extension fields"));
}

#[tokio::test]
async fn answers_from_another_address_or_port_are_not_received() {
    let (server, ntp) = (ByHand::start().await, patient());
    let port = server.address().port();
    let others = [(Ipv4Addr::LOCALHOST, 0), (Ipv4Addr::new(127, 0, 0, 2), port)];
    for other in others {
        let other = ByHand(UdpSocket::bind(other).await.expect("a free address"));
        let serve = async {
            let request = server.request().await;
            let mut lie = request.answer();
            (lie.receive, lie.transmit) =
                (NtpTimestamp(lie.receive.0 + (99 << 32)), NtpTimestamp(lie.transmit.0 + (99 << 32)));
            other.send(&lie.to_bytes(), request.client).await;
            server.send(&request.answer().to_bytes(), request.client).await;
        };
        let (sample, ()) = tokio::join!(sample(&ntp, server.address()), serve);
        assert_true(&sample.expect("the answer of the server that was asked"));
    }
}

#[tokio::test]
async fn requests_carry_no_time_of_the_node_and_come_from_a_port_of_their_own() {
    let clock = Arc::new(ShiftedClock::default());
    clock.set(Duration::from_secs(10 * 365 * 86_400));
    let (server, ntp) = (ByHand::start().await, client(clock.clone(), NEVER));
    let mut requests = Vec::new();
    for _ in 0..8 {
        let serve = async {
            let request = server.request().await;
            server.send(&request.answer().to_bytes(), request.client).await;
            request
        };
        let (sample, request) = tokio::join!(sample(&ntp, server.address()), serve);
        assert_true(&sample.expect("an answer"));
        requests.push(request);
    }
    let random = |request: &Request| Header::from_bytes(&request.bytes).expect("a request").transmit.0;
    let seconds = |clock: &dyn Clock| NtpTimestamp::from_unix_nanos(clock.read().wall.as_nanos()).0 >> 32;
    let times = [seconds(&*clock), seconds(&LinuxClock)];
    for request in &requests {
        assert_eq!(request.bytes.len(), HEADER_LEN);
        assert_eq!(request.bytes[0], 0b00_100_011, "no leap warning, version 4, mode 3");
        assert_eq!(request.bytes[1..40], [0; 39], "all else is zero");
    }
    // One number in fifty thousand is near one of the two clocks by chance.
    let is_time =
        |request: &&Request| times.iter().any(|time| (random(request) >> 32).abs_diff(*time) < 86_400);
    assert!(
        requests.iter().filter(is_time).count() <= 1,
        "{requests:?}",
        requests = requests.iter().map(random).collect::<Vec<_>>()
    );
    let distinct = requests.iter().map(random).collect::<BTreeSet<_>>();
    assert_eq!(distinct.len(), 8, "{distinct:?}");
    // The kernel may choose a port again by chance, but not twice.
    let ports = requests.iter().map(|request| request.client.port()).collect::<BTreeSet<_>>();
    assert!(ports.len() >= 7, "{ports:?}");
}

/// A wall clock that the kernel slews by this share of the raw clock; the raw clock is the machine's.
struct SlewedClock(Ppb);

impl Clock for SlewedClock {
    fn read(&self) -> Reading {
        let now = LinuxClock.read();
        let gained = self.0.over(now.raw.since(Mono::from_nanos(0)));
        Reading { wall: now.wall.plus(Offset::from_nanos(gained)), ..now }
    }
}

#[tokio::test]
async fn steps_and_slews_of_the_wall_clock_during_an_exchange_change_nothing_in_the_sample() {
    let (server, shifted) = (ByHand::start().await, Arc::new(ShiftedClock::default()));
    let ntp = client(shifted.clone(), NEVER);
    for step in [3_000, -3_000, 86_400_000, 40] {
        let serve = async {
            let request = server.request().await;
            shifted.shift(Offset::from_nanos(step * 1_000_000));
            server.send(&request.answer().to_bytes(), request.client).await;
        };
        let (sample, ()) = tokio::join!(sample(&ntp, server.address()), serve);
        assert_true(&sample.unwrap_or_else(|reason| panic!("{step} ms: {reason:?}")));
    }
    // As chrony does at most.
    for ppm in [83_333, -83_333] {
        let ntp = client(Arc::new(SlewedClock(Ppb::from_ppm(ppm))), NEVER);
        let serve = async {
            let request = server.request().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            server.send(&request.answer().to_bytes(), request.client).await;
        };
        let (sample, ()) = tokio::join!(sample(&ntp, server.address()), serve);
        assert_true(&sample.unwrap_or_else(|reason| panic!("{ppm} ppm: {reason:?}")));
    }
}

#[tokio::test]
async fn late_answers_are_a_time_out_and_do_not_reach_the_next_exchange() {
    let (server, ntp) = (ByHand::start().await, patient());
    let hasty = client(Arc::new(LinuxClock), Duration::from_millis(50));
    assert_eq!(sample(&hasty, server.address()).await, Err(RejectReason::Timeout));
    let first = server.request().await;
    let serve = async {
        let request = server.request().await;
        server.send(&first.answer().to_bytes(), first.client).await;
        // By an attacker, or a translator of addresses that mixes up two flows.
        server.send(&first.answer().to_bytes(), request.client).await;
        server.send(&request.answer().to_bytes(), request.client).await;
    };
    let (second, ()) = tokio::join!(sample(&ntp, server.address()), serve);
    assert_true(&second.expect("the answer to the second request"));
}

#[tokio::test]
async fn what_came_instead_of_an_answer_is_the_reason_at_the_time_out() {
    let (server, ntp) = (ByHand::start().await, client(Arc::new(LinuxClock), Duration::from_millis(500)));
    let serve = async {
        let request = server.request().await;
        server.send(&[], request.client).await;
        server.send(&request.wrong_origin().to_bytes(), request.client).await;
    };
    let (result, ()) = tokio::join!(sample(&ntp, server.address()), serve);
    assert_eq!(result, Err(RejectReason::WrongOrigin));
}

#[tokio::test]
async fn kisses_with_the_origin_of_the_request_end_the_exchange_at_once() {
    let (server, ntp) = (ByHand::start().await, patient());
    for (code, kiss) in
        [(*b"RATE", Kiss::Rate), (*b"DENY", Kiss::Deny), (*b"RSTR", Kiss::Deny), (*b"INIT", Kiss::Other)]
    {
        let serve = async {
            let request = server.request().await;
            // As ntpd sends it: not synchronised, without times.
            let kiss = Header {
                leap: Leap::Alarm,
                stratum: 0,
                reference_id: code,
                receive: NtpTimestamp::ZERO,
                transmit: NtpTimestamp::ZERO,
                ..request.answer()
            };
            server.send(&kiss.to_bytes(), request.client).await;
        };
        let (result, ()) = tokio::join!(sample(&ntp, server.address()), serve);
        assert_eq!(result, Err(RejectReason::Kiss(kiss)));
    }
}

#[tokio::test]
async fn closed_ports_and_missing_routes_end_the_exchange_at_once() {
    let ntp = patient();
    for closed in [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()] {
        let Ok(socket) = UdpSocket::bind::<SocketAddr>(closed).await else {
            println!("SKIPPED: this machine has no {closed}");
            continue;
        };
        let closed = socket.local_addr().expect("bound");
        drop(socket);
        assert_eq!(sample(&ntp, closed).await, Err(RejectReason::Unreachable), "{closed}");
    }
    // The kernel refuses these before it sends anything.
    for refused in ["255.255.255.255:123", "[fe80::1]:123", "127.0.0.1:0"] {
        let result = sample(&ntp, refused.parse().expect("an address")).await;
        assert_eq!(result, Err(RejectReason::Unreachable), "{refused}");
    }
}

#[tokio::test]
async fn servers_are_asked_by_ipv6_with_both_clients() {
    let time = TimeScale::new(Offset::from_nanos(-250_000_000));
    let server =
        match Server::start_at((Ipv6Addr::LOCALHOST, 0).into(), time.clone(), Behaviour::Honest).await {
            Ok(server) => server,
            Err(error) => {
                println!("SKIPPED: this machine has no ::1 ({error})");
                return;
            }
        };
    let sample = sample(&patient(), server.address()).await.expect("an answer");
    let check = cross_check(&patient(), server.address()).await.expect("an answer");
    assert!(check.interval.meets(sample.interval(Rate::UNKNOWN)));
}

async fn cross_check(ntp: &Ntp, server: SocketAddr) -> Option<CrossCheck> {
    match timeout(DEADLINE, ntp.ask(server, Ask::CrossCheck)).await.expect("an end of the exchange") {
        Answer::CrossChecked(check) => check,
        Answer::Sample(_) | Answer::Rejected(_) => panic!("not what was asked for"),
    }
}

#[tokio::test]
async fn cross_checks_measure_reference_time_whatever_the_agents_clock_reads() {
    for (ahead_ms, shift_secs) in [(0, 0), (250, 0), (-20_000, 0), (250, 10 * 365 * 86_400)] {
        let time = TimeScale::new(Offset::from_nanos(ahead_ms * 1_000_000));
        let server = Server::start(time.clone(), Behaviour::Honest).await.expect("a free port");
        let clock = Arc::new(ShiftedClock::default());
        clock.set(Duration::from_secs(shift_secs));
        let ntp = client(clock, NEVER);
        let check = cross_check(&ntp, server.address()).await.expect("an answer");
        let own = sample(&ntp, server.address()).await.expect("an answer");
        let now = LinuxClock.read();
        let truth = now.origin().plus(time.offset());
        let slack = 1_000_000;
        assert!(
            check.interval.widened(slack).meets(Interval { low: truth, high: truth }),
            "{check:?} lacks {truth:?}"
        );
        assert!(check.interval.meets(own.interval(Rate::UNKNOWN)), "{check:?} {own:?}");
    }
}

#[tokio::test]
async fn cross_checks_that_fail_measure_nothing() {
    let time = TimeScale::new(Offset::ZERO);
    let ntp = client(Arc::new(LinuxClock), Duration::from_millis(300));
    let behaviours = [
        Behaviour::Silent,
        Behaviour::Kiss(*b"RATE"),
        Behaviour::Kiss(*b"DENY"),
        Behaviour::ForgedKiss(*b"RATE"),
        Behaviour::WrongOrigin,
        Behaviour::Garbage(0),
        Behaviour::Garbage(48),
        Behaviour::ZeroTransmit,
        Behaviour::Stratum16,
    ];
    for behaviour in behaviours {
        let server = Server::start(time.clone(), behaviour).await.expect("a free port");
        assert_eq!(cross_check(&ntp, server.address()).await, None, "{behaviour:?}");
        assert_eq!(server.served(), 1, "{behaviour:?}");
    }
    let closed = ByHand::start().await.address();
    assert_eq!(cross_check(&ntp, closed).await, None);
}

/// A server that tells the two clients apart by the request, and gives rsntp a time that is 10 s ahead. It ends
/// with the test.
struct TwoFaced {
    address: SocketAddr,
    by_rsntp: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
}

impl TwoFaced {
    fn start() -> Self {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let (by_rsntp, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let server = Self { address, by_rsntp: by_rsntp.clone(), end: end.clone() };
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                let now = LinuxClock.read().wall;
                let is_by_rsntp = is_wall_time(&buffer[..length], now);
                by_rsntp.fetch_add(u64::from(is_by_rsntp), Ordering::Relaxed);
                let ahead = if is_by_rsntp { 10 * NANOS_PER_SEC } else { 0 };
                let stamp = NtpTimestamp::from_unix_nanos(now.as_nanos() + ahead);
                let request =
                    Request { bytes: buffer[..length].to_vec(), client, arrived: LinuxClock.read().raw };
                let answer = Header { receive: stamp, transmit: stamp, ..request.answer() };
                let _ = socket.send_to(&answer.to_bytes(), client);
            }
        });
        server
    }
}

impl Drop for TwoFaced {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// Is the request's transmit timestamp the time now, to a minute? One random number in thirty million is.
fn is_wall_time(request: &[u8], now: Wall) -> bool {
    let sent = Header::from_bytes(request).expect("a request").transmit.to_wall();
    sent.minus(now).magnitude() < Duration::from_secs(60)
}

#[tokio::test]
async fn only_rsntp_discloses_the_time_of_the_node_and_its_contradiction_shows() {
    let server = TwoFaced::start();
    let ntp = patient();
    let own = sample(&ntp, server.address).await.expect("an answer").interval(Rate::UNKNOWN);
    assert_eq!(server.by_rsntp.load(Ordering::Relaxed), 0);
    let check = cross_check(&ntp, server.address).await.expect("an answer").interval;
    assert_eq!(server.by_rsntp.load(Ordering::Relaxed), 1);
    assert!(!check.meets(own), "{check:?} {own:?}");
    let apart = check.middle().minus(own.middle()).as_secs_f64();
    assert!((apart - 10.0).abs() < check.bound().as_secs_f64() + own.bound().as_secs_f64(), "{apart}");
}

#[test]
fn a_server_that_the_two_clients_measure_differently_twice_is_left_alone() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("client-two-faced"));
    let honest = background.server(&TimeScale::new(Offset::ZERO), Behaviour::Honest);
    let two_faced = TwoFaced::start();
    let (doubtful, right) = (two_faced.address.to_string(), pool(&honest));
    let agent = RunningAgent::start(
        folder.path(),
        &[doubtful.clone(), right.clone()],
        &["--kubernetes", "off"],
        |_| {},
    );
    let scrape = agent.wait_for_scrape("two cross-checks", |scrape| {
        assert!(!["drifting", "disagree"].iter().any(|state| scrape.is_state(state)), "{}", scrape.0);
        scrape.samples(&doubtful).contains_key("clients_disagree").then(|| Exposition(scrape.0.clone()))
    });
    let (samples, checks) = (scrape.samples(&doubtful), two_faced.by_rsntp.load(Ordering::Relaxed));
    assert_eq!(
        (samples["server_inconsistent"], samples["clients_disagree"], samples.len()),
        (1, 1, 3),
        "{samples:?}"
    );
    assert!(checks == 2 && samples["accepted"] >= 32, "one exchange in seventeen: {checks} {samples:?}");
    let backed_off = format!("drift_agent_pool_servers{{pool=\"{doubtful}\",state=\"backed-off\"}}");
    assert_eq!(scrape.value(&backed_off), Some(1.0));
    assert_eq!(scrape.samples(&right).into_keys().collect::<Vec<_>>(), ["accepted"]);
    assert!(scrape.is_state("in-sync"), "by the other pool: {}", scrape.0);
}
