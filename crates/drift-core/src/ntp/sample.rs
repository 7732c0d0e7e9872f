//! What counts as a sample: every rule between an answer and a measurement.

use std::time::Duration;

use crate::ntp::packet::{Header, Leap, NtpTimestamp, answer_to};
use crate::ntp::reject::RejectReason;
use crate::time::interval::Interval;
use crate::time::rate::{MAX_RATE, Rate};
use crate::time::{Bound, Mono, Offset, Reading, Wall, nanos};

/// Error of reading the raw clock and of the 32 bits of an NTP fraction, ns: far above both.
const CLOCK_RESOLUTION: i64 = 2_000;
/// The error of a server that it does not declare, ns. ntpd assumes no less than 1 ms for the distance to a
/// server (`tos mindist`), and halves it for the bound, since half the round trip is what may be wrong.
/// Without it, a server in the same rack whose root dispersion is understated by a few hundred microseconds
/// contradicts every other.
pub(crate) const SERVER_ERROR_MIN: i64 = 500_000;

/// The configured limits of a sample (`maxRoundTrip`, `maxRootDistance`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A sample with a longer round trip is rejected.
    pub max_round_trip: Duration,
    /// A sample with a larger root distance is rejected: the server's own bound against its primary source.
    pub max_root_distance: Duration,
    /// What an operator promises for the pool (`rootDistance`), in place of what its servers declare: Windows domain
    /// controllers declare a root dispersion of 8 to 10 s, and are correct to milliseconds.
    pub root_distance: Option<Duration>,
}

/// One exchange with a server, between two readings of the node's clocks.
///
/// Only the raw clock measures: a step or slew of the wall clock in the midst of it has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The clocks before the request was sent.
    pub sent: Reading,
    /// The clocks after the answer was received.
    pub received: Reading,
    /// The answer.
    pub answer: Header,
}

/// One accepted exchange, on the raw clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The middle of the exchange.
    pub at: Mono,
    /// Reference time at which the raw clock read 0, by this sample (origin: see [`crate::time::line`]).
    pub origin: Wall,
    /// Half the round trip + the server's root distance + what no server declares.
    pub bound: Bound,
    /// From the request to the answer, by the raw clock, the server's own time included.
    pub elapsed: Duration,
    /// Round trip without the server's own time.
    pub round_trip: Duration,
    /// The server's own largest error when the sample was taken, as it declares or as the operator promises.
    pub root_distance: Duration,
    /// The server's stratum.
    pub stratum: u8,
    /// The server's leap indicator.
    pub leap: Leap,
    /// Which clock answered, as far as the answer shows it.
    pub source: Option<Source>,
}

/// What identifies the clock behind an answer: no two clocks were corrected at the same fraction of a second
/// by the same source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Reference identifier.
    reference_id: [u8; 4],
    /// When the clock was last corrected: before the exchange.
    reference: NtpTimestamp,
    /// Stratum.
    stratum: u8,
    /// Round trip to the primary source.
    root_delay: Duration,
    /// The clock's largest error. It grows between two exchanges.
    root_dispersion: Duration,
}

impl Exchange {
    /// The exchange that these bytes complete. `Err`: they are no answer to the request that carried `nonce`,
    /// and the right one may still come.
    pub fn complete(
        nonce: NtpTimestamp,
        sent: Reading,
        received: Reading,
        bytes: &[u8],
    ) -> Result<Self, RejectReason> {
        answer_to(bytes, nonce).map(|answer| Self { sent, received, answer })
    }

    /// Accepts the exchange as a sample, or rejects it with a reason.
    pub fn sample(&self, limits: Limits) -> Result<Sample, RejectReason> {
        let Self { sent, received, answer } = self;
        answer.validate()?;
        if was_suspended(*sent, *received) {
            return Err(RejectReason::Suspended);
        }
        let elapsed = received.raw.since(sent.raw);
        let (arrived, left) = (answer.receive.to_wall(), answer.transmit.to_wall());
        let round_trip = nanos(elapsed).saturating_sub(left.minus(arrived).as_nanos());
        // The server's own time is counted by another oscillator. Beyond what the two may differ by, a
        // negative round trip is impossible.
        if round_trip < -CLOCK_RESOLUTION - MAX_RATE.over(elapsed) {
            return Err(RejectReason::ImpossibleRoundTrip);
        }
        let round_trip = Duration::from_nanos(round_trip.max(0).unsigned_abs());
        if round_trip > limits.max_round_trip {
            return Err(RejectReason::SlowRoundTrip);
        }
        let root_distance = limits.root_distance.unwrap_or_else(|| answer.root_distance());
        if limits.root_distance.is_none() && root_distance > limits.max_root_distance {
            return Err(RejectReason::RootDistance);
        }
        // Reference time minus the raw clock, as the request arrived and as the answer left.
        let (there, back) = (arrived.minus_raw(sent.raw), left.minus_raw(received.raw));
        Ok(Sample {
            at: sent.raw.plus(elapsed / 2),
            origin: midway(there, back),
            bound: Bound::from(round_trip / 2)
                + Bound::from(root_distance)
                + Bound::from_nanos(CLOCK_RESOLUTION + SERVER_ERROR_MIN),
            elapsed,
            round_trip,
            root_distance,
            stratum: answer.stratum,
            leap: answer.leap,
            source: Source::of(answer),
        })
    }
}

