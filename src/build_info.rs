//! What was built: version and revision.

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, when the build said so.
pub const REVISION: &str = match option_env!("DRIFT_AGENT_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
