//! `fanwire log stat`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use bytes::Bytes;
use bytesize::ByteSize;
use clap::Args;
use indicatif::HumanCount;

use super::{bar::Bar, say, unless_interrupted};
use crate::{local::Client, log::admin::Stat};

#[derive(Debug, Args)]
pub(super) struct StatCommand {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl StatCommand {
    pub(super) async fn run(self, mut client: Client) -> Result<ExitCode> {
        let bar = Bar::wheel("looking at every page");
        let stat: Stat = unless_interrupted(async { Ok(client.ask("GET", "/log/stat", Bytes::new()).await?) }).await?;
        drop(bar);
        let mut out = Vec::new();
        if self.json {
            serde_json::to_writer_pretty(&mut out, &stat)?;
            writeln!(out)?;
        } else {
            print(&mut out, &stat)?;
        }
        say(&String::from_utf8_lossy(&out))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(out: &mut impl Write, stat: &Stat) -> io::Result<()> {
    let size = |bytes: u64| ByteSize(bytes).display().iec().to_string();
    let count = |count: u64| HumanCount(count).to_string();
    let served = match (stat.is_served, stat.backup_at) {
        (true, _) => "a hub serves it".to_owned(),
        (false, None) => "no hub serves it".to_owned(),
        (false, Some(at)) => format!("a backup of {}, that no hub has opened yet", time(at)),
    };
    writeln!(out, "log      {}, format {}; {served}", stat.epoch, stat.format)?;
    let range = match stat.first {
        Some(first) => format!("from {first} up to {}", stat.head),
        None => format!("none up to {}", stat.head),
    };
    writeln!(out, "events   {}, {range}; {} as retention counts", count(stat.events), size(stat.bytes))?;
    writeln!(out, "topics   {}; {} events with a publisher's id", count(stat.topics), count(stat.publisher_ids))?;
    let file = &stat.file;
    let (bytes, used, free) = (size(file.bytes), size(file.used_bytes), size(file.free_bytes));
    let disk = size(file.disk_bytes);
    writeln!(out, "file     {}: {bytes}, of which {used} in use and {free} free; {disk} on the disk", file.path)?;
    writeln!(out)?;
    let heads = ["class", "events", "at most", "bytes", "at most", "age at most", "evicted up to", "topics"];
    let mut rows = vec![heads.map(str::to_owned)];
    for class in &stat.classes {
        let limit = |limit: Option<String>| limit.unwrap_or_else(|| "?".to_owned());
        let limits = class.limits.as_ref();
        let age = |age: Option<u64>| {
            age.map_or("any".to_owned(), |age| {
                humantime::format_duration(std::time::Duration::from_millis(age)).to_string()
            })
        };
        rows.push([
            class.name.clone(),
            count(class.events),
            limit(limits.map(|limits| count(limits.events_max))),
            size(class.bytes),
            limit(limits.map(|limits| size(limits.bytes_max))),
            limit(limits.map(|limits| age(limits.age_ms_max))),
            class.floor.to_string(),
            class.topics.join(" "),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    for row in &rows {
        let [name, numbers @ .., topics] = row;
        write!(out, "{name:<width$}", width = widths[0])?;
        for (number, width) in numbers.iter().zip(&widths[1..]) {
            write!(out, "  {number:>width$}")?;
        }
        writeln!(out, "  {topics}")?;
    }
    Ok(())
}

fn time(at_ms: u64) -> String {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at_ms);
    humantime::format_rfc3339_seconds(at).to_string()
}
