//! `/v1/clock`: the offset and its bound, for the workloads on this node.

use serde::Serialize;

use drift_core::report::snapshot::Snapshot;
use drift_core::time::Measurement;
use drift_core::time::Offset;

/// The body while an offset is known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Clock {
    /// The verdict.
    state: &'static str,
    /// Always `false`: the offset comes from NTP.
    coarse: bool,
    /// One pool alone is configured: nothing confirms it.
    single_pool: bool,
    /// The bound rests on what an operator promises for a pool (`rootDistance`).
    assumed: bool,
    /// Reference time - node time; positive: the node is behind.
    offset_seconds: f64,
    /// The true offset is inside offset +- bound.
    bound_seconds: f64,
    /// The earliest possible reference time: RFC 3339 with nanoseconds.
    earliest: String,
    /// The latest possible reference time.
    latest: String,
    /// Age of the newest sample behind it.
    estimate_age_seconds: f64,
    #[serde(flatten)]
    leeway: Recommended,
}

/// The recommended leeway for token verifiers on this node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Recommended {
    /// In whole seconds.
    recommended_leeway_seconds: u64,
    /// What the leeway is made of.
    leeway_reason: String,
}

/// The body, with status 503, while no offset is known. A coarse offset has fields of its own: any host on
/// the path can forge HTTP `Date` headers, so a program must not read such an offset by mistake.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NoClock {
    /// The verdict.
    state: &'static str,
    /// Why, in a sentence.
    reason: String,
    /// Whether there is an offset by HTTP `Date` headers.
    coarse: bool,
    /// That offset; positive: the node is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    coarse_offset_seconds: Option<f64>,
    /// The bound of that offset, if the headers are correct.
    #[serde(skip_serializing_if = "Option::is_none")]
    coarse_bound_seconds: Option<f64>,
    #[serde(flatten)]
    leeway: Recommended,
}

impl Recommended {
    fn new(snapshot: &Snapshot) -> Self {
        Self {
            recommended_leeway_seconds: snapshot.leeway.seconds,
            leeway_reason: snapshot.leeway.reason.clone(),
        }
    }
}

impl Clock {
    /// The body for this snapshot, or the one for 503.
    pub fn new(snapshot: &Snapshot) -> Result<Self, NoClock> {
        let state = snapshot.state.label();
        let known = snapshot.measured.zip(snapshot.estimate_age).filter(|_| snapshot.state.has_offset());
        let Some((Measurement { offset, bound }, age)) = known else {
            let coarse = snapshot.coarse.offset();
            return Err(NoClock {
                state,
                reason: snapshot.sentence(),
                coarse: coarse.is_some(),
                coarse_offset_seconds: coarse.map(|m| m.offset.as_secs_f64()),
                coarse_bound_seconds: coarse.map(|m| m.bound.as_secs_f64()),
                leeway: Recommended::new(snapshot),
            });
        };
        let reference = snapshot.node_time.plus(offset);
        let half = bound.as_nanos();
        Ok(Self {
            state,
            coarse: false,
            single_pool: snapshot.is_single_pool(),
            assumed: snapshot.is_assumed(),
            offset_seconds: offset.as_secs_f64(),
            bound_seconds: bound.as_secs_f64(),
            earliest: reference.plus(Offset::from_nanos(-half)).rfc3339(9),
            latest: reference.plus(Offset::from_nanos(half)).rfc3339(9),
            estimate_age_seconds: age.as_secs_f64(),
            leeway: Recommended::new(snapshot),
        })
    }
}
