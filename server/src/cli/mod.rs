//! The command line.

mod publish;
mod serve;
mod subscribe;
mod target;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::config::Layer;

/// An event hub: one feed over WebTransport and Server-Sent Events.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "fanwire", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Layer,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hub (the default)
    Serve(Box<Layer>),
    /// Publish an event, or one for each line of standard input
    Pub(publish::Publish),
    /// Subscribe, and print what comes
    Sub(subscribe::Subscribe),
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> Result<()> {
        match self.command {
            None => serve::run(self.serve),
            Some(Command::Serve(layer)) => serve::run(*layer),
            Some(Command::Pub(publish)) => on_runtime(publish.run()),
            Some(Command::Sub(subscribe)) => on_runtime(subscribe.run()),
        }
    }
}

fn on_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let result = runtime.block_on(work);
    // Standard input may still be waited for.
    runtime.shutdown_background();
    result
}
