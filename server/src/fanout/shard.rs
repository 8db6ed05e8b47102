//! A shard on its thread.

use std::{
    cell::{RefCell, RefMut},
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::{Rc, Weak},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use fanwire_protocol::{Matchers, Seq, message::Bye};
use futures_util::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use smallvec::SmallVec;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::{JoinSet, LocalSet, unconstrained},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Command, Feed, Gate, Job, Room,
    joined::Joined,
    outlet::Walked,
    turnstile::{Newcomer, Turnstile},
};
use crate::{
    auth::{Holder, Pass},
    core::{Committed, Effect, FeedId, Limits, Pages, PagesLimits, ReadRequest, Shard, Subscription, Time},
    log::{SharedLog, Tail, TailStep},
    subscriptions::Subscriptions,
    telemetry::{Limit, Metrics, ShardCounters, Transport},
};

/// The shard of this thread: what a connection that lives here can do.
#[derive(Debug)]
pub struct LocalShard {
    core: RefCell<Shard>,
    /// By the feeds' index: who is told when there is something to take.
    readers: RefCell<Vec<Reader>>,
    /// Whom each open feed is for.
    holders: RefCell<HashMap<FeedId, Holder>>,
    gate: Gate,
    counters: Arc<ShardCounters>,
    metrics: Arc<Metrics>,
    subscriptions: Option<Arc<Subscriptions>>,
    log: SharedLog,
    /// How many there are.
    connections: Arc<AtomicUsize>,
    /// Parts of the shard that are added to it.
    parts: mpsc::UnboundedSender<LocalBoxFuture<'static, ()>>,
    /// Told when there is a first feed.
    opened: Notify,
    reads: Semaphore,
    pages: RefCell<Pages>,
    joined: RefCell<Joined>,
    turnstile: Rc<Turnstile>,
    tasks: TaskTracker,
    drain: CancellationToken,
    began: Instant,
}

/// Who reads a feed.
#[derive(Debug, Default, Clone)]
enum Reader {
    #[default]
    Nobody,
    /// A task, which is told once.
    Task(Waker),
    /// A connection that is written to on the walk.
    Outlet(Weak<dyn Walked>),
}

pub(super) struct Setup {
    pub(super) log: SharedLog,
    pub(super) connections: Arc<AtomicUsize>,
    pub(super) gate: Gate,
    pub(super) metrics: Arc<Metrics>,
    pub(super) subscriptions: Option<Arc<Subscriptions>>,
    pub(super) tail: Tail,
    pub(super) limits: Limits,
    pub(super) reads_max: usize,
    pub(super) seed: u64,
    pub(super) drain: CancellationToken,
    pub(super) drain_spread_ms: u64,
    pub(super) stop: CancellationToken,
}

/// Runs a shard until it is drained or stopped.
pub(super) fn run(setup: Setup, inbox: mpsc::Receiver<(Job, Counted)>, commands: mpsc::Receiver<Command>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a shard can't have a runtime"),
    };
    LocalSet::new().block_on(&runtime, serve(setup, inbox, commands));
}

