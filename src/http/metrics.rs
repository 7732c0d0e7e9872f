//! The Prometheus exposition, computed from the snapshot at the instant of the scrape.
//!
//! Each scrape builds its own registry, so that an unknown value has no series and no old value remains.

use std::fmt::Write;

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};

use crate::build_info::{REVISION, VERSION};
use crate::os::timex::KernelClock;
use drift_core::ntp::server::ServerState;
use drift_core::report::snapshot::{PoolSnapshot, Snapshot, StepSnapshot};
use drift_core::resume::{Class, Signal, SignalSet};
use drift_core::step::outcome::Method;
use drift_core::step::time_daemon::{Daemon, DaemonReport};
use drift_core::time::Offset;
use drift_core::verdict::State;

/// One scrape's registry.
struct Exposition {
    registry: Registry,
    /// Metrics that could not be registered, as comments of the exposition. Names are fixed at build time, so
    /// this is empty.
    failures: String,
}

impl Exposition {
    fn add(&mut self, collector: prometheus::Result<impl Collector + 'static>) {
        if let Err(error) = collector.and_then(|collector| self.registry.register(Box::new(collector))) {
            let _ = writeln!(self.failures, "# drift-agent: {error}");
        }
    }

    /// A gauge with a series for each known value.
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
        "Uncertainty of the hardware clock's reading. A shorter pause may not be detected by it.",
        snapshot.rtc_uncertainty.map(|width| width.as_secs_f64()),
    );
    steps(&mut out, &snapshot.step);
    daemon(&mut out, snapshot.daemon.as_ref());
    update_age(&mut out, snapshot.daemon.as_ref());
    kernel_clock(&mut out, kernel);
    out.gauge(
        "build_info",
        "Always 1; the labels name the build.",
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
        "Reference time minus node time. Positive: the node is behind; negative: it is ahead.",
        snapshot.measured.map(|m| m.offset.as_secs_f64()),
    );
    out.plain(
        "offset_bound_seconds",
        "Bound of the offset: the true offset is inside offset_seconds plus or minus this.",
        snapshot.measured.map(|m| m.bound.as_secs_f64()),
    );
    out.plain(
        "offset_bound_is_assumed",
        "1 while the bound rests on a configured rootDistance, else 0.",
        Some(f64::from(u8::from(snapshot.is_assumed()))),
    );
    out.plain(
        "threshold_seconds",
        "Offset from which the clock counts as drifting.",
        Some(snapshot.threshold.as_secs_f64()),
    );
    out.gauge(
        "state",
        "Verdict on the clock: 1 for the state in force, 0 for the others.",
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
        "Recommended leeway for token verifiers on this node, by what NTP measured.",
        snapshot.measured.filter(|_| snapshot.leeway.is_measured).map(|_| leeway),
    );
    #[expect(clippy::cast_precision_loss, reason = "a handful of pools")]
    let agreeing = snapshot.pools_agreeing as f64;
    out.plain("pools_agreeing", "Pools that agree on the estimate.", Some(agreeing));
    out.plain(
        "frequency_error_ratio",
        "Frequency error of the node's undisciplined oscillator. Positive: it runs slower than reference time.",
        snapshot.rate.map(|rate| rate.middle().as_ratio()),
    );
    out.plain(
        "frequency_error_bound_ratio",
        "Bound of the frequency error: the true one is inside frequency_error_ratio plus or minus this.",
        snapshot.rate.map(|rate| rate.bound().as_ratio()),
    );
    out.plain(
        "pools_independent",
        "1 while each pool looks like a server of its own, 0 while two look like one.",
        snapshot.pools_independent.map(|independent| f64::from(u8::from(independent))),
    );
    out.plain(
        "single_pool",
        "1 where one pool alone is configured (allowSinglePool), so that nothing confirms it, else 0.",
        Some(f64::from(u8::from(snapshot.is_single_pool()))),
    );
    out.plain(
        "pool_disagreement_seconds",
        "Largest minus smallest offset of the pools.",
        snapshot.disagreement().map(|d| d.as_secs_f64()),
    );
}

/// Coarse offsets have names of their own, so that `offset_seconds` always comes from NTP.
fn coarse(out: &mut Exposition, snapshot: &Snapshot) {
    let offset = snapshot.coarse.offset();
    out.plain(
        "offset_is_coarse",
        "1 while the offset is known from HTTP Date headers only, else 0.",
        Some(f64::from(u8::from(offset.is_some()))),
    );
    out.plain(
        "coarse_offset_seconds",
        "Offset by HTTP Date headers, with the sign of offset_seconds.",
        offset.map(|m| m.offset.as_secs_f64()),
    );
    out.plain(
        "coarse_offset_bound_seconds",
        "Bound of the coarse offset, if the headers are correct.",
        offset.map(|m| m.bound.as_secs_f64()),
    );
}

