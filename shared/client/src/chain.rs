//! What of a feed is complete where its events come on several streams. [PROTOCOL §5.6]

use std::collections::{HashMap, VecDeque};

use fanwire_protocol::{Cursor, Seq, frame::Malformed};

use crate::{Item, ReceiveError};

/// Joins what comes on several streams by what each says comes before it.
///
/// Events are handed out as they come. Everything else waits until all that comes before it is there, so that a watermark means what
/// it says, and the bye is the last word.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// The feed is complete up to here.
    position: Option<Cursor>,
    /// The last event or gap of the unbroken chain.
    end: Seq,
    /// The events above it: what comes before each, and its number.
    links: HashMap<Seq, Seq>,
    /// What waits for what comes before it.
    held: VecDeque<(Seq, Item)>,
}

impl Chain {
    /// Where the feed is complete, after the items that were handed out.
    pub(crate) fn position(&self) -> Option<Cursor> {
        self.position
    }

    /// Takes an item, and what it says comes before it. Gives it back if it is to be handed out now.
    pub(crate) fn take(&mut self, item: Item, prev: Option<Seq>) -> Result<Option<Item>, ReceiveError> {
        match (item, self.position) {
            (Item::Hello(hello), None) => {
                (self.position, self.end) = (Some(hello.cursor), hello.cursor.seq);
                Ok(Some(Item::Hello(hello)))
            }
            (Item::Hello(_), Some(_)) => Err(Malformed("a second HELLO").into()),
            (Item::Bye(bye), None) => Ok(Some(Item::Bye(bye))),
            (_, None) => Err(Malformed("something comes before HELLO").into()),
            (Item::Event(event), Some(position)) => {
                let (prev, got) = (event.prev.unwrap_or_default(), event.event.cursor);
                if got.seq <= prev || got.seq <= self.end {
                    return Err(ReceiveError::Order { after: position, got });
                }
                if prev < self.end || self.links.contains_key(&prev) {
                    return Err(ReceiveError::Skipped { after: self.end, prev, got });
                }
                if prev == self.end {
                    self.advance(got.seq);
                } else {
                    self.check_room()?;
                    self.links.insert(prev, got.seq);
                }
                Ok(Some(Item::Event(event)))
            }
            (item, Some(_)) => match prev {
                Some(prev) if prev > self.end => {
                    self.check_room()?;
                    self.held.push_back((prev, item));
                    Ok(None)
                }
                _ => self.pass(prev, item).map(Some),
            },
        }
    }

    /// Something that has waited, and has not to any more.
    pub(crate) fn release(&mut self) -> Result<Option<Item>, ReceiveError> {
        let end = self.end;
        match self.held.pop_front_if(|(prev, _)| *prev <= end) {
            Some((prev, item)) => self.pass(Some(prev), item).map(Some),
            None => Ok(None),
        }
    }

    /// Whether anything waits.
    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// The bye, if it waits for what will not come any more.
    pub(crate) fn last_word(&mut self) -> Option<Item> {
        self.held.drain(..).map(|(_, item)| item).find(|item| matches!(item, Item::Bye(_)))
    }

    /// Takes note of an item that isn't an event and is handed out.
    fn pass(&mut self, prev: Option<Seq>, item: Item) -> Result<Item, ReceiveError> {
        if let (Some(cursor), Some(position)) = (item.cursor(), self.position) {
            // A gap that reaches no further than what comes before it is one before the feed's start.
            let is_link = matches!(item, Item::Gap(_)) && prev != Some(cursor.seq);
            if cursor.epoch != position.epoch || is_link && prev.is_some_and(|prev| prev != self.end) {
                return Err(ReceiveError::Order { after: position, got: cursor });
            }
            match item {
                Item::Gap(_) if is_link => self.advance(cursor.seq),
                Item::Gap(_) => {}
                _ => self.reach(cursor.seq),
            }
        }
        Ok(item)
    }

    /// The chain is unbroken up to here, and as far as what is there already goes on from here.
    fn advance(&mut self, mut end: Seq) {
        while let Some(next) = self.links.remove(&end) {
            end = next;
        }
        self.end = end;
        self.reach(end);
    }

    fn reach(&mut self, seq: Seq) {
        if let Some(position) = &mut self.position {
            position.seq = position.seq.max(seq);
        }
    }

    fn check_room(&self) -> Result<(), ReceiveError> {
        if self.links.len() + self.held.len() < AHEAD_MAX { Ok(()) } else { Err(ReceiveError::Ahead { of: self.end }) }
    }
}

