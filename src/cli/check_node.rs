//! `drift-agent check`: what the node itself says of its clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::os::chrony::{ChronyError, Client, Tracking};
use crate::os::timex::{self, KernelClock};
use drift_core::ntp::packet::Leap;
use drift_core::step::time_daemon::{Daemon, is_deceived};
use drift_core::time::{Measurement, Wall, span_in_words};

/// Where chrony answers everybody on the machine, unless its configuration says otherwise.
const CHRONY_UDP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 323);
/// chronyd answers within a millisecond, and one that does not must not hold the rest up.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was found on the node.
pub(super) struct Node {
    /// `None` where reading it is forbidden.
    kernel: Option<KernelClock>,
    /// What chrony says, and where it was asked; or why it was not heard there.
    chrony: Result<(Tracking, String), String>,
}

/// What others found out about the clock that the node speaks of.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    /// By the clock itself.
    pub now: Wall,
    pub offset: Option<Measurement>,
    pub threshold: Duration,
}

/// Looks at the kernel, and at chrony by its socket or else by UDP.
pub(super) async fn look(socket: &Path) -> Node {
    Node { kernel: timex::read(), chrony: ask_chrony(socket, CHRONY_UDP).await }
}

async fn ask_chrony(socket: &Path, udp: SocketAddr) -> Result<(Tracking, String), String> {
    let ask = async |client: Client| client.with_timeout(PATIENCE).tracking().await;
    // Only its own user and root get to the socket; everybody on the machine may ask by UDP.
    let error = match ask(Client::unix(socket)).await {
        Ok(tracking) => return Ok((tracking, socket.display().to_string())),
        Err(error) => error,
    };
    let tracking = ask(Client::udp(udp)).await;
    tracking.map(|tracking| (tracking, format!("UDP {udp}"))).map_err(|other: ChronyError| {
        let by_udp = if matches!(other, ChronyError::NotListening(_)) {
            "nobody listens".to_owned()
        } else {
            other.to_string()
        };
        format!("{error}; UDP {udp}: {by_udp}")
    })
}

impl Node {
    fn daemon(&self) -> Daemon {
        match (&self.chrony, self.kernel) {
            (Ok(_), _) => Daemon::Chrony,
            (_, Some(kernel)) if kernel.synchronized => Daemon::Unknown,
            _ => Daemon::None,
        }
    }

    /// Each line as its name and its words.
    pub fn lines(&self, measured: Measured) -> Vec<Vec<String>> {
        let kernel = self.kernel.map_or_else(|| "may not be read (adjtimex)".to_owned(), kernel_in_words);
        let daemon = match self.daemon() {
            Daemon::Chrony => "chrony",
            Daemon::Unknown => "somebody, by the kernel's word; who, cannot be seen from here",
            Daemon::None => "nobody, by the kernel's word",
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
                    "chrony takes the clock for right, and it was measured {} (±{})",
                    offset.in_words(),
                    bound.in_words()
                ),
            ));
        }
        lines
    }

    /// The same for programs.
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
    let said = |yes: bool| if yes { "synchronised" } else { "not synchronised" };
    // The two go by different rules: the status bit, and the largest error.
    let other = Some(kernel.timedatectl_says_synchronized()).filter(|yes| *yes != kernel.synchronized);
    let other = other.map_or(String::new(), |yes| format!(" (timedatectl: {})", said(yes)));
    let leap = match kernel.leap {
        Leap::Insert => "a leap second will be inserted",
        Leap::Delete => "a leap second will be left out",
        Leap::None | Leap::Alarm => "no leap second pending",
    };
    format!(
        "{}{other}; error at most {}, estimated {}; frequency {:+.3} ppm; {leap}",
        said(kernel.synchronized),
        span_in_words(kernel.max_error),
        span_in_words(kernel.estimated_error),
        kernel.frequency.as_ratio() * 1e6
    )
}

fn tracking_in_words(tracking: &Tracking, measured: Measured) -> String {
    let last = match last_update(tracking, measured.now) {
        Some(ago) => format!("last update {} ago", span_in_words(ago)),
        None => "never updated".to_owned(),
    };
    if !tracking.is_synchronised() {
        return format!("not synchronised; {last}");
    }
    let leap = match tracking.leap {
        Leap::Insert => "a leap second will be inserted",
        Leap::Delete => "a leap second will be left out",
        Leap::None | Leap::Alarm => "leap status normal",
    };
    format!(
        "follows {} at stratum {}; takes the clock for {}; {leap}; {last}",
        tracking.reference_in_words(),
        tracking.stratum,
        tracking.offset.in_words()
    )
}

