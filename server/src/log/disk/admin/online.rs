//! The operator's work on a log that a hub serves.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use fanwire_protocol::Seq;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{Mutex, OwnedMutexGuard, RwLock, oneshot};

use super::{
    super::{
        FILE,
        meter::{self, Watch},
        panics::guarded,
        store::{self, Store},
        writer::Job,
    },
    Admin, AdminError, Backup, Bounds, Compacted, Progress, Stat, Verdict, backup, verify,
};
use crate::{
    core::{Page, Read},
    hub::now_ms,
    log::{Appended, DiskLog, Log, LogError, Stamped},
};

/// A log on disk that a hub serves.
#[derive(Debug)]
pub struct ServedLog {
    log: Arc<DiskLog>,
    path: PathBuf,
    /// Held by work that takes long: one at a time.
    work: Arc<Mutex<()>>,
    /// Shared by reads that may take a while, so that compacting the log begins when they are done.
    reads: Arc<RwLock<()>>,
}

impl ServedLog {
    /// The log that a hub has opened in a directory.
    pub fn new(log: Arc<DiskLog>, directory: &Path) -> Self {
        Self { log, path: directory.join(FILE), work: Arc::default(), reads: Arc::default() }
    }

    /// Does long work on one moment of the store. It ends with an error if the disk fails meanwhile, since the file may change then.
    async fn long_work<T: Send + 'static>(
        &self,
        progress: Progress,
        work: impl FnOnce(&Store, &mut dyn FnMut(u64, u64) -> Result<(), AdminError>) -> Result<T, AdminError>
        + Send
        + 'static,
    ) -> Result<T, AdminError> {
        let alone = self.alone()?;
        let shared = self.log.shared.clone();
        let unavailable = |why: &str| AdminError::Read(LogError::Unavailable(why.to_owned()));
        let store = shared.store_soon().await.ok_or_else(|| unavailable("it is closed after an error"))?;
        let run = move || {
            // For as long as it runs, also when nobody waits for it any more.
            let _alone = alone;
            let mut tick = |done, total| {
                if !shared.store().is_some_and(|current| Arc::ptr_eq(&current, &store)) {
                    return Err(unavailable("its disk failed meanwhile"));
                }
                progress.report(done, Some(total))
            };
            guarded(|| work(&store, &mut tick))
        };
        tokio::task::spawn_blocking(run).await.unwrap_or_else(|error| Err(unavailable(&error.to_string())))
    }

    fn alone(&self) -> Result<OwnedMutexGuard<()>, AdminError> {
        self.work.clone().try_lock_owned().map_err(|_| AdminError::Busy)
    }

    fn file_bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }
}

impl Admin for ServedLog {
    fn stat(self: Arc<Self>) -> BoxFuture<'static, Result<Stat, AdminError>> {
        let stat = async move {
            let reading = self.reads.clone().read_owned().await;
            let stat = self.log.shared.clone().blocking(move |shared, store| {
                let _reading = reading;
                let head = Seq(shared.head.load(Relaxed));
                Stat::of(store, &self.path, head, true)
            });
            Ok(stat.await?)
        };
        stat.boxed()
    }

    fn bounds(&self) -> BoxFuture<'_, Result<Bounds, AdminError>> {
        let bounds = self.log.shared.clone().blocking(|shared, store| {
            let head = Seq(shared.head.load(Relaxed));
            Ok(Bounds { epoch: shared.epoch, head, floors: store.floors()? })
        });
        bounds.map(|bounds| Ok(bounds?)).boxed()
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, AdminError>> {
        self.log.read(read).map(|page| Ok(page?)).boxed()
    }

    fn append(&self, events: Vec<Stamped>) -> BoxFuture<'_, Result<Vec<Appended>, AdminError>> {
        self.log.append(events).map(|appended| Ok(appended?)).boxed()
    }

    fn verify(self: Arc<Self>, progress: Progress) -> BoxFuture<'static, Result<Verdict, AdminError>> {
        let work = async move {
            self.long_work(progress, |store, tick| verify::verify(store.database(), store.retention(), tick)).await
        };
        work.boxed()
    }

    fn compact(self: Arc<Self>, progress: Progress) -> BoxFuture<'static, Result<Compacted, AdminError>> {
        let work = async move {
            let alone = self.alone()?;
            // While publishers go on.
            let used_bytes = self.log.shared.clone().blocking(|_, store| store::used_bytes(store.database())).await?;
            let bytes_before = self.file_bytes();
            if bytes_before <= meter::enough(used_bytes) {
                return Ok(Compacted { bytes_before, bytes_after: bytes_before });
            }
            let reads = self.reads.write().await;
            let closed = || AdminError::Compact("the log is closed".to_owned());
            let (answer, answered) = oneshot::channel();
            let watch = Watch::new(progress, bytes_before, used_bytes);
            self.log.jobs.send(Job::Compact { watch, answer }).await.map_err(|_| closed())?;
            let outcome = answered.await;
            drop((alone, reads));
            let compacted = outcome.map_err(|_| closed())?;
            // What is written next may make it longer, where nothing is stored yet.
            let bytes_after = compacted.map_err(|error| AdminError::Compact(error.to_string()))?;
            Ok(Compacted { bytes_before, bytes_after })
        };
        work.boxed()
    }

    fn backup(
        self: Arc<Self>,
        destination: PathBuf,
        progress: Progress,
    ) -> BoxFuture<'static, Result<Backup, AdminError>> {
        let work = async move {
            let compacting = progress.clone();
            let copy = move |store: &Store, tick: &mut dyn FnMut(u64, u64) -> Result<(), AdminError>| {
                backup::backup(store.database(), &destination, now_ms(), compacting, tick)
            };
            self.long_work(progress, copy).await
        };
        work.boxed()
    }
}
