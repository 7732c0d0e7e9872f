//! What is published. The machine's state goes in; a snapshot, the Node's status, events and the history of the last hours come out.
//!
//! This room never changes the state that it reports, and never talks to the API server.

pub mod diagnosis;
pub mod history;
pub mod leeway;
pub mod names;
pub mod node;
pub mod publish;
pub mod snapshot;
