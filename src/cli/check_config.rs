//! `drift-agent check-config`: is this configuration right, and what does it lead to?

use super::{CommandError, ConfigArgs, Exit, print};

pub(super) fn run(args: ConfigArgs) -> Result<Exit, CommandError> {
    let settings = args.settings()?;
    for warning in &settings.warnings {
        eprintln!("drift-agent: warning: {warning}");
    }
    print(&settings.in_yaml())?;
    Ok(Exit::Ok)
}
