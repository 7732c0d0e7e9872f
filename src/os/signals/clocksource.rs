//! The clocksource in use, by sysfs: readable by every user, also in a pod. The kernel leaves one that it finds
//! unstable, and an operator can choose another.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use drift_core::resume::Clocksource;

/// Longer than every name (`CS_NAME_LEN`) and its line feed.
const TEXT_MAX: usize = 40;

/// The file with its name, kept open.
#[derive(Debug)]
pub struct ClocksourceFile(File);

impl ClocksourceFile {
    /// `None` where there is no such file.
    pub fn open(path: &Path) -> Option<Self> {
        File::open(path).ok().map(Self)
    }

    /// The name now. `None` when the read fails, and for an empty name.
    pub fn read(&self) -> Option<Clocksource> {
        let mut text = [0; TEXT_MAX];
        let length = self.0.read_at(&mut text, 0).ok()?;
        let name = std::str::from_utf8(text.get(..length)?).ok()?.trim_ascii();
        (!name.is_empty()).then(|| Clocksource::from_name(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_read_each_time_and_nothing_from_other_files() {
        let path = std::env::temp_dir().join(format!("drift-agent-clocksource-{}", std::process::id()));
        assert!(ClocksourceFile::open(&path).is_none(), "absent");
        std::fs::write(&path, "tsc\n").unwrap();
        let file = ClocksourceFile::open(&path).unwrap();
        assert_eq!(file.read(), Some(Clocksource::from_name("tsc")));
        std::fs::write(&path, "acpi_pm\n").unwrap();
        assert_eq!(file.read(), Some(Clocksource::from_name("acpi_pm")));
        for text in [&b""[..], b"\n", b"\xfc\n"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(file.read(), None, "{text:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
