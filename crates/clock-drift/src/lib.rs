//! What `kubectl clock-drift` needs, on every platform that kubectl runs on: the clocks of a cluster's Nodes, and the times in a token.
//!
//! | module       | what it is                                                                                |
//! |--------------|-------------------------------------------------------------------------------------------|
//! | [`nodes`]    | annotations of Nodes to rows, the fleet, one Node, two Nodes; pure, but for [`nodes::fetch`] |
//! | [`jwt`]      | what a token's times mean, and which clock rejects it; pure                               |
//! | [`command`]  | the command line of the plugin, which is also `drift-agent nodes`                         |
//! | [`cli`]      | exit codes, failures and printing, which the agent's commands share                       |
//! | [`terminal`] | colours and columns                                                                       |
//!
//! Decisions are in [`drift_core`]. Nothing here depends on Linux: who reads the clocks is given from outside.

pub mod cli;
pub mod command;
mod examples;
pub mod jwt;
pub mod nodes;
pub mod terminal;
