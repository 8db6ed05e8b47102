//! Drives the pure [`core::Shard`](crate::core::Shard)s: one single-threaded runtime per core, each with its own feeds.
//!
//! A connection is given to a shard when it is accepted and lives there; all that it shares with others is in the same thread, so
//! there is no lock and no wake-up per subscriber and event across threads. The log's tail reaches each shard once.

mod feed;
mod feeds;
mod joined;
mod outlet;
mod shard;
mod turnstile;

use std::{
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{core, log::SharedLog, subscriptions::Subscriptions, telemetry::Metrics};

use feeds::{COMMANDS_MAX, Command};

pub use feed::Feed;
pub use feeds::{Feeds, Gate};
pub use joined::Form;
pub use outlet::{Connection, Outlet, Room};
pub use shard::{Counted, LocalShard};
pub use turnstile::Newcomer;

/// Every shard of a hub.
#[derive(Debug)]
pub struct Shards {
    shards: Vec<Remote>,
    drain: CancellationToken,
}

/// How to make shards.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many; each has a thread of its own.
    pub count: usize,
    /// What each allows.
    pub limits: core::Limits,
    /// How many reads of history each has under way; further ones wait.
    pub reads_max: usize,
    /// Over how long the feeds of a drain are asked to come back, in milliseconds.
    pub drain_spread_ms: u64,
    /// Who is told of feeds that come and go.
    pub subscriptions: Option<Arc<Subscriptions>>,
}

#[derive(Debug)]
struct Remote {
    jobs: mpsc::Sender<(Job, Counted)>,
    commands: mpsc::Sender<Command>,
    connections: Arc<AtomicUsize>,
    /// None once it was joined.
    thread: Option<JoinHandle<()>>,
    /// None once it was seen to be done.
    done: Option<oneshot::Receiver<()>>,
    stop: CancellationToken,
}

type Job = Box<dyn FnOnce(Rc<LocalShard>, Counted) + Send>;

impl Shards {
    /// Starts the threads.
    pub fn start(
        config: &Config,
        log: &SharedLog,
        gate: &Gate,
        metrics: &Arc<Metrics>,
        mut entropy: impl FnMut() -> u64,
    ) -> io::Result<Self> {
        let drain = CancellationToken::new();
        let shards = (0..config.count.max(1))
            .map(|index| {
                let (jobs, inbox) = mpsc::channel(JOBS_MAX);
                let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
                let (finished, done) = oneshot::channel();
                let (connections, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
                let setup = shard::Setup {
                    log: log.clone(),
                    connections: connections.clone(),
                    gate: gate.clone(),
                    metrics: metrics.clone(),
                    subscriptions: config.subscriptions.clone(),
                    tail: log.tail(),
                    limits: config.limits,
                    reads_max: config.reads_max,
                    seed: entropy(),
                    drain: drain.clone(),
                    drain_spread_ms: config.drain_spread_ms,
                    stop: stop.clone(),
                };
                let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
                    shard::run(setup, inbox, commanded);
                    let _ = finished.send(());
                })?;
                Ok(Remote { jobs, commands, connections, thread: Some(thread), done: Some(done), stop })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { shards, drain })
    }

    /// Gives a connection to the shard with the fewest, or to one that has few: `serve` is called there. Waits while the shard has too many
    /// to begin with.
    pub async fn deal(&self, serve: impl FnOnce(Rc<LocalShard>, Counted) + Send + 'static) {
        let fewest = self.shards.iter().min_by_key(|shard| shard.connections.load(Ordering::Relaxed) / DEALT_TOGETHER);
        if let Some(shard) = fewest {
            shard.give(Box::new(serve)).await;
        }
    }

