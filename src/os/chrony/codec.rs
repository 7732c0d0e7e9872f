//! Encodes requests and decodes replies. Any bytes decode to a value or a named error.

use std::fmt;

use super::float;
use super::status::ChronyStatus;

/// The version of the protocol: that of chrony 2.2 (2015) and all since.
const VERSION: u8 = 6;
const TYPE_REQUEST: u8 = 1;
const TYPE_REPLY: u8 = 2;
const REQUEST_HEADER: usize = 20;
const REPLY_HEADER: usize = 28;
/// The address to burst and the mask in a request. Unspecified addresses stand for every source.
const TWO_ADDRESSES: [u8; 40] = [0; 40];

/// A request to chronyd. Its `Display` is what an operator would type after `chronyc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// chronyd's state of the clock. Every process on the machine may ask, also over UDP.
    Tracking,
    /// How many sources chronyd has, with reference clocks. Every process on the machine may ask, also over
    /// UDP.
    Sources,
    /// One source, by its number from 0 on. Every process on the machine may ask, also over UDP.
    SourceData(u32),
    /// Discard all measurements, and treat the clock as unsynchronised. chrony 4.0 and later.
    ResetSources,
    /// Measure every NTP source now, until so many measurements were good.
    Burst {
        /// Good measurements wanted of each source.
        good: u32,
        /// Measurements tried at most.
        total: u32,
    },
    /// Step by the rest of the correction that chronyd knows of. It measures nothing: after a resume it has an
    /// effect once chronyd has measured again. It leaves chronyd's own rule for stepping (`makestep` in
    /// chrony.conf) as it is.
    MakeStep,
}

impl Request {
    /// Its number, the number of the reply that answers it, and the length of that reply's data.
    const fn numbers(self) -> (u16, u16, usize) {
        const PLAIN: u16 = 1;
        match self {
            Self::Tracking => (33, 5, 76),
            Self::Sources => (14, 2, 4),
            Self::SourceData(_) => (15, 3, 48),
            Self::ResetSources => (66, PLAIN, 0),
            Self::Burst { .. } => (3, PLAIN, 0),
            Self::MakeStep => (43, PLAIN, 0),
        }
    }

    /// The datagram. chronyd answers only a request that is at least as long as the answer, so that it cannot
    /// be used to amplify traffic: the request is padded with zeros.
    pub fn encode(self, sequence: u32) -> Vec<u8> {
        let (command, _, reply_data) = self.numbers();
        let mut bytes = vec![VERSION, TYPE_REQUEST, 0, 0];
        bytes.extend(command.to_be_bytes());
        bytes.extend([0; 2]); // the number of the attempt: each of the agent's has a sequence number of its own
        bytes.extend(sequence.to_be_bytes());
        bytes.resize(REQUEST_HEADER, 0);
        match self {
            Self::Burst { good, total } => {
                bytes.extend(TWO_ADDRESSES);
                bytes.extend(good.to_be_bytes());
                bytes.extend(total.to_be_bytes());
            }
            Self::SourceData(number) => bytes.extend(number.to_be_bytes()),
            Self::Tracking | Self::Sources | Self::ResetSources | Self::MakeStep => {}
        }
        let length = bytes.len().max(REPLY_HEADER + reply_data);
        bytes.resize(length, 0);
        bytes
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracking => f.write_str("tracking"),
            Self::Sources => f.write_str("sources"),
            Self::SourceData(number) => write!(f, "sources (number {number})"),
            Self::ResetSources => f.write_str("reset sources"),
            Self::Burst { good, total } => write!(f, "burst {good}/{total}"),
            Self::MakeStep => f.write_str("makestep"),
        }
    }
}