fn pools(out: &mut Exposition, pools: &[PoolSnapshot]) {
    let mut each = |name: &str, help: &str, value: &dyn Fn(&PoolSnapshot) -> Option<f64>| {
        out.gauge(name, help, &["pool"], pools.iter().map(|p| (vec![p.name.clone()], value(p))));
    };
    each("pool_offset_seconds", "Offset by the pool's own servers, with the sign of offset_seconds.", &|p| {
        p.measured.map(|m| m.offset.as_secs_f64())
    });
    each(
        "pool_offset_bound_seconds",
        "Bound of the pool's offset, if most of its servers are correct.",
        &|p| p.measured.map(|m| m.bound.as_secs_f64()),
    );
    each(
        "pool_falseticker",
        "1 while a majority of three reachable pools or more agrees and contradicts this one, else 0.",
        &|p| Some(f64::from(u8::from(p.is_falseticker))),
    );
    each("pool_round_trip_seconds", "Round trip of the pool's best sample.", &|p| {
        p.round_trip.map(|d| d.as_secs_f64())
    });
    each(
        "pool_root_distance_seconds",
        "Root distance of the pool's best sample: the possible error of its server.",
        &|p| p.root_distance.map(|d| d.as_secs_f64()),
    );
    each(
        "pool_root_distance_is_assumed",
        "1 where the pool's root distance is configured (rootDistance), 0 where its servers declare it.",
        &|p| Some(f64::from(u8::from(p.assumed_root_distance.is_some()))),
    );
    each("pool_stratum", "Stratum of the pool's best sample.", &|p| p.stratum.map(f64::from));
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
    out.gauge("pool_servers", "Servers in use, by state.", &["pool", "state"], servers);
}

fn counts(out: &mut Exposition, snapshot: &Snapshot) {
    let samples = snapshot.pools.iter().zip(&snapshot.counts.samples).flat_map(|(pool, results)| {
        results.iter().map(|(result, count)| (vec![pool.name.clone(), (*result).to_owned()], *count))
    });
    out.counter(
        "samples_total",
        "Exchanges with the servers of a pool, by result.",
        &["pool", "result"],
        samples,
    );
    let writes = snapshot.counts.writes.iter().map(|(result, count)| (vec![(*result).to_owned()], *count));
    out.counter("kubernetes_requests_total", "Requests to the API server, by result.", &["result"], writes);
    let resumes = Class::ALL.into_iter().zip(snapshot.counts.resumes);
    let resumes = resumes.map(|(class, count)| (vec![class.label().to_owned()], count));
    out.counter("resume_signals_total", "Clock disruptions detected, by class.", &["class"], resumes);
}

fn signals(out: &mut Exposition, signals: Option<SignalSet>) {
    let each = signals.into_iter().flat_map(|has| Signal::LOCAL.map(|signal| (signal, has.contains(signal))));
    out.gauge(
        "resume_signal_available",
        "1 for each signal of a disruption that this machine has, else 0.",
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
        "Step triggers, by method (none: not stepped) and result.",
        &["method", "result"],
        counts,
    );
    out.plain(
        "last_step_age_seconds",
        "Age of the last step of the clock by the agent.",
        step.last_age.map(|age| age.as_secs_f64()),
    );
}

fn daemon(out: &mut Exposition, report: Option<&DaemonReport>) {
    let infos = Daemon::ALL.map(|daemon| {
        let is_it = report.map(|r| f64::from(u8::from(r.daemon == daemon)));
        (vec![daemon.label().to_owned()], is_it)
    });
    out.gauge(
        "time_daemon_info",
        "1 for the process that disciplines the clock (unknown: not identified, or the kernel's state cannot be read), 0 for the others.",
        &["daemon"],
        infos,
    );
    let believes = report.map(|r| (vec![r.daemon.label().to_owned()], r.believes.map(Offset::as_secs_f64)));
    out.gauge(
        "daemon_offset_seconds",
        "Offset that the time daemon itself reports, with the sign of offset_seconds. It may be wrong after a pause.",
        &["daemon"],
        believes,
    );
}

fn update_age(out: &mut Exposition, report: Option<&DaemonReport>) {
    out.plain(
        "daemon_update_age_seconds",
        "Time for which no process has updated the clock, at least, as of the last round: by the growth of the kernel's maximum error.",
        report.and_then(|r| r.update_age).map(|age| age.as_secs_f64()),
    );
}

fn kernel_clock(out: &mut Exposition, kernel: Option<KernelClock>) {
    out.plain(
        "kernel_synchronized",
        "1 if the kernel reports that a process disciplines the clock (maximum error below 16 s). It can be 1 while the clock is wrong.",
        kernel.map(|k| f64::from(u8::from(k.is_disciplined()))),
    );
    out.plain(
        "kernel_max_error_seconds",
        "Maximum error of the clock, as the kernel reports it. It can be small while the clock is wrong.",
        kernel.map(|k| k.max_error.as_secs_f64()),
    );
    out.plain(
        "kernel_frequency_ratio",
        "Frequency correction that the kernel applies to the clock. Positive: the clock runs faster.",
        kernel.map(|k| k.frequency.as_ratio()),
    );
}

#[cfg(test)]
mod tests;
