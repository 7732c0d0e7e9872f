//! What chrony's own configuration says that chronyd does not report: `makestep` and `rtcsync`. Only where
//! the file can be read: on the node itself, or mounted into the pod at the same path.

use std::fs;
use std::io::Read;
use std::path::Path;

/// Where distributions have it: Debian and derivatives, the others.
const PATHS: [&str; 2] = ["/etc/chrony/chrony.conf", "/etc/chrony.conf"];
/// A longer file is not read to its end.
const LENGTH_MAX: u64 = 64 * 1024;
/// More files of a `confdir` are not read.
const FILES_MAX: usize = 64;

/// The directives that matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChronyConfig {
    /// How many updates `makestep` holds for; below 0: for all. `None`: there is no such directive.
    pub makestep_limit: Option<i64>,
    /// Is there `rtcsync`?
    pub rtcsync: bool,
    /// Files are included that were not read: what is missing here may be in them.
    pub is_incomplete: bool,
}

impl ChronyConfig {
    /// Reads the first file there is; `None`: none can be read.
    pub fn read() -> Option<Self> {
        PATHS.into_iter().find_map(|path| Self::read_file(Path::new(path)))
    }

    /// Reads this file and the folders that its `confdir` directives name.
    pub fn read_file(path: &Path) -> Option<Self> {
        let text = text_of(path)?;
        let mut config = Self::default();
        for folder in config.take(&text) {
            match fs::read_dir(&folder) {
                Ok(entries) => config.take_folder(entries),
                Err(_) => config.is_incomplete = true,
            }
        }
        Some(config)
    }

    /// Whether chrony steps at any time. `None`: the directive may be in a file that was not read.
    pub fn steps_always(self) -> Option<bool> {
        match self.makestep_limit {
            Some(limit) => Some(limit < 0),
            None => (!self.is_incomplete).then_some(false),
        }
    }

    /// Whether there is `rtcsync`. `None`: it may be in a file that was not read.
    pub fn has_rtcsync(self) -> Option<bool> {
        (self.rtcsync || !self.is_incomplete).then_some(self.rtcsync)
    }

    fn take_folder(&mut self, entries: fs::ReadDir) {
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        files.sort();
        self.is_incomplete |= files.len() > FILES_MAX;
        for path in files.into_iter().take(FILES_MAX) {
            match text_of(&path) {
                Some(text) => self.is_incomplete |= !self.take(&text).is_empty(),
                None => self.is_incomplete = true,
            }
        }
    }

    /// Takes the directives of a text; a later `makestep` replaces an earlier one. Returns the folders that it
    /// names.
    fn take(&mut self, text: &str) -> Vec<String> {
        let mut folders = Vec::new();
        // Comment signs make a line's first word none of these.
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let directive = words.next().unwrap_or_default().to_ascii_lowercase();
            match directive.as_str() {
                "makestep" => {
                    self.makestep_limit = words.nth(1).and_then(|limit| limit.parse().ok());
                }
                "rtcsync" => self.rtcsync = true,
                "include" => self.is_incomplete = true,
                "confdir" => folders.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        folders
    }
}

fn text_of(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(LENGTH_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::random;

    fn taken(text: &str) -> ChronyConfig {
        let mut config = ChronyConfig::default();
        config.take(text);
        config
    }

    #[test]
    fn makestep_and_rtcsync_are_found_and_comments_are_not() {
        let debian = "pool 2.debian.pool.ntp.org iburst\n# Step the clock\nmakestep 1 3\n rtcsync\n";
        let config = taken(debian);
        assert_eq!((config.steps_always(), config.has_rtcsync()), (Some(false), Some(true)));
        assert_eq!(taken("MakeStep 1.0 -1").steps_always(), Some(true));
        for comment in ["#makestep 1 -1", "! makestep 1 -1", "% rtcsync", "; rtcsync"] {
            let config = taken(comment);
            assert_eq!(
                (config.steps_always(), config.has_rtcsync()),
                (Some(false), Some(false)),
                "{comment}"
            );
        }
    }

    #[test]
    fn what_an_included_file_may_have_is_not_known() {
        let config = taken("include /etc/chrony/more.conf");
        assert_eq!((config.steps_always(), config.has_rtcsync()), (None, None));
        let config = taken("include /etc/chrony/more.conf\nmakestep 1 -1\nrtcsync");
        assert_eq!((config.steps_always(), config.has_rtcsync()), (Some(true), Some(true)));
    }

    #[test]
    fn folders_of_confdir_are_read_and_missing_ones_leave_it_incomplete() {
        let folder = std::env::temp_dir().join(format!("drift-agent-chrony-{:016x}", random::bits()));
        let parts = folder.join("conf.d");
        fs::create_dir_all(&parts).unwrap();
        let file = folder.join("chrony.conf");
        assert_eq!(ChronyConfig::read_file(&file), None);
        fs::write(&file, format!("confdir {}\n", parts.display())).unwrap();
        fs::write(parts.join("vm.conf"), "makestep 1 -1\n").unwrap();
        fs::write(parts.join("rtc.disabled"), "rtcsync\n").unwrap();
        let config = ChronyConfig::read_file(&file).unwrap();
        fs::remove_dir_all(&parts).unwrap();
        let without = ChronyConfig::read_file(&file).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((config.steps_always(), config.has_rtcsync()), (Some(true), Some(false)));
        assert_eq!((without.steps_always(), without.has_rtcsync()), (None, None));
    }
}
