//! How a simulated NTP server behaves, correctly or not: one list for the simulated world and for real
//! sockets.

use std::time::Duration;

use super::manners::{Admission, Limit};
use super::service::Moment;
use drift_core::ntp::packet::{Header, Leap, MODE_SERVER, NtpTimestamp};
use drift_core::time::{NANOS_PER_SEC, Offset, Ppb, Wall};

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// Reports its time correctly.
    Honest,
    /// Its clock is off by this, which its root dispersion does not show.
    Offset(Offset),
    /// Its clock has this frequency error.
    Drifting(Ppb),
    /// Every second answer is off by this.
    Alternating(Offset),
    /// Reports stratum 16.
    Stratum16,
    /// Reports by its leap indicator that it is not synchronised.
    LeapAlarm,
    /// Announces a leap second.
    LeapInsert,
    /// Sends a kiss-o'-death with this code.
    Kiss([u8; 4]),
    /// Sends a kiss-o'-death with this code and the origin of another request.
    ForgedKiss([u8; 4]),
    /// The transmit timestamp is zero.
    ZeroTransmit,
    /// Both of its timestamps are zero: the round trip looks right.
    ZeroBoth,
    /// The transmit timestamp is before the receive timestamp.
    Swapped,
    /// A root dispersion of 15 s.
    HugeRootDispersion,
    /// Never answers.
    Silent,
    /// Sends every answer twice.
    Twice,
    /// Sends the origin of another request.
    WrongOrigin,
    /// Sends a broadcast instead of an answer (rsntp accepts it).
    Broadcast,
    /// Sends so many meaningless bytes.
    Garbage(usize),
}

/// Which clock, if any, an answer names as its source: reference timestamp, reference ID and root fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reference {
    /// One of its own, by the server's address: corrected at a time, and at a fraction of a second, that no
    /// other has.
    #[default]
    Own,
    /// The one with this number: all servers that share it are one clock, as where a router answers all NTP
    /// itself.
    Shared(u32),
    /// None: the reference timestamp is zero.
    Zero,
    /// The reference timestamp is the time of the answer, as some appliances write it.
    OfAnswer,
}

/// How many clocks there are behind the server's address, as behind anycast or a load balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clocks {
    /// One.
    #[default]
    One,
    /// Two, which answer in turn; the second is off by this.
    InTurn(Offset),
    /// Two, one of which answers at random; the second is off by this.
    AtRandom(Offset),
}

/// Packets that come before the answer, and are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stray {
    /// None.
    #[default]
    None,
    /// An answer to another request.
    WrongOrigin,
    /// An answer that is cut off.
    Short,
    /// A packet without content.
    Empty,
    /// A kiss-o'-death `DENY` for another request.
    ForgedKiss,
    /// One of each.
    All,
}

/// A server's clock and behaviour.
#[derive(Clone, Copy, Debug)]
pub struct ServerModel {
    /// How it behaves.
    pub behaviour: Behaviour,
    /// The root delay that it reports.
    pub root_delay: Duration,
    /// The root dispersion that it reports: with half the root delay, true for an honest server.
    pub root_dispersion: Duration,
    /// Its stratum.
    pub stratum: u8,
    /// How it limits each client.
    pub limit: Limit,
    /// How long after its start the limit ends; `None`: never.
    pub limited_for: Option<Duration>,
    /// The clocks behind its address.
    pub clocks: Clocks,
    /// The clock that its answers name.
    pub reference: Reference,
    /// What comes before its answers.
    pub stray: Stray,
}

impl Behaviour {
    /// Those whose answers must never count as samples.
    pub const USELESS: [Self; 14] = [
        Self::Stratum16,
        Self::LeapAlarm,
        Self::Kiss(*b"RATE"),
        Self::Kiss(*b"DENY"),
        Self::ForgedKiss(*b"DENY"),
        Self::ZeroTransmit,
        Self::ZeroBoth,
        Self::Swapped,
        Self::HugeRootDispersion,
        Self::Silent,
        Self::WrongOrigin,
        Self::Broadcast,
        Self::Garbage(7),
        Self::Garbage(48),
    ];
}

