//! One NTP server and the pool that it belongs to. Packets, exchanges and look-ups go in; samples, or the
//! reason for which an exchange was rejected, come out.
//!
//! This room never compares two servers with each other: [`crate::estimate`] does.

pub mod cross_check;
pub mod manners;
pub mod packet;
pub mod pool;
pub mod reject;
pub mod sample;
pub mod server;
pub mod window;
