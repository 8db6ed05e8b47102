//! What every log does alike: gaps from floors, and where a feed starts.

use std::{
    collections::{BTreeSet, BinaryHeap},
    sync::Arc,
};

use fanwire_protocol::{
    Epoch, EventId, LastEventId, Matcher, Matchers, Pattern, Seq, Topic,
    message::{GapReason, Verdict},
};

use super::Retention;
use crate::core::{Committed, Floors, Latest, Page, PageItem, Read, Rights, Start, StartGap};

/// Where a log is, for [`Place::resolve`].
#[derive(Debug)]
pub(super) struct Place {
    pub(super) epoch: Epoch,
    pub(super) head: Seq,
    /// By class.
    pub(super) floors: Floors,
}

/// What a log knows of a publisher's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdUse {
    /// The first event with it that is kept and may be seen.
    pub(super) first: Seq,
    /// No earlier one was evicted.
    pub(super) is_certain: bool,
}

impl IdUse {
    /// From the events with an id that are kept, in order. One that isn't to be seen is as good as none, so that nothing shows where it
    /// lies; so is one that can't be read, since nobody knows any more who may see it, but the id isn't certain then.
    pub(super) fn seen<P: Past>(
        uses: impl IntoIterator<Item = Result<Seq, P::Error>>,
        mut is_certain: bool,
        past: &P,
        rights: &Rights,
    ) -> Result<Option<Self>, P::Error> {
        for seq in uses.into_iter().take(USES_MAX) {
            let first = seq?;
            match past.event(first)? {
                Some(event) if rights.allow(&event) => return Ok(Some(Self { first, is_certain })),
                Some(_) => {}
                None => is_certain = false,
            }
        }
        Ok(None)
    }
}

impl Place {
    /// Finds where a feed starts whose matchers touch these classes.
    pub(super) fn resolve(
        self,
        last_event_id: Option<&LastEventId>,
        touched: Vec<usize>,
        known: impl FnOnce(&EventId) -> Option<IdUse>,
    ) -> Start {
        let floor = touched.into_iter().map(|class| self.floors[class]).max();
        let start = |after, verdict| {
            let complete = floor.is_none_or(|floor| floor <= after);
            Start { after, verdict, gap: None, told: None, complete, latest: None }
        };
        let lost = |reason, verdict| {
            let gap = Some(StartGap { reason });
            Start { gap, complete: false, ..start(Seq::ZERO, verdict) }
        };
        match last_event_id {
            None => start(self.head, Verdict::Live),
            Some(LastEventId::Earliest) => {
                Start { told: Some(self.floors.clone()), ..start(Seq::ZERO, Verdict::Earliest) }
            }
            Some(LastEventId::Cursor(cursor)) if cursor.epoch != self.epoch => {
                lost(GapReason::NewEpoch, Verdict::NewEpoch)
            }
            Some(LastEventId::Cursor(cursor)) if cursor.seq > self.head => {
                lost(GapReason::UnknownCursor, Verdict::UnknownCursor)
            }
            Some(LastEventId::Cursor(cursor)) => start(cursor.seq, Verdict::Resumed),
            Some(LastEventId::Publisher(id)) => match known(id) {
                Some(IdUse { first, is_certain }) => {
                    // An id that was used again after its first use was evicted may stand for either.
                    let gap = (!is_certain).then_some(StartGap { reason: GapReason::Evicted });
                    let resumed = start(first, Verdict::Resumed);
                    Start { gap, complete: resumed.complete && is_certain, ..resumed }
                }
                None => lost(GapReason::UnknownCursor, Verdict::UnknownCursor),
            },
        }
    }
}

impl Place {
    /// Where a feed starts that begins with the newest event of each topic.
    pub(super) fn latest(self, newest: Newest) -> Start {
        let Newest { seqs, complete } = newest;
        let after = seqs.first().map_or(self.head, |first| Seq(first.0 - 1));
        // What is left out is older than what is given.
        let gap = (!complete).then_some(StartGap { reason: GapReason::Limit });
        let latest = (!seqs.is_empty()).then(|| Latest { seqs: seqs.into(), upto: self.head });
        Start { after, verdict: Verdict::Latest, gap, told: None, complete: false, latest }
    }
}

/// The newest event of each of some topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Newest {
    /// In order, at most [`LATEST_MAX`], the newest.
    seqs: Vec<Seq>,
    /// None was left out.
    complete: bool,
}

/// What is kept, for who looks for the newest of it.
pub(super) trait Past {
    /// Why it can't be looked at.
    type Error;

    /// An event, unless it can't be read.
    fn event(&self, seq: Seq) -> Result<Option<Arc<Committed>>, Self::Error>;

