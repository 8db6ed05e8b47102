//! All the subscribers, on as many threads as the job says.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, Ipv6Addr},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::{sync::oneshot, task::LocalSet};
use url::Url;

use super::{
    Job, Outcome, Progress, SLICE_MS,
    publisher::topic,
    subscriber::{Buffer, Subscriber, buffer},
};
use crate::{
    latency::{Counted, Times},
    ledger::Ledger,
    stamp::{Scanner, now_ns},
};

/// Subscribers that are connected and read.
pub(super) struct Crowd {
    threads: Vec<(oneshot::Sender<()>, JoinHandle<Result<Outcome>>)>,
    connected: Times,
}

impl Crowd {
    /// Connects them all; one that can't fails the lot.
    pub(super) fn gather(job: &Job, progress: &Arc<Progress>) -> Result<Self> {
        let (report, reports) = mpsc::channel();
        let mut threads = Vec::new();
        for thread in 0..job.threads {
            let (stop, stopped) = oneshot::channel();
            let (job, progress, report) = (job.clone(), progress.clone(), report.clone());
            let work = move || live(&job, thread, progress, &report, stopped);
            threads.push((stop, std::thread::Builder::new().name(format!("subscribers {thread}")).spawn(work)?));
        }
        drop(report);
        let mut connected = Vec::new();
        for _ in 0..job.threads {
            connected.push(reports.recv().context("a thread of subscribers has ended")??);
        }
        Ok(Self { threads, connected: Times::merge(&connected) })
    }

    /// How long each took to connect.
    pub(super) fn connected(&self) -> Times {
        self.connected.clone()
    }

    /// Ends their reading, and tells what they have had. [`Outcome::seconds`] is then the time of the last delivery.
    pub(super) fn disperse(self) -> Result<Outcome> {
        let mut outcomes = Vec::new();
        for (stop, thread) in self.threads {
            let _ = stop.send(());
            outcomes.push(thread.join().map_err(|_| anyhow::anyhow!("a thread of subscribers panicked"))??);
        }
        let slices = outcomes.iter().map(|outcome| outcome.timeline.len()).max().unwrap_or(0);
        let sum = |part: fn(&Outcome) -> u64| outcomes.iter().map(part).sum();
        Ok(Outcome {
            received: sum(|outcome| outcome.received),
            duplicates: sum(|outcome| outcome.duplicates),
            strays: sum(|outcome| outcome.strays),
            measured: sum(|outcome| outcome.measured),
            feed_bytes: sum(|outcome| outcome.feed_bytes),
            seconds: outcomes.iter().map(|outcome| outcome.seconds).fold(0.0, f64::max),
            latency: Times::merge(outcomes.iter().map(|outcome| &outcome.latency)),
            timeline: (0..slices)
                .map(|slice| Times::merge(outcomes.iter().filter_map(|outcome| outcome.timeline.get(slice))))
                .collect(),
            ..Outcome::default()
        })
    }
}

/// What the subscribers of one thread write down together.
#[derive(Default)]
struct Notes {
    strays: u64,
    measured: u64,
    feed_bytes: u64,
    last_ns: u64,
    latency: Counted,
    /// The first measured event's intended time, and the slices after it.
    began_ns: Option<u64>,
    timeline: Vec<Counted>,
}

fn live(
    job: &Job,
    thread: usize,
    progress: Arc<Progress>,
    report: &mpsc::Sender<Result<Times>>,
    stopped: oneshot::Receiver<()>,
) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let notes = Rc::new(RefCell::new(Notes::default()));
    let outcome = tasks.block_on(&runtime, async {
        let ledgers = match connect(job, thread, &progress, &notes).await {
            Ok((ledgers, times)) => {
                let _ = report.send(Ok(times));
                ledgers
            }
            Err(error) => {
                let _ = report.send(Err(error));
                return Outcome::default();
            }
        };
        let _ = stopped.await;
        let notes = notes.borrow();
        Outcome {
            received: ledgers.iter().map(|ledger| ledger.borrow().received()).sum(),
            duplicates: ledgers.iter().map(|ledger| ledger.borrow().duplicates()).sum(),
            strays: notes.strays,
            measured: notes.measured,
            feed_bytes: notes.feed_bytes,
            seconds: notes.last_ns as f64 / 1e9,
            latency: notes.latency.times(),
            timeline: notes.timeline.iter().map(Counted::times).collect(),
            ..Outcome::default()
        }
    });
    // The sockets stay open: what closing them costs the server isn't part of the run. They end with the process.
    std::mem::forget((tasks, runtime));
    Ok(outcome)
}

type Ledgers = Vec<Rc<RefCell<Ledger>>>;