async fn serve(setup: Setup, inbox: mpsc::Receiver<(Job, Counted)>, commands: mpsc::Receiver<Command>) {
    let Setup {
        log,
        connections,
        gate,
        metrics,
        subscriptions,
        tail,
        limits,
        reads_max,
        seed,
        drain,
        drain_spread_ms,
        stop,
    } = setup;
    // Asked for each request, and shards don't wait for each other.
    let drain = drain.child_token();
    let (parts, mut added) = mpsc::unbounded_channel();
    let shard = Rc::new(LocalShard {
        core: RefCell::new(Shard::new(log.epoch(), tail.position(), seed, limits)),
        readers: RefCell::default(),
        holders: RefCell::default(),
        gate,
        counters: metrics.shard(),
        metrics,
        subscriptions,
        log,
        connections,
        parts,
        opened: Notify::new(),
        reads: Semaphore::new(reads_max),
        pages: RefCell::new(Pages::new(PAGES)),
        joined: RefCell::default(),
        turnstile: Rc::default(),
        tasks: TaskTracker::new(),
        drain: drain.clone(),
        began: Instant::now(),
    });
    let mut background = JoinSet::new();
    background.spawn_local(tick(shard.clone()));
    background.spawn_local(obey(shard.clone(), commands));
    background.spawn_local(begin_connections(shard.clone(), inbox));
    // No tasks, but the thread's own: tasks wait for each other, thousands where everybody connects at once, and between any 61 of them these
    // have their turn. In a set, so that they are polled only when they were woken. The pump yields by itself; a budget would have it write
    // to sockets that it finds unready.
    let pump: LocalBoxFuture<'_, ()> = Box::pin(unconstrained(pump(shard.clone(), tail, drain_spread_ms)));
    let turns: LocalBoxFuture<'_, ()> = Box::pin(shard.turnstile.turn());
    let mut first: FuturesUnordered<_> =
        [pump, turns].map(|part| AssertUnwindSafe(part).catch_unwind()).into_iter().collect();
    let first_panicked = async {
        loop {
            tokio::select! {
                Some(part) = added.recv() => first.push(AssertUnwindSafe(part).catch_unwind()),
                Some(ended) = first.next() => {
                    if ended.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let drained = async {
        drain.cancelled().await;
        shard.tasks.close();
        shard.tasks.wait().await;
    };
    tokio::select! {
        () = drained => return,
        () = stop.cancelled() => return,
        () = first_panicked => {}
        () = first_panic(&mut background) => {}
    }
    // Without them the shard serves nobody and doesn't say so: a supervisor can start a hub that does.
    tracing::error!("a part of a shard panicked; the hub ends");
    std::process::abort();
}

/// Resolves when a task panics; that others end is in order.
async fn first_panic(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err_and(|error| error.is_panic()) {
            return;
        }
    }
    std::future::pending().await
}

async fn begin_connections(shard: Rc<LocalShard>, mut inbox: mpsc::Receiver<(Job, Counted)>) {
    let mut begun = 0;
    while let Some((job, counted)) = inbox.recv().await {
        let shard = shard.clone();
        if catch_unwind(AssertUnwindSafe(move || job(shard, counted))).is_err() {
            tracing::error!("a connection panicked as it began");
        }
        begun += 1;
        if begun % BEGINNINGS_A_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn obey(shard: Rc<LocalShard>, mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        command(&shard);
    }
}

/// Feeds the core with the log's committed tail. When the hub drains, the feeds are ended once they have all of it.
async fn pump(shard: Rc<LocalShard>, mut tail: Tail, drain_spread_ms: u64) {
    let (mut batch, mut draining, mut drained) = (Vec::new(), false, false);
    let mut due = Due::default();
    loop {
        if draining && !drained && tail.position() >= shard.log.head().seq {
            drained = true;
            shard.with_core(|core| core.drain(drain_spread_ms));
        }
        tokio::select! {
            biased;
            () = shard.drain.cancelled(), if !draining => draining = true,
            step = next(&shard, &mut tail, &mut batch) => ingest(&shard, step, &batch, &mut due).await,
        }
        batch.clear();
        tokio::task::yield_now().await;
    }
}

/// The next step along the tail, which a shard without feeds lets pass: to be woken for each event would cost as much as publishing it.
async fn next(shard: &LocalShard, tail: &mut Tail, batch: &mut Vec<Arc<Committed>>) -> TailStep {
    while shard.core.borrow().is_empty() && !shard.drain.is_cancelled() {
        shard.opened.notified().await;
    }
    tail.next(batch).await
}

async fn ingest(shard: &Rc<LocalShard>, step: TailStep, batch: &[Arc<Committed>], due: &mut Due) {
    let head = match step {
        TailStep::Skipped(head) => return shard.with_core(|core| core.skip_to(head)),
        TailStep::Upto(head) => head,
    };
    let mut looked_at = 0;
    for event in batch {
        looked_at += shard.ingest(std::slice::from_ref(event), event.seq(), due);
        if looked_at >= FEEDS_A_TURN {
            looked_at = 0;
            due.deliver(shard).await;
            tokio::task::yield_now().await;
        }
    }
    shard.ingest(&[], head, due);
    let losses = shard.with_core(|core| core.losses());
    shard.counters.let_go(losses);
    due.deliver(shard).await;
}

/// The feeds that have got something on a walk and whose connections are written to at its end.
#[derive(Debug, Default)]
struct Due {
    feeds: Vec<FeedId>,
    room: Room,
}

impl Due {
    async fn deliver(&mut self, shard: &LocalShard) {
        let mut outlets: SmallVec<[_; WRITES_AT_HAND]> = SmallVec::new();
        let mut began = Instant::now();
        for ids in self.feeds.chunks(WRITES_AT_HAND) {
            if began.elapsed() >= WRITES_A_TURN {
                tokio::task::yield_now().await;
                began = Instant::now();
            }
            // If it is another feed's by now, that one takes what it has, or nothing.
            outlets.extend(ids.iter().filter_map(|id| shard.outlet(*id)));
            outlets.iter().for_each(|outlet| outlet.touch());
            for outlet in outlets.drain(..) {
                // What goes wrong in a connection ends that one, here as in a task of its own.
                if catch_unwind(AssertUnwindSafe(|| outlet.deliver(&mut self.room))).is_err() {
                    outlet.fail();
                }
                self.room.items.clear();
            }
        }
        self.feeds.clear();
    }
}

async fn tick(shard: Rc<LocalShard>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let now = shard.now();
        shard.with_core(|core| core.tick(now));
        shard.pages.borrow_mut().age();
        shard.joined.borrow_mut().age();
    }
}

impl LocalShard {
    /// Opens a feed; it closes when the handle is dropped.
    pub fn open(self: &Rc<Self>, subscription: Subscription, holder: Holder, transport: Transport) -> Feed {
        let now = self.now();
        if let Some(subscriptions) = &self.subscriptions {
            subscriptions.join(&holder, &subscription.matchers);
        }
        if self.core.borrow().is_empty() {
            // Nobody has followed the tail: what it had is history.
            let head = self.log.head().seq;
            self.with_core(|core| core.skip_to(head));
            self.opened.notify_one();
        }
        let id = self.with_core(|core| core.open(subscription, now));
        self.hold(id, holder);
        Feed::new(self.clone(), id, transport)
    }

    /// Notes whom a feed is for, who may have lost what let them in since it was looked at.
    pub(super) fn hold(self: &Rc<Self>, id: FeedId, holder: Holder) {
        let withdrawn = self.gate.check(&holder.pass);
        self.holders.borrow_mut().insert(id, holder);
        if let Some(bye) = withdrawn {
            self.dismiss(id, bye);
        }
    }

    pub(super) fn holder(&self, id: FeedId) -> Option<Holder> {
        self.holders.borrow().get(&id).cloned()
    }

    /// A feed has other matchers, as far as its holder is concerned: it may still be catching up.
    pub(super) fn rematched(&self, id: FeedId, matchers: &Matchers) {
        if let (Some(subscriptions), Some(holder)) = (&self.subscriptions, self.holders.borrow().get(&id)) {
            subscriptions.change(holder.id, matchers);
        }
    }

    /// A feed goes on with another pass.
    pub(super) fn renewed(self: &Rc<Self>, id: FeedId, pass: Arc<Pass>) {
        if let Some(holder) = self.holder(id) {
            if let Some(subscriptions) = &self.subscriptions {
                subscriptions.renew(holder.id, &pass);
            }
            self.hold(id, Holder { pass, ..holder });
        }
    }

    /// Ends the feeds of those who wouldn't be let in any more, and says how many.
    pub(super) fn recheck(self: &Rc<Self>) -> usize {
        let over = |(id, holder): (&FeedId, &Holder)| Some((*id, self.gate.check(&holder.pass)?));
        let withdrawn: Vec<(FeedId, Bye)> = self.holders.borrow().iter().filter_map(over).collect();
        withdrawn.into_iter().filter(|(id, bye)| self.dismiss(*id, bye.clone())).count()
    }

    /// Ends the feed of this name, if it is here.
    pub(super) fn end_feed(self: &Rc<Self>, name: u128, bye: &Bye) -> bool {
        let found = self.holders.borrow().iter().find(|(_, holder)| holder.id == name).map(|(id, _)| *id);
        found.is_some_and(|id| self.dismiss(id, bye.clone()))
    }

    fn dismiss(self: &Rc<Self>, id: FeedId, bye: Bye) -> bool {
        let now = self.now();
        self.with_core(|core| core.dismiss(id, bye, now))
    }

    /// Runs a connection, or a part of one, on this shard; a drain waits for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.spawn_local(task);
    }

    /// Runs a connection on this shard; it counts as one until it ends, however it does.
    pub fn spawn_connection(&self, counted: impl Sized + 'static, task: impl Future<Output = ()> + 'static) {
        // Boxed: a future that is moved into another and awaited there has its memory twice.
        let task = Box::pin(task);
        self.spawn(async move {
            task.await;
            drop(counted);
        });
    }

    /// Runs a part of the shard, which has its turn before any connection's tasks, and says when it is done for this turn. If it panics the hub
    /// ends.
    pub fn run_first(&self, part: LocalBoxFuture<'static, ()>) {
        // The shard takes it for as long as it runs.
        let _ = self.parts.send(part);
    }

    /// One more connection that lives here, but wasn't dealt out.
    pub fn count_connection(&self) -> Counted {
        Counted::new(self.connections.clone())
    }

    /// A connection that begins here.
    pub fn newcomer(&self) -> Newcomer {
        Newcomer::new(self.turnstile.clone())
    }

    /// Ends when the hub begins to shut down.
    pub fn draining(&self) -> &CancellationToken {
        &self.drain
    }

    pub(super) fn counters(&self) -> &ShardCounters {
        &self.counters
    }

    pub(super) fn joined(&self) -> RefMut<'_, Joined> {
        self.joined.borrow_mut()
    }

    pub(super) fn now(&self) -> Time {
        Time(self.began.elapsed().as_millis() as u64)
    }

    pub(super) fn set_waker(&self, id: FeedId, waker: &Waker) {
        self.with_reader(id, |reader| match reader {
            // It knows its task.
            Reader::Outlet(outlet) if outlet.strong_count() > 0 => {}
            Reader::Task(known) => known.clone_from(waker),
            reader => *reader = Reader::Task(waker.clone()),
        });
    }

    pub(super) fn set_outlet(&self, id: FeedId, outlet: Weak<dyn Walked>) {
        self.with_reader(id, |reader| *reader = Reader::Outlet(outlet));
    }

    fn outlet(&self, id: FeedId) -> Option<Rc<dyn Walked>> {
        match self.readers.borrow().get(id.index()) {
            Some(Reader::Outlet(outlet)) => outlet.upgrade(),
            _ => None,
        }
    }

    fn with_reader(&self, id: FeedId, act: impl FnOnce(&mut Reader)) {
        let mut readers = self.readers.borrow_mut();
        if readers.len() <= id.index() {
            readers.resize(id.index() + 1, Reader::Nobody);
        }
        act(&mut readers[id.index()]);
    }

    pub(super) fn forget(&self, id: FeedId) {
        let holder = self.holders.borrow_mut().remove(&id);
        if let (Some(subscriptions), Some(holder)) = (&self.subscriptions, holder) {
            subscriptions.leave(holder.id);
        }
        if let Some(reader) = self.readers.borrow_mut().get_mut(id.index()) {
            *reader = Reader::Nobody;
        }
    }

    /// Lets the core do something, and does what it asks for.
    pub(super) fn with_core<T>(self: &Rc<Self>, act: impl FnOnce(&mut Shard) -> T) -> T {
        let result = act(&mut self.core.borrow_mut());
        self.carry_out(|_, outlet| {
            if let Some(outlet) = outlet.upgrade() {
                outlet.wake();
            }
        });
        result
    }

    /// Lets the core take in what was committed. Who is to be written to on the walk is added to `due`, all others are told.
    /// Returns how many feeds were looked at.
    fn ingest(self: &Rc<Self>, events: &[Arc<Committed>], head: Seq, due: &mut Due) -> usize {
        let looked_at = self.core.borrow_mut().ingest(events, head);
        self.carry_out(|id, _| due.feeds.push(id));
        looked_at
    }

    fn carry_out(self: &Rc<Self>, mut has_something: impl FnMut(FeedId, &Weak<dyn Walked>)) {
        loop {
            let effect = self.core.borrow_mut().next_effect();
            match effect {
                Some(Effect::Wake(id)) => {
                    let waker = match self.readers.borrow_mut().get_mut(id.index()) {
                        Some(Reader::Outlet(outlet)) => {
                            has_something(id, outlet);
                            continue;
                        }
                        Some(reader) => std::mem::take(reader),
                        None => continue,
                    };
                    if let Reader::Task(waker) = waker {
                        waker.wake();
                    }
                }
                Some(Effect::Read(request)) => {
                    self.spawn(read(self.clone(), request));
                }
                None => return,
            }
        }
    }
}

async fn read(shard: Rc<LocalShard>, request: ReadRequest) {
    let ReadRequest { feed, token, read } = request;
    let find = || shard.pages.borrow().find(&read);
    let give = |page| shard.with_core(|core| core.shared_page(feed, token, &page));
    if let Some(page) = find() {
        return give(page);
    }
    if shard.reads.available_permits() == 0 {
        shard.metrics.reached(Limit::HistoryReads);
    }
    let Ok(_permit) = shard.reads.acquire().await else { return };
    // Others may have read it meanwhile.
    if let Some(page) = find() {
        return give(page);
    }
    match shard.log.read(read.clone()).await {
        Ok(page) => {
            let kept = shard.pages.borrow_mut().keep(&read, page);
            shard.with_core(|core| match kept {
                Ok(page) => core.shared_page(feed, token, &page),
                Err(page) => core.page(feed, token, page),
            });
        }
        Err(error) => {
            tracing::warn!(%error, "history can't be read");
            shard.with_core(|core| core.read_failed(feed, token, &error.to_string()));
        }
    }
}

/// Counts a connection, or a part of its life, for as long as that lasts, however it ends.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// One more.
    pub fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many feeds are looked at before other tasks get a turn, which takes some hundred microseconds; the feeds of one event aren't
/// split. The fewer, the fewer events of a burst go out in one write: each costs as much as looking at a hundred feeds.
const FEEDS_A_TURN: usize = 16_384;
/// How long connections are written to before others get their turn: the longer, the sooner the walk is over, for which the last of thousands
/// waits, and with it what comes after; and the longer a request waits, at each of its few steps.
const WRITES_A_TURN: Duration = Duration::from_millis(1);
/// How many of them are looked at before the first of them is written to: where there are thousands, the memory of each is far away.
const WRITES_AT_HAND: usize = 8;
/// How many connections begin before those that are there get their turn, a hundred microseconds each: when everybody connects at once, who is
/// served already, and who publishes, doesn't wait for all of them.
const BEGINNINGS_A_TURN: usize = 8;
/// How much history a shard keeps that feeds have read, for a second.
const PAGES: PagesLimits = PagesLimits { count_max: 128, cost_max: 8 * 1024 * 1024, age_max: 10 };
/// How exact heartbeats are.
const TICK: Duration = Duration::from_millis(100);
