//! The events that a memory log keeps: a plain data structure, without clock, lock or runtime.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    convert::Infallible,
    sync::Arc,
};

use fanwire_protocol::{Cursor, Epoch, Event, EventId, LastEventId, Matcher, Matchers, Seq, Topic};

use super::{
    Replay, Retention, Stamped,
    page::{Finder, IdUse, Newest, Past, Place, latest_topics_max, untold_floors, wanted_only},
};
use crate::core::{Committed, Floors, Page, Read, Rights, Start};

/// Events by number, indexed by topic and by publisher's id, kept as [`Retention`] says.
#[derive(Debug)]
pub struct History {
    epoch: Epoch,
    head: Seq,
    retention: Retention,
    events: BTreeMap<Seq, Arc<Committed>>,
    classes: Vec<ClassState>,
    /// The events themselves: a page of history isn't to look each of them up.
    topics: HashMap<Topic, VecDeque<Arc<Committed>>, ahash::RandomState>,
    ids: HashMap<EventId, Uses, ahash::RandomState>,
    forgotten: Forgotten,
}

/// The ids that were last forgotten, as hashes: one that is used again after all its uses were evicted isn't certain, either.
#[derive(Debug, Default)]
struct Forgotten {
    hashes: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Forgotten {
    fn remember(&mut self, hash: u64) {
        if self.hashes.insert(hash) {
            self.order.push_back(hash);
        }
        if self.order.len() > FORGOTTEN_MAX {
            self.order.pop_front().map(|oldest| self.hashes.remove(&oldest));
        }
    }
}

#[derive(Debug, Default)]
struct ClassState {
    events: VecDeque<Seq>,
    bytes: usize,
    /// The highest number of an evicted event that had a topic of this class.
    floor: Seq,
}

/// The events that were given one id.
#[derive(Debug, Default)]
struct Uses {
    kept: VecDeque<Seq>,
    /// An earlier use is gone: what the id stands for isn't certain any more.
    evicted: bool,
}

/// What a read looks at.
#[derive(Debug)]
pub(super) struct Looked {
    floors: (Seq, Seq),
    events: Vec<Arc<Committed>>,
    /// There is nothing more to look at.
    complete: bool,
}

impl Looked {
    /// What the read finds in it.
    pub(super) fn page(self, read: &Read) -> Page {
        let (mut finder, scans) = (Finder::new(read), Finder::must_scan(read));
        for event in self.events {
            if !(if scans { finder.look(event) } else { finder.take(event) }) {
                return finder.page(self.floors, false).0;
            }
        }
        finder.page(self.floors, self.complete).0
    }
}

impl History {
    /// An empty history. `seed` keys its hash maps.
    pub fn new(epoch: Epoch, retention: Retention, seed: u64) -> Self {
        let hasher = ahash::RandomState::with_seeds(seed, !seed, seed.rotate_left(32), 2);
        Self {
            epoch,
            head: Seq::ZERO,
            classes: retention.classes().iter().map(|_| ClassState::default()).collect(),
            retention,
            events: BTreeMap::new(),
            topics: HashMap::with_hasher(hasher.clone()),
            ids: HashMap::with_hasher(hasher),
            forgotten: Forgotten::default(),
        }
    }

    /// The newest position.
    pub fn head(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.head }
    }

    /// How many events are kept.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether no event is kept.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether an event is kept.
    #[cfg(test)]
    pub(crate) fn holds(&self, seq: Seq) -> bool {
        self.events.contains_key(&seq)
    }

