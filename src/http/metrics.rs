//! The Prometheus exposition, made from what is known at the instant of the scrape.
//!
//! A registry is built anew each time: what is not known has no series, and nothing that was known once can linger.

use std::fmt::Write;

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};

use crate::build_info::{REVISION, VERSION};
use crate::os::timex::KernelClock;
use drift_core::ntp::server::ServerState;
use drift_core::report::snapshot::{PoolSnapshot, Snapshot, StepSnapshot};
use drift_core::resume::{Class, Signal};
use drift_core::step::outcome::Method;
use drift_core::step::time_daemon::{Daemon, DaemonReport};
use drift_core::time::{Offset, Ppb};
use drift_core::verdict::State;

/// One scrape's registry.
struct Exposition {
    registry: Registry,
    /// Names are fixed at build time, so this stays empty; if it does not, the scrape says so instead of lying.
    failures: String,
}

impl Exposition {
    fn add(&mut self, made: prometheus::Result<impl Collector + 'static>) {
        if let Err(error) = made.and_then(|collector| self.registry.register(Box::new(collector))) {
            let _ = writeln!(self.failures, "# drift-agent: {error}");
        }
    }

    /// A gauge with the values that are known; without one there is no series.
    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = (Vec<String>, Option<f64>)>,
    ) {
        let made = GaugeVec::new(Opts::new(name, help).namespace("drift_agent"), labels).inspect(|gauge| {
            for (labels, value) in values {
                if let Some(value) = value {
                    gauge.with_label_values(&labels).set(value);
                }
            }
        });
        self.add(made);
    }

    fn plain(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.gauge(name, help, &[], [(vec![], value)]);
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        values: impl IntoIterator<Item = (Vec<String>, u64)>,
    ) {
        let made =
            IntCounterVec::new(Opts::new(name, help).namespace("drift_agent"), labels).inspect(|counter| {
                for (labels, value) in values {
                    counter.with_label_values(&labels).inc_by(value);
                }
            });
        self.add(made);
    }
}

/// The text of `/metrics`.
pub fn render(snapshot: &Snapshot, kernel: Option<KernelClock>) -> String {
    let mut out = Exposition { registry: Registry::new(), failures: String::new() };
    estimate(&mut out, snapshot);
    pools(&mut out, &snapshot.pools);
    counts(&mut out, snapshot);
    signals(&mut out, snapshot.signals);
    out.plain(
        "resume_rtc_uncertainty_seconds",
        "How exactly the hardware clock is known: a shorter pause does not show there.",
        snapshot.rtc_uncertainty.map(|width| width.as_secs_f64()),
    );
    steps(&mut out, &snapshot.step);
    daemon(&mut out, snapshot.daemon.as_ref());
    kernel_clock(&mut out, kernel);
    out.gauge(
        "build_info",
        "Always 1; the labels say which build this is.",
        &["version", "revision"],
        [(vec![VERSION.to_owned(), REVISION.to_owned()], Some(1.0))],
    );
    let mut text = TextEncoder::new().encode_to_string(&out.registry.gather()).unwrap_or_default();
    text.push_str(&out.failures);
    text
}

fn estimate(out: &mut Exposition, snapshot: &Snapshot) {
    out.plain(
        "offset_seconds",
        "Reference time minus node time: positive, the node is behind; negative, it is ahead.",
        snapshot.measured.map(|m| m.offset.as_secs_f64()),
    );
    out.plain(
        "offset_bound_seconds",
        "The true offset is inside offset_seconds plus or minus this.",
        snapshot.measured.map(|m| m.bound.as_secs_f64()),
    );
    out.plain(
        "threshold_seconds",
        "Offset from which the clock counts as drifting.",
        Some(snapshot.threshold.as_secs_f64()),
    );
    out.gauge(
        "state",
        "1 for the verdict in force, 0 for the others.",
        &["state"],
        State::ALL.map(|s| (vec![s.label().to_owned()], Some(f64::from(u8::from(s == snapshot.state))))),
    );
    out.plain(
        "estimate_age_seconds",
        "Age of the newest sample behind the offset.",
        snapshot.measured.and(snapshot.estimate_age).map(|age| age.as_secs_f64()),
    );
    coarse(out, snapshot);
    #[expect(clippy::cast_precision_loss, reason = "two minutes at most")]
    let leeway = snapshot.leeway.seconds as f64;
    out.plain(
        "recommended_leeway_seconds",
        "What a verifier of tokens on this node should allow for clock skew.",
        snapshot.measured.filter(|_| snapshot.state.has_offset()).map(|_| leeway),
    );
    #[expect(clippy::cast_precision_loss, reason = "a handful of pools")]
    let agreeing = snapshot.pools_agreeing as f64;
    out.plain("pools_agreeing", "Pools with a live server inside the estimate.", Some(agreeing));
    out.plain(
        "frequency_error_ratio",
        "How much slower than reference time the node's undisciplined oscillator runs; negative: faster.",
        snapshot.frequency.map(Ppb::as_ratio),
    );
    out.plain(
        "pool_disagreement_seconds",
        "Largest minus smallest offset of a pool.",
        snapshot.disagreement().map(|d| d.as_secs_f64()),
    );
}

