//! Draws what happens in a world.

use std::time::Duration;

use super::{Draw, HOUR, Kind, MINUTE, MS, SECOND};
use crate::sim::behaviour::{Behaviour, ServerModel};
use crate::sim::clocks::Oscillator;
use crate::sim::dns::Zone;
use crate::sim::events::Event;
use crate::sim::manners::Limit;
use crate::sim::network::Host;
use crate::sim::world::Surroundings;
use drift_core::time::{NANOS_PER_SEC, Offset, Ppb};

impl Draw {
    /// What happens, and when; a third of the worlds are steady.
    pub(super) fn events(
        &mut self,
        end: Duration,
        pools: &[Vec<Host>],
        oscillator: Oscillator,
        surroundings: &Surroundings,
    ) -> Vec<(Duration, Event)> {
        let mut events = Vec::new();
        if self.kind == Kind::Quiet || self.one_in(3) {
            self.traits.insert("steady");
            return events;
        }
        for _ in 0..self.rng.usize(1..7) {
            let at = end.mul_f64(self.rng.f64());
            let what = self.rng.u8(0..20);
            let begun = events.len();
            match what {
                0..=2 => {
                    let span = self.spread(Duration::from_millis(20), SECOND * 100);
                    let is_marked = surroundings.has_vmclock && !self.one_in(4);
                    self.note("pause", true);
                    events.push((at, Event::Pause { span, is_marked }));
                }
                3 => {
                    let span = self.spread(SECOND, MINUTE * 10);
                    let left_behind = self.micros(0..900_000);
                    self.note("suspend", true);
                    events.push((at, Event::Suspend { span, left_behind }));
                }
                4 => {
                    let span = self.spread(SECOND, MINUTE * 2);
                    self.note("stall", true);
                    events.push((at, Event::Stall(span)));
                }
                5 => {
                    let by = Offset::from_nanos(self.rng.i64(-5 * NANOS_PER_SEC..5 * NANOS_PER_SEC));
                    self.note("step-by-another", true);
                    events.push((at, Event::Step(by)));
                }
                6 | 7 => {
                    let most = self.rng.choice([500, 500, 83_333]).unwrap_or(500);
                    let rate = Ppb::from_ppm(self.rng.i64(-most..=most));
                    self.note("slew-fast", rate.0.abs() > 20_000_000);
                    self.note("slew", true);
                    let span = self.spread(SECOND, MINUTE * 10);
                    events.push((at, Event::Slew(rate)));
                    events.push((at + span, Event::Slew(Ppb(-oscillator.error.0))));
                }
                8 | 9 => {
                    // A hardware clock may show a larger step as a pause: such a crystal is rare.
                    let most = if surroundings.has_rtc { 200 } else { 500 };
                    let by = Ppb::from_ppm(self.rng.i64(-most..=most));
                    let error = Ppb(oscillator.error.0 + by.0);
                    let is_shown = what == 9;
                    self.note(if is_shown { "clocksource" } else { "rate-step" }, true);
                    events.push((at, if is_shown { Event::Clocksource(error) } else { Event::Rate(error) }));
                }
                10 | 18 => self.change_rtc(at, surroundings, &mut events),
                11 | 12 => {
                    let pool = self.rng.bool().then(|| self.rng.usize(0..pools.len()));
                    self.note(if pool.is_some() { "outage-of-a-pool" } else { "outage-of-all" }, true);
                    let span = self.spread(SECOND * 10, MINUTE * 20);
                    events.push((at, Event::Outage(pool)));
                    events.push((at + span, Event::Return(pool)));
                }
                13 => self.change_server(at, pools, &mut events),
                14 => {
                    let pool = self.rng.usize(0..pools.len());
                    let servers = pools.get(pool).map_or(1, Vec::len);
                    let mut zone = self.zone(servers);
                    zone.first = self.rng.usize(0..servers);
                    self.note("dns-moves", servers > 1);
                    events.push((at, Event::Name(pool, zone)));
                }
                15 => {
                    let pool = self.rng.usize(0..pools.len());
                    let failing = Zone { fails: true, ..Zone::default() };
                    let zone = self.zone(pools.get(pool).map_or(1, Vec::len));
                    let span = self.spread(SECOND * 10, HOUR);
                    self.note("dns-fails", true);
                    events.push((at, Event::Name(pool, failing)));
                    events.push((at + span, Event::Name(pool, zone)));
                }
                16 => {
                    let (pool, round_trip) = (self.rng.usize(0..pools.len()), self.distance());
                    for index in 0..pools.get(pool).map_or(0, Vec::len) {
                        let path = self.path(round_trip);
                        events.push((at, Event::Route(pool, index, path)));
                    }
                    self.note("route-changes", true);
                }
                17 => {
                    self.note("request", true);
                    events.push((at, Event::Request(self.rng.u32(0..3))));
                }
                _ => {
                    self.note("restart", true);
                    events.push((at, Event::Restart));
                }
            }
            if what <= 9 && self.one_in(2) {
                self.put_in_exchange(begun, &mut events);
            }
        }
        events.sort_by_key(|(at, _)| *at);
        events
    }

