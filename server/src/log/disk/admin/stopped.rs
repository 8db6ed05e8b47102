//! The operator's work on a log that no hub serves.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use fanwire_protocol::Seq;
use futures_util::{FutureExt, future::BoxFuture};

use super::{
    super::{
        CACHE_BYTES, DiskLogError, FILE, OpenError,
        medium::StoreFile,
        meter::{self, Watch},
        panics::guarded,
        store::{self, Store},
    },
    Admin, AdminError, Backup, Bounds, Compacted, Progress, Stat, Verdict, backup, verify,
};
use crate::{
    core::{Page, Read},
    hub::now_ms,
    log::{AppendError, Appended, LogError, Stamped},
};

/// A log on disk that no hub serves. Until something is appended to it, nothing in it changes.
#[derive(Debug)]
pub struct StoppedLog {
    opened: Arc<Opened>,
}

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// None after an error.
    store: Option<Store>,
    head: Seq,
    /// It is open to be written, and to be closed in order.
    is_writable: bool,
    file: FileCheck,
}

/// What is known of the file's own checksums.
#[derive(Debug)]
enum FileCheck {
    Unchecked,
    Sound,
    Damaged(String),
}

impl StoppedLog {
    /// Opens the log in a directory; there has to be one. `check_file`: checks its file first, checksum by checksum, for
    /// [`Admin::verify`]; what of a damaged one can be read is open.
    pub fn open(directory: &Path, check_file: bool) -> Result<Self, AdminError> {
        let path = directory.join(FILE);
        let found = path.try_exists();
        let found = found.map_err(|source| DiskLogError::Directory { path: directory.to_owned(), source })?;
        if !found {
            return Err(AdminError::NoLog { directory: directory.to_owned() });
        }
        let inspect = |check_file| guarded(|| Store::inspect(&path, check_file, CACHE_BYTES));
        let (opened, file) = match inspect(check_file) {
            Err(OpenError::Damaged(why)) if check_file => match inspect(false) {
                // It can't be opened at all.
                Err(OpenError::Damaged(_)) => (None, FileCheck::Damaged(why.into())),
                opened => (Some(opened), FileCheck::Damaged(why.into())),
            },
            opened if check_file => (Some(opened), FileCheck::Sound),
            opened => (Some(opened), FileCheck::Unchecked),
        };
        let opened = opened.transpose().map_err(|source| DiskLogError::Store { path: path.clone(), source })?;
        let (store, head) = opened.map_or((None, Seq::ZERO), |(store, head)| (Some(store), head));
        let state = Mutex::new(State { store, head, is_writable: false, file });
        Ok(Self { opened: Arc::new(Opened { path, state }) })
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &mut State) -> Result<T, AdminError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, AdminError>> {
        let opened = self.opened.clone();
        let run = move || {
            let mut state = opened.state.lock().unwrap_or_else(PoisonError::into_inner);
            guarded(|| work(&opened.path, &mut state))
        };
        let done = tokio::task::spawn_blocking(run);
        done.map(|done| done.unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string()).into()))).boxed()
    }
}

impl Admin for StoppedLog {
    fn stat(self: Arc<Self>) -> BoxFuture<'static, Result<Stat, AdminError>> {
        self.blocking(|path, state| Ok(Stat::of(state.store()?, path, state.head, false)?))
    }

    fn bounds(&self) -> BoxFuture<'_, Result<Bounds, AdminError>> {
        self.blocking(|_, state| {
            let store = state.store()?;
            Ok(Bounds { epoch: store.epoch(), head: state.head, floors: store.floors()? })
        })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, AdminError>> {
        self.blocking(move |_, state| Ok(state.store()?.read(&read)?))
    }

    fn append(&self, events: Vec<Stamped>) -> BoxFuture<'_, Result<Vec<Appended>, AdminError>> {
        self.blocking(move |path, state| state.append(path, events))
    }

    fn verify(self: Arc<Self>, progress: Progress) -> BoxFuture<'static, Result<Verdict, AdminError>> {
        self.blocking(move |_, state| {
            let mut verdict = Verdict::default();
            if let Some(store) = &state.store {
                let tick = |done, total| progress.report(done, Some(total));
                verdict = verify::verify(store.database(), store.retention(), tick)?;
            }
            Ok(match &state.file {
                FileCheck::Unchecked => verdict,
                FileCheck::Sound => Verdict { has_checked_file: true, ..verdict },
                FileCheck::Damaged(why) => verdict.with_damaged_file(why),
            })
        })
    }

    fn compact(self: Arc<Self>, progress: Progress) -> BoxFuture<'static, Result<Compacted, AdminError>> {
        self.blocking(|path, state| state.compact(path, progress))
    }

    fn backup(
        self: Arc<Self>,
        destination: PathBuf,
        progress: Progress,
    ) -> BoxFuture<'static, Result<Backup, AdminError>> {
        self.blocking(move |_, state| {
            let tick = |done, total| progress.report(done, Some(total));
            backup::backup(state.store()?.database(), &destination, now_ms(), progress.clone(), tick)
        })
    }
}

impl State {
    fn store(&self) -> Result<&Store, AdminError> {
        self.store.as_ref().ok_or_else(|| LogError::Unavailable("it is closed after an error".to_owned()).into())
    }

    fn make_writable(&mut self, path: &Path) -> Result<(), AdminError> {
        if self.is_writable {
            return Ok(());
        }
        let (epoch, retention) = (self.store()?.epoch(), self.store()?.retention().clone());
        // What reads it holds the lock.
        self.store = None;
        let opened = Store::open(path, epoch, retention, CACHE_BYTES);
        let (store, head) = opened.map_err(|source| DiskLogError::Store { path: path.to_owned(), source })?;
        (self.store, self.head, self.is_writable) = (Some(store), head, true);
        Ok(())
    }

    fn compact(&mut self, path: &Path, progress: Progress) -> Result<Compacted, AdminError> {
        let bytes = || fs::metadata(path).map_or(0, |file| file.len());
        let (bytes_before, used_bytes) = (bytes(), store::used_bytes(self.store()?.database())?);
        if bytes_before > meter::enough(used_bytes) {
            // What reads it holds the lock.
            self.store = None;
            let watch = Watch::new(progress, bytes_before, used_bytes).with_check(used_bytes);
            let compacted = store::compact_file(&StoreFile::new(path), true, CACHE_BYTES, watch);
            if !compacted.map_err(|source| DiskLogError::Store { path: path.to_owned(), source })? {
                return Err(AdminError::Cancelled);
            }
        }
        Ok(Compacted { bytes_before, bytes_after: bytes() })
    }

    fn append(&mut self, path: &Path, events: Vec<Stamped>) -> Result<Vec<Appended>, AdminError> {
        self.make_writable(path)?;
        if events.len() as u64 > Seq::MAX.0 - self.head.0 {
            return Err(AppendError::Exhausted.into());
        }
        let done = self.store()?.append(self.head, events, true);
        let (appended, committed) = done.map_err(|error| AppendError::Unavailable(error.to_string()))?;
        self.head = committed.last().map_or(self.head, |last| last.seq());
        Ok(appended)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.is_writable
            && let Some(store) = &self.store
            && let Err(error) = store.close()
        {
            tracing::error!(%error, "the log wasn't closed in order");
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("head", &self.head).finish_non_exhaustive()
    }
}
