//! `fanwire log export`.

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use tempfile::NamedTempFile;

use super::{GONE, STDOUT, bar::Bar, unless_interrupted};
use crate::local::{Client, Exported, Fault, Message};

#[derive(Debug, Args)]
#[command(after_help = "\
A line is an event: {\"cursor\", \"at\", \"topic\", \"id\", \"type\", \"data\" or \"data_base64\", \"retry\", \"private\"}, those that it has; \
at is in milliseconds since 1970. To go on later, give --after the cursor of the last line.\n\n\
The exit code is 3 where events that were asked for aren't kept any more, or can't be read; standard error says which.")]
pub(super) struct Export {
    /// Only events with this topic; may be repeated
    #[arg(long = "topic", short, value_name = "TOPIC")]
    topics: Vec<String>,

    /// Only events after this one [default: all that are kept]
    #[arg(long, value_name = "CURSOR|NUMBER")]
    after: Option<String>,

    /// Only events up to this one [default: the newest]
    #[arg(long, value_name = "CURSOR|NUMBER")]
    to: Option<String>,

    /// Write to this new file, which only you may read [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(self, mut client: Client) -> Result<ExitCode> {
        let path = self.path();
        let Some(file) = &self.output else {
            let mut out = io::BufWriter::new(io::stdout());
            let bar = if io::stdout().is_terminal() { Bar::hidden() } else { Bar::new(TITLE, COUNTED) };
            let copied = unless_interrupted(copy(&mut client, &path, &mut out, bar, STDOUT)).await;
            let done = copied.and_then(|done| out.flush().map(|()| done).context(STDOUT));
            return match done {
                Ok(done) => Ok(done.code()),
                // `| head` has what it wants.
                Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
                Err(error) => Err(error),
            };
        };
        let mut partial = Partial::create(file)?;
        let (bar, failed) = (Bar::new(TITLE, COUNTED), partial.failed());
        let copied = unless_interrupted(copy(&mut client, &path, &mut partial.out, bar, &failed)).await?;
        partial.finish()?;
        Ok(copied.code())
    }

    fn path(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.topics.iter().map(|topic| ("topic", topic)));
        let positions = [("after", &self.after), ("to", &self.to)];
        query.extend_pairs(positions.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
        format!("/log/export?{}", query.finish())
    }
}

/// What was written.
struct Copied {
    gaps: u64,
}

impl Copied {
    fn code(&self) -> ExitCode {
        if self.gaps == 0 { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) }
    }
}

/// `failed`: what is said if it can't be written.
async fn copy(client: &mut Client, path: &str, out: &mut impl Write, bar: Bar, failed: &str) -> Result<Copied> {
    let mut answer = client.follow("GET", path, Bytes::new()).await?;
    let mut gaps = 0;
    while let Some(lines) = answer.lines().await? {
        // Most lines are events, and go out as they came: the longest stretches of them at a time.
        let mut events = 0;
        for (start, line) in starts(&lines) {
            if line.starts_with(EVENT) {
                continue;
            }
            out.write_all(&lines[events..start]).with_context(|| failed.to_owned())?;
            events = start + line.len();
            match serde_json::from_slice(line).map_err(Fault::from)? {
                Message::<Exported>::Progress(step) => bar.show(step),
                Message::Gap { from, to } => {
                    gaps += 1;
                    if gaps <= GAPS_SAID_MAX {
                        let events =
                            if from == to { format!("event {from}") } else { format!("events {from} to {to}") };
                        bar.say(&format!("gap: {events} may be missing: not kept any more, or not to be read"));
                    }
                }
                Message::Done(Exported { .. }) => {
                    if gaps > GAPS_SAID_MAX {
                        bar.say(&format!("{} more gaps", gaps - GAPS_SAID_MAX));
                    }
                    return Ok(Copied { gaps });
                }
                Message::Error(error) => return Err(Fault::Refused(error).into()),
            }
        }
        out.write_all(&lines[events..]).with_context(|| failed.to_owned())?;
    }
    bail!(GONE)
}

/// The lines with their ends, and where they start.
fn starts(lines: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut start = 0;
    lines.split_inclusive(|&byte| byte == b'\n').map(move |line| {
        let at = start;
        start += line.len();
        (at, line)
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A file that isn't there under its name before it is whole.
struct Partial {
    out: io::BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Partial {
    fn create(path: &Path) -> Result<Self> {
        let said = || format!("can't write {}", path.display());
        // An early word for who would wait for nothing; the end looks again.
        if path.symlink_metadata().is_ok() {
            bail!("{} exists", path.display());
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".fanwire-export-").tempfile_in(directory).with_context(said)?;
        Ok(Self { out: io::BufWriter::new(file), path: path.to_owned() })
    }

    /// What is said if it can't be written.
    fn failed(&self) -> String {
        format!("can't write {}", self.path.display())
    }

    fn finish(self) -> Result<()> {
        let failed = self.failed();
        let said = || failed.clone();
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error).with_context(said)?;
        file.as_file().sync_all().with_context(said)?;
        file.persist_noclobber(&self.path).map_err(|error| error.error).with_context(said)?;
        Ok(())
    }
}

const TITLE: &str = "exporting";
const COUNTED: &str = "events";
/// How the line of an event begins, and no message.
const EVENT: &[u8] = b"{\"cursor\":";
/// The exit code of an export that isn't all of what was asked for.
const INCOMPLETE: u8 = 3;
const GAPS_SAID_MAX: u64 = 10;
