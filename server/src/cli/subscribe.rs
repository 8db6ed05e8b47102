//! `fanwire sub`: a feed on standard output.

use std::{io, time::Duration};

use anyhow::{Context, Result, ensure};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use clap::Args;
use fanwire_client::{Choice, Feed, Item, Transport, Update};
use fanwire_protocol::{Delivery, Event, LastEventId};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::target::Target;
use crate::hub::now_ms;

#[derive(Debug, Args)]
pub(super) struct Subscribe {
    #[command(flatten)]
    target: Target,

    /// A topic, or * for all; may be repeated
    #[arg(long = "topic", short, value_name = "TOPIC")]
    topics: Vec<String>,

    /// The topics that a URL pattern takes, like https://example.com/books/:id; may be repeated
    #[arg(long = "pattern", short, value_name = "PATTERN")]
    patterns: Vec<String>,

    /// auto (WebTransport, or SSE where that fails), webtransport, sse, sse-h1, sse-h2 or sse-h3
    #[arg(long, default_value = "auto", value_name = "TRANSPORT")]
    transport: Choice,

    /// How events come over WebTransport: ordered; per-topic, where what is lost of one topic holds up no other; or datagram, where what
    /// is lost isn't sent again and the newest of a topic wins
    #[arg(long, default_value = "ordered", value_name = "DELIVERY")]
    delivery: Delivery,

    /// Start after a cursor or a publisher's id, or at the "earliest" event
    #[arg(long, value_name = "ID")]
    last_event_id: Option<String>,

    /// Begin with the newest event of each topic
    #[arg(long, conflicts_with = "last_event_id")]
    latest: bool,

    /// Seconds from one heartbeat of the hub to the next [default: the hub's]
    #[arg(long, value_name = "SECONDS")]
    heartbeat: Option<f64>,

    /// Print an object a line, with id, cursor, seq, topic, type, data, transport and latency in milliseconds
    #[arg(long)]
    json: bool,

    /// End after so many events
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,

    /// Say nothing of connections and gaps on standard error
    #[arg(long, short)]
    quiet: bool,
}

impl Subscribe {
    pub(super) async fn run(self) -> Result<()> {
        let mut options = self.target.options()?;
        for topic in &self.topics {
            options = options.topic(topic).with_context(|| format!("--topic {topic:?}"))?;
        }
        for pattern in &self.patterns {
            options = options.pattern(pattern).with_context(|| format!("--pattern {pattern:?}"))?;
        }
        let asks = options.url.query_pairs().any(|(name, _)| name == "topic" || name.starts_with("match"));
        ensure!(
            asks || !options.matchers.as_slice().is_empty(),
            "say what to subscribe to: --topic TOPIC, or --topic '*'"
        );
        if let Some(id) = &self.last_event_id {
            options.last_event_id = LastEventId::parse(id).with_context(|| format!("--last-event-id {id:?}"))?;
        }
        if self.latest {
            options.url.query_pairs_mut().append_pair("replay", "latest");
        }
        if let Some(seconds) = self.heartbeat {
            options.heartbeat = Some(Duration::try_from_secs_f64(seconds).context("--heartbeat")?);
        }
        options.delivery = self.delivery;
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut feed = Feed::new(self.transport, options);
        let mut out = io::BufWriter::new(io::stdout());
        let (mut transport, mut left) = (None, self.count);
        while left != Some(0) {
            let update = tokio::select! {
                biased;
                // The hub is told, which over QUIC would take us for silent.
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                update = feed.next() => update?,
            };
            match update {
                Update::Connected { transport: now, connect, .. } => {
                    self.say(format_args!("connected over {now} in {} ms", connect.as_millis()));
                    transport = Some(now);
                }
                Update::Disconnected { error, retry_in } => {
                    self.say(format_args!("{:#}; again in {} ms", anyhow::Error::new(error), retry_in.as_millis()));
                }
                Update::Item(Item::Event(event)) => {
                    if print(&mut out, self.json, &event.event, transport).is_err() {
                        // `| head` has what it wants.
                        break;
                    }
                    left = left.map(|left| left - 1);
                }
                Update::Item(Item::Gap(gap)) => {
                    let from = gap.from.map_or_else(|| "before".to_owned(), |from| from.to_string());
                    self.say(format_args!("gap: events {from} to {} may be missing ({:?})", gap.to, gap.reason));
                }
                Update::Item(Item::Bye(bye)) => self.say(format_args!("the hub says bye: {}", bye.reason)),
                Update::Item(_) => {}
            }
        }
        feed.close().await;
        Ok(())
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        if !self.quiet {
            eprintln!("fanwire: {what}");
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    id: String,
    cursor: String,
    seq: u64,
    topic: &'a str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    transport: Option<&'static str>,
    /// From the hub's clock to this one's: right only where they agree.
    latency_ms: i64,
}

fn print(out: &mut impl io::Write, json: bool, event: &Event, transport: Option<Transport>) -> io::Result<()> {
    let draft = &event.draft;
    let bytes = draft.data.bytes();
    if json {
        let text = std::str::from_utf8(bytes).ok().filter(|_| !draft.data.is_binary());
        let line = Line {
            id: event.public_id(),
            cursor: event.cursor.to_string(),
            seq: event.seq().0,
            topic: draft.canonical().as_str(),
            kind: draft.kind.as_ref().map(fanwire_protocol::EventType::as_str),
            data: text,
            data_base64: text.is_none().then(|| BASE64_STANDARD.encode(bytes)),
            transport: transport.map(Transport::name),
            latency_ms: now_ms() as i64 - event.at_ms as i64,
        };
        serde_json::to_writer(&mut *out, &line)?;
    } else {
        out.write_all(bytes)?;
    }
    out.write_all(b"\n")?;
    out.flush()
}
