//! The version and the revision of this build.

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from; `unknown` unless `DRIFT_AGENT_REVISION` was set during the build.
pub const REVISION: &str = match option_env!("DRIFT_AGENT_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
