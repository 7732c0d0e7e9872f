//! Draws a world over all dimensions: pools, paths, servers, names, clocks, what happens, and how the agent is set.

mod events;
mod machine;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::sim::behaviour::{Behaviour, Clocks, Reference, ServerModel, Stray};
use crate::sim::dns::{Rotation, Zone};
use crate::sim::manners::Limit;
use crate::sim::network::{Host, Path};
use crate::sim::world::{Plan, World, default_settings};
use drift_core::machine::Settings;
use drift_core::step::policy::Mode;
use drift_core::time::{HOUR, NANOS_PER_SEC, Offset, Ppb, Wall, nanos};

const MS: i64 = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// 2024-01-01, and 2160-01-01: reference time is in between.
const PRESENT: std::ops::Range<i64> = 1_704_067_200..5_995_900_000;
/// Half an hour before NTP's first era ends.
const ERA_END: i64 = 2_085_978_496 - 1_800;

/// The interesting values of the dimensions, and in how many of a thousand worlds each is at least.
pub const DIMENSIONS: [(&str, u64); 65] = [
    ("anycast", 250),
    ("api-errors", 60),
    ("clocksource", 50),
    ("day", 1),
    ("dishonest-pools", 30),
    ("dns-fails", 50),
    ("dns-moves", 50),
    ("dns-rotates", 200),
    ("dns-ttl-0", 150),
    ("dns-ttl-day", 150),
    ("dry-run", 10),
    ("era-ends", 50),
    ("falsetickers", 90),
    ("far", 200),
    ("hours", 70),
    ("in-exchange", 150),
    ("interval-long", 50),
    ("interval-short", 90),
    ("kisses-that-end", 15),
    ("last-step", 80),
    ("limit-chrony", 40),
    ("limit-every-other", 40),
    ("limit-kiss-and-drop", 40),
    ("limit-ntpd", 70),
    ("no-daemon", 100),
    ("no-signals", 50),
    ("one-pause", 50),
    ("one-pool", 40),
    ("one-server-for-all", 10),
    ("other-year", 50),
    ("outage-of-a-pool", 50),
    ("outage-of-all", 50),
    ("pause", 150),
    ("quiet", 20),
    ("rack", 250),
    ("rate-500", 180),
    ("rate-percents", 40),
    ("rate-step", 50),
    ("request-held-up", 80),
    ("request", 50),
    ("restart", 50),
    ("route-changes", 50),
    ("rtc-coarse", 15),
    ("rtc-local-time", 25),
    ("rtc-own-rate", 250),
    ("rtc-stops", 25),
    ("server-changes", 40),
    ("slew", 100),
    ("slew-fast", 25),
    ("stall", 50),
    ("steady", 150),
    ("step-by-another", 50),
    ("steps", 150),
    ("steps-by-daemon", 100),
    ("steps-denied", 30),
    ("steps-doubled", 30),
    ("steps-partly", 30),
    ("steps-raced", 30),
    ("steps-without-effect", 30),
    ("stray-packets", 250),
    ("suspend", 50),
    ("swing-10-ppm-an-hour", 70),
    ("three-pools-or-more", 180),
    ("useless-server", 100),
    ("vmclock", 100),
];

/// A drawn world.
#[derive(Debug)]
pub struct Drawn {
    /// The world at its start; what happens in it is scheduled.
    pub world: World,
    /// When it ends.
    pub end: Duration,
    /// Which dimensions have an interesting value.
    pub traits: BTreeSet<&'static str>,
}

struct Draw {
    rng: fastrand::Rng,
    kind: Kind,
    traits: BTreeSet<&'static str>,
}

/// What kind of a world it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Anything may happen.
    Any,
    /// Nothing happens, nothing is lost, and every server is honest: for the rules about steady worlds.
    Quiet,
    /// The same with near servers, but for one pause long after the start: for the rules about what has to follow.
    OnePause,
}

