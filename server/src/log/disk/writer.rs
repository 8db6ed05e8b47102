//! The one thread that writes.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use fanwire_protocol::{Cursor, Seq};
use tokio::sync::{mpsc, oneshot};

use super::{CACHE_BYTES, Fsync, Shared, Store, store::Failure};
use crate::log::{AppendError, Stamped};

/// What the writer is asked for.
pub(super) enum Job {
    Append { events: Vec<Stamped>, answer: oneshot::Sender<Result<Vec<Cursor>, AppendError>> },
    Expire { now_ms: u64 },
}

type Waiting = Vec<(usize, oneshot::Sender<Result<Vec<Cursor>, AppendError>>)>;

pub(super) struct Writer {
    shared: Arc<Shared>,
    fsync: Fsync,
    /// When what is unsynced has to be.
    sync_by: Option<Instant>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, fsync: Fsync) -> Self {
        Self { shared, fsync, sync_by: None }
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
        let Some(store) = self.shared.store() else { return };
        if let Err(error) = store.close() {
            tracing::error!(%error, "the log wasn't closed in order");
        }
    }

    fn work(&mut self, jobs: impl Iterator<Item = Job>) {
        let (mut events, mut waiting, mut expire) = (Vec::new(), Waiting::new(), None);
        for job in jobs {
            match job {
                Job::Append { events: more, answer } => {
                    waiting.push((more.len(), answer));
                    events.extend(more);
                }
                Job::Expire { now_ms } => expire = Some(now_ms),
            }
        }
        if !waiting.is_empty() {
            let outcome = self.append(events);
            answer(waiting, outcome);
        }
        if let Some(now_ms) = expire
            && let Some(store) = self.open_store()
            && let Err(error) = store.expire(now_ms)
        {
            self.give_up(store, &error);
        }
    }

    fn append(&mut self, events: Vec<Stamped>) -> Result<Vec<Cursor>, AppendError> {
        let head = Seq(self.shared.head.load(Relaxed));
        if events.len() as u64 > Seq::MAX.0 - head.0 {
            return Err(AppendError::Exhausted);
        }
        let closed =
            || AppendError::Unavailable("its store is closed after an error, and can't be opened again".to_owned());
        let store = self.open_store().ok_or_else(closed)?;
        let committed = match store.append(head, events, self.fsync == Fsync::Always) {
            Ok(committed) => committed,
            Err(error) => {
                let said = AppendError::Unavailable(error.to_string());
                self.give_up(store, &error);
                return Err(said);
            }
        };
        if let Fsync::Interval(interval) = self.fsync {
            self.sync_by.get_or_insert(Instant::now() + interval);
        }
        if let Some(last) = committed.last() {
            self.shared.head.store(last.seq().0, Relaxed);
        }
        let cursors = committed.iter().map(|event| event.cursor).collect();
        self.shared.tail.push(committed);
        Ok(cursors)
    }

    fn sync(&mut self) {
        self.sync_by = None;
        let Some(store) = self.open_store() else { return };
        if let Err(error) = store.sync() {
            self.give_up(store, &error);
        }
    }

    /// The store; one that failed before is opened again, since a disk that was full may have room now.
    fn open_store(&self) -> Option<Arc<Store>> {
        if let Some(store) = self.shared.store() {
            return Some(store);
        }
        let Shared { path, epoch, retention, .. } = &*self.shared;
        match Store::open(path, *epoch, retention.clone(), CACHE_BYTES) {
            Ok((store, head)) => {
                // A commit that failed may have been stored all the same, or numbers were reserved: live feeds look at history.
                if self.shared.head.fetch_max(head.0, Relaxed) < head.0 {
                    self.shared.tail.jump(head);
                }
                let store = Arc::new(store);
                self.shared.set_store(Some(store.clone()));
                tracing::info!("the log is open again");
                Some(store)
            }
            Err(error) => {
                tracing::error!(%error, "the log can't be opened again");
                None
            }
        }
    }

    /// After an error the database takes nothing more until it is opened anew.
    fn give_up(&self, store: Arc<Store>, error: &Failure) {
        tracing::error!(%error, "the log can't be written: nothing is acknowledged until it can");
        self.shared.set_store(None);
        drop(store);
        // Readers that still hold it are soon done; the lock on the file goes with the last.
        let began = Instant::now();
        while self.open_store().is_none() && began.elapsed() < REOPEN_MAX {
            std::thread::park_timeout(REOPEN_PAUSE);
        }
    }
}

fn answer(waiting: Waiting, outcome: Result<Vec<Cursor>, AppendError>) {
    let mut cursors = outcome.as_ref().map(Vec::as_slice).unwrap_or_default();
    for (count, answer) in waiting {
        let (own, rest) = cursors.split_at(count.min(cursors.len()));
        cursors = rest;
        // A publisher that is gone has no use for it.
        let _ = answer.send(outcome.as_ref().map(|_| own.to_vec()).map_err(Clone::clone));
    }
}

/// How many appends share a transaction, and its sync.
const BATCH_MAX: usize = 1024;
const REOPEN_MAX: Duration = Duration::from_secs(1);
const REOPEN_PAUSE: Duration = Duration::from_millis(20);
