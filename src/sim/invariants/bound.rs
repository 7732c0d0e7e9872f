//! How wide a bound may be, by the samples behind it.

use super::{BOUND_SLACK, Checker, INTERVALS_TO_SETTLE, SECOND, at};
use crate::sim::world::World;
use drift_core::report::snapshot::Snapshot;
use drift_core::time::{Bound, Measurement};

impl Checker {
    /// Where every server in use has given a sample just now, the bound is that of their samples.
    pub(super) fn check_bound(
        &mut self,
        measured: Measurement,
        snapshot: &Snapshot,
        world: &World,
    ) -> Result<(), String> {
        let now = world.reading().raw;
        if world.is_exchanging() {
            return Ok(());
        }
        let settled = world.settings().interval * INTERVALS_TO_SETTLE + SECOND * 60;
        let since = self.steady_since.max(self.poisoned_until);
        let Some(rate) = snapshot.rate.filter(|_| world.elapsed() > since + settled) else { return Ok(()) };
        let mut pools = Vec::new();
        for pool in &snapshot.pools {
            let mut bounds = Vec::new();
            for server in &pool.servers {
                let Some(endpoint) = world.network.endpoints.get(&server.address) else { return Ok(()) };
                let Some(sample) = endpoint.sample.filter(|s| now.since(s.at) < SECOND * 2) else {
                    return Ok(());
                };
                if !endpoint.service.model.is_honest() || server.measured.is_none() {
                    return Ok(());
                }
                let by_rate = rate.high_over(sample.elapsed).saturating_abs() / 2;
                let own = sample.round_trip / 2 + sample.root_distance + BOUND_SLACK;
                bounds.push(Bound::from(own) + Bound::from_nanos(by_rate));
            }
            let Some(own) = combined(&bounds) else { return Ok(()) };
            pools.push(own);
        }
        let Some(all) = combined(&pools) else { return Ok(()) };
        let ageing = rate.bound().over(SECOND * 2).saturating_mul(2);
        let most = all + Bound::from_nanos(ageing);
        self.tally.bounds += 1;
        if measured.bound <= most {
            return Ok(());
        }
        self.tally.wider_bounds += 1;
        // The most likely offset need not be in the middle: by itself it adds half of the bound, which reaches to the farther end.
        if measured.bound.as_duration() <= most.as_duration() * 7 / 4 {
            return Ok(());
        }
        Err(format!("the bound is {:?} and the samples allow {most:?}, {}", measured.bound, at(world)))
    }
}

/// The bound that intervals with these bounds have together when most of them must hold a point.
fn combined(bounds: &[Bound]) -> Option<Bound> {
    let mut sorted = bounds.to_vec();
    sorted.sort_unstable();
    // Of `n` the majority is `k`: as many as may be wider than the result are outside of it.
    let widest = sorted.get(sorted.len().checked_sub(sorted.len() / 2 + 1)?).copied()?;
    // Intervals that reach to both sides of the truth may together be twice as wide.
    Some(if sorted.len() < 3 { widest } else { widest + widest })
}
