//! chronyd's command protocol, against the real chronyd and chronyc; and against peers that are none.
#![allow(clippy::float_cmp, reason = "numbers that were only copied")]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc;
use std::time::Duration;

use drift_agent::os::chrony::{ChronyError, ChronyStatus, Client, ReplyError, Request, Tracking};
use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::TimeScale;
use drift_core::ntp::packet::Leap;
use drift_core::time::{Offset, Ppb, Wall, nanos};

use crate::support::chronyd::{Chronyd, Peer, chronyc, command_of, names, source};
use crate::support::{BackgroundRuntime, Folder, wait_for};

/// For peers that do not answer.
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn requests_equal_those_of_chronyc_byte_for_byte_and_chronyd_accepts_them() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-bytes"));
    let server = background.server(&TimeScale::new(Offset::ZERO), Behaviour::Honest);
    let chronyd = Chronyd::start(&background, &folder, &[&source(server.address())]);
    let relay = Peer::relay(&chronyd, &folder);
    let client = Client::unix(&relay.socket);
    let requests = [
        Request::Tracking,
        Request::Sources,
        Request::ResetSources,
        Request::Burst { good: 4, total: 4 },
        Request::Burst { good: 1, total: 20 },
    ];
    for request in requests {
        let typed = request.to_string();
        let theirs = chronyc(&relay.socket, &typed.split(' ').collect::<Vec<_>>());
        assert_eq!(theirs.code, 0, "{theirs:?}");
        let command = command_of(&request.encode(0));
        let theirs = relay.take(command);
        background.runtime().block_on(client.command(request)).unwrap_or_else(|e| panic!("{typed}: {e}"));
        assert_eq!(relay.take(command), theirs, "{typed}");
    }
    assert_eq!(background.runtime().block_on(client.sources()).unwrap(), 1);
    assert_eq!(chronyc(&relay.socket, &["sources"]).code, 0);
    let theirs = relay.take(15);
    wait_for("a measurement after the reset", || {
        let reachable = background.runtime().block_on(client.reachable_sources()).unwrap();
        assert_eq!(relay.take(15), theirs);
        (reachable == 1).then_some(())
    });
    // Only a chronyd that may not touch the clock answers so.
    let theirs = chronyc(&relay.socket, &["makestep"]);
    assert!(theirs.stdout.contains("500 Failure"), "{theirs:?}");
    let theirs = relay.take(43);
    let refused = background.runtime().block_on(client.command(Request::MakeStep)).unwrap_err();
    assert!(matches!(refused, ChronyError::Refused(ChronyStatus::Failed)), "{refused}");
    assert_eq!(relay.take(43), theirs);
}

/// One line of `chronyc -c tracking`.
struct Theirs(Vec<String>);

impl Theirs {
    fn number(&self, at: usize) -> f64 {
        self.0[at].parse().unwrap_or_else(|_| panic!("{:?}", self.0))
    }
}