    /// The newest event of a topic before another.
    fn newest_before(&self, topic: &Topic, seq: Seq) -> Result<Option<Seq>, Self::Error>;
}

impl Newest {
    /// From the newest number of each topic, of which an event may have several. Where that isn't to be seen, an older one stands for the
    /// topic, so that nothing shows where it lies.
    pub(super) fn seen<P: Past>(
        newest: Vec<Seq>,
        past: &P,
        matchers: &Matchers,
        rights: &Rights,
    ) -> Result<Self, P::Error> {
        let (mut left, mut seqs, mut complete) = (BinaryHeap::from(newest), Vec::new(), true);
        // Topics that have their newest, and how many events were passed over.
        let (mut known, mut hidden, mut last) = (BTreeSet::new(), 0, None);
        while let Some(seq) = left.pop() {
            if last.replace(seq) == Some(seq) {
                continue;
            }
            let event = past.event(seq)?;
            if let Some(event) = event.as_ref().filter(|event| !rights.allow(event)) {
                hidden += 1;
                for topic in event.draft.topics() {
                    if !known.contains(topic) && matchers.matches(std::slice::from_ref(topic)) {
                        left.extend(past.newest_before(topic, seq)?);
                    }
                }
            } else {
                // What can't be read is told as a gap when it is read.
                seqs.push(seq);
                known.extend(event.iter().flat_map(|event| event.draft.topics().iter().cloned()));
            }
            if seqs.len() > LATEST_MAX || hidden > HIDDEN_MAX {
                complete = false;
                break;
            }
        }
        seqs.truncate(LATEST_MAX);
        seqs.reverse();
        Ok(Self { seqs, complete })
    }

    /// There are too many topics to look for the newest of each.
    pub(super) fn too_many() -> Self {
        Self { seqs: vec![], complete: false }
    }
}

/// How many events a feed begins with at the most.
pub(super) const LATEST_MAX: usize = 1_000;
/// How many events are passed over for that which aren't to be seen.
const HIDDEN_MAX: usize = 10_000;
/// How many events with one id are looked at for one that may be seen.
const USES_MAX: usize = 100;
/// How many topics are looked at for that, where all have to be: some milliseconds in memory, some tenths of a second on disk. Fewer
/// where they are compared with patterns.
const LATEST_TOPICS_MAX: usize = 100_000;
/// Of [`Pattern::comparison_cost`]'s units: making a topic a URL, once for all patterns.
const TOPIC_URL_COST: usize = 6;

/// How many topics may be looked at for the newest event of each that the matchers take; none where an index knows them.
pub(super) fn latest_topics_max(matchers: &Matchers) -> Option<usize> {
    if matchers.as_slice().contains(&Matcher::Any) {
        return Some(LATEST_TOPICS_MAX);
    }
    let cost: usize = matchers.patterns().map(Pattern::comparison_cost).sum();
    (cost > 0).then(|| LATEST_TOPICS_MAX / (TOPIC_URL_COST + cost))
}

/// The numbers between which events that a read wants may have been evicted, and the reader wasn't told: above the first, up to
/// the second.
pub(super) fn untold_floors(read: &Read, retention: &Retention, floor: impl Fn(usize) -> Seq) -> (Seq, Seq) {
    let told = |class: usize| read.told.as_ref().and_then(|told| told.get(class)).copied().unwrap_or_default();
    let (mut above, mut upto) = (Seq::MAX, Seq::ZERO);
    if read.only.is_some() {
        return (above, upto);
    }
    for class in retention.touched(&read.matchers) {
        let floor = floor(class);
        if floor > told(class) {
            above = above.min(told(class));
            upto = upto.max(floor);
        }
    }
    (above, upto)
}

/// The numbers that a read wants, where it wants only some.
pub(super) fn wanted_only(read: &Read) -> Option<&[Seq]> {
    let only = read.only.as_deref()?;
    let first = only.partition_point(|&seq| seq <= read.after);
    let end = only.partition_point(|&seq| seq <= read.upto);
    Some(&only[first..end.max(first)])
}

/// Finds the events that a read wants among those that it looks at, until it has enough of either.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    read: &'a Read,
    events: Vec<Arc<Committed>>,
    /// Stretches of events that can't be read, or that only an index knows, or none; some may be beyond what was read.
    rotten: Vec<(Seq, Seq)>,
    passed: usize,
    bytes: usize,
    /// What comparing an event with the read's matchers takes.
    comparison_cost: usize,
    cost: usize,
    /// Everything up to here was looked at.
    reached: Seq,
}

