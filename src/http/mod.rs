//! What the agent serves: `/`, `/metrics`, `/healthz`, `/readyz`, `/v1/clock`.

pub mod clock;
pub mod metrics;
pub mod page;
pub mod server;
