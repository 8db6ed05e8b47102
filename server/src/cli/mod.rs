//! The command line.

mod log;
mod publish;
mod serve;
mod subscribe;
mod target;
mod token;

use std::process::ExitCode;

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
    /// Look after a log on disk, whether a hub is running on it or not
    Log(log::LogCommand),
    Bench(Box<fanwire_bench::cli::Bench>),
    #[command(name = fanwire_bench::contest::LOAD, hide = true)]
    Load,
    #[command(name = fanwire_bench::link::RELAY, hide = true)]
    Link,
    /// Make an access token, for trying
    Token(token::MakeToken),
}

impl Cli {
    /// Does what was asked for, and says how the process is to end.
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            None => serve::run(self.serve)?,
            Some(Command::Serve(layer)) => serve::run(*layer)?,
            Some(Command::Pub(publish)) => on_runtime(publish.run())?,
            Some(Command::Sub(subscribe)) => on_runtime(subscribe.run())?,
            Some(Command::Token(token)) => token.run()?,
            Some(Command::Bench(bench)) => bench.run(&std::env::current_exe()?, &|_| Vec::new())?,
            Some(Command::Load) => fanwire_bench::load::run()?,
            Some(Command::Link) => fanwire_bench::link::relay()?,
            Some(Command::Log(log)) => return log::run(log),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn on_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let result = runtime.block_on(work);
    // Standard input may still be waited for.
    runtime.shutdown_background();
    result
}
