//! What the kernel's `maxerror` shows about the process that disciplines the clock: whether there is one, and
//! for how long it has not updated the clock.
//!
//! A daemon sets `maxerror` with each update, and the kernel adds 500 µs in every second (`MAXFREQ`). An
//! update that sets the clock, and a daemon that has lost its servers, leave it at its limit of 16 s.
//! `STA_UNSYNC` shows less: a chrony without `rtcsync` leaves it set.

use std::time::Duration;

use crate::time::Mono;

/// `maxerror` from which `timedatectl` (systemd's `ntp_synced`) reports a clock as not synchronised. The
/// kernel's own limit.
pub const MAX_ERROR_LIMIT: Duration = Duration::from_secs(16);
/// Daemons update the clock at least every 2048 s, the longest poll of systemd-timesyncd (chrony and ntpd:
/// 1024 s by default). Without an update for longer than this, no process disciplines the clock.
pub const SILENT_AFTER: Duration = Duration::from_hours(2);
/// Seconds in which `maxerror` grows by one: 500 ppm.
const SECONDS_PER_SECOND: u32 = 2_000;
/// The growth is by the wall clock, which may be slewed by 10%, while ages are counted by the raw clock.
const SLEW_PERCENT: u32 = 15;
/// Three whole seconds: `maxerror` grows once a second.
const GRAIN: Duration = Duration::from_micros(1_500);
/// The age of the file that systemd-timesyncd touches, and the age of the kernel's last update, may differ
/// by this if both are of the same update.
const STAMP_TOLERANCE: Duration = Duration::from_secs(3);

/// Whether a process disciplines the clock, as far as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// The kernel's state cannot be read.
    Unreadable,
    /// No process, or one that does not know the time: `maxerror` is at its limit.
    Absent,
    /// A process did, but has not updated the clock for [`SILENT_AFTER`].
    Silent,
    /// A process does, or did until less than [`SILENT_AFTER`] ago.
    Active,
}

impl Discipline {
    /// From `maxerror` (`None`: it cannot be read) and what [`UpdateWatch`] has seen of it.
    pub fn of(max_error: Option<Duration>, update_age: Option<Duration>) -> Self {
        match max_error {
            None => Self::Unreadable,
            Some(error) if error >= MAX_ERROR_LIMIT => Self::Absent,
            Some(_) if update_age.is_some_and(|age| age >= SILENT_AFTER) => Self::Silent,
            Some(_) => Self::Active,
        }
    }
}

/// The longest time that can have passed since the last update, from `maxerror` alone: the update left 0 at
/// least, and the kernel has added 500 ppm since. `None` at the limit, from which it does not grow.
pub fn oldest_update(max_error: Duration) -> Option<Duration> {
    (max_error < MAX_ERROR_LIMIT).then(|| max_error * SECONDS_PER_SECOND)
}

/// Was the last update at the time at which a file was touched, this long ago? systemd-timesyncd sets
/// `maxerror` to 0 and then touches the file. Other daemons leave their root distance in `maxerror`, and
/// touch no file.
pub fn is_update_of_stamp(max_error: Duration, stamp_age: Duration) -> bool {
    oldest_update(max_error).is_some_and(|oldest| oldest.abs_diff(stamp_age) <= STAMP_TOLERANCE)
}

/// Watches `maxerror` from read to read: as long as it only grows by 500 ppm, no process has updated the
/// clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateWatch {
    /// The first read after the last update, and `maxerror` then.
    first: Option<(Mono, Duration)>,
}

impl UpdateWatch {
    /// Takes a read, and returns for how long there was no update, at least: never more than the time since the
    /// first read, because what was before is not known. `None`: no process disciplines the clock, or the
    /// state cannot be read.
    pub fn observe(&mut self, now: Mono, max_error: Option<Duration>) -> Option<Duration> {
        let max_error = max_error.filter(|error| *error < MAX_ERROR_LIMIT);
        self.first = max_error.map(|error| match self.first {
            Some((at, first)) if has_only_grown(first, error, now.since(at)) => (at, first),
            _ => (now, error),
        });
        self.first.map(|(at, _)| now.since(at))
    }
}

