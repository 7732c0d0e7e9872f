//! What could be measured in a simulated world, as the world itself knows it.

use std::time::Duration;

use super::{BOUND_SLACK, SECOND};
use crate::sim::network::{Endpoint, address};
use crate::sim::world::World;
use drift_core::report::snapshot::Snapshot;

/// Are the servers honest whose samples the agent uses?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Honesty {
    All,
    Most,
    Few,
    /// The agent uses no sample.
    None,
}

/// Are most of the servers in use honest, in most of the pools that have one? Only then the truth is within the
/// bound.
pub fn has_honest_majority(world: &World) -> bool {
    honesty(&world.snapshot(), world) != Honesty::Few
}

pub(super) fn honesty(snapshot: &Snapshot, world: &World) -> Honesty {
    let (mut good_pools, mut pools, mut wrong_servers) = (0, 0, 0);
    for pool in &snapshot.pools {
        let used = pool.servers.iter().filter(|server| server.measured.is_some());
        let (good, all) = used.fold((0, 0), |(good, all), server| {
            let endpoint = world.network.endpoints.get(&server.address);
            (good + usize::from(endpoint.is_some_and(|e| is_honest(e, world))), all + 1)
        });
        wrong_servers += all - good;
        pools += usize::from(all > 0);
        good_pools += usize::from(all > 0 && good * 2 > all);
    }
    match (pools > 0 && good_pools * 2 > pools, wrong_servers) {
        (true, 0) => Honesty::All,
        (true, _) => Honesty::Most,
        (false, _) if pools == 0 => Honesty::None,
        (false, _) => Honesty::Few,
    }
}

/// Is it honest, and has it been for as long as samples are used?
fn is_honest(endpoint: &Endpoint, world: &World) -> bool {
    let span = world.settings().stale_after + SECOND * 10;
    let is_over = |last: Duration| world.elapsed() > last + span;
    endpoint.service.model.is_honest() && endpoint.last_wrong.is_none_or(is_over)
}

/// Which pools could be measured now, as the world knows it, and how well.
pub(super) struct Health {
    /// The bound of each pool that most of its servers can give.
    pools: Vec<Option<Duration>>,
}

impl Health {
    pub(super) fn of(world: &World) -> Self {
        Self { pools: (0..world.pools()).map(|pool| bound_of(pool, world)).collect() }
    }

    /// Can a majority of the pools be measured?
    pub(super) fn is_healthy(&self) -> bool {
        self.pools.iter().flatten().count() * 2 > self.pools.len()
    }

    /// Can so many pools be measured, and so well, that a clock which is `off` by so much is stepped?
    pub(super) fn allows_step(&self, off: Duration, world: &World) -> bool {
        let can_measure = |bound: &&Duration| **bound * 6 < off;
        self.pools.iter().flatten().filter(can_measure).count() == self.pools.len()
            && self.pools.len() >= 2
            && world.snapshot().pools_independent.is_none_or(|independent| independent)
    }

    /// Do the round trips allow a verdict?
    pub(super) fn is_decidable(&self, world: &World) -> bool {
        let mut bounds: Vec<Duration> = self.pools.iter().flatten().copied().collect();
        bounds.sort_unstable();
        let needed = self.pools.len() / 2;
        // The worst pool of the best majority, with a margin for what the rate adds.
        bounds.get(needed).is_some_and(|bound| *bound * 3 / 2 < world.settings().threshold)
    }
}

/// Are so many pools wrong that they could lead a step away from the truth by themselves?
pub(super) fn steps_can_mislead(world: &World) -> bool {
    let is_wrong = |pool: usize| {
        let mut own = world.network.endpoints.values().filter(|endpoint| endpoint.pool == pool);
        own.any(|endpoint| !is_honest(endpoint, world))
    };
    let wrong = (0..world.pools()).filter(|pool| is_wrong(*pool)).count();
    wrong >= pools_of_a_step(world)
}

/// How many pools each have to support a step: both of two, and a majority of more. One alone has to, on request.
fn pools_of_a_step(world: &World) -> usize {
    match world.pools() {
        1 => 1,
        count => (count / 2 + 1).max(2),
    }
}

/// The bound that most of a pool's servers give; `None`: too few of them are honest and answer.
fn bound_of(pool: usize, world: &World) -> Option<Duration> {
    if world.network.down.contains(&pool) || !world.resolves(pool) {
        return None;
    }
    let zone = world.zone(pool)?;
    let members = zone.members(world.hosts(pool));
    let limit = world.settings().servers_per_pool.min(zone.in_answer).min(members.len());
    let (mut bounds, mut useless, mut wrong) = (Vec::new(), 0, 0);
    for index in members {
        let endpoint = world.network.endpoints.get(&address(pool, index))?;
        let model = &endpoint.service.model;
        if !is_honest(endpoint, world) {
            wrong += 1;
        } else if !model.gives_samples(world.elapsed(), world.settings().interval) {
            useless += 1;
        } else {
            let path = endpoint.path;
            let round_trip = path.there + path.back + path.jitter * 8;
            bounds.push(round_trip / 2 + model.root_delay / 2 + model.root_dispersion + BOUND_SLACK);
        }
    }
    limit.checked_sub(useless + wrong).filter(|good| *good > wrong)?;
    // Any of them may be in use.
    bounds.into_iter().max()
}
