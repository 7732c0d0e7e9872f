//! Where measurements come from: NTP servers and the names that lead to them.

pub mod dns;
pub mod http_date;
pub mod ntp;
