//! `drift-agent check`: what the node's kernel and chrony report about the clock.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::os::chrony::{ChronyError, Tracking};
use crate::os::clock::{Clock, LinuxClock};
use crate::os::timex::{self, KernelClock};
use crate::step::daemon::{DaemonProbe, DaemonView};
use drift_core::ntp::packet::Leap;
use drift_core::step::audit::Audit;
use drift_core::step::discipline::{SILENT_AFTER, oldest_update};
use drift_core::step::time_daemon::{Daemon, is_deceived};
use drift_core::time::{Measurement, Span, Wall};

/// What the kernel, chrony and systemd-timesyncd report.
pub(super) struct NodeClock(DaemonView);

/// What was measured, to compare the reports with.
#[derive(Clone, Copy)]
pub(super) struct Measured {
    /// Node time when it was measured.
    pub node_time: Wall,
    pub offset: Option<Measurement>,
    pub threshold: Duration,
}

/// Reads the kernel's clock state, and asks chrony by its socket or else by UDP.
pub(super) async fn inspect(socket: &Path) -> NodeClock {
    NodeClock(DaemonProbe::new(socket).look(timex::read(), LinuxClock.read().wall).await)
}

impl NodeClock {
    /// One look shows no growth of `maxerror`, so a daemon that has ended is not noticed here.
    fn daemon(&self) -> Daemon {
        self.0.daemon(None)
    }

    /// The NTP server that chrony follows, as far as other programs can ask it, too; `None` for a reference clock
    /// and for a server on this machine.
    pub fn ntp_source(&self) -> Option<IpAddr> {
        let tracking = self.0.tracking()?;
        tracking.source.filter(|source| tracking.is_synchronised() && !source.is_loopback())
    }

    /// The lines of the table, each as its name and its text.
    pub fn lines(&self, measured: Measured) -> Vec<Vec<String>> {
        let kernel =
            self.0.kernel.map_or_else(|| "its state cannot be read (adjtimex)".to_owned(), kernel_in_words);
        let daemon = match self.daemon() {
            Daemon::Chrony => "chrony",
            Daemon::Timesyncd => "systemd-timesyncd",
            Daemon::Unknown if self.0.kernel.is_none() => "unknown",
            Daemon::Unknown => "unknown; the kernel reports that a process disciplines the clock",
            Daemon::None => "none, as the kernel reports",
        };
        let chrony = match &self.0.chrony {
            Ok((tracking, by)) => format!("{} ({by})", tracking_in_words(tracking, measured)),
            Err(_) => "answers neither at its socket nor on UDP".to_owned(),
        };
        let line = |name: &str, text: String| vec![name.to_owned(), text];
        let mut lines =
            vec![line("kernel", kernel), line("time daemon", daemon.to_owned()), line("chrony", chrony)];
        if let Some(Measurement { offset, bound }) =
            self.0.tracking().and_then(|tracking| contradiction(tracking, measured))
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
        lines.extend(self.refused_folder().map(|why| line("", why)));
        let mut heading = "audit";
        for (_, wanted, finding) in self.0.audit(self.daemon()).findings() {
            lines.push(line(std::mem::take(&mut heading), format!("{wanted}: {}", finding.in_words())));
        }
        lines
    }

    /// Why chronyd has no socket, where its folder shows it.
    fn refused_folder(&self) -> Option<String> {
        let error = self.0.socket_error.as_ref()?;
        matches!(error, ChronyError::RefusedFolder(_)).then(|| error.to_string())
    }

    /// The same as JSON.
    pub fn report(&self, measured: Measured) -> NodeReport {
        NodeReport {
            kernel: self.0.kernel.map(|kernel| KernelReport {
                synchronized: kernel.synchronized,
                timedatectl_synchronized: kernel.is_disciplined(),
                last_update_age_max_seconds: oldest_update(kernel.max_error).map(|age| age.as_secs_f64()),
                max_error_seconds: kernel.max_error.as_secs_f64(),
                estimated_error_seconds: kernel.estimated_error.as_secs_f64(),
                frequency_ratio: kernel.frequency.as_ratio(),
                leap: leap_label(kernel.leap),
            }),
            time_daemon: self.daemon().label(),
            chrony: match &self.0.chrony {
                Ok((tracking, by)) => ChronyReport::Answers(TrackingReport::new(tracking, by, measured)),
                Err(error) => ChronyReport::Silent { error: error.clone() },
            },
            audit: AuditReport::new(self.0.audit(self.daemon())),
        }
    }
}

