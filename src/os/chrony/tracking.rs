//! chronyd's state of the clock, as `chronyc tracking` reports it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::codec::{Fields, ReplyError};
use drift_core::ntp::packet::Leap;
use drift_core::time::{NANOS_PER_SEC, Offset, Ppb, Wall};

/// The upper half of a timestamp's seconds when it is not used.
const NO_HIGH_SECONDS: u32 = 0x7fff_ffff;

/// chronyd's state of the clock. For minutes after a resume it may be wrong without any sign of it.
///
/// All signs are the agent's, whatever the protocol's: positive is a node that is **behind**, or falling
/// behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracking {
    /// Its present source: the IPv4 address, a hash of the IPv6 address, or a reference clock's name.
    pub reference_id: [u8; 4],
    /// That source's address; `None` when there is none, or a reference clock.
    pub source: Option<IpAddr>,
    /// One more than the source's; 0 when there is none.
    pub stratum: u16,
    /// Whether a leap second is due; [`Leap::Alarm`]: not synchronised.
    pub leap: Leap,
    /// The time of the last update of the clock, by chronyd; 1970 when not synchronised.
    pub reference_time: Wall,
    /// chronyd's estimate of true time minus the node's clock: what it has not slewed yet ("System time" in
    /// `chronyc`).
    pub offset: Offset,
    /// The offset that the last update found, against chronyd's estimate until then (`chronyc` shows the
    /// opposite sign).
    pub last_offset: Offset,
    /// A long-term average of the magnitude of `last_offset`.
    pub rms_offset: Duration,
    /// How slow the clock would be without chronyd's correction (the protocol has how fast).
    pub frequency: Ppb,
    /// The possible error of `frequency`.
    pub skew: Ppb,
    /// Round trip to the primary source.
    pub root_delay: Duration,
    /// Error against the primary source.
    pub root_dispersion: Duration,
    /// The time between the last two updates; 0 when there were not two since the start or the last reset.
    pub update_interval: Duration,
}

impl Tracking {
    /// The reference of a chronyd that has no source and serves its own time (`local` in chrony.conf).
    const LOCAL: [u8; 4] = [127, 127, 1, 1];

    /// Its source, for a text: an address, the name of a reference clock, or "its own clock".
    pub fn reference_in_words(&self) -> String {
        if let Some(source) = self.source {
            return source.to_string();
        }
        let name: Vec<u8> = self.reference_id.into_iter().take_while(|byte| *byte != 0).collect();
        match String::from_utf8(name) {
            _ if self.reference_id == Self::LOCAL => "its own clock".to_owned(),
            Ok(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()) => name,
            _ => self.reference_id.map(|byte| format!("{byte:02X}")).concat(),
        }
    }

    /// Is the clock synchronised to a source, as far as chronyd knows?
    pub fn is_synchronised(&self) -> bool {
        self.leap != Leap::Alarm && self.reference_id != Self::LOCAL
    }

    /// Has chronyd not updated the clock since it was started? False once its sources were reset, unless they
    /// were reset twice with one update between.
    pub fn never_updated(&self) -> bool {
        self.update_interval.is_zero() && !self.is_synchronised()
    }

    /// Reads the data of a reply to [`Request::Tracking`](super::codec::Request::Tracking).
    pub fn read(fields: &mut Fields<'_>) -> Result<Self, ReplyError> {
        let reference_id = fields.take()?;
        let source = fields.address()?;
        let stratum = fields.u16()?;
        let leap = match fields.u16()? {
            0 => Leap::None,
            1 => Leap::Insert,
            2 => Leap::Delete,
            _ => Leap::Alarm,
        };
        let reference_time = fields.time()?;
        let offset = fields.offset("offset")?;
        let last_offset = fields.offset("last offset")?;
        let rms_offset = fields.span("RMS offset")?;
        let frequency = fields.frequency()?;
        fields.take::<4>()?; // what the last update left of the frequency's error
        Ok(Self {
            reference_id,
            source,
            stratum,
            leap,
            reference_time,
            offset,
            last_offset: Offset::from_nanos(last_offset.as_nanos().saturating_neg()),
            rms_offset,
            frequency: Ppb(frequency.0.saturating_neg()),
            skew: fields.frequency()?,
            root_delay: fields.span("root delay")?,
            root_dispersion: fields.span("root dispersion")?,
            update_interval: fields.span("update interval")?,
        })
    }
}

