//! Every decision of drift-agent, pure: no runtime, no sockets, no Kubernetes, and no call that reads a
//! clock.
//!
//! [`machine::Machine`] takes an [`io::Input`] and a reading of the clocks, and returns [`io::Effect`]s. The
//! agent carries both between this crate and the world; the tests drive the same machine on a virtual clock.
//!
//! ```text
//! poll -> ntp -> time::line -> estimate -> verdict -> report
//!                                  resume -> step -> (a step of the clock)
//! ```
//!
//! | room          | in                                    | out                                                       |
//! |---------------|---------------------------------------|-----------------------------------------------------------|
//! | [`time`]      | clock readings                        | newtypes with unit and sign; the reference line; back-off |
//! | [`ntp`]       | packets, exchanges with one server    | samples, or the reason for which each was rejected        |
//! | [`http_date`] | HTTP `Date` headers                   | a coarse offset                                           |
//! | [`poll`]      | time, answers                         | which server is asked when                                |
//! | [`estimate`]  | one interval per server               | the interval of the majority; the offset that follows     |
//! | [`verdict`]   | measurement or contradiction          | one of five states, with hysteresis                       |
//! | [`resume`]    | OS signals, confirmation by NTP       | at most one disruption per event                          |
//! | [`step`]      | triggers, evidence                    | a step order, or the reason for its refusal               |
//! | [`report`]    | the machine's state                   | snapshot, history; Node status and events that are due    |
//! | [`machine`]   | inputs                                | effects; ties the rooms together                          |
//!
//! | word   | type             | unit and sign                                                                   |
//! |--------|------------------|---------------------------------------------------------------------------------|
//! | offset | [`time::Offset`] | ns; reference time - node time: positive is **behind**, negative is **ahead**   |
//! | bound  | [`time::Bound`]  | ns, >= 0; the true offset is inside offset ± bound                              |
//! | wall   | [`time::Wall`]   | ns since 1970 (`CLOCK_REALTIME`)                                                |
//! | raw    | [`time::Mono`]   | ns of `CLOCK_MONOTONIC_RAW`, which no process slews or steps                    |

pub mod estimate;
#[cfg(test)]
mod fixtures;
pub mod http_date;
pub mod io;
pub mod machine;
pub mod ntp;
pub mod poll;
pub mod report;
pub mod resume;
pub mod step;
#[cfg(test)]
mod test_support;
pub mod time;
pub mod verdict;
