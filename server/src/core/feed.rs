//! One subscriber's feed: a cursor on the log, and the little that waits to be taken.

use std::{collections::VecDeque, mem, sync::Arc};

use fanwire_protocol::{
    Cursor, Matchers, Seq,
    message::{Bye, Changed, Gap, GapReason, Ping},
};

use super::{
    Committed, Floors, Item, Latest, LeaseOf, Limits, Losses, PageItem, Rights, Shared, Time, newest::Newest,
    queue::Queue,
};

#[derive(Debug)]
pub(super) struct Feed {
    pub(super) matchers: Arc<Matchers>,
    pub(super) rights: Rights,
    pub(super) told: Option<Floors>,
    /// What is wanted of the history up to a number, where that isn't everything.
    pub(super) latest: Option<Latest>,
    pub(super) phase: Phase,
    /// While the feed isn't live: everything up to here was queued, taken, told as a gap, or isn't this feed's.
    /// A live feed is complete up to the shard's head.
    pub(super) position: Seq,
    /// The last event queued, or what the feed started at or was set to by a gap.
    prev: Seq,
    queue: Queue,
    queue_bytes: usize,
    /// Live events wait here, and not in the queue, where the newest of a topic wins.
    pub(super) newest: Option<Box<Newest>>,
    /// A stretch in which events may be missing, to be told before the next thing that is. Until then it may grow: events that
    /// this feed may not see don't show by splitting it.
    untold_gap: Option<(Seq, Seq)>,
    /// Changes of matchers or rights that hold from a number that this feed hasn't reached yet.
    pub(super) changes: VecDeque<PendingChange>,
    pub(super) heartbeat_ms: u64,
    /// When the last ping was taken.
    pub(super) pinged_at: Time,
    /// When the queue was last empty, or something was taken from it.
    pub(super) unstalled_at: Time,
    pub(super) ping_due: bool,
    /// The caller was told that there is something to take, and hasn't taken yet.
    pub(super) woken: bool,
    pub(super) token: u64,
    /// The feed ends so as soon as it is live.
    pub(super) farewell: Option<Bye>,
    /// When the feed ends, come what may.
    pub(super) ends_at: Option<(Time, LeaseOf)>,
    /// When the feed is cut, if its reader hasn't taken its bye by then.
    pub(super) cut_at: Option<Time>,
    /// The one alarm that counts.
    pub(super) alarm_at: Time,
    /// The code of the bye that the hub has ended it with, if it has.
    pub(super) ended: Option<u32>,
    /// Ended because its reader takes nothing: whoever is blocked on writing to it should give up.
    pub(super) cut: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Everything up to the shard's head was looked at.
    Live,
    /// History after `position` is to be read once the queue is empty.
    Behind,
    /// History is being read.
    Reading(Reading),
    /// A bye is queued, or was taken; nothing follows.
    Ended,
}

/// A read under way, and what was committed meanwhile.
#[derive(Debug)]
pub(super) struct Reading {
    upto: Seq,
    /// It ends where the shard was, so that what came later is all that follows.
    joins: bool,
    /// Live events above `upto`.
    later: VecDeque<Shared>,
    later_bytes: usize,
    overflowed: bool,
}

#[derive(Debug)]
pub(super) struct PendingChange {
    pub(super) from_seq: Seq,
    pub(super) request_id: u64,
    pub(super) matchers: Arc<Matchers>,
    pub(super) rights: Rights,
}

/// What a page did to a feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AfterPage {
    /// The feed is live again.
    Live,
    /// More history is wanted.
    Behind,
    /// The feed has reached a change of its matchers or rights.
    AtChange,
}

impl Feed {
    pub(super) fn new(matchers: Matchers, rights: Rights, start: Seq, heartbeat_ms: u64, now: Time) -> Self {
        Self {
            matchers: Arc::new(matchers),
            rights,
            told: None,
            latest: None,
            phase: Phase::Behind,
            position: start,
            prev: start,
            queue: Queue::default(),
            queue_bytes: 0,
            newest: None,
            untold_gap: None,
            changes: VecDeque::new(),
            heartbeat_ms,
            pinged_at: now,
            unstalled_at: now,
            ping_due: false,
            woken: false,
            token: 0,
            farewell: None,
            ends_at: None,
            cut_at: None,
            alarm_at: now,
            ended: None,
            cut: false,
        }
    }

