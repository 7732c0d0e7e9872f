//! The operating system: clocks, kernel state, chronyd, randomness. The only place for `unsafe`.

pub mod chrony;
pub mod clock;
pub mod random;
pub mod set_clock;
pub mod signals;
pub mod timex;
