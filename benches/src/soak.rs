//! The soak: does the hub stay as it is when nothing changes?

mod reader;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use fanwire_client::Transport;

use crate::hub::Hub;
use reader::{Counts, read};

#[derive(Debug, Args)]
pub(crate) struct Soak {
    /// How long, in minutes; memory is judged over the second half
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,

    /// Subscribers on each transport, of every topic of the live input
    #[arg(long, default_value_t = 50)]
    subscribers: usize,

    /// The hub's binary [default: the fanwire beside this one]
    #[arg(long)]
    hub: Option<PathBuf>,
}

impl Soak {
    pub(crate) async fn run(self) -> Result<()> {
        let mut hub = Hub::start(self.hub.as_deref(), &[]).await?;
        let tasks: Vec<_> = Transport::ALL
            .into_iter()
            .flat_map(|transport| (0..self.subscribers).map(move |_| transport))
            .map(|transport| {
                let counts = Counts::default();
                (transport, counts.clone(), tokio::spawn(read(hub.url().to_owned(), transport, counts)))
            })
            .collect();
        let (began, length) = (Instant::now(), Duration::from_secs_f64(self.minutes * 60.0));
        let mut samples = Vec::new();
        while began.elapsed() < length {
            tokio::time::sleep(SAMPLE_INTERVAL.min(length - began.elapsed())).await;
            let resident_kib = hub.resident_kib()?;
            samples.push(resident_kib);
            let delivered: u64 = tasks.iter().map(|(_, counts, _)| counts.events()).sum();
            let elapsed = began.elapsed().as_secs();
            eprint!(
                "\r{elapsed:>5} s of {:.0}: {resident_kib} KiB resident, {delivered} delivered ",
                length.as_secs_f64()
            );
        }
        eprintln!();
        println!("| transport | subscribers | deliveries | gaps | reconnects | mean latency ms | worst latency ms |");
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        let mut failed = 0;
        for transport in Transport::ALL {
            let counts: Vec<_> =
                tasks.iter().filter(|(of, ..)| *of == transport).map(|(_, counts, _)| counts).collect();
            let sum = |part: fn(&Counts) -> u64| counts.iter().map(|counts| part(counts)).sum::<u64>();
            let (events, gaps, reconnects) = (sum(Counts::events), sum(Counts::gaps), sum(Counts::reconnects));
            let mean = sum(Counts::latency_ms) as f64 / events.max(1) as f64;
            let worst = counts.iter().map(|counts| counts.latency_ms_max()).max().unwrap_or(0);
            println!("| {transport} | {} | {events} | {gaps} | {reconnects} | {mean:.2} | {worst} |", counts.len());
            failed += gaps + reconnects;
        }
        for (.., task) in tasks {
            task.abort();
        }
        let (half, end) = (samples[samples.len() / 2], samples[samples.len() - 1]);
        let rise = (end as f64 / half as f64 - 1.0) * 100.0;
        println!("\nresident: {half} KiB at half time, {end} KiB at the end: {rise:+.2} %");
        println!("CPU: {:.1} % of one core", hub.cpu_seconds()? / began.elapsed().as_secs_f64() * 100.0);
        let complaints = hub.stop().await?;
        println!("log lines at WARN or above: {}", complaints.len());
        complaints.iter().for_each(|line| println!("  {line}"));
        ensure!(failed == 0, "gaps or reconnects on a quiet machine");
        ensure!(complaints.is_empty(), "the hub complained");
        ensure!(rise < 1.0, "the hub's memory rose by {rise:.2} % over the second half");
        Ok(())
    }
}

const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
