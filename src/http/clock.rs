//! `/v1/clock`: the time and how sure we are, for the workloads on this node.

use serde::Serialize;

use drift_core::report::snapshot::Snapshot;
use drift_core::time::Measurement;
use drift_core::time::Offset;

/// The answer while an offset is known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Clock {
    /// The verdict.
    state: &'static str,
    /// Not by HTTP `Date` headers alone.
    coarse: bool,
    /// Reference time - node time; positive is behind.
    offset_seconds: f64,
    /// The true offset is inside offset +- bound.
    bound_seconds: f64,
    /// Reference time is not before this: RFC 3339 with nanoseconds.
    earliest: String,
    /// Reference time is not after this.
    latest: String,
    /// Age of the newest sample behind it.
    estimate_age_seconds: f64,
    #[serde(flatten)]
    leeway: Recommended,
}

/// What a verifier of tokens on this node should allow.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Recommended {
    /// In whole seconds.
    recommended_leeway_seconds: u64,
    /// Why so much.
    leeway_reason: String,
}

/// The answer while it is not. What HTTP `Date` headers say is no offset to reckon with: anybody on the way can forge them, so a
/// program that does not look for it must not come by it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NoClock {
    /// The verdict.
    state: &'static str,
    /// Why, in a sentence.
    reason: String,
    /// There is an offset by HTTP `Date` headers.
    coarse: bool,
    /// That offset; positive is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    coarse_offset_seconds: Option<f64>,
    /// The true offset is inside the offset +- this, if the headers are right.
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
    /// From what is known now.
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
            offset_seconds: offset.as_secs_f64(),
            bound_seconds: bound.as_secs_f64(),
            earliest: reference.plus(Offset::from_nanos(-half)).rfc3339(9),
            latest: reference.plus(Offset::from_nanos(half)).rfc3339(9),
            estimate_age_seconds: age.as_secs_f64(),
            leeway: Recommended::new(snapshot),
        })
    }
}
