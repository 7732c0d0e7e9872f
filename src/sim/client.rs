//! How rsntp 4.1.2 reads an answer, faults included, so that the simulated world has the same client as the
//! agent.

use drift_core::ntp::packet::{Header, Leap, NtpTimestamp, request};
use drift_core::ntp::reject::RejectReason;
use drift_core::ntp::sample::Exchange;
use drift_core::time::{Offset, Reading, Wall};

/// The request that rsntp sends at this wall time.
pub fn ask(wall: Wall) -> Vec<u8> {
    request(NtpTimestamp::from_unix_nanos(wall.as_nanos())).to_vec()
}

/// An NTP timestamp with its era guessed as rsntp does: the upper half of the range is 1968 to 2036, the
/// lower 2036 to 2104.
fn unfold(stamp: NtpTimestamp) -> i128 {
    let era = if stamp.0 >> 63 == 0 { 1_i128 << 64 } else { 0 };
    i128::from(stamp.0) + era
}

/// Seconds from one timestamp to the other, as rsntp's float.
#[expect(clippy::cast_precision_loss, reason = "rsntp computes in f64")]
fn minus(a: i128, b: i128) -> f64 {
    (a - b) as f64 / 4_294_967_296.0
}

/// Reads an answer as rsntp does: it accepts broadcasts and zero timestamps, checks no round trip, and does
/// not check the origin of a kiss-o'-death.
pub fn read_answer(
    bytes: &[u8],
    sent: &[u8],
    before: Reading,
    after: Reading,
) -> Result<Exchange, RejectReason> {
    let answer = Header::from_bytes(bytes).ok_or(RejectReason::Malformed)?;
    let asked = Header::from_bytes(sent).ok_or(RejectReason::Malformed)?;
    if !(3..=4).contains(&answer.version) || !(3..=5).contains(&answer.mode) {
        return Err(RejectReason::Malformed);
    }
    if answer.stratum == 0 {
        return Err(RejectReason::Kiss(answer.kiss()));
    }
    if answer.origin != asked.transmit {
        return Err(RejectReason::WrongOrigin);
    }
    if answer.leap == Leap::Alarm || answer.stratum >= 16 {
        return Err(RejectReason::Unsynchronised);
    }
    if answer.mode == 3 {
        return Err(RejectReason::Malformed);
    }
    let [t1, t2, t3, t4] = [
        answer.origin,
        answer.receive,
        answer.transmit,
        NtpTimestamp::from_unix_nanos(after.wall.as_nanos()),
    ]
    .map(unfold);
    let offset =
        Offset::from_secs_f64(f64::midpoint(minus(t2, t1), minus(t3, t4))).ok_or(RejectReason::Malformed)?;
    let round_trip = Offset::from_secs_f64(minus(t4, t1) - minus(t3, t2)).ok_or(RejectReason::Malformed)?;
    Ok(Exchange { before, after, offset, round_trip, stratum: answer.stratum, leap: answer.leap })
}
