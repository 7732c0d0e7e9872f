//! Measures how far a Kubernetes node's clock is from two NTP pools, and says so.
//!
//! ```text
//! sources  ->  samples  ->  reference line  ->  estimate  ->  verdict  ->  effects
//! (NTP, DNS)   (validated)   (filter, fit)      (intersect)   (state)     (metrics, node, event, http)
//! ```
//!
//! | module      | what it is                                                                                    |
//! |-------------|-----------------------------------------------------------------------------------------------|
//! | [`core`]    | pure: every decision. Inputs in, effects out; no socket, no clock, no runtime                    |
//! | [`sources`] | NTP through rsntp, names through hickory-resolver, HTTP `Date` headers through hyper                  |
//! | [`os`]      | the kernel's clocks and their state; the only `unsafe`                                           |
//! | [`effects`] | metrics, the Node's annotations and condition, events                                            |
//! | [`http`]    | `/metrics`, `/healthz`, `/readyz`, `/v1/clock`                                                   |
//! | [`agent`]   | the loop that carries inputs and effects between the core and the world                          |
//! | [`nodes`]   | what the Nodes of a whole cluster say of their clocks: `kubectl clock-drift`                     |
//! | [`config`]  | from what a person wrote to settings that are right                                              |
//! | [`cli`]     | one file per command                                                                             |
//! | [`jwt`]     | what a token says about time, and which clock it is that refuses it; pure                        |
//! | [`sim`]     | NTP servers that behave as told, and a seeded world to try the core in                           |
//!
//! | word   | type                  | unit and sign                                                             |
//! |--------|-----------------------|---------------------------------------------------------------------------|
//! | offset | [`core::time::Offset`] | ns; reference time - node time: positive is **behind**, negative **ahead** |
//! | bound  | [`core::time::Bound`]  | ns, >= 0; the true offset is inside offset +- bound                        |
//! | wall   | [`core::time::Wall`]   | ns since 1970 (`CLOCK_REALTIME`)                                           |
//! | raw    | [`core::time::Mono`]   | ns of `CLOCK_MONOTONIC_RAW`, which nobody slews or steps                   |

pub mod agent;
pub mod cli;
pub mod config;
pub mod core;
pub mod effects;
pub mod http;
pub mod jwt;
pub mod nodes;
pub mod os;
pub mod sim;
pub mod sources;