/// Draws the world of this seed.
pub fn draw(seed: u64) -> Drawn {
    let mut rng = fastrand::Rng::with_seed(seed);
    let kind = match rng.u8(0..20) {
        0 => Kind::Quiet,
        1 | 2 => Kind::OnePause,
        _ => Kind::Any,
    };
    let mut draw = Draw { rng, kind, traits: BTreeSet::new() };
    draw.note("quiet", kind == Kind::Quiet);
    draw.note("one-pause", kind == Kind::OnePause);
    let settings = draw.settings();
    let (pools, zones) = draw.pools(&settings);
    let oscillator = draw.oscillator();
    let surroundings = draw.surroundings(zones, oscillator);
    let (present, offset) = draw.times();
    let rng = &mut draw.rng;
    let rtc_ahead = Offset::from_nanos(rng.i64(-3 * NANOS_PER_SEC..3 * NANOS_PER_SEC));
    let has_api_errors = rng.u8(0..8) == 0 && kind == Kind::Any;
    let api_errors = if has_api_errors { rng.f64() * 0.5 } else { 0.0 };
    let end = draw.span(settings.interval);
    let events = match draw.kind {
        Kind::OnePause => vec![draw.late_pause(end, &surroundings)],
        Kind::Any | Kind::Quiet => draw.events(end, &pools, oscillator, &surroundings),
    };
    draw.note("api-errors", has_api_errors);
    let plan =
        Plan { seed, present, offset, oscillator, rtc_ahead, pools, settings, api_errors, steps_work: true };
    let mut world = World::with(plan, surroundings);
    if kind != Kind::Any || draw.rng.u8(0..4) > 0 {
        // A daemon disciplines the wall clock, more or less well.
        let left = draw.rng.i64(-2_000..2_000);
        world.slew_wall(Ppb(left - oscillator.error.0));
    } else {
        draw.traits.insert("no-daemon");
    }
    for (at, event) in events {
        world.schedule(at, event);
    }
    Drawn { world, end, traits: draw.traits }
}

impl Draw {
    fn note(&mut self, name: &'static str, is_so: bool) {
        if is_so {
            self.traits.insert(name);
        }
    }

    /// One in `n`.
    fn one_in(&mut self, n: u32) -> bool {
        self.rng.u32(0..n) == 0
    }

    fn micros(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_micros(self.rng.u64(range))
    }

    /// Each order of magnitude as often as any other.
    fn spread(&mut self, low: Duration, high: Duration) -> Duration {
        let (low, high) = (low.as_secs_f64().ln(), high.as_secs_f64().ln());
        Duration::from_secs_f64((low + (high - low) * self.rng.f64()).exp())
    }

    fn settings(&mut self) -> Settings {
        let mut settings = default_settings();
        let intervals = [1, 2, 5, 16, 30, 64, 64, 64, 64, 64, 128, 256, 600, 1_024];
        let shortest = match self.kind {
            Kind::Any => 1,
            Kind::Quiet => 64,
            Kind::OnePause => 16,
        };
        let interval = Duration::from_secs(self.rng.choice(intervals).unwrap_or(64).max(shortest));
        settings.interval = interval;
        let least = interval * 3;
        settings.stale_after =
            if self.one_in(4) { least.max(SECOND) } else { settings.stale_after.max(least) };
        settings.threshold = Duration::from_millis(self.rng.choice([20, 100, 100, 100, 500]).unwrap_or(100));
        settings.servers_per_pool = self.rng.choice([1, 2, 4, 4, 4]).unwrap_or(4);
        if self.one_in(if self.kind == Kind::OnePause { 2 } else { 3 }) {
            settings.step.mode = Mode::Kernel;
            settings.step.min_offset =
                Duration::from_millis(self.rng.choice([10, 100, 100, 500]).unwrap_or(100));
            settings.step.cooldown =
                Duration::from_secs(self.rng.choice([0, 10, 300, 300, 1_800]).unwrap_or(300));
            settings.step.dry_run = self.one_in(12);
            self.traits.insert("steps");
            self.note("dry-run", settings.step.dry_run);
        }
        self.note("interval-short", interval < SECOND * 16);
        self.note("interval-long", interval > SECOND * 256);
        settings
    }

    /// Mostly minutes to an hour, few a day; as many rounds as are worth their time.
    fn span(&mut self, interval: Duration) -> Duration {
        let most = match self.kind {
            Kind::Any => (interval * 400).clamp(MINUTE * 10, HOUR * 24),
            Kind::Quiet | Kind::OnePause => HOUR * 6,
        };
        let (low, high) = match self.rng.u8(0..200) {
            _ if self.kind == Kind::Quiet => (HOUR * 3, HOUR * 6),
            _ if self.kind == Kind::OnePause => (HOUR, HOUR * 3 / 2),
            0 | 1 => (HOUR * 12, HOUR * 24),
            2..=12 => (HOUR * 2, HOUR * 6),
            _ => (MINUTE * 3, HOUR),
        };
        let span = self.spread(low, high).max(interval * 10).min(most);
        self.note("day", span >= HOUR * 12);
        self.note("hours", span >= HOUR * 2);
        span
    }

