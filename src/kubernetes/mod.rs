//! The Node over the API server: read, apply, events, and the watch for step requests.

pub mod api;
pub mod event;
pub mod node;
pub mod requests;
