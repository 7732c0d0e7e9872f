//! How far an RTC can be trusted: one that stands still or runs wild jumps all the time, and is no clock to go by.

use std::time::Duration;

use crate::time::Mono;

/// For so long jumps are counted from the first, and an RTC that had too many is not listened to.
const WITHIN: Duration = Duration::from_secs(600);
/// What it may have. A machine can be paused this often.
const TRUSTED: u32 = 30;
/// A jump back weighs more: no pause makes one. An RTC that stands still makes one each second.
const BACK: u32 = 6;

/// Counts jumps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Jumps {
    first: Option<Mono>,
    weight: u32,
}

impl Jumps {
    /// It jumped at `at`.
    pub fn add(&mut self, at: Mono, forward: bool) {
        self.first.get_or_insert(at);
        self.weight = self.weight.saturating_add(if forward { 1 } else { BACK });
    }

    /// Begins again when the time is over. Was it not listened to until now?
    pub fn forget(&mut self, now: Mono) -> bool {
        let is_over = self.first.is_some_and(|first| now.since(first) >= WITHIN);
        let was_trusted = self.is_trusted();
        if is_over {
            *self = Self::default();
        }
        is_over && !was_trusted
    }

    /// Is it a clock?
    pub fn is_trusted(&self) -> bool {
        self.weight <= TRUSTED
    }
}