    fn times(&mut self) -> (Wall, Offset) {
        let present = match self.rng.u8(0..8) {
            0 => {
                self.traits.insert("era-ends");
                ERA_END
            }
            1 | 2 => self.rng.i64(PRESENT),
            _ => 1_795_341_600,
        };
        let offset = Offset::from_nanos(match self.rng.u8(0..8) {
            0 | 1 => 0,
            2 | 3 => self.rng.i64(-90 * MS..90 * MS),
            4 => self.rng.i64(-600 * MS..600 * MS),
            5 | 6 => self.rng.i64(-100 * NANOS_PER_SEC..100 * NANOS_PER_SEC),
            // A node without a battery, or one far ahead: from 1960 to 2260 all the same.
            _ => {
                self.traits.insert("other-year");
                self.rng.i64(-60 * 31_557_600..60 * 31_557_600) * NANOS_PER_SEC
            }
        });
        (Wall::from_secs(present), offset)
    }

    /// The pools and how their names are answered.
    fn pools(&mut self, settings: &Settings) -> (Vec<Vec<Host>>, Vec<Zone>) {
        let count = self.rng.choice([1, 2, 2, 2, 2, 2, 3, 3, 4, 5]).unwrap_or(2);
        self.note("one-pool", count == 1);
        self.note("three-pools-or-more", count >= 3);
        // Most worlds are honest; in some a few servers are not, in others a whole pool or more.
        let (falsetickers, dishonest_pools) = match self.rng.u8(0..10) {
            _ if self.kind != Kind::Any => (false, 0),
            0..=1 => (true, 0),
            2 => (false, self.rng.usize(0..=count)),
            _ => (false, 0),
        };
        self.note("falsetickers", falsetickers);
        self.note("dishonest-pools", dishonest_pools > 0);
        let is_limited = self.kind == Kind::Any && self.one_in(4);
        let mut pools = Vec::new();
        let mut zones = Vec::new();
        for pool in 0..count {
            let servers = if self.one_in(3) { self.rng.usize(4..13) } else { self.rng.usize(1..5) };
            let round_trip = self.distance();
            let mut hosts: Vec<Host> = (0..servers).map(|_| self.host(round_trip)).collect();
            if is_limited {
                let limit = self.limit();
                for host in &mut hosts {
                    host.model.limit = limit;
                }
            }
            let zone = self.zone(servers);
            let voting = settings.servers_per_pool.min(zone.in_answer).min(servers);
            let wrong = if pool < dishonest_pools {
                servers
            } else if falsetickers {
                self.rng.usize(0..voting.div_ceil(2))
            } else {
                0
            };
            let lie = self.lie();
            for host in hosts.iter_mut().take(wrong) {
                host.model.behaviour = if pool < dishonest_pools { lie } else { self.lie() };
            }
            if self.kind == Kind::Any && self.one_in(6) && servers > 2 {
                let useless = self.useless();
                if let Some(host) = hosts.last_mut() {
                    host.model.behaviour = useless;
                }
                self.traits.insert("useless-server");
            }
            pools.push(hosts);
            zones.push(zone);
        }
        if self.one_in(30) && count > 1 {
            // A router that answers all NTP itself.
            self.traits.insert("one-server-for-all");
            let model = ServerModel { reference: Reference::Shared(7), stratum: 3, ..honest() };
            pools.iter_mut().flatten().for_each(|host| host.model = model);
        }
        (pools, zones)
    }

    /// A round trip: from the same rack to the far end of a satellite link.
    fn distance(&mut self) -> Duration {
        let round_trip = match self.rng.u8(0..8) {
            // Every server shows a loss of a second.
            _ if self.kind == Kind::OnePause => self.micros(300..16_000),
            0 | 1 => self.micros(300..1_000),
            2..=4 => self.micros(1_000..20_000),
            5 => self.micros(20_000..100_000),
            6 => self.micros(100_000..300_000),
            _ => self.micros(300_000..700_000),
        };
        self.note("rack", round_trip < Duration::from_millis(1));
        self.note("far", round_trip > Duration::from_millis(150));
        round_trip
    }

