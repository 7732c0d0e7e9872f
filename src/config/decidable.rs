//! Up to which round trip a threshold is decidable.

use std::time::Duration;

/// Every bound contains about this much: the error that a server does not declare (0.5 ms), and what the
/// oscillator adds between two polls.
const SERVER_ERROR: Duration = Duration::from_micros(1_100);
/// The share of the threshold, in percent, that is left for the round trip: the rest is for the oscillator, for
/// the jitter of the path, and for the 10% by which the bound must be narrower once a wide one has ended a verdict.
/// Found by simulation; the test below repeats it.
const SHARE: u32 = 85;

/// The longest round trip at which the agent reaches a verdict within ten minutes and keeps it but for lost
/// packets, for servers whose root distance is near zero. Twice their root distance makes it shorter.
///
/// A verdict needs a bound below the threshold, and a bound contains half the round trip.
pub fn decidable_round_trip(threshold: Duration) -> Duration {
    (threshold * SHARE / 100).saturating_sub(SERVER_ERROR) * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::behaviour::{Behaviour, ServerModel};
    use crate::sim::world::{Host, Oscillator, Path, Plan, World, default_settings};
    use drift_core::time::{Offset, Ppb, Wall};

    const SECOND: Duration = Duration::from_secs(1);

    /// In which of the seconds of an hour the state rests on an offset. The path's jitter is a tenth of the
    /// round trip on average, and the oscillator is 50 ppm fast.
    fn decided(threshold: Duration, round_trip: Duration, seed: u64) -> Vec<bool> {
        let path = Path { there: round_trip / 2, back: round_trip / 2, jitter: round_trip / 20, loss: 0.01 };
        let host = Host { model: ServerModel::new(Behaviour::Honest), path };
        let mut world = World::new(Plan {
            seed,
            present: Wall::from_secs(1_795_341_600),
            offset: Offset::ZERO,
            oscillator: Oscillator { error: Ppb::from_ppm(50), swing: Ppb(0), period: SECOND },
            rtc_ahead: Offset::ZERO,
            pools: vec![vec![host]; 2],
            settings: drift_core::machine::Settings { threshold, ..default_settings() },
            api_errors: 0.0,
            steps_work: true,
        });
        world.slew_wall(Ppb::from_ppm(-50));
        let mut at = |second: u32| {
            world.run_until(SECOND * second, |_| Ok(())).unwrap();
            world.snapshot().state.has_offset()
        };
        (1..=3_600).map(&mut at).collect()
    }

    #[test]
    fn a_threshold_is_decided_within_ten_minutes_up_to_its_round_trip_and_never_far_above() {
        for threshold in [2, 10, 50, 100, 200, 400].map(Duration::from_millis) {
            let round_trip = decidable_round_trip(threshold);
            for seed in 1..=6 {
                let decided = decided(threshold, round_trip, seed);
                let first = decided.iter().position(|decided| *decided).unwrap_or(decided.len());
                assert!(first < 600, "{threshold:?} at {round_trip:?}: after {first} s");
                let lost = decided[first..].iter().filter(|decided| !**decided).count();
                assert!(lost < 180, "{threshold:?} at {round_trip:?}: no verdict in {lost} of 3,600 s");
            }
            let above = threshold * 2;
            assert!(!decided(threshold, above, 1).contains(&true), "{threshold:?} at {above:?}");
        }
    }

    #[test]
    fn a_threshold_below_the_error_of_every_server_is_decidable_at_no_round_trip() {
        assert_eq!(decidable_round_trip(Duration::from_micros(1_180)), Duration::ZERO);
        assert_eq!(decidable_round_trip(Duration::from_millis(100)), Duration::from_micros(167_800));
    }
}
