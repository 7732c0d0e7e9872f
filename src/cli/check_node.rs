//! `drift-agent check`: what the node's kernel and chrony report about the clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::os::chrony::{ChronyError, Client, Tracking};
use crate::os::timex::{self, KernelClock};
use drift_core::ntp::packet::Leap;
use drift_core::step::time_daemon::{Daemon, is_deceived};
use drift_core::time::{Measurement, Span, Wall};

/// Where chronyd answers any process of the machine, unless its `cmdport` is configured otherwise.
const CHRONY_UDP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 323);
/// chronyd answers within a millisecond; one that does not answer must not delay the report.
const CHRONY_TIMEOUT: Duration = Duration::from_secs(1);

/// What the kernel and chrony report.
pub(super) struct NodeClock {
    /// `None` where the process may not read it.
    kernel: Option<KernelClock>,
    /// chronyd's answer and where it came from, or why there is none.
    chrony: Result<(Tracking, String), String>,
}

/// What was measured, to compare the reports with.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    /// Node time when it was measured.
    pub node_time: Wall,
    pub offset: Option<Measurement>,
    pub threshold: Duration,
}

/// Reads the kernel's clock state, and chrony's by its socket or else by UDP.
pub(super) async fn inspect(socket: &Path) -> NodeClock {
    NodeClock { kernel: timex::read(), chrony: ask_chrony(socket, CHRONY_UDP).await }
}

async fn ask_chrony(socket: &Path, udp: SocketAddr) -> Result<(Tracking, String), String> {
    let ask = async |client: Client| client.with_timeout(CHRONY_TIMEOUT).tracking().await;
    // Only chrony's user and root can open the socket. Any process of the machine may ask by UDP.
    let error = match ask(Client::unix(socket)).await {
        Ok(tracking) => return Ok((tracking, socket.display().to_string())),
        Err(error) => error,
    };
    let tracking = ask(Client::udp(udp)).await;
    tracking.map(|tracking| (tracking, format!("UDP {udp}"))).map_err(|other: ChronyError| {
        let by_udp = if matches!(other, ChronyError::NotListening(_)) {
            "no process listens".to_owned()
        } else {
            other.to_string()
        };
        format!("{error}; UDP {udp}: {by_udp}")
    })
}

impl NodeClock {
    fn daemon(&self) -> Daemon {
        Daemon::identify(self.chrony.is_ok(), self.kernel.is_some_and(|kernel| kernel.synchronized))
    }

    /// The NTP server that chrony follows, as far as other programs can ask it, too; `None` for a reference clock
    /// and for a server on this machine.
    pub fn ntp_source(&self) -> Option<IpAddr> {
        let tracking = self.chrony.as_ref().ok().map(|(tracking, _)| tracking)?;
        tracking.source.filter(|source| tracking.is_synchronised() && !source.is_loopback())
    }

    /// The lines of the table, each as its name and its text.
    pub fn lines(&self, measured: Measured) -> Vec<Vec<String>> {
        let kernel =
            self.kernel.map_or_else(|| "its state cannot be read (adjtimex)".to_owned(), kernel_in_words);
        let daemon = match self.daemon() {
            Daemon::Chrony => "chrony",
            Daemon::Unknown => "unknown; the kernel reports that a process disciplines the clock",
            Daemon::None => "none, as the kernel reports",
        };
        let chrony = match &self.chrony {
            Ok((tracking, by)) => format!("{} ({by})", tracking_in_words(tracking, measured)),
            Err(_) => "answers neither at its socket nor on UDP".to_owned(),
        };
        let line = |name: &str, text: String| vec![name.to_owned(), text];
        let mut lines =
            vec![line("kernel", kernel), line("time daemon", daemon.to_owned()), line("chrony", chrony)];
        if let Some(Measurement { offset, bound }) =
            self.chrony.as_ref().ok().and_then(|(t, _)| contradiction(t, measured))
        {
            lines.push(line(
                "",
                format!(
                    "chrony reports an offset within the threshold, but the clock was measured {} (±{})",
                    offset.in_words(),
                    bound.in_words()
                ),
            ));
        }
        lines
    }

    /// The same as JSON.
    pub fn report(&self, measured: Measured) -> NodeReport {
        NodeReport {
            kernel: self.kernel.map(|kernel| KernelReport {
                synchronized: kernel.synchronized,
                timedatectl_synchronized: kernel.timedatectl_says_synchronized(),
                max_error_seconds: kernel.max_error.as_secs_f64(),
                estimated_error_seconds: kernel.estimated_error.as_secs_f64(),
                frequency_ratio: kernel.frequency.as_ratio(),
                leap: leap_label(kernel.leap),
            }),
            time_daemon: self.daemon().label(),
            chrony: match &self.chrony {
                Ok((tracking, by)) => ChronyReport::Answers(TrackingReport::new(tracking, by, measured)),
                Err(error) => ChronyReport::Silent { error: error.clone() },
            },
        }
    }
}

