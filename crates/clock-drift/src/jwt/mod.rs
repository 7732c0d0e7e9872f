//! The times in a JSON Web Token (RFC 7519), and by which clock a verifier rejects it.
//!
//! ```text
//! bytes  ->  header and claims  ->  findings  ->  verdict
//!           (token, claims, date)   (judge)
//! ```
//!
//! Pure, as [`drift_core`] is: no clock, no network. Nothing here verifies a signature: anyone can write any
//! claim, and the findings are about the times alone.

pub mod cases;
pub mod claims;
pub mod date;
pub mod findings;
pub mod judge;
pub mod question;
mod shape;
pub mod token;

#[cfg(test)]
mod tests;