    /// The only event of a world.
    pub(super) fn late_pause(&mut self, end: Duration, surroundings: &Surroundings) -> (Duration, Event) {
        let at = end.mul_f64(0.5 + 0.4 * self.rng.f64());
        let span = self.spread(SECOND, SECOND * 100);
        self.traits.insert("pause");
        (at, Event::Pause { span, is_marked: surroundings.has_vmclock })
    }

    /// The hardware clock is set, also to local time, or stands still.
    fn change_rtc(&mut self, at: Duration, surroundings: &Surroundings, events: &mut Vec<(Duration, Event)>) {
        let near = self.rng.i64(-MS..MS);
        let event = match self.rng.u8(0..4) {
            0 => {
                self.note("rtc-stops", surroundings.has_rtc);
                Event::StopRtc
            }
            1 => {
                self.note("rtc-local-time", surroundings.has_rtc);
                let zone = self.rng.i64(-56..=56) * 900 * NANOS_PER_SEC;
                Event::WriteRtc(Offset::from_nanos(zone + near))
            }
            _ => Event::WriteRtc(Offset::from_nanos(near)),
        };
        events.push((at, event));
    }

    /// Lets what begins there happen in the midst of an exchange.
    fn put_in_exchange(&mut self, begun: usize, events: &mut [(Duration, Event)]) {
        let percent = if self.one_in(3) { 0 } else { self.rng.u8(1..100) };
        let Some((_, event)) = events.get_mut(begun) else { return };
        *event = Event::InExchange(percent, Box::new(event.clone()));
        self.note(if percent == 0 { "request-held-up" } else { "in-exchange" }, true);
    }

    /// A server changes: it stops to answer, limits its clients for a while, is wrong, or is honest again.
    fn change_server(&mut self, at: Duration, pools: &[Vec<Host>], events: &mut Vec<(Duration, Event)>) {
        let pool = self.rng.usize(0..pools.len());
        let Some(hosts) = pools.get(pool) else { return };
        let index = self.rng.usize(0..hosts.len());
        let Some(host) = hosts.get(index) else { return };
        let until = at + self.spread(MINUTE, MINUTE * 40);
        let changed = match self.rng.u8(0..4) {
            0 => {
                self.note("kisses-that-end", true);
                let limit = self.rng.choice([Limit::KISSES, Limit::KISS_AND_DROP, Limit::KISS_AND_DROPS]);
                let changed =
                    ServerModel { limit: limit.unwrap_or_default(), limited_for: Some(until), ..host.model };
                // A whole pool behind one address refuses as one.
                let others = (0..hosts.len()).filter(|n| *n != index);
                events.extend(others.filter_map(|n| {
                    let model = ServerModel {
                        limit: changed.limit,
                        limited_for: changed.limited_for,
                        ..hosts.get(n)?.model
                    };
                    Some((at, Event::Serve(pool, n, model)))
                }));
                events.push((at, Event::Serve(pool, index, changed)));
                return;
            }
            1 => ServerModel { behaviour: Behaviour::Silent, ..host.model },
            2 => ServerModel { behaviour: Behaviour::LeapInsert, ..host.model },
            _ => ServerModel { behaviour: self.lie(), ..host.model },
        };
        self.note("server-changes", true);
        events.push((at, Event::Serve(pool, index, changed)));
        events.push((until, Event::Serve(pool, index, host.model)));
    }
}
