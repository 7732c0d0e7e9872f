//! What the world sees: metrics, the Node's annotations and condition, events, steps of the clock.

pub mod api;
pub mod event;
pub mod metrics;
pub mod node;
pub mod requests;
pub mod step;
