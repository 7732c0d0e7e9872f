//! What counts as a sample: every rule between an answer and a measurement. None of them is left to rsntp.

use std::time::Duration;

use crate::ntp::packet::{Header, Leap, NtpTimestamp, STRATUM_UNSYNCHRONISED};
use crate::ntp::reject::RejectReason;
use crate::time::{Bound, Mono, NANOS_PER_SEC, Offset, Ppb, Reading, Wall, nanos};

/// How far wall and raw clock may diverge during one exchange, ns. Beyond it, the wall clock was set.
const CLOCK_SET_TOLERANCE: i64 = 1_000_000;
/// Error of reading the clocks and of rsntp's floating point, ns: far above both, far below any round trip.
const CLOCK_RESOLUTION: i64 = 2_000;
/// How fast a server's dispersion grows between two header reads (PHI, RFC 5905 section 4).
const PHI: Ppb = Ppb::from_ppm(15);

/// The configured limits of a sample (`maxRoundTrip`, `maxRootDistance`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A sample with a longer round trip is rejected.
    pub max_round_trip: Duration,
    /// A sample with a larger root distance is rejected: the server's own bound against its primary source.
    pub max_root_distance: Duration,
}

/// The root distance of a server, as one header reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// When the header was read, on the raw clock.
    pub at: Mono,
    /// Half the root delay + root dispersion + precision (RFC 5905 section 11.2): the server's own largest
    /// error.
    pub distance: Duration,
}

/// One finished exchange as the client library reports it, between two readings of the node's clocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchange {
    /// The clocks before the request.
    pub before: Reading,
    /// The clocks after the answer.
    pub after: Reading,
    /// Reference time - node time, by this exchange.
    pub offset: Offset,
    /// Round trip without the server's own time; signed, since the library does not check it.
    pub round_trip: Offset,
    /// The server's stratum.
    pub stratum: u8,
    /// The server's leap indicator.
    pub leap: Leap,
}

/// One accepted exchange, on the raw clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub at: Mono,
    /// Reference time at which the raw clock read 0, by this sample (origin: see [`crate::time::line`]).
    pub origin: Wall,
    /// Half the round trip + the server's root distance + the error of reading the clocks.
    pub bound: Bound,
    /// Round trip without the server's own time.
    pub round_trip: Duration,
    /// The server's own largest error when the sample was taken.
    pub root_distance: Duration,
    /// The server's stratum.
    pub stratum: u8,
    /// The server's leap indicator.
    pub leap: Leap,
}

/// Rejects a clock that rsntp cannot handle: it panics before 1970, and takes the wrong NTP era from 2104 on.
pub fn clock_in_range(now: Reading) -> Result<(), RejectReason> {
    const ERA_1_HIGH_BIT_SECS: i64 = (1 << 32) + (1 << 31) - NtpTimestamp::UNIX_EPOCH_SECS;
    let secs = now.wall.as_nanos().div_euclid(NANOS_PER_SEC);
    if (0..ERA_1_HIGH_BIT_SECS).contains(&secs) { Ok(()) } else { Err(RejectReason::ClockOutOfRange) }
}

impl Root {
    /// Takes the root distance from a header read at `at`; rejected above the limit.
    pub fn from_header(header: &Header, at: Mono, limits: Limits) -> Result<Self, RejectReason> {
        let precision = Duration::from_secs_f64(f64::from(header.precision.min(4)).exp2());
        let distance =
            (header.root_delay / 2).saturating_add(header.root_dispersion).saturating_add(precision);
        if distance > limits.max_root_distance {
            Err(RejectReason::RootDistance)
        } else {
            Ok(Self { at, distance })
        }
    }
}

