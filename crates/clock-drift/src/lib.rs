//! `kubectl clock-drift`, for every platform of kubectl: the clocks of a cluster's Nodes, and the times in a
//! token.
//!
//! | module       | contents                                                                       |
//! |--------------|--------------------------------------------------------------------------------|
//! | [`nodes`]    | annotations of Nodes to rows, the fleet, one Node, two Nodes; reading them     |
//! | [`jwt`]      | a token's times, and by which clock a verifier rejects it; pure                |
//! | [`command`]  | the command line of the plugin, which is also `drift-agent nodes`              |
//! | [`cli`]      | exit codes, errors and printing, shared with the agent's commands              |
//! | [`terminal`] | colours and columns                                                            |
//!
//! Decisions are in [`drift_core`]. Nothing here depends on Linux: the program passes in how clocks are read.

pub mod cli;
pub mod command;
mod examples;
pub mod jwt;
pub mod nodes;
pub mod terminal;
// One text for both crates; a test helper is no part of a library.
#[cfg(test)]
#[path = "../../drift-core/src/test_support.rs"]
mod test_support;