    /// Gives an event the next number and keeps it; `None` when there is no number left.
    pub fn append(&mut self, stamped: Stamped) -> Option<Arc<Committed>> {
        if self.head >= Seq::MAX {
            return None;
        }
        let Stamped { draft, at_ms, key: _ } = stamped;
        self.head = self.head.next();
        let cursor = self.head();
        let event = Arc::new(Committed::new(Event { cursor, at_ms, draft }));
        for topic in event.draft.topics() {
            let of_topic = match self.topics.get_mut(topic) {
                Some(of_topic) => of_topic,
                None => self.topics.entry(topic.clone()).or_default(),
            };
            if of_topic.back().is_none_or(|last| last.seq() != cursor.seq) {
                of_topic.push_back(event.clone());
            }
        }
        if let Some(id) = &event.draft.id {
            let evicted = !self.ids.contains_key(id) && self.forgotten.hashes.contains(&self.ids.hasher().hash_one(id));
            let uses = self.ids.entry(id.clone()).or_default();
            uses.kept.push_back(cursor.seq);
            uses.evicted |= evicted;
        }
        let class = self.retention.class_of(event.draft.canonical());
        self.classes[class].events.push_back(cursor.seq);
        self.classes[class].bytes += event.cost();
        self.events.insert(cursor.seq, event.clone());
        self.enforce(class);
        Some(event)
    }

    /// Lets go of a bounded number of events that are older than their classes allow. True if there may be more.
    pub fn expire(&mut self, now_ms: u64) -> bool {
        let mut left = EXPIRE_MAX;
        for class in 0..self.classes.len() {
            let Some(age_max) = self.retention.classes()[class].age_max else { continue };
            let oldest = now_ms.saturating_sub(age_max.as_millis() as u64);
            while left > 0
                && let Some(event) = self.classes[class].events.front().and_then(|seq| self.events.get(seq))
                && event.at_ms < oldest
            {
                self.evict_oldest(class);
                left -= 1;
            }
        }
        left == 0
    }

    /// Finds where a feed starts.
    pub fn resolve(
        &self,
        last_event_id: Option<&LastEventId>,
        replay: Replay,
        matchers: &Matchers,
        rights: &Rights,
    ) -> Start {
        let known = |id: &EventId| {
            let uses = self.ids.get(id)?;
            let Ok(known) = IdUse::seen(uses.kept.iter().copied().map(Ok), !uses.evicted, self, rights);
            known
        };
        let place = Place { epoch: self.epoch, head: self.head, floors: self.floors() };
        match (last_event_id, replay) {
            (None, Replay::Latest) => place.latest(self.newest(matchers, rights)),
            _ => place.resolve(last_event_id, self.retention.touched(matchers), known),
        }
    }

    /// The newest event of each topic that the matchers take, and that may be seen.
    fn newest(&self, matchers: &Matchers, rights: &Rights) -> Newest {
        let newest = if let Some(topics_max) = latest_topics_max(matchers) {
            if self.topics.len() > topics_max {
                return Newest::too_many();
            }
            let taken = self.topics.iter().filter(|(topic, _)| matchers.matches(std::slice::from_ref(topic)));
            taken.filter_map(|(_, events)| Some(events.back()?.seq())).collect()
        } else {
            let newest = matchers.as_slice().iter().filter_map(|matcher| match matcher {
                Matcher::Exact(topic) => self.topics.get(topic)?.back().map(|event| event.seq()),
                Matcher::Any | Matcher::Pattern(_) => None,
            });
            newest.collect()
        };
        let Ok(newest) = Newest::seen(newest, self, matchers, rights);
        newest
    }

    /// Reads a bounded piece of history, with the gaps in it.
    pub fn read(&self, read: &Read) -> Page {
        self.look(read).page(read)
    }

    /// What a read is to look at. That takes a moment; comparing it with patterns may take longer, and needs no history.
    pub(super) fn look(&self, read: &Read) -> Looked {
        let floors = untold_floors(read, &self.retention, |class| self.classes[class].floor);
        let (events, complete) = if read.after >= read.upto {
            (vec![], true)
        } else if Finder::must_scan(read) {
            let range = self.events.range(read.after.next()..=read.upto);
            let count_max = Finder::new(read).scan_events_max();
            let mut events: Vec<_> = range.map(|(_, event)| event.clone()).take(count_max + 1).collect();
            let complete = events.len() <= count_max;
            events.truncate(count_max);
            (events, complete)
        } else {
            self.matching(read)
        };
        Looked { floors, events, complete }
    }

