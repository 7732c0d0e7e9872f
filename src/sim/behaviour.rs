//! How a simulated NTP server behaves, correctly or not: one list for the simulated world and for real
//! sockets.

use std::time::Duration;

use drift_core::ntp::packet::{Header, Leap, MODE_SERVER, NtpTimestamp};
use drift_core::time::{Offset, Ppb, Wall};

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

/// A server's clock and behaviour.
#[derive(Clone, Copy, Debug)]
pub struct ServerModel {
    /// How it behaves.
    pub behaviour: Behaviour,
    /// The root dispersion that it reports: true for an honest server.
    pub root_dispersion: Duration,
    /// Its stratum.
    pub stratum: u8,
}

impl ServerModel {
    /// A primary server with this behaviour.
    pub const fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, root_dispersion: Duration::from_micros(50), stratum: 1 }
    }

    /// The packets that it sends in answer to `request`.
    ///
    /// `receive` and `transmit`: reference time when the request arrives and the answer leaves; `uptime`:
    /// since the server started; `count`: requests before this one.
    pub fn answer(
        &self,
        request: &[u8],
        receive: Wall,
        transmit: Wall,
        uptime: Duration,
        count: u64,
    ) -> Vec<Vec<u8>> {
        let Some(asked) = Header::from_bytes(request) else { return Vec::new() };
        let error = match self.behaviour {
            Behaviour::Offset(offset) => offset,
            Behaviour::Drifting(rate) => Offset::from_nanos(rate.over(uptime)),
            Behaviour::Alternating(offset) if count % 2 == 1 => offset,
            _ => Offset::ZERO,
        };
        let stamp = |wall: Wall| NtpTimestamp::from_unix_nanos(wall.plus(error).as_nanos());
        let mut header = Header {
            leap: Leap::None,
            version: 4,
            mode: MODE_SERVER,
            stratum: self.stratum,
            precision: -24,
            root_delay: Duration::ZERO,
            root_dispersion: self.root_dispersion,
            reference_id: *b"SIM\0",
            reference: NtpTimestamp::ZERO,
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

    /// Is every time that it reports correct?
    pub fn is_honest(&self) -> bool {
        !matches!(self.behaviour, Behaviour::Offset(_) | Behaviour::Drifting(_) | Behaviour::Alternating(_))
    }
}
