//! The one thread that writes.

use std::{
    fs::File,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use fanwire_protocol::Seq;
use tokio::sync::{mpsc, oneshot};

use super::{
    CACHE_BYTES, Fsync, OpenError, Shared, Store,
    meter::{End, Watch},
    panics::guarded,
    store::Failure,
};
use crate::log::{AppendError, Appended, Stamped};

/// What the writer is asked for.
pub(super) enum Job {
    Append {
        events: Vec<Stamped>,
        answer: oneshot::Sender<Result<Vec<Appended>, AppendError>>,
    },
    Expire {
        now_ms: u64,
    },
    /// Answered with how short the file has become.
    Compact {
        watch: Watch,
        answer: oneshot::Sender<Result<u64, CompactError>>,
    },
}

/// Why a log wasn't compacted. It goes on as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum CompactError {
    /// It takes nothing now.
    #[error("the log can't be written now: {0}")]
    Unavailable(String),
    /// Reads of history that don't end.
    #[error("the log is being read, and compacting it needs it alone; try again")]
    BeingRead,
    /// Nobody waits for it any more.
    #[error("it was given up")]
    GivenUp,
}

type Waiting = Vec<(usize, oneshot::Sender<Result<Vec<Appended>, AppendError>>)>;

pub(super) struct Writer {
    shared: Arc<Shared>,
    fsync: Fsync,
    /// When what is unsynced has to be.
    sync_by: Option<Instant>,
    trouble: Option<Trouble>,
    /// A disk that failed is left alone for so long, and for so many times what the last try took: repairing a large log takes a while.
    pub(super) retry: (Duration, u32),
}

