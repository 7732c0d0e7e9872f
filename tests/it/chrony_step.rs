//! The step by chronyd, with a real chronyd that may not set the clock. The reference moves instead, which chronyd cannot
//! distinguish. Real steps are tested in a guest.

use std::time::Duration;

use drift_agent::os::chrony::{ChronyError, ChronyStatus, Client, Request, parse_makestep};
use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_agent::step::chrony::{ChronyStepError, Plan, Report, step};
use drift_core::time::Offset;

use crate::support::chronyd::{Chronyd, Peer, command_of, names};
use crate::support::{BackgroundRuntime, Folder};

/// The commands of the whole sequence, `tracking` once for each time in a row.
const SEQUENCE: [u16; 7] = [33, 14, 66, 50, 3, 33, 50];

/// A node with chronyd, one server, and a relay that records the requests to chronyd.
struct Node {
    chronyd: Chronyd,
    relay: Peer,
    time: TimeScale,
    server: Server,
    background: BackgroundRuntime,
    _folder: Folder,
}

impl Node {
    /// A node this far behind the server, which chronyd polls every second.
    fn new(name: &str, behind_ms: i64, behaviour: Behaviour, directives: &[&str]) -> Self {
        let (background, folder) = (BackgroundRuntime::new(), Folder::new(name));
        let time = TimeScale::new(millis(behind_ms));
        let server = background.server(&time, behaviour);
        let source = format!("server 127.0.0.1 port {} iburst minpoll 0 maxpoll 0", server.address().port());
        let chronyd = Chronyd::start(&background, &folder, &[&[source.as_str()], directives].concat());
        let relay = Peer::relay(&chronyd, &folder);
        Self { chronyd, relay, time, server, background, _folder: folder }
    }

    /// A node whose chronyd has measured twice.
    fn measured(name: &str, behind_ms: i64) -> Self {
        let node = Self::new(name, behind_ms, Behaviour::Honest, &[]);
        node.chronyd.wait_for(&node.background, "two updates", |t| !t.update_interval.is_zero());
        node
    }

    fn step(&self, makestep: Option<&str>, deadline: u64, dry_run: bool) -> Report {
        let makestep = makestep.map(|text| parse_makestep(text).unwrap());
        let plan = Plan { makestep, deadline: Duration::from_secs(deadline), dry_run };
        self.background.runtime().block_on(step(&Client::unix(&self.relay.socket), &plan))
    }

    /// The requests to chronyd, in order.
    fn commands(&self) -> Vec<u16> {
        let mut commands: Vec<_> = self.relay.seen().iter().map(|request| command_of(request)).collect();
        commands.dedup();
        commands
    }
}

fn millis(ms: i64) -> Offset {
    Offset::from_nanos(ms * 1_000_000)
}

/// A request, and not a reply, with this command.
fn is_request(datagram: &[u8], command: u16) -> bool {
    datagram[1] == 1 && command_of(datagram) == command
}

/// The steps taken, as chronyc commands.
fn done(report: &Report) -> Vec<String> {
    report.done.iter().map(Request::to_string).collect()
}

#[test]
fn chronyd_discards_its_samples_measures_again_and_reports_the_correction() {
    let node = Node::measured("chrony-step", 250);
    let idle = names(&node.chronyd.run);
    // To chronyd this looks like a step of the node's clock: its samples are from before.
    node.time.set(Offset::ZERO);
    let report = node.step(Some("1 3"), 30, false);
    assert!(report.failure.is_none() && report.restore_error.is_none(), "{report:?}");
    let (before, after) = (report.before.unwrap(), report.after.unwrap());
    assert!(before.offset > millis(200), "{before:?}");
    assert!(after.is_synchronised() && after.offset.magnitude() < Duration::from_millis(5), "{after:?}");
    assert!(after.reference_time != before.reference_time);
    assert_eq!(done(&report), ["reset sources", "makestep 0.1 1", "burst 4/4", "makestep 1 0"]);
    assert_eq!(node.commands(), SEQUENCE);
    assert_eq!(names(&node.chronyd.run), idle);
}

#[test]
fn slewing_by_chronyd_is_reported_as_not_corrected() {
    let mut node = Node::measured("chrony-slew", 0);
    // As if another process had forbidden it to step in the meantime.
    let folder = Folder::new("chrony-slew-relay");
    node.relay = Peer::relay_changed(&node.chronyd, &folder, |datagram| {
        if is_request(datagram, 50) {
            datagram[20..24].fill(0);
        }
    });
    node.time.set(millis(250));
    let report = node.step(Some("1 -1"), 10, false);
    assert!(matches!(report.failure, Some(ChronyStepError::NotCorrected(_))), "{report:?}");
    let after = report.after.unwrap();
    assert!(after.is_synchronised() && after.offset > millis(200), "{after:?}");
    assert_eq!(done(&report).last().unwrap(), "makestep 1 -1");
    assert_eq!(node.commands(), SEQUENCE);
}

#[test]
fn the_temporary_makestep_rule_makes_chronyd_step() {
    let node = Node::measured("chrony-permission", 0);
    node.time.set(millis(250));
    node.step(None, 10, false);
    // It may not set the clock, and reports a correction all the same: its report is no evidence.
    node.chronyd.process.wait_for_output("Could not step system clock");
}

