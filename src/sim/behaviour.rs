//! What an NTP server may do to its clients: one list for the simulated world and for real sockets.

use std::time::Duration;

use drift_core::ntp::packet::{Header, Leap, MODE_SERVER, NtpTimestamp};
use drift_core::time::{Offset, Ppb, Wall};

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// It tells the time as it has it.
    Honest,
    /// Its clock is off by this, and it does not know.
    Offset(Offset),
    /// Its clock runs away.
    Drifting(Ppb),
    /// Its clock is off by this in every second answer.
    Alternating(Offset),
    /// It says stratum 16.
    Stratum16,
    /// It says that it is not synchronised.
    LeapAlarm,
    /// It announces a leap second.
    LeapInsert,
    /// It asks to be left alone, with this code.
    Kiss([u8; 4]),
    /// The same, but answering another request.
    ForgedKiss([u8; 4]),
    /// The transmit timestamp is zero.
    ZeroTransmit,
    /// Both of its timestamps are zero: the round trip looks right.
    ZeroBoth,
    /// Transmit before receive.
    Swapped,
    /// A root dispersion of 15 s.
    HugeRootDispersion,
    /// It never answers.
    Silent,
    /// Every answer comes twice.
    Twice,
    /// It answers another request.
    WrongOrigin,
    /// A broadcast where an answer is due (rsntp takes it).
    Broadcast,
    /// So many bytes of nothing.
    Garbage(usize),
}

/// A server's clock and manners.
#[derive(Clone, Copy, Debug)]
pub struct ServerModel {
    /// How it behaves.
    pub behaviour: Behaviour,
    /// How far it says that it may be off; the honest truth unless it lies.
    pub root_dispersion: Duration,
    /// Its stratum.
    pub stratum: u8,
}

impl ServerModel {
    /// A primary server that behaves as told.
    pub const fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, root_dispersion: Duration::from_micros(50), stratum: 1 }
    }

    /// What it sends in answer to `request`, given reference time when that came in and goes out, and since when it runs.
    pub fn answer(
        &self,
        request: &[u8],
        receive: Wall,
        transmit: Wall,
        uptime: Duration,
        count: u64,
    ) -> Vec<Vec<u8>> {
        let Some(asked) = Header::from_bytes(request) else { return Vec::new() };
        let lie = match self.behaviour {
            Behaviour::Offset(offset) => offset,
            Behaviour::Drifting(rate) => Offset::from_nanos(rate.over(uptime)),
            Behaviour::Alternating(offset) if count % 2 == 1 => offset,
            _ => Offset::ZERO,
        };
        let stamp = |wall: Wall| NtpTimestamp::from_unix_nanos(wall.plus(lie).as_nanos());
        let mut header = Header {
            leap: Leap::None,
            version: 4,
            mode: MODE_SERVER,
            stratum: self.stratum,
            precision: -24,
            root_delay: Duration::ZERO,
            root_dispersion: self.root_dispersion,
            reference_id: *b"SIM\0",
            origin: asked.transmit,
            receive: stamp(receive),
            transmit: stamp(transmit),
        };
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
                header.receive = stamp(transmit.plus(Offset::from_nanos(300_000_000)));
                header.transmit = stamp(receive);
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
        let bytes = header.to_bytes().to_vec();
        if self.behaviour == Behaviour::Twice { vec![bytes.clone(), bytes] } else { vec![bytes] }
    }

    /// Does it tell the truth, as far as it is heard at all?
    pub fn is_honest(&self) -> bool {
        !matches!(self.behaviour, Behaviour::Offset(_) | Behaviour::Drifting(_) | Behaviour::Alternating(_))
    }
}
