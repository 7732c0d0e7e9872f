//! Finds out who disciplines the clock, and what can be read of it: chronyd by its socket or else by UDP, the
//! kernel's state, and the file that systemd-timesyncd touches.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use crate::os::chrony::{ChronyConfig, ChronyError, Client, Tracking};
use crate::os::timex::KernelClock;
use drift_core::step::audit::{Audit, Facts};
use drift_core::step::discipline::{Discipline, is_update_of_stamp};
use drift_core::step::time_daemon::Daemon;
use drift_core::time::Wall;

/// Where chronyd answers any process of the machine, unless its `cmdport` is configured otherwise. A pod
/// reaches it on the host's network only.
const CHRONY_UDP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 323);
/// systemd-timesyncd touches it with each update of the clock.
const TIMESYNC_STAMP: &str = "/run/systemd/timesync/synchronized";
/// chronyd answers within a millisecond; one that does not answer must not delay a report.
const CHRONY_TIMEOUT: Duration = Duration::from_secs(1);

/// Where to look.
#[derive(Clone, Debug)]
pub struct DaemonProbe {
    /// chronyd's command socket.
    socket: Client,
    socket_path: PathBuf,
    udp: SocketAddr,
    stamp: PathBuf,
}

/// What was found.
#[derive(Debug)]
pub struct DaemonView {
    /// The kernel's state; `None` where it cannot be read.
    pub kernel: Option<KernelClock>,
    /// chronyd's answer and where it came from, or why there is none.
    pub chrony: Result<(Tracking, String), String>,
    /// Why chronyd's socket cannot be used; `None`: it can.
    pub socket_error: Option<ChronyError>,
    /// Sources that chronyd reaches.
    pub reachable_sources: Option<u32>,
    /// chronyd's configuration, where it can be read.
    pub config: Option<ChronyConfig>,
    /// How long ago systemd-timesyncd updated the clock, by node time.
    pub stamp_age: Option<Duration>,
}

impl DaemonProbe {
    /// chronyd's socket at this path, and the usual places of everything else.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: Client::unix(socket).with_timeout(CHRONY_TIMEOUT),
            socket_path: socket.to_owned(),
            udp: CHRONY_UDP,
            stamp: TIMESYNC_STAMP.into(),
        }
    }

    /// With chronyd's port for queries, and systemd-timesyncd's file, elsewhere: for tests.
    #[must_use]
    pub fn with_places(self, udp: SocketAddr, stamp: &Path) -> Self {
        Self { udp, stamp: stamp.to_owned(), ..self }
    }

    /// Looks everywhere. `now`: node time, to count the age of the file.
    pub async fn look(&self, kernel: Option<KernelClock>, now: Wall) -> DaemonView {
        let (chrony, socket_error) = self.ask_chrony().await;
        let reachable_sources = match (&chrony, &socket_error) {
            (Err(_), _) => None,
            (Ok(_), None) => reachable_sources(&self.socket).await,
            (Ok(_), Some(_)) => reachable_sources(&self.by_udp()).await,
        };
        let config = chrony.is_ok().then(ChronyConfig::read).flatten();
        let stamp_age = age_of(&self.stamp, now);
        DaemonView { kernel, chrony, socket_error, reachable_sources, config, stamp_age }
    }

    async fn ask_chrony(&self) -> (Result<(Tracking, String), String>, Option<ChronyError>) {
        // Only chrony's user and root can open the socket. Any process of the machine may ask by UDP.
        let error = match self.socket.tracking().await {
            Ok(tracking) => return (Ok((tracking, self.socket_path.display().to_string())), None),
            Err(error) => error,
        };
        let udp = self.udp;
        let tracking = self.by_udp().tracking().await;
        let tracking = tracking.map(|tracking| (tracking, format!("UDP {udp}"))).map_err(|other| {
            let by_udp = if matches!(other, ChronyError::NotListening(_)) {
                "no process listens".to_owned()
            } else {
                other.to_string()
            };
            format!("{error}; UDP {udp}: {by_udp}")
        });
        (tracking, Some(error))
    }

    fn by_udp(&self) -> Client {
        Client::udp(self.udp).with_timeout(CHRONY_TIMEOUT)
    }
}