impl Sample {
    /// The origins that the sample allows at [`Sample::at`].
    ///
    /// The request cannot have arrived before it was sent, nor the answer have left after it was received.
    /// Each of the two is half the exchange away from its middle, so the rate of the raw clock counts: half
    /// of the time in which an oscillator that is 10% slow counts 270 ms is 150 ms.
    pub fn interval(&self, rate: Rate) -> Interval {
        let by_rate = rate.high_over(self.elapsed) / 2;
        Interval::around(self.origin, Bound::from_nanos(self.bound.as_nanos().saturating_add(by_rate)))
    }
}

impl Source {
    fn of(answer: &Header) -> Option<Self> {
        // Some appliances write the time of the answer, or the start of the second, which shows nothing.
        let is_telling = answer.reference.0 & 0xffff_ffff != 0 && answer.reference.is_before(answer.receive);
        is_telling.then_some(Self {
            reference_id: answer.reference_id,
            reference: answer.reference,
            stratum: answer.stratum,
            root_delay: answer.root_delay,
            root_dispersion: answer.root_dispersion,
        })
    }

    /// Is this the same clock, asked within a few seconds? Its dispersion grows by 15 ppm in between
    /// (RFC 5905 section 4), and has a resolution of 15 µs.
    pub fn is_same_clock(&self, other: &Self) -> bool {
        const GROWTH_MAX: Duration = Duration::from_micros(100);
        let strictly = |s: &Self| (s.reference_id, s.reference, s.stratum, s.root_delay);
        strictly(self) == strictly(other) && self.root_dispersion.abs_diff(other.root_dispersion) < GROWTH_MAX
    }
}

/// Was the machine suspended between two readings?
///
/// The time in suspend is the difference of two clocks that are not read at one instant: a process that is
/// interrupted between the two reads it as shorter by as much.
pub(crate) fn was_suspended(sent: Reading, received: Reading) -> bool {
    const READ_APART_MAX: Duration = Duration::from_millis(10);
    sent.suspended.abs_diff(received.suspended) > READ_APART_MAX
}

