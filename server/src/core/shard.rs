//! One core's share of the feeds.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
};

use fanwire_protocol::{
    Cursor, Epoch, Matcher, Matchers, PROTOCOL_VERSION, Pattern, Seq, Topic, TopicUrl,
    message::{Bye, ByeCode, Gap, Hello, Ping},
};
use slab::Slab;
use smallvec::SmallVec;

use super::{
    Committed, Effect, Item, Lease, LeaseOf, Limits, Losses, Page, PageItem, Read, ReadRequest, Rights, Shared,
    SharedPage, Subscription, Time,
    feed::{AfterPage, Feed, PendingChange, Phase},
    newest::Newest,
};

/// The feeds of one core, fed by the log's committed tail.
///
/// After each call the caller carries out what [`Shard::next_effect`] gives, until it gives nothing.
#[derive(Debug)]
pub struct Shard {
    epoch: Epoch,
    /// The last number that the tail has brought.
    head: Seq,
    feeds: Slab<Slot>,
    generation: u32,
    exact: HashMap<Topic, Vec<FeedId>, ahash::RandomState>,
    any: Vec<FeedId>,
    /// Each pattern once, however many feeds have it.
    patterns: HashMap<Pattern, Vec<FeedId>, ahash::RandomState>,
    /// When to look at a feed again: for its heartbeat, or because it may have stalled. One entry a feed.
    alarms: BinaryHeap<Reverse<(Time, FeedId)>>,
    effects: VecDeque<Effect>,
    limits: Limits,
    losses: Losses,
    draining: bool,
}

/// Names a feed of one shard; never given to another feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    feed: Feed,
}

/// What [`Shard::take`] left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Nothing: a wake follows when there is something.
    All,
    /// More can be taken now.
    More,
    /// The feed has ended: its bye was taken, or it was closed.
    Ended,
}

/// Why a feed's matchers weren't changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// More than [`Matchers::COUNT_MAX`].
    #[error("a feed has at most {} matchers", Matchers::COUNT_MAX)]
    TooManyMatchers,
    /// More than [`Limits::changes_max`] wait for the feed to catch up.
    #[error("too many changes wait for this feed to catch up")]
    TooManyChanges,
    /// The feed has ended.
    #[error("the feed has ended")]
    Ended,
}

