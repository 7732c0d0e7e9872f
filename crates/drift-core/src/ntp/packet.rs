//! The NTP packet header (RFC 5905 section 7.3), written and read; any bytes can come from the network.
//!
//! The simulated servers build their answers with the same type.

use std::time::Duration;

use crate::ntp::reject::RejectReason;
use crate::time::Wall;

/// The header without extension fields.
pub const HEADER_LEN: usize = 48;
/// The mode of a server's answer.
pub const MODE_SERVER: u8 = 4;
const MODE_CLIENT: u8 = 3;
const VERSION: u8 = 4;
/// This stratum and those above mean "not synchronised" (RFC 5905 figure 11).
pub const STRATUM_UNSYNCHRONISED: u8 = 16;

/// The leap indicator (RFC 5905 figure 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Leap {
    /// No leap second is announced.
    #[default]
    None,
    /// The last minute of the day has 61 seconds.
    Insert,
    /// The last minute of the day has 59 seconds.
    Delete,
    /// The server reports that its clock is not synchronised.
    Alarm,
}

/// A kiss-o'-death code (RFC 5905 section 7.4), as far as the agent distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kiss {
    /// `RATE`: poll less often.
    Rate,
    /// `DENY` or `RSTR`: stop polling.
    Deny,
    /// Any other code.
    Other,
}

impl Kiss {
    /// What the server asks for, in a few words, for operators.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Rate => "asks to be polled less often (kiss-o'-death RATE)",
            Self::Deny => "denies service (kiss-o'-death)",
            Self::Other => "kiss-o'-death",
        }
    }
}

/// An NTP timestamp: 32 bits of seconds in an era, 32 bits of fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NtpTimestamp(pub u64);

/// The fields of a header that the agent reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Leap indicator.
    pub leap: Leap,
    /// Protocol version: 3 or 4 in an accepted answer.
    pub version: u8,
    /// Association mode: [`MODE_SERVER`] in an accepted answer.
    pub mode: u8,
    /// 1 for a primary server, 0 for a kiss-o'-death.
    pub stratum: u8,
    /// The server clock's precision as a power of two, in seconds.
    pub precision: i8,
    /// Round trip from the server to its primary source.
    pub root_delay: Duration,
    /// The largest error of the server against its primary source.
    pub root_dispersion: Duration,
    /// Reference identifier, or the kiss code at stratum 0.
    pub reference_id: [u8; 4],
    /// When the server's clock was last set or corrected.
    pub reference: NtpTimestamp,
    /// The request's transmit timestamp, sent back.
    pub origin: NtpTimestamp,
    /// When the server received the request.
    pub receive: NtpTimestamp,
    /// When the server sent the answer.
    pub transmit: NtpTimestamp,
}

impl NtpTimestamp {
    /// "Unknown" (RFC 5905 section 6); never a time.
    pub const ZERO: Self = Self(0);
    /// Seconds from 1900, where era 0 starts, to 1970.
    pub const UNIX_EPOCH_SECS: i64 = 2_208_988_800;
    /// 2024-01-01, before any release of the agent: reference time is not earlier. It resolves the era, 136
    /// years long, without the node's clock, which may be off by any number of years.
    const EARLIEST: i64 = 1_704_067_200 + Self::UNIX_EPOCH_SECS;

    /// From nanoseconds since 1970; the era is dropped, as on the wire.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the era is dropped: 64 bits travel"
    )]
    pub fn from_unix_nanos(nanos: i64) -> Self {
        let since_1900 = i128::from(nanos) + i128::from(Self::UNIX_EPOCH_SECS) * 1_000_000_000;
        let fixed = (since_1900 << 32).div_euclid(1_000_000_000);
        Self(fixed as u64)
    }

    /// As a time from 2024 to 2160.
    pub fn to_wall(self) -> Wall {
        const ERA_SECS: i64 = 1 << 32;
        let secs = i64::from(u32::try_from(self.0 >> 32).unwrap_or(u32::MAX));
        let era = if secs < Self::EARLIEST { ERA_SECS } else { 0 };
        let fraction = ((self.0 & 0xffff_ffff) * 1_000_000_000) >> 32;
        let nanos = i64::try_from(fraction).unwrap_or(0);
        Wall::from_nanos(
            (secs + era - Self::UNIX_EPOCH_SECS).saturating_mul(1_000_000_000).saturating_add(nanos),
        )
    }

    /// Is this earlier than `other`, by less than half an era?
    pub const fn is_before(self, other: Self) -> bool {
        let ahead = other.0.wrapping_sub(self.0);
        ahead != 0 && ahead <= u64::MAX / 2
    }
}

