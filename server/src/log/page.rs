//! What every log does alike: gaps from floors, and where a feed starts.

use std::sync::Arc;

use fanwire_protocol::{
    Epoch, EventId, LastEventId, Seq,
    message::{GapReason, Verdict},
};

use super::Retention;
use crate::core::{Committed, Floors, Latest, Page, PageItem, Read, Start, StartGap};

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
    /// The first event with it that is kept.
    pub(super) first: Seq,
    /// No earlier one was evicted.
    pub(super) is_certain: bool,
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

impl Newest {
    /// From the newest number of each topic, of which an event may have several.
    pub(super) fn of(mut seqs: Vec<Seq>) -> Self {
        seqs.sort_unstable();
        seqs.dedup();
        let left_out = seqs.len().saturating_sub(LATEST_MAX);
        Self { seqs: seqs.split_off(left_out), complete: left_out == 0 }
    }

    /// There are too many topics to look for the newest of each.
    pub(super) fn too_many() -> Self {
        Self { seqs: vec![], complete: false }
    }
}

/// How many events a feed begins with at the most.
pub(super) const LATEST_MAX: usize = 1_000;
/// How many topics are looked at for that. It takes some milliseconds in memory, and some tenths of a second on disk.
pub(super) const LATEST_TOPICS_MAX: usize = 100_000;

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

/// Puts the gaps between the events that a read found. `complete`: these are all.
pub(super) fn build_page(read: &Read, (above, upto): (Seq, Seq), events: Vec<Arc<Committed>>, complete: bool) -> Page {
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
    if complete {
        tell_gap(&mut page, read.upto.next());
        page.reached = read.upto;
    }
    page
}
