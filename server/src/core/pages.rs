//! Pages of history that were read a moment ago.

use std::{
    collections::VecDeque,
    rc::Rc,
    sync::{Arc, Weak},
};

use fanwire_protocol::{Matchers, Seq};

use super::{Page, PageItem, Read, Shared};

/// Pages of history that a feed has read, for those that want the same soon. Feeds of one topic that don't keep up with it follow each other: the
/// first of them reads the log, and the others find what it has read, with the same references to the same events.
///
/// A feed whose cursor is within a page gets the rest of it, and goes on where all others do.
#[derive(Debug)]
pub struct Pages {
    /// In the order in which they were read.
    kept: VecDeque<Kept>,
    cost: usize,
    limits: PagesLimits,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct PagesLimits {
    /// The most pages.
    pub count_max: usize,
    /// The most bytes of events in them, which the log may have let go of meanwhile.
    pub cost_max: usize,
    /// A page is let go of after so many turns of [`Pages::age`]: what the log evicts isn't to be had for longer.
    pub age_max: u32,
}

#[derive(Debug)]
struct Kept {
    /// The reader's own. A page that held them would keep patterns from being given back when the reader is gone, so it goes with them.
    matchers: Weak<Matchers>,
    after: Seq,
    page: SharedPage,
    cost: usize,
    age: u32,
}

/// Events of a page without gaps.
#[derive(Debug, Clone)]
pub struct SharedPage {
    events: Rc<[Shared]>,
    /// So many of them are left out.
    skipped: usize,
    /// Everything up to here is in the page.
    pub(super) reached: Seq,
}

impl Pages {
    /// None yet.
    pub fn new(limits: PagesLimits) -> Self {
        Self { kept: VecDeque::new(), cost: 0, limits }
    }

    /// What a read would give, or the beginning of it, if it was read before.
    pub fn find(&self, read: &Read) -> Option<SharedPage> {
        if read.only.is_some() {
            return None;
        }
        // There are no gaps in what is kept, so it doesn't matter which are to be told.
        let kept = self.kept.iter().rev().find(|kept| {
            kept.after <= read.after
                && read.after < kept.page.reached
                && kept.page.reached <= read.upto
                && kept.matchers.upgrade().is_some_and(|matchers| matchers == read.matchers)
        })?;
        let skipped = kept.page.events.partition_point(|event| event.seq() <= read.after);
        Some(SharedPage { skipped, ..kept.page.clone() })
    }

    /// Keeps what a read has given. Gives it back where nobody else will want just that. Of those who have read the same at the same time the first
    /// one's is kept, and given to all.
    pub fn keep(&mut self, read: &Read, page: Page) -> Result<SharedPage, Page> {
        // One that comes to the end of what there is has another end for the next.
        let is_full = read.after < page.reached && page.reached < read.upto;
        let is_whole = page.items.iter().all(|item| matches!(item, PageItem::Event(_)));
        if !is_full || !is_whole || page.items.is_empty() || read.told.is_some() || read.only.is_some() {
            return Err(page);
        }
        if let Some(known) = self.find(read) {
            return Ok(known);
        }
        let events = page.items.into_iter().filter_map(|item| match item {
            PageItem::Event(event) => Some(Rc::new(event)),
            PageItem::Gap { .. } => None,
        });
        let page = SharedPage { events: events.collect(), skipped: 0, reached: page.reached };
        let cost = page.events.iter().map(|event| event.cost()).sum();
        let (matchers, after) = (Arc::downgrade(&read.matchers), read.after);
        self.kept.push_back(Kept { matchers, after, page: page.clone(), cost, age: 0 });
        self.cost += cost;
        while self.kept.len() > self.limits.count_max || self.cost > self.limits.cost_max {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.cost -= oldest.cost;
        }
        Ok(page)
    }

    /// Time goes on: what was read a while ago is let go of.
    pub fn age(&mut self) {
        if self.kept.capacity() == 0 {
            return;
        }
        let age_max = self.limits.age_max;
        self.kept.retain_mut(|kept| {
            kept.age += 1;
            kept.age < age_max && kept.matchers.strong_count() > 0
        });
        self.cost = self.kept.iter().map(|kept| kept.cost).sum();
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }
}

impl SharedPage {
    pub(super) fn events(&self) -> &[Shared] {
        &self.events[self.skipped..]
    }
}

#[cfg(test)]
mod tests {
    use fanwire_protocol::{Cursor, Data, Draft, Epoch, Event, Matcher, Topic};

    use super::*;
    use crate::core::Committed;

    fn read(topic: &str, after: u64, upto: u64) -> Read {
        Read {
            after: Seq(after),
            upto: Seq(upto),
            matchers: Arc::new([Matcher::exact(topic).unwrap()].into_iter().collect()),
            told: None,
            only: None,
            events_max: 3,
            bytes_max: usize::MAX,
        }
    }

