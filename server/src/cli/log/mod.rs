//! `fanwire log`: what an operator does to a log on disk.

mod bar;
mod export;
mod import;
mod place;
mod stat;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use place::Place;

#[derive(Debug, Args)]
pub(super) struct LogCommand {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Tell how the log is and what is in it
    Stat(stat::StatCommand),
    /// Write events as lines of JSON, oldest first
    Export(export::Export),
    /// Append events from lines of JSON, as `export` writes them
    Import(import::Import),
}

impl LogCommand {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let client = self.place.open().await?;
        match self.work {
            Work::Stat(stat) => stat.run(client).await,
            Work::Export(export) => export.run(client).await,
            Work::Import(import) => import.run(client).await,
        }
    }
}

/// Waits for a work, unless the user interrupts it: then it is given up, and leaves nothing behind.
async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            bail!("interrupted")
        }
        done = work => done,
    }
}
