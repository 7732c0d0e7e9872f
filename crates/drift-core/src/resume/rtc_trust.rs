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
