//! The signals: where evidence of a disruption comes from.

/// One source of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `CLOCK_BOOTTIME` - `CLOCK_MONOTONIC`: the time for which the kernel knows that the machine was
    /// suspended.
    Suspend,
    /// The hypervisor's disruption marker (vmclock).
    Vmclock,
    /// The hardware clock (RTC) against the base clock.
    Rtc,
    /// The kernel's notification that a process set the wall clock.
    ClockSet,
    /// The wall clock against the base clock.
    Wall,
    /// The lateness of the agent's own timer.
    LateTick,
    /// The NTP pools. They confirm a pause that the RTC shows, and report none by themselves.
    Pools,
}

/// A set of signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(u8);

const _: () = assert!(Signal::ALL.len() <= u8::BITS as usize, "one bit for each signal");

impl Signal {
    /// All signals, in the order in which they are published.
    pub const ALL: [Self; 7] =
        [Self::Suspend, Self::Vmclock, Self::Rtc, Self::ClockSet, Self::Wall, Self::LateTick, Self::Pools];

    /// The signals of the machine itself, which one machine has and another one has not: all but
    /// [`Self::Pools`].
    pub const LOCAL: [Self; 6] =
        [Self::Suspend, Self::Vmclock, Self::Rtc, Self::ClockSet, Self::Wall, Self::LateTick];

    /// As the label `signal` and in the log.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Suspend => "suspend",
            Self::Vmclock => "vmclock",
            Self::Rtc => "rtc",
            Self::ClockSet => "clock-set",
            Self::Wall => "wall",
            Self::LateTick => "late-tick",
            Self::Pools => "pools",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl SignalSet {
    /// Is `signal` in the set?
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    /// Have the two sets a signal in common?
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The signals of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Does one of these signals show a pause that the kernel does not notice? If not, only NTP does.
    pub const fn shows_pauses(self) -> bool {
        self.contains(Signal::Vmclock) || self.contains(Signal::Rtc)
    }
}

impl FromIterator<Signal> for SignalSet {
    fn from_iter<I: IntoIterator<Item = Signal>>(signals: I) -> Self {
        signals.into_iter().fold(Self::default(), |set, signal| Self(set.0 | signal.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_labels_are_those_of_the_metrics() {
        let labels = ["suspend", "vmclock", "rtc", "clock-set", "wall", "late-tick", "pools"];
        assert_eq!(Signal::ALL.map(Signal::label), labels);
        assert_eq!(Signal::LOCAL.as_slice(), &Signal::ALL[..6]);
    }

    #[test]
    fn sets_contain_exactly_the_signals_they_were_made_of() {
        for bits in 0..1 << Signal::ALL.len() {
            let is_in = |signal: &Signal| bits >> *signal as usize & 1 == 1;
            let set: SignalSet = Signal::ALL.into_iter().filter(is_in).collect();
            assert!(Signal::ALL.iter().all(|signal| set.contains(*signal) == is_in(signal)), "{bits:b}");
        }
    }

    #[test]
    fn sets_intersect_only_in_a_signal_of_both() {
        let set = |signals: &[Signal]| signals.iter().copied().collect::<SignalSet>();
        let (one, two) = (set(&[Signal::Rtc, Signal::Wall]), set(&[Signal::Wall, Signal::Suspend]));
        assert!(one.intersects(two) && !set(&[Signal::Rtc]).intersects(two));
        assert!(!SignalSet::default().intersects(one));
        assert_eq!(one.union(two), set(&[Signal::Suspend, Signal::Rtc, Signal::Wall]));
    }

    #[test]
    fn only_vmclock_and_rtc_show_pauses() {
        let alone = |signal: Signal| SignalSet::from_iter([signal]).shows_pauses();
        let showing: Vec<Signal> = Signal::ALL.into_iter().filter(|signal| alone(*signal)).collect();
        assert_eq!(showing, [Signal::Vmclock, Signal::Rtc]);
    }
}
