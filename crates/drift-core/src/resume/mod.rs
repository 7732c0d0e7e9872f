//! Was the machine suspended, paused, restored or migrated, or was one of its clocks set?
//!
//! **In:** an [`Observation`] of this machine's signals several times a second, the clocks alone with every
//! other input, and at the end of a round what the NTP servers reported. **Out:** at most one [`Detection`]
//! for each of them: a [`Disruption`] with its data, and the class that it reclassifies. **Never:** it reads
//! no clock by itself, steps none, and does not measure how wrong the clock is; only NTP does.
//!
//! ```text
//! Observation -> suspend, wall and RTC monitors -> Evidence -> Disruption -> EventMerger -> Detection
//!                                                                                |
//!                                                        RTC write: a pause? <---+
//!                                                                |
//! rounds of NTP ---------------------------------------> PauseConfirmation ------------> Detection
//!            +--- without RTC and vmclock -------------> PoolWatch --------------------> Detection
//! ```
//!
//! **One event, several signals.** An event shows in several signals over about a second, and is reported
//! once, or again where a later signal shows a stronger class: see `merge.rs`.
//!
//! **A write or a pause?** A jump of the RTC that a write may have made is reported as one. It becomes a
//! pause if the RTC, known better some seconds later, shows that no write can have made it (see `rtc.rs`), or
//! if NTP confirms that the machine lost that much time (see `pause_confirmation.rs`). A pause that the RTC alone
//! shows is taken back if NTP refutes it.
//!
//! **Without RTC and vmclock** what the servers of several pools report jumps by the same amount: see `pools.rs`.
//!
//! **Another clocksource** is no disruption: the raw clock goes on, but at another rate, so that only the rate
//! is measured again.
//!
//! The base clock, against which the RTC and the wall clock are followed, is
//! [`Reading::base`](crate::time::Reading::base): the raw clock and the time for which the kernel knows that
//! the machine was suspended.

mod classify;
mod clocksource;
mod detector;
mod disruption;
mod merge;
mod pause_confirmation;
mod pools;
mod rtc;
mod rtc_rate;
mod rtc_trust;
mod rtc_write;
mod signal;
mod suspend;
mod tracker;
mod wall;

pub use self::classify::Class;
pub use self::clocksource::{Clocksource, ClocksourceChange};
pub use self::detector::{Detector, Observation, PauseSuspected};
pub use self::disruption::{Detection, Disruption, PauseEvidence};
pub use self::merge::SAME_EVENT_MAX;
pub use self::rtc_trust::RtcFault;
pub use self::signal::{Signal, SignalSet};
pub use self::tracker::{RtcRead, RtcSetBehavior};
