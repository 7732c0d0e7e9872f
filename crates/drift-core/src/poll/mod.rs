//! When each server is asked. Time and answers go in; the look-ups, exchanges and HTTP requests that are due
//! come out.
//!
//! This room never judges what a server reports and never compares servers.

pub mod fallback;
pub mod rounds;