impl ServerModel {
    /// A primary server with this behaviour, one clock and no limit.
    pub const fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            root_delay: Duration::ZERO,
            root_dispersion: Duration::from_micros(50),
            stratum: 1,
            limit: Limit::None,
            limited_for: None,
            clocks: Clocks::One,
            reference: Reference::Own,
            stray: Stray::None,
        }
    }

    /// The limit in force so long after the start.
    pub fn limit_at(&self, uptime: Duration) -> Limit {
        if self.limited_for.is_some_and(|span| uptime >= span) { Limit::None } else { self.limit }
    }

    /// The header of the right answer to the request `asked`.
    ///
    /// `error`: of the server's clock; `name`: of that clock, for [`Reference::Own`].
    fn header(&self, asked: &Header, at: Moment, error: Offset, name: u32) -> Header {
        let stamp = |wall: Wall| NtpTimestamp::from_unix_nanos(wall.plus(error).as_nanos());
        let (reference, reference_id, age) = match self.reference {
            Reference::Zero => (NtpTimestamp::ZERO, *b"SIM\0", Duration::ZERO),
            Reference::OfAnswer => (stamp(at.transmit), *b"SIM\0", Duration::ZERO),
            Reference::Own => self.corrected(at.receive.plus(error), name),
            Reference::Shared(name) => self.corrected(at.receive.plus(error), name),
        };
        Header {
            leap: Leap::None,
            version: 4,
            mode: MODE_SERVER,
            stratum: self.stratum,
            precision: -24,
            root_delay: self.root_delay,
            // RFC 5905 section 4: a clock's error grows by 15 ppm.
            root_dispersion: self.root_dispersion + age.mul_f64(15e-6),
            reference_id,
            reference,
            origin: asked.transmit,
            receive: stamp(at.receive),
            transmit: stamp(at.transmit),
        }
    }

    /// When the clock of this name was last corrected, by which source, and how long ago.
    fn corrected(&self, now: Wall, name: u32) -> (NtpTimestamp, [u8; 4], Duration) {
        let mut rng = fastrand::Rng::with_seed(name.into());
        let every = rng.i64(16..64) * NANOS_PER_SEC;
        let phase = rng.i64(1..every);
        let age = (now.as_nanos() - phase).rem_euclid(every);
        // rsntp rejects the answer of a primary server whose reference ID is no text.
        let id =
            if self.stratum == 1 { [(); 4].map(|()| rng.u8(b'A'..=b'Z')) } else { rng.u32(..).to_be_bytes() };
        let reference = NtpTimestamp::from_unix_nanos(now.as_nanos() - age);
        (reference, id, Duration::from_nanos(age.unsigned_abs()))
    }

    /// The packets that it sends for a request that it admits.
    ///
    /// `count`: requests before this one; `name`: of its clock, for [`Reference::Own`].
    pub(super) fn answer(
        &self,
        asked: &Header,
        at: Moment,
        count: u64,
        name: u32,
        rng: &mut fastrand::Rng,
    ) -> Vec<Vec<u8>> {
        let by_behaviour = match self.behaviour {
            Behaviour::Offset(offset) => offset,
            Behaviour::Drifting(rate) => Offset::from_nanos(rate.over(at.uptime)),
            Behaviour::Alternating(offset) if count % 2 == 1 => offset,
            _ => Offset::ZERO,
        };
        let (clock, by_clock) = match self.clocks {
            Clocks::InTurn(offset) if count % 2 == 1 => (1, offset),
            Clocks::AtRandom(offset) if rng.bool() => (1, offset),
            _ => (0, Offset::ZERO),
        };
        let error = Offset::from_nanos(by_behaviour.as_nanos().saturating_add(by_clock.as_nanos()));
        let mut header = self.header(asked, at, error, name.wrapping_mul(2).wrapping_add(clock));
        match self.behaviour {
            Behaviour::Silent => return Vec::new(),
            Behaviour::Garbage(length) => return vec![vec![0xa5; length]],
            Behaviour::Stratum16 => header.stratum = 16,
            Behaviour::LeapAlarm => header.leap = Leap::Alarm,
            Behaviour::LeapInsert => header.leap = Leap::Insert,
            Behaviour::Kiss(code) => (header.stratum, header.reference_id) = (0, code),
            Behaviour::ForgedKiss(code) => {
                (header.stratum, header.reference_id, header.origin) = (0, code, NtpTimestamp(1));
            }
            Behaviour::ZeroTransmit => header.transmit = NtpTimestamp::ZERO,
            Behaviour::ZeroBoth => {
                (header.receive, header.transmit) = (NtpTimestamp::ZERO, NtpTimestamp::ZERO);
            }
            Behaviour::Swapped => {
                let early = header.receive;
                let late = at.transmit.plus(error).plus(Offset::from_nanos(300_000_000));
                header.receive = NtpTimestamp::from_unix_nanos(late.as_nanos());
                header.transmit = early;
            }
            Behaviour::HugeRootDispersion => header.root_dispersion = Duration::from_secs(15),
            Behaviour::WrongOrigin => header.origin = NtpTimestamp(asked.transmit.0.wrapping_add(1)),
            Behaviour::Broadcast => header.mode = 5,
            Behaviour::Honest
            | Behaviour::Offset(_)
            | Behaviour::Drifting(_)
            | Behaviour::Alternating(_)
            | Behaviour::Twice => {}
        }
        let mut packets = self.stray.packets(&header);
        let times = if self.behaviour == Behaviour::Twice { 2 } else { 1 };
        packets.extend(std::iter::repeat_n(header.to_bytes().to_vec(), times));
        packets
    }

    /// Does it answer what is asked this often, so long after its start, so that the answers are samples?
    pub fn gives_samples(&self, uptime: Duration, interval: Duration) -> bool {
        let is_allowed = match self.limit_at(uptime) {
            Limit::None => true,
            Limit::Ntpd(_) | Limit::Chrony(_) => interval >= Duration::from_secs(16),
            Limit::Pattern(acts) => acts.iter().all(|act| *act == Admission::Answer),
        };
        let is_sample = matches!(
            self.behaviour,
            Behaviour::Honest
                | Behaviour::Offset(_)
                | Behaviour::Drifting(_)
                | Behaviour::Alternating(_)
                | Behaviour::LeapInsert
                | Behaviour::Twice
        );
        is_allowed && is_sample
    }

    /// Is every time that it reports correct to its own root distance?
    pub fn is_honest(&self) -> bool {
        let is_lying = matches!(
            self.behaviour,
            Behaviour::Offset(_) | Behaviour::Drifting(_) | Behaviour::Alternating(_)
        );
        let other = match self.clocks {
            Clocks::One => Offset::ZERO,
            Clocks::InTurn(offset) | Clocks::AtRandom(offset) => offset,
        };
        !is_lying && other.magnitude() <= self.root_dispersion + self.root_delay / 2
    }
}

impl Stray {
    fn packets(self, answer: &Header) -> Vec<Vec<u8>> {
        let wrong = || {
            let origin = NtpTimestamp(answer.origin.0.wrapping_add(1));
            Header { origin, ..*answer }.to_bytes().to_vec()
        };
        let forged = || {
            let origin = NtpTimestamp(answer.origin.0.wrapping_sub(1));
            Header { origin, stratum: 0, reference_id: *b"DENY", ..*answer }.to_bytes().to_vec()
        };
        let short = || answer.to_bytes().into_iter().take(47).collect::<Vec<u8>>();
        match self {
            Self::None => Vec::new(),
            Self::WrongOrigin => vec![wrong()],
            Self::Short => vec![short()],
            Self::Empty => vec![Vec::new()],
            Self::ForgedKiss => vec![forged()],
            Self::All => vec![wrong(), short(), Vec::new(), forged()],
        }
    }
}
