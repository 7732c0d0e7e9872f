//! The hardware clock by sysfs: readable by everybody, also in a pod.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::os::clock::Clock;
use drift_core::resume::{RtcRead, RtcSetBehavior};

/// The driver of a PC's CMOS clock.
const CMOS: &str = "rtc_cmos";
/// On processors of these makers the kernel sets a CMOS clock without resetting its divider: the bit that does so has another meaning
/// there (`drivers/rtc/rtc-mc146818-lib.c`, `apply_amd_register_a_behavior`).
const WITHOUT_RESET: [&str; 2] = ["AuthenticAMD", "HygonGenuine"];
/// Since this version of Linux. Some older ones have it, too.
const SINCE: (u32, u32) = (5, 18);
/// `i64::MIN` and a line feed.
const LONGEST: usize = 21;

/// One hardware clock, kept open.
#[derive(Debug)]
pub struct Rtc {
    since_epoch: File,
    set_behavior: RtcSetBehavior,
}

impl Rtc {
    /// The clock in `folder` (`/sys/class/rtc`) that the system takes its time from when it starts, or else the first. `proc` is
    /// `/proc`, which says what setting the clock does.
    pub fn open(folder: &Path, proc: &Path) -> Option<Self> {
        let is_system =
            |rtc: &Path| fs::read_to_string(rtc.join("hctosys")).is_ok_and(|text| text.trim() == "1");
        let system =
            fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find(|rtc| is_system(rtc));
        let rtc = system.unwrap_or_else(|| folder.join("rtc0"));
        let since_epoch = File::open(rtc.join("since_epoch")).ok()?;
        let is_cmos = fs::read_to_string(rtc.join("name")).is_ok_and(|name| name.starts_with(CMOS));
        let set_behavior = if is_cmos { cmos_set_behavior(proc) } else { RtcSetBehavior::Unknown };
        Some(Self { since_epoch, set_behavior })
    }

    /// Reads it between two readings of the raw clock. It may take milliseconds: a CMOS clock that is just ticking over is waited for.
    pub fn read(&self, clock: &dyn Clock) -> Option<RtcRead> {
        let mut text = [0; LONGEST];
        let before = clock.read().raw;
        let length = self.since_epoch.read_at(&mut text, 0).ok()?;
        let after = clock.read().raw;
        let seconds = std::str::from_utf8(text.get(..length)?).ok()?.trim_ascii_end().parse().ok()?;
        Some(RtcRead { seconds, before, after, set_behavior: self.set_behavior })
    }
}

fn cmos_set_behavior(proc: &Path) -> RtcSetBehavior {
    // It lists the processors one after the other: of a big machine it is long, and the first line of this name says it.
    let lines = File::open(proc.join("cpuinfo"))
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
        .map_while(Result::ok);
    let vendor = lines.filter(|line| line.starts_with("vendor_id")).find_map(|line| {
        let (_, vendor) = line.split_once(':')?;
        Some(WITHOUT_RESET.contains(&vendor.trim()))
    });
    match vendor {
        Some(true) if is_since(proc) => RtcSetBehavior::KeepsSubsecond,
        Some(false) => RtcSetBehavior::ResetsSubsecond,
        Some(true) | None => RtcSetBehavior::Unknown,
    }
}