fn kernel_in_words(kernel: KernelClock) -> String {
    let label = |yes: bool| if yes { "synchronised" } else { "not synchronised" };
    // The kernel has a status bit (STA_UNSYNC); timedatectl compares the maximum error with 16 s.
    let other = Some(kernel.timedatectl_says_synchronized()).filter(|yes| *yes != kernel.synchronized);
    let other = other.map_or(String::new(), |yes| format!(" (timedatectl: {})", label(yes)));
    let leap = match kernel.leap {
        Leap::Insert => "a leap second will be inserted",
        Leap::Delete => "a leap second will be deleted",
        Leap::None | Leap::Alarm => "no leap second pending",
    };
    format!(
        "{}{other}; error at most {}, estimated {}; frequency {:+.3} ppm; {leap}",
        label(kernel.synchronized),
        Span(kernel.max_error),
        Span(kernel.estimated_error),
        kernel.frequency.as_ratio() * 1e6
    )
}

fn tracking_in_words(tracking: &Tracking, measured: Measured) -> String {
    let last = match last_update(tracking, measured.node_time) {
        Some(ago) => format!("last update {} ago", Span(ago)),
        None => "never updated".to_owned(),
    };
    if !tracking.is_synchronised() {
        return format!("not synchronised; {last}");
    }
    let leap = match tracking.leap {
        Leap::Insert => "a leap second will be inserted",
        Leap::Delete => "a leap second will be deleted",
        Leap::None | Leap::Alarm => "leap status normal",
    };
    format!(
        "follows {} at stratum {}; reports the clock {}; {leap}; {last}",
        tracking.reference_in_words(),
        tracking.stratum,
        tracking.offset.in_words()
    )
}

/// The age of chronyd's last update, by node time. `None`: chronyd has not updated, or its sources were
/// reset.
fn last_update(tracking: &Tracking, now: Wall) -> Option<Duration> {
    let ago = now.minus(tracking.reference_time).as_nanos();
    (tracking.reference_time.as_nanos() > 0).then(|| Duration::from_nanos(u64::try_from(ago).unwrap_or(0)))
}

/// The measured offset, where it certainly contradicts what chrony reports.
fn contradiction(tracking: &Tracking, measured: Measured) -> Option<Measurement> {
    let contradicts = |measurement: &_| is_deceived(tracking.offset, *measurement, measured.threshold);
    measured.offset.filter(contradicts).filter(|_| tracking.is_synchronised())
}

const fn leap_label(leap: Leap) -> &'static str {
    match leap {
        Leap::None => "none",
        Leap::Insert => "insert",
        Leap::Delete => "delete",
        Leap::Alarm => "not-synchronised",
    }
}

