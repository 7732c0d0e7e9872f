//! `drift-agent check-config`: checks a configuration and prints the settings that result from it.

use std::time::Duration;

use super::{CommandError, ConfigArgs, Exit, print};
use crate::config::decidable::decidable_round_trip;
use drift_core::time::{ExactSpan, Span};

pub(super) fn run(args: ConfigArgs) -> Result<Exit, CommandError> {
    let settings = args.settings()?;
    for warning in &settings.warnings {
        eprintln!("drift-agent: warning: {warning}");
    }
    let picked = settings.picked.as_ref().map_or_else(String::new, |picked| format!("# {picked}\n"));
    print(&(picked + &settings.in_yaml() + &decidable_in_words(settings.core.threshold)))?;
    Ok(Exit::Ok)
}

/// Up to which distance of the servers the threshold is of use, as a comment of the configuration.
fn decidable_in_words(threshold: Duration) -> String {
    format!(
        "# threshold {}: decidable up to a round trip of about {}, less twice the servers' root distance.\n",
        ExactSpan(threshold),
        Span(decidable_round_trip(threshold))
    )
}