impl Sample {
    /// Accepts an exchange as a sample, or rejects it with a reason.
    pub fn validate(exchange: &Exchange, root: Root, limits: Limits) -> Result<Self, RejectReason> {
        let Exchange { before, after, offset, round_trip, stratum, leap } = *exchange;
        clock_in_range(before)?;
        clock_in_range(after)?;
        let moved = after.origin().minus(before.origin()).as_nanos().saturating_abs();
        if moved > CLOCK_SET_TOLERANCE {
            return Err(RejectReason::ClockSet);
        }
        if stratum == 0 || stratum >= STRATUM_UNSYNCHRONISED || leap == Leap::Alarm {
            return Err(RejectReason::Unsynchronised);
        }
        let elapsed = nanos(after.raw.since(before.raw));
        // With both server timestamps zero the round trip looks right, but reference time is then the start
        // of an NTP era.
        let middle = before.wall.plus(Offset::from_nanos(elapsed / 2)).plus(offset);
        if is_era_start(middle, elapsed.saturating_add(CLOCK_SET_TOLERANCE)) {
            return Err(RejectReason::ZeroTimestamp);
        }
        // A server's clock has a resolution: a round trip may come out shorter by that much, and no more.
        if round_trip.as_nanos() < -CLOCK_RESOLUTION
            || round_trip.as_nanos() > elapsed.saturating_add(moved + CLOCK_RESOLUTION)
        {
            return Err(RejectReason::ImpossibleRoundTrip);
        }
        let round_trip = Duration::from_nanos(round_trip.as_nanos().max(0).unsigned_abs());
        if round_trip > limits.max_round_trip {
            return Err(RejectReason::SlowRoundTrip);
        }
        let aged = u64::try_from(PHI.over(after.raw.since(root.at))).unwrap_or(u64::MAX);
        let root_distance = root.distance.saturating_add(Duration::from_nanos(aged));
        if root_distance > limits.max_root_distance {
            return Err(RejectReason::RootDistance);
        }
        Ok(Self {
            at: before.raw.plus(Duration::from_nanos(elapsed.unsigned_abs() / 2)),
            origin: midway(before.origin(), after.origin()).plus(offset),
            bound: Bound::from(round_trip / 2)
                + Bound::from(root_distance)
                + Bound::from_nanos(moved.saturating_add(CLOCK_RESOLUTION)),
            round_trip,
            root_distance,
            stratum,
            leap,
        })
    }
}

fn midway(a: Wall, b: Wall) -> Wall {
    a.plus(Offset::from_nanos(b.minus(a).as_nanos() / 2))
}