/// The node in `--output json`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeReport {
    kernel: Option<KernelReport>,
    time_daemon: &'static str,
    chrony: ChronyReport,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KernelReport {
    synchronized: bool,
    timedatectl_synchronized: bool,
    max_error_seconds: f64,
    estimated_error_seconds: f64,
    frequency_ratio: f64,
    leap: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ChronyReport {
    Answers(TrackingReport),
    Silent { error: String },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrackingReport {
    asked: String,
    synchronized: bool,
    reference: String,
    stratum: u16,
    /// The offset that chrony reports: what it still has to slew; positive: the node is behind.
    offset_seconds: f64,
    leap: &'static str,
    last_update_age_seconds: Option<f64>,
    /// chrony reports an offset within the threshold, and the measured offset is certainly outside.
    contradicts_measurement: bool,
}

impl TrackingReport {
    fn new(tracking: &Tracking, asked: &str, measured: Measured) -> Self {
        Self {
            asked: asked.to_owned(),
            synchronized: tracking.is_synchronised(),
            reference: tracking.reference_in_words(),
            stratum: tracking.stratum,
            offset_seconds: tracking.offset.as_secs_f64(),
            leap: leap_label(tracking.leap),
            last_update_age_seconds: last_update(tracking, measured.node_time).map(|ago| ago.as_secs_f64()),
            contradicts_measurement: contradiction(tracking, measured).is_some(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::os::chrony::Request;
    use crate::os::chrony::codec::tests::reply;
    use drift_core::time::Bound;
    use drift_core::time::Offset;
    use drift_core::time::Ppb;

    const NOW: Wall = Wall::from_secs(1_795_341_600);

    fn measured(millis: i64) -> Measured {
        let offset =
            Some(Measurement::new(Offset::from_nanos(millis * 1_000_000), Bound::from_nanos(2_000_000)));
        Measured { node_time: NOW, offset, threshold: Duration::from_millis(100) }
    }

    /// The report of a node whose chrony follows 192.0.2.7.
    pub fn following_chrony() -> NodeClock {
        node(KEPT, Ok(following()))
    }

    fn node(kernel: KernelClock, chrony: Result<Tracking, &str>) -> NodeClock {
        let chrony = chrony.map(|tracking| (tracking, "UDP 127.0.0.1:323".to_owned())).map_err(str::to_owned);
        NodeClock { kernel: Some(kernel), chrony }
    }

    fn following() -> Tracking {
        Tracking {
            source: Some([192, 0, 2, 7].into()),
            stratum: 3,
            leap: Leap::None,
            reference_time: Wall::from_secs(NOW.as_nanos() / 1_000_000_000 - 34),
            offset: Offset::from_nanos(12_000),
            ..Tracking::NEVER
        }
    }

    fn text(node: &NodeClock, measured: Measured) -> String {
        node.lines(measured).iter().map(|line| line.join(": ")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn chrony_is_asked_by_udp_where_its_socket_cannot_be_opened() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let address = server.local_addr().unwrap();
            let answer = async {
                let mut request = [0; 256];
                let (_, from) = server.recv_from(&mut request).await.unwrap();
                let sequence = u32::from_be_bytes([request[8], request[9], request[10], request[11]]);
                let reply = reply(Request::Tracking, sequence, 0, &[0; 76]);
                server.send_to(&reply, from).await.unwrap();
            };
            let missing = Path::new("/nonexistent/chronyd.sock");
            let (asked, ()) = tokio::join!(ask_chrony(missing, address), answer);
            assert_eq!(asked.unwrap().1, format!("UDP {address}"));
            drop(server);
            let error = ask_chrony(missing, address).await.unwrap_err();
            assert!(error.contains("no socket at /nonexistent/chronyd.sock"), "{error}");
            assert!(error.ends_with(&format!("UDP {address}: no process listens")), "{error}");
        });
    }

    const KEPT: KernelClock = KernelClock {
        synchronized: true,
        max_error: Duration::from_millis(12),
        estimated_error: Duration::from_micros(3),
        leap: Leap::None,
        frequency: Ppb(-12_043),
    };

    #[test]
    fn table_lines_report_the_kernel_the_daemon_and_chrony() {
        assert_eq!(
            text(&node(KEPT, Ok(following())), measured(1)),
            "kernel: synchronised; error at most 12 ms, estimated 3 µs; frequency -12.043 ppm; no leap second pending\n\
             time daemon: chrony\n\
             chrony: follows 192.0.2.7 at stratum 3; reports the clock 12 µs behind; leap status normal; last update 34 s ago \
             (UDP 127.0.0.1:323)"
        );
        let alone = KernelClock {
            synchronized: false,
            max_error: Duration::from_secs(16),
            leap: Leap::Insert,
            ..KEPT
        };
        let lines = text(&node(alone, Err("no socket")), measured(1));
        assert!(lines.starts_with("kernel: not synchronised; error at most 16 s"), "{lines}");
        assert!(
            lines.contains("a leap second will be inserted")
                && lines.contains("time daemon: none, as the kernel reports"),
            "{lines}"
        );
        assert!(lines.ends_with("answers neither at its socket nor on UDP"), "{lines}");
        assert!(text(&node(KEPT, Err("")), measured(1)).contains("time daemon: unknown; the kernel reports"));
        assert!(
            text(&node(KEPT, Ok(Tracking::NEVER)), measured(1)).contains("not synchronised; never updated")
        );
    }

    #[test]
    fn the_server_that_chrony_follows_is_a_hint_only_where_pods_may_reach_it() {
        let source = |tracking| node(KEPT, Ok(tracking)).ntp_source();
        assert_eq!(source(following()), Some([192, 0, 2, 7].into()));
        assert_eq!(source(Tracking { source: Some([127, 0, 0, 1].into()), ..following() }), None);
        assert_eq!(source(Tracking { source: None, ..following() }), None, "a reference clock");
        assert_eq!(source(Tracking { leap: Leap::Alarm, ..following() }), None, "not synchronised");
        assert_eq!(node(KEPT, Err("no socket")).ntp_source(), None);
    }

    #[test]
    fn timedatectl_is_quoted_where_it_differs_from_the_kernel() {
        let stale = KernelClock { synchronized: false, max_error: Duration::from_secs(15), ..KEPT };
        assert!(kernel_in_words(stale).starts_with("not synchronised (timedatectl: synchronised); "));
        assert!(!kernel_in_words(KEPT).contains("timedatectl"));
    }

    #[test]
    fn chrony_is_contradicted_only_when_its_report_is_certainly_wrong() {
        let is_contradicted = |tracking: Tracking, measured: Measured| {
            let node = node(KEPT, Ok(tracking));
            let json = serde_json::to_value(node.report(measured)).unwrap();
            let printed = text(&node, measured).contains("within the threshold, but the clock was measured");
            assert_eq!(json["chrony"]["contradictsMeasurement"], printed, "{json}");
            printed
        };
        assert!(
            is_contradicted(following(), measured(20_000)) && is_contradicted(following(), measured(-103))
        );
        assert!(!is_contradicted(following(), measured(101)), "chrony may be correct");
        assert!(!is_contradicted(following(), Measured { offset: None, ..measured(0) }));
        let aware = Tracking { offset: Offset::from_nanos(20_000_000_000), ..following() };
        assert!(!is_contradicted(aware, measured(20_000)));
        assert!(
            !is_contradicted(Tracking { leap: Leap::Alarm, ..following() }, measured(20_000)),
            "chrony reports that it is not synchronised"
        );
    }
}