    /// Looks at a live event that the matchers take. True if it was queued.
    pub(super) fn offer(&mut self, event: &Shared, limits: &Limits, losses: &mut Losses) -> bool {
        if event.seq() <= self.prev || !self.rights.allow(event) {
            return false;
        }
        if let Some(newest) = &mut self.newest {
            let is_over = matches!(self.phase, Phase::Ended);
            return !is_over && newest.offer(event, limits, losses) && self.is_live();
        }
        if let Phase::Reading(reading) = &mut self.phase {
            reading.offer(event, limits);
        }
        if !self.is_live() || event.seq() <= self.position {
            return false;
        }
        if !self.has_room(event, limits) {
            self.fall_behind(Seq(event.seq().0 - 1));
            return false;
        }
        self.push_event(event.clone());
        true
    }

    /// From here on the feed catches up from history: `position` is the last number that it was shown live.
    pub(super) fn fall_behind(&mut self, position: Seq) {
        self.pause_newest();
        self.position = self.position.max(position);
        self.phase = Phase::Behind;
    }

    pub(super) fn begin_read(&mut self, upto: Seq, head: Seq) {
        self.token += 1;
        let joins = upto >= head;
        self.phase = Phase::Reading(Reading { upto, joins, later: VecDeque::new(), later_bytes: 0, overflowed: false });
    }

    /// Puts a page into the queue, and what was committed since it was asked for behind it.
    pub(super) fn take_page(
        &mut self,
        items: impl IntoIterator<Item = PageItem<Shared>>,
        reached: Seq,
        epoch: fanwire_protocol::Epoch,
    ) -> AfterPage {
        let Phase::Reading(reading) = mem::replace(&mut self.phase, Phase::Behind) else {
            return AfterPage::Behind;
        };
        for item in items {
            match item {
                PageItem::Event(event) if self.rights.allow(&event) => {
                    self.tell_gap(epoch);
                    self.push_event(event);
                }
                PageItem::Event(_) => {}
                PageItem::Gap { from, to } => {
                    let from = self.untold_gap.map_or(from, |(first, _)| first);
                    self.untold_gap = Some((from, to));
                }
            }
        }
        self.position = reached;
        self.latest = self.latest.take().filter(|latest| self.position < latest.upto);
        if self.changes.front().is_some_and(|change| change.from_seq <= self.position) {
            self.tell_gap(epoch);
            return AfterPage::AtChange;
        }
        let is_through = match &self.newest {
            Some(newest) => reached >= newest.upto(),
            None => reading.joins && !reading.overflowed,
        };
        if reached < reading.upto || !is_through || !self.changes.is_empty() {
            return AfterPage::Behind;
        }
        self.tell_gap(epoch);
        self.go_live(epoch);
        for event in reading.later {
            self.push_event(event);
        }
        AfterPage::Live
    }

    /// Everything up to the shard's head was looked at; what comes is live.
    pub(super) fn go_live(&mut self, epoch: fanwire_protocol::Epoch) {
        self.told = None;
        self.phase = Phase::Live;
        if let Some(newest) = &mut self.newest {
            newest.live_after(self.prev);
            let watermark = Cursor { epoch, seq: self.position };
            self.push(Item::Ping(Ping { watermark }));
        }
    }

    /// Up to where history is read, or will be, as far as that is known, where the newest of a topic wins.
    pub(super) fn history_upto(&self) -> Seq {
        let Some(newest) = self.newest.as_ref().filter(|_| !self.is_live()) else { return Seq::ZERO };
        let changed = self.changes.back().map(|change| change.from_seq);
        newest.history_upto().max(changed).unwrap_or_default().max(self.position)
    }

    /// Where the newest of a topic wins, what is committed comes from history again, all of it, until the next read says up to where.
    pub(super) fn pause_newest(&mut self) {
        let is_live = self.is_live();
        if let Some(newest) = &mut self.newest {
            self.prev = newest.pause().filter(|_| is_live).unwrap_or(self.prev);
            if !is_live {
                newest.forget_above(self.position);
            }
        }
    }

    /// Up to where everything was taken or isn't this feed's, once its queue is empty.
    pub(super) fn watermark(&self, head: Seq) -> Seq {
        match self.untold_gap {
            Some((from, _)) => Seq(from.0 - 1),
            None if self.is_live() => head.max(self.position),
            None => self.position,
        }
    }

