//! Fanwire measured, as a user would run it: the real binary in a process of its own.

mod soak;

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
}

fn main() -> Result<()> {
    let Cli { command: Command::Soak(soak) } = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(soak.run())
}
