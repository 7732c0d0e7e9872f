//! chronyd's command protocol, version 6: what `chronyc` speaks, as far as the agent needs it.
//!
//! The protocol has no specification. The layout here is what goes between chronyc and chronyd 4.3, and
//! `tests/it/chrony_commands.rs` holds our bytes against theirs. All numbers are big-endian.
//!
//! | module       | what it is                                                       |
//! |--------------|------------------------------------------------------------------|
//! | [`codec`]    | requests to bytes, bytes to replies; no socket, no clock         |
//! | [`tracking`] | what chronyd believes about the clock                            |
//! | [`status`]   | why chronyd refuses                                              |
//! | [`float`]    | the protocol's own 32-bit floating-point number                  |
//! | [`makestep`] | when chrony may step by itself, as chrony.conf says it           |
//! | [`client`]   | asks a running chronyd, over its Unix socket or (to read) by UDP |
//!
//! Whoever can write to the Unix socket can do to chronyd whatever root can.

pub mod client;
pub mod codec;
pub mod float;
pub mod makestep;
mod own_socket;
pub mod status;
pub mod tracking;

pub use client::{ChronyError, Client};
pub use codec::{ReplyError, Request};
pub use makestep::{Makestep, parse_makestep};
pub use status::ChronyStatus;
pub use tracking::Tracking;
