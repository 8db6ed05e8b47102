//! Publishing: how many events a second the hub acknowledges, and after how long.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use fanwire_bench::spread::{median, ms, quantile};
use fanwire_client::{HttpVersion, Options, Publication, Publisher};

use crate::hub::Hub;

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,

    /// How many rounds; each measures everything once, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Bytes of data of an event
    #[arg(long, default_value_t = 128)]
    bytes: usize,

    /// Where logs on disk are made, and removed [default: the system's directory for temporary files]
    #[arg(long)]
    directory: Option<PathBuf>,

    /// The hub's binary [default: the fanwire beside this one]
    #[arg(long)]
    hub: Option<PathBuf>,
}

/// Who publishes: so many at a time, so many events a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) publishers: usize,
    pub(crate) batch: usize,
}

/// What came of it.
#[derive(Debug, Default)]
struct Measured {
    per_second: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    cpu_us: Vec<f64>,
}

const LOADS: [Load; 4] = [
    Load { publishers: 1, batch: 1 },
    Load { publishers: 16, batch: 1 },
    Load { publishers: 256, batch: 1 },
    Load { publishers: 4, batch: 500 },
];
const LOGS: [(&str, &[&str]); 3] =
    [("memory", &[]), ("disk, `always`", &["--fsync", "always"]), ("disk, `100ms`", &["--fsync", "100ms"])];

impl Publish {
    pub(crate) async fn run(self) -> Result<()> {
        let mut all: Vec<Measured> = (0..LOADS.len() * LOGS.len()).map(|_| Measured::default()).collect();
        for round in 0..self.rounds {
            for (row, (load, (log, arguments))) in
                LOADS.iter().flat_map(|load| LOGS.iter().map(move |log| (*load, *log))).enumerate()
            {
                eprint!("\rround {} of {}: {log}, {} publishers   ", round + 1, self.rounds, load.publishers);
                self.measure(load, arguments, &mut all[row]).await?;
            }
        }
        eprintln!();
        println!("| publishers | events a request | log | events/s | p50 ms | p99 ms | hub CPU µs/event |");
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        let rows = LOADS.iter().flat_map(|load| LOGS.iter().map(move |(log, _)| (load, log)));
        for ((load, log), measured) in rows.zip(all) {
            let Measured { per_second, p50_ms, p99_ms, cpu_us } = measured;
            println!(
                "| {} | {} | {log} | {} | {} | {} | {} |",
                load.publishers,
                load.batch,
                median(per_second),
                median(p50_ms),
                median(p99_ms),
                median(cpu_us)
            );
        }
        Ok(())
    }

    async fn measure(&self, load: Load, arguments: &[&str], measured: &mut Measured) -> Result<()> {
        let directory = match &self.directory {
            Some(directory) => tempfile::tempdir_in(directory)?,
            None => tempfile::tempdir()?,
        };
        let path = directory.path().to_str().context("the directory has a name that isn't text")?;
        let mut all = vec!["--no-demo", "--shards", "1"];
        if !arguments.is_empty() {
            all.extend(["--data-dir", path]);
            all.extend(arguments);
        }
        let mut hub = Hub::start(self.hub.as_deref(), &all).await?;
        let publication = Publication::text("bench", "x".repeat(self.bytes));
        let (began, length) = (Instant::now(), Duration::from_secs_f64(self.seconds));
        let cpu = hub.cpu_seconds()?;
        let tasks: Vec<_> = (0..load.publishers)
            .map(|_| {
                let publisher = Publisher::new(Options::new(hub.url())?, HttpVersion::H1);
                Ok(tokio::task::spawn_local(publish(publisher, vec![publication.clone(); load.batch], began + length)))
            })
            .collect::<Result<_>>()?;
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(task.await??);
        }
        let (elapsed, cpu) = (began.elapsed().as_secs_f64(), hub.cpu_seconds()? - cpu);
        hub.stop().await?;
        latencies.sort_unstable();
        let events = (latencies.len() * load.batch) as f64;
        measured.per_second.push(events / elapsed);
        measured.p50_ms.push(ms(quantile(&latencies, 0.5)));
        measured.p99_ms.push(ms(quantile(&latencies, 0.99)));
        measured.cpu_us.push(cpu / events * 1e6);
        Ok(())
    }
}

/// Publishes to a server that runs: how many events of 128 bytes a second it acknowledges.
pub(crate) fn rate(url: &str, load: Load, seconds: f64) -> Result<f64> {
    crate::on_a_runtime(async {
        let publication = Publication::text("bench", "x".repeat(128));
        let (began, length) = (Instant::now(), Duration::from_secs_f64(seconds));
        let tasks: Vec<_> = (0..load.publishers)
            .map(|_| {
                let publisher = Publisher::new(Options::new(url)?, HttpVersion::H1);
                Ok(tokio::task::spawn_local(publish(publisher, vec![publication.clone(); load.batch], began + length)))
            })
            .collect::<Result<_>>()?;
        let mut requests = 0;
        for task in tasks {
            requests += task.await??.len();
        }
        Ok((requests * load.batch) as f64 / began.elapsed().as_secs_f64())
    })
}

/// Publishes one request after the other, and tells how long each took.
async fn publish(mut publisher: Publisher, events: Vec<Publication>, until: Instant) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        match &*events {
            [one] => drop(publisher.publish(one).await?),
            many => {
                for result in publisher.publish_batch(many).await? {
                    result.map_err(|refusal| anyhow::anyhow!("refused: {}", refusal.message))?;
                }
            }
        }
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}
