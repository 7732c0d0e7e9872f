//! Simulated servers, clocks and worlds for the demo and the tests.
//!
//! A plan and a seed go in; what the agent does in such a world comes out. The simulated world ([`world`],
//! [`node`]) never uses real time or the network; [`server`] answers on loopback by this machine's clock.

pub mod any_world;
pub mod behaviour;
pub mod clocks;
pub mod dns;
pub mod events;
pub mod exchange;
pub mod invariants;
pub mod manners;
pub mod network;
pub mod node;
pub mod plan;
pub mod server;
pub mod service;
pub mod steps;
pub mod world;

#[cfg(test)]
mod detector_tests;