    fn page(seqs: impl IntoIterator<Item = u64>, reached: u64) -> Page {
        let event = |seq| {
            let cursor = Cursor { epoch: Epoch::from_bits(1), seq: Seq(seq) };
            let draft = Draft::new(vec![Topic::new("a").unwrap()], Data::text("x")).unwrap();
            PageItem::Event(Arc::new(Committed::new(Event { cursor, at_ms: 0, draft })))
        };
        Page { items: seqs.into_iter().map(event).collect(), reached: Seq(reached) }
    }

    fn pages() -> Pages {
        Pages::new(PagesLimits { count_max: 2, cost_max: usize::MAX, age_max: 2 })
    }

    fn found(pages: &Pages, read: &Read) -> Option<(Vec<u64>, u64)> {
        let page = pages.find(read)?;
        Some((page.events().iter().map(|event| event.seq().0).collect(), page.reached.0))
    }

    #[test]
    fn who_follows_gets_the_page_or_the_rest_of_it() {
        let (mut pages, reader) = (pages(), read("a", 10, 99));
        let kept = pages.keep(&reader, page([11, 13, 16], 16)).unwrap();
        assert_eq!(found(&pages, &read("a", 10, 99)), Some((vec![11, 13, 16], 16)));
        assert_eq!(found(&pages, &read("a", 12, 50)), Some((vec![13, 16], 16)));
        assert_eq!(found(&pages, &read("a", 15, 16)), Some((vec![16], 16)));
        // There is no gap in it that the reader doesn't want to be told.
        let told = Read { told: Some(Arc::new([Seq(5)])), ..reader.clone() };
        assert_eq!(found(&pages, &told), Some((vec![11, 13, 16], 16)));
        let again = pages.find(&read("a", 10, 99)).unwrap();
        assert!(Rc::ptr_eq(&again.events()[0], &kept.events()[0]), "not the same reference");
        // Of another topic, before the page, behind it, and short of its end.
        for read in [read("b", 10, 99), read("a", 9, 99), read("a", 16, 99), read("a", 10, 15)] {
            assert_eq!(found(&pages, &read), None);
        }
    }

    #[test]
    fn what_is_a_readers_own_is_not_kept() {
        let mut pages = pages();
        let (anybody, whole) = (read("a", 10, 99), || page([11, 13], 13));
        let told = Read { told: Some(Arc::new([Seq(5)])), ..anybody.clone() };
        let only = Read { only: Some(Arc::new([Seq(11)])), ..anybody.clone() };
        let gap = Page { items: vec![PageItem::Gap { from: Seq(11), to: Seq(12) }], ..whole() };
        let none = Page { items: vec![], ..whole() };
        let all = read("a", 10, 13);
        for (read, page) in [(&told, whole()), (&only, whole()), (&anybody, gap), (&anybody, none), (&all, whole())] {
            let count = page.items.len();
            assert_eq!(pages.keep(read, page).unwrap_err().items.len(), count);
        }
        pages.keep(&anybody, whole()).unwrap();
        assert_eq!(found(&pages, &only), None);
    }

    #[test]
    fn of_those_who_read_the_same_at_once_one_is_kept() {
        let (mut pages, reader) = (pages(), read("a", 10, 99));
        let first = pages.keep(&reader, page([11, 13], 13)).unwrap();
        let second = pages.keep(&read("a", 10, 99), page([11, 13], 13)).unwrap();
        assert!(Rc::ptr_eq(&first.events()[0], &second.events()[0]));
        assert_eq!(pages.kept.len(), 1);
    }

    #[test]
    fn a_page_goes_with_its_readers_matchers() {
        let (mut pages, reader) = (pages(), read("a", 10, 99));
        let matchers = Arc::downgrade(&reader.matchers);
        pages.keep(&reader, page([11, 13], 13)).unwrap();
        drop(reader);
        assert_eq!(matchers.strong_count(), 0, "a page holds the matchers of a reader that is gone");
        assert_eq!(found(&pages, &read("a", 10, 99)), None);
        pages.age();
        assert_eq!((pages.kept.len(), pages.cost), (0, 0));
    }

    #[test]
    fn the_oldest_go_first_and_none_stays_for_long() {
        let (mut pages, reader) = (pages(), read("a", 0, 99));
        let at = |after| Read { after: Seq(after), ..reader.clone() };
        for after in [0, 10, 20] {
            pages.keep(&at(after), page([after + 1, after + 2], after + 2)).unwrap();
        }
        let is_kept = |pages: &Pages, after| pages.find(&at(after)).is_some();
        assert!(!is_kept(&pages, 0) && is_kept(&pages, 10) && is_kept(&pages, 20));
        pages.age();
        assert!(is_kept(&pages, 20));
        pages.age();
        assert_eq!((pages.kept.len(), pages.cost), (0, 0), "what is asked for again and again isn't read again");
        // One that is too large by itself goes to who has read it, and no further.
        pages.limits.cost_max = 1;
        assert_eq!(pages.keep(&reader, page([1], 1)).unwrap().events().len(), 1);
        assert_eq!((pages.kept.len(), pages.cost), (0, 0));
    }
}
