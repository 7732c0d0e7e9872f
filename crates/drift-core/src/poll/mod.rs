//! Who is asked when. Time and answers go in; look-ups and exchanges that are due come out.
//!
//! This room never judges what a server reports.

pub mod fallback;
pub mod rounds;
