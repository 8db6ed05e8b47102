//! The load: subscribers and a publisher, in a process of their own.
//!
//! The coordinator ([`crate::contest`]) starts it from its own binary, gives it a [`Job`] as a line of JSON on its standard input, and
//! hears [`Report`]s on its standard output, a line each.

mod connects;
mod publisher;
mod storm;
mod subscriber;
mod subscribers;

use std::{
    fmt,
    io::{BufRead as _, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use fanwire_client::{Options, Trust};
use serde::{Deserialize, Serialize};

use crate::{latency::Times, way::Way};
use subscribers::Crowd;

pub use subscriber::{ACK, HELLO};

/// What the load is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// How the subscribers connect.
    pub way: Way,
    /// What happens.
    pub kind: Kind,
    /// The URL of the feed, without topics.
    pub feed: String,
    /// Who is let in, and to whom.
    pub access: Access,
    /// How many subscribers there are.
    pub subscribers: usize,
    /// How many of them connect at a time.
    pub at_once: usize,
    /// How many threads read.
    pub threads: usize,
    /// How topics and subscribers go together.
    pub topics: Topics,
    /// The network that the subscribers are in; none: the publisher's, which is the server's.
    pub network: Option<PathBuf>,
    /// What is published.
    pub publish: Publish,
}

/// What a server is shown, and what it has to show.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Access {
    /// The access token.
    pub token: Option<String>,
    /// Whether any certificate is taken.
    pub insecure: bool,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("insecure", &self.insecure).finish_non_exhaustive()
    }
}

impl Access {
    /// What the client is to be told of it.
    pub fn options(&self, url: &str) -> Result<Options> {
        let mut options = Options::new(url)?.trust(if self.insecure { Trust::Insecure } else { Trust::System });
        options.token = self.token.as_deref().map(str::parse).transpose()?;
        Ok(options)
    }
}

/// What happens to the subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Kind {
    /// They connect, and get what is published.
    Feed,
    /// One event is published; then all of them connect at once, get it and leave, so many times.
    Connect(u32),
    /// They connect, and some time into the measurement all but so many lose their connections at the same moment, and come back.
    Storm {
        /// Those that stay: the first ones. Latency is theirs.
        bystanders: usize,
        /// When the others are cut off.
        after_ms: u64,
    },
}

/// Which subscriber has which topics.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Topics {
    /// How many topics there are. Events go to them in turns.
    pub count: usize,
    /// How many of them a subscriber has: subscriber `n` those from `n × per_subscriber` on, round and round. In a storm those who stay have
    /// all, and the others the first.
    pub per_subscriber: usize,
}

/// What is published, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Publish {
    /// Where.
    pub url: String,
    /// In what words.
    pub style: Style,
    /// Bytes of data of an event.
    pub bytes: usize,
    /// Events a request.
    pub batch: usize,
    /// How fast.
    pub pace: Pace,
    /// Events before anybody comes: subscribers begin with the newest of each of their topics.
    pub before: u32,
    /// Events that come first, those included, and count for nothing but completeness.
    pub warm_up: u32,
    /// If it isn't 0: so many of those a request, as fast as they go.
    pub warm_up_batch: usize,
    /// Events after that.
    pub events: u32,
}

/// How fast events are published.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// So many a second, each at its time, however late the one before was.
    PerSecond(f64),
    /// As fast as the server answers, with so many events at most that not every subscriber has.
    FlatOut(u32),
}

/// What a server wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// Fanwire's forms, and NDJSON for batches.
    Fanwire,
    /// The data as the body; of a batch, an event a line. There is one topic, and its newest event comes first.
    Raw,
}

impl Style {
    fn topic_query(self, topic: &str) -> Option<String> {
        (self == Self::Fanwire).then(|| format!("topic={topic}"))
    }

    fn earliest_query(self) -> Option<String> {
        (self == Self::Fanwire).then(|| "last_event_id=earliest".to_owned())
    }

    fn latest_query(self) -> Option<String> {
        (self == Self::Fanwire).then(|| "replay=latest".to_owned())
    }

    fn resume_query(self, number: u32) -> Option<String> {
        (self == Self::Fanwire).then(|| format!("last_event_id={}", id(number)))
    }
}

/// The id under which an event is published where its subscribers come back after it.
fn id(number: u32) -> String {
    format!("bench-{number}")
}

