//! The pure core: no sockets, no clock, no runtime. Everything comes in through [`machine::Machine::on`].

pub mod combine;
pub mod daemon;
pub mod effect;
pub mod filter;
pub mod header;
pub mod http_date;
pub mod journal;
pub mod last_resort;
pub mod last_step;
pub mod leeway;
pub mod line;
pub mod machine;
pub mod pool;
pub mod publish;
pub mod report;
pub mod resume;
pub mod rounds;
pub mod sample;
pub mod server;
pub mod step_policy;
pub mod stepper;
pub mod time;
pub mod verdict;
pub mod view;