fn midway(a: Wall, b: Wall) -> Wall {
    a.plus(Offset::from_nanos(b.minus(a).as_nanos() / 2))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ntp::packet::MODE_SERVER;
    use crate::test_support::Reached;
    use crate::time::{NANOS_PER_SEC, Ppb};
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const NOW: i64 = 1_795_000_000 * NANOS_PER_SEC;
    const NONCE: NtpTimestamp = NtpTimestamp(77);
    const LIMITS: Limits = Limits {
        max_round_trip: Duration::from_secs(1),
        root_distance: None,
        max_root_distance: Duration::from_secs(1),
    };
    const MARGIN: i64 = CLOCK_RESOLUTION + SERVER_ERROR_MIN;

    fn stamp(unix_ns: i64) -> NtpTimestamp {
        NtpTimestamp::from_unix_nanos(unix_ns)
    }

    fn reading(raw_ms: i64) -> Reading {
        Reading { wall: Wall::from_secs(0), raw: Mono::from_nanos(raw_ms * MS), suspended: Duration::ZERO }
    }

    fn header(arrived: i64, left: i64) -> Header {
        Header {
            leap: Leap::None,
            version: 4,
            mode: MODE_SERVER,
            stratum: 2,
            precision: -20,
            root_delay: Duration::from_millis(6),
            root_dispersion: Duration::from_millis(2),
            reference_id: *b"GOOG",
            reference: stamp(NOW - 17 * NANOS_PER_SEC + 5),
            origin: NONCE,
            receive: stamp(arrived),
            transmit: stamp(left),
        }
    }

    /// A clock that was corrected then.
    pub(crate) fn source_of_reference(fraction: u64) -> Source {
        let mut answer = header(NOW, NOW);
        answer.reference = NtpTimestamp(answer.reference.0 & !0xffff_ffff | fraction);
        Source::of(&answer).unwrap()
    }

    /// 8 ms there, 2 ms in the server, 10 ms back.
    fn exchange() -> Exchange {
        Exchange {
            sent: reading(1_000),
            received: reading(1_020),
            answer: header(NOW + 8 * MS, NOW + 10 * MS),
        }
    }

    #[test]
    fn good_exchanges_become_samples_on_the_raw_clock() {
        let sample = exchange().sample(LIMITS).unwrap();
        assert_eq!(sample.at, Mono::from_nanos(1_010 * MS));
        assert_eq!(
            (sample.elapsed, sample.round_trip),
            (Duration::from_millis(20), Duration::from_millis(18))
        );
        let truth = Wall::from_nanos(NOW - 1_000 * MS);
        assert!((sample.origin.minus(truth).as_nanos() + MS).abs() < 2, "half of 8 - 10 ms");
        let root = 5 * MS + 953;
        assert!((sample.bound.as_nanos() - 9 * MS - root - MARGIN).abs() < 40_000, "{:?}", sample.bound);
    }

    #[test]
    fn steps_and_slews_of_the_wall_clock_do_not_change_a_sample() {
        let mut moved = exchange();
        moved.received.wall = Wall::from_secs(99);
        assert_eq!(moved.sample(LIMITS), exchange().sample(LIMITS));
    }

    #[test]
    fn each_rule_has_its_own_reject_reason() {
        let rejected = |change: fn(&mut Exchange)| {
            let mut exchange = exchange();
            change(&mut exchange);
            exchange.sample(LIMITS).unwrap_err()
        };
        assert_eq!(rejected(|e| e.received.suspended = Duration::from_millis(11)), RejectReason::Suspended);
        assert_eq!(rejected(|e| e.received = reading(1_001)), RejectReason::ImpossibleRoundTrip);
        assert_eq!(rejected(|e| e.received = reading(2_003)), RejectReason::SlowRoundTrip);
        assert_eq!(
            rejected(|e| e.answer.root_dispersion = Duration::from_millis(997)),
            RejectReason::RootDistance,
            "with half the root delay it is over 1 s"
        );
        assert_eq!(rejected(|e| e.answer.stratum = 16), RejectReason::Unsynchronised);
    }

    #[test]
    fn a_promised_root_distance_replaces_what_the_server_declares() {
        let mut windows = exchange();
        windows.answer.root_dispersion = Duration::from_secs(9);
        assert_eq!(windows.sample(LIMITS), Err(RejectReason::RootDistance));
        assert!(RejectReason::RootDistance.in_words().contains("set rootDistance for this pool"));
        for promised in [1, 100, 2_000].map(Duration::from_millis) {
            let limits = Limits { root_distance: Some(promised), ..LIMITS };
            let [of_windows, of_other] = [&windows, &exchange()].map(|e| e.sample(limits).unwrap());
            assert_eq!(of_windows.root_distance, promised, "also where it is over the limit of the others");
            let bound = Bound::from_nanos(9 * MS + MARGIN) + Bound::from(promised);
            assert_eq!((of_windows.bound, of_other.bound), (bound, bound), "more or less than it declares");
        }
    }

    #[test]
    fn readings_of_the_time_in_suspend_may_differ_by_what_lies_between_two_reads() {
        let mut after_a_suspend = exchange();
        after_a_suspend.sent.suspended = Duration::from_secs(12) - Duration::from_nanos(40);
        after_a_suspend.received.suspended = Duration::from_secs(12) - Duration::from_millis(3);
        assert_eq!(after_a_suspend.sample(LIMITS), exchange().sample(LIMITS));
    }

    #[test]
    fn round_trips_may_be_shorter_by_what_two_oscillators_differ_by() {
        let mut held = exchange();
        held.answer = header(NOW, NOW + 100 * MS);
        held.received = reading(1_000 + 95);
        assert_eq!(held.sample(LIMITS).map(|s| s.round_trip), Ok(Duration::ZERO));
        held.received = reading(1_000 + 85);
        assert_eq!(held.sample(LIMITS), Err(RejectReason::ImpossibleRoundTrip));
    }

    #[test]
    fn packets_with_another_origin_complete_no_exchange() {
        let complete = |bytes: &[u8]| Exchange::complete(NONCE, reading(0), reading(1), bytes).map(|_| ());
        let answer = header(NOW, NOW);
        assert_eq!(complete(&answer.to_bytes()), Ok(()));
        let kiss = Header { stratum: 0, reference_id: *b"DENY", origin: NtpTimestamp(1), ..answer };
        assert_eq!(complete(&kiss.to_bytes()), Err(RejectReason::WrongOrigin));
        assert_eq!(complete(&[]), Err(RejectReason::Malformed));
        assert_eq!(complete(&answer.to_bytes()[..47]), Err(RejectReason::Malformed));
    }

    #[test]
    fn sources_are_the_same_clock_only_with_all_fields_equal() {
        let source = |change: fn(&mut Header)| {
            let mut answer = header(NOW, NOW);
            change(&mut answer);
            Source::of(&answer)
        };
        let own = source(|_| ()).unwrap();
        assert!(own.is_same_clock(&source(|a| a.root_dispersion += Duration::from_micros(60)).unwrap()));
        for other in [
            source(|a| a.root_dispersion += Duration::from_millis(1)),
            source(|a| a.reference.0 += 1),
            source(|a| a.reference_id = *b"GPS\0"),
            source(|a| a.stratum = 3),
            source(|a| a.root_delay *= 2),
        ] {
            assert!(!own.is_same_clock(&other.unwrap()));
        }
        assert_eq!(source(|a| a.reference = NtpTimestamp::ZERO), None);
        assert_eq!(source(|a| a.reference.0 &= !0xffff_ffff), None, "a whole second");
        assert_eq!(source(|a| a.reference = a.receive), None, "the time of the exchange itself");
    }

    /// Of any raw time, and of answers near the limits.
    #[test]
    fn samples_never_panic() {
        let reached =
            Reached::new([("accepted", 6), ("impossible round trip", 8), ("slow", 2), ("a root too far", 1)]);
        let dispersion = prop_oneof![2 => 0u64..990_000_000, 1 => any::<u64>()];
        // Of the exchange on the raw clock, and in the server.
        let spans = (
            prop_oneof![2 => 0i64..1_200_000_000, 1 => any::<i64>()],
            prop_oneof![3 => 0u64..1 << 32, 1 => any::<u64>()],
        );
        proptest!(|(
            stratum in prop_oneof![4 => 1u8..16, 1 => any::<u8>()], sent: i64, (elapsed, held) in spans, receive: u64,
            reference: u64, dispersion in dispersion,
        )| {
            let (received, transmit) = (sent.saturating_add(elapsed), receive.wrapping_add(held));
            let at = |raw| Reading { wall: Wall::from_nanos(received), raw: Mono::from_nanos(raw), suspended: Duration::ZERO };
            let answer = Header { stratum, receive: NtpTimestamp(receive), transmit: NtpTimestamp(transmit), reference: NtpTimestamp(reference),
                root_dispersion: Duration::from_nanos(dispersion), ..header(0, 0) };
            let sample = (Exchange { sent: at(sent), received: at(received), answer }).sample(LIMITS);
            reached.case("accepted", sample.is_ok());
            reached.case("impossible round trip", sample == Err(RejectReason::ImpossibleRoundTrip));
            reached.case("slow", sample == Err(RejectReason::SlowRoundTrip));
            reached.case("a root too far", sample == Err(RejectReason::RootDistance));
            if let Ok(sample) = sample {
                let interval = sample.interval(Rate::UNKNOWN);
                prop_assert!(interval.low <= interval.high);
                prop_assert!(sample.round_trip <= LIMITS.max_round_trip && sample.root_distance <= LIMITS.max_root_distance);
            }
        });
    }

    /// RFC 5905 section 8: however the round trip is split, and however fast the oscillator is, within what
    /// may be, the truth is inside.
    #[test]
    fn asymmetric_paths_and_any_oscillator_stay_within_the_bound() {
        let reached = Reached::new([("outside without the rate", 5), ("outside half of the bound", 10)]);
        let way = || prop_oneof![0i64..400_000_000, 0i64..100_000];
        proptest!(|(
            there in way(), back in way(), hold in 0i64..50_000_000, ppm in prop_oneof![-100_000i64..100_000, 90_000i64..100_000, -100_000i64..-90_000],
        )| {
            let counted = |true_ns: i64| true_ns + Ppb::from_ppm(ppm).over(Duration::from_nanos(true_ns.unsigned_abs()));
            let at = |true_ns: i64| Reading { raw: Mono::from_nanos(counted(true_ns)), ..reading(0) };
            let exchange = Exchange { sent: at(0), received: at(there + hold + back), answer: header(NOW + there, NOW + there + hold) };
            let sample = exchange.sample(LIMITS).unwrap();
            let middle = (there + hold + back) / 2;
            let truth = Wall::from_nanos(NOW + middle).minus_raw(Mono::from_nanos(counted(middle)));
            let interval = sample.interval(Rate::UNKNOWN);
            let error = truth.minus(sample.origin).as_nanos().abs();
            // Half of the round trip is what the bound must cover; the server's own error is not simulated.
            let is_outside = |bound: i64| error > bound;
            let round_trip = nanos(sample.round_trip / 2);
            reached.case("outside without the rate", is_outside(round_trip));
            reached.case("outside half of the bound", is_outside(interval.bound().as_nanos() / 2));
            prop_assert!(interval.low <= truth && truth <= interval.high, "{interval:?} {truth:?}");
        });
    }
}