/// What may be there above something that is missing. A hub writes no more than a quarter of it ahead of what it couldn't write. Each takes some 50
/// bytes.
pub(crate) const AHEAD_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use fanwire_protocol::{
        Data, Draft, Epoch, Event, Topic,
        message::{Bye, ByeCode, Gap, GapReason, Hello, Ping, Verdict},
    };

    use super::*;
    use crate::FeedEvent;

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: Epoch::from_bits(1), seq: Seq(seq) }
    }

    fn greeted(seq: u64) -> Chain {
        let mut chain = Chain::default();
        let hello = Hello { version: 1, cursor: cursor(seq), verdict: Verdict::Live, heartbeat_ms: 1 };
        assert!(chain.take(Item::Hello(hello), None).unwrap().is_some());
        chain
    }

    fn event(prev: u64, seq: u64) -> (Item, Option<Seq>) {
        let draft = Draft::new(vec![Topic::new("t").unwrap()], Data::text("")).unwrap();
        let event = Event { cursor: cursor(seq), at_ms: 0, draft };
        (Item::Event(FeedEvent { prev: Some(Seq(prev)), event }), None)
    }

    fn gap(prev: u64, to: u64) -> (Item, Option<Seq>) {
        let gap = Gap { reason: GapReason::Evicted, from: None, to, cursor: cursor(to) };
        (Item::Gap(gap), Some(Seq(prev)))
    }

    fn ping(prev: u64, watermark: u64) -> (Item, Option<Seq>) {
        (Item::Ping(Ping { watermark: cursor(watermark) }), Some(Seq(prev)))
    }

    fn bye(prev: u64) -> (Item, Option<Seq>) {
        (Item::Bye(Bye::terminal(ByeCode::Closed, "")), Some(Seq(prev)))
    }

    /// What is handed out at once, and what is let go after it.
    fn take(chain: &mut Chain, (item, prev): (Item, Option<Seq>)) -> (bool, Vec<Item>) {
        let at_once = chain.take(item, prev).unwrap().is_some();
        (at_once, std::iter::from_fn(|| chain.release().unwrap()).collect())
    }

    fn position(chain: &Chain) -> u64 {
        chain.position().unwrap().seq.0
    }

    #[test]
    fn the_cursor_waits_for_what_is_missing_and_events_do_not() {
        let mut chain = greeted(4);
        assert_eq!((take(&mut chain, event(6, 9)).0, position(&chain)), (true, 4));
        assert_eq!((take(&mut chain, event(4, 5)).0, position(&chain)), (true, 5));
        assert_eq!((take(&mut chain, event(5, 6)).0, position(&chain)), (true, 9));
    }

    #[test]
    fn what_is_no_event_comes_after_all_that_is_before_it() {
        let mut chain = greeted(0);
        assert_eq!(take(&mut chain, event(1, 2)), (true, vec![]));
        assert_eq!(take(&mut chain, ping(2, 7)), (false, vec![]));
        assert_eq!(take(&mut chain, gap(2, 9)), (false, vec![]));
        assert_eq!(take(&mut chain, event(9, 10)), (true, vec![]));
        assert_eq!(take(&mut chain, bye(10)), (false, vec![]));
        assert_eq!(position(&chain), 0);
        let (_, released) = take(&mut chain, event(0, 1));
        assert_eq!(released, [ping(2, 7).0, gap(2, 9).0, bye(10).0]);
        assert_eq!(position(&chain), 10);
    }

    #[test]
    fn a_bye_is_the_last_word_though_something_is_missing() {
        let mut chain = greeted(0);
        assert_eq!(take(&mut chain, bye(3)), (false, vec![]));
        assert_eq!(chain.last_word(), Some(bye(3).0));
    }

    #[test]
    fn a_gap_before_the_start_breaks_no_chain() {
        let mut chain = greeted(4);
        assert_eq!(take(&mut chain, event(4, 5)), (true, vec![]));
        assert_eq!(take(&mut chain, gap(4, 4)), (true, vec![]));
        assert_eq!(position(&chain), 5);
    }

    #[test]
    fn repeats_and_forks_are_errors() {
        for bad in [
            event(3, 4),
            event(4, 5),
            event(7, 10),
            event(8, 8),
            gap(4, 6),
            (Item::Ping(Ping { watermark: Cursor { epoch: Epoch::from_bits(2), seq: Seq(9) } }), None),
        ] {
            let mut chain = greeted(4);
            take(&mut chain, event(4, 5));
            take(&mut chain, event(7, 9));
            assert!(chain.take(bad.0.clone(), bad.1).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_ahead_is_bounded() {
        let mut chain = greeted(0);
        for seq in 0..AHEAD_MAX as u64 {
            take(&mut chain, event(2 * seq + 1, 2 * seq + 3));
        }
        let (item, prev) = event(100_001, 100_002);
        assert!(matches!(chain.take(item, prev), Err(ReceiveError::Ahead { .. })));
    }
}