/// Why a datagram is not the reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// It answers another request. The reply to this one may still come.
    #[error("it answers another request")]
    OtherSequence,
    /// It has another command than the request.
    #[error("it answers command {0}, which was not sent")]
    OtherCommand(u16),
    /// Its kind does not belong to this command.
    #[error("it is a reply of kind {0}, which does not belong to the command")]
    OtherReply(u16),
    /// It is too short.
    #[error("it ends after {0} bytes")]
    Truncated(usize),
    /// It has another version of the protocol.
    #[error("it is version {0} of the protocol, and only {VERSION} is known")]
    Version(u8),
    /// It is not a reply.
    #[error("it is not a reply (type {0})")]
    NotAReply(u8),
    /// A field is outside the range of times and offsets.
    #[error("its {0} is out of range")]
    OutOfRange(&'static str),
    /// chronyd rejected the request.
    #[error("{0}")]
    Refused(ChronyStatus),
}

/// Reads a datagram as the reply to `request`, which had this sequence number. Returns its data; bytes past
/// that are ignored.
pub fn read_reply(bytes: &[u8], request: Request, sequence: u32) -> Result<Fields<'_>, ReplyError> {
    let (command, kind, _) = request.numbers();
    let mut fields = Fields { bytes, left: bytes };
    let [version, packet_type, _, _] = fields.take()?;
    if version != VERSION {
        return Err(ReplyError::Version(version));
    }
    if packet_type != TYPE_REPLY {
        return Err(ReplyError::NotAReply(packet_type));
    }
    let (command_seen, kind_seen, status) = (fields.u16()?, fields.u16()?, fields.u16()?);
    fields.take::<6>()?;
    let sequence_seen = fields.u32()?;
    fields.take::<8>()?;
    if sequence_seen != sequence {
        return Err(ReplyError::OtherSequence);
    }
    if command_seen != command {
        return Err(ReplyError::OtherCommand(command_seen));
    }
    // Before the kind: a rejection is a reply without data, whatever the command.
    if let Some(status) = ChronyStatus::from_code(status) {
        return Err(ReplyError::Refused(status));
    }
    if kind_seen != kind {
        return Err(ReplyError::OtherReply(kind_seen));
    }
    Ok(fields)
}

/// Reads the data of a reply to [`Request::Sources`]: the number of sources.
pub fn read_sources(data: &mut Fields<'_>) -> Result<u32, ReplyError> {
    data.u32()
}

/// Reads the data of a reply to [`Request::SourceData`]: did the source answer at least one of the last eight
/// polls?
pub fn read_is_reachable(data: &mut Fields<'_>) -> Result<bool, ReplyError> {
    data.take::<20>()?; // the address
    data.take::<10>()?; // poll interval, stratum, state, mode, flags
    Ok(data.u16()? != 0)
}

/// The data of a reply, read from the front.
#[derive(Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    left: &'a [u8],
}

