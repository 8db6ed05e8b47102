//! One subscriber.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use fanwire_client::{Choice, Feed, Item, Options, Transport, Update};

/// What a subscriber has seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    events: AtomicU64,
    gaps: AtomicU64,
    disconnects: AtomicU64,
    latency_ms: AtomicU64,
    latency_ms_max: AtomicU64,
}

impl Counts {
    pub(super) fn events(&self) -> u64 {
        self.0.events.load(Relaxed)
    }

    pub(super) fn gaps(&self) -> u64 {
        self.0.gaps.load(Relaxed)
    }

    pub(super) fn reconnects(&self) -> u64 {
        self.0.disconnects.load(Relaxed)
    }

    pub(super) fn latency_ms(&self) -> u64 {
        self.0.latency_ms.load(Relaxed)
    }

    pub(super) fn latency_ms_max(&self) -> u64 {
        self.0.latency_ms_max.load(Relaxed)
    }
}

/// Reads the live input until it is aborted. The client checks that nothing is out of order, and on WebTransport that nothing is missing.
pub(super) async fn read(url: String, transport: Transport, counts: Counts) -> Result<()> {
    let mut options = Options::new(&url)?;
    for topic in TOPICS {
        options = options.topic(topic)?;
    }
    let choice: Choice = transport.name().parse()?;
    let mut feed = Feed::new(choice, options);
    loop {
        match feed.next().await? {
            Update::Item(Item::Event(event)) => {
                let latency = now_ms().saturating_sub(event.event.at_ms);
                counts.0.events.fetch_add(1, Relaxed);
                counts.0.latency_ms.fetch_add(latency, Relaxed);
                counts.0.latency_ms_max.fetch_max(latency, Relaxed);
            }
            Update::Item(Item::Gap(_)) => drop(counts.0.gaps.fetch_add(1, Relaxed)),
            Update::Disconnected { .. } => drop(counts.0.disconnects.fetch_add(1, Relaxed)),
            _ => {}
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

const TOPICS: [&str; 5] = ["host/cpu", "host/memory", "host/load", "host/network", "host/process"];
