//! Is the RTC usable as a clock? One that stands still, that shows arbitrary times, or that jumps again and again
//! is ignored for a while.

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
/// The weight of a jump back: no pause makes one.
const BACKWARD_WEIGHT: u32 = 6;

/// Why an RTC is no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtcFault {
    /// Its seconds do not move.
    StandsStill,
    /// It leaves seconds out.
    Coarse,
    /// Its reads contradict each other.
    Arbitrary,
    /// It jumps again and again.
    Jumps,
}

impl RtcFault {
    /// As in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::StandsStill => "stands-still",
            Self::Coarse => "coarse",
            Self::Arbitrary => "arbitrary",
            Self::Jumps => "jumps",
        }
    }
}

/// Counts the jumps of an RTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct RtcTrust {
    first_jump: Option<Mono>,
    weight: u32,
    fault: Option<RtcFault>,
}

impl RtcTrust {
    /// Counts a jump at `at` (base clock).
    pub fn count_jump(&mut self, at: Mono, is_forward: bool) {
        self.first_jump.get_or_insert(at);
        let weight = if is_forward { FORWARD_WEIGHT } else { BACKWARD_WEIGHT };
        self.weight = self.weight.saturating_add(weight);
        if self.weight > MAX_JUMP_WEIGHT {
            self.fault = Some(RtcFault::Jumps);
        }
    }

    /// The RTC is no clock at `at` (base clock): it is ignored for a period from then on.
    pub fn note_fault(&mut self, fault: RtcFault, at: Mono) {
        (self.first_jump, self.fault) = (Some(at), Some(fault));
    }

    /// Why the RTC is ignored; `None`: it is used.
    pub fn fault(&self) -> Option<RtcFault> {
        self.fault
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
        self.fault.is_none()
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
        assert_eq!((after(30, true).fault(), after(31, true).fault()), (None, Some(RtcFault::Jumps)));
    }

    #[test]
    fn faults_are_kept_for_ten_minutes() {
        let mut trust = after(1, true);
        let at = Mono::from_nanos(300_000_000_000);
        trust.note_fault(RtcFault::StandsStill, at);
        assert!(!trust.is_trusted() && !trust.is_period_over(Mono::from_nanos(899_999_999_999)));
        assert!(trust.is_period_over(Mono::from_nanos(900_000_000_000)));
        assert_eq!(trust.fault(), Some(RtcFault::StandsStill));
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
