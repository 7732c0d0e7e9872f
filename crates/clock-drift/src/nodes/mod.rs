//! The clocks of a whole cluster, read from the Nodes' annotations: `kubectl clock-drift`. Pure, except
//! [`fetch`] and [`kubeconfig`].

pub mod between;
pub mod error;
pub mod explain;
pub mod fetch;
pub mod fleet;
pub mod kubeconfig;
pub mod now;
pub mod report;
pub mod row;
#[cfg(test)]
mod samples;
pub mod skew;
pub mod table;