/// Under names of its own: nobody who reads `offset_seconds` shall take a header for a measurement.
fn coarse(out: &mut Exposition, snapshot: &Snapshot) {
    let offset = snapshot.coarse.offset();
    out.plain(
        "offset_is_coarse",
        "1 while all that is known of the offset is what HTTP Date headers say.",
        Some(f64::from(u8::from(offset.is_some()))),
    );
    out.plain(
        "coarse_offset_seconds",
        "The offset by HTTP Date headers; the sign is that of offset_seconds.",
        offset.map(|m| m.offset.as_secs_f64()),
    );
    out.plain(
        "coarse_offset_bound_seconds",
        "The true offset is inside coarse_offset_seconds plus or minus this, if the headers are right.",
        offset.map(|m| m.bound.as_secs_f64()),
    );
}

fn pools(out: &mut Exposition, pools: &[PoolSnapshot]) {
    let mut each = |name: &str, help: &str, value: &dyn Fn(&PoolSnapshot) -> Option<f64>| {
        out.gauge(name, help, &["pool"], pools.iter().map(|p| (vec![p.name.clone()], value(p))));
    };
    each(
        "pool_offset_seconds",
        "What the pool's own servers say; the sign is that of offset_seconds.",
        &|p| p.measured.map(|m| m.offset.as_secs_f64()),
    );
    each(
        "pool_offset_bound_seconds",
        "The pool's offset is right to plus or minus this, if its servers are.",
        &|p| p.measured.map(|m| m.bound.as_secs_f64()),
    );
    each("pool_round_trip_seconds", "Round trip of the pool's best sample.", &|p| {
        p.round_trip.map(|d| d.as_secs_f64())
    });
    each("pool_root_distance_seconds", "How far the pool's best server itself may be off.", &|p| {
        p.root_distance.map(|d| d.as_secs_f64())
    });
    each("pool_stratum", "Stratum of the pool's best server.", &|p| p.stratum.map(f64::from));
    each("pool_sample_age_seconds", "Age of the pool's newest sample.", &|p| {
        p.sample_age.map(|d| d.as_secs_f64())
    });
    let servers = pools.iter().flat_map(|pool| {
        ServerState::ALL.map(|state| {
            let count = pool.servers.iter().filter(|s| s.state == state).count();
            #[expect(clippy::cast_precision_loss, reason = "a handful of servers")]
            let count = count as f64;
            (vec![pool.name.clone(), state.label().to_owned()], Some(count))
        })
    });
    out.gauge("pool_servers", "Servers in use, by what they are to us.", &["pool", "state"], servers);
}

fn counts(out: &mut Exposition, snapshot: &Snapshot) {
    let samples = snapshot.pools.iter().zip(&snapshot.counts.samples).flat_map(|(pool, results)| {
        results.iter().map(|(result, count)| (vec![pool.name.clone(), (*result).to_owned()], *count))
    });
    out.counter("samples_total", "Exchanges, by what came of them.", &["pool", "result"], samples);
    let writes = snapshot.counts.writes.iter().map(|(result, count)| (vec![(*result).to_owned()], *count));
    out.counter(
        "kubernetes_requests_total",
        "Requests to the API server, by what came of them.",
        &["result"],
        writes,
    );
    let resumes = Class::ALL.into_iter().zip(snapshot.counts.resumes);
    let resumes = resumes.map(|(class, count)| (vec![class.label().to_owned()], count));
    out.counter(
        "resume_signals_total",
        "Signs that the machine did not run all the time, or that somebody set a clock.",
        &["class"],
        resumes,
    );
}

fn signals(out: &mut Exposition, signals: Option<[(Signal, bool); 6]>) {
    let each = signals.into_iter().flatten();
    out.gauge(
        "resume_signal_available",
        "1 for each signal of a resume that this machine has.",
        &["signal"],
        each.map(|(signal, has)| (vec![signal.label().to_owned()], Some(f64::from(u8::from(has))))),
    );
}

fn steps(out: &mut Exposition, step: &StepSnapshot) {
    let counts = step.counts.iter().map(|((method, result), count)| {
        let method = method.map_or("none", Method::label);
        (vec![method.to_owned(), result.label().to_owned()], *count)
    });
    out.counter(
        "steps_total",
        "Reasons to step the clock, by who stepped it (none: nobody) and what came of it.",
        &["method", "result"],
        counts,
    );
    out.plain("last_step_age_seconds", "Age of the last step.", step.last_age.map(|age| age.as_secs_f64()));
}

fn daemon(out: &mut Exposition, report: Option<&DaemonReport>) {
    let infos = Daemon::ALL.map(|daemon| {
        let is_it = report.map(|r| f64::from(u8::from(r.daemon == daemon)));
        (vec![daemon.label().to_owned()], is_it)
    });
    out.gauge(
        "time_daemon_info",
        "1 for the time daemon that disciplines this clock; unknown: one that cannot be seen from here.",
        &["daemon"],
        infos,
    );
    let believes = report.map(|r| (vec![r.daemon.label().to_owned()], r.believes.map(Offset::as_secs_f64)));
    out.gauge(
        "daemon_offset_seconds",
        "What the time daemon itself takes the clock's offset for; the sign is that of offset_seconds.",
        &["daemon"],
        believes,
    );
}

fn kernel_clock(out: &mut Exposition, kernel: Option<KernelClock>) {
    out.plain(
        "kernel_synchronized",
        "1 when the kernel believes that somebody disciplines the clock. It says nothing of the offset.",
        kernel.map(|k| f64::from(u8::from(k.synchronized))),
    );
    out.plain(
        "kernel_max_error_seconds",
        "What the kernel takes for the clock's largest error.",
        kernel.map(|k| k.max_error.as_secs_f64()),
    );
    out.plain(
        "kernel_frequency_ratio",
        "Correction of the clock's frequency in force; positive: it is made to run faster.",
        kernel.map(|k| k.frequency.as_ratio()),
    );
}
