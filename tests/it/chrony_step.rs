//! The step by chronyd, with a real chronyd that may not set the clock. The reference moves instead, which chronyd cannot
//! distinguish; where chronyd would step, it reports a failure. Real steps are tested in a guest.

use std::time::Duration;

use drift_agent::os::chrony::{ChronyError, ChronyStatus, Client, Request};
use drift_agent::sim::behaviour::Behaviour;
use drift_agent::sim::server::{Server, TimeScale};
use drift_agent::step::chrony::{ChronyStepError, Plan, Report, step};
use drift_core::time::Offset;

use crate::support::chronyd::{Chronyd, Peer, command_of, names, source};
use crate::support::{BackgroundRuntime, Folder};

/// The commands of the whole sequence for a clock that is right, `tracking` once for each time in a row.
const SEQUENCE: [u16; 5] = [33, 14, 66, 3, 33];

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
        let source = source(server.address());
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

    fn step(&self, deadline: u64, dry_run: bool) -> Report {
        let plan = Plan { deadline: Duration::from_secs(deadline), dry_run };
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
    let report = node.step(30, false);
    assert!(report.failure.is_none(), "{report:?}");
    let (before, after) = (report.before.unwrap(), report.after.unwrap());
    assert!(before.offset > millis(200), "{before:?}");
    assert!(after.is_synchronised() && after.offset.magnitude() < Duration::from_millis(5), "{after:?}");
    assert!(after.reference_time != before.reference_time);
    assert_eq!(done(&report), ["reset sources", "burst 4/4"]);
    assert_eq!(node.commands(), SEQUENCE);
    assert_eq!(names(&node.chronyd.run), idle);
}

/// chronyd may not set the clock: its failure becomes a success. To chronyd the offset is gone either way.
#[test]
fn chronyd_steps_by_what_it_has_measured_again_and_its_own_rule_stays() {
    let mut node = Node::measured("chrony-makestep", 0);
    let folder = Folder::new("chrony-makestep-relay");
    node.relay = Peer::relay_changed(&node.chronyd, &folder, |datagram| {
        if !is_request(datagram, 43) && command_of(datagram) == 43 {
            datagram[9] = 0;
        }
    });
    node.time.set(millis(250));
    let report = node.step(30, false);
    assert!(report.failure.is_none(), "{report:?}");
    let after = report.after.unwrap();
    assert!(
        after.last_offset > millis(200) && after.offset.magnitude() < Duration::from_millis(5),
        "{after:?}"
    );
    assert_eq!(done(&report), ["reset sources", "burst 4/4", "makestep"]);
    // None of them changes its rule for stepping.
    assert_eq!(node.commands(), [33, 14, 66, 3, 33, 43, 33]);
    node.chronyd.process.wait_for_output("Could not step system clock");
}

#[test]
fn a_clock_that_chronyd_does_not_step_is_reported_as_not_corrected() {
    let mut node = Node::measured("chrony-slew", 0);
    let folder = Folder::new("chrony-slew-relay");
    // The command is lost, and its answer is not: chronyd slews.
    let mut is_lost = false;
    node.relay = Peer::relay_changed(&node.chronyd, &folder, move |datagram| {
        if is_request(datagram, 43) {
            is_lost = true;
            datagram[5] = 14;
        } else if std::mem::take(&mut is_lost) {
            (datagram[5], datagram[7], datagram[9]) = (43, 1, 0);
        }
    });
    node.time.set(millis(250));
    let report = node.step(10, false);
    assert!(matches!(report.failure, Some(ChronyStepError::NotCorrected(_))), "{report:?}");
    let after = report.after.unwrap();
    assert!(after.is_synchronised() && after.offset > millis(200), "{after:?}");
    assert_eq!(done(&report)[..3], ["reset sources", "burst 4/4", "makestep"]);
}

#[test]
fn a_makestep_that_chronyd_cannot_carry_out_is_the_failure() {
    let node = Node::measured("chrony-permission", 0);
    node.time.set(millis(250));
    let report = node.step(30, false);
    let failed = ChronyError::Refused(ChronyStatus::Failed);
    let expected = format!("chrony command \"makestep\" failed: {failed}");
    assert_eq!(report.failure.as_ref().map(ChronyStepError::to_string), Some(expected));
    assert_eq!(done(&report), ["reset sources", "burst 4/4"]);
    node.chronyd.process.wait_for_output("Could not step system clock");
}

#[test]
fn dead_servers_and_local_references_are_reported_as_not_corrected() {
    for (name, directives) in [("chrony-dead", &[][..]), ("chrony-local", &["local stratum 10"])] {
        let node = Node::new(name, 0, Behaviour::Honest, directives);
        node.chronyd.wait_for(&node.background, "two updates", |t| !t.update_interval.is_zero());
        node.server.behave(Behaviour::Silent);
        let report = node.step(2, false);
        assert!(matches!(report.failure, Some(ChronyStepError::NotCorrected(_))), "{report:?}");
        assert!(!report.after.unwrap().is_synchronised(), "{report:?}");
        assert_eq!(done(&report), ["reset sources", "burst 4/4"]);
    }
}

#[test]
fn dry_runs_read_and_change_nothing() {
    let node = Node::measured("chrony-dry", 20);
    let report = node.step(30, true);
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
    let plan = Plan { deadline: Duration::from_secs(30), dry_run: false };
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
    );
    let report = run(&Client::unix(&folder.path().join("nowhere/chronyd.sock")));
    assert!(
        matches!(report.failure, Some(ChronyStepError::QueryFailed(ChronyError::NoSocket(_)))),
        "{report:?}"
    );
}

#[test]
fn reference_clocks_without_servers_need_no_burst() {
    let (background, folder) = (BackgroundRuntime::new(), Folder::new("chrony-refclock"));
    let refclock = format!("refclock SOCK {}", folder.path().join("clock.sock").display());
    let chronyd = Chronyd::start(&background, &folder, &[&refclock]);
    let plan = Plan { deadline: Duration::from_secs(1), dry_run: false };
    let report = background.runtime().block_on(step(&chronyd.client(), &plan));
    assert_eq!(done(&report), ["reset sources"]);
    assert!(
        matches!(report.failure, Some(ChronyStepError::NotCorrected(_))),
        "no reference clock writes to the socket: {report:?}"
    );
}