/// NTP short format: 16 bits of seconds, 16 bits of fraction.
fn short_to_duration(raw: u32) -> Duration {
    Duration::from_nanos((u64::from(raw) * 1_000_000_000) >> 16)
}

fn short_from_duration(span: Duration) -> u32 {
    u32::try_from((span.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

/// A client request whose transmit timestamp is `nonce`.
///
/// A random number instead of the time: an attacker cannot guess it, and it does not disclose the node's
/// offset.
pub fn request(nonce: NtpTimestamp) -> [u8; HEADER_LEN] {
    Header {
        leap: Leap::None,
        version: VERSION,
        mode: MODE_CLIENT,
        stratum: 0,
        precision: 0,
        root_delay: Duration::ZERO,
        root_dispersion: Duration::ZERO,
        reference_id: [0; 4],
        reference: NtpTimestamp::ZERO,
        origin: NtpTimestamp::ZERO,
        receive: NtpTimestamp::ZERO,
        transmit: nonce,
    }
    .to_bytes()
}

impl Header {
    /// Reads the first 48 bytes; `None` for fewer.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fixed, _extensions) = bytes.split_first_chunk::<HEADER_LEN>()?;
        let (words, _) = fixed.as_chunks::<4>();
        let word = |at: usize| words.get(at).copied().unwrap_or_default();
        let short = |at| u32::from_be_bytes(word(at));
        let long = |at| NtpTimestamp((u64::from(short(at)) << 32) | u64::from(short(at + 1)));
        let [flags, stratum, _poll, precision] = word(0);
        Some(Self {
            leap: match flags >> 6 {
                0 => Leap::None,
                1 => Leap::Insert,
                2 => Leap::Delete,
                _ => Leap::Alarm,
            },
            version: (flags >> 3) & 0b111,
            mode: flags & 0b111,
            stratum,
            precision: i8::from_be_bytes([precision]),
            root_delay: short_to_duration(short(1)),
            root_dispersion: short_to_duration(short(2)),
            reference_id: word(3),
            reference: long(4),
            origin: long(6),
            receive: long(8),
            transmit: long(10),
        })
    }

    /// Writes the header; the poll exponent is left 0.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let leap = match self.leap {
            Leap::None => 0,
            Leap::Insert => 1,
            Leap::Delete => 2,
            Leap::Alarm => 3_u8,
        };
        let flags = (leap << 6) | ((self.version & 0b111) << 3) | (self.mode & 0b111);
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend([flags, self.stratum, 0]);
        bytes.extend(self.precision.to_be_bytes());
        bytes.extend(short_from_duration(self.root_delay).to_be_bytes());
        bytes.extend(short_from_duration(self.root_dispersion).to_be_bytes());
        bytes.extend(self.reference_id);
        for stamp in [self.reference, self.origin, self.receive, self.transmit] {
            bytes.extend(stamp.0.to_be_bytes());
        }
        bytes.try_into().unwrap_or([0; HEADER_LEN])
    }

    /// The kiss code of a stratum 0 packet.
    pub fn kiss(&self) -> Kiss {
        match &self.reference_id {
            b"RATE" => Kiss::Rate,
            b"DENY" | b"RSTR" => Kiss::Deny,
            _ => Kiss::Other,
        }
    }
}

