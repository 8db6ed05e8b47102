//! `fanwire log compact`.

use std::process::ExitCode;

use anyhow::Result;
use bytes::Bytes;
use bytesize::ByteSize;
use clap::Args;

use super::{bar::Bar, follow, say, unless_interrupted};
use crate::{local::Client, log::admin::Compacted};

#[derive(Debug, Args)]
#[command(after_help = "\
Space that evicted events leave is used again, so a log that keeps its size needs no compacting. `stat` says how much is free.\n\n\
While it runs, publishers and subscribers that need history wait; live feeds stay connected. Interrupted, it ends: nothing is lost, \
and the log is looked through as after a crash. Where no hub runs, every page's checksum is checked first. It needs hardly any room on the disk.")]
pub(super) struct Compact {}

impl Compact {
    pub(super) async fn run(self, mut client: Client) -> Result<ExitCode> {
        let bar = Bar::new("looking for what is free", "bytes");
        let compacted = unless_interrupted(follow(&mut client, "/log/compact", Bytes::new(), &bar)).await?;
        let Compacted { bytes_before, bytes_after } = compacted;
        drop(bar);
        let size = |bytes: u64| ByteSize(bytes).display().iec().to_string();
        say(&format!("from {} to {}\n", size(bytes_before), size(bytes_after)))?;
        Ok(ExitCode::SUCCESS)
    }
}