/// All requests together take no longer than one may.
async fn reachable_sources(chrony: &Client) -> Option<u32> {
    timeout(CHRONY_TIMEOUT, chrony.reachable_sources()).await.ok()?.ok()
}

/// How long ago the file was touched; `None`: there is none, or it was touched in the future.
fn age_of(stamp: &Path, now: Wall) -> Option<Duration> {
    let touched = fs::metadata(stamp).ok()?;
    let touched =
        Wall::from_nanos(touched.mtime().saturating_mul(1_000_000_000).saturating_add(touched.mtime_nsec()));
    u64::try_from(now.minus(touched).as_nanos()).ok().map(Duration::from_nanos)
}

impl DaemonView {
    /// chronyd's state, if it answers.
    pub fn tracking(&self) -> Option<&Tracking> {
        self.chrony.as_ref().ok().map(|(tracking, _)| tracking)
    }

    /// Who disciplines the clock. `update_age`: for how long no process has updated it, at least, if that is
    /// known.
    pub fn daemon(&self, update_age: Option<Duration>) -> Daemon {
        let max_error = self.kernel.map(|kernel| kernel.max_error);
        let stamp = max_error.zip(self.stamp_age);
        let is_timesyncd = stamp.is_some_and(|(error, age)| is_update_of_stamp(error, age));
        Daemon::identify(self.chrony.is_ok(), Discipline::of(max_error, update_age), is_timesyncd)
    }

    /// What the daemon has of what a node should have.
    pub fn audit(&self, daemon: Daemon) -> Audit {
        let tracking = self.tracking().filter(|tracking| tracking.is_synchronised());
        let keeps_rtc = self.kernel.and_then(|kernel| kernel.keeps_rtc());
        Audit::new(Facts {
            daemon,
            reachable_sources: self.reachable_sources,
            steps_always: self.config.and_then(ChronyConfig::steps_always),
            rtc_sync: keeps_rtc.or(self.config.and_then(ChronyConfig::has_rtcsync)),
            root_delay: tracking.map(|tracking| tracking.root_delay),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::chrony::Request;
    use crate::os::chrony::codec::tests::reply;
    use crate::os::clock::{Clock, LinuxClock};
    use crate::os::random;
    use drift_core::ntp::packet::Leap;
    use drift_core::step::audit::Finding::{Fulfilled, NotFulfilled, NotVisible};
    use drift_core::time::Offset;

    const NOWHERE: &str = "/nonexistent/run/chronyd.sock";

    fn view() -> DaemonView {
        DaemonView {
            kernel: Some(KernelClock::ALONE),
            chrony: Err("no socket".to_owned()),
            socket_error: Some(ChronyError::NoSocket(NOWHERE.into())),
            reachable_sources: None,
            config: None,
            stamp_age: None,
        }
    }

    fn disciplined(max_error: Duration, synchronized: bool) -> KernelClock {
        KernelClock { synchronized, max_error, ..KernelClock::ALONE }
    }

    #[test]
    fn chrony_is_asked_by_udp_where_its_socket_cannot_be_opened() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = server.local_addr().unwrap();
            let probe =
                DaemonProbe::new(Path::new(NOWHERE)).with_places(address, Path::new("/nonexistent/stamp"));
            let answer = async {
                let mut request = [0; 256];
                let (_, from) = server.recv_from(&mut request).await.unwrap();
                let sequence = u32::from_be_bytes([request[8], request[9], request[10], request[11]]);
                let reply = reply(Request::Tracking, sequence, 0, &[0; 76]);
                server.send_to(&reply, from).await.unwrap();
            };
            let ((chrony, socket_error), ()) = tokio::join!(probe.ask_chrony(), answer);
            assert_eq!(chrony.unwrap().1, format!("UDP {address}"));
            assert!(matches!(socket_error, Some(ChronyError::NoSocket(_))), "{socket_error:?}");
            drop(server);
            let error = probe.look(None, Wall::from_secs(0)).await.chrony.unwrap_err();
            assert!(error.contains("no socket at /nonexistent/run/chronyd.sock"), "{error}");
            assert!(error.ends_with(&format!("UDP {address}: no process listens")), "{error}");
        });
    }

