//! The log on disk: what was acknowledged survives a crash.
//!
//! One thread writes. It takes everything that waits into one transaction, so that many publishers share one sync, and only when
//! that has come back answers them and feeds the tail. Reads run on the runtime's blocking threads, on a snapshot each.

pub mod admin;
mod check;
mod classes;
#[cfg(test)]
mod damage_test;
mod format;
#[cfg(test)]
mod format_test;
#[cfg(test)]
mod measure_test;
mod medium;
mod meter;
#[cfg(test)]
mod model_test;
mod overlay;
mod panics;
#[cfg(test)]
mod power_disk;
#[cfg(test)]
mod power_test;
mod record;
#[cfg(test)]
mod rot_test;
#[cfg(test)]
mod space_test;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fanwire_protocol::{Cursor, Epoch, LastEventId, Matchers, Seq, Topic};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot, watch};

use super::{AppendError, Appended, Log, LogError, Replay, Retention, Stamped, Tail, TailBuffer, page::Place};
use crate::core::{Committed, Page, Read, Rights, Start};
use medium::{Medium, StoreFile};
use store::Store;

use writer::{Job, Writer};

pub use store::OpenError;

/// When a log on disk syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before a publisher has its answer and a subscriber the event. A crash of the machine loses nothing acknowledged.
    Always,
    /// At this interval. A crash of the process loses up to so much of what was acknowledged, one of the machine as well; it is told
    /// as a gap.
    Interval(Duration),
}

/// A log on disk.
#[derive(Debug)]
pub struct DiskLog {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    writer: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    medium: Box<dyn Medium>,
    epoch: Epoch,
    retention: Arc<Retention>,
    head: AtomicU64,
    tail: Arc<TailBuffer>,
    /// While the disk takes nothing, what it last took, to be read; none if it can't even be read.
    store: RwLock<Option<Arc<Store>>>,
    /// There is no store, and there will be one again soon.
    is_compacting: watch::Sender<bool>,
}

/// Why a log on disk can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiskLogError {
    /// The directory can't be made or entered.
    #[error("the data directory {path} can't be used", path = .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The store in it can't be opened.
    #[error("the log {path} can't be opened", path = .path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: OpenError,
    },
    /// No thread can be started.
    #[error("the log's thread can't be started")]
    Thread(#[source] io::Error),
}

impl DiskLog {
    /// Opens the log in a directory, which is made if need be; a new log gets this epoch.
    pub fn open(directory: &Path, new_epoch: Epoch, retention: Retention, fsync: Fsync) -> Result<Self, DiskLogError> {
        create_private(directory).map_err(|source| DiskLogError::Directory { path: directory.to_owned(), source })?;
        let path = directory.join(FILE);
        // Private events are in it.
        let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        file.map_err(|source| DiskLogError::Store { path: path.clone(), source: store::Failure::from(source).into() })?;
        let shared = Shared::open(Box::new(StoreFile::new(&path)), new_epoch, retention);
        let shared = shared.map_err(|source| DiskLogError::Store { path, source })?;
        let (mut log, writer, inbox) = Self::new(shared, fsync);
        let thread = std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run(inbox));
        log.writer = Some(thread.map_err(DiskLogError::Thread)?);
        Ok(log)
    }

    /// A log whose writer is still to be run.
    fn new(shared: Arc<Shared>, fsync: Fsync) -> (Self, Writer, mpsc::Receiver<Job>) {
        let (jobs, inbox) = mpsc::channel(JOBS_MAX);
        let writer = Writer::new(shared.clone(), fsync);
        (Self { shared, jobs, writer: None }, writer, inbox)
    }
}

impl Drop for DiskLog {
    /// Writes what was taken, and closes the store in order.
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.jobs, closed));
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log's writer has panicked");
        }
    }
}

impl Log for DiskLog {
    fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    fn append(&self, events: Vec<Stamped>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        async move {
            let (answer, answered) = oneshot::channel();
            let gone = |_| AppendError::Unavailable("the log is closed".to_owned());
            // Waits while too much waits to be written: that is the disk's pace, and publishers feel it.
            self.jobs.send(Job::Append { events, answer }).await.map_err(|_| gone(()))?;
            answered.await.map_err(|_| gone(()))?
        }
        .boxed()
    }

