//! The hardware clock by sysfs: readable by everybody, also in a pod.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::core::resume::RtcRead;
use crate::os::clock::Clock;

/// The driver of a PC's CMOS clock. Other drivers' names only say that we do not know better.
const RESTARTS: &str = "rtc_cmos";
/// `i64::MIN` and a line feed.
const LONGEST: usize = 21;

/// One hardware clock, kept open.
#[derive(Debug)]
pub struct Rtc {
    since_epoch: File,
    restarts: bool,
}

impl Rtc {
    /// The clock in `folder` (`/sys/class/rtc`) that the system takes its time from when it starts, or else the first.
    pub fn open(folder: &Path) -> Option<Self> {
        let is_system =
            |rtc: &Path| fs::read_to_string(rtc.join("hctosys")).is_ok_and(|text| text.trim() == "1");
        let system =
            fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find(|rtc| is_system(rtc));
        let rtc = system.unwrap_or_else(|| folder.join("rtc0"));
        let since_epoch = File::open(rtc.join("since_epoch")).ok()?;
        let restarts = fs::read_to_string(rtc.join("name")).is_ok_and(|name| name.starts_with(RESTARTS));
        Some(Self { since_epoch, restarts })
    }

    /// Reads it between two readings of the raw clock. It may take milliseconds: a CMOS clock that is just ticking over is waited for.
    pub fn read(&self, clock: &dyn Clock) -> Option<RtcRead> {
        let mut text = [0; LONGEST];
        let before = clock.read().raw;
        let length = self.since_epoch.read_at(&mut text, 0).ok()?;
        let after = clock.read().raw;
        let seconds = std::str::from_utf8(text.get(..length)?).ok()?.trim_ascii_end().parse().ok()?;
        Some(RtcRead { seconds, before, after, restarts: self.restarts })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::os::clock::LinuxClock;

    /// A folder like `/sys/class/rtc`, gone with the test.
    struct Sysfs(PathBuf);

    impl Sysfs {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("drift-agent-rtc-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn clock(self, name: &str, files: &[(&str, &str)]) -> Self {
            fs::create_dir_all(self.0.join(name)).unwrap();
            for (file, text) in files {
                fs::write(self.0.join(name).join(file), text).unwrap();
            }
            self
        }
    }

    impl Drop for Sysfs {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_reads_the_systems_clock_again_and_again() {
        let sysfs = Sysfs::new("again")
            .clock("rtc0", &[("since_epoch", "1\n"), ("hctosys", "0\n"), ("name", "rtc-ds1307 1-0068\n")])
            .clock(
                "rtc1",
                &[("since_epoch", "1795341600\n"), ("hctosys", "1\n"), ("name", "rtc_cmos 00:04\n")],
            );
        let rtc = Rtc::open(&sysfs.0).unwrap();
        let first = rtc.read(&LinuxClock).unwrap();
        assert_eq!((first.seconds, first.restarts), (1_795_341_600, true));
        assert!(first.before <= first.after);
        fs::write(sysfs.0.join("rtc1/since_epoch"), "1795341601\n").unwrap();
        assert_eq!(rtc.read(&LinuxClock).map(|r| r.seconds), Some(1_795_341_601));
    }

    #[test]
    fn without_a_systems_clock_it_is_the_first() {
        let sysfs = Sysfs::new("first")
            .clock("rtc0", &[("since_epoch", "-5\n"), ("name", "rtc-pl031 9010000.pl031\n")])
            .clock("rtc1", &[("since_epoch", "7\n"), ("hctosys", "0\n")]);
        let read = Rtc::open(&sysfs.0).unwrap().read(&LinuxClock).unwrap();
        assert_eq!((read.seconds, read.restarts), (-5, false));
    }

    #[test]
    fn what_is_no_clock_is_none() {
        assert!(Rtc::open(Path::new("/nonexistent")).is_none());
        assert!(Rtc::open(&Sysfs::new("empty").0).is_none());
        for text in ["", "\n", "now\n", "12 34\n", "99999999999999999999\n", "\u{fc}\n"] {
            let sysfs = Sysfs::new("garbage").clock("rtc0", &[("since_epoch", text)]);
            assert_eq!(Rtc::open(&sysfs.0).unwrap().read(&LinuxClock), None, "{text:?}");
        }
    }
}
