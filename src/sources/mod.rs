//! Where samples come from: NTP servers, the names that lead to them, and HTTP `Date` headers.
//!
//! A request of the core goes in; a checked answer or the reason for its failure comes out. This room never
//! combines two answers of different servers.

pub mod dns;
pub mod http_date;
pub mod ntp;
