//! chronyd's command protocol, version 6: the part of what `chronyc` uses that the agent needs.
//!
//! The protocol has no specification. The layout here is what chronyc and chronyd 4.3 exchange, and
//! `tests/it/chrony_commands.rs` compares these bytes with theirs. All numbers are big-endian.
//!
//! | module       | what it is                                                       |
//! |--------------|------------------------------------------------------------------|
//! | [`codec`]    | encodes requests, decodes replies; no socket, no clock           |
//! | [`tracking`] | chronyd's state of the clock                                     |
//! | [`status`]   | why chronyd rejects a request                                    |
//! | [`float`]    | the protocol's own 32-bit floating-point number                  |
//! | [`config`]   | what chrony.conf has of `makestep` and `rtcsync`                 |
//! | [`client`]   | sends requests, over the Unix socket or (queries only) by UDP    |
//!
//! A process that can write to the Unix socket can send chronyd every command that root can.

pub mod client;
pub mod codec;
pub mod config;
pub mod float;
mod own_socket;
pub mod status;
pub mod tracking;

pub use client::{ChronyError, Client};
pub use codec::{ReplyError, Request};
pub use config::ChronyConfig;
pub use status::ChronyStatus;
pub use tracking::Tracking;
