//! The log in memory: the default. Its history ends with the process; a new one begins a new epoch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanwire_protocol::{Cursor, Epoch, LastEventId, Matchers, Seq, Topic};
use futures_util::{FutureExt, future::BoxFuture};

use super::{
    AppendError, Appended, History, Log, LogError, Replay, Retention, Stamped, Tail, TailBuffer,
    idempotency::RecentKeys,
};
use crate::core::{Committed, Page, Read, Rights, Start};

#[derive(Debug)]
struct Kept {
    history: History,
    keys: RecentKeys,
}

/// A log in memory. An append is committed at once.
#[derive(Debug)]
pub struct MemoryLog {
    epoch: Epoch,
    kept: Mutex<Kept>,
    tail: Arc<TailBuffer>,
}

impl MemoryLog {
    /// An empty log. `seed` keys its hash maps.
    pub fn new(epoch: Epoch, retention: Retention, seed: u64) -> Self {
        let keys = RecentKeys::new(retention.keys(), seed);
        let history = History::new(epoch, retention, seed);
        let tail = TailBuffer::new(history.head().seq);
        Self { epoch, kept: Mutex::new(Kept { history, keys }), tail }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic under the lock would be a bug of History's own; serving what it holds beats serving nothing.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_now(&self, events: Vec<Stamped>) -> Result<Vec<Appended>, AppendError> {
        let mut kept = self.lock();
        if events.len() as u64 > Seq::MAX.0 - kept.history.head().seq.0 {
            return Err(AppendError::Exhausted);
        }
        let (mut appended, mut committed) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        for event in events {
            let (key, at_ms) = (event.key, event.at_ms);
            if let Some(key) = &key
                && let Some(known) = kept.keys.get(key)
            {
                appended.push(known.answer(key, self.epoch));
                continue;
            }
            let event = kept.history.append(event).ok_or(AppendError::Exhausted)?;
            if let Some(key) = &key {
                kept.keys.insert(key, event.seq(), key.given_ms.unwrap_or(at_ms));
            }
            appended.push(Appended::New(event.cursor));
            committed.push(event);
        }
        // Under the lock, so that the tail is in the log's order.
        self.tail.push(committed);
        Ok(appended)
    }
}

impl Log for MemoryLog {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn append(&self, events: Vec<Stamped>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        std::future::ready(self.append_now(events)).boxed()
    }

    fn resolve<'a>(
        &'a self,
        last_event_id: Option<&'a LastEventId>,
        replay: Replay,
        matchers: &'a Matchers,
        rights: &'a Rights,
    ) -> BoxFuture<'a, Result<Start, LogError>> {
        std::future::ready(Ok(self.lock().history.resolve(last_event_id, replay, matchers, rights))).boxed()
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, LogError>> {
        let looked = self.lock().history.look(&read);
        std::future::ready(Ok(looked.page(&read))).boxed()
    }

    fn newest_under<'a>(
        &'a self,
        _: &'a str,
        _: Option<Topic>,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<Committed>>, LogError>> {
        // Asked of what an earlier run has left, and there is none.
        std::future::ready(Ok(vec![])).boxed()
    }

    fn tail(&self) -> Tail {
        self.tail.reader()
    }

    fn expire(&self, now_ms: u64) {
        while self.lock().history.expire(now_ms) {}
        while self.lock().keys.expire(now_ms) {}
    }

    fn head(&self) -> Cursor {
        self.lock().history.head()
    }
}
