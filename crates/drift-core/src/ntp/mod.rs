//! One server and the pool it belongs to. Packets and exchanges go in; samples, or the reason for which an exchange was rejected, come out.
//!
//! This room never compares two servers with each other: that is [`crate::estimate`].

pub mod filter;
pub mod packet;
pub mod pool;
pub mod reject;
pub mod sample;
pub mod server;