/// What the load tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// Every subscriber is there. How long each took, until the server had accepted its feed.
    Connected(Times),
    /// The warm-up is over.
    Measuring,
    /// How far it is: deliveries so far, and all there will be.
    Progress(u64, u64),
    /// Everything has come, or nothing more comes.
    Done(Box<Outcome>),
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Deliveries that were due, warm-up and all.
    pub expected: u64,
    /// Deliveries that came.
    pub received: u64,
    /// Events that came to a subscriber again.
    pub duplicates: u64,
    /// Events that came to a subscriber that hadn't asked for them.
    pub strays: u64,
    /// Feeds that ended by themselves.
    pub ended: u64,
    /// Deliveries after the warm-up: what CPU and throughput are counted by.
    pub measured: u64,
    /// From the first measured event's intended time to the last delivery.
    pub seconds: f64,
    /// Bytes of feeds, as the transport hands them out.
    pub feed_bytes: u64,
    /// From the intended time of an event to its receipt.
    pub latency: Times,
    /// The same by when an event was meant to be sent: a slice is [`SLICE_MS`] long.
    pub timeline: Vec<Times>,
    /// How much later than intended events were sent.
    pub lateness: Times,
    /// Of [`Kind::Connect`]: from nothing to the server's acceptance.
    pub connect: Times,
    /// Of [`Kind::Connect`]: from nothing to the first event.
    pub first_event: Times,
    /// Of subscribers that begin with the newest of each of their topics: from nothing to the last of those.
    pub values: Times,
    /// Of [`Kind::Storm`]: from the cut to the first event after it.
    pub recovery: Times,
    /// Of [`Kind::Storm`]: the slice of the timeline that the cut is in.
    pub cut_slice: usize,
}

impl Outcome {
    /// Deliveries that never came.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }
}

/// How long a slice of a timeline is.
pub const SLICE_MS: u64 = 200;

/// What all threads of the load share.
#[derive(Debug, Default)]
struct Progress {
    received: AtomicU64,
    ended: AtomicU64,
    /// When the first measured event was meant to be sent; 0 before it is known.
    began_ns: AtomicU64,
}

impl Job {
    /// The subscribers of each thread. Those that stay in a storm have one to themselves: how late their events are is to say what the server
    /// does to them, and not what ten thousand others do to the load.
    fn by_thread(&self) -> Vec<Vec<usize>> {
        let bystanders =
            if let Kind::Storm { bystanders, .. } = self.kind { bystanders.min(self.subscribers) } else { 0 };
        let shares =
            (0..self.threads).map(|thread| (bystanders + thread..self.subscribers).step_by(self.threads).collect());
        let alone = (bystanders > 0).then(|| (0..bystanders).collect());
        alone.into_iter().chain(shares).collect()
    }

    /// Deliveries that are due when so many events were published.
    fn expected(&self, events: u32) -> u64 {
        let (events, count) = (events as usize, self.topics.count);
        let of_topic = |topic: usize| events / count + usize::from(topic < events % count);
        let places = 0..self.subscribers * self.topics.per_subscriber;
        if let Kind::Storm { bystanders, .. } = self.kind {
            let bystanders = bystanders.min(self.subscribers);
            return (bystanders * events + (self.subscribers - bystanders) * of_topic(0)) as u64;
        }
        if count == 1 {
            return (places.len() * events) as u64;
        }
        places.map(|place| of_topic(place % count)).sum::<usize>() as u64
    }

    /// The first topic of a subscriber, and how many it has.
    fn topics_of(&self, subscriber: usize) -> (usize, usize) {
        let Topics { count, per_subscriber } = self.topics;
        match self.kind {
            Kind::Storm { bystanders, .. } => (0, if subscriber < bystanders { count } else { 1 }),
            _ => (subscriber * per_subscriber % count, per_subscriber),
        }
    }
}