    fn path(&mut self, round_trip: Duration) -> Path {
        let share = if self.one_in(4) { self.rng.f64() } else { 0.45 + 0.1 * self.rng.f64() };
        let jitter = round_trip.mul_f64(if self.one_in(6) { 0.3 } else { 0.02 } * self.rng.f64());
        let loss = if self.kind == Kind::Any && self.one_in(3) { self.rng.f64() * 0.1 } else { 0.0 };
        let there = round_trip.mul_f64(share);
        Path { there, back: round_trip.saturating_sub(there), jitter, loss }
    }

    fn host(&mut self, round_trip: Duration) -> Host {
        let own = round_trip.mul_f64(0.8 + 0.4 * self.rng.f64());
        let path = self.path(own);
        let mut model = honest();
        model.root_dispersion = self.spread(Duration::from_micros(10), Duration::from_millis(5));
        model.root_delay = self.micros(0..5_000);
        model.stratum = self.rng.u8(1..4);
        let within = nanos(model.root_dispersion);
        model.clocks = match self.rng.u8(0..24) {
            0 => Clocks::InTurn(Offset::from_nanos(self.rng.i64(-within..=within))),
            1 => Clocks::AtRandom(Offset::from_nanos(self.rng.i64(-within..=within))),
            _ => Clocks::One,
        };
        self.note("anycast", model.clocks != Clocks::One);
        model.reference = match self.rng.u8(0..8) {
            0 => Reference::Zero,
            1 => Reference::OfAnswer,
            _ => Reference::Own,
        };
        let strays = [Stray::WrongOrigin, Stray::Short, Stray::Empty, Stray::ForgedKiss, Stray::All];
        if self.one_in(12) {
            model.stray = self.rng.choice(strays).unwrap_or_default();
            self.traits.insert("stray-packets");
        }
        Host { model, path }
    }

    fn limit(&mut self) -> Limit {
        let limits = [
            ("limit-ntpd", Limit::NTPD),
            ("limit-ntpd", Limit::NTPD),
            ("limit-chrony", Limit::CHRONY),
            ("limit-every-other", Limit::EVERY_OTHER),
            ("limit-kiss-and-drop", Limit::KISS_AND_DROP),
        ];
        let (name, limit) = self.rng.choice(limits).unwrap_or_default();
        self.note(name, true);
        limit
    }

    fn zone(&mut self, servers: usize) -> Zone {
        let ttl = Duration::from_secs(self.rng.choice([0, 30, 60, 150, 300, 3_600, 86_400]).unwrap_or(300));
        let rotation = match self.rng.u8(0..6) {
            0 => Rotation::EachLookup,
            1 => Rotation::Random,
            2 => Rotation::Every(Duration::from_secs(150)),
            _ => Rotation::Fixed,
        };
        let in_answer = if self.one_in(3) { self.rng.usize(1..=4) } else { 4 };
        self.note("dns-rotates", rotation != Rotation::Fixed && in_answer < servers);
        self.note("dns-ttl-0", ttl.is_zero());
        self.note("dns-ttl-day", ttl > HOUR);
        let delay = self.micros(1_000..80_000);
        Zone { ttl, in_answer, rotation, delay, ..Zone::default() }
    }

    fn lie(&mut self) -> Behaviour {
        let far = Offset::from_nanos(self.rng.i64(-20 * NANOS_PER_SEC..20 * NANOS_PER_SEC));
        let near = Offset::from_nanos(self.rng.i64(-40 * MS..40 * MS));
        match self.rng.u8(0..6) {
            0 => Behaviour::Offset(far),
            1 => Behaviour::Offset(near),
            2 => Behaviour::Drifting(Ppb::from_ppm(self.rng.i64(-20_000..20_000))),
            3 => Behaviour::Drifting(Ppb::from_ppm(self.rng.i64(-200..200))),
            4 => Behaviour::Alternating(far),
            _ => Behaviour::Alternating(near),
        }
    }

    fn useless(&mut self) -> Behaviour {
        self.rng.choice(Behaviour::USELESS).unwrap_or(Behaviour::Silent)
    }
}

fn honest() -> ServerModel {
    ServerModel::new(Behaviour::Honest)
}