impl Fields<'_> {
    /// 16 bytes, the family, and padding.
    fn address(&mut self) -> Result<Option<IpAddr>, ReplyError> {
        let (bytes, family) = (self.take::<16>()?, self.u16()?);
        self.take::<2>()?; // padding
        let [a, b, c, d, ..] = bytes;
        Ok(match family {
            1 => Some(Ipv4Addr::new(a, b, c, d).into()),
            2 => Some(Ipv6Addr::from(bytes).into()),
            _ => None,
        })
    }

    fn offset(&mut self, name: &'static str) -> Result<Offset, ReplyError> {
        Offset::from_secs_f64(self.float()?).ok_or(ReplyError::OutOfRange(name))
    }

    /// Below 0 is 0: rounding may turn a delay of 0 negative.
    fn span(&mut self, name: &'static str) -> Result<Duration, ReplyError> {
        Duration::try_from_secs_f64(self.float()?.max(0.0)).map_err(|_| ReplyError::OutOfRange(name))
    }

    /// From parts per million; saturates.
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
    fn frequency(&mut self) -> Result<Ppb, ReplyError> {
        Ok(Ppb((self.float()? * 1e3).round() as i64))
    }

    fn time(&mut self) -> Result<Wall, ReplyError> {
        let (high, low, nanos) = (self.u32()?, self.u32()?, self.u32()?);
        let high = if high == NO_HIGH_SECONDS { 0 } else { high };
        let secs = ((u64::from(high) << 32) | u64::from(low)).cast_signed();
        let nanos = i64::from(nanos).min(NANOS_PER_SEC - 1);
        Ok(Wall::from_secs(secs).plus(Offset::from_nanos(nanos)))
    }
}

#[cfg(test)]
impl Tracking {
    /// The state of a chronyd that has just started.
    pub const NEVER: Self = Self {
        reference_id: [0; 4],
        source: None,
        stratum: 0,
        leap: Leap::Alarm,
        reference_time: Wall::from_nanos(0),
        offset: Offset::ZERO,
        last_offset: Offset::ZERO,
        rms_offset: Duration::ZERO,
        frequency: Ppb(0),
        skew: Ppb(0),
        root_delay: Duration::from_secs(1),
        root_dispersion: Duration::from_secs(1),
        update_interval: Duration::ZERO,
    };
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::reply;
    use super::super::codec::{Request, read_reply};
    use super::super::float::encode;
    use super::*;
    use proptest::prelude::*;

    /// Of a chronyd on 192.0.2.7; the floats are those of the protocol, in its order.
    fn data(leap: u16, time: [u32; 3], floats: [f64; 9]) -> Vec<u8> {
        let mut bytes = vec![192, 0, 2, 7];
        bytes.extend([192, 0, 2, 7]);
        bytes.extend([0; 12]);
        bytes.extend([0, 1, 0, 0]); // IPv4
        bytes.extend(2_u16.to_be_bytes());
        bytes.extend(leap.to_be_bytes());
        bytes.extend(time.into_iter().chain(floats.map(encode)).flat_map(u32::to_be_bytes));
        bytes
    }

    fn read(data: &[u8]) -> Result<Tracking, ReplyError> {
        let bytes = reply(Request::Tracking, 1, 0, data);
        Tracking::read(&mut read_reply(&bytes, Request::Tracking, 1)?)
    }