/// The whole life of the load's process.
pub fn run() -> Result<()> {
    // Every subscriber takes a descriptor.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut lines = std::io::stdin().lock().lines();
    let job: Job = serde_json::from_str(&lines.next().context("no job came")??).context("the job can't be read")?;
    let progress = Arc::new(Progress::default());
    if let Kind::Connect(times) = job.kind {
        report(&Report::Connected(Times::default()))?;
        if lines.next().transpose()?.as_deref() == Some(PUBLISH) {
            report(&Report::Done(Box::new(connects::run(&job, times, &progress)?)))?;
            let _ = lines.next();
        }
        return Ok(());
    }
    publisher::fill(&job)?;
    let (cut, crowd) = Crowd::gather(&job, &progress)?;
    report(&Report::Connected(crowd.connected()))?;
    match lines.next().transpose()?.as_deref() {
        Some(PUBLISH) => {}
        _ => return Ok(()),
    }
    let expected = job.expected(job.publish.warm_up + job.publish.events);
    let publisher = {
        let (job, progress) = (job.clone(), progress.clone());
        std::thread::Builder::new().name("publisher".to_owned()).spawn(move || publisher::run(&job, &progress))?
    };
    let mut storm = storm::Trigger::new(&job, cut);
    let quiet_max = if job.network.is_some() { QUIET_LOSSY } else { QUIET };
    let (mut last, mut quiet_since, mut ended) = (0, Instant::now(), false);
    loop {
        pause(POLL);
        storm.look(progress.began_ns.load(Relaxed));
        let received = progress.received.load(Relaxed);
        if received != last {
            (last, quiet_since) = (received, Instant::now());
            report(&Report::Progress(received, expected))?;
        }
        if publisher.is_finished() && !ended {
            // What was published last may be answered before it is delivered, and a long time after what was delivered last.
            (ended, quiet_since) = (true, Instant::now());
        }
        if ended && (received >= expected || quiet_since.elapsed() > quiet_max) {
            break;
        }
        if quiet_since.elapsed() > STUCK {
            bail!("nothing was delivered for {} s: {received} of {expected} deliveries came", STUCK.as_secs());
        }
    }
    let lateness = publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
    let mut outcome = crowd.disperse()?;
    outcome.expected = expected;
    outcome.ended = progress.ended.load(Relaxed);
    outcome.lateness = lateness;
    outcome.seconds = (outcome.seconds - progress.began_ns.load(Relaxed) as f64 / 1e9).max(0.0);
    outcome.cut_slice = storm.cut_slice();
    report(&Report::Done(Box::new(outcome)))?;
    // The feeds stay open until the coordinator has looked at the server.
    let _ = lines.next();
    Ok(())
}

fn report(report: &Report) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Blocks this thread, on which nothing else runs.
#[expect(clippy::disallowed_methods, reason = "no connection lives on the threads that wait here")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The line on the standard input that sets the publisher off.
pub(crate) const PUBLISH: &str = "publish";
const POLL: Duration = Duration::from_millis(50);
/// After the last event was published, a delivery that takes longer is lost.
const QUIET: Duration = Duration::from_secs(3);
/// TCP waits twice as long after each packet that was lost again.
const QUIET_LOSSY: Duration = Duration::from_secs(10);
const STUCK: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribers_are_dealt_out_and_what_is_due_is_counted_by_topics() {
        let publish = Publish {
            url: String::new(),
            style: Style::Raw,
            bytes: 0,
            batch: 1,
            pace: Pace::PerSecond(1.0),
            before: 0,
            warm_up: 0,
            warm_up_batch: 0,
            events: 0,
        };
        let job = |subscribers, count, per_subscriber| Job {
            way: Way::SseH1,
            kind: Kind::Feed,
            feed: String::new(),
            access: Access::default(),
            subscribers,
            at_once: 1,
            threads: 1,
            topics: Topics { count, per_subscriber },
            network: None,
            publish: publish.clone(),
        };
        assert_eq!(job(10, 1, 1).expected(7), 70);
        assert_eq!(job(3, 3, 1).expected(6), 6);
        let storm = Job { kind: Kind::Storm { bystanders: 2, after_ms: 0 }, threads: 2, ..job(5, 1, 1) };
        assert_eq!(storm.by_thread(), [vec![0, 1], vec![2, 4], vec![3]]);
        assert_eq!(Job { threads: 2, ..job(5, 1, 1) }.by_thread(), [vec![0, 2, 4], vec![1, 3]]);
        // Those who stay have all of four events, and the others those of topic 0: two.
        let storm = Job { topics: Topics { count: 2, per_subscriber: 1 }, ..storm };
        assert_eq!(storm.expected(4), 2 * 4 + 3 * 2);
        assert_eq!([storm.topics_of(1), storm.topics_of(2)], [(0, 2), (0, 1)]);
        // Topic 0 has two of four events: subscriber 0 has topics 0 and 1, subscriber 1 has 2 and 0, subscriber 2 has 1 and 2.
        assert_eq!(job(3, 3, 2).expected(4), 3 + 3 + 2);
    }
}
