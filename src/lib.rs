//! Measures how far a Kubernetes node's clock is from two NTP pools, and says so.

pub mod config;
pub mod core;
pub mod os;
pub mod sources;