fn kernel_in_words(kernel: KernelClock) -> String {
    let label = if kernel.is_disciplined() { "synchronised" } else { "not synchronised" };
    // timedatectl and the agent compare the maximum error with 16 s; other programs look at this bit.
    let bit =
        if kernel.is_disciplined() && !kernel.synchronized { " (though STA_UNSYNC is set)" } else { "" };
    let update = oldest_update(kernel.max_error).map_or(String::new(), |age| {
        let silent = if age >= SILENT_AFTER { ", which may be too long" } else { "" };
        format!("; updated at most {} ago{silent}", Span(age))
    });
    let leap = match kernel.leap {
        Leap::Insert => "a leap second will be inserted",
        Leap::Delete => "a leap second will be deleted",
        Leap::None | Leap::Alarm => "no leap second pending",
    };
    format!(
        "{label}{bit}; error at most {}, estimated {}{update}; frequency {:+.3} ppm; {leap}",
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
    audit: AuditReport,
}

/// Each `fulfilled`, `not-fulfilled` or `not-visible`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuditReport {
    sources: &'static str,
    makestep: &'static str,
    rtcsync: &'static str,
    near: &'static str,
}

impl AuditReport {
    const fn new(audit: Audit) -> Self {
        Self {
            sources: audit.sources.label(),
            makestep: audit.makestep.label(),
            rtcsync: audit.rtcsync.label(),
            near: audit.near.label(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KernelReport {
    synchronized: bool,
    timedatectl_synchronized: bool,
    /// The last update by a time daemon is not older: the maximum error at 500 ppm.
    last_update_age_max_seconds: Option<f64>,
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
        NodeClock(DaemonView {
            kernel: Some(kernel),
            chrony,
            socket_error: Some(ChronyError::NoSocket("/run/chrony/chronyd.sock".into())),
            reachable_sources: None,
            config: None,
            stamp_age: None,
        })
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
            "kernel: synchronised; error at most 12 ms, estimated 3 µs; updated at most 24 s ago; frequency -12.043 ppm; no leap \
             second pending\n\
             time daemon: chrony\n\
             chrony: follows 192.0.2.7 at stratum 3; reports the clock 12 µs behind; leap status normal; last update 34 s ago \
             (UDP 127.0.0.1:323)\n\
             audit: two reachable sources or more: not visible from here\n\
             : steps at any time (makestep 1 -1): not visible from here\n\
             : hardware clock kept correct (rtcsync): fulfilled\n\
             : near source (round trip to the reference up to 20 ms): not fulfilled"
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
        assert!(lines.contains("\nchrony: answers neither at its socket nor on UDP\n"), "{lines}");
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
    fn kernels_are_synchronised_by_maxerror_and_the_status_bit_is_quoted_where_it_differs() {
        let words = |max_error, synchronized| {
            kernel_in_words(KernelClock { max_error: Duration::from_secs(max_error), synchronized, ..KEPT })
        };
        assert!(words(1, true).starts_with("synchronised; error at most 1 s, "), "{}", words(1, true));
        assert!(words(1, false).starts_with("synchronised (though STA_UNSYNC is set); "));
        assert!(words(1, false).contains("; updated at most 33 min 20 s ago; "), "{}", words(1, false));
        assert!(words(4, true).contains(" ago, which may be too long; "), "{}", words(4, true));
        assert!(words(16, true).starts_with("not synchronised; ") && !words(16, true).contains("updated"));
    }

    #[test]
    fn a_folder_that_chronyd_refuses_is_named_and_the_audit_is_in_json() {
        let mut node = node(KEPT, Err("no socket"));
        assert!(!text(&node, measured(1)).contains("refuse"));
        node.0.socket_error = Some(ChronyError::RefusedFolder("/run/chrony".into()));
        let lines = text(&node, measured(1));
        assert!(lines.contains("no socket in /run/chrony, and chronyd will refuse this folder"), "{lines}");
        let json = serde_json::to_value(node.report(measured(1))).unwrap();
        assert_eq!(
            json["audit"],
            serde_json::json!({
                "sources": "not-visible", "makestep": "not-visible", "rtcsync": "fulfilled", "near": "not-visible"
            })
        );
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
