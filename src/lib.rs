//! Measures how far a Kubernetes node's clock is from two NTP pools, and reports it.
//!
//! Every decision is in [`drift_core`]; what `kubectl clock-drift` needs is in [`clock_drift`]. This crate
//! touches the world.
//!
//! ```text
//! sources, os -> inputs -> drift_core::machine::Machine -> effects -> kubernetes, http, step, log
//! ```
//!
//! | module         | what it is                                                                      |
//! |----------------|---------------------------------------------------------------------------------|
//! | [`agent`]      | the loop: feeds inputs to the core and carries out its effects; decides nothing |
//! | `log`          | what the core reports, as structured log events                                 |
//! | [`sources`]    | NTP through rsntp, names through hickory-resolver, HTTP `Date` headers          |
//! | [`os`]         | clocks, kernel state, resume signals, chronyd's protocol; the only `unsafe`     |
//! | [`kubernetes`] | the Node's annotations and condition, events, step requests                     |
//! | [`http`]       | `/`, `/metrics`, `/healthz`, `/readyz`, `/v1/clock`                             |
//! | [`step`]       | what disciplines the clock; steps it, by the kernel or by chrony                |
//! | [`config`]     | from flags, environment and file to checked settings                            |
//! | [`cli`]        | one file per command                                                            |
//! | [`sim`]        | scripted NTP servers, and a seeded world to test the core in                    |

pub mod agent;
mod build_info;
pub mod cli;
pub mod config;
pub mod http;
pub mod kubernetes;
mod log;
pub mod os;
pub mod sim;
pub mod sources;
pub mod step;