#[test]
fn tracking_values_equal_those_that_chronyc_prints() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-tracking"));
    let server = background.server(&TimeScale::new(Offset::from_nanos(30_000_000)), Behaviour::Honest);
    let chronyd = Chronyd::start(&background, &folder, &[&source(server.address())]);
    chronyd.wait_for(&background, "a second update", |t| !t.update_interval.is_zero());
    // chronyd updates the clock while we look: between two equal readings it did not.
    let read = || background.runtime().block_on(chronyd.client().tracking()).unwrap();
    let (before, theirs, after) = wait_for("a calm moment", || {
        let before = read();
        let line = chronyc(&chronyd.socket(), &["-c", "tracking"]).stdout;
        let after = read();
        let theirs = Theirs(line.trim().split(',').map(str::to_owned).collect());
        (before.reference_time == after.reference_time).then_some((before, theirs, after))
    });
    let Tracking { reference_id, stratum, leap, reference_time, .. } = before;
    assert_eq!(theirs.0[0], format!("{:08X}", u32::from_be_bytes(reference_id)));
    assert_eq!((theirs.0[2].as_str(), stratum), ("2", 2));
    assert_eq!((theirs.0[13].as_str(), leap), ("Normal", Leap::None));
    let (secs, fraction) = theirs.0[3].split_once('.').unwrap();
    let theirs_time = Wall::from_secs(secs.parse().unwrap());
    assert_eq!(reference_time, theirs_time.plus(Offset::from_nanos(fraction.parse().unwrap())));
    // They print nine digits, and parts per million with three.
    let shown = |secs: f64| (secs * 1e9).round();
    let span = |span: Duration| shown(span.as_secs_f64());
    assert_eq!(shown(-before.last_offset.as_secs_f64()), shown(theirs.number(5)));
    assert_eq!(span(before.rms_offset), shown(theirs.number(6)));
    assert!((before.frequency.as_ratio() * -1e6 - theirs.number(7)).abs() < 0.0011);
    assert!((before.skew.as_ratio() * 1e6 - theirs.number(9)).abs() < 0.0011);
    assert_eq!(span(before.root_delay), shown(theirs.number(10)));
    assert!((before.update_interval.as_secs_f64() - theirs.number(12)).abs() < 0.051);
    // These two grow with time.
    let between = |name: &str, a: f64, theirs: f64, b: f64| {
        let (low, high) = (a.min(b) - 1e-9, a.max(b) + 1e-9);
        assert!((low..=high).contains(&theirs), "{name}: {theirs} is not between {a} and {b}");
    };
    between("offset", before.offset.as_secs_f64(), theirs.number(4), after.offset.as_secs_f64());
    let dispersion = |t: &Tracking| t.root_dispersion.as_secs_f64();
    between("root dispersion", dispersion(&before), theirs.number(11), dispersion(&after));
}

#[test]
fn tracking_offsets_and_frequencies_are_positive_for_a_clock_that_is_or_falls_behind() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-sign-of-tracking"));
    // The server is ahead of this machine: the machine is behind.
    let time = TimeScale::new(Offset::from_nanos(250_000_000));
    let server = background.server(&time, Behaviour::Honest);
    let chronyd = Chronyd::start(&background, &folder, &[&source(server.address())]);
    let first = chronyd.wait_for(&background, "the first update", Tracking::is_synchronised);
    let near = |offset: Offset| (offset.as_nanos() - 250_000_000).abs() < 5_000_000;
    assert!(near(first.offset) && near(first.last_offset), "{first:?}");
    let human = chronyc(&chronyd.socket(), &["tracking"]).stdout;
    assert!(human.contains("seconds slow of NTP time"), "{human}");
    // The reference runs away from this machine, which therefore is slow; each update finds it further behind.
    time.drift(Ppb::from_ppm(300));
    let later = chronyd.wait_for(&background, "a frequency", |t| t.frequency > Ppb::from_ppm(100));
    assert!(later.offset > first.offset, "{later:?}");
    let human = chronyc(&chronyd.socket(), &["tracking"]).stdout;
    assert!(human.contains("ppm slow"), "{human}");
}

#[test]
fn udp_requests_can_read_everything_and_change_nothing() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-udp"));
    let chronyd = Chronyd::start(&background, &folder, &["local stratum 10"]);
    let udp = Client::udp(([127, 0, 0, 1], chronyd.udp_port).into());
    let run = |request| background.runtime().block_on(udp.command(request));
    let tracking = background.runtime().block_on(udp.tracking()).unwrap();
    assert_eq!((tracking.stratum, tracking.reference_id), (10, [127, 127, 1, 1]));
    assert!(!tracking.is_synchronised() && tracking.never_updated(), "{tracking:?}");
    assert_eq!(background.runtime().block_on(udp.sources()).unwrap(), 0);
    assert_eq!(background.runtime().block_on(udp.reachable_sources()).unwrap(), 0);
    let burst = Request::Burst { good: 4, total: 4 };
    for request in [Request::ResetSources, burst, Request::MakeStep] {
        let refused = run(request).unwrap_err();
        assert!(matches!(refused, ChronyError::Refused(ChronyStatus::Unauthorized)), "{request}: {refused}");
    }
    let nobody = Client::udp(([127, 0, 0, 1], crate::support::free_udp_port()).into());
    let error = background.runtime().block_on(nobody.tracking()).unwrap_err();
    assert!(matches!(error, ChronyError::NotListening(_)), "{error}");
    // A burst without NTP sources is rejected by name, also by the socket.
    let refused = background.runtime().block_on(chronyd.client().command(burst)).unwrap_err();
    assert!(matches!(refused, ChronyError::Refused(ChronyStatus::NoSuchSource)), "{refused}");
}