    /// Calls each shard's own of these on it, as many as there are; what is called there isn't awaited. Meant for when shards begin: one that
    /// has too many to begin with drops it.
    pub fn begin<T: FnOnce(Rc<LocalShard>) + Send + 'static>(&self, works: impl IntoIterator<Item = T>) {
        for (shard, work) in self.shards.iter().zip(works) {
            let counted = Counted::new(shard.connections.clone());
            let _ = shard.jobs.try_send((Box::new(move |shard, _| work(shard)), counted));
        }
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.shards.len()
    }

    /// Reaches every feed, for as long as there are shards.
    pub fn feeds(&self) -> Feeds {
        Feeds::new(self.shards.iter().map(|shard| shard.commands.clone()))
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shards.iter().map(|shard| shard.connections.load(Ordering::Relaxed)).sum()
    }

    /// Tells every subscriber, and waits until the connections have ended by themselves. False if they haven't by the deadline.
    pub async fn drain(&mut self, deadline: Duration) -> bool {
        self.drain.cancel();
        let ended = async {
            for shard in &mut self.shards {
                shard.wait().await;
            }
        };
        tokio::time::timeout(deadline, ended).await.is_ok()
    }

    /// Ends what is left, and waits for the threads.
    pub async fn stop(self) {
        for mut shard in self.shards {
            shard.stop.cancel();
            shard.wait().await;
            if shard.thread.take().is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("a shard has panicked");
            }
        }
    }
}

impl Drop for Remote {
    /// A hub that is dropped without a drain ends, too.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Remote {
    async fn give(&self, job: Job) {
        // A shard that is gone takes nothing; that is a shutdown.
        let counted = Counted::new(self.connections.clone());
        let _ = self.jobs.send((job, counted)).await;
    }

    async fn wait(&mut self) {
        if let Some(done) = &mut self.done {
            // An error means that the thread has panicked, and is as good.
            let _ = done.await;
            self.done = None;
        }
    }
}

