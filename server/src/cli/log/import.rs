//! `fanwire log import`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::{bar::Bar, say};
use crate::{
    local::{Client, Imported},
    log::admin::{Stage, Step},
};

#[derive(Debug, Args)]
#[command(after_help = "\
The events get new numbers, and keep their time, topics, id, type and data; subscribers get them as any others. Lines as `fanwire pub \
--ndjson` takes them are taken too, at the time of the import.\n\n\
What is older than its retention class keeps goes again soon after. What was imported before is known by its cursor, for as long as \
idempotency keys last, and isn't imported again. A hub's own events, about who is subscribed, are left out.\n\n\
It stops at the first line that is none, and says how to go on.")]
pub(super) struct Import {
    /// What `export` wrote, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Begin at this line
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
}

impl Import {
    pub(super) async fn run(self, mut client: Client) -> Result<ExitCode> {
        let (mut input, total): (Box<dyn BufRead>, _) = if self.file == Path::new("-") {
            ensure!(!io::stdin().is_terminal(), "standard input is a terminal: say which file");
            (Box::new(BufReader::new(io::stdin())), None)
        } else {
            let file = File::open(&self.file).with_context(|| format!("can't read {}", self.file.display()))?;
            let total = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|file| file.len());
            (Box::new(BufReader::new(file)), total)
        };
        let bar = Bar::new("importing", "bytes");
        let (mut line, mut done, mut events, mut repeated, mut refused) = (1, 0, 0, 0, 0);
        loop {
            let (batch, lines) =
                read_batch(&mut input).with_context(|| format!("can't read {}", self.file.display()))?;
            if batch.is_empty() {
                break;
            }
            let skipped = self.from_line.saturating_sub(line).min(lines);
            let wanted = skip_lines(&batch, skipped);
            if !wanted.is_empty() {
                let path = format!("/log/import?line={}", line + skipped);
                let answer = client.ask::<Imported>("POST", &path, wanted.to_vec().into()).await;
                let imported = answer.with_context(|| {
                    format!("{events} events were imported; once it can go on: --from-line {}", line + skipped)
                })?;
                events += imported.events;
                repeated += imported.repeated;
                refused += imported.refused_lines.len();
                for line in imported.refused_lines {
                    bar.say(&format!("line {line}: its cursor stands for another event that was imported before"));
                }
            }
            line += lines;
            done += batch.len() as u64;
            bar.show(Step { done, total, stage: Stage::Itself });
        }
        drop(bar);
        ensure!(
            self.from_line <= line,
            "{} has {} lines, and no line {}",
            self.file.display(),
            line - 1,
            self.from_line
        );
        say(&format!("{events} events imported, {repeated} were in the log already\n"))?;
        ensure!(refused == 0, "{refused} of the lines were refused");
        Ok(ExitCode::SUCCESS)
    }
}

/// Some lines, with their ends, and how many; none at the end of the input.
fn read_batch(input: &mut impl BufRead) -> io::Result<(Vec<u8>, u64)> {
    let (mut batch, mut lines) = (Vec::new(), 0);
    while lines < BATCH_LINES_MAX && batch.len() < BATCH_BYTES {
        let room = LINE_BYTES_MAX as u64;
        let read = io::Read::take(&mut *input, room).read_until(b'\n', &mut batch)?;
        if read == 0 {
            break;
        }
        if read as u64 == room && !batch.ends_with(b"\n") {
            let message = format!("line too long: more than {LINE_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        lines += 1;
    }
    Ok((batch, lines))
}

fn skip_lines(batch: &[u8], count: u64) -> &[u8] {
    let mut rest = batch;
    for _ in 0..count {
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
        rest = &rest[end..];
    }
    rest
}

/// The hub takes a thousand events in a batch, and 32 MiB.
const BATCH_LINES_MAX: u64 = 1000;
const BATCH_BYTES: usize = 2 * 1024 * 1024;
const LINE_BYTES_MAX: usize = 28 * 1024 * 1024;