/// What kubelet's `DirectoryOrCreate` does to a chronyd that starts later.
#[test]
fn chronyd_makes_no_socket_in_a_folder_that_root_has_made_and_left_open() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-root-folder"));
    let run = folder.path().join("run");
    std::fs::create_dir(&run).unwrap();
    std::fs::set_permissions(&run, Permissions::from_mode(0o755)).unwrap();
    if std::fs::metadata(&run).unwrap().uid() != 0 {
        return;
    }
    let chronyd = Chronyd::start_in_folder_of_root(&background, &folder, &["local stratum 10"]);
    chronyd.process.wait_for_output("Wrong permissions on");
    let error = background.runtime().block_on(chronyd.client().tracking()).unwrap_err();
    assert!(matches!(&error, ChronyError::RefusedFolder(at) if *at == run), "{error}");
    assert!(error.to_string().contains("chronyd will refuse this folder"), "{error}");
}

#[test]
fn sources_count_as_reachable_once_they_have_answered() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-reachable"));
    let servers = [(1, Behaviour::Honest), (2, Behaviour::Silent), (3, Behaviour::Honest)]
        .map(|(host, behaviour)| background.server_on(host, &TimeScale::new(Offset::ZERO), behaviour));
    let sources = servers.each_ref().map(|server| source(server.address()));
    let chronyd = Chronyd::start(&background, &folder, &sources.each_ref().map(String::as_str));
    for client in [chronyd.client(), Client::udp(([127, 0, 0, 1], chronyd.udp_port).into())] {
        wait_for("two reachable sources", || {
            let reachable = background.runtime().block_on(client.reachable_sources()).unwrap();
            assert!(reachable <= 2, "{reachable}");
            (reachable == 2).then_some(())
        });
        assert_eq!(background.runtime().block_on(client.sources()).unwrap(), 3);
    }
}

#[test]
fn queries_as_another_user_leave_no_files_in_chronyds_folder() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-user"));
    let chronyd = Chronyd::start(&background, &folder, &[]);
    let before = names(&chronyd.run);
    for _ in 0..20 {
        let tracking = background.runtime().block_on(chronyd.client().tracking()).unwrap();
        assert_eq!(tracking.leap, Leap::Alarm);
    }
    assert_eq!(names(&chronyd.run), before);
}

/// A peer that gives these answers, and what the client makes of them.
fn ask(name: &str, answer: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Result<u32, ChronyError> {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new(name));
    let peer = Peer::start(folder.path().join("chronyd.sock"), answer);
    let result = background.runtime().block_on(Client::unix(&peer.socket).with_timeout(SHORT).sources());
    assert_eq!(names(folder.path()), ["chronyd.sock"]);
    result
}