    #[test]
    fn timesyncd_is_recognised_by_a_file_as_old_as_the_kernels_last_update() {
        let stamp = std::env::temp_dir().join(format!("drift-agent-stamp-{:016x}", random::bits()));
        fs::write(&stamp, "").unwrap();
        let later = LinuxClock.read().wall.plus(Offset::from_nanos(600_000_000_000));
        let age = age_of(&stamp, later).unwrap();
        assert!(age.abs_diff(Duration::from_secs(600)) < Duration::from_secs(2), "{age:?}");
        assert_eq!(age_of(&stamp, Wall::from_secs(0)), None, "touched in the future");
        fs::remove_file(&stamp).unwrap();
        assert_eq!(age_of(&stamp, later), None);
        let of = |millis, stamp_age| {
            let kernel = Some(disciplined(Duration::from_millis(millis), true));
            DaemonView { kernel, stamp_age, ..view() }.daemon(None)
        };
        assert_eq!(of(300, Some(age)), Daemon::Timesyncd);
        assert_eq!(of(12, Some(age)), Daemon::Unknown, "another daemon has updated the clock since");
        assert_eq!(of(300, None), Daemon::Unknown);
        assert_eq!(of(16_000, Some(age)), Daemon::None);
    }

    #[test]
    fn a_state_that_cannot_be_read_is_no_sign_that_no_process_disciplines_the_clock() {
        let of = |kernel| DaemonView { kernel, ..view() }.daemon(None);
        assert_eq!(of(None), Daemon::Unknown);
        assert_eq!(of(Some(KernelClock::ALONE)), Daemon::None);
        // As chrony without rtcsync leaves it.
        assert_eq!(of(Some(disciplined(Duration::from_millis(5), false))), Daemon::Unknown);
    }

    #[test]
    fn a_daemon_that_has_not_updated_the_clock_for_two_hours_disciplines_it_no_more() {
        let view = DaemonView { kernel: Some(disciplined(Duration::from_secs(4), true)), ..view() };
        assert_eq!(view.daemon(Some(Duration::from_secs(7_199))), Daemon::Unknown);
        assert_eq!(view.daemon(Some(Duration::from_secs(7_200))), Daemon::None);
    }

    #[test]
    fn the_audit_takes_each_fact_from_where_it_can_be_read() {
        let tracking = Tracking {
            leap: Leap::None,
            reference_id: [192, 0, 2, 7],
            root_delay: Duration::from_millis(3),
            ..Tracking::NEVER
        };
        let config = ChronyConfig { makestep_limit: Some(3), rtcsync: true, is_incomplete: false };
        let full = DaemonView {
            kernel: Some(disciplined(Duration::from_millis(5), false)),
            chrony: Ok((tracking, String::new())),
            reachable_sources: Some(4),
            config: Some(config),
            ..view()
        };
        let audit = full.audit(Daemon::Chrony);
        assert_eq!((audit.sources, audit.makestep, audit.near), (Fulfilled, NotFulfilled, Fulfilled));
        assert_eq!(audit.rtcsync, NotFulfilled, "the kernel's state counts before the file");
        let unreadable = DaemonView { kernel: None, ..full };
        assert_eq!(unreadable.audit(Daemon::Chrony).rtcsync, Fulfilled);
        let alone = DaemonView { chrony: Ok((Tracking::NEVER, String::new())), config: None, ..unreadable };
        let audit = alone.audit(Daemon::Chrony);
        assert_eq!((audit.makestep, audit.rtcsync, audit.near), (NotVisible, NotVisible, NotVisible));
    }
}
