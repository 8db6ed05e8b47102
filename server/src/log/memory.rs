//! The log in memory: the default. Its history ends with the process; a new one begins a new epoch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanwire_protocol::{Cursor, Epoch, LastEventId, Matchers, Seq};
use futures_util::{FutureExt, future::BoxFuture};

use super::{AppendError, History, Log, LogError, Retention, Stamped, Tail, TailBuffer};
use crate::core::{Page, Read, Start};

/// A log in memory. An append is committed at once.
#[derive(Debug)]
pub struct MemoryLog {
    epoch: Epoch,
    history: Mutex<History>,
    tail: Arc<TailBuffer>,
}

impl MemoryLog {
    /// An empty log. `seed` keys its hash maps.
    pub fn new(epoch: Epoch, retention: Retention, seed: u64) -> Self {
        let history = History::new(epoch, retention, seed);
        let tail = TailBuffer::new(history.head().seq);
        Self { epoch, history: Mutex::new(history), tail }
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        // A panic under the lock would be a bug of History's own; serving what it holds beats serving nothing.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_now(&self, events: Vec<Stamped>) -> Result<Vec<Cursor>, AppendError> {
        let mut history = self.lock();
        if events.len() as u64 > Seq::MAX.0 - history.head().seq.0 {
            return Err(AppendError::Exhausted);
        }
        let committed: Option<Vec<_>> = events.into_iter().map(|event| history.append(event)).collect();
        let committed = committed.ok_or(AppendError::Exhausted)?;
        let cursors = committed.iter().map(|event| event.cursor).collect();
        // Under the lock, so that the tail is in the log's order.
        self.tail.push(committed);
        Ok(cursors)
    }
}

impl Log for MemoryLog {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn append(&self, events: Vec<Stamped>) -> BoxFuture<'_, Result<Vec<Cursor>, AppendError>> {
        std::future::ready(self.append_now(events)).boxed()
    }

    fn resolve<'a>(
        &'a self,
        last_event_id: Option<&'a LastEventId>,
        matchers: &'a Matchers,
    ) -> BoxFuture<'a, Result<Start, LogError>> {
        std::future::ready(Ok(self.lock().resolve(last_event_id, matchers))).boxed()
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, LogError>> {
        std::future::ready(Ok(self.lock().read(&read))).boxed()
    }

    fn tail(&self) -> Tail {
        self.tail.reader()
    }

    fn expire(&self, now_ms: u64) {
        while self.lock().expire(now_ms) {}
    }

    fn head(&self) -> Cursor {
        self.lock().head()
    }
}
