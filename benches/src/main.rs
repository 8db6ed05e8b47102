//! Fanwire measured, as a user would run it: the real binary in a process of its own.

mod hub;
mod publish;
mod resume;
mod soak;
mod spread;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "fanwire-bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the live input to many subscribers for long, and watch the hub's memory, its log and what it delivers
    Soak(soak::Soak),
    /// Publish as fast as the hub answers, to a log in memory and on disk, and measure throughput and latency
    Publish(publish::Publish),
    /// Come back at the newest event of a log on disk that grows, and measure what that costs
    Resume(resume::Resume),
}

fn main() -> Result<()> {
    let Cli { command } = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    // Publishers are many and small: they share a thread.
    tokio::task::LocalSet::new().block_on(&runtime, async {
        match command {
            Command::Soak(soak) => soak.run().await,
            Command::Publish(publish) => publish.run().await,
            Command::Resume(resume) => resume.run().await,
        }
    })
}