async fn connect(
    job: &Job,
    thread: usize,
    progress: &Arc<Progress>,
    notes: &Rc<RefCell<Notes>>,
) -> Result<(Ledgers, Times)> {
    let buffer = buffer();
    let mut endpoints = Vec::new();
    let mut mine = Vec::new();
    for (nth, subscriber) in (thread..job.subscribers).step_by(job.threads).enumerate() {
        if job.way.is_quic() && nth % SESSIONS_PER_SOCKET == 0 {
            endpoints.push(endpoint()?);
        }
        mine.push((subscriber, endpoints.last().cloned()));
    }
    let mut times = Counted::default();
    let mut ledgers = Vec::with_capacity(mine.len());
    let mut opening = futures_util::stream::iter(mine.into_iter().map(|(subscriber, endpoint)| async move {
        let url = feed_url(job, subscriber)?;
        let began = now_ns();
        let feed = Subscriber::open(job.way, &url, endpoint).await;
        let feed = feed.with_context(|| format!("subscriber {subscriber} can't connect over {}", job.way))?;
        anyhow::Ok((subscriber, feed, now_ns() - began))
    }))
    .buffer_unordered(job.at_once.div_ceil(job.threads).max(1));
    while let Some((subscriber, feed, took_ns)) = opening.try_next().await? {
        times.add(took_ns);
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        ledgers.push(ledger.clone());
        let counter = Counter {
            topics: job.topics,
            subscriber,
            warm_up: job.publish.warm_up,
            ledger,
            notes: notes.clone(),
            progress: progress.clone(),
        };
        tokio::task::spawn_local(follow(feed, counter, buffer.clone()));
    }
    Ok((ledgers, times.times()))
}

/// Who counts what one subscriber gets.
struct Counter {
    topics: super::Topics,
    subscriber: usize,
    warm_up: u32,
    ledger: Rc<RefCell<Ledger>>,
    notes: Rc<RefCell<Notes>>,
    progress: Arc<Progress>,
}

async fn follow(mut feed: Subscriber, counter: Counter, mut buffer: Buffer) {
    let mut scanner = Scanner::default();
    loop {
        match feed.read(&mut buffer, |bytes| counter.count(&mut scanner, bytes)).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                eprintln!("subscriber {}: {error:#}", counter.subscriber);
                break;
            }
        }
    }
    counter.progress.ended.fetch_add(1, Relaxed);
}

impl Counter {
    fn count(&self, scanner: &mut Scanner, bytes: &[u8]) {
        let now_ns = now_ns();
        let (mut notes, mut ledger) = (self.notes.borrow_mut(), self.ledger.borrow_mut());
        let before = ledger.received();
        notes.feed_bytes += bytes.len() as u64;
        scanner.feed(bytes, |stamp| {
            let super::Topics { count, per_subscriber } = self.topics;
            let number = stamp.number as usize;
            let slot = (number % count + count - self.subscriber % count) % count;
            if slot >= per_subscriber {
                notes.strays += 1;
                return;
            }
            ledger.note((number / count * per_subscriber + slot) as u32);
            if stamp.number >= self.warm_up {
                notes.measured += 1;
                notes.last_ns = now_ns;
                let latency_ns = now_ns.saturating_sub(stamp.intended_ns);
                notes.latency.add(latency_ns);
                let began_ns = *notes.began_ns.get_or_insert(stamp.intended_ns);
                let slice = (stamp.intended_ns.saturating_sub(began_ns) / (SLICE_MS * 1_000_000)) as usize;
                if slice < SLICES_MAX {
                    while notes.timeline.len() <= slice {
                        notes.timeline.push(Counted::default());
                    }
                    notes.timeline[slice].add(latency_ns);
                }
            }
        });
        self.progress.received.fetch_add(ledger.received() - before, Relaxed);
    }
}

fn feed_url(job: &Job, subscriber: usize) -> Result<Url> {
    let mut url = job.feed.clone();
    for slot in 0..job.topics.per_subscriber {
        let separator = if url.contains('?') { '&' } else { '?' };
        let said = job.topic_query.replace("{}", &topic((subscriber + slot) % job.topics.count));
        if !said.is_empty() {
            url.push(separator);
            url.push_str(&said);
        }
    }
    let mut url = Url::parse(&url).context("the url of the feed")?;
    if !job.way.query().is_empty() {
        url.query_pairs_mut().extend_pairs(job.way.query());
    }
    Ok(url)
}

/// One socket for both families; where the system has no IPv6, for the one it has.
fn endpoint() -> Result<quinn::Endpoint> {
    quinn::Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into())
        .or_else(|_| quinn::Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()))
        .context("no udp socket")
}

/// More of them share a receive buffer than it has room for in a burst, and the generator loses what the server sent.
const SESSIONS_PER_SOCKET: usize = 10;
/// Ten minutes.
const SLICES_MAX: usize = 3_000;
