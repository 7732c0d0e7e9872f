//! What is on its way in the simulated world: events, results of effects, and the packets of NTP exchanges.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Duration;

use super::events::Event;
use super::network::{address, one_way};
use super::steps::StepFate;
use super::world::{DateHost, World};
use drift_core::http_date::DateSample;
use drift_core::http_date::coarse::HttpDateError;
use drift_core::io::Input;
use drift_core::ntp::cross_check::CrossCheck;
use drift_core::ntp::packet::{NtpTimestamp, request};
use drift_core::ntp::pool::Resolution;
use drift_core::ntp::reject::RejectReason;
use drift_core::ntp::sample::Exchange;
use drift_core::ntp::server::{Answer, Ask, ServerId};
use drift_core::step::stepper::StepOrder;
use drift_core::time::{Mono, NANOS_PER_SEC, Offset, Reading, Wall, nanos};

/// Something that is due at a time.
#[derive(Clone, Debug)]
pub enum Pending {
    /// The result of an effect.
    Ready(Input),
    /// The result of a look-up: servers of the pool by their index.
    Resolved {
        /// The pool.
        pool: usize,
        /// `None`: the look-up has failed.
        found: Option<Vec<usize>>,
        /// Time to live.
        ttl: Duration,
    },
    /// An HTTP request that waits for its send phase.
    AskDate {
        /// Index of the HTTP server.
        source: usize,
        /// Number of the request.
        request: u32,
    },
    /// The answer to an HTTP request.
    Date {
        /// Index of the HTTP server.
        source: usize,
        /// Number of the request.
        request: u32,
        /// The header.
        date: Wall,
        /// The raw clock when the request was sent.
        sent: Mono,
    },
    /// A packet of an NTP exchange.
    Packet {
        /// Which one.
        flight: u64,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// An NTP exchange ends without an answer if its time-out is over.
    TimeOut {
        /// Which one.
        flight: u64,
    },
    /// A step is carried out.
    Step(StepOrder, StepFate),
    /// Something happens.
    Event(Event),
}

/// An NTP exchange under way.
#[derive(Clone, Copy, Debug)]
pub struct Flight {
    pool: usize,
    server: ServerId,
    address: SocketAddr,
    ask: Ask,
    nonce: NtpTimestamp,
    before: Reading,
    /// What the exchange has led to if nothing else comes.
    if_timed_out: RejectReason,
}

impl World {
    /// Starts an exchange with a server.
    pub(super) fn send(&mut self, pool: usize, server: ServerId, address: SocketAddr, ask: Ask) {
        let before = self.read_clocks();
        if let Some(endpoint) = self.network.endpoints.get_mut(&address) {
            self.asked.push((address, endpoint.last_asked.replace(before.raw), before.raw));
        }
        // What stands still or is set now holds the request up.
        let share = match self.in_exchange.take() {
            Some((0, event)) => {
                self.happen(event);
                None
            }
            other => other,
        };
        let nonce = NtpTimestamp(self.rng.u64(..));
        let (leaves, elapsed) = (self.reference(), self.elapsed());
        let returned = self.network.send(address, &request(nonce), leaves, elapsed, &mut self.rng);
        let returned = returned.unwrap_or_default();
        if let Some((percent, event)) = share {
            self.after(returned.after * percent.into() / 100, Pending::Event(event));
        }
        self.next_id += 1;
        let flight = self.next_id;
        let if_timed_out = RejectReason::Timeout;
        self.flights.insert(flight, Flight { pool, server, address, ask, nonce, before, if_timed_out });
        for bytes in returned.packets {
            self.after(returned.after, Pending::Packet { flight, bytes });
        }
        self.after(self.time_out(), Pending::TimeOut { flight });
    }

    fn time_out(&self) -> Duration {
        self.settings().limits.max_round_trip
    }

    pub(super) fn after(&mut self, delay: Duration, pending: Pending) {
        self.push(self.elapsed() + delay, pending);
    }

    pub(super) fn push(&mut self, at: Duration, pending: Pending) {
        self.next_id += 1;
        self.queue.push(Reverse((at, self.next_id)));
        self.pending.insert(self.next_id, pending);
    }

