//! All the subscribers, on as many threads as the job says.

use std::{
    cell::{Cell, RefCell},
    net::{Ipv4Addr, Ipv6Addr},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::{
    sync::{oneshot, watch},
    task::LocalSet,
};
use url::Url;

use super::{
    Job, Kind, Outcome, Progress, SLICE_MS,
    publisher::topic,
    subscriber::{Buffer, Subscriber, buffer},
};
use crate::{
    latency::{Counted, Times},
    ledger::Ledger,
    link,
    stamp::{Scanner, now_ns},
    way::Way,
};

/// Subscribers that are connected and read.
pub(super) struct Crowd {
    threads: Vec<(oneshot::Sender<()>, JoinHandle<Result<Outcome>>)>,
    connected: Times,
}

impl Crowd {
    /// Connects them all; one that can't fails the lot. What is sent is when they are cut off.
    pub(super) fn gather(job: &Job, progress: &Arc<Progress>) -> Result<(watch::Sender<Option<u64>>, Self)> {
        let (cut, cut_off) = watch::channel(None);
        let (report, reports) = mpsc::channel();
        let mut threads = Vec::new();
        for (thread, mine) in job.by_thread().into_iter().enumerate() {
            let (stop, stopped) = oneshot::channel();
            let (job, progress, report, cut_off) = (job.clone(), progress.clone(), report.clone(), cut_off.clone());
            let work = move || live(&Rc::new(job), mine, progress, &report, cut_off, stopped);
            threads.push((stop, std::thread::Builder::new().name(format!("subscribers {thread}")).spawn(work)?));
        }
        drop(report);
        let mut connected = Vec::new();
        for _ in &threads {
            connected.push(reports.recv().context("a thread of subscribers has ended")??);
        }
        Ok((cut, Self { threads, connected: Times::merge(&connected) }))
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
            recovery: Times::merge(outcomes.iter().map(|outcome| &outcome.recovery)),
            values: Times::merge(outcomes.iter().map(|outcome| &outcome.values)),
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
    recovery: Counted,
    values: Counted,
    /// The first measured event's intended time, and the slices after it.
    began_ns: Option<u64>,
    timeline: Vec<Counted>,
}

fn live(
    job: &Rc<Job>,
    mine: Vec<usize>,
    progress: Arc<Progress>,
    report: &mpsc::Sender<Result<Times>>,
    cut_off: watch::Receiver<Option<u64>>,
    stopped: oneshot::Receiver<()>,
) -> Result<Outcome> {
    if let Some(network) = &job.network
        && let Err(error) = link::enter(network)
    {
        let _ = report.send(Err(error));
        return Ok(Outcome::default());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    let notes = Rc::new(RefCell::new(Notes::default()));
    let outcome = tasks.block_on(&runtime, async {
        let ledgers = match connect(job, mine, &progress, &notes, &cut_off).await {
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
            recovery: notes.recovery.times(),
            values: notes.values.times(),
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
    job: &Rc<Job>,
    mine: Vec<usize>,
    progress: &Arc<Progress>,
    notes: &Rc<RefCell<Notes>>,
    cut_off: &watch::Receiver<Option<u64>>,
) -> Result<(Ledgers, Times)> {
    let buffer = buffer();
    let endpoints = endpoints(job.way, mine.len())?;
    let mut times = Counted::default();
    let mut ledgers = Vec::with_capacity(mine.len());
    let mut opening = futures_util::stream::iter(mine.into_iter().enumerate().map(|(nth, subscriber)| {
        let endpoint = endpoints.get(nth).cloned();
        async move {
            let extra = if job.publish.before > 0 { Extra::Latest } else { Extra::Nothing };
            let url = feed_url(job, subscriber, extra)?;
            let began = now_ns();
            let feed = Subscriber::open(job, &url, endpoint.clone()).await;
            let feed = feed.with_context(|| format!("subscriber {subscriber} can't connect over {}", job.way))?;
            anyhow::Ok((subscriber, feed, endpoint, began, now_ns()))
        }
    }))
    .buffer_unordered(job.at_once.div_ceil(job.threads).max(1));
    while let Some((subscriber, feed, endpoint, began_ns, accepted_ns)) = opening.try_next().await? {
        times.add(accepted_ns - began_ns);
        let ledger = Rc::new(RefCell::new(Ledger::default()));
        ledgers.push(ledger.clone());
        let storms = matches!(job.kind, Kind::Storm { bystanders, .. } if subscriber >= bystanders);
        let counter = Counter {
            job: job.clone(),
            subscriber,
            began_ns,
            timed: !storms,
            newest: Cell::new(None),
            ledger,
            notes: notes.clone(),
            progress: progress.clone(),
        };
        if storms {
            tokio::task::spawn_local(come_back(feed, endpoint, counter, buffer.clone(), cut_off.clone()));
        } else {
            tokio::task::spawn_local(follow(feed, counter, buffer.clone()));
        }
    }
    Ok((ledgers, times.times()))
}

/// Who counts what one subscriber gets.
struct Counter {
    job: Rc<Job>,
    subscriber: usize,
    /// When it began to connect.
    began_ns: u64,
    /// Its latencies count.
    timed: bool,
    /// The highest number that came.
    newest: Cell<Option<u32>>,
    ledger: Rc<RefCell<Ledger>>,
    notes: Rc<RefCell<Notes>>,
    progress: Arc<Progress>,
}

async fn follow(mut feed: Subscriber, counter: Counter, mut buffer: Buffer) {
    counter.read_all(&mut feed, &mut buffer).await;
    counter.progress.ended.fetch_add(1, Relaxed);
}

/// Follows until it is cut off, and comes back after the last event that it had.
async fn come_back(
    mut feed: Subscriber,
    endpoint: Option<quinn::Endpoint>,
    counter: Counter,
    mut buffer: Buffer,
    mut cut_off: watch::Receiver<Option<u64>>,
) {
    let job = counter.job.clone();
    let cut_ns = tokio::select! {
        () = counter.read_all(&mut feed, &mut buffer) => None,
        cut = cut_off.wait_for(Option::is_some) => cut.ok().and_then(|cut| *cut),
    };
    drop(feed);
    let Some(cut_ns) = cut_ns else {
        counter.progress.ended.fetch_add(1, Relaxed);
        return;
    };
    for attempt in 1.. {
        let extra = counter.newest.get().map_or(Extra::Nothing, Extra::After);
        let opened = match feed_url(&job, counter.subscriber, extra) {
            Ok(url) => Subscriber::open(&job, &url, endpoint.clone()).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(mut feed) => {
                let mut scanner = Scanner::default();
                let mut back = false;
                while !back {
                    match feed.read(&mut buffer, |bytes| back = counter.count(&mut scanner, bytes) > 0).await {
                        Ok(true) => {}
                        _ => break,
                    }
                }
                if back {
                    counter.notes.borrow_mut().recovery.add(now_ns() - cut_ns);
                    counter.read_on(&mut feed, &mut scanner, &mut buffer).await;
                }
                break;
            }
            Err(error) if attempt == ATTEMPTS_MAX => {
                eprintln!("subscriber {} doesn't come back: {error:#}", counter.subscriber);
                break;
            }
            // As a client would: later, and not all at the same moment.
            Err(_) => tokio::time::sleep(RETRY + RETRY.mul_f64(counter.subscriber as f64 % 97.0 / 97.0)).await,
        }
    }
    counter.progress.ended.fetch_add(1, Relaxed);
}

impl Counter {
    async fn read_all(&self, feed: &mut Subscriber, buffer: &mut Buffer) {
        self.read_on(feed, &mut Scanner::default(), buffer).await;
    }

    /// Until the feed ends.
    async fn read_on(&self, feed: &mut Subscriber, scanner: &mut Scanner, buffer: &mut Buffer) {
        loop {
            let count = |bytes: &[u8]| {
                self.count(scanner, bytes);
            };
            match feed.read(buffer, count).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return eprintln!("subscriber {}: {error:#}", self.subscriber),
            }
        }
    }

    /// How many events came for the first time.
    fn count(&self, scanner: &mut Scanner, bytes: &[u8]) -> u64 {
        let now_ns = now_ns();
        let (mut notes, mut ledger) = (self.notes.borrow_mut(), self.ledger.borrow_mut());
        let before = ledger.received();
        notes.feed_bytes += bytes.len() as u64;
        let count = self.job.topics.count;
        let (first, own) = self.job.topics_of(self.subscriber);
        scanner.feed(bytes, |stamp| {
            let number = stamp.number as usize;
            let slot = (number % count + count - first) % count;
            if slot >= own {
                notes.strays += 1;
                return;
            }
            ledger.note((number / count * own + slot) as u32);
            self.newest.set(self.newest.get().max(Some(stamp.number)));
            if stamp.number >= self.job.publish.warm_up {
                notes.measured += 1;
                notes.last_ns = now_ns;
                if self.timed {
                    notes.time(stamp.intended_ns, now_ns.saturating_sub(stamp.intended_ns));
                }
            }
        });
        let values = if self.job.publish.before > 0 { own as u64 } else { 0 };
        if before < values && values <= ledger.received() {
            notes.values.add(now_ns - self.began_ns);
        }
        let new = ledger.received() - before;
        self.progress.received.fetch_add(new, Relaxed);
        new
    }
}

impl Notes {
    fn time(&mut self, intended_ns: u64, latency_ns: u64) {
        self.latency.add(latency_ns);
        let began_ns = *self.began_ns.get_or_insert(intended_ns);
        let slice = (intended_ns.saturating_sub(began_ns) / (SLICE_MS * 1_000_000)) as usize;
        if slice < SLICES_MAX {
            while self.timeline.len() <= slice {
                self.timeline.push(Counted::default());
            }
            self.timeline[slice].add(latency_ns);
        }
    }
}

/// What a feed is asked for besides its topics.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extra {
    Nothing,
    /// All that is kept.
    Earliest,
    /// What came after an event.
    After(u32),
    /// The newest event of each topic.
    Latest,
}

pub(super) fn feed_url(job: &Job, subscriber: usize, extra: Extra) -> Result<Url> {
    let style = job.publish.style;
    let (first, own) = job.topics_of(subscriber);
    let topics = (0..own).map(|slot| topic((first + slot) % job.topics.count));
    let mut said: Vec<String> = topics.filter_map(|topic| style.topic_query(&topic)).collect();
    said.extend(match extra {
        Extra::Nothing => None,
        Extra::Earliest => style.earliest_query(),
        Extra::After(number) => style.resume_query(number),
        Extra::Latest => style.latest_query(),
    });
    if style == super::Style::Fanwire {
        said.extend(job.way.query().iter().map(|(name, value)| format!("{name}={value}")));
    }
    let mut url = job.feed.clone();
    if !said.is_empty() {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(&said.join("&"));
    }
    Url::parse(&url).context("the url of the feed")
}

/// For each subscriber of a way over QUIC the socket that it shares with some others.
pub(super) fn endpoints(way: Way, subscribers: usize) -> Result<Vec<quinn::Endpoint>> {
    let mut all: Vec<quinn::Endpoint> = Vec::new();
    for nth in 0..if way.is_quic() { subscribers } else { 0 } {
        all.push(if nth % SESSIONS_PER_SOCKET == 0 { endpoint()? } else { all[nth - 1].clone() });
    }
    Ok(all)
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
/// How often who was cut off tries to come back, and how long it waits in between, at least.
const ATTEMPTS_MAX: u32 = 20;
const RETRY: Duration = Duration::from_millis(500);
