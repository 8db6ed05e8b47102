//! The operator's work on a log that no hub serves.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use fanwire_protocol::Seq;
use futures_util::{FutureExt, future::BoxFuture};

use super::{
    super::{CACHE_BYTES, DiskLogError, FILE, store::Store},
    Admin, AdminError, Bounds, Stat,
};
use crate::{
    core::{Page, Read},
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
}

impl StoppedLog {
    /// Opens the log in a directory; there has to be one.
    pub fn open(directory: &Path) -> Result<Self, AdminError> {
        let path = directory.join(FILE);
        let found = path.try_exists();
        let found = found.map_err(|source| DiskLogError::Directory { path: directory.to_owned(), source })?;
        if !found {
            return Err(AdminError::NoLog { directory: directory.to_owned() });
        }
        let (store, head) =
            Store::inspect(&path, CACHE_BYTES).map_err(|source| DiskLogError::Store { path: path.clone(), source })?;
        let state = Mutex::new(State { store: Some(store), head, is_writable: false });
        Ok(Self { opened: Arc::new(Opened { path, state }) })
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &mut State) -> Result<T, AdminError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, AdminError>> {
        let opened = self.opened.clone();
        let run = move || work(&opened.path, &mut opened.state.lock().unwrap_or_else(PoisonError::into_inner));
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