/// An update may leave just what the growth would have: then it is not seen, and the next one is.
fn has_only_grown(first: Duration, now: Duration, elapsed: Duration) -> bool {
    let growth = elapsed / SECONDS_PER_SECOND;
    let tolerance = growth * SLEW_PERCENT / 100 + GRAIN;
    now.abs_diff(first + growth) <= tolerance
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn at(seconds: u64) -> Mono {
        Mono::from_nanos(0).plus(Duration::from_secs(seconds))
    }

    /// Half a millisecond a second, as the kernel does, since an update at 0 that left 5 ms.
    fn grown(seconds: u64) -> Duration {
        MILLI * 5 + Duration::from_micros(500 * seconds)
    }

    #[test]
    fn age_counts_from_the_first_read_as_long_as_max_error_only_grows() {
        let mut watch = UpdateWatch::default();
        for second in [1_000, 1_002, 1_064, 4_000, 8_200] {
            let age = watch.observe(at(second), Some(grown(second)));
            assert_eq!(age, Some(Duration::from_secs(second - 1_000)), "{second}");
        }
    }

    #[test]
    fn any_other_change_is_an_update_between_two_reads() {
        for updated in [MILLI * 5, MILLI * 400, Duration::ZERO] {
            let mut watch = UpdateWatch::default();
            watch.observe(at(0), Some(grown(0)));
            watch.observe(at(200), Some(grown(200)));
            assert_eq!(watch.observe(at(264), Some(updated)), Some(Duration::ZERO), "{updated:?}");
            let later = watch.observe(at(328), Some(updated + MILLI * 32));
            assert_eq!(later, Some(Duration::from_secs(64)), "{updated:?}");
        }
    }

    #[test]
    fn a_clock_that_is_slewed_by_a_tenth_is_not_taken_for_an_update() {
        for slewed in [900_000, 1_100_000] {
            let mut watch = UpdateWatch::default();
            watch.observe(at(0), Some(MILLI));
            let growth = Duration::from_micros(500 * 3_600 * slewed / 1_000_000);
            let age = watch.observe(at(3_600), Some(MILLI + growth));
            assert_eq!(age, Some(Duration::from_hours(1)), "{slewed}");
        }
    }

    #[test]
    fn without_a_daemon_or_a_readable_state_there_is_no_age_and_the_watch_begins_again() {
        for missing in [None, Some(MAX_ERROR_LIMIT)] {
            let mut watch = UpdateWatch::default();
            watch.observe(at(0), Some(grown(0)));
            assert_eq!(watch.observe(at(60), missing), None);
            assert_eq!(watch.observe(at(120), Some(grown(120))), Some(Duration::ZERO));
        }
    }

    #[test]
    fn the_clock_is_disciplined_below_16_s_until_no_process_has_updated_it_for_2_h() {
        let of = |max_error, age| Discipline::of(max_error, age);
        let hour = |n: u64| Some(Duration::from_hours(n));
        assert_eq!(of(None, None), Discipline::Unreadable);
        assert_eq!(of(Some(Duration::from_secs(16)), None), Discipline::Absent);
        assert_eq!(of(Some(Duration::from_micros(15_999_999)), None), Discipline::Active);
        assert_eq!(of(Some(MILLI), hour(1)), Discipline::Active);
        assert_eq!(of(Some(MILLI), hour(2)), Discipline::Silent);
    }

    #[test]
    fn max_error_alone_bounds_the_age_from_above() {
        assert_eq!(oldest_update(MILLI * 32), Some(Duration::from_secs(64)));
        assert_eq!(oldest_update(MAX_ERROR_LIMIT), None);
    }

    #[test]
    fn a_stamp_belongs_to_the_last_update_if_both_are_of_the_same_age() {
        let belongs = |age| is_update_of_stamp(MILLI * 300, Duration::from_secs(age));
        assert!(belongs(600) && belongs(603) && belongs(597));
        assert!(!belongs(604), "another process has updated the clock since");
        assert!(!belongs(596), "another process's root distance is in it");
        assert!(!is_update_of_stamp(MAX_ERROR_LIMIT, Duration::from_secs(32_000)));
    }
}