#[test]
fn dead_servers_and_local_references_are_reported_as_not_corrected() {
    for (name, directives) in [("chrony-dead", &[][..]), ("chrony-local", &["local stratum 10"])] {
        let node = Node::new(name, 0, Behaviour::Honest, directives);
        node.chronyd.wait_for(&node.background, "two updates", |t| !t.update_interval.is_zero());
        node.server.behave(Behaviour::Silent);
        let report = node.step(None, 2, false);
        assert!(matches!(report.failure, Some(ChronyStepError::NotCorrected(_))), "{report:?}");
        assert!(!report.after.unwrap().is_synchronised(), "{report:?}");
        assert_eq!(done(&report), ["reset sources", "makestep 0.1 1", "burst 4/4", "makestep 0 0"]);
    }
}

#[test]
fn the_makestep_rule_for_startup_is_restored_while_chronyd_has_never_updated_the_clock() {
    let node = Node::new("chrony-fresh", 0, Behaviour::Silent, &[]);
    let report = node.step(Some("1 3"), 1, false);
    assert!(report.before.unwrap().never_updated(), "{report:?}");
    assert_eq!(done(&report).last().unwrap(), "makestep 1 3");
}

#[test]
fn dry_runs_read_and_change_nothing() {
    let node = Node::measured("chrony-dry", 20);
    let report = node.step(Some("1 3"), 30, true);
    assert!(report.failure.is_none() && report.done.is_empty() && report.after.is_none(), "{report:?}");
    assert!(report.before.unwrap().is_synchronised(), "{report:?}");
    assert_eq!(node.commands(), [33, 14]);
    let later = node.background.runtime().block_on(node.chronyd.client().tracking()).unwrap();
    assert!(later.is_synchronised(), "nothing was reset");
}

#[test]
fn steps_without_sources_permission_or_chronyd_change_nothing() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-refused"));
    let chronyd = Chronyd::start(&background, &folder, &["local stratum 10"]);
    let plan = Plan { makestep: None, deadline: Duration::from_secs(30), dry_run: false };
    let run = |client: &Client| background.runtime().block_on(step(client, &plan));
    let report = run(&chronyd.client());
    assert!(
        matches!(report.failure, Some(ChronyStepError::NoSources)) && report.done.is_empty(),
        "{report:?}"
    );
    drop(chronyd);
    let node = Node::measured("chrony-unauthorized", 0);
    let report = run(&Client::udp(([127, 0, 0, 1], node.chronyd.udp_port).into()));
    let failure = report.failure.unwrap();
    assert_eq!(
        failure.to_string(),
        "chrony command \"reset sources\" failed: chronyd does not take this command over UDP: use its Unix socket"
    );
    assert!(
        matches!(
            failure,
            ChronyStepError::CommandFailed {
                request: Request::ResetSources,
                error: ChronyError::Refused(ChronyStatus::Unauthorized)
            }
        ) && report.done.is_empty()
            && report.restore_error.is_none()
    );
    let report = run(&Client::unix(&folder.path().join("nowhere/chronyd.sock")));
    assert!(
        matches!(report.failure, Some(ChronyStepError::QueryFailed(ChronyError::NoSocket(_)))),
        "{report:?}"
    );
}

#[test]
fn the_makestep_rule_is_restored_after_a_failure_and_a_failed_restore_is_reported() {
    // chronyd does it, but reports that it failed: the first time, or the second.
    for (name, fails) in [("chrony-once", 1), ("chrony-put-back", 2)] {
        let mut node = Node::measured(name, 0);
        let mut times = 0;
        let folder = Folder::new(&format!("{name}-relay"));
        node.relay = Peer::relay_changed(&node.chronyd, &folder, move |datagram| {
            times += i32::from(is_request(datagram, 50));
            if !is_request(datagram, 50) && command_of(datagram) == 50 && times == fails {
                datagram[9] = 1;
            }
        });
        let report = node.step(Some("1 -1"), 30, false);
        let failed = ChronyError::Refused(ChronyStatus::Failed).to_string();
        if fails == 1 {
            let expected = format!("chrony command \"makestep 0.1 1\" failed: {failed}");
            assert_eq!(report.failure.as_ref().map(ChronyStepError::to_string), Some(expected));
            assert_eq!(done(&report), ["reset sources", "makestep 1 -1"]);
            assert!(report.restore_error.is_none(), "{report:?}");
        } else {
            assert!(report.failure.is_none(), "{report:?}");
            assert_eq!(done(&report), ["reset sources", "makestep 0.1 1", "burst 4/4"]);
            assert_eq!(report.restore_error.map(|e| e.to_string()), Some(failed));
        }
    }
}

#[test]
fn reference_clocks_without_servers_need_no_burst() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-refclock"));
    let refclock = format!("refclock SOCK {}", folder.path().join("clock.sock").display());
    let chronyd = Chronyd::start(&background, &folder, &[&refclock]);
    let plan = Plan { makestep: None, deadline: Duration::from_secs(1), dry_run: false };
    let report = background.runtime().block_on(step(&chronyd.client(), &plan));
    assert_eq!(done(&report), ["reset sources", "makestep 0.1 1", "makestep 0 0"]);
    assert!(
        matches!(report.failure, Some(ChronyStepError::NotCorrected(_))),
        "no reference clock writes to the socket: {report:?}"
    );
}
