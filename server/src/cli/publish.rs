//! `fanwire pub`: one event, or one for each line of standard input.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use fanwire_client::{Body, HttpVersion, Publication, Published, Publisher};
use fanwire_protocol::message::Refusal;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
};

use super::target::Target;
use crate::config::Span;

#[derive(Debug, Args)]
pub(super) struct Publish {
    #[command(flatten)]
    target: Target,

    /// The topic; repeated: alternates of the first
    #[arg(long = "topic", short, value_name = "TOPIC")]
    topics: Vec<String>,

    /// The data of the one event to publish; without it, each line of standard input is the data of one
    #[arg(long, short, value_name = "TEXT")]
    data: Option<String>,

    /// Lines of standard input are events in JSON, with their own topic, data, id, type…
    #[arg(long, conflicts_with_all = ["data", "id", "type", "retry", "private"])]
    ndjson: bool,

    /// The event's id, instead of one of the hub's
    #[arg(long, value_name = "ID", requires = "data")]
    id: Option<String>,

    /// The event's type
    #[arg(long = "type", id = "type", value_name = "TYPE")]
    kind: Option<String>,

    /// How long subscribers are to wait before they connect again, in milliseconds
    #[arg(long, value_name = "MS")]
    retry: Option<u64>,

    /// Only for subscribers who have the right
    #[arg(long)]
    private: bool,

    /// How long to try again while the hub can't be reached or doesn't answer; no event is published twice [default: 30s once the hub has
    /// answered, 0s before]
    #[arg(long, value_name = "DURATION")]
    retry_for: Option<Span>,

    /// Don't print the ids
    #[arg(long, short)]
    quiet: bool,
}

impl Publish {
    pub(super) async fn run(self) -> Result<()> {
        ensure!(self.ndjson || !self.topics.is_empty(), "say where to publish: --topic TOPIC");
        let mut publisher = Publisher::new(self.target.options()?, HttpVersion::Auto);
        if let Some(time) = self.retry_for {
            publisher = publisher.retry_for(time.0);
        }
        if let Some(data) = &self.data {
            let published = publisher.publish(&self.publication(data.clone())).await?;
            return self.tell(&published);
        }
        let mut lines = read_lines();
        let (mut batch, mut refused) = (Vec::new(), 0);
        while lines.recv_many(&mut batch, BATCH_LINES_MAX).await > 0 {
            // What came while the last batch was on its way goes out together, in requests that the hub takes.
            let mut lines =
                batch.drain(..).collect::<io::Result<Vec<String>>>().context("standard input")?.into_iter().peekable();
            while lines.peek().is_some() {
                let (mut request, mut bytes) = (Vec::new(), 0);
                while let Some(line) = lines.next_if(|line| request.is_empty() || bytes + line.len() <= BATCH_BYTES_MAX)
                {
                    bytes += line.len();
                    request.push(line);
                }
                refused += self.publish_batch(&mut publisher, request).await?;
                if self.retry_for.is_none() {
                    publisher = publisher.retry_for(RETRY_FOR);
                }
            }
        }
        ensure!(refused == 0, "{refused} of the lines were refused");
        Ok(())
    }

    async fn publish_batch(&self, publisher: &mut Publisher, lines: Vec<String>) -> Result<usize> {
        let results = if self.ndjson {
            let lines: Vec<_> =
                lines.into_iter().filter(|line| !line.trim().is_empty()).map(|line| self.with_topic(line)).collect();
            if lines.is_empty() {
                return Ok(0);
            }
            post_lines(publisher, &lines).await?
        } else {
            let publications: Vec<_> = lines.into_iter().map(|line| self.publication(line)).collect();
            publisher.publish_batch(&publications).await?
        };
        let mut refused = 0;
        for result in results {
            match result {
                Ok(published) => self.tell(&published)?,
                Err(Refusal { code, message }) => {
                    refused += 1;
                    eprintln!("fanwire: refused: {code}: {message}");
                }
            }
        }
        Ok(refused)
    }

    fn publication(&self, data: String) -> Publication {
        Publication {
            topics: self.topics.clone(),
            body: Body::Text(data),
            id: self.id.clone(),
            kind: self.kind.clone(),
            retry_ms: self.retry,
            private: self.private,
            idempotency_key: None,
        }
    }

    /// An event that names no topic gets those of the command line. Anything else goes out as it was written.
    fn with_topic(&self, line: String) -> String {
        if self.topics.is_empty() {
            return line;
        }
        // The members stay as they were written: a number may have more digits than any type of ours.
        let event = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&line);
        let topics = serde_json::value::to_raw_value(&self.topics);
        match (event, topics) {
            (Ok(mut event), Ok(topics)) if !event.contains_key("topic") => {
                event.insert("topic".to_owned(), topics);
                serde_json::to_string(&event).unwrap_or(line)
            }
            _ => line,
        }
    }

    fn tell(&self, published: &Published) -> Result<()> {
        if !self.quiet {
            writeln!(io::stdout(), "{}", published.id)?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Refused { error: Refusal },
    Published(Published),
}

async fn post_lines(publisher: &mut Publisher, lines: &[String]) -> Result<Vec<Result<Published, Refusal>>> {
    let answer = publisher.post("application/x-ndjson", (lines.join("\n") + "\n").into()).await?;
    let text = String::from_utf8_lossy(&answer.body);
    if !answer.status.is_success() {
        bail!("the hub answered {}: {text}", answer.status);
    }
    let results = text.lines().map(|line| {
        let answer = serde_json::from_str(line).with_context(|| format!("the hub's answer {line:?} can't be read"))?;
        Ok(match answer {
            Answer::Published(published) => Ok(published),
            Answer::Refused { error } => Err(error),
        })
    });
    results.collect()
}

/// Reads standard input in the background, a bounded number of lines ahead.
fn read_lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel(BATCH_LINES_MAX);
    tokio::spawn(async move {
        let mut input = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = input.next_line().await.transpose() {
            let failed = line.is_err();
            if sender.send(line).await.is_err() || failed {
                return;
            }
        }
    });
    lines
}

/// Long enough for a hub to be started anew.
const RETRY_FOR: Duration = Duration::from_secs(30);
const BATCH_LINES_MAX: usize = 500;
/// Below the hub's 8 MiB also where JSON escapes make a line longer.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
