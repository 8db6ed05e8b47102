//! The committed tail: how a log feeds the shards.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fanwire_protocol::Seq;
use tokio::sync::watch;

use crate::core::Committed;

/// The last events that a log has committed, for every shard to take at its own pace.
///
/// It is bounded and never makes a publisher wait: a shard that falls behind further than it reaches is told so, and its feeds
/// catch up from history.
#[derive(Debug)]
pub struct TailBuffer {
    recent: Mutex<Recent>,
    head: watch::Sender<Seq>,
}

#[derive(Debug)]
struct Recent {
    events: VecDeque<Arc<Committed>>,
    bytes: usize,
    /// The buffer holds every event above this one.
    floor: Seq,
    head: Seq,
}

/// One shard's place in a [`TailBuffer`].
#[derive(Debug)]
pub struct Tail {
    buffer: Arc<TailBuffer>,
    head: watch::Receiver<Seq>,
    position: Seq,
}

/// A step along the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailStep {
    /// Every event up to this number was given.
    Upto(Seq),
    /// The tail went on without this reader; it goes on after this number.
    Skipped(Seq),
}

impl TailBuffer {
    /// A tail that begins after `head`.
    pub fn new(head: Seq) -> Arc<Self> {
        let recent = Recent { events: VecDeque::new(), bytes: 0, floor: head, head };
        Arc::new(Self { recent: Mutex::new(recent), head: watch::Sender::new(head) })
    }

    /// Adds what was committed, in order. The caller makes sure that calls are in order too.
    pub fn push(&self, events: impl IntoIterator<Item = Arc<Committed>>) {
        let head = {
            let mut recent = self.lock();
            for event in events {
                recent.bytes += event.draft.cost();
                recent.head = event.seq();
                recent.events.push_back(event);
            }
            while recent.events.len() > EVENTS_MAX || recent.bytes > BYTES_MAX && recent.events.len() > 1 {
                let Some(event) = recent.events.pop_front() else { break };
                recent.bytes -= event.draft.cost();
                recent.floor = event.seq();
            }
            recent.head
        };
        self.head.send_replace(head);
    }

    /// A reader of what is committed from now on.
    pub fn reader(self: &Arc<Self>) -> Tail {
        let head = self.head.subscribe();
        let position = self.lock().head;
        Tail { buffer: self.clone(), head, position }
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        // Nothing that runs under the lock leaves it half done when it unwinds.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    /// Where this reader is: what comes is above.
    pub fn position(&self) -> Seq {
        self.position
    }

    /// Waits until there is something, and puts a bounded batch of it into `batch`. `None` when the log is gone.
    pub async fn next(&mut self, batch: &mut Vec<Arc<Committed>>) -> Option<TailStep> {
        let position = self.position;
        self.head.wait_for(|&head| head > position).await.ok()?;
        let recent = self.buffer.lock();
        if self.position < recent.floor {
            self.position = recent.head;
            return Some(TailStep::Skipped(self.position));
        }
        let start = recent.events.partition_point(|event| event.seq() <= position);
        batch.extend(recent.events.range(start..).take(BATCH_MAX).cloned());
        self.position = batch.last().map_or(recent.head, |event| event.seq());
        Some(TailStep::Upto(self.position))
    }
}

/// The most events that a tail holds: more than a batch may have, which is pushed at once.
const EVENTS_MAX: usize = 16_384;
/// The most bytes of events that a tail holds, one event excepted.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most events of one step. Fewer than a feed holds, so that a feed that is up to date takes them before the next step.
const BATCH_MAX: usize = 64;
