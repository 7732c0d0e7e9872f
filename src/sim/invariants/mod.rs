//! The rules that hold in every simulated world, whatever the plan: one checker, called after each input.
//!
//! * The true offset is within the bound while most servers of most reachable pools are honest.
//! * With an honest, reachable majority of pools the clock is never `unknown`, `disagree` or `disrupted` for longer
//!   than three intervals, unless the round trips make it undecidable.
//! * The bound of fresh samples is their own: half the round trip, the root distance, a millisecond, and what the rate
//!   of the oscillator adds.
//! * A steady world writes the Node at most seven times an hour by itself.
//! * A reachable server has a young sample.
//! * The agent is not woken without end: a few thousand times a second at most.
//! * No server is asked sooner than after two seconds, or an interval, but once after a disruption.
//! * Steps follow the rules of [`steps`].
//! * No pause is reported without one; on a machine without RTC and vmclock, two honest pools show one of a second
//!   within three intervals.
//!
//! Three times are excused and counted: after an unannounced step of the oscillator's rate, by what the clock gains in two
//! polls, until the samples show it; after a pause that the kernel did not notice until the agent has; and after a change
//! of the clocksource until the next observation.

mod bound;
mod health;
mod pauses;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

pub use self::health::has_honest_majority;
use self::health::{Health, Honesty, honesty};
use self::pauses::PauseRules;
use self::steps::StepRules;
use crate::sim::clocks::of_reference;
use crate::sim::events::Kind;
use crate::sim::manners::Limit;
use crate::sim::network::Endpoint;
use crate::sim::world::World;
use drift_core::io::{Effect, LogEvent};
use drift_core::ntp::server::ServerState;
use drift_core::report::snapshot::Snapshot;
use drift_core::resume::Class;
use drift_core::time::{HOUR, Measurement, Mono, Offset, Ppb};
use drift_core::verdict::State;

const SECOND: Duration = Duration::from_secs(1);
/// Writes of the Node in an hour of a steady world, wherever the hour begins: seven heartbeats, which come after nine
/// minutes at the earliest, and one change of the verdict.
const WRITES_AN_HOUR: usize = 8;
/// Two requests to one server are this far apart, or an interval.
const SPACING: Duration = Duration::from_secs(2);
/// Rounding of the published offset and bound.
const ROUNDING: u64 = 1_000;
/// What a bound may have beyond round trip, root distance and rate.
const BOUND_SLACK: Duration = Duration::from_millis(1);
/// Inputs in a second: an RTC read with each, answers of all servers, and more by far.
const MAX_WAKES: u32 = 5_000;
/// After a change of the surroundings, the intervals until a world counts as settled.
const INTERVALS_TO_SETTLE: u32 = 12;

/// What was seen in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Inputs after which the world was checked.
    pub looks: u64,
    /// Looks with an offset.
    pub measured: u64,
    /// Time with an offset that does not hold the truth, after a step of the rate, until the next round.
    pub outside_after_rate: Duration,
    /// The same, after the next round.
    pub outside_after_rate_later: Duration,
    /// The farthest beyond the bound that the truth was then.
    pub farthest_after_rate: Duration,
    /// The same after a change of the clocksource that the agent had not seen yet.
    pub outside_after_clocksource: Duration,
    /// The same after a pause that the agent had not noticed.
    pub outside_after_pause: Duration,
    /// Looks at which most servers of most reachable pools were honest, and some were not.
    pub honest_majority: u64,
    /// Looks at which they were not.
    pub dishonest: u64,
    /// Rounds whose bound was checked.
    pub bounds: u64,
    /// Those among them that reach beyond what the samples allow around the middle.
    pub wider_bounds: u64,
    /// Hours in which the writes were counted.
    pub hours: u64,
    /// The longest time without a verdict although an honest majority was reachable.
    pub longest_without: Duration,
    /// Pauses that only the servers could show, and had to.
    pub blind_pauses: u64,
    /// Requests that came too soon after a disruption, as they may.
    pub extras: u64,
    /// Steps that the agent has made.
    pub steps: u64,
    /// Clocks that a step has corrected after a disruption.
    pub corrected: u64,
}

/// A time in which the truth may be outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Excuse {
    /// Since the rate has stepped.
    Rate(RateStep),
    /// Since the node was paused, with the raw clock then.
    Pause(Mono),
    /// Since there is another clocksource.
    Clocksource,
}

