//! `fanwire log backup`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use bytesize::ByteSize;
use clap::Args;
use indicatif::HumanCount;

use super::{bar::Bar, follow, say, unless_interrupted};
use crate::{
    local::{BackupRequest, Client},
    log::admin::Backup,
};

#[derive(Debug, Args)]
#[command(after_help = "\
The backup is a data directory, compact and synced, that is there once it is whole. To restore it, run a hub on it, or on a copy of it: it goes \
on with the same epoch, so cursors stay good, and with numbers far beyond any that the original gave since. Subscribers are told of the gap.\n\n\
The hub writes it, as its own user.")]
pub(super) struct BackupCommand {
    /// The directory to make
    #[arg(value_name = "DIR")]
    destination: PathBuf,
}

impl BackupCommand {
    pub(super) async fn run(self, mut client: Client) -> Result<ExitCode> {
        // The hub's working directory is another one.
        let destination = std::path::absolute(&self.destination).context("no such place")?;
        let request = serde_json::to_vec(&BackupRequest { destination }).context("the path isn't text")?;
        let bar = Bar::new("copying", "entries");
        let backup: Backup = unless_interrupted(follow(&mut client, "/log/backup", request.into(), &bar)).await?;
        drop(bar);
        let (events, size) = (HumanCount(backup.events), ByteSize(backup.bytes).display().iec());
        say(&format!("{events} events, {size}: {}\n", backup.path))?;
        Ok(ExitCode::SUCCESS)
    }
}