/// By chronyd's own time, which is the node's. `None`: there was none, or somebody reset its sources.
fn last_update(tracking: &Tracking, now: Wall) -> Option<Duration> {
    let ago = now.minus(tracking.reference_time).as_nanos();
    (tracking.reference_time.as_nanos() > 0).then(|| Duration::from_nanos(u64::try_from(ago).unwrap_or(0)))
}

/// What was measured, where chrony takes the clock for right and certainly is wrong.
fn contradiction(tracking: &Tracking, measured: Measured) -> Option<Measurement> {
    let is_wrong = |found: &_| is_deceived(tracking.offset, *found, measured.threshold);
    measured.offset.filter(is_wrong).filter(|_| tracking.is_synchronised())
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
    /// What chrony still has to slew; positive is behind.
    offset_seconds: f64,
    leap: &'static str,
    last_update_age_seconds: Option<f64>,
    /// It takes the clock for right, and that was measured to be wrong.
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
            last_update_age_seconds: last_update(tracking, measured.now).map(|ago| ago.as_secs_f64()),
            contradicts_measurement: contradiction(tracking, measured).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
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
        Measured { now: NOW, offset, threshold: Duration::from_millis(100) }
    }

    fn node(kernel: KernelClock, chrony: Result<Tracking, &str>) -> Node {
        let chrony = chrony.map(|tracking| (tracking, "UDP 127.0.0.1:323".to_owned())).map_err(str::to_owned);
        Node { kernel: Some(kernel), chrony }
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

    fn text(node: &Node, measured: Measured) -> String {
        node.lines(measured).iter().map(|line| line.join(": ")).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn chrony_is_asked_by_udp_where_its_socket_is_not_to_be_had() {
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
            assert!(error.ends_with(&format!("UDP {address}: nobody listens")), "{error}");
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
    fn each_line_is_in_words() {
        assert_eq!(
            text(&node(KEPT, Ok(following())), measured(1)),
            "kernel: synchronised; error at most 12 ms, estimated 3 µs; frequency -12.043 ppm; no leap second pending\n\
             time daemon: chrony\n\
             chrony: follows 192.0.2.7 at stratum 3; takes the clock for 12 µs behind; leap status normal; last update 34.0 s ago \
             (UDP 127.0.0.1:323)"
        );
        let alone = KernelClock {
            synchronized: false,
            max_error: Duration::from_secs(16),
            leap: Leap::Insert,
            ..KEPT
        };
        let lines = text(&node(alone, Err("no socket")), measured(1));
        assert!(lines.starts_with("kernel: not synchronised; error at most 16.0 s"), "{lines}");
        assert!(
            lines.contains("a leap second will be inserted") && lines.contains("nobody, by the kernel"),
            "{lines}"
        );
        assert!(lines.ends_with("answers neither at its socket nor on UDP"), "{lines}");
        assert!(text(&node(KEPT, Err("")), measured(1)).contains("somebody, by the kernel's word"));
        assert!(
            text(&node(KEPT, Ok(Tracking::NEVER)), measured(1)).contains("not synchronised; never updated")
        );
    }

    #[test]
    fn the_kernel_and_timedatectl_go_by_different_rules_and_both_are_told() {
        let stale = KernelClock { synchronized: false, max_error: Duration::from_secs(15), ..KEPT };
        assert!(kernel_in_words(stale).starts_with("not synchronised (timedatectl: synchronised); "));
        assert!(!kernel_in_words(KEPT).contains("timedatectl"));
    }

    #[test]
    fn chrony_that_takes_a_wrong_clock_for_right_is_contradicted() {
        let says = |tracking: Tracking, measured: Measured| {
            let node = node(KEPT, Ok(tracking));
            let json = serde_json::to_value(node.report(measured)).unwrap();
            let told = text(&node, measured).contains("takes the clock for right, and it was measured");
            assert_eq!(json["chrony"]["contradictsMeasurement"], told, "{json}");
            told
        };
        assert!(says(following(), measured(20_000)) && says(following(), measured(-103)));
        assert!(!says(following(), measured(101)), "it may be right");
        assert!(!says(following(), Measured { offset: None, ..measured(0) }));
        let knows = Tracking { offset: Offset::from_nanos(20_000_000_000), ..following() };
        assert!(!says(knows, measured(20_000)));
        assert!(!says(Tracking { leap: Leap::Alarm, ..following() }, measured(20_000)), "it claims nothing");
    }
}
