//! Stepping the clock. Triggers and what was measured after them go in; a step order, or the reason for a refusal, comes out.
//!
//! This room never steps a clock itself, and never decides on a measurement that is older than its trigger.

pub mod last_step;
pub mod policy;
pub mod stepper;
pub mod time_daemon;
