//! What the hub says of itself: its log, and what it counts.

#[cfg(test)]
mod measure_test;
mod metrics;
mod process;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

pub use metrics::{Carrier, Limit, Metrics, OpenConnection, ShardCounters, Transport};
pub use process::open_descriptors;

/// Starts logging to standard error. `filter` is in `tracing`'s syntax.
pub fn start_logging(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log = {filter:?} is no filter"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    builder.with_ansi(colours).with_target(false).try_init().map_err(|error| anyhow::anyhow!("can't log: {error}"))
}