/// Reads a packet as the answer to the request that carried `nonce`.
///
/// `Err`: it is none, whoever sent it, and the right answer may still come. A kiss-o'-death with another
/// origin is no answer either: it is forged.
pub fn answer_to(bytes: &[u8], nonce: NtpTimestamp) -> Result<Header, RejectReason> {
    let header = Header::from_bytes(bytes).ok_or(RejectReason::Malformed)?;
    if header.origin == nonce { Ok(header) } else { Err(RejectReason::WrongOrigin) }
}

impl Header {
    /// Rejects everything but the answer of a synchronised server.
    pub fn validate(&self) -> Result<(), RejectReason> {
        if !(3..=4).contains(&self.version) || self.mode != MODE_SERVER {
            return Err(RejectReason::Malformed);
        }
        if self.stratum == 0 {
            return Err(RejectReason::Kiss(self.kiss()));
        }
        if self.stratum >= STRATUM_UNSYNCHRONISED || self.leap == Leap::Alarm {
            return Err(RejectReason::Unsynchronised);
        }
        if self.receive == NtpTimestamp::ZERO || self.transmit == NtpTimestamp::ZERO {
            return Err(RejectReason::ZeroTimestamp);
        }
        // Wrapping, so that the change from one NTP era to the next is not a step back.
        if self.transmit.is_before(self.receive) {
            return Err(RejectReason::TransmitBeforeReceive);
        }
        Ok(())
    }

