//! Stepping the clock. Triggers and what was measured after them go in; a step order, or the reason for a
//! refusal, comes out.
//!
//! This room never steps a clock itself, and never decides on a measurement that is older than its trigger.
//!
//! | file            | what                                                                    |
//! |-----------------|-------------------------------------------------------------------------|
//! | [`policy`]      | whether to step: one pure function with every rule                      |
//! | [`budget`]      | what earlier steps have cost, and the annotation that keeps it          |
//! | [`stepper`]     | a trigger's way over time: its burst, the step, the confirmation        |
//! | `queue`         | a trigger that waits for what a decision needs                          |
//! | `requests`      | requests by the Node's annotation, and their answers                    |
//! | [`outcome`]     | how a trigger ended, in types and in words                              |
//! | [`last_step`]   | the annotation `last-step`                                              |
//! | [`window`]      | maintenance windows, in which other limits apply                        |
//! | [`discipline`]  | what the kernel shows about the process that disciplines the clock      |
//! | [`audit`]       | what the node's own time daemon has of what it should have              |
//! | [`time_daemon`] | which process disciplines the clock, and whether the clock can be stepped |

pub mod audit;
pub mod budget;
pub mod discipline;
pub mod last_step;
pub mod outcome;
pub mod policy;
mod queue;
mod requests;
pub mod stepper;
pub mod time_daemon;
pub mod window;