/// How many connections a shard is dealt before another has its turn. What comes on a few connections wakes one thread, which finds more than one
/// request each time, and not each thread for each.
const DEALT_TOGETHER: usize = 32;
/// How many reads of history a shard has under way, by default. Bounds the pages in memory to some 16 MiB.
pub const READS_MAX: usize = 64;
/// The most connections that wait for a shard to begin with them.
const JOBS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use bytes::Bytes;
    use fanwire_protocol::{Cursor, Data, Draft, Epoch, LastEventId, Matcher, Matchers, Seq, Topic, message::Verdict};
    use futures_util::{FutureExt as _, future::BoxFuture};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        auth::{self, Auth, Holder, Pass, Shown},
        core::{Committed, Item, Page, Read, Rights, Start, Subscription},
        log::{AppendError, Appended, Log, LogError, MemoryLog, Replay, Retention, Stamped, Tail},
        telemetry::{Limit, Transport},
    };

    type Told = mpsc::UnboundedSender<&'static str>;

    /// A connection that says what becomes of it.
    struct Reader {
        feed: Feed,
        panics: bool,
        told: Told,
    }

    impl Connection for Reader {
        fn feed(&self) -> &Feed {
            &self.feed
        }

        fn poll_deliver(&mut self, cx: &mut std::task::Context<'_>, room: &mut Room) -> Poll<()> {
            assert!(!self.panics, "as it was told to");
            assert!(self.feed.poll_take(cx, 64, &mut room.items).is_ready());
            assert!(matches!(room.items[..], [Item::Event { .. }]));
            let _ = self.told.send("event");
            Poll::Pending
        }

        fn touch(&self) -> usize {
            0
        }
    }

    impl Drop for Reader {
        fn drop(&mut self) {
            let _ = self.told.send("ended");
        }
    }

    fn memory_log() -> MemoryLog {
        MemoryLog::new(Epoch::from_bits(1), Retention::default(), 1)
    }

    fn start(log: &SharedLog, count: usize, metrics: &Arc<Metrics>) -> Shards {
        let config = Config {
            count,
            limits: core::Limits::default(),
            reads_max: READS_MAX,
            drain_spread_ms: 0,
            subscriptions: None,
        };
        Shards::start(&config, log, &Gate::new(|_| None), metrics, || 7).unwrap()
    }

    async fn anyone() -> Arc<Pass> {
        Arc::new(Auth::new(auth::Config::default()).admit(Shown::Nothing, 0).await.unwrap())
    }

    /// From the beginning of the log.
    fn everything(pass: &Pass) -> Subscription {
        Subscription {
            matchers: [Matcher::Any].into_iter().collect(),
            rights: pass.feed_rights(),
            start: Start { after: Seq(0), verdict: Verdict::Live, gap: None, told: None, complete: true, latest: None },
            heartbeat_ms: 60_000,
            lease: None,
            newest_above: None,
        }
    }

    fn event() -> Stamped {
        Stamped::new(Draft::new(vec![Topic::new("a").unwrap()], Data::text("x")).unwrap(), 0)
    }

    async fn read(feed: Feed, panics: bool, told: Told) {
        let outlet = Outlet::new(Reader { feed, panics, told });
        poll_fn(|cx| {
            outlet.poll(cx, |reader, cx| {
                let mut items = Vec::new();
                if reader.feed.poll_take(cx, 64, &mut items).is_ready() {
                    let _ = reader.told.send("hello");
                }
                Poll::Pending::<()>
            })
        })
        .await;
    }

    #[tokio::test]
    async fn few_connections_share_a_shard_and_many_are_spread() {
        let log: SharedLog = Arc::new(memory_log());
        let shards = start(&log, 3, &Arc::default());
        let (hold, _held) = mpsc::unbounded_channel();
        let mut counts = vec![];
        for _ in 0..3 * DEALT_TOGETHER + 1 {
            let hold = hold.clone();
            shards.deal(move |_, counted| drop(hold.send(counted))).await;
            counts = shards.shards.iter().map(|shard| shard.connections.load(Ordering::Relaxed)).collect();
            assert!(shards.connections() > DEALT_TOGETHER || counts[1..] == [0, 0], "{counts:?}");
        }
        assert_eq!(counts, [DEALT_TOGETHER + 1, DEALT_TOGETHER, DEALT_TOGETHER]);
        shards.stop().await;
    }

    #[tokio::test]
    async fn a_panic_on_the_walk_ends_its_connection_and_no_other() {
        let log: SharedLog = Arc::new(memory_log());
        let shards = start(&log, 1, &Arc::default());
        let pass = anyone().await;
        let (told, mut tellings) = mpsc::unbounded_channel();
        for (id, panics) in [(1, true), (2, false)] {
            let (subscription, told) = (everything(&pass), told.clone());
            let holder = Holder { id, pass: pass.clone() };
            let serve = move |shard: Rc<LocalShard>, counted: Counted| {
                let feed = shard.open(subscription, holder, Transport::SseH1);
                shard.spawn_connection(counted, read(feed, panics, told));
            };
            shards.deal(serve).await;
            assert_eq!(tellings.recv().await, Some("hello"));
        }
        log.append(vec![event()]).await.unwrap();
        let mut both = [tellings.recv().await, tellings.recv().await];
        both.sort_unstable();
        assert_eq!(both, [Some("ended"), Some("event")]);
        shards.stop().await;
        assert_eq!(tellings.recv().await, Some("ended"));
    }

    /// A log whose reads of history don't end before they may.
    #[derive(Debug)]
    struct HeldLog {
        log: MemoryLog,
        under_way: AtomicUsize,
        may_end: Semaphore,
        ended: AtomicUsize,
    }

    impl HeldLog {
        fn new(may_end: usize) -> Self {
            Self {
                log: memory_log(),
                under_way: AtomicUsize::new(0),
                may_end: Semaphore::new(may_end),
                ended: AtomicUsize::new(0),
            }
        }
    }

    impl Log for HeldLog {
        fn epoch(&self) -> Epoch {
            self.log.epoch()
        }

        fn append(&self, events: Vec<Stamped>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
            self.log.append(events)
        }

        fn resolve<'a>(
            &'a self,
            last_event_id: Option<&'a LastEventId>,
            replay: Replay,
            matchers: &'a Matchers,
            rights: &'a Rights,
        ) -> BoxFuture<'a, Result<Start, LogError>> {
            self.log.resolve(last_event_id, replay, matchers, rights)
        }

        fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, LogError>> {
            let held = async move {
                self.under_way.fetch_add(1, Ordering::SeqCst);
                let ends = self.may_end.acquire().await;
                self.under_way.fetch_sub(1, Ordering::SeqCst);
                ends.expect("it isn't closed").forget();
                self.ended.fetch_add(1, Ordering::SeqCst);
                self.log.read(read).await
            };
            held.boxed()
        }

        fn newest_under<'a>(
            &'a self,
            prefix: &'a str,
            after: Option<Topic>,
            count_max: usize,
        ) -> BoxFuture<'a, Result<Vec<Arc<Committed>>, LogError>> {
            self.log.newest_under(prefix, after, count_max)
        }

        fn tail(&self) -> Tail {
            self.log.tail()
        }

        fn expire(&self, now_ms: u64) {
            self.log.expire(now_ms);
        }

        fn head(&self) -> Cursor {
            self.log.head()
        }
    }

    #[tokio::test]
    async fn reads_of_history_beyond_a_bound_wait_and_are_counted() {
        let held = Arc::new(HeldLog::new(0));
        let (log, metrics): (SharedLog, _) = (held.clone(), Arc::new(Metrics::new()));
        log.append(vec![event()]).await.unwrap();
        let shards = start(&log, 1, &metrics);
        let pass = anyone().await;
        let (told, mut tellings) = mpsc::unbounded_channel();
        for id in 0..READS_MAX as u128 + 3 {
            let (subscription, told) = (everything(&pass), told.clone());
            let holder = Holder { id, pass: pass.clone() };
            let serve = move |shard: Rc<LocalShard>, counted: Counted| {
                let feed = shard.open(subscription, holder, Transport::SseH1);
                shard.spawn_connection(counted, async move {
                    let mut items = Vec::new();
                    while !items.iter().any(|item| matches!(item, Item::Event { .. })) {
                        feed.take(64, &mut items).await;
                    }
                    let _ = told.send("event");
                });
            };
            shards.deal(serve).await;
        }
        let waits = async |under_way, waited| {
            while (held.under_way.load(Ordering::SeqCst), metrics.times_reached(Limit::HistoryReads))
                != (under_way, waited)
            {
                tokio::task::yield_now().await;
            }
        };
        let soon = Duration::from_secs(20);
        tokio::time::timeout(soon, waits(READS_MAX, 3)).await.expect("three wait");
        // One that ends lets the next begin.
        held.may_end.add_permits(1);
        assert_eq!(tellings.recv().await, Some("event"));
        tokio::time::timeout(soon, waits(READS_MAX, 3)).await.expect("two wait");
        held.may_end.add_permits(READS_MAX + 2);
        for _ in 0..READS_MAX + 2 {
            assert_eq!(tellings.recv().await, Some("event"));
        }
        assert_eq!((held.under_way.load(Ordering::SeqCst), metrics.times_reached(Limit::HistoryReads)), (0, 3));
        shards.stop().await;
    }

    #[tokio::test]
    async fn history_that_a_feed_has_read_is_not_read_again_for_those_that_follow() {
        let items_max = core::Limits::default().queue_items_max;
        let held = Arc::new(HeldLog::new(100));
        let log: SharedLog = held.clone();
        let all = 2 * items_max + 1;
        log.append((0..all).map(|_| event()).collect()).await.unwrap();
        let shards = start(&log, 1, &Arc::default());
        let pass = anyone().await;
        let mut pieces = Vec::new();
        // All of it, all of it, and a part of it.
        for (id, after) in [(1, 0), (2, 0), (3, 10)] {
            let (mut subscription, holder) = (everything(&pass), Holder { id, pass: pass.clone() });
            subscription.start.after = Seq(after);
            let (told, mut tellings) = mpsc::unbounded_channel();
            let serve = move |shard: Rc<LocalShard>, counted: Counted| {
                let feed = shard.open(subscription, holder, Transport::SseH1);
                shard.spawn_connection(counted, async move {
                    let mut items = Vec::new();
                    loop {
                        let from = items.len();
                        feed.take(items_max, &mut items).await;
                        let form = Form::Text { control: false, chunked: false };
                        let made = feed.joined(form, &items[from..], || Some(Bytes::from(vec![b'x'; 8])));
                        let seqs = items[from..].iter().filter_map(|item| match item {
                            Item::Event { event, .. } => Some(event.seq().0),
                            _ => None,
                        });
                        if told.send((seqs.collect::<Vec<_>>(), made)).is_err() {
                            return;
                        }
                    }
                });
            };
            shards.deal(serve).await;
            let mut seqs = Vec::new();
            while seqs.last() != Some(&(all as u64)) {
                let (more, made) = tellings.recv().await.unwrap();
                seqs.extend(more);
                pieces.extend(made);
            }
            assert!(seqs.iter().copied().eq(after + 1..=all as u64), "{seqs:?}");
        }
        // Two full pages, and for each its own end; more only where a second has passed meanwhile.
        let reads = held.ended.load(Ordering::SeqCst);
        assert!((2 + 3..3 * 3).contains(&reads), "{reads} reads");
        // What came together for all of them is one piece for all of them. None is dropped before, so each has a place of its own.
        let different: std::collections::HashSet<_> = pieces.iter().map(|piece| piece.as_ptr()).collect();
        assert!(different.len() < pieces.len(), "{} pieces", pieces.len());
        shards.stop().await;
    }
}
