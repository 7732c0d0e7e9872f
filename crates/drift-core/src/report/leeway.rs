//! The leeway that a verifier of tokens on this node should allow (RFC 7519 sections 4.1.4 to 4.1.6: "usually
//! no more than a few minutes, to account for clock skew").

use std::time::Duration;

use super::shape::Shape;
use crate::time::{ExactSpan, Measurement};

/// What the recommendation is computed from (`leeway.*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How far the clock of the node that issued a token may be off.
    pub peer_allowance: Duration,
    /// The smallest leeway that is recommended.
    pub minimum: Duration,
    /// The largest leeway that is recommended: expired tokens stay valid for as long.
    pub maximum: Duration,
}

/// A recommendation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leeway {
    /// The leeway in whole seconds.
    pub seconds: u64,
    /// It rests on what was measured, and not only on the limits.
    pub is_measured: bool,
    /// What it is made of, for `/v1/clock` and the status page.
    pub reason: String,
}

impl Settings {
    /// The size of the node's own offset, plus its bound, plus the possible offset of the issuer's node,
    /// rounded up to whole seconds and kept within the limits. A clock that is not measured gives the
    /// maximum. An offset of a [`Shape`] is no skew, so no leeway is for it: it gives the minimum.
    pub fn recommend(&self, measured: Option<Measurement>) -> Leeway {
        let Self { peer_allowance, minimum, maximum } = *self;
        let Some(measured) = measured else {
            return Leeway {
                seconds: whole(maximum),
                is_measured: false,
                reason: "the maximum, because this clock is not measured".to_owned(),
            };
        };
        if let Some(shape) = Shape::of(measured) {
            let reason = format!(
                "leeway.minimum: this clock is {measured}, {shape}, and no leeway is for that: fix the clock"
            );
            return Leeway { seconds: whole(minimum), is_measured: false, reason };
        }
        let Measurement { offset, bound } = measured;
        let needed = offset.magnitude().saturating_add(bound.as_duration()).saturating_add(peer_allowance);
        let sum = format!("this clock is {measured}, and others may be {} off", ExactSpan(peer_allowance));
        let (seconds, limit) = match whole(needed) {
            seconds if seconds > whole(maximum) => {
                (whole(maximum), ", which exceeds leeway.maximum: fix the clock, not the leeway")
            }
            seconds if seconds < whole(minimum) => (whole(minimum), ", which leeway.minimum covers"),
            seconds => (seconds, ""),
        };
        Leeway { seconds, is_measured: true, reason: format!("{sum}{limit}") }
    }
}

/// Seconds, rounded up.
fn whole(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Reached;
    use crate::time::Bound;
    use crate::time::Offset;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    fn settings() -> Settings {
        Settings {
            peer_allowance: Duration::from_millis(100),
            minimum: Duration::from_secs(5),
            maximum: Duration::from_secs(30),
        }
    }

    fn recommend(offset_ms: i64, bound_ms: i64) -> Leeway {
        settings().recommend(Some(Measurement::new(
            Offset::from_nanos(offset_ms * MS),
            Bound::from_nanos(bound_ms * MS),
        )))
    }

    #[test]
    fn offset_bound_and_peers_add_up_to_whole_seconds_within_the_limits() {
        assert_eq!(recommend(2, 1).seconds, 5);
        assert_eq!(recommend(4_890, 10).seconds, 5, "exactly");
        assert_eq!(recommend(4_891, 10).seconds, 6);
        assert_eq!(recommend(-4_891, 10).seconds, 6, "ahead is as bad as behind");
        assert_eq!(recommend(0, 10_000).seconds, 11);
        assert_eq!(recommend(29_900, 0).seconds, 30);
        assert_eq!(recommend(29_901, 0).seconds, 30);
        assert_eq!(recommend(3, 131).seconds, 5, "a far site, whose bound is too wide for a verdict");
        assert_eq!(settings().recommend(None).seconds, 30);
        assert!(recommend(2, 1).is_measured && !settings().recommend(None).is_measured);
    }

    #[test]
    fn a_clock_on_another_time_scale_gets_no_leeway() {
        for (offset_ms, words) in
            [(-18_000, "GPS"), (37_010, "TAI"), (3_600_100, "1 h"), (-25_199_800, "7 h")]
        {
            let leeway = recommend(offset_ms, 2);
            assert_eq!((leeway.seconds, leeway.is_measured), (5, false), "{leeway:?}");
            assert!(leeway.reason.contains(words) && leeway.reason.ends_with("fix the clock"), "{leeway:?}");
        }
        assert_eq!((recommend(-19_000, 2).seconds, recommend(-19_000, 2).is_measured), (20, true));
    }

    #[test]
    fn the_reason_lists_the_parts_and_the_limit_that_applies() {
        assert_eq!(
            recommend(3_000, 2_000).reason,
            "this clock is 3 s behind (±2 s), and others may be 100 ms off"
        );
        assert!(recommend(1, 1).reason.ends_with("leeway.minimum covers"));
        assert!(recommend(42_000, 1).reason.contains("fix the clock"));
        assert!(settings().recommend(None).reason.contains("not measured"));
    }

    #[test]
    fn the_leeway_covers_offset_bound_and_peers_or_is_the_maximum() {
        let reached = Reached::new([("the minimum", 4), ("a sum", 15), ("the maximum", 10)]);
        let offset = prop_oneof![-30_000 * MS..30_000 * MS, -7_000 * MS..7_000 * MS, any::<i64>()];
        proptest!(|(offset in offset, bound in prop_oneof![4 => 0..2_000 * MS, 2 => 0..20_000 * MS, 1 => 0..i64::MAX])| {
            let measured = Measurement::new(Offset::from_nanos(offset), Bound::from_nanos(bound));
            prop_assume!(Shape::of(measured).is_none());
            let seconds = settings().recommend(Some(measured)).seconds;
            prop_assert!((5..=30).contains(&seconds));
            let needed = measured.offset.magnitude() + measured.bound.as_duration() + Duration::from_millis(100);
            if !reached.case("the maximum", needed > Duration::from_secs(30)) {
                prop_assert!(Duration::from_secs(seconds) >= needed);
            }
            reached.case("the minimum", needed <= Duration::from_secs(5));
            if reached.case("a sum", needed > Duration::from_secs(5) && needed <= Duration::from_secs(30)) {
                prop_assert!(Duration::from_secs(seconds) < needed + Duration::from_secs(1));
            }
        });
    }
}
