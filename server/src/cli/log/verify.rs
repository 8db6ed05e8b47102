//! `fanwire log verify`.

use std::process::ExitCode;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use indicatif::HumanCount;

use super::{bar::Bar, follow, say, unless_interrupted};
use crate::{local::Client, log::admin::Verdict};

#[derive(Debug, Args)]
#[command(after_help = "\
Reads every event and looks it up in every index, and the other way round, and counts what each retention class keeps. Nothing is changed. \
Where no hub runs, the checksums of the log's file are checked as well. Of a file that is damaged, everything is told that can still be read.\n\n\
The exit code is 1 if anything is wrong.")]
pub(super) struct Verify {}

impl Verify {
    pub(super) async fn run(self, mut client: Client) -> Result<ExitCode> {
        let bar = Bar::new("checking", "events");
        let verdict: Verdict = unless_interrupted(follow(&mut client, "/log/verify", Bytes::new(), &bar)).await?;
        drop(bar);
        if verdict.problems_count == 0 {
            let file = if verdict.has_checked_file { "the file and " } else { "" };
            say(&format!("{file}{} events are sound\n", HumanCount(verdict.events)))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut said = verdict.problems.join("\n") + "\n";
        let more = verdict.problems_count.saturating_sub(verdict.problems.len() as u64);
        if more > 0 {
            said += &format!("and {} more\n", HumanCount(more));
        }
        say(&said)?;
        let (count, events) = (HumanCount(verdict.problems_count), HumanCount(verdict.events));
        let problems = if verdict.problems_count == 1 { "problem" } else { "problems" };
        eprintln!("fanwire: the log is damaged: {count} {problems}; {events} events can be read");
        Ok(ExitCode::FAILURE)
    }
}