/// The disk takes nothing.
struct Trouble {
    /// What it said last.
    why: String,
    /// When it is to be tried again.
    retry_at: Instant,
    /// When it was last complained of.
    said_at: Instant,
    /// Keeps other hubs away.
    lock: Option<File>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, fsync: Fsync) -> Self {
        Self { shared, fsync, sync_by: None, trouble: None, retry: (RETRY_PAUSE, RETRY_PAUSE_TRIES) }
    }

    /// Writes until nobody can ask for anything any more.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "the log's writer can't have a runtime"),
        };
        let mut jobs = Vec::new();
        loop {
            let wait = self.sync_by.map(|by| by.saturating_duration_since(Instant::now()));
            let received = runtime.block_on(async {
                match wait {
                    None => Some(inbox.recv_many(&mut jobs, BATCH_MAX).await),
                    Some(wait) => tokio::time::timeout(wait, inbox.recv_many(&mut jobs, BATCH_MAX)).await.ok(),
                }
            });
            match received {
                Some(0) => break,
                Some(_) => self.work(jobs.drain(..)),
                None => self.sync(),
            }
        }
        self.close();
    }

    /// Leaves everything durable.
    pub(super) fn close(self) {
        let Some(store) = self.shared.store() else { return };
        if let Err(error) = guarded(|| store.close()) {
            tracing::error!(%error, "the log wasn't closed in order");
        }
    }

    /// Whether the disk takes nothing.
    #[cfg(test)]
    pub(super) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Does what is asked, all appends in one transaction, and answers.
    pub(super) fn work(&mut self, jobs: impl Iterator<Item = Job>) {
        let (mut events, mut waiting, mut expire, mut compact) = (Vec::new(), Waiting::new(), None, Vec::new());
        for job in jobs {
            match job {
                Job::Append { events: more, answer } => {
                    waiting.push((more.len(), answer));
                    events.extend(more);
                }
                Job::Expire { now_ms } => expire = Some(now_ms),
                Job::Compact { watch, answer } => compact.push((watch, answer)),
            }
        }
        if !waiting.is_empty() {
            let outcome = self.append(events);
            answer(waiting, outcome);
        }
        if let Some(now_ms) = expire
            && let Some(store) = self.open_store()
        {
            if let Ok(Some(bytes)) = self.shared.medium.bytes() {
                store.set_bytes(bytes);
            }
            match guarded(|| store.expire(now_ms, self.fsync == Fsync::Always)) {
                Ok(_) => self.sync_later(),
                Err(error) => self.give_up(store, &error),
            }
        }
        for (watch, answer) in compact {
            let compacted = self.compact(watch);
            // Who asked may be gone; it is done all the same.
            let _ = answer.send(compacted);
        }
        // While jobs keep coming, nobody waits for the moment.
        if self.sync_by.is_some_and(|by| by <= Instant::now()) {
            self.sync();
        }
    }

    /// What was written is synced within the interval, where there is one.
    fn sync_later(&mut self) {
        if let Fsync::Interval(interval) = self.fsync {
            self.sync_by.get_or_insert(Instant::now() + interval);
        }
    }

    /// Gives free space in the file back. The database has to be alone: readers wait until it is done.
    fn compact(&mut self, watch: Watch) -> Result<u64, CompactError> {
        let Some(store) = self.open_store() else {
            let why = self.trouble.as_ref().map_or("", |trouble| &trouble.why);
            return Err(CompactError::Unavailable(why.to_owned()));
        };
        self.shared.is_compacting.send_replace(true);
        self.shared.set_store(None);
        let compacted = match alone(store) {
            Ok(store) => self.compact_alone(store, watch),
            Err(store) => {
                self.shared.set_store(Some(store));
                Err(CompactError::BeingRead)
            }
        };
        self.shared.is_compacting.send_replace(false);
        compacted
    }

    /// Says how short the file has become.
    fn compact_alone(&mut self, mut store: Store, watch: Watch) -> Result<u64, CompactError> {
        let meter = self.shared.medium.meter();
        // Before it may be ended.
        let settled = guarded(|| store.settle());
        let compacted = settled.and_then(|()| {
            meter.watch(watch);
            guarded(|| store.compact())
        });
        match (compacted, meter.leave()) {
            (Ok(()), watch) => {
                self.shared.set_store(Some(Arc::new(store)));
                Ok(watch.map_or(0, |watch| watch.shortest_bytes()))
            }
            (Err(_), Some(watch)) if watch.end().is_some() => self.open_after_end(store, watch),
            (Err(error), _) => {
                self.give_up(Arc::new(store), &error);
                Err(CompactError::Unavailable(error.to_string()))
            }
        }
    }

    /// Compacting was ended, which the database takes for a failure of its disk: it is opened again.
    fn open_after_end(&mut self, store: Store, watch: Watch) -> Result<u64, CompactError> {
        drop(store);
        let (end, shortest_bytes, meter) = (watch.end(), watch.shortest_bytes(), self.shared.medium.meter());
        if end == Some(End::Enough) {
            meter.watch(watch.only_counting());
        }
        let opened = self.reopen();
        meter.leave();
        match opened {
            Ok((store, _)) => self.shared.set_store(Some(store)),
            Err(error) => {
                self.be_in_trouble(error.to_string());
                return Err(CompactError::Unavailable(error.to_string()));
            }
        }
        if end == Some(End::Enough) { Ok(shortest_bytes) } else { Err(CompactError::GivenUp) }
    }

    fn append(&mut self, events: Vec<Stamped>) -> Result<Vec<Appended>, AppendError> {
        let Some(store) = self.open_store() else {
            let why = self.trouble.as_ref().map_or("", |trouble| &trouble.why);
            return Err(AppendError::Unavailable(why.to_owned()));
        };
        // After the store, which may just have been opened again, behind numbers that were reserved.
        let head = Seq(self.shared.head.load(Relaxed));
        if events.len() as u64 > Seq::MAX.0 - head.0 {
            return Err(AppendError::Exhausted);
        }
        let (appended, committed) = match guarded(|| store.append(head, events, self.fsync == Fsync::Always)) {
            Ok(done) => done,
            Err(error) => {
                let said = AppendError::Unavailable(error.to_string());
                self.give_up(store, &error);
                return Err(said);
            }
        };
        self.sync_later();
        if let Some(last) = committed.last() {
            self.shared.head.store(last.seq().0, Relaxed);
        }
        self.shared.tail.push(committed);
        Ok(appended)
    }

    /// Makes everything durable.
    pub(super) fn sync(&mut self) {
        self.sync_by = None;
        let Some(store) = self.open_store() else { return };
        if let Err(error) = guarded(|| store.sync()) {
            self.give_up(store, &error);
        }
    }

    /// The store; one that failed before is opened again now and then, since a disk that was full may have room now.
    fn open_store(&mut self) -> Option<Arc<Store>> {
        let Some(trouble) = &mut self.trouble else { return self.shared.store() };
        let began = Instant::now();
        if began < trouble.retry_at {
            return None;
        }
        // It would keep this hub away as well.
        trouble.lock = None;
        match self.reopen() {
            Ok((store, head)) => {
                tracing::info!("the log takes events again");
                self.trouble = None;
                self.shared.set_store(Some(store.clone()));
                // A commit that failed was stored all the same, or numbers were reserved: live feeds look at history, which is there
                // by now.
                if self.shared.head.fetch_max(head.0, Relaxed) < head.0 {
                    self.shared.tail.jump(head);
                }
                Some(store)
            }
            Err(error) => {
                let retry_at = Instant::now() + self.retry.0.max(began.elapsed() * self.retry.1);
                let lock = self.shared.medium.lock();
                let trouble = self.trouble.as_mut()?;
                (trouble.why, trouble.retry_at, trouble.lock) = (error.to_string(), retry_at, lock);
                if trouble.said_at.elapsed() > COMPLAINT_PAUSE {
                    trouble.said_at = began;
                    tracing::error!(path = %self.shared.medium, %error, "the log still can't be written");
                }
                None
            }
        }
    }

    /// Opens the log that was served before, and no other.
    fn reopen(&self) -> Result<(Arc<Store>, Seq), OpenError> {
        let Shared { medium, epoch, retention, .. } = &*self.shared;
        if matches!(medium.bytes(), Ok(None)) {
            // A new one would give the same numbers again.
            return Err(OpenError::Gone);
        }
        let (store, head) = Store::open_on(&**medium, *epoch, retention.clone(), CACHE_BYTES)?;
        if store.epoch() != *epoch || head.0 < self.shared.head.load(Relaxed) {
            return Err(OpenError::Gone);
        }
        Ok((Arc::new(store), head))
    }

    /// After an error the database takes nothing more, and gives nothing, until it is opened anew.
    fn give_up(&mut self, store: Arc<Store>, error: &Failure) {
        self.shared.set_store(None);
        // Readers that still hold it are soon done.
        drop(store);
        self.be_in_trouble(error.to_string());
    }

    /// From here on the log is read as the last commit left it, until it can be opened again.
    fn be_in_trouble(&mut self, why: String) {
        let Shared { medium, retention, .. } = &*self.shared;
        tracing::error!(path = %medium, error = why, "the log can't be written: publishers are refused until it can; feeds go on");
        match Store::open_frozen(&**medium, retention.clone(), CACHE_BYTES) {
            Ok(frozen) => self.shared.set_store(Some(Arc::new(frozen))),
            Err(error) => tracing::error!(path = %medium, %error, "the log can't be read either"),
        }
        let now = Instant::now();
        let (retry_at, lock) = (now + self.retry.0, self.shared.medium.lock());
        self.trouble = Some(Trouble { why, retry_at, said_at: now, lock });
    }
}

