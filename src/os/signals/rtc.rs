//! The hardware clock (RTC) by sysfs: readable by every user, also in a pod.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::os::clock::Clock;
use drift_core::resume::{RtcRead, RtcSetBehavior};

/// The driver of a PC's CMOS clock.
const CMOS: &str = "rtc_cmos";
/// The vendors of processors on which the kernel sets a CMOS clock without resetting its divider, because the
/// bit that resets it has another meaning there (`drivers/rtc/rtc-mc146818-lib.c`,
/// `apply_amd_register_a_behavior`).
const VENDORS_WITHOUT_RESET: [&str; 2] = ["AuthenticAMD", "HygonGenuine"];
/// Linux has done so since this version. Some older versions with backports do, too.
const WITHOUT_RESET_SINCE: (u32, u32) = (5, 18);
/// The longest text of `since_epoch`: `i64::MIN` and a line feed.
const SECONDS_TEXT_MAX: usize = 21;

/// One hardware clock, kept open.
#[derive(Debug)]
pub struct Rtc {
    since_epoch: File,
    set_behavior: RtcSetBehavior,
}

impl Rtc {
    /// The clock in `folder` (`/sys/class/rtc`) from which the kernel sets the wall clock at boot; without
    /// one, `rtc0`. `proc` is `/proc`: the processor and the kernel decide what setting the clock does.
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

    /// Reads the RTC between two readings of the raw clock. It may take milliseconds: the kernel waits for a
    /// CMOS clock that is about to tick. `None` when the read fails.
    pub fn read(&self, clock: &dyn Clock) -> Option<RtcRead> {
        let mut text = [0; SECONDS_TEXT_MAX];
        let before = clock.read().raw;
        let length = self.since_epoch.read_at(&mut text, 0).ok()?;
        let after = clock.read().raw;
        let seconds = std::str::from_utf8(text.get(..length)?).ok()?.trim_ascii_end().parse().ok()?;
        Some(RtcRead { seconds, before, after, set_behavior: self.set_behavior })
    }
}

fn cmos_set_behavior(proc: &Path) -> RtcSetBehavior {
    // The file lists all processors, and is long on a big machine. The first vendor is enough.
    let lines = File::open(proc.join("cpuinfo"))
        .map(BufReader::new)
        .into_iter()
        .flat_map(BufRead::lines)
        .map_while(Result::ok);
    let vendor = lines.filter(|line| line.starts_with("vendor_id")).find_map(|line| {
        let (_, vendor) = line.split_once(':')?;
        Some(VENDORS_WITHOUT_RESET.contains(&vendor.trim()))
    });
    match vendor {
        Some(true) if is_kernel_without_reset(proc) => RtcSetBehavior::KeepsSubsecond,
        Some(false) => RtcSetBehavior::ResetsSubsecond,
        Some(true) | None => RtcSetBehavior::Unknown,
    }
}

/// Is the kernel at least [`WITHOUT_RESET_SINCE`]?
fn is_kernel_without_reset(proc: &Path) -> bool {
    let release = fs::read_to_string(proc.join("sys/kernel/osrelease")).unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= WITHOUT_RESET_SINCE)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::os::clock::LinuxClock;

    /// A folder like `/sys/class/rtc`, removed at the end of the test.
    struct Sysfs(PathBuf);

    impl Sysfs {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("drift-agent-rtc-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        /// With a processor by this vendor.
        fn with_vendor(self, vendor: &str) -> Self {
            let text = format!("processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: 25\n\nprocessor\t: 1\n");
            fs::write(self.0.join("cpuinfo"), text).unwrap();
            self.with_kernel("6.1.0-56-cloud-amd64")
        }

        /// With this kernel.
        fn with_kernel(self, release: &str) -> Self {
            fs::create_dir_all(self.0.join("sys/kernel")).unwrap();
            fs::write(self.0.join("sys/kernel/osrelease"), format!("{release}\n")).unwrap();
            self
        }

        fn open(&self) -> Option<Rtc> {
            Rtc::open(&self.0, &self.0)
        }

        fn with_clock(self, name: &str, files: &[(&str, &str)]) -> Self {
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
    fn rtc_that_sets_the_wall_clock_is_read_each_time() {
        let sysfs = Sysfs::new("again")
            .with_vendor("GenuineIntel")
            .with_clock(
                "rtc0",
                &[("since_epoch", "1\n"), ("hctosys", "0\n"), ("name", "rtc-ds1307 1-0068\n")],
            )
            .with_clock(
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
    fn first_rtc_is_read_where_none_sets_the_wall_clock() {
        let sysfs = Sysfs::new("first")
            .with_clock("rtc0", &[("since_epoch", "-5\n"), ("name", "rtc-pl031 9010000.pl031\n")])
            .with_clock("rtc1", &[("since_epoch", "7\n"), ("hctosys", "0\n")]);
        let read = sysfs.open().unwrap().read(&LinuxClock).unwrap();
        assert_eq!((read.seconds, read.set_behavior), (-5, RtcSetBehavior::Unknown));
    }

    #[test]
    fn set_behavior_depends_on_driver_processor_and_kernel() {
        let set_behavior = |vendor: &str, driver: &str| {
            let sysfs = Sysfs::new("vendor").with_clock("rtc0", &[("since_epoch", "7\n"), ("name", driver)]);
            sysfs.with_vendor(vendor).open().unwrap().set_behavior
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
                Sysfs::new("release").with_clock("rtc0", &[("since_epoch", "7\n"), ("name", "rtc_cmos\n")]);
            let found = sysfs.with_vendor("AuthenticAMD").with_kernel(release).open().unwrap().set_behavior;
            assert_eq!(found, wanted, "{release:?}");
        }
        let no_vendor =
            Sysfs::new("arm").with_clock("rtc0", &[("since_epoch", "7\n"), ("name", "rtc_cmos\n")]);
        assert_eq!(no_vendor.open().unwrap().set_behavior, RtcSetBehavior::Unknown);
    }

    #[test]
    fn missing_and_unreadable_rtcs_give_no_read() {
        assert!(Rtc::open(Path::new("/nonexistent"), Path::new("/nonexistent")).is_none());
        assert!(Sysfs::new("empty").open().is_none());
        for text in ["", "\n", "now\n", "12 34\n", "99999999999999999999\n", "\u{fc}\n"] {
            let sysfs = Sysfs::new("garbage").with_clock("rtc0", &[("since_epoch", text)]);
            assert_eq!(sysfs.open().unwrap().read(&LinuxClock), None, "{text:?}");
        }
    }
}
