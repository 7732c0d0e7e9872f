//! `drift-agent version`: what was built, and from which commit.

use super::{CommandError, Exit, print};
use crate::build_info::{REVISION, VERSION};

pub(super) fn run() -> Result<Exit, CommandError> {
    print(&format!("drift-agent {VERSION} (revision {REVISION})\n"))?;
    Ok(Exit::Ok)
}
