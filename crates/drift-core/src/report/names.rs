//! The names of what an agent writes to its Node: the contract between the agent and every reader of Nodes.

/// Type of the Node's condition.
pub const CONDITION: &str = "ClockDrift";

/// One annotation's key.
macro_rules! annotation {
    ($name:literal) => {
        concat!("drift-agent.io/", $name)
    };
}

/// The state: a label of [`crate::verdict::State`].
pub const CLOCK_STATE: &str = annotation!("clock-state");
/// Offset in seconds; positive: the node is behind.
pub const OFFSET_SECONDS: &str = annotation!("offset-seconds");
/// Bound of the offset in seconds.
pub const OFFSET_BOUND_SECONDS: &str = annotation!("offset-bound-seconds");
/// Reference time at which the rest was measured, RFC 3339.
pub const OBSERVED_AT: &str = annotation!("observed-at");
/// Reference time since which the offset is over the threshold, RFC 3339.
pub const EXCEEDED_SINCE: &str = annotation!("exceeded-since");
/// The offset that each pool reports.
pub const POOLS: &str = annotation!("pools");
/// The last step and the step budget, as [`crate::step::last_step::LastStep`] writes them.
pub const LAST_STEP: &str = annotation!("last-step");
/// An operator writes an ID here to request a step.
pub const STEP_REQUEST: &str = annotation!("step-request");
/// The answer to the last request.
pub const STEP_RESULT: &str = annotation!("step-result");
/// What the node's own time daemon has of what it should have, as [`crate::step::audit::Audit`] writes it.
pub const TIME_DAEMON_AUDIT: &str = annotation!("time-daemon-audit");
