//! `fanwire log`: what an operator does to a log on disk.

mod backup;
mod bar;
mod compact;
mod export;
mod import;
mod place;
mod stat;
mod verify;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use crate::local::{Client, Fault, Message};
use bar::Bar;
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
    /// Check everything that is kept, and say what is wrong
    Verify(verify::Verify),
    /// Give free space in the log's file back to the disk
    Compact(compact::Compact),
    /// Copy the log as it is now into a new data directory
    Backup(backup::BackupCommand),
}

pub(super) fn run(command: LogCommand) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let result = runtime.block_on(command.run());
    // Work that was given up still removes what it had begun to write.
    runtime.shutdown_timeout(TIDY_MAX);
    result
}

impl LogCommand {
    async fn run(self) -> Result<ExitCode> {
        let check_file = matches!(self.work, Work::Verify(_));
        let client = self.place.open(check_file).await?;
        match self.work {
            Work::Stat(stat) => stat.run(client).await,
            Work::Export(export) => export.run(client).await,
            Work::Import(import) => import.run(client).await,
            Work::Verify(verify) => verify.run(client).await,
            Work::Compact(compact) => compact.run(client).await,
            Work::Backup(backup) => backup.run(client).await,
        }
    }
}

/// Asks for long work, and shows how far it is.
async fn follow<T: DeserializeOwned>(client: &mut Client, path: &str, body: Bytes, bar: &Bar) -> Result<T> {
    let mut answer = client.follow("POST", path, body).await?;
    while let Some(lines) = answer.lines().await? {
        for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line).map_err(Fault::from)? {
                Message::Progress(step) => bar.show(step),
                Message::Done(done) => return Ok(done),
                Message::Error(refusal) => return Err(Fault::Refused(refusal).into()),
                Message::Gap { .. } => {}
            }
        }
    }
    bail!(GONE)
}

/// Says what came of a work, on standard output. That nobody reads to the end, as `| head` doesn't, is no failure.
fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context(STDOUT),
        _ => Ok(()),
    }
}

const STDOUT: &str = "can't write to standard output";
const TIDY_MAX: Duration = Duration::from_secs(10);
const GONE: &str = "the hub was gone before it had finished";

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
