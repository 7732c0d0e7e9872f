//! Servers that behave as told, and a seeded world to try the core in. The demo and the tests share them.

pub mod behaviour;
pub mod client;
pub mod node;
pub mod server;
pub mod world;

#[cfg(test)]
mod detector_tests;
