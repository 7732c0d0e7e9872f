//! The clocks of a whole cluster, as the Nodes' annotations tell them: `kubectl clock-drift`. Pure, but for [`fetch`].

pub mod between;
pub mod explain;
pub mod fetch;
pub mod fleet;
pub mod now;
pub mod report;
pub mod row;
#[cfg(test)]
mod samples;
pub mod skew;
pub mod table;