    fn tell_gap(&mut self, epoch: fanwire_protocol::Epoch) {
        if let Some((from, to)) = self.untold_gap.take() {
            let cursor = Cursor { epoch, seq: to };
            let gap = Gap { reason: GapReason::Evicted, from: Some(from.0), to: to.0, cursor };
            self.push(Item::Gap(Box::new(gap)));
            self.prev = to;
        }
    }

    pub(super) fn push_changed(&mut self, request_id: u64, from_seq: Seq) {
        self.push(Item::Changed(Changed { request_id, from_seq: from_seq.0 }));
    }

    /// Ends the feed with what is queued, and a bye behind it.
    pub(super) fn end(&mut self, bye: Bye) {
        if !matches!(self.phase, Phase::Ended) {
            while let Some(item) = self.take_newest() {
                self.queue_bytes += item.cost();
                self.push(item);
            }
            self.newest = None;
            self.phase = Phase::Ended;
            self.farewell = None;
            self.ended = Some(bye.code);
            self.push(Item::Bye(Box::new(bye)));
        }
    }

    /// Ends the feed, and drops what is queued: its reader may not have it any more.
    pub(super) fn dismiss(&mut self, bye: Bye) {
        self.queue = Queue::default();
        self.queue_bytes = 0;
        self.newest = None;
        self.phase = Phase::Behind;
        self.end(bye);
    }

    /// Ends the feed, and drops what is queued: its reader isn't taking it.
    pub(super) fn cut(&mut self, bye: Bye) {
        self.cut = true;
        self.dismiss(bye);
    }

    pub(super) fn push(&mut self, item: Item) {
        self.queue.push(item);
    }

    /// Takes up to `items_max` items off the queue.
    pub(super) fn take(&mut self, items_max: usize, now: Time, out: &mut Vec<Item>) {
        if self.queue.len() <= items_max && self.newest.is_none() {
            self.queue.drain_into(out);
            self.queue_bytes = 0;
        } else {
            for _ in 0..items_max {
                let queued = self.queue.pop().inspect(|item| self.queue_bytes -= item.cost());
                let Some(item) = queued.or_else(|| self.take_newest()) else { break };
                out.push(item);
            }
        }
        self.unstalled_at = now;
    }

    /// The next live event where the newest of a topic wins. What comes after history isn't taken before it.
    fn take_newest(&mut self) -> Option<Item> {
        if !self.has_newest() {
            return None;
        }
        let (prev, event) = self.newest.as_mut()?.take()?;
        Some(Item::Event { prev, event, lossy: true })
    }

    fn has_newest(&self) -> bool {
        let first = self.newest.as_ref().and_then(|newest| newest.first());
        first.is_some_and(|first| self.is_live() || first <= self.position)
    }

    /// How many items wait to be taken, but for those that newer ones may take the place of.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.has_newest()
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// How many events the feed holds on to.
    #[cfg(test)]
    pub(super) fn events_held(&self) -> usize {
        let newest = self.newest.as_ref().map_or(0, |newest| newest.len());
        newest + self.queue.len() + if let Phase::Reading(reading) = &self.phase { reading.later.len() } else { 0 }
    }

    fn has_room(&self, event: &Committed, limits: &Limits) -> bool {
        self.queue.is_empty()
            || self.queue.len() < limits.queue_items_max && self.queue_bytes + event.cost() <= limits.queue_bytes_max
    }

    fn push_event(&mut self, event: Shared) {
        self.queue_bytes += event.cost();
        let prev = mem::replace(&mut self.prev, event.seq());
        self.push(Item::Event { prev, event, lossy: false });
    }
}

impl Item {
    fn cost(&self) -> usize {
        if let Self::Event { event, .. } = self { event.cost() } else { 0 }
    }
}

impl Reading {
    fn offer(&mut self, event: &Shared, limits: &Limits) {
        let known = self.later.back().map_or(self.upto, |last| last.seq());
        if event.seq() <= known || self.overflowed {
            return;
        }
        self.later_bytes += event.cost();
        if self.later.len() >= limits.queue_items_max || self.later_bytes > limits.queue_bytes_max {
            // What was committed meanwhile is read from history as well.
            self.overflowed = true;
            self.later = VecDeque::new();
        } else {
            self.later.push_back(event.clone());
        }
    }
}