impl Fields<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], ReplyError> {
        let (field, left) = self.left.split_first_chunk().ok_or(ReplyError::Truncated(self.bytes.len()))?;
        self.left = left;
        Ok(*field)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ReplyError> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ReplyError> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn float(&mut self) -> Result<f64, ReplyError> {
        self.u32().map(float::decode)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEQUENCE: u32 = 0x0123_4567;

    /// A reply as chronyd would send it.
    pub fn reply(request: Request, sequence: u32, status: u16, data: &[u8]) -> Vec<u8> {
        let (command, kind, _) = request.numbers();
        let mut bytes = vec![VERSION, TYPE_REPLY, 0, 0];
        for number in [command, kind, status, 0, 0, 0] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(data);
        bytes
    }

    fn any_request() -> impl Strategy<Value = Request> {
        prop_oneof![
            Just(Request::Tracking),
            Just(Request::Sources),
            Just(Request::ResetSources),
            Just(Request::MakeStep),
            (any::<u32>(), any::<u32>()).prop_map(|(good, total)| Request::Burst { good, total }),
            any::<u32>().prop_map(Request::SourceData),
        ]
    }

    #[test]
    fn requests_are_named_as_in_chronyc() {
        let names = [
            Request::Tracking,
            Request::Sources,
            Request::ResetSources,
            Request::Burst { good: 4, total: 4 },
            Request::MakeStep,
        ]
        .map(|request| request.to_string());
        assert_eq!(names, ["tracking", "sources", "reset sources", "burst 4/4", "makestep"]);
    }

    #[test]
    fn replies_are_read_and_each_fault_has_an_error() {
        let good = reply(Request::Sources, SEQUENCE, 0, &5_u32.to_be_bytes());
        let read = |bytes: &[u8]| {
            read_reply(bytes, Request::Sources, SEQUENCE).and_then(|mut data| read_sources(&mut data))
        };
        assert_eq!(read(&good), Ok(5));
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            read(&bytes).unwrap_err()
        };
        assert_eq!(with(0, 5), ReplyError::Version(5));
        assert_eq!(with(1, 1), ReplyError::NotAReply(1));
        assert_eq!(with(5, 33), ReplyError::OtherCommand(33));
        assert_eq!(with(7, 5), ReplyError::OtherReply(5));
        assert_eq!(with(19, 0), ReplyError::OtherSequence);
        assert_eq!(with(9, 2), ReplyError::Refused(ChronyStatus::Unauthorized));
        for length in 0..good.len() {
            assert_eq!(read(&good[..length]), Err(ReplyError::Truncated(length)));
        }
        let longer = [good.as_slice(), &[9; 40]].concat();
        assert_eq!(read(&longer), Ok(5));
    }

    #[test]
    fn sources_are_reachable_if_one_of_their_last_eight_polls_was_answered() {
        let with = |reachability: u16| {
            let mut data = [0xff; 48];
            data[30..32].copy_from_slice(&reachability.to_be_bytes());
            let bytes = reply(Request::SourceData(3), SEQUENCE, 0, &data);
            read_reply(&bytes, Request::SourceData(3), SEQUENCE).and_then(|mut d| read_is_reachable(&mut d))
        };
        assert_eq!([0, 1, 0o377].map(with), [Ok(false), Ok(true), Ok(true)]);
        let short = reply(Request::SourceData(3), SEQUENCE, 0, &[0; 31]);
        let read =
            read_reply(&short, Request::SourceData(3), SEQUENCE).and_then(|mut d| read_is_reachable(&mut d));
        assert_eq!(read, Err(ReplyError::Truncated(59)));
    }

    #[test]
    fn rejections_are_recognised_by_their_status_whatever_their_kind() {
        let mut bytes = reply(Request::Tracking, SEQUENCE, 2, &[]);
        bytes[7] = 1; // chronyd rejects with a reply without data
        let refused = |status| Err(ReplyError::Refused(status));
        assert_eq!(
            read_reply(&bytes, Request::Tracking, SEQUENCE).map(|_| ()),
            refused(ChronyStatus::Unauthorized)
        );
        for (code, status) in [
            (1, ChronyStatus::Failed),
            (4, ChronyStatus::NoSuchSource),
            (19, ChronyStatus::BadPacketLength),
            (20, ChronyStatus::Other(20)),
        ] {
            bytes[9] = code;
            assert_eq!(read_reply(&bytes, Request::Tracking, SEQUENCE).map(|_| ()), refused(status));
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics_for_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), request in any_request(), sequence: u32) {
            if let Ok(mut data) = read_reply(&bytes, request, sequence) {
                let _ = super::super::tracking::Tracking::read(&mut data);
            }
        }

        #[test]
        fn requests_are_as_long_as_their_replies_and_carry_their_sequence(request in any_request(), sequence: u32) {
            let bytes = request.encode(sequence);
            prop_assert!(bytes.len() >= REPLY_HEADER + request.numbers().2, "{request}: {}", bytes.len());
            prop_assert_eq!(&bytes[8..12], sequence.to_be_bytes());
            prop_assert_eq!(read_reply(&bytes, request, sequence).map(|_| ()), Err(ReplyError::NotAReply(TYPE_REQUEST)));
        }
    }
}