impl<'a> Finder<'a> {
    pub(super) fn new(read: &'a Read) -> Self {
        let exact = read.matchers.as_slice().len();
        let comparison_cost = exact + read.matchers.patterns().map(Pattern::comparison_cost).sum::<usize>();
        Self {
            read,
            events: vec![],
            rotten: vec![],
            passed: 0,
            bytes: 0,
            comparison_cost,
            cost: 0,
            reached: read.after,
        }
    }

    /// Whether a read has to look at every event: no index knows which of them a pattern takes.
    pub(super) fn must_scan(read: &Read) -> bool {
        let indexed = read.only.is_some() || read.matchers.as_slice().contains(&Matcher::Any);
        !indexed && read.matchers.patterns().next().is_some()
    }

    /// The most events that a scan looks at.
    pub(super) fn scan_events_max(&self) -> usize {
        SCAN_COST_MAX / self.comparison_cost.max(1) + 1
    }

    /// Looks at an event that the matchers may take or not. False if it is one too many.
    pub(super) fn look(&mut self, event: Arc<Committed>) -> bool {
        if self.cost >= SCAN_COST_MAX {
            return false;
        }
        self.cost += self.comparison_cost + event.draft.cost() / SCAN_BYTES_A_COST;
        if self.read.matchers.matches(event.draft.topics()) {
            return self.take(event);
        }
        self.reached = event.seq();
        true
    }

    /// Takes an event. False if it is one too many.
    pub(super) fn take(&mut self, event: Arc<Committed>) -> bool {
        self.bytes += event.draft.cost();
        let too_large = self.bytes > self.read.bytes_max && !self.events.is_empty();
        if self.is_full() || too_large {
            return false;
        }
        self.reached = event.seq();
        self.events.push(event);
        true
    }

    /// Passes over an event that can't be read: it is told as a gap. False if it is one too many.
    pub(super) fn pass_rotten(&mut self, seq: Seq) -> bool {
        if self.is_full() || self.cost >= SCAN_COST_MAX {
            return false;
        }
        self.cost += self.comparison_cost;
        self.reached = seq;
        self.passed += 1;
        self.rotten.push((seq, seq));
        true
    }

    /// Events that should be there, and aren't: they are told as a gap, as far as the page goes.
    pub(super) fn miss(&mut self, from: Seq, to: Seq) {
        self.rotten.push((from, to));
    }

    /// What was found, and which of its gaps are rotten or missing events. `complete`: there was nothing more to look at.
    pub(super) fn page(self, floors: (Seq, Seq), complete: bool) -> (Page, Vec<(Seq, Seq)>) {
        let reached = if complete { self.read.upto.max(self.reached) } else { self.reached };
        let mut page = build_page(self.read, floors, self.events, reached);
        let told = tell_rotten(&mut page, &self.rotten);
        (page, told)
    }

    fn is_full(&self) -> bool {
        self.events.len() + self.passed >= self.read.events_max.max(1)
    }
}

/// What can't be read is a gap. Gives those that are told by this.
fn tell_rotten(page: &mut Page, rotten: &[(Seq, Seq)]) -> Vec<(Seq, Seq)> {
    let mut told = Vec::new();
    for &(from, to) in rotten {
        let to = to.min(page.reached);
        let at = page.items.partition_point(|item| match item {
            PageItem::Event(event) => event.seq() < from,
            PageItem::Gap { to, .. } => *to < from,
        });
        let is_told = matches!(page.items.get(at), Some(PageItem::Gap { from: told, .. }) if *told <= from);
        if from <= to && !is_told {
            page.items.insert(at, PageItem::Gap { from, to });
            told.push((from, to));
        }
    }
    told
}

/// Puts the gaps between the events that a read found up to `reached`.
fn build_page(read: &Read, (above, upto): (Seq, Seq), events: Vec<Arc<Committed>>, reached: Seq) -> Page {
    let mut page = Page { items: Vec::with_capacity(events.len()), reached: read.after };
    let tell_gap = |page: &mut Page, before: Seq| {
        let first = Seq(page.reached.0.max(above.0) + 1);
        let last = Seq(before.0 - 1).min(upto);
        if first <= last {
            page.items.push(PageItem::Gap { from: first, to: last });
        }
    };
    for event in events {
        tell_gap(&mut page, event.seq());
        page.reached = event.seq();
        page.items.push(PageItem::Event(event));
    }
    if page.reached < reached {
        tell_gap(&mut page, reached.next());
        page.reached = reached;
    }
    page
}

/// What a scan for patterns may take before others get their turn: some 200 µs, or 2 MiB of history. See
/// [`Pattern::comparison_cost`].
const SCAN_COST_MAX: usize = 4_000;
const SCAN_BYTES_A_COST: usize = 512;
