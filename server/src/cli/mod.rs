//! The command line.

mod serve;

use clap::{Parser, Subcommand};

use crate::config::Layer;

/// An event hub: one feed over WebTransport and Server-Sent Events.
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
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            None => serve::run(self.serve),
            Some(Command::Serve(layer)) => serve::run(*layer),
        }
    }
}