    const FLOATS: [f64; 9] = [0.25, 0.5, 0.125, 12.5, 99.0, 0.75, 0.0625, 0.03125, 64.0];

    #[test]
    fn tracking_fields_have_the_agents_units_and_signs() {
        let tracking = read(&data(1, [NO_HIGH_SECONDS, 1_795_341_600, 250_000_001], FLOATS)).unwrap();
        let micros = Duration::from_micros;
        assert_eq!(
            tracking,
            Tracking {
                reference_id: [192, 0, 2, 7],
                source: Some([192, 0, 2, 7].into()),
                stratum: 2,
                leap: Leap::Insert,
                reference_time: Wall::from_nanos(1_795_341_600_250_000_001),
                offset: Offset::from_nanos(250_000_000),
                last_offset: Offset::from_nanos(-500_000_000),
                rms_offset: micros(125_000),
                frequency: Ppb(-12_500),
                skew: Ppb(750),
                root_delay: micros(62_500),
                root_dispersion: micros(31_250),
                update_interval: Duration::from_secs(64),
            }
        );
    }

    #[test]
    fn fields_out_of_range_are_errors_and_delays_below_zero_are_zero() {
        let with = |at: usize, value: f64| {
            let mut floats = FLOATS;
            floats[at] = value;
            read(&data(0, [0, 0, 0], floats))
        };
        assert_eq!(with(0, 1e15), Err(ReplyError::OutOfRange("offset")));
        assert_eq!(with(1, -1e15), Err(ReplyError::OutOfRange("last offset")));
        assert_eq!(with(6, -1e-9).unwrap().root_delay, Duration::ZERO);
        assert_eq!(read(&data(0, [0, 0, 0], FLOATS)[..75]), Err(ReplyError::Truncated(103)));
    }

    #[test]
    fn references_are_named_by_address_or_by_printable_name() {
        let of =
            |source, reference_id| Tracking { reference_id, source, ..Tracking::NEVER }.reference_in_words();
        assert_eq!(of(Some([192, 0, 2, 7].into()), [192, 0, 2, 7]), "192.0.2.7");
        assert_eq!(of("2001:db8::7".parse().ok(), *b"\x1b\x02ab"), "2001:db8::7");
        assert_eq!(of(None, *b"PPS\0"), "PPS");
        assert_eq!(of(None, *b"\x1b[2J"), "1B5B324A", "no control characters for a terminal");
        assert_eq!(of(None, Tracking::LOCAL), "its own clock");
        assert_eq!(of(None, [0; 4]), "00000000");
    }

    #[test]
    fn ipv6_sources_are_read_in_full() {
        let mut bytes = data(0, [0, 0, 0], FLOATS);
        bytes[4..20].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        bytes[21] = 2;
        assert_eq!(read(&bytes).unwrap().source, "2001:db8::7".parse().ok());
        bytes[21] = 0;
        assert_eq!(read(&bytes).unwrap().source, None);
    }

    #[test]
    fn chronyd_on_its_own_time_is_not_synchronised() {
        let synchronised = Tracking { leap: Leap::None, reference_id: [192, 0, 2, 7], ..Tracking::NEVER };
        assert!(synchronised.is_synchronised() && !synchronised.never_updated());
        let local = Tracking { reference_id: Tracking::LOCAL, ..synchronised };
        assert!(!local.is_synchronised() && local.never_updated());
        let reset = Tracking { update_interval: Duration::from_secs(64), ..Tracking::NEVER };
        assert!(!reset.is_synchronised() && !reset.never_updated());
    }

    proptest! {
        #[test]
        fn reading_never_panics_for_any_data(data in proptest::collection::vec(any::<u8>(), 0..120)) {
            let read = read(&data);
            prop_assert_eq!(matches!(read, Err(ReplyError::Truncated(_))), data.len() < 76 && !matches!(read, Err(ReplyError::OutOfRange(_))));
        }
    }
}