    fn resolve<'a>(
        &'a self,
        last_event_id: Option<&'a LastEventId>,
        replay: Replay,
        matchers: &'a Matchers,
        rights: &'a Rights,
    ) -> BoxFuture<'a, Result<Start, LogError>> {
        let (id, touched) = (last_event_id.cloned(), self.shared.retention.touched(matchers));
        let latest = (id.is_none() && replay == Replay::Latest).then(|| matchers.clone());
        let rights = rights.clone();
        self.shared.clone().blocking(move |shared, store| {
            let place = Place {
                epoch: shared.epoch,
                // Before the floors: what is evicted in between may be told though it needn't be, and not the other way round.
                head: Seq(shared.head.load(Relaxed)),
                floors: store.floors()?,
            };
            if let Some(matchers) = &latest {
                let newest = store.newest(matchers, &rights, place.head)?;
                return Ok(place.latest(newest));
            }
            let known = match &id {
                Some(LastEventId::Publisher(id)) => store.find_id(id, &rights)?,
                _ => None,
            };
            Ok(place.resolve(id.as_ref(), touched, |_| known))
        })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, LogError>> {
        self.shared.clone().blocking(move |_, store| store.read(&read))
    }

    fn newest_under<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<Topic>,
        count_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<Committed>>, LogError>> {
        let prefix = prefix.to_owned();
        self.shared.clone().blocking(move |_, store| store.newest_under(&prefix, after.as_ref(), count_max))
    }

    fn tail(&self) -> Tail {
        self.shared.tail.reader()
    }

    fn expire(&self, now_ms: u64) {
        // A writer that is busy is told the next time.
        let _ = self.jobs.try_send(Job::Expire { now_ms });
    }

    fn head(&self) -> Cursor {
        Cursor { epoch: self.shared.epoch, seq: Seq(self.shared.head.load(Relaxed)) }
    }
}

impl Shared {
    fn open(medium: Box<dyn Medium>, new_epoch: Epoch, retention: Retention) -> Result<Arc<Self>, OpenError> {
        let retention = Arc::new(retention);
        let (store, head) = Store::open_on(&*medium, new_epoch, retention.clone(), CACHE_BYTES)?;
        Ok(Arc::new(Self {
            medium,
            epoch: store.epoch(),
            retention,
            head: AtomicU64::new(head.0),
            tail: TailBuffer::new(head),
            store: RwLock::new(Some(Arc::new(store))),
            is_compacting: watch::Sender::new(false),
        }))
    }

    fn store(&self) -> Option<Arc<Store>> {
        self.store.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The store, once it isn't being compacted.
    async fn store_soon(&self) -> Option<Arc<Store>> {
        let mut compacting = self.is_compacting.subscribe();
        loop {
            // Raised before the store is taken away, and lowered when there is one again.
            let is_compacting = *compacting.borrow_and_update();
            let store = self.store();
            if store.is_some() {
                return store;
            }
            if is_compacting {
                compacting.changed().await.ok()?;
            } else if !compacting.has_changed().ok()? {
                return None;
            }
        }
    }

    fn set_store(&self, store: Option<Arc<Store>>) {
        *self.store.write().unwrap_or_else(std::sync::PoisonError::into_inner) = store;
    }

    fn blocking<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&Self, &Store) -> Result<T, store::Failure> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, LogError>> {
        let unavailable = |why: &str| LogError::Unavailable(why.to_owned());
        async move {
            let store = self.store_soon().await.ok_or_else(|| unavailable("it is closed after an error"))?;
            let shared = self.clone();
            let done = tokio::task::spawn_blocking(move || panics::guarded(|| work(&shared, &store))).await;
            match done.map_err(|error| unavailable(&error.to_string()))? {
                Ok(done) => Ok(done),
                Err(store::Failure::Corrupted(what)) => {
                    tracing::error!(path = %self.medium, "the log is damaged: {what}; put a backup in its place, or see what `fanwire log verify` says");
                    Err(unavailable("it is damaged"))
                }
                Err(error) => Err(unavailable(&error.to_string())),
            }
        }
        .boxed()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskLog").field("medium", &self.medium).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

fn create_private(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(io::ErrorKind::NotADirectory.into()),
        made => made,
    }
}

const FILE: &str = "log.redb";
/// What redb keeps of the file in memory.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// How many appends wait to be written; further ones wait to be taken.
const JOBS_MAX: usize = 1024;