/// The store, once nobody reads it any more.
fn alone(mut store: Arc<Store>) -> Result<Store, Arc<Store>> {
    let began = Instant::now();
    loop {
        match Arc::try_unwrap(store) {
            Ok(alone) => return Ok(alone),
            Err(shared) if began.elapsed() > READERS_MAX => return Err(shared),
            Err(shared) => store = shared,
        }
        std::thread::park_timeout(READERS_PAUSE);
    }
}

fn answer(waiting: Waiting, outcome: Result<Vec<Appended>, AppendError>) {
    let mut appended = outcome.as_ref().map(Vec::as_slice).unwrap_or_default();
    for (count, answer) in waiting {
        let (own, rest) = appended.split_at(count.min(appended.len()));
        appended = rest;
        // A publisher that is gone has no use for it.
        let _ = answer.send(outcome.as_ref().map(|_| own.to_vec()).map_err(Clone::clone));
    }
}

/// How many appends share a transaction, and its sync.
const BATCH_MAX: usize = 1024;
/// See [`Writer::retry`].
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const RETRY_PAUSE_TRIES: u32 = 4;
/// How long readers of bounded pages may take.
const READERS_MAX: Duration = Duration::from_secs(10);
const READERS_PAUSE: Duration = Duration::from_millis(2);
/// From one complaint about the same trouble to the next.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