/// A step of the oscillator's rate that nothing shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RateStep {
    /// The raw clock then.
    since: Mono,
    by: Ppb,
    /// All pools that answer have given a sample since.
    is_sampled: bool,
}

/// Checks a world after each input.
#[derive(Debug)]
pub struct Checker {
    /// Of the world: events, effects and samples that were seen.
    events: usize,
    effects: usize,
    samples: u64,
    /// When samples were last seen.
    sampled: Duration,
    last_look: Duration,
    /// The second of the last look, and the looks in it.
    wakes: (u64, u32),
    step_look: Duration,
    excuses: Vec<Excuse>,
    /// Since when nothing has happened that makes the agent measure again.
    undisturbed_since: Duration,
    /// Since when nothing at all has happened.
    steady_since: Duration,
    /// Since when an honest majority of the pools is reachable.
    healthy_since: Option<Duration>,
    /// Since when there is no verdict although there should be.
    without_since: Option<Duration>,
    /// Falsetickers were the majority when samples were last used.
    is_poisoned: bool,
    /// Until when what they gave may still count.
    poisoned_until: Duration,
    /// Since when names resolve, and for how long a failed look-up may wait.
    resolving_since: Duration,
    writes: VecDeque<Duration>,
    /// The true offset in the last hour, once a minute.
    truths: VecDeque<(Duration, Offset)>,
    /// Servers that may be asked too soon, once.
    extras: BTreeMap<SocketAddr, bool>,
    pauses: PauseRules,
    steps: StepRules,
    /// What was seen.
    pub tally: Tally,
}

impl Checker {
    /// At the start of a world.
    pub fn new(world: &World) -> Self {
        Self {
            events: 0,
            effects: 0,
            samples: 0,
            sampled: Duration::ZERO,
            last_look: world.elapsed(),
            wakes: (0, 0),
            step_look: world.elapsed(),
            excuses: Vec::new(),
            undisturbed_since: Duration::ZERO,
            steady_since: Duration::ZERO,
            healthy_since: None,
            without_since: None,
            is_poisoned: false,
            poisoned_until: Duration::ZERO,
            resolving_since: Duration::ZERO,
            writes: VecDeque::new(),
            truths: VecDeque::new(),
            extras: BTreeMap::new(),
            steps: StepRules::default(),
            pauses: PauseRules::default(),
            tally: Tally::default(),
        }
    }

    /// Checks the world after an input.
    ///
    /// # Errors
    /// The rule that it breaks, in words.
    pub fn check(&mut self, world: &World) -> Result<(), String> {
        self.tally.looks += 1;
        self.count_wakes(world)?;
        self.note_events(world);
        let new = world.effects.get(self.effects..).unwrap_or_default();
        self.steps.check(new, world.elapsed().saturating_sub(self.step_look), world)?;
        self.step_look = world.elapsed();
        (self.tally.steps, self.tally.corrected) = (world.steps.len() as u64, self.steps.corrected);
        self.note_effects(world)?;
        self.check_spacing(world)?;
        self.check_pauses(world)?;
        if world.is_torn {
            // The agent does not know it yet.
            return Ok(());
        }
        // Once for the samples of a round, as far as they come within a second.
        let is_waited_for = world.is_exchanging() && world.elapsed().saturating_sub(self.sampled) < SECOND;
        let has_sample = world.samples != self.samples && !is_waited_for;
        if has_sample {
            (self.samples, self.sampled) = (world.samples, world.elapsed());
        }
        let measured = world.machine.measured(world.reading());
        let is_without = matches!(world.machine.state(), State::Unknown | State::Disagree | State::Disrupted);
        let is_outside = measured.is_some_and(|measured| is_outside(measured, world));
        self.tally.measured += u64::from(measured.is_some());
        if has_sample || is_outside || is_without {
            let health = Health::of(world);
            self.note_health(&health, is_without, world);
            if has_sample || is_outside {
                let snapshot = world.snapshot();
                self.note_honesty(&snapshot, world);
                Self::check_young(&snapshot, world)?;
                if let Some(measured) = measured {
                    self.check_bound(measured, &snapshot, world)?;
                }
            }
            self.check_liveness(&health, is_without, world)?;
        } else {
            self.without_since = None;
        }
        if let Some(measured) = measured.filter(|_| is_outside) {
            self.handle_outside(measured, world)?;
        }
        self.last_look = world.elapsed();
        Ok(())
    }

