//! The operating system: clocks, kernel state, chronyd, randomness. The only place for `unsafe`.

pub mod chrony;
pub mod clock;
pub mod random;
pub mod signals;
pub mod step_clock;
pub mod timex;
