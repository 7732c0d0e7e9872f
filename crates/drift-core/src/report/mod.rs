//! What is published. The machine's state goes in; a snapshot, the Node's status, events and the history come
//! out.
//!
//! This room never changes the state that it reports, and never calls the API server.
//!
//! | file         | what                                                              |
//! |--------------|-------------------------------------------------------------------|
//! | [`snapshot`] | everything that is known at one instant                           |
//! | `sentence`   | the verdict in words                                              |
//! | [`node`]     | the Node's status and events as values                            |
//! | [`names`]    | the names of the annotations and the condition                    |
//! | [`outbox`]   | which status write and which event is due                         |
//! | [`publish`]  | when the status is written                                        |
//! | [`history`]  | the last two hours, for the status page                           |
//! | [`leeway`]   | the recommended leeway for verifiers of tokens                    |
//! | [`shape`]    | offsets of a size that has a known cause                          |

pub mod diagnosis;
pub mod history;
pub mod leeway;
pub mod names;
pub mod node;
pub mod outbox;
pub mod publish;
mod sentence;
pub mod shape;
pub mod snapshot;
