//! The hardware by which the kernel counts time, such as `tsc` or `hpet`. Each has a frequency of its own.

use std::fmt;

use crate::time::Mono;

/// The longest name, as in the kernel (`CS_NAME_LEN`).
const NAME_MAX: usize = 32;

/// The name of a clocksource. Longer ones are cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Clocksource {
    name: [u8; NAME_MAX],
}

/// The kernel counts time by another clocksource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClocksourceChange {
    /// By which it counted.
    pub before: Clocksource,
    /// By which it counts.
    pub now: Clocksource,
    /// When it was last seen to count by the one before (raw clock).
    pub last_seen: Mono,
}

/// Follows the clocksource.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClocksourceMonitor {
    last: Option<(Clocksource, Mono)>,
}

impl Clocksource {
    /// By the name that the kernel gives it.
    pub fn from_name(text: &str) -> Self {
        let mut name = [0; NAME_MAX];
        name.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Self { name }
    }
}

impl fmt::Display for Clocksource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(String::from_utf8_lossy(&self.name).trim_end_matches('\0'))
    }
}

impl fmt::Debug for Clocksource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clocksource({self})")
    }
}

impl ClocksourceMonitor {
    /// Takes what an observation at `at` shows; `None`: the name could not be read.
    pub(super) fn handle_reading(
        &mut self,
        clocksource: Option<Clocksource>,
        at: Mono,
    ) -> Option<ClocksourceChange> {
        let now = clocksource?;
        let (before, last_seen) = self.last.replace((now, at))?;
        (before != now).then_some(ClocksourceChange { before, now, last_seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_reported_once_and_unreadable_names_are_passed_over() {
        let mut monitor = ClocksourceMonitor::default();
        let at = |secs: i64| Mono::from_nanos(secs * 1_000_000_000);
        let (tsc, hpet) = (Clocksource::from_name("tsc"), Clocksource::from_name("hpet"));
        for (secs, seen) in [(1, None), (2, Some(tsc)), (3, Some(tsc)), (4, None)] {
            assert_eq!(monitor.handle_reading(seen, at(secs)), None, "{secs}");
        }
        let change = ClocksourceChange { before: tsc, now: hpet, last_seen: at(3) };
        assert_eq!(monitor.handle_reading(Some(hpet), at(5)), Some(change));
        assert_eq!(monitor.handle_reading(Some(hpet), at(6)), None);
        assert_eq!(
            (tsc.to_string(), format!("{hpet:?}")),
            ("tsc".to_owned(), "Clocksource(hpet)".to_owned())
        );
    }

    #[test]
    fn names_may_be_empty_long_or_cut_within_a_character() {
        assert_eq!(Clocksource::from_name("").to_string(), "");
        let long = "é".repeat(40);
        assert_eq!(Clocksource::from_name(&long).to_string(), "é".repeat(16));
        assert!(Clocksource::from_name(&format!("x{long}")).to_string().starts_with("xé"));
    }
}
