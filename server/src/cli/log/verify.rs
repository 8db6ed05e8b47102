//! `fanwire log verify`.

use std::process::ExitCode;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use indicatif::HumanCount;

use super::{bar::Bar, follow, unless_interrupted};
use crate::{local::Client, log::admin::Verdict};

#[derive(Debug, Args)]
#[command(after_help = "\
Reads every event and looks it up in every index, and the other way round, and counts what each retention class keeps. Nothing is changed. \
Where no hub runs, the checksums of the log's file are checked as well.\n\n\
The exit code is 1 if anything is wrong.")]
pub(super) struct Verify {}

impl Verify {
    pub(super) async fn run(self, mut client: Client) -> Result<ExitCode> {
        let bar = Bar::new("checking", "events");
        let verdict: Verdict = unless_interrupted(follow(&mut client, "/log/verify", Bytes::new(), &bar)).await?;
        drop(bar);
        if verdict.problems_count == 0 {
            let file = if verdict.has_checked_file { "the file and " } else { "" };
            println!("{file}{} events are sound", HumanCount(verdict.events));
            return Ok(ExitCode::SUCCESS);
        }
        for problem in &verdict.problems {
            println!("{problem}");
        }
        let more = verdict.problems_count - verdict.problems.len() as u64;
        if more > 0 {
            println!("and {} more", HumanCount(more));
        }
        let (count, events) = (HumanCount(verdict.problems_count), HumanCount(verdict.events));
        eprintln!("fanwire: the log is damaged: {count} problems; {events} events can be read");
        Ok(ExitCode::FAILURE)
    }
}