fn is_era_start(time: Wall, tolerance: i64) -> bool {
    [-NtpTimestamp::UNIX_EPOCH_SECS, (1 << 32) - NtpTimestamp::UNIX_EPOCH_SECS]
        .into_iter()
        .any(|era| time.minus(Wall::from_secs(era)).as_nanos().saturating_abs() <= tolerance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;
    const LIMITS: Limits =
        Limits { max_round_trip: Duration::from_secs(1), max_root_distance: Duration::from_secs(1) };
    const ROOT: Root = Root { at: Mono::from_nanos(0), distance: Duration::from_millis(5) };

    fn reading(wall_ms: i64, raw_ms: i64) -> Reading {
        Reading {
            wall: Wall::from_nanos(1_795_000_000 * NANOS_PER_SEC + wall_ms * MS),
            raw: Mono::from_nanos(raw_ms * MS),
            suspended: Duration::ZERO,
        }
    }

    fn exchange() -> Exchange {
        Exchange {
            before: reading(0, 1_000),
            after: reading(20, 1_020),
            offset: Offset::from_nanos(250 * MS),
            round_trip: Offset::from_nanos(20 * MS),
            stratum: 1,
            leap: Leap::None,
        }
    }

    #[test]
    fn good_exchanges_become_samples_on_the_raw_clock() {
        let sample = Sample::validate(&exchange(), ROOT, LIMITS).unwrap();
        assert_eq!(sample.at, Mono::from_nanos(1_010 * MS));
        assert_eq!(sample.origin.minus(exchange().before.origin()), Offset::from_nanos(250 * MS));
        let expected = 10 * MS + 5 * MS + PHI.over(Duration::from_millis(1_020)) + CLOCK_RESOLUTION;
        assert_eq!(
            sample.bound,
            Bound::from_nanos(expected),
            "half the round trip + root distance + its age"
        );
    }

    #[test]
    fn each_rule_has_its_own_reject_reason() {
        let rejected = |change: fn(&mut Exchange)| {
            let mut exchange = exchange();
            change(&mut exchange);
            Sample::validate(&exchange, ROOT, LIMITS).unwrap_err()
        };
        assert_eq!(
            rejected(|e| e.after = reading(22, 1_020)),
            RejectReason::ClockSet,
            "wall moved 2 ms more than raw"
        );
        assert_eq!(
            rejected(|e| e.after = reading(18, 1_020)),
            RejectReason::ClockSet,
            "wall moved 2 ms less than raw"
        );
        assert_eq!(rejected(|e| e.round_trip = Offset::from_nanos(-MS)), RejectReason::ImpossibleRoundTrip);
        assert_eq!(
            rejected(|e| e.round_trip = Offset::from_nanos(21 * MS)),
            RejectReason::ImpossibleRoundTrip
        );
        assert_eq!(rejected(|e| e.stratum = 0), RejectReason::Unsynchronised);
        assert_eq!(rejected(|e| e.stratum = 16), RejectReason::Unsynchronised);
        assert_eq!(rejected(|e| e.leap = Leap::Alarm), RejectReason::Unsynchronised);
        assert_eq!(
            rejected(|e| {
                e.after = reading(1_500, 2_500);
                e.round_trip = Offset::from_nanos(1_001 * MS);
            }),
            RejectReason::SlowRoundTrip
        );
        assert_eq!(
            rejected(|e| e.before.wall = Wall::from_secs(-1)),
            RejectReason::ClockOutOfRange,
            "rsntp panics before 1970"
        );
    }

    #[test]
    fn two_zero_timestamps_are_rejected_though_the_round_trip_looks_right() {
        let era_1 = Wall::from_secs((1 << 32) - NtpTimestamp::UNIX_EPOCH_SECS);
        let mut exchange = exchange();
        exchange.offset = era_1.minus(exchange.before.wall.plus(Offset::from_nanos(10 * MS)));
        assert_eq!(Sample::validate(&exchange, ROOT, LIMITS), Err(RejectReason::ZeroTimestamp));
        exchange.offset = Offset::from_nanos(exchange.offset.as_nanos() + 3_600 * NANOS_PER_SEC);
        assert!(
            Sample::validate(&exchange, ROOT, LIMITS).is_ok(),
            "an hour after the start of the era is a time like any other"
        );
    }

    #[test]
    fn root_distances_over_the_limit_are_rejected_when_read_and_after_ageing() {
        let header = |dispersion| Header {
            leap: Leap::None,
            version: 4,
            mode: 4,
            stratum: 2,
            precision: -20,
            root_delay: Duration::from_millis(200),
            root_dispersion: dispersion,
            reference_id: [0; 4],
            origin: NtpTimestamp(1),
            receive: NtpTimestamp(1),
            transmit: NtpTimestamp(1),
        };
        let at = Mono::from_nanos(0);
        assert_eq!(
            Root::from_header(&header(Duration::from_millis(900)), at, LIMITS),
            Err(RejectReason::RootDistance)
        );
        let root = Root::from_header(&header(Duration::from_millis(899)), at, LIMITS).unwrap();
        assert!(root.distance >= Duration::from_millis(999), "half the delay counts: {root:?}");
        let late = Exchange { before: reading(0, 900_000), after: reading(20, 900_020), ..exchange() };
        assert_eq!(Sample::validate(&late, root, LIMITS), Err(RejectReason::RootDistance));
    }

    #[test]
    fn years_that_rsntp_cannot_handle_are_rejected() {
        let at = |secs| clock_in_range(Reading { wall: Wall::from_secs(secs), ..reading(0, 0) });
        assert_eq!(at(-1), Err(RejectReason::ClockOutOfRange));
        assert_eq!(at(0), Ok(()));
        assert_eq!(at(2_085_978_496), Ok(()), "2036: the first second of NTP era 1");
        assert_eq!(at(4_233_462_144), Err(RejectReason::ClockOutOfRange), "2104");
    }

    proptest! {
        #[test]
        fn validate_never_panics(
            offset: i64, round_trip: i64, stratum: u8, wall_a: i64, wall_b: i64, raw_a: i64, raw_b: i64
        ) {
            let at = |wall, raw| Reading { wall: Wall::from_nanos(wall), raw: Mono::from_nanos(raw), suspended: Duration::ZERO };
            let _ = Sample::validate(&Exchange { before: at(wall_a, raw_a), after: at(wall_b, raw_b),
                offset: Offset::from_nanos(offset), round_trip: Offset::from_nanos(round_trip), stratum, leap: Leap::None }, ROOT, LIMITS);
        }

        /// RFC 5905 section 8: however the round trip is split, the error is at most half of it.
        #[test]
        fn asymmetric_paths_stay_within_the_bound(there in 0i64..400_000_000, back in 0i64..400_000_000, truth in -5_000_000_000i64..5_000_000_000) {
            let before = reading(0, 0);
            let elapsed = there + back;
            let after = Reading { wall: before.wall.plus(Offset::from_nanos(elapsed)), raw: Mono::from_nanos(elapsed), ..before };
            let reported = truth + (there - back) / 2;
            let sample = Sample::validate(&Exchange { before, after, offset: Offset::from_nanos(reported),
                round_trip: Offset::from_nanos(elapsed), stratum: 1, leap: Leap::None }, ROOT, LIMITS).unwrap();
            let measured = sample.origin.minus(before.origin()).as_nanos();
            prop_assert!((measured - truth).abs() <= sample.bound.as_nanos());
        }
    }
}
