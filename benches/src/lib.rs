//! `fanwire bench`: transports measured side by side.
//!
//! A [`contest`] gives the same [`load`] to one server after the other, in turns. The hub's own binary has it as a command; the crate's
//! binary adds peers and floors to compare with. `benches/README.md` says what is measured, and what is left out.

pub mod cli;
pub mod contest;
pub mod latency;
mod ledger;
pub mod link;
pub mod load;
pub mod plot;
pub mod report;
pub mod scenario;
pub mod server;
pub mod spread;
pub mod stamp;
pub mod table;
pub mod way;
pub mod wire;