    /// What is due first; `None`: nothing for the agent.
    pub(super) fn arrive(&mut self) -> Option<Input> {
        let Reverse((_, id)) = self.queue.pop()?;
        match self.pending.remove(&id)? {
            Pending::Ready(input) => Some(input),
            Pending::Step(order, fate) => Some(self.carry_out_step(&order, fate)),
            Pending::Resolved { pool, found, ttl } => {
                let resolution = |found: Vec<usize>| Resolution {
                    addresses: found.into_iter().map(|index| address(pool, index)).collect(),
                    ttl: Some(ttl),
                };
                let answer =
                    found.map(resolution).ok_or_else(|| "the simulated name server fails".to_owned());
                Some(Input::Resolved { pool, answer })
            }
            Pending::AskDate { source, request } => self.send_date(source, request),
            Pending::Date { source, request, date, sent } => {
                let answer = Ok(DateSample { date, sent, received: self.reading().raw });
                Some(Input::HttpDateFetched { source, request, answer })
            }
            Pending::Packet { flight, bytes } => self.receive(flight, &bytes),
            Pending::TimeOut { flight } => self.end_flight(flight),
            Pending::Event(event) => {
                self.happen(event);
                None
            }
        }
    }

    /// A packet arrives: the answer, or one that is none.
    fn receive(&mut self, id: u64, bytes: &[u8]) -> Option<Input> {
        let after = self.read_clocks();
        let Flight { pool, server, address, ask, nonce, before, .. } = *self.flights.get(&id)?;
        let (time_out, limits) = (self.time_out(), self.settings().limits_of(pool));
        if after.raw.since(before.raw) > time_out {
            return self.end_flight(id);
        }
        let exchange = Exchange::complete(nonce, before, after, bytes);
        let answer = match ask {
            // The first packet, whoever sent it, ends the exchange of rsntp.
            Ask::CrossCheck => {
                Answer::CrossChecked(exchange.ok().and_then(|exchange| cross_check(&exchange)))
            }
            Ask::Sample => match exchange {
                Err(reason) => {
                    if let Some(flight) = self.flights.get_mut(&id) {
                        flight.if_timed_out = reason;
                    }
                    return None;
                }
                Ok(exchange) => exchange.sample(limits).map_or_else(Answer::Rejected, Answer::Sample),
            },
        };
        self.flights.remove(&id);
        if let Answer::Sample(sample) = answer
            && let Some(endpoint) = self.network.endpoints.get_mut(&address)
        {
            endpoint.sample = Some(sample);
            self.samples += 1;
        }
        Some(Input::Answered { server, answer })
    }

    /// The time-out of an exchange is over by true time; it ends when it is by the raw clock.
    fn end_flight(&mut self, id: u64) -> Option<Input> {
        let Flight { server, ask, before, if_timed_out, .. } = *self.flights.get(&id)?;
        let left = self.time_out().saturating_sub(self.reading().raw.since(before.raw));
        if !left.is_zero() {
            self.after(self.clocks.until_counted(left), Pending::TimeOut { flight: id });
            return None;
        }
        self.flights.remove(&id);
        let answer = match ask {
            Ask::Sample => Answer::Rejected(if_timed_out),
            Ask::CrossCheck => Answer::CrossChecked(None),
        };
        Some(Input::Answered { server, answer })
    }

    /// Sends an HTTP request; one without a server times out.
    fn send_date(&mut self, source: usize, request: u32) -> Option<Input> {
        let sent = self.reading().raw;
        self.date_requests.push((self.elapsed(), source));
        let Some(DateHost { ahead, header_age, path }) = self.date_hosts.get(source).copied() else {
            return Some(Input::HttpDateFetched { source, request, answer: Err(HttpDateError::TimedOut) });
        };
        let there = one_way(path.there, path, &mut self.rng);
        let shift = nanos(there).saturating_sub(nanos(header_age)).saturating_add(ahead.as_nanos());
        let written = self.reference().plus(Offset::from_nanos(shift));
        let date = Wall::from_secs(written.as_nanos().div_euclid(NANOS_PER_SEC));
        let back = one_way(path.back, path, &mut self.rng);
        self.after(there + back, Pending::Date { source, request, date, sent });
        None
    }
}

/// What rsntp makes of an exchange: it measures by the wall clock.
fn cross_check(exchange: &Exchange) -> Option<CrossCheck> {
    let Exchange { sent, received, answer } = exchange;
    answer.validate().ok()?;
    let there = answer.receive.to_wall().minus(sent.wall).as_nanos();
    let back = answer.transmit.to_wall().minus(received.wall).as_nanos();
    let offset = Offset::from_nanos(there.midpoint(back));
    CrossCheck::new(*sent, *received, offset, Offset::from_nanos(there.saturating_sub(back)))
}