/// Is the kernel no older than [`SINCE`]?
fn is_since(proc: &Path) -> bool {
    let release = fs::read_to_string(proc.join("sys/kernel/osrelease")).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= SINCE)
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

        /// Of a processor by this maker.
        fn of(self, vendor: &str) -> Self {
            let text = format!("processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: 25\n\nprocessor\t: 1\n");
            fs::write(self.0.join("cpuinfo"), text).unwrap();
            self.under("6.1.0-56-cloud-amd64")
        }

        /// Under this kernel.
        fn under(self, release: &str) -> Self {
            fs::create_dir_all(self.0.join("sys/kernel")).unwrap();
            fs::write(self.0.join("sys/kernel/osrelease"), format!("{release}\n")).unwrap();
            self
        }

        fn open(&self) -> Option<Rtc> {
            Rtc::open(&self.0, &self.0)
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
            .of("GenuineIntel")
            .clock("rtc0", &[("since_epoch", "1\n"), ("hctosys", "0\n"), ("name", "rtc-ds1307 1-0068\n")])
            .clock(
                "rtc1",
                &[("since_epoch", "1795341600\n"), ("hctosys", "1\n"), ("name", "rtc_cmos 00:04\n")],
            );
        let rtc = sysfs.open().unwrap();
        let first = rtc.read(&LinuxClock).unwrap();
        assert_eq!((first.seconds, first.set_behavior), (1_795_341_600, RtcSetBehavior::ResetsSubsecond));
        assert!(first.before <= first.after);
        fs::write(sysfs.0.join("rtc1/since_epoch"), "1795341601\n").unwrap();
        assert_eq!(rtc.read(&LinuxClock).map(|r| r.seconds), Some(1_795_341_601));
    }

    #[test]
    fn without_a_systems_clock_it_is_the_first() {
        let sysfs = Sysfs::new("first")
            .clock("rtc0", &[("since_epoch", "-5\n"), ("name", "rtc-pl031 9010000.pl031\n")])
            .clock("rtc1", &[("since_epoch", "7\n"), ("hctosys", "0\n")]);
        let read = sysfs.open().unwrap().read(&LinuxClock).unwrap();
        assert_eq!((read.seconds, read.set_behavior), (-5, RtcSetBehavior::Unknown));
    }

    #[test]
    fn what_setting_a_cmos_clock_does_to_its_second_depends_on_the_processor() {
        let set_behavior = |vendor: &str, driver: &str| {
            let sysfs = Sysfs::new("vendor").clock("rtc0", &[("since_epoch", "7\n"), ("name", driver)]);
            sysfs.of(vendor).open().unwrap().set_behavior
        };
        assert_eq!(set_behavior("GenuineIntel", "rtc_cmos 00:04\n"), RtcSetBehavior::ResetsSubsecond);
        assert_eq!(set_behavior("AuthenticAMD", "rtc_cmos 00:04\n"), RtcSetBehavior::KeepsSubsecond);
        assert_eq!(set_behavior("HygonGenuine", "rtc_cmos rtc_cmos\n"), RtcSetBehavior::KeepsSubsecond);
        assert_eq!(set_behavior("AuthenticAMD", "rtc-ds1307 1-0068\n"), RtcSetBehavior::Unknown);
        for (release, wanted) in [
            ("5.18.0", RtcSetBehavior::KeepsSubsecond),
            ("7.3.4+deb13-cloud-amd64", RtcSetBehavior::KeepsSubsecond),
            ("5.17.15-76051715-generic", RtcSetBehavior::Unknown),
            ("4.18.0-553.el8_10.x86_64", RtcSetBehavior::Unknown),
            ("6", RtcSetBehavior::Unknown),
            ("", RtcSetBehavior::Unknown),
        ] {
            let sysfs =
                Sysfs::new("release").clock("rtc0", &[("since_epoch", "7\n"), ("name", "rtc_cmos\n")]);
            let found = sysfs.of("AuthenticAMD").under(release).open().unwrap().set_behavior;
            assert_eq!(found, wanted, "{release:?}");
        }
        let no_vendor = Sysfs::new("arm").clock("rtc0", &[("since_epoch", "7\n"), ("name", "rtc_cmos\n")]);
        assert_eq!(no_vendor.open().unwrap().set_behavior, RtcSetBehavior::Unknown);
    }

    #[test]
    fn what_is_no_clock_is_none() {
        assert!(Rtc::open(Path::new("/nonexistent"), Path::new("/nonexistent")).is_none());
        assert!(Sysfs::new("empty").open().is_none());
        for text in ["", "\n", "now\n", "12 34\n", "99999999999999999999\n", "\u{fc}\n"] {
            let sysfs = Sysfs::new("garbage").clock("rtc0", &[("since_epoch", text)]);
            assert_eq!(sysfs.open().unwrap().read(&LinuxClock), None, "{text:?}");
        }
    }
}
