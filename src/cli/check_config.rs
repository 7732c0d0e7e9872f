//! `drift-agent check-config`: checks a configuration and prints the settings that result from it.

use super::{CommandError, ConfigArgs, Exit, print};

pub(super) fn run(args: ConfigArgs) -> Result<Exit, CommandError> {
    let settings = args.settings()?;
    for warning in &settings.warnings {
        eprintln!("drift-agent: warning: {warning}");
    }
    print(&settings.in_yaml())?;
    Ok(Exit::Ok)
}
