//! No pause is reported without one, and none is missed where two honest pools show it.

use std::time::Duration;

use super::{Checker, INTERVALS_TO_SETTLE, SECOND, at};
use crate::sim::behaviour::Reference;
use crate::sim::events::Kind;
use crate::sim::manners::Limit;
use crate::sim::network::Endpoint;
use crate::sim::world::World;
use drift_core::resume::{Detection, Signal};

/// A pause is reported within so long, wherever it is: the longest wait for a confirmation is two intervals.
const REPORTED_WITHIN: Duration = Duration::from_secs(60);
/// The longest time for which a drawn process or machine stands still.
const LONGEST_STALL: Duration = Duration::from_secs(600);
/// Pauses from this length on are found without any signal but the servers.
const FOUND_BLIND: Duration = Duration::from_secs(1);
/// The longest interval of a machine without a signal.
const BLIND_INTERVAL: Duration = Duration::from_secs(16);
/// The rate is known after so long.
const RATE_KNOWN_AFTER: Duration = Duration::from_secs(1_200);
/// A farther server does not show a second.
const NEAR: Duration = Duration::from_millis(20);

/// What the rules about pauses remember.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PauseRules {
    /// Pauses that were seen.
    seen: usize,
    /// A pause that is to be reported by then, and how much had happened when it was over.
    awaited: Option<(Duration, usize)>,
}

impl Checker {
    /// The agent reports a pause.
    pub(super) fn note_reported_pause(&mut self, detection: Detection, world: &World) -> Result<(), String> {
        self.pauses.awaited = None;
        let within = world.settings().interval * 3 + REPORTED_WITHIN;
        // A process that stands still reports nothing.
        let stalled = |kind: &Kind| matches!(kind, Kind::Stall | Kind::Suspend);
        let awake = world.happened.iter().rev().find(|(_, kind)| stalled(kind)).map(|(at, _)| *at);
        let is_recent = |over: Duration| {
            let since = awake.filter(|at| at.saturating_sub(over) <= LONGEST_STALL).unwrap_or(over).max(over);
            world.elapsed().saturating_sub(since) <= within
        };
        let was_paused = world.pauses.last().is_some_and(|(over, _)| is_recent(*over));
        let by_pools = detection.disruption.signal() == Signal::Pools;
        let is_poisoned =
            by_pools && (world.elapsed() < self.poisoned_until || !world.has_only_honest_servers());
        if was_paused || is_poisoned {
            return Ok(());
        }
        Err(format!("{} without a pause, {}", detection.disruption, at(world)))
    }

    /// Is a pause overdue that only the servers show?
    pub(super) fn check_pauses(&mut self, world: &World) -> Result<(), String> {
        let happened = world.happened.len();
        if let Some((over, span)) = world.pauses.get(self.pauses.seen..).and_then(<[_]>::last).copied() {
            self.pauses.seen = world.pauses.len();
            let before = world.happened.iter().rev().map(|(then, _)| *then).find(|then| *then < over);
            let quiet = over.saturating_sub(span).saturating_sub(before.unwrap_or_default());
            let interval = world.settings().interval.min(BLIND_INTERVAL);
            let is_quiet = quiet > RATE_KNOWN_AFTER + interval * INTERVALS_TO_SETTLE;
            if span >= FOUND_BLIND && is_quiet && world.is_blind() && shows_pauses(world) {
                self.tally.blind_pauses += 1;
                self.pauses.awaited = Some((over + interval * 3 + SECOND * 2, happened));
            }
        }
        match self.pauses.awaited {
            Some((_, then)) if happened > then => self.pauses.awaited = None,
            Some((until, _)) if world.elapsed() > until => {
                return Err(format!("a pause is not reported by {until:?}, {}", at(world)));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Are there two pools, and is every server near, honest and of its own?
fn shows_pauses(world: &World) -> bool {
    let is_good = |e: &Endpoint| {
        let model = &e.service.model;
        e.path.there + e.path.back < NEAR
            && e.path.loss <= 0.0
            && model.limit == Limit::None
            && !matches!(model.reference, Reference::Shared(_))
            && model.gives_samples(world.elapsed(), world.settings().interval)
    };
    world.pools() >= 2
        && world.has_only_honest_servers()
        && world.network.down.is_empty()
        && (0..world.pools()).all(|pool| world.resolves(pool))
        && world.network.endpoints.values().all(is_good)
}

impl World {
    /// Are all servers honest, and were they ever?
    pub(super) fn has_only_honest_servers(&self) -> bool {
        self.network.endpoints.values().all(|e| e.service.model.is_honest() && e.last_wrong.is_none())
    }
}
