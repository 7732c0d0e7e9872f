//! Is the RTC usable as a clock? One that has stopped, or that returns arbitrary times, jumps again and
//! again, and is ignored.

use std::time::Duration;

use crate::time::Mono;

/// Jumps are counted for this long, from the first one. Then the count starts again, and an ignored RTC gets
/// another chance.
const JUMP_COUNT_PERIOD: Duration = Duration::from_secs(600);
/// The largest weight of all jumps in one period with which an RTC is trusted. A machine may be paused 30
/// times in it.
const MAX_JUMP_WEIGHT: u32 = 30;
/// The weight of a jump forward: a pause makes one.
const FORWARD_WEIGHT: u32 = 1;
/// The weight of a jump back: no pause makes one, and an RTC that has stopped makes one every second.
const BACKWARD_WEIGHT: u32 = 6;

/// Counts the jumps of an RTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct RtcTrust {
    first_jump: Option<Mono>,
    weight: u32,
}

impl RtcTrust {
    /// Counts a jump at `at` (base clock).
    pub fn count_jump(&mut self, at: Mono, is_forward: bool) {
        self.first_jump.get_or_insert(at);
        let weight = if is_forward { FORWARD_WEIGHT } else { BACKWARD_WEIGHT };
        self.weight = self.weight.saturating_add(weight);
    }

    /// Has the period of the current count ended by `now` (base clock)?
    pub fn is_period_over(&self, now: Mono) -> bool {
        self.first_jump.is_some_and(|first| now.since(first) >= JUMP_COUNT_PERIOD)
    }

    /// Starts the count again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Has the RTC jumped rarely enough to be used?
    pub fn is_trusted(&self) -> bool {
        self.weight <= MAX_JUMP_WEIGHT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After so many jumps, one a second from 0 on.
    fn after(jumps: u32, is_forward: bool) -> RtcTrust {
        let mut trust = RtcTrust::default();
        for second in 0..i64::from(jumps) {
            trust.count_jump(Mono::from_nanos(second * 1_000_000_000), is_forward);
        }
        trust
    }

    #[test]
    fn thirty_jumps_forward_or_five_back_are_trusted_and_no_more() {
        assert!(after(30, true).is_trusted() && !after(31, true).is_trusted());
        assert!(after(5, false).is_trusted() && !after(6, false).is_trusted());
    }

    #[test]
    fn jump_counts_last_ten_minutes_from_the_first_jump() {
        let (before, after_end) = (Mono::from_nanos(599_999_999_999), Mono::from_nanos(600_000_000_000));
        let mut trust = after(31, true);
        assert!(!trust.is_period_over(before) && trust.is_period_over(after_end));
        trust.reset();
        assert!(trust.is_trusted() && !trust.is_period_over(after_end));
    }
}
