//! A feed where the newest event of a topic wins. [PROTOCOL §5.7]

use std::collections::{BTreeMap, HashMap};

use fanwire_protocol::{Cursor, Seq, Topic, frame::Malformed};

use crate::{Item, ReceiveError};

/// Drops what is older than what was handed out of its topic.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// The newest thing that was handed out.
    position: Option<Cursor>,
    /// The newest event of each of the topics that were heard of last.
    of_topics: HashMap<Topic, Seq>,
    topics: BTreeMap<Seq, Topic>,
    /// The newest event of a topic that isn't among them: whatever is older may be older than what was handed out of its topic.
    forgotten: Seq,
}

impl Newest {
    /// Where the feed is, after the items that were handed out.
    pub(crate) fn position(&self) -> Option<Cursor> {
        self.position
    }

    /// Takes an item. Gives it back unless something newer of its topic was handed out.
    pub(crate) fn take(&mut self, item: Item) -> Result<Option<Item>, ReceiveError> {
        let position = match (&item, self.position) {
            (Item::Hello(hello), None) => {
                self.position = Some(hello.cursor);
                return Ok(Some(item));
            }
            (Item::Hello(_), Some(_)) => return Err(Malformed("a second HELLO").into()),
            (Item::Bye(_), _) => return Ok(Some(item)),
            (_, None) => return Err(Malformed("something comes before HELLO").into()),
            (_, Some(position)) => position,
        };
        let Some(cursor) = item.cursor() else { return Ok(Some(item)) };
        if cursor.epoch != position.epoch {
            return Err(ReceiveError::Order { after: position, got: cursor });
        }
        if let Item::Event(event) = &item
            && !self.note(event.event.draft.canonical(), cursor.seq)
        {
            return Ok(None);
        }
        self.position = Some(Cursor { seq: position.seq.max(cursor.seq), ..position });
        Ok(Some(item))
    }

    /// Whether it is the newest of its topic, as far as is known.
    fn note(&mut self, topic: &Topic, seq: Seq) -> bool {
        let before = self.of_topics.get(topic).copied();
        if seq <= before.unwrap_or(self.forgotten) {
            return false;
        }
        if let Some(before) = before {
            self.topics.remove(&before);
        } else if self.topics.len() >= TOPICS_MAX
            && let Some((oldest, forgotten)) = self.topics.pop_first()
        {
            self.of_topics.remove(&forgotten);
            self.forgotten = oldest;
        }
        self.of_topics.insert(topic.clone(), seq);
        self.topics.insert(seq, topic.clone());
        true
    }
}

/// The most topics whose newest event is remembered. [PROTOCOL §5.7]
const TOPICS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use fanwire_protocol::{
        Data, Draft, Epoch, Event,
        message::{Gap, GapReason, Hello, Ping, Verdict},
    };

    use super::*;
    use crate::FeedEvent;

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: Epoch::from_bits(1), seq: Seq(seq) }
    }

    fn greeted(seq: u64) -> Newest {
        let mut newest = Newest::default();
        let hello = Hello { version: 1, cursor: cursor(seq), verdict: Verdict::Live, heartbeat_ms: 1 };
        assert!(newest.take(Item::Hello(hello)).unwrap().is_some());
        newest
    }

    fn event(topic: u64, seq: u64) -> Item {
        let draft = Draft::new(vec![Topic::new(&topic.to_string()).unwrap()], Data::text("")).unwrap();
        Item::Event(FeedEvent { prev: Some(Seq(0)), event: Event { cursor: cursor(seq), at_ms: 0, draft } })
    }

    fn takes(newest: &mut Newest, topic: u64, seq: u64) -> bool {
        newest.take(event(topic, seq)).unwrap().is_some()
    }

    #[test]
    fn what_is_older_than_what_was_handed_out_of_its_topic_is_dropped() {
        let mut newest = greeted(3);
        let (a, b) = (1, 2);
        assert!(takes(&mut newest, a, 9) && !takes(&mut newest, a, 8) && !takes(&mut newest, a, 9));
        assert!(takes(&mut newest, b, 5) && takes(&mut newest, a, 10));
        assert_eq!(newest.position(), Some(cursor(10)));
    }

    #[test]
    fn of_a_topic_that_was_forgotten_nothing_old_comes_again() {
        let mut newest = greeted(0);
        let many = TOPICS_MAX as u64;
        assert!((1..=many + 2).all(|seq| takes(&mut newest, seq, seq)));
        assert_eq!((newest.of_topics.len(), newest.topics.len()), (TOPICS_MAX, TOPICS_MAX));
        assert!(
            !takes(&mut newest, 1, 1) && !takes(&mut newest, many + 3, 2),
            "it may be older than what was handed out"
        );
        assert!(takes(&mut newest, 1, many + 3));
    }

    #[test]
    fn gaps_and_watermarks_move_the_position_forward_only() {
        let mut newest = greeted(0);
        takes(&mut newest, 1, 7);
        for (item, position) in [
            (Item::Ping(Ping { watermark: cursor(5) }), 7),
            (Item::Gap(Gap { reason: GapReason::Evicted, from: None, to: 9, cursor: cursor(9) }), 9),
            (Item::Ping(Ping { watermark: cursor(12) }), 12),
        ] {
            assert!(newest.take(item).unwrap().is_some());
            assert_eq!(newest.position(), Some(cursor(position)));
        }
    }

    #[test]
    fn another_log_is_an_error() {
        let watermark = Cursor { epoch: Epoch::from_bits(2), seq: Seq(9) };
        assert!(greeted(0).take(Item::Ping(Ping { watermark })).is_err());
        assert!(Newest::default().take(event(1, 1)).is_err());
    }
}