    fn count_wakes(&mut self, world: &World) -> Result<(), String> {
        let second = world.elapsed().as_secs();
        self.wakes = if self.wakes.0 == second { (second, self.wakes.1 + 1) } else { (second, 1) };
        if self.wakes.1 <= MAX_WAKES {
            Ok(())
        } else {
            Err(format!("{MAX_WAKES} wakes in a second, {}", at(world)))
        }
    }

    fn note_events(&mut self, world: &World) {
        for &(at, kind) in world.happened.get(self.events..).unwrap_or_default() {
            self.steady_since = self.steady_since.max(at);
            if !matches!(kind, Kind::Wall | Kind::Rtc) {
                self.undisturbed_since = self.undisturbed_since.max(at);
            }
            match kind {
                Kind::Rate(by) => {
                    let since = world.reading().raw;
                    self.excuses.push(Excuse::Rate(RateStep { since, by, is_sampled: false }));
                }
                Kind::Pause => self.excuses.push(Excuse::Pause(world.reading().raw)),
                Kind::Clocksource => self.excuses.push(Excuse::Clocksource),
                // A request that was decided before leaves after it.
                Kind::Stall => self.extras = all_of(world),
                // A new process does not know when the one before has asked.
                Kind::Restart => {
                    self.extras = all_of(world);
                    self.excuses.retain(|excuse| *excuse != Excuse::Clocksource);
                }
                _ => {}
            }
        }
        self.events = world.happened.len();
        let (raw, stale_after) = (world.reading().raw, world.settings().stale_after);
        self.excuses.retain_mut(|excuse| match excuse {
            Excuse::Rate(step) => {
                step.is_sampled |= pools_have_samples_since(world, step.since);
                step.is_excused(raw, poll_of(world), stale_after)
            }
            // A pause that is too short to be noticed is over when all samples, and all samples behind the rounds that
            // narrow the estimate, are of after it.
            Excuse::Pause(since) => raw.since(*since) < stale_after * 2 + world.settings().interval,
            Excuse::Clocksource => true,
        });
    }