    /// The events that a read wants whose matchers an index knows, and whether these are all.
    fn matching(&self, read: &Read) -> (Vec<Arc<Committed>>, bool) {
        let count_max = read.events_max + 1;
        let mut events: Vec<Arc<Committed>> = Vec::new();
        if let Some(only) = wanted_only(read) {
            // Some may have been evicted since.
            events.extend(only.iter().filter_map(|seq| self.events.get(seq)).take(count_max).cloned());
        } else if read.matchers.as_slice().contains(&Matcher::Any) {
            let range = self.events.range(read.after.next()..=read.upto);
            events.extend(range.map(|(_, event)| event.clone()).take(count_max));
        } else {
            for matcher in read.matchers.as_slice() {
                let Matcher::Exact(topic) = matcher else { continue };
                let Some(of_topic) = self.topics.get(topic) else { continue };
                let first = of_topic.partition_point(|event| event.seq() <= read.after);
                let upto = of_topic.range(first..).take_while(|event| event.seq() <= read.upto);
                events.extend(upto.take(count_max).cloned());
            }
            if read.matchers.as_slice().len() > 1 {
                events.sort_unstable_by_key(|event| event.seq());
                events.dedup_by_key(|event| event.seq());
            }
        }
        let complete = events.len() <= read.events_max;
        events.truncate(count_max);
        (events, complete)
    }

    fn floors(&self) -> Floors {
        self.classes.iter().map(|class| class.floor).collect()
    }

    fn enforce(&mut self, class: usize) {
        let limits = &self.retention.classes()[class];
        let (events_max, bytes_max) = (limits.events_max, limits.bytes_max);
        while self.classes[class].events.len() > events_max || self.classes[class].bytes > bytes_max {
            self.evict_oldest(class);
        }
    }

    fn evict_oldest(&mut self, class: usize) {
        let Some(seq) = self.classes[class].events.pop_front() else { return };
        let Some(event) = self.events.remove(&seq) else { return };
        self.classes[class].bytes -= event.cost();
        for topic in event.draft.topics() {
            // An alternate topic may be of another class, whose feeds lose the event as well.
            let floor = &mut self.classes[self.retention.class_of(topic)].floor;
            *floor = seq.max(*floor);
            if let Some(of_topic) = self.topics.get_mut(topic) {
                // Of most topics it is the oldest: a search looks at others, each of them far away in memory.
                if of_topic.front().is_some_and(|oldest| oldest.seq() == seq) {
                    of_topic.pop_front();
                } else if let Ok(at) = of_topic.binary_search_by_key(&seq, |event| event.seq()) {
                    of_topic.remove(at);
                }
                if of_topic.is_empty() {
                    self.topics.remove(topic);
                }
            }
        }
        if let Some(id) = &event.draft.id
            && let Some(uses) = self.ids.get_mut(id)
        {
            remove_sorted(&mut uses.kept, seq);
            uses.evicted = true;
            if uses.kept.is_empty() {
                self.ids.remove(id);
                self.forgotten.remember(self.ids.hasher().hash_one(id));
            }
        }
    }
}

impl Past for History {
    type Error = Infallible;

    fn event(&self, seq: Seq) -> Result<Option<Arc<Committed>>, Infallible> {
        Ok(self.events.get(&seq).cloned())
    }

    fn newest_before(&self, topic: &Topic, seq: Seq) -> Result<Option<Seq>, Infallible> {
        let older = |events: &VecDeque<Arc<Committed>>| {
            let at = events.partition_point(|event| event.seq() < seq).checked_sub(1)?;
            events.get(at).map(|event| event.seq())
        };
        Ok(self.topics.get(topic).and_then(older))
    }
}