    /// Half the root delay + root dispersion + precision (RFC 5905 section 11.2): the server's own largest
    /// error.
    pub fn root_distance(&self) -> Duration {
        let precision = Duration::from_secs_f64(f64::from(self.precision.min(4)).exp2());
        (self.root_delay / 2).saturating_add(self.root_dispersion).saturating_add(precision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use proptest::prelude::*;

    const NONCE: NtpTimestamp = NtpTimestamp(0x0123_4567_89ab_cdef);

    fn good() -> Header {
        Header {
            leap: Leap::None,
            version: 4,
            mode: MODE_SERVER,
            stratum: 2,
            precision: -23,
            root_delay: Duration::from_millis(31),
            root_dispersion: Duration::from_millis(4),
            reference_id: *b"GOOG",
            reference: NtpTimestamp(0xdfff_ffff_0000_0001),
            origin: NONCE,
            receive: NtpTimestamp(0xe000_0000_0000_0000),
            transmit: NtpTimestamp(0xe000_0000_0001_0000),
        }
    }

    fn read_answer(bytes: &[u8]) -> Result<Header, RejectReason> {
        let header = answer_to(bytes, NONCE)?;
        header.validate().map(|()| header)
    }

    #[test]
    fn good_answers_are_read_as_written() {
        let read = read_answer(&good().to_bytes()).unwrap();
        assert!(read.root_delay.abs_diff(good().root_delay) < Duration::from_micros(16));
        assert!(read.root_dispersion.abs_diff(good().root_dispersion) < Duration::from_micros(16));
        assert_eq!((read.stratum, read.precision, read.leap), (2, -23, Leap::None));
        assert_eq!(read.reference, good().reference);
    }

    #[test]
    fn each_flaw_has_its_own_reject_reason() {
        let rejected = |change: fn(&mut Header)| {
            let mut header = good();
            change(&mut header);
            read_answer(&header.to_bytes()).unwrap_err()
        };
        assert_eq!(rejected(|h| h.version = 1), RejectReason::Malformed);
        assert_eq!(rejected(|h| h.mode = 5), RejectReason::Malformed);
        assert_eq!(rejected(|h| h.origin = NtpTimestamp(1)), RejectReason::WrongOrigin);
        assert_eq!(rejected(|h| h.stratum = 16), RejectReason::Unsynchronised);
        assert_eq!(rejected(|h| h.leap = Leap::Alarm), RejectReason::Unsynchronised);
        assert_eq!(rejected(|h| h.receive = NtpTimestamp::ZERO), RejectReason::ZeroTimestamp);
        assert_eq!(rejected(|h| h.transmit = NtpTimestamp::ZERO), RejectReason::ZeroTimestamp);
        assert_eq!(rejected(|h| h.transmit.0 = h.receive.0 - 1), RejectReason::TransmitBeforeReceive);
        for (code, kiss) in
            [(b"RATE", Kiss::Rate), (b"DENY", Kiss::Deny), (b"RSTR", Kiss::Deny), (b"INIT", Kiss::Other)]
        {
            let header = Header { stratum: 0, reference_id: *code, ..good() };
            assert_eq!(read_answer(&header.to_bytes()).unwrap_err(), RejectReason::Kiss(kiss));
        }
    }

    #[test]
    fn kisses_of_death_to_another_request_are_rejected() {
        let forged = Header { stratum: 0, reference_id: *b"DENY", origin: NtpTimestamp(7), ..good() };
        assert_eq!(read_answer(&forged.to_bytes()).unwrap_err(), RejectReason::WrongOrigin);
    }

    #[test]
    fn the_ntp_era_change_in_2036_is_not_a_step_back() {
        let header = Header { receive: NtpTimestamp(u64::MAX - 5), transmit: NtpTimestamp(10), ..good() };
        assert!(read_answer(&header.to_bytes()).is_ok());
        let rollover = (1_i64 << 32) - NtpTimestamp::UNIX_EPOCH_SECS;
        assert_eq!(NtpTimestamp::from_unix_nanos(rollover * 1_000_000_000), NtpTimestamp::ZERO);
        assert_eq!(NtpTimestamp::from_unix_nanos(0).0 >> 32, 2_208_988_800);
    }

    #[test]
    fn timestamps_are_times_from_2024_to_2160() {
        for secs in [1_704_067_200, 2_085_978_495, 2_085_978_496, 4_233_462_144, 5_999_034_495] {
            let stamp = NtpTimestamp::from_unix_nanos(secs * 1_000_000_000 + 500_000_000);
            assert_eq!(stamp.to_wall(), Wall::from_nanos(secs * 1_000_000_000 + 500_000_000), "{secs}");
        }
        let before = NtpTimestamp::from_unix_nanos(1_704_067_199 * 1_000_000_000);
        assert_eq!(before.to_wall(), Wall::from_secs(1_704_067_199 + (1 << 32)), "no earlier than 2024");
    }

    /// Bytes without a form, and good answers with a few bytes changed and a tail.
    #[test]
    fn read_answer_never_panics_for_any_bytes() {
        let reached = Reached::new([
            ("accepted", 8),
            ("another origin", 10),
            ("malformed", 8),
            ("rejected for its content", 1),
        ]);
        let anything = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..600),
            proptest::collection::vec(any::<u8>(), 0..HEADER_LEN),
        ];
        let changes = proptest::collection::vec((0..HEADER_LEN, any::<u8>()), 0..4);
        let nearly_good =
            (changes, proptest::collection::vec(any::<u8>(), 0..100)).prop_map(|(changes, tail)| {
                let mut bytes = good().to_bytes().to_vec();
                for (at, byte) in changes {
                    bytes[at] = byte;
                }
                bytes.extend(tail);
                bytes
            });
        proptest!(|(bytes in prop_oneof![anything, nearly_good.boxed()])| {
            let read = read_answer(&bytes);
            reached.case("malformed", matches!(read, Err(RejectReason::Malformed)));
            reached.case("another origin", matches!(read, Err(RejectReason::WrongOrigin)));
            reached.case("accepted", read.is_ok());
            reached.case("rejected for its content", matches!(read, Err(reason) if !matches!(reason, RejectReason::WrongOrigin | RejectReason::Malformed)));
            let _ = Header::from_bytes(&bytes).map(|header| (header.root_distance(), header.receive.to_wall()));
        });
    }

    proptest! {
        #[test]
        fn headers_are_read_back_as_written(stratum: u8, precision: i8, mode in 0u8..8, version in 0u8..8, receive: u64, transmit: u64) {
            let header = Header { stratum, precision, mode, version, receive: NtpTimestamp(receive),
                transmit: NtpTimestamp(transmit), root_delay: Duration::ZERO, root_dispersion: Duration::ZERO, ..good() };
            prop_assert_eq!(Header::from_bytes(&header.to_bytes()), Some(header));
        }
    }
}
