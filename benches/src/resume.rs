//! Resuming: what it costs to come back at the newest event of a log on disk, however long that is.

use std::{path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use fanwire_bench::spread::{median, ms, quantile};
use fanwire_client::{Connection, HttpVersion, Item, Options, Publication, Publisher, Transport};
use fanwire_protocol::{Cursor, LastEventId};

use crate::hub::Hub;

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// How many events the log has when it is measured, rising
    #[arg(long, value_delimiter = ',', default_values_t = [10, 10_000, 1_000_000, 10_000_000])]
    events: Vec<u64>,

    /// How many feeds are opened in each round
    #[arg(long, default_value_t = 300)]
    feeds: usize,

    /// How many rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Where the log is made, and removed [default: the system's directory for temporary files]
    #[arg(long)]
    directory: Option<PathBuf>,

    /// The hub's binary [default: the fanwire beside this one]
    #[arg(long)]
    hub: Option<PathBuf>,
}

/// A log has so many topics, of which the events take turns.
const TOPICS: u64 = 1_000;
/// How many events a request of the filling has.
const BATCH: u64 = 5_000;

impl Resume {
    pub(crate) async fn run(self) -> Result<()> {
        let directory = match &self.directory {
            Some(directory) => tempfile::tempdir_in(directory)?,
            None => tempfile::tempdir()?,
        };
        let path = directory.path().to_str().context("the directory has a name that isn't text")?;
        let keep = ["--history-events-max", "100000000", "--history-bytes-max", "100GB"];
        let all = [&["--no-demo", "--shards", "1", "--fsync", "1s", "--data-dir", path][..], &keep].concat();
        let mut hub = Hub::start(self.hub.as_deref(), &all).await?;
        let options = Options::new(hub.url())?;
        let mut publisher = Publisher::new(options.clone(), HttpVersion::H1);
        let (mut stored, mut last) = (0, [None, None]);
        println!("| events in the log | what | by | first event after ms, p50 | p99 | hub CPU µs |");
        println!("| --- | --- | --- | --- | --- | --- |");
        for wanted in self.events {
            while stored < wanted {
                let count = BATCH.min(wanted - stored);
                let events: Vec<_> = (stored..stored + count).map(event).collect();
                for result in publisher.publish_batch(&events).await? {
                    let published = result.map_err(|refusal| anyhow::anyhow!("refused: {}", refusal.message))?;
                    last = [last[1].take(), published.cursor];
                }
                stored += count;
                eprint!("\r{stored} of {wanted} events ");
            }
            eprintln!();
            // The one before the newest, of which a feed of every topic gets the newest.
            let before = last[0].context("two events at least")?;
            let own_topic = |options: Options| options.topic(&topic(stored - 1));
            let ways: [(&str, &str, Options, LastEventId); 4] = [
                ("one topic", "cursor", own_topic(options.clone())?, LastEventId::Cursor(before)),
                ("one topic", "id", own_topic(options.clone())?, id_before(stored)?),
                ("`*`", "cursor", options.clone().topic("*")?, LastEventId::Cursor(before)),
                ("`*`", "id", options.clone().topic("*")?, id_before(stored)?),
            ];
            for (what, by, options, from) in ways {
                let options = options.last_event_id(from);
                let (mut p50, mut p99, mut cpu) = (vec![], vec![], vec![]);
                for _ in 0..self.rounds {
                    let (mut latencies, used) = (Vec::with_capacity(self.feeds), hub.cpu_seconds()?);
                    for _ in 0..self.feeds {
                        let began = Instant::now();
                        first_event(&options, Cursor { seq: fanwire_protocol::Seq(before.seq.0 + 1), ..before })
                            .await?;
                        latencies.push(began.elapsed());
                    }
                    latencies.sort_unstable();
                    p50.push(ms(quantile(&latencies, 0.5)));
                    p99.push(ms(quantile(&latencies, 0.99)));
                    cpu.push((hub.cpu_seconds()? - used) / self.feeds as f64 * 1e6);
                }
                println!("| {stored} | {what} | {by} | {} | {} | {} |", median(p50), median(p99), median(cpu));
            }
        }
        let bytes = std::fs::metadata(directory.path().join("log.redb"))?.len();
        println!("\nthe log takes {:.1} bytes an event", bytes as f64 / stored as f64);
        hub.stop().await?;
        Ok(())
    }
}

fn topic(number: u64) -> String {
    format!("topic/{}", number % TOPICS)
}

fn event(number: u64) -> Publication {
    Publication { id: Some(format!("id-{number}")), ..Publication::text(topic(number), number.to_string()) }
}

fn id_before(stored: u64) -> Result<LastEventId> {
    LastEventId::parse(&format!("id-{}", stored - 2))?.context("not empty")
}

/// Opens a feed, and waits for its first event, which is to be this one.
async fn first_event(options: &Options, wanted: Cursor) -> Result<()> {
    let mut feed = Connection::connect(Transport::SseH1, options).await?;
    loop {
        match feed.next().await? {
            Item::Event(event) if event.event.cursor == wanted => return Ok(()),
            Item::Event(event) => bail!("the first event is {}, not {wanted}", event.event.cursor),
            Item::Gap(gap) => bail!("{gap:?}, though everything is kept"),
            _ => {}
        }
    }
}