/// How many events an expiry evicts at a time, while publishers and readers wait.
const EXPIRE_MAX: usize = 1_000;
/// How many forgotten ids are remembered, at some 24 bytes each.
const FORGOTTEN_MAX: usize = 65_536;

fn remove_sorted(seqs: &mut VecDeque<Seq>, seq: Seq) {
    if let Ok(at) = seqs.binary_search(&seq) {
        seqs.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use fanwire_protocol::{
        Data, Draft,
        message::{GapReason, Verdict},
    };

    use super::*;
    use crate::core::{PageItem, StartGap};
    use crate::log::{Class, TopicRule};

    fn history(events_max: usize) -> History {
        let class = |name: &str, rule: &str, events_max| Class {
            name: name.into(),
            topics: vec![TopicRule::parse(rule).unwrap()],
            events_max,
            ..Class::default()
        };
        let retention = Retention::new(vec![class("noisy", "noisy/*", 2)], class("default", "*", events_max));
        History::new(Epoch::from_bits(1), retention, 7)
    }

    fn publish(history: &mut History, topics: &[&str], id: Option<&str>) -> Seq {
        let topics = topics.iter().map(|topic| Topic::new(topic).unwrap()).collect();
        let mut draft = Draft::new(topics, Data::text("x")).unwrap();
        draft.id = id.map(|id| EventId::new(id).unwrap());
        history.append(Stamped::new(draft, 1000)).unwrap().seq()
    }

    /// What a read gives, as text: `3` is an event, `1-2` a gap.
    fn read(history: &History, after: u64, topics: &[&str], told: Option<Floors>) -> String {
        let matchers = topics.iter().map(|topic| Matcher::exact(topic).unwrap()).collect();
        let upto = history.head;
        let page = history.read(&Read {
            after: Seq(after),
            upto,
            matchers: Arc::new(matchers),
            told,
            only: None,
            events_max: 100,
            bytes_max: usize::MAX,
        });
        assert_eq!(page.reached, upto);
        let text = page.items.iter().map(|item| match item {
            PageItem::Event(event) => event.seq().to_string(),
            PageItem::Gap { from, to } => format!("{from}-{to}"),
        });
        text.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_noisy_topic_neither_evicts_a_quiet_one_nor_makes_it_a_gap() {
        let mut history = history(10);
        publish(&mut history, &["quiet"], None);
        for _ in 0..10 {
            publish(&mut history, &["noisy/1"], None);
        }
        assert_eq!(read(&history, 0, &["quiet"], None), "1");
        assert_eq!(read(&history, 0, &["noisy/1"], None), "1-9 10 11");
        assert_eq!(read(&history, 0, &["*"], None), "1 2-9 10 11");
        assert_eq!(read(&history, 9, &["*"], None), "10 11");
        assert_eq!(read(&history, 0, &["*"], Some(history.floors())), "1 10 11");
    }

    #[test]
    fn an_evicted_event_is_a_gap_for_each_of_its_topics() {
        let mut history = history(10);
        publish(&mut history, &["noisy/1", "quiet"], None);
        for _ in 0..2 {
            publish(&mut history, &["noisy/1"], None);
        }
        assert_eq!(read(&history, 0, &["quiet"], None), "1-1");
        assert_eq!(read(&history, 0, &["other"], None), "1-1", "same class: an upper bound");
    }

    #[test]
    fn evictions_after_the_subscription_are_told_though_older_ones_were_not() {
        let mut history = history(2);
        for _ in 0..3 {
            publish(&mut history, &["a"], None);
        }
        let told = history.floors();
        publish(&mut history, &["a"], None);
        assert_eq!(read(&history, 0, &["a"], Some(told)), "2-2 3 4");
    }

    #[test]
    fn an_id_stands_for_its_first_use_and_doubt_is_told() {
        let mut history = history(2);
        let at = |history: &History, id: &str| {
            history.resolve(
                LastEventId::parse(id).unwrap().as_ref(),
                Replay::Nothing,
                &Matchers::default(),
                &Rights::default(),
            )
        };
        publish(&mut history, &["a"], Some("x"));
        publish(&mut history, &["a"], Some("x"));
        assert_eq!((at(&history, "x").after, at(&history, "x").gap), (Seq(1), None));
        publish(&mut history, &["a"], None);
        let doubt = at(&history, "x");
        assert_eq!((doubt.after, doubt.gap), (Seq(2), Some(StartGap { reason: GapReason::Evicted })));
        assert!(!doubt.complete);
        publish(&mut history, &["a"], None);
        assert_eq!(at(&history, "x").verdict, Verdict::UnknownCursor);
        assert_eq!(history.ids.len(), 0);
        publish(&mut history, &["a"], Some("x"));
        assert!(at(&history, "x").gap.is_some(), "used again after all uses were forgotten");
    }

    #[test]
    fn an_id_stands_for_its_first_use_that_may_be_seen() {
        let mut history = history(3);
        let mut publish = |private| {
            let mut draft = Draft::new(vec![Topic::new("a").unwrap()], Data::text("x")).unwrap();
            (draft.id, draft.private) = (Some(EventId::new("x").unwrap()), private);
            history.append(Stamped::new(draft, 1000)).unwrap();
            let at = |rights: &Rights| {
                let id = LastEventId::parse("x").unwrap();
                let start = history.resolve(id.as_ref(), Replay::Nothing, &Matchers::default(), rights);
                (start.after.0, start.verdict, start.gap.map(|gap| gap.reason))
            };
            (at(&Rights::default()), at(&Rights::to(Arc::new([Matcher::exact("a").unwrap()].into_iter().collect()))))
        };
        let unknown = (0, Verdict::UnknownCursor, Some(GapReason::UnknownCursor));
        assert_eq!(publish(true), (unknown, (1, Verdict::Resumed, None)));
        assert_eq!(publish(true), (unknown, (1, Verdict::Resumed, None)));
        assert_eq!(publish(false), ((3, Verdict::Resumed, None), (1, Verdict::Resumed, None)));
        // The first is gone, and so is who might see it.
        let evicted = |after| (after, Verdict::Resumed, Some(GapReason::Evicted));
        assert_eq!(publish(true), (evicted(3), evicted(2)));
    }

    #[test]
    fn positions_are_resolved() {
        let mut history = history(10);
        publish(&mut history, &["a"], None);
        publish(&mut history, &["a"], None);
        let verdict = |id: &str| {
            let start = history.resolve(
                LastEventId::parse(id).unwrap().as_ref(),
                Replay::Nothing,
                &Matchers::default(),
                &Rights::default(),
            );
            (start.after.0, start.verdict)
        };
        let here = history.epoch;
        assert_eq!(verdict(""), (2, Verdict::Live));
        assert_eq!(verdict("earliest"), (0, Verdict::Earliest));
        assert_eq!(verdict(&format!("#{here}:1")), (1, Verdict::Resumed));
        assert_eq!(verdict(&format!("#{here}:3")), (0, Verdict::UnknownCursor));
        assert_eq!(verdict("#vvvvvvvvvv:1"), (0, Verdict::NewEpoch));
        assert_eq!(verdict("unheard of"), (0, Verdict::UnknownCursor));
    }

    #[test]
    fn age_and_bytes_evict_too() {
        let mut history = history(100);
        publish(&mut history, &["a"], None);
        history.expire(1000 + 24 * 60 * 60 * 1000);
        assert_eq!(history.len(), 1);
        history.expire(1001 + 24 * 60 * 60 * 1000);
        assert_eq!(history.len(), 0);
        assert!(history.topics.is_empty());
        let draft = Draft::new(vec![Topic::new("a").unwrap()], Data::text(&"x".repeat(65 << 20))).unwrap();
        history.append(Stamped::new(draft, 0)).unwrap();
        assert_eq!(history.len(), 0, "an event beyond its class's bytes is delivered live, and not kept");
    }
}
