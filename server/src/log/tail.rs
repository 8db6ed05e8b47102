//! The committed tail: how a log feeds the shards.

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use fanwire_protocol::Seq;

use crate::core::Committed;

/// The last events that a log has committed, for every shard to take at its own pace.
///
/// It is bounded and never makes a publisher wait: a shard that falls behind further than it reaches is told so, and its feeds
/// catch up from history.
#[derive(Debug)]
pub struct TailBuffer {
    recent: Mutex<Recent>,
}

#[derive(Debug)]
struct Recent {
    events: VecDeque<Arc<Committed>>,
    /// When the first of them was taken; whatever, if there is none. Kept here since that event itself may be far away in memory.
    oldest_ms: u64,
    bytes: usize,
    /// The buffer holds every event above this one.
    floor: Seq,
    head: Seq,
    /// Readers that wait for more.
    waiting: Vec<Waker>,
}

impl Recent {
    fn new(head: Seq) -> Self {
        Self { events: VecDeque::new(), oldest_ms: 0, bytes: 0, floor: head, head, waiting: Vec::new() }
    }

    /// Where the events after a position begin. Looked for from the end: a reader is near it, and each event that is looked at may be
    /// far away in memory.
    fn first_after(&self, position: Seq) -> usize {
        let (count, mut from_end) = (self.events.len(), 1);
        while from_end < count && self.events[count - from_end].seq() > position {
            from_end *= 2;
        }
        let (mut low, mut high) = (count.saturating_sub(from_end), count);
        while low < high {
            let middle = low + (high - low) / 2;
            (low, high) = if self.events[middle].seq() <= position { (middle + 1, high) } else { (low, middle) };
        }
        low
    }

    fn trim(&mut self) {
        let newest_ms = self.events.back().map_or(0, |event| event.at_ms);
        while self.events.len() > EVENTS_MAX
            || self.bytes > BYTES_MAX && self.events.len() > 1
            || newest_ms.saturating_sub(self.oldest_ms) > AGE_MS_MAX
        {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.cost();
            self.floor = oldest.seq();
            self.oldest_ms = self.events.front().map_or(newest_ms, |event| event.at_ms);
        }
    }
}

/// One shard's place in a [`TailBuffer`].
#[derive(Debug)]
pub struct Tail {
    buffer: Arc<TailBuffer>,
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
        Arc::new(Self { recent: Mutex::new(Recent::new(head)) })
    }

    /// Adds what was committed, in order. The caller makes sure that calls are in order too.
    pub fn push(&self, events: impl IntoIterator<Item = Arc<Committed>>) {
        let waiting = {
            let mut recent = self.lock();
            for event in events {
                if recent.events.is_empty() {
                    recent.oldest_ms = event.at_ms;
                }
                recent.bytes += event.cost();
                recent.head = event.seq();
                recent.events.push_back(event);
            }
            recent.trim();
            mem::take(&mut recent.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The log has got to `head` by another way: whoever reads the tail catches up from history.
    pub fn jump(&self, head: Seq) {
        let waiting = {
            let mut recent = self.lock();
            let waiting = mem::take(&mut recent.waiting);
            *recent = Recent::new(head);
            waiting
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// A reader of what is committed from now on.
    pub fn reader(self: &Arc<Self>) -> Tail {
        let position = self.lock().head;
        Tail { buffer: self.clone(), position }
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

    /// Waits until there is something, and puts a bounded batch of it into `batch`.
    pub async fn next(&mut self, batch: &mut Vec<Arc<Committed>>) -> TailStep {
        poll_fn(|cx| self.poll_next(cx, batch)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Arc<Committed>>) -> Poll<TailStep> {
        let mut recent = self.buffer.lock();
        if recent.head <= self.position {
            // A reader that gave up waiting may be in there still.
            if !recent.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                recent.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        if self.position < recent.floor {
            self.position = recent.head;
            return Poll::Ready(TailStep::Skipped(self.position));
        }
        let start = recent.first_after(self.position);
        batch.extend(recent.events.range(start..).take(BATCH_MAX).cloned());
        self.position = batch.last().map_or(recent.head, |event| event.seq());
        Poll::Ready(TailStep::Upto(self.position))
    }
}

/// The most events that a tail holds: more than a batch may have, which is pushed at once.
const EVENTS_MAX: usize = 16_384;
/// The most bytes of events that a tail holds, one event excepted.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How much older than its newest event a tail's oldest may be: a shard that is so far behind has other troubles.
const AGE_MS_MAX: u64 = 10_000;
/// The most events of one step. No more than a feed holds, so that a feed that is up to date takes them before the next step.
const BATCH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use fanwire_protocol::{Cursor, Data, Draft, Epoch, Event, Topic};

    use super::*;

    fn event(seq: u64) -> Arc<Committed> {
        let draft = Draft::new(vec![Topic::new("a").unwrap()], Data::text("")).unwrap();
        let cursor = Cursor { epoch: Epoch::from_bits(1), seq: Seq(seq) };
        Arc::new(Committed::new(Event { cursor, at_ms: 0, draft }))
    }

    #[test]
    fn a_place_is_found_however_far_from_the_end() {
        for count in 0..40 {
            // Numbers may skip.
            let events: VecDeque<_> = (1..=count).map(|number| event(number * 2)).collect();
            let recent = Recent { events, ..Recent::new(Seq(count * 2)) };
            for position in 0..=count * 2 + 1 {
                let all = recent.events.partition_point(|event| event.seq() <= Seq(position));
                assert_eq!(recent.first_after(Seq(position)), all, "{position} of {count}");
            }
        }
    }

    #[tokio::test]
    async fn who_falls_behind_or_is_jumped_over_is_told() {
        let buffer = TailBuffer::new(Seq(0));
        let (mut quick, mut slow) = (buffer.reader(), buffer.reader());
        let mut batch = vec![];
        buffer.push([event(1), event(2)]);
        assert_eq!((quick.next(&mut batch).await, batch.len()), (TailStep::Upto(Seq(2)), 2));
        buffer.jump(Seq(9));
        assert_eq!(quick.next(&mut batch).await, TailStep::Skipped(Seq(9)));
        buffer.push((10..=200).map(event));
        assert_eq!(slow.next(&mut batch).await, TailStep::Skipped(Seq(200)));
        batch.clear();
        assert_eq!(quick.next(&mut batch).await, TailStep::Upto(Seq(9 + BATCH_MAX as u64)));
        assert_eq!(batch[0].seq(), Seq(10));
        let last = EVENTS_MAX as u64 + 300;
        buffer.push((201..=last).map(event));
        assert_eq!(slow.next(&mut batch).await, TailStep::Skipped(Seq(last)));
    }
}