    fn note_effects(&mut self, world: &World) -> Result<(), String> {
        for (at, effect) in world.effects.get(self.effects..).unwrap_or_default() {
            match effect {
                Effect::Log(LogEvent::Disrupted(detection)) => {
                    let class = detection.disruption.class();
                    if class == Class::Pause {
                        self.note_reported_pause(*detection, world)?;
                    }
                    if matches!(class, Class::Pause | Class::Suspend) {
                        self.excuses.retain(|excuse| !matches!(excuse, Excuse::Pause(_)));
                        self.undisturbed_since = self.undisturbed_since.max(*at);
                    }
                    self.extras = all_of(world);
                }
                Effect::Log(LogEvent::ClocksourceChanged { .. }) => {
                    self.excuses.retain(|excuse| *excuse != Excuse::Clocksource);
                }
                Effect::WriteNode(_) => self.writes.push_back(*at),
                _ => {}
            }
        }
        self.effects = world.effects.len();
        let now = world.elapsed();
        if self.truths.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= SECOND * 60) {
            self.truths.push_back((now, world.truth()));
        }
        while self.truths.front().is_some_and(|(at, _)| now.saturating_sub(*at) > HOUR) {
            self.truths.pop_front();
        }
        while self.writes.front().is_some_and(|at| now.saturating_sub(*at) > HOUR) {
            self.writes.pop_front();
        }
        let settled = self.steady_since.max(self.poisoned_until)
            + HOUR
            + world.settings().interval * INTERVALS_TO_SETTLE;
        if now < settled || !self.is_steady(world) {
            return Ok(());
        }
        self.tally.hours += u64::from(now.as_secs() / 3_600 > self.last_look.as_secs() / 3_600);
        match self.writes.len() {
            count if count > WRITES_AN_HOUR => {
                Err(format!("{count} writes of the Node in an hour, {}", at(world)))
            }
            _ => Ok(()),
        }
    }

    /// How far the true offset has moved in the last hour.
    fn moved(&self) -> Duration {
        let offsets = || self.truths.iter().map(|(_, truth)| truth.as_nanos());
        let moved = offsets().max().zip(offsets().min()).map_or(0, |(high, low)| high.abs_diff(low));
        Duration::from_nanos(moved)
    }

    /// Does nothing change by itself? A clock that drifts crosses the threshold once.
    fn is_steady(&self, world: &World) -> bool {
        let is_quiet = |e: &Endpoint| {
            let slowest = e.path.there + e.path.back + e.path.jitter * 16;
            e.path.loss <= 0.0
                && slowest < world.settings().limits.max_round_trip
                && e.service.model.limit == Limit::None
                && e.service.model.is_honest()
        };
        world.api_errors() <= 0.0
            && self.moved() < world.settings().threshold / 10
            && world.network.endpoints.values().all(is_quiet)
    }

    fn check_spacing(&mut self, world: &World) -> Result<(), String> {
        let least = SPACING.min(world.settings().interval);
        for &(address, before, now) in &world.asked {
            let since = before.map_or(Duration::MAX, |before| now.since(before));
            if since >= least {
                continue;
            }
            if !std::mem::take(self.extras.entry(address).or_default()) {
                return Err(format!("{address} is asked {since:?} after the last request, {}", at(world)));
            }
            self.tally.extras += 1;
        }
        Ok(())
    }

    fn note_health(&mut self, health: &Health, is_without: bool, world: &World) {
        let now = world.elapsed();
        if (0..world.pools()).any(|pool| !world.resolves(pool)) {
            // A failed look-up is repeated a minute later at the latest, and may take some seconds.
            self.resolving_since = now + SECOND * 70;
        }
        let since = self.undisturbed_since.max(self.resolving_since);
        self.healthy_since = health.is_healthy().then(|| self.healthy_since.unwrap_or(now).max(since));
        self.without_since = is_without.then(|| self.without_since.unwrap_or_else(|| world.elapsed()));
    }

    fn note_honesty(&mut self, snapshot: &Snapshot, world: &World) {
        // Three for their samples, and three for the rounds that are made of them and narrow later ones.
        let span = world.settings().interval * 6;
        let had_none_honest = self.is_poisoned;
        // A rate that is learnt from it later is of it, too.
        let was_poisoned = self.is_poisoned || world.elapsed() < self.poisoned_until;
        match honesty(snapshot, world) {
            // What falsetickers gave before counts until there are new samples, and the rate that they showed until the
            // new ones refute it.
            Honesty::None => {}
            honesty @ (Honesty::All | Honesty::Most) => {
                self.tally.honest_majority += u64::from(honesty == Honesty::Most);
                self.is_poisoned = was_poisoned && !is_rate_true(snapshot, world);
            }
            Honesty::Few => {
                self.tally.dishonest += 1;
                self.is_poisoned = true;
            }
        }
        if self.is_poisoned || had_none_honest {
            self.poisoned_until = world.elapsed() + span;
        }
    }

    /// The estimate does not hold the truth.
    fn handle_outside(&mut self, measured: Measurement, world: &World) -> Result<(), String> {
        let span = world.elapsed().saturating_sub(self.last_look);
        if self.excuses.iter().any(|excuse| matches!(excuse, Excuse::Pause(_))) {
            self.tally.outside_after_pause += span;
            return Ok(());
        }
        if self.excuses.contains(&Excuse::Clocksource) {
            self.tally.outside_after_clocksource += span;
            return Ok(());
        }
        if world.elapsed() < self.poisoned_until {
            return Ok(());
        }
        let Measurement { offset, bound } = measured;
        let truth = world.truth();
        let error = offset.as_nanos().abs_diff(truth.as_nanos());
        let beyond = Duration::from_nanos(error.saturating_sub(bound.as_nanos().unsigned_abs()));
        let steps = self.excuses.iter().filter_map(|excuse| match excuse {
            Excuse::Rate(step) => Some(step),
            _ => None,
        });
        // Several steps add up.
        let (excused, are_sampled) = steps.fold((Duration::ZERO, true), |(excused, are_sampled), step| {
            (excused + step.gain(world), are_sampled && step.is_sampled)
        });
        if beyond <= excused {
            let counted = if are_sampled {
                &mut self.tally.outside_after_rate_later
            } else {
                &mut self.tally.outside_after_rate
            };
            *counted += span;
            self.tally.farthest_after_rate = self.tally.farthest_after_rate.max(beyond);
            return Ok(());
        }
        Err(format!("the agent measures {offset:?} {bound:?}, the truth is {truth:?}, {}", at(world)))
    }

    fn check_liveness(&mut self, health: &Health, is_without: bool, world: &World) -> Result<(), String> {
        let (Some(healthy), Some(without)) = (self.healthy_since, self.without_since) else { return Ok(()) };
        if !is_without || world.elapsed() < self.poisoned_until || !health.is_decidable(world) {
            return Ok(());
        }
        let span = world.elapsed().saturating_sub(healthy.max(without).max(self.undisturbed_since));
        self.tally.longest_without = self.tally.longest_without.max(span);
        if span <= Self::longest_without(world) {
            return Ok(());
        }
        Err(format!(
            "{:?} for {span:?} with an honest, reachable majority, {}",
            world.machine.state(),
            at(world)
        ))
    }

    /// The longest time without a verdict.
    fn longest_without(world: &World) -> Duration {
        // An exchange that times out and the spacing after it take longer than a short interval. A server with a limit
        // that was asked too often once does not answer for a while, however long the interval is.
        let has_limits = world.network.endpoints.values().any(|e| e.service.model.limit != Limit::None);
        let least = if has_limits { SECOND * 64 } else { SECOND * 4 };
        world.settings().interval.max(least) * 3 + SECOND * 3
    }

    fn check_young(snapshot: &Snapshot, world: &World) -> Result<(), String> {
        let now = world.reading().raw;
        for server in snapshot.pools.iter().flat_map(|pool| &pool.servers) {
            let sample = world.network.endpoints.get(&server.address).and_then(|e| e.sample);
            let is_young = sample.is_some_and(|sample| now.since(sample.at) < world.settings().stale_after);
            if server.state == ServerState::Reachable && !is_young {
                return Err(format!("{} is reachable without a young sample, {}", server.address, at(world)));
            }
        }
        Ok(())
    }
}