/// A right answer to `sources`: five.
fn right(request: &[u8]) -> Vec<u8> {
    let mut reply = vec![6, 2, 0, 0, 0, 14, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    reply.extend(&request[8..12]);
    reply.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    reply
}

#[test]
fn malformed_replies_are_reported_as_not_chronyds() {
    assert_eq!(ask("chrony-right", |request| vec![right(request)]).unwrap(), 5);
    let garbage = |name, answer: fn(&[u8]) -> Vec<u8>| {
        let error = ask(name, move |request| vec![answer(request)]).unwrap_err();
        assert!(error.to_string().starts_with("the answer is not one of chronyd's: "), "{error}");
        let ChronyError::Garbage(error) = error else { panic!("{error}") };
        error
    };
    assert_eq!(
        garbage("chrony-garbage", |_| b"HTTP/1.1 400 Bad Request".to_vec()),
        ReplyError::Version(b'H')
    );
    assert_eq!(garbage("chrony-nothing", |_| vec![]), ReplyError::Truncated(0));
    assert_eq!(garbage("chrony-short", |r| right(r)[..31].to_vec()), ReplyError::Truncated(31));
    assert_eq!(garbage("chrony-echo", <[u8]>::to_vec), ReplyError::NotAReply(1));
    assert_eq!(garbage("chrony-long", |_| vec![5; 60_000]), ReplyError::Version(5));
}

#[test]
fn replies_to_other_requests_are_skipped() {
    let stray = |request: &[u8]| right(&[&[0; 8], &[!request[8], 0, 0, 0][..]].concat());
    let answered = ask("chrony-stray", move |request| vec![stray(request), stray(request), right(request)]);
    assert_eq!(answered.unwrap(), 5);
    let error = ask("chrony-strays", move |request| vec![stray(request)]).unwrap_err();
    assert!(matches!(error, ChronyError::TimedOut { strays: true, after: SHORT, .. }), "{error}");
    assert!(error.to_string().contains("within 200ms, only to other requests"), "{error}");
}

#[test]
fn silent_or_late_peers_time_out_and_late_replies_do_no_harm() {
    let error = ask("chrony-silent", |_| vec![]).unwrap_err();
    assert!(matches!(error, ChronyError::TimedOut { strays: false, .. }), "{error}");

    // The answer to the first request comes when it has timed out, and does no harm.
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-late"));
    let (release, released) = mpsc::channel();
    let peer = Peer::start(folder.path().join("chronyd.sock"), move |request| {
        released.recv().unwrap_or(());
        vec![right(request)]
    });
    let client = Client::unix(&peer.socket);
    let late = background.runtime().block_on(client.clone().with_timeout(SHORT).sources()).unwrap_err();
    assert!(matches!(late, ChronyError::TimedOut { strays: false, .. }), "{late}");
    drop(release);
    assert_eq!(background.runtime().block_on(client.sources()).unwrap(), 5);
    assert_eq!(names(folder.path()), ["chronyd.sock"]);
}

#[test]
fn peers_with_a_full_queue_time_out() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-full"));
    let path = folder.path().join("chronyd.sock");
    let _never_reads = UnixDatagram::bind(&path).unwrap();
    let flood = UnixDatagram::unbound().unwrap();
    flood.set_nonblocking(true).unwrap();
    wait_for("its queue to be full", || flood.send_to(&[0], &path).is_err().then_some(()));
    let error =
        background.runtime().block_on(Client::unix(&path).with_timeout(SHORT).tracking()).unwrap_err();
    assert!(matches!(error, ChronyError::TimedOut { .. }), "{error}");
    assert_eq!(names(folder.path()), ["chronyd.sock"]);
}

#[test]
fn missing_and_dead_sockets_are_reported_with_what_to_do() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-nowhere"));
    let ask =
        |path: &std::path::Path| background.runtime().block_on(Client::unix(path).tracking()).unwrap_err();
    // Closed to others, as chronyd makes its folder.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    let path = folder.path().join("chronyd.sock");
    for missing in [&path, &folder.path().join("no-folder/chronyd.sock")] {
        let error = ask(missing);
        assert!(matches!(&error, ChronyError::NoSocket(at) if at == missing), "{error}");
        assert!(error.to_string().contains("mounted at the same path as on the host"), "{error}");
    }
    assert_eq!(names(folder.path()), [""; 0]);
    // As kubelet makes a missing one. Only root's own folders are in question.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let error = ask(&path);
    let is_root = std::fs::metadata(folder.path()).unwrap().uid() == 0;
    assert_eq!(matches!(&error, ChronyError::RefusedFolder(at) if at == folder.path()), is_root, "{error}");
    // A file that a chronyd left behind when it was killed.
    drop(UnixDatagram::bind(&path).unwrap());
    let error = ask(&path);
    assert!(matches!(error, ChronyError::NotListening(_)), "{error}");
    assert_eq!(names(folder.path()), ["chronyd.sock"]);
    // No folder that a socket can be made in, not even by root.
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = ask(&folder.path().join("file/chronyd.sock"));
    assert!(matches!(&error, ChronyError::NotWritable { .. }), "{error}");
    assert!(error.to_string().contains("mount the folder writable"), "{error}");
}

#[test]
fn the_default_timeout_is_two_seconds() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-patience"));
    let peer = Peer::start(folder.path().join("chronyd.sock"), |_| vec![]);
    let error = background.runtime().block_on(Client::unix(&peer.socket).tracking()).unwrap_err();
    let ChronyError::TimedOut { after, .. } = error else { panic!("{error}") };
    assert_eq!(nanos(after), 2_000_000_000);
}