impl Shard {
    /// A shard that has seen the log up to `head`. `seed` keys its hash maps.
    pub fn new(epoch: Epoch, head: Seq, seed: u64, limits: Limits) -> Self {
        let hasher = ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 1);
        Self {
            epoch,
            head,
            feeds: Slab::new(),
            generation: 0,
            exact: HashMap::with_hasher(hasher.clone()),
            any: Vec::new(),
            patterns: HashMap::with_hasher(hasher),
            alarms: BinaryHeap::new(),
            effects: VecDeque::new(),
            limits,
            losses: Losses::default(),
            draining: false,
        }
    }

    /// Whether no feed is open.
    pub fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    /// What feeds have let go of so far where the newest of a topic wins.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Something that is to be done.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Opens a feed. Its hello can be taken at once.
    pub fn open(&mut self, subscription: Subscription, now: Time) -> FeedId {
        let Subscription { matchers, rights, start, heartbeat_ms, lease, newest_above } = subscription;
        let mut feed = Feed::new(matchers, rights, start.after, heartbeat_ms, now);
        let cursor = Cursor { epoch: self.epoch, seq: start.after };
        feed.push(Item::Hello(Box::new(Hello {
            version: PROTOCOL_VERSION,
            cursor,
            verdict: start.verdict,
            heartbeat_ms,
        })));
        if let Some(gap) = start.gap {
            let gap = Gap { reason: gap.reason, from: None, to: start.after.0, cursor };
            feed.push(Item::Gap(Box::new(gap)));
        }
        feed.told = start.told;
        feed.ends_at = lease.map(|lease| lease.end(now));
        feed.latest = start.latest.filter(|latest| start.after < latest.upto);
        // The log may be ahead of what its tail has brought here.
        let history = newest_above.map_or(self.head, |above| self.head.max(above));
        let is_live = start.after >= history && feed.latest.is_none();
        if newest_above.is_some() {
            let upto = feed.latest.as_ref().map_or(start.after, |latest| latest.upto).max(history);
            feed.newest = Some(Box::new(Newest::after(upto)));
        }
        if is_live {
            feed.go_live(self.epoch);
        }
        let matchers = feed.matchers.clone();
        self.generation = self.generation.wrapping_add(1);
        let index = self.feeds.insert(Slot { generation: self.generation, feed });
        let id = FeedId { index: index as u32, generation: self.generation };
        self.index(id, &matchers);
        self.set_alarm(id, now);
        if self.draining {
            let bye = self.drain_bye(0);
            self.with(id, |feed| feed.farewell = Some(bye));
            self.bid_farewell(id);
        }
        self.wake(id);
        id
    }

    /// Ends a feed with a bye, behind what waits in it.
    pub fn end(&mut self, id: FeedId, bye: Bye) {
        self.with(id, |feed| feed.end(bye));
        self.wake(id);
    }

    /// Ends a feed with a bye that nothing comes before: what waits in it is dropped. A reader that doesn't take the bye is cut soon:
    /// see [`Shard::is_cut`]. False if it had its bye before.
    pub fn dismiss(&mut self, id: FeedId, bye: Bye, now: Time) -> bool {
        if self.get(id).is_none_or(|feed| matches!(feed.phase, Phase::Ended) && feed.is_empty()) {
            return false;
        }
        self.with(id, |feed| {
            feed.dismiss(bye);
            feed.cut_at = Some(Time(now.0 + LINGER_MS));
        });
        self.wake(id);
        self.set_alarm(id, now);
        true
    }

    /// Whether a feed has ended, though its reader may not know yet.
    pub fn is_over(&self, id: FeedId) -> bool {
        self.get(id).is_none_or(|feed| matches!(feed.phase, Phase::Ended))
    }

    /// Closes a feed; what waits in it is dropped. Gives the code of the bye that it had been ended with, if it had.
    pub fn close(&mut self, id: FeedId) -> Option<u32> {
        self.get(id)?;
        let slot = self.feeds.remove(id.index as usize);
        self.unindex(id, &slot.feed.matchers);
        slot.feed.ended
    }

    /// Takes in what the log has committed: every event up to `head` that isn't known yet, in order.
    /// Returns how many feeds and patterns were looked at.
    pub fn ingest(&mut self, batch: &[Arc<Committed>], head: Seq) -> usize {
        let mut looked_at = 0;
        for event in batch {
            if event.seq() <= self.head {
                continue;
            }
            looked_at += self.fan_out(event);
            self.head = event.seq();
        }
        self.head = self.head.max(head);
        looked_at
    }

    /// The tail went on without this shard up to `head`: every feed catches up from history.
    pub fn skip_to(&mut self, head: Seq) {
        let known = self.head;
        self.head = self.head.max(head);
        let ids: Vec<_> = self.ids().collect();
        for id in ids {
            let behind = self.with(id, |feed| {
                if let Phase::Live = feed.phase {
                    feed.fall_behind(known);
                } else {
                    feed.pause_newest();
                }
                // What a read under way has kept from the tail has a hole now.
                if let Phase::Reading(_) = feed.phase {
                    feed.phase = Phase::Behind;
                    feed.token += 1;
                }
                matches!(feed.phase, Phase::Behind)
            });
            if behind == Some(true) {
                self.read_if_idle(id);
            }
        }
    }

    /// Takes up to `items_max` items of a feed.
    pub fn take(&mut self, id: FeedId, items_max: usize, now: Time, out: &mut Vec<Item>) -> Taken {
        let (epoch, head) = (self.epoch, self.head);
        let Some(feed) = self.get_mut(id) else { return Taken::Ended };
        feed.woken = false;
        feed.take(items_max, now, out);
        if feed.ping_due && feed.is_empty() && !matches!(feed.phase, Phase::Ended) {
            let seq = feed.watermark(head);
            (feed.ping_due, feed.pinged_at) = (false, now);
            out.push(Item::Ping(Ping { watermark: Cursor { epoch, seq } }));
        }
        if !feed.is_empty() {
            return Taken::More;
        }
        if matches!(feed.phase, Phase::Ended) {
            return Taken::Ended;
        }
        self.read_if_idle(id);
        Taken::All
    }

    /// Whether a feed was ended because nothing was taken from it for too long. A wake tells of it.
    pub fn is_cut(&self, id: FeedId) -> bool {
        self.get(id).is_none_or(|feed| feed.cut)
    }

    /// Puts in the history that a feed asked for.
    pub fn page(&mut self, id: FeedId, token: u64, page: Page) {
        let items = page.items.into_iter().map(|item| match item {
            PageItem::Event(event) => PageItem::Event(Rc::new(event)),
            PageItem::Gap { from, to } => PageItem::Gap { from, to },
        });
        self.put_page(id, token, items, page.reached);
    }

    /// The same with history that others have read, or will.
    pub fn shared_page(&mut self, id: FeedId, token: u64, page: &SharedPage) {
        self.put_page(id, token, page.events().iter().cloned().map(PageItem::Event), page.reached);
    }

    fn put_page(&mut self, id: FeedId, token: u64, items: impl IntoIterator<Item = PageItem<Shared>>, reached: Seq) {
        let epoch = self.epoch;
        let Some(feed) = self.get_mut(id).filter(|feed| feed.token == token) else { return };
        if !matches!(feed.phase, Phase::Reading(_)) {
            return;
        }
        let after = feed.take_page(items, reached, epoch);
        match after {
            AfterPage::AtChange => self.apply_changes(id),
            AfterPage::Live => self.bid_farewell(id),
            AfterPage::Behind => {}
        }
        self.wake_or_read(id);
    }

    /// The history that a feed asked for can't be had: the feed ends, and its reader comes back with its cursor.
    pub fn read_failed(&mut self, id: FeedId, token: u64, reason: &str) {
        let bye = Bye::retry(ByeCode::LogUnavailable, reason, self.limits.retry_ms);
        if self.get(id).is_some_and(|feed| feed.token == token) {
            self.end(id, bye);
        }
    }

    /// Adds matchers to a feed or takes some away. The change holds for every number above the returned one.
    pub fn change(
        &mut self,
        id: FeedId,
        request_id: u64,
        edit: impl FnOnce(&mut Matchers),
    ) -> Result<Seq, ChangeError> {
        self.request_change(id, request_id, |matchers, _| edit(matchers))
    }

    /// Gives a feed other rights, for every number above the returned one, and another lease at once.
    pub fn authorize(
        &mut self,
        id: FeedId,
        request_id: u64,
        (new, lease): (Rights, Option<Lease>),
        now: Time,
    ) -> Result<Seq, ChangeError> {
        let from_seq = self.request_change(id, request_id, |_, rights| *rights = new)?;
        self.with(id, |feed| feed.ends_at = lease.map(|lease| lease.end(now)));
        self.set_alarm(id, now);
        Ok(from_seq)
    }

    fn request_change(
        &mut self,
        id: FeedId,
        request_id: u64,
        edit: impl FnOnce(&mut Matchers, &mut Rights),
    ) -> Result<Seq, ChangeError> {
        let (head, Limits { changes_max, queue_items_max: items_max, .. }) = (self.head, self.limits);
        let feed = self.get_mut(id).filter(|feed| !matches!(feed.phase, Phase::Ended)).ok_or(ChangeError::Ended)?;
        if feed.changes.len() >= changes_max || feed.waiting() >= items_max {
            return Err(ChangeError::TooManyChanges);
        }
        let last = feed.changes.back().map_or((&feed.matchers, &feed.rights), |last| (&last.matchers, &last.rights));
        let (mut matchers, mut rights) = (Matchers::clone(last.0), last.1.clone());
        edit(&mut matchers, &mut rights);
        if matchers.as_slice().len() > Matchers::COUNT_MAX {
            return Err(ChangeError::TooManyMatchers);
        }
        let from_seq = match &feed.latest {
            // What the feed begins with is of the matchers that it began with.
            Some(latest) => head.max(latest.upto),
            // A feed may be ahead of what the tail has brought here.
            None => head.max(feed.position),
        };
        // So is history, which may go further than the tail has brought here.
        let from_seq = from_seq.max(feed.history_upto());
        feed.changes.push_back(PendingChange { from_seq, request_id, matchers: Arc::new(matchers), rights });
        if feed.is_live() {
            self.apply_changes(id);
            self.wake(id);
        } else {
            feed.pause_newest();
        }
        Ok(from_seq)
    }

    /// Time goes on: heartbeats, and feeds whose reader takes nothing.
    pub fn tick(&mut self, now: Time) {
        while let Some(&Reverse((at, id))) = self.alarms.peek()
            && at <= now
        {
            self.alarms.pop();
            if self.get(id).is_none_or(|feed| feed.alarm_at != at) {
                continue;
            }
            self.alarm(id, now);
            self.set_alarm(id, now);
        }
    }

    /// Ends every feed once it is up to date, and each that opens from now on, telling it when to come back: spread over
    /// `spread_ms`, so that not all come at once.
    pub fn drain(&mut self, spread_ms: u64) {
        self.draining = true;
        let ids: Vec<_> = self.ids().collect();
        let count = ids.len().max(1) as u64;
        for (i, id) in ids.into_iter().enumerate() {
            let bye = self.drain_bye(spread_ms * i as u64 / count);
            self.with(id, |feed| feed.farewell = Some(bye));
            self.bid_farewell(id);
        }
    }

    /// Ends a feed that is to end, if it is up to date: what was committed before is delivered first.
    fn bid_farewell(&mut self, id: FeedId) {
        let ended = self.with(id, |feed| match feed.is_live().then(|| feed.farewell.take()).flatten() {
            Some(bye) => {
                feed.end(bye);
                true
            }
            None => false,
        });
        if ended == Some(true) {
            self.wake(id);
        }
    }

    fn drain_bye(&self, delay_ms: u64) -> Bye {
        Bye::retry(ByeCode::Drain, "the hub is shutting down", self.limits.retry_ms + delay_ms)
    }

    fn fan_out(&mut self, event: &Arc<Committed>) -> usize {
        let event = &Rc::new(event.clone());
        let Self { feeds, exact, any, patterns, effects, limits, losses, .. } = self;
        let mut looked_at = 0;
        let mut offer = |ids: &[FeedId]| {
            looked_at += ids.len();
            for &id in ids {
                let slot = &mut feeds[id.index as usize];
                if slot.feed.offer(event, limits, losses) && !slot.feed.woken {
                    slot.feed.woken = true;
                    effects.push_back(Effect::Wake(id));
                }
            }
        };
        for topic in event.draft.topics() {
            if let Some(ids) = exact.get(topic) {
                offer(ids);
            }
        }
        offer(any);
        if let Some(base) = patterns.keys().next().map(Pattern::base) {
            let urls: SmallVec<[TopicUrl<'_>; 2]> =
                event.draft.topics().iter().map(|topic| TopicUrl::new(topic, base)).collect();
            for ids in patterns.iter().filter(|(pattern, _)| urls.iter().any(|url| pattern.matches(url))) {
                offer(ids.1);
            }
        }
        looked_at + patterns.len()
    }

    fn alarm(&mut self, id: FeedId, now: Time) {
        let Limits { stalled_ms_max, retry_ms, .. } = self.limits;
        let Some(feed) = self.get_mut(id) else { return };
        let ended = matches!(feed.phase, Phase::Ended);
        if feed.is_empty() && !feed.ping_due && !ended {
            feed.unstalled_at = now;
        }
        // Also where events flow: a browser's EventSource shows only the types that somebody listens to, so a client can't tell
        // a busy feed from a dead one by what it sees.
        feed.ping_due |= !ended && now.0 >= feed.pinged_at.0 + feed.heartbeat_ms;
        let overdue = feed.cut_at.is_some_and(|at| now >= at);
        if (overdue || now.0 >= feed.unstalled_at.0 + stalled_ms_max) && !feed.cut {
            feed.cut(Bye::retry(ByeCode::Stalled, "nothing was read for too long", retry_ms));
        }
        if let Some((_, of)) = feed.ends_at.take_if(|(at, _)| now >= *at)
            && !ended
        {
            self.dismiss(id, of.bye(retry_ms), now);
            return;
        }
        if feed.ping_due || matches!(feed.phase, Phase::Ended) {
            // Also a feed that was woken already: its reader may be gone.
            feed.woken = false;
            self.wake(id);
        }
    }

    fn set_alarm(&mut self, id: FeedId, now: Time) {
        let at = self.next_alarm(id, now);
        if let Some(feed) = self.get_mut(id) {
            feed.alarm_at = at;
            self.alarms.push(Reverse((at, id)));
        }
    }

    fn next_alarm(&self, id: FeedId, now: Time) -> Time {
        let Some(feed) = self.get(id) else { return now };
        let heartbeat = feed.pinged_at.0 + feed.heartbeat_ms;
        // Often enough to know since when nothing was taken, however long the heartbeat.
        let look = now.0 + (self.limits.stalled_ms_max / 2).max(1);
        let alarm = if heartbeat > now.0 { heartbeat.min(look) } else { look.min(now.0 + feed.heartbeat_ms) };
        let deadlines = [feed.ends_at.map(|(end, _)| end), feed.cut_at.filter(|_| !feed.cut)];
        deadlines.into_iter().flatten().fold(Time(alarm), Time::min)
    }

    /// Applies every change that the feed has reached.
    fn apply_changes(&mut self, id: FeedId) {
        while let Some(feed) = self.get_mut(id)
            && let Some(change) = feed
                .changes
                .pop_front_if(|change| matches!(feed.phase, Phase::Live) || change.from_seq <= feed.position)
        {
            feed.push_changed(change.request_id, change.from_seq);
            feed.rights = change.rights;
            let before = std::mem::replace(&mut feed.matchers, change.matchers.clone());
            self.unindex(id, &before);
            self.index(id, &change.matchers);
        }
    }

    fn wake_or_read(&mut self, id: FeedId) {
        match self.get(id) {
            Some(feed) if !feed.is_empty() => self.wake(id),
            Some(_) => self.read_if_idle(id),
            None => {}
        }
    }

    /// Asks for history where a feed is behind and has nothing left to take.
    fn read_if_idle(&mut self, id: FeedId) {
        let (head, limits) = (self.head, self.limits);
        let Some(feed) = self.get_mut(id) else { return };
        if !matches!(feed.phase, Phase::Behind) || !feed.is_empty() {
            return;
        }
        let upto = match (&feed.latest, feed.changes.front(), &mut feed.newest) {
            // Also where the tail hasn't brought as much yet.
            (Some(latest), ..) => latest.upto,
            (None, Some(change), None) => change.from_seq.min(head),
            (None, Some(change), Some(_)) => change.from_seq,
            (None, None, Some(newest)) => newest.resume(head.max(feed.position)),
            (None, None, None) => head,
        };
        let read = Read {
            after: feed.position,
            upto: upto.max(feed.position),
            matchers: feed.matchers.clone(),
            told: feed.told.clone(),
            only: feed.latest.as_ref().map(|latest| latest.seqs.clone()),
            events_max: limits.queue_items_max,
            bytes_max: limits.queue_bytes_max,
        };
        feed.begin_read(read.upto, head);
        let request = ReadRequest { feed: id, token: feed.token, read };
        self.effects.push_back(Effect::Read(request));
    }

    fn wake(&mut self, id: FeedId) {
        if self.with(id, |feed| !std::mem::replace(&mut feed.woken, true)) == Some(true) {
            self.effects.push_back(Effect::Wake(id));
        }
    }

    fn index(&mut self, id: FeedId, matchers: &Matchers) {
        for matcher in matchers.as_slice() {
            match matcher {
                Matcher::Any => self.any.push(id),
                Matcher::Exact(topic) => self.exact.entry(topic.clone()).or_default().push(id),
                Matcher::Pattern(pattern) => self.patterns.entry(pattern.clone()).or_default().push(id),
            }
        }
    }

    fn unindex(&mut self, id: FeedId, matchers: &Matchers) {
        let remove = |ids: &mut Vec<FeedId>| {
            if let Some(at) = ids.iter().position(|&other| other == id) {
                ids.swap_remove(at);
            }
        };
        for matcher in matchers.as_slice() {
            match matcher {
                Matcher::Any => remove(&mut self.any),
                Matcher::Exact(topic) => {
                    if let Some(ids) = self.exact.get_mut(topic) {
                        remove(ids);
                        if ids.is_empty() {
                            self.exact.remove(topic);
                        }
                    }
                }
                Matcher::Pattern(pattern) => {
                    if let Some(ids) = self.patterns.get_mut(pattern) {
                        remove(ids);
                        if ids.is_empty() {
                            self.patterns.remove(pattern);
                        }
                    }
                }
            }
        }
    }

    fn ids(&self) -> impl Iterator<Item = FeedId> {
        self.feeds.iter().map(|(index, slot)| FeedId { index: index as u32, generation: slot.generation })
    }

    fn get(&self, id: FeedId) -> Option<&Feed> {
        self.feeds.get(id.index as usize).filter(|slot| slot.generation == id.generation).map(|slot| &slot.feed)
    }

    fn get_mut(&mut self, id: FeedId) -> Option<&mut Feed> {
        let slot = self.feeds.get_mut(id.index as usize)?;
        (slot.generation == id.generation).then_some(&mut slot.feed)
    }

    fn with<T>(&mut self, id: FeedId, act: impl FnOnce(&mut Feed) -> T) -> Option<T> {
        self.get_mut(id).map(act)
    }

    /// How many events the fullest feed holds on to.
    #[cfg(test)]
    pub(super) fn events_held_max(&self) -> usize {
        self.feeds.iter().map(|(_, slot)| slot.feed.events_held()).max().unwrap_or(0)
    }
}

impl Lease {
    fn end(self, now: Time) -> (Time, LeaseOf) {
        (Time(now.0.saturating_add(self.left_ms)), self.of)
    }
}

impl LeaseOf {
    fn bye(self, retry_ms: u64) -> Bye {
        match self {
            Self::Token => Bye::retry(ByeCode::Expired, "the token has expired: come back with another", retry_ms),
            Self::Feed => Bye::retry(ByeCode::Limit, "feed_lifetime_max: the feed was open for too long", retry_ms),
        }
    }
}

impl FeedId {
    /// A small number, unique among the feeds open now.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// How long a reader that is dismissed may take to have its bye.
const LINGER_MS: u64 = 500;