/// The longest time between two polls of the regular rhythm.
fn poll_of(world: &World) -> Duration {
    world.settings().interval.max(SECOND * 4)
}

impl RateStep {
    /// May the truth be outside for it? The samples of an hour show it: sooner on a LAN, and a large step.
    fn is_excused(&self, raw: Mono, poll: Duration, stale_after: Duration) -> bool {
        raw.since(self.since) < HOUR.max(stale_after + poll)
    }

    /// What the clock has gained by it since its samples were last used: in two polls at most once there are any, and
    /// since the newest of them.
    fn gain(&self, world: &World) -> Duration {
        let (raw, poll) = (world.reading().raw, poll_of(world));
        let newest = world.network.endpoints.values().filter_map(|e| Some(e.sample?.at)).max();
        let unsampled = raw.since(newest.unwrap_or(self.since));
        let span = if self.is_sampled { poll * 2 + unsampled } else { raw.since(self.since) };
        Duration::from_nanos(self.by.over(span).unsigned_abs()) + BOUND_SLACK / 10
    }
}

fn is_outside(measured: Measurement, world: &World) -> bool {
    let error = measured.offset.as_nanos().abs_diff(world.truth().as_nanos());
    error > measured.bound.as_nanos().unsigned_abs() + ROUNDING
}

fn all_of(world: &World) -> BTreeMap<SocketAddr, bool> {
    world.network.endpoints.keys().map(|address| (*address, true)).collect()
}

fn at(world: &World) -> String {
    format!("at {:?}", world.elapsed())
}

/// Does the rate that the agent knows allow the true one, as far as that swings?
fn is_rate_true(snapshot: &Snapshot, world: &World) -> bool {
    let rate = i128::from(of_reference(world.clocks.rate()).0);
    snapshot.rate.is_none_or(|known| {
        let swing = i128::from(Ppb::from_ppm(100).0);
        (rate - i128::from(known.middle().0)).abs() <= i128::from(known.bound().0) + swing
    })
}

fn pools_have_samples_since(world: &World, since: Mono) -> bool {
    let has_sample = |pool: usize| {
        let mut own = world.network.endpoints.values().filter(|endpoint| endpoint.pool == pool);
        own.any(|endpoint| endpoint.sample.is_some_and(|sample| sample.at > since))
    };
    // In an outage of everything there is none.
    let mut answering = (0..world.pools()).filter(|pool| !world.network.down.contains(pool)).peekable();
    answering.peek().is_some() && answering.all(has_sample)
}
