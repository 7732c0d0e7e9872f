//! What happens to a simulated node and its surroundings at a given time, also in the midst of an exchange.

use std::time::Duration;

use super::behaviour::ServerModel;
use super::clocks::of_reference;
use super::dns::Zone;
use super::exchange::Pending;
use super::network::Path;
use super::world::World;
use drift_core::io::Input;
use drift_core::step::policy::RequestedBy;
use drift_core::time::{Offset, Ppb};

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// The hypervisor pauses the node; its kernel does not notice. Where there is a vmclock, it may show this.
    Pause {
        /// For how long.
        span: Duration,
        /// The vmclock shows it.
        is_marked: bool,
    },
    /// The node is suspended; its kernel notices.
    Suspend {
        /// For how long.
        span: Duration,
        /// How far the kernel leaves the wall clock behind.
        left_behind: Duration,
    },
    /// The agent does not run for so long, and the node does.
    Stall(Duration),
    /// Another process steps the wall clock; positive: forward.
    Step(Offset),
    /// Another process slews the wall clock from now on.
    Slew(Ppb),
    /// The oscillator has another constant error from now on.
    Rate(Ppb),
    /// The kernel counts time by another clocksource from now on, with this constant error.
    Clocksource(Ppb),
    /// The hardware clock is set to the wall clock plus this.
    WriteRtc(Offset),
    /// The hardware clock stands still from now on.
    StopRtc,
    /// The servers of a pool, or of all pools with their names, cannot be reached.
    Outage(Option<usize>),
    /// They can be again.
    Return(Option<usize>),
    /// A server is another from now on: pool, index, model.
    Serve(usize, usize, ServerModel),
    /// The path to a server is another from now on: pool, index, path.
    Route(usize, usize, Path),
    /// A pool's name is answered in another way from now on.
    Name(usize, Zone),
    /// The agent ends, and starts again with what it has left on the Node.
    Restart,
    /// An operator requests a step by annotation, with this number.
    Request(u32),
    /// Share of the requests to the API server that fail from now on.
    ApiErrors(f64),
    /// This happens in the midst of the next exchange, after such a share of its round trip, in percent; at 0 it holds
    /// the request up, which leaves afterwards.
    InExchange(u8, Box<Event>),
}

/// The kinds of events, for the checks of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The node stood still, and its kernel does not know it.
    Pause,
    /// The node stood still, and its kernel knows it.
    Suspend,
    /// The agent did not run.
    Stall,
    /// The wall clock was stepped or begins to be slewed.
    Wall,
    /// The oscillator's rate has stepped by this, in either direction, and nothing shows it.
    Rate(Ppb),
    /// There is another clocksource, which the next observation shows.
    Clocksource,
    /// The hardware clock was set.
    Rtc,
    /// Servers, paths, names or the API server have changed.
    Surroundings,
    /// The agent was started again.
    Restart,
    /// An operator requests a step.
    Request,
}

impl Event {
    /// Its kind, where the oscillator runs at `rate` until then; `None`: nothing has happened yet.
    pub fn kind(&self, rate: Ppb) -> Option<Kind> {
        Some(match self {
            Self::Pause { .. } => Kind::Pause,
            Self::Suspend { .. } => Kind::Suspend,
            Self::Stall(_) => Kind::Stall,
            Self::Step(_) | Self::Slew(_) => Kind::Wall,
            Self::Rate(error) => {
                let [before, after] = [rate, *error].map(of_reference);
                Kind::Rate(Ppb(after.0.saturating_sub(before.0).saturating_abs()))
            }
            Self::Clocksource(_) => Kind::Clocksource,
            Self::WriteRtc(_) | Self::StopRtc => Kind::Rtc,
            Self::Outage(_)
            | Self::Return(_)
            | Self::Serve(..)
            | Self::Route(..)
            | Self::Name(..)
            | Self::ApiErrors(_) => Kind::Surroundings,
            Self::Restart => Kind::Restart,
            Self::Request(_) => Kind::Request,
            Self::InExchange(..) => return None,
        })
    }
}

impl World {
    /// It happens now.
    pub fn happen(&mut self, event: Event) {
        let kind = event.kind(self.clocks.rate());
        let pools = 0..self.pools();
        match event {
            Event::Pause { span, is_marked } => {
                self.clocks.pause(span);
                self.pauses.push((self.elapsed(), span));
                self.marker += u64::from(is_marked);
            }
            Event::Suspend { span, left_behind } => {
                self.clocks.suspend(span, left_behind);
                self.clock_was_set = true;
            }
            Event::Stall(span) => {
                let end = self.elapsed() + span;
                self.clocks.pass_until(end);
            }
            Event::Step(by) => {
                self.clocks.step_wall(by);
                self.clock_was_set = true;
            }
            Event::Slew(rate) => self.clocks.slew_wall(rate),
            Event::Rate(error) => self.clocks.set_rate(error),
            Event::Clocksource(error) => {
                self.clocks.set_rate(error);
                self.clocksource += 1;
            }
            Event::WriteRtc(ahead) => self.clocks.write_rtc(ahead),
            Event::StopRtc => self.clocks.stop_rtc(),
            Event::Outage(Some(pool)) => {
                self.network.down.insert(pool);
            }
            Event::Outage(None) => {
                self.network.down.extend(pools);
                self.names_fail = true;
            }
            Event::Return(Some(pool)) => {
                self.network.down.remove(&pool);
            }
            Event::Return(None) => {
                self.network.down.clear();
                self.names_fail = false;
            }
            Event::Serve(pool, index, model) => self.change(pool, index, model),
            Event::Route(pool, index, path) => self.reroute(pool, index, path),
            Event::Name(pool, zone) => {
                if let Some(old) = self.zones.get_mut(pool) {
                    *old = zone;
                }
            }
            Event::Restart => self.restart(),
            Event::Request(id) => {
                let by = RequestedBy::Annotation(id.to_string());
                self.after(Duration::ZERO, Pending::Ready(Input::StepRequested { by }));
            }
            Event::ApiErrors(share) => self.set_api_errors(share),
            Event::InExchange(percent, event) => self.in_exchange = Some((percent, *event)),
        }
        // What takes time has happened when it is over.
        if let Some(kind) = kind {
            self.happened.push((self.elapsed(), kind));
        }
    }
}
