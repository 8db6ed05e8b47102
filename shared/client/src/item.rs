//! What a feed brings, the same on every transport.

use fanwire_protocol::{
    Cursor, Event, Seq,
    frame::Malformed,
    message::{Bye, Changed, Gap, Hello, Message, Ping},
};

use crate::ReceiveError;

/// One thing from a feed, in the feed's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The feed begins; always the first item, unless [`Item::Bye`] is.
    Hello(Hello),
    /// An event.
    Event(FeedEvent),
    /// An event of an SSE feed without control messages.
    Plain(PlainEvent),
    /// Loss, told.
    Gap(Gap),
    /// A heartbeat: the feed is complete up to its watermark.
    Ping(Ping),
    /// The matchers changed.
    Changed(Changed),
    /// The end; the last item.
    Bye(Bye),
}

impl Item {
    /// Where the feed is after this item, if the item says so.
    pub fn cursor(&self) -> Option<Cursor> {
        match self {
            Self::Hello(hello) => Some(hello.cursor),
            Self::Event(event) => Some(event.event.cursor),
            Self::Gap(gap) => Some(gap.cursor),
            Self::Ping(ping) => Some(ping.watermark),
            Self::Plain(_) | Self::Changed(_) | Self::Bye(_) => None,
        }
    }
}

impl From<Message> for Item {
    fn from(message: Message) -> Self {
        match message {
            Message::Hello(hello) => Self::Hello(hello),
            Message::Gap(gap) => Self::Gap(gap),
            Message::Ping(ping) => Self::Ping(ping),
            Message::Changed(changed) => Self::Changed(changed),
            Message::Bye(bye) => Self::Bye(bye),
        }
    }
}

/// An event as a feed has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// The event before it in this feed. Only WebTransport says so.
    pub prev: Option<Seq>,
    /// The event. Of its topics only the canonical one; `private` is only told on WebTransport.
    pub event: Event,
}

/// An event of an SSE feed as any EventSource sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainEvent {
    /// The last event id.
    pub id: String,
    /// The type.
    pub kind: Option<String>,
    /// The data; base64 where it was published as binary.
    pub data: String,
}

/// Holds a feed to its word: hello first, every event after the one before.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// The feed is complete up to here.
    position: Option<Cursor>,
    /// What the next event's `prev` has to be.
    chain: Seq,
}

impl Order {
    pub(crate) fn position(&self) -> Option<Cursor> {
        self.position
    }

    /// Takes note of an item that is about to be handed out.
    pub(crate) fn check(&mut self, item: &Item) -> Result<(), ReceiveError> {
        let (cursor, position) = match (item, self.position) {
            (Item::Plain(_) | Item::Bye(_), _) => return Ok(()),
            (Item::Hello(hello), None) => {
                (self.position, self.chain) = (Some(hello.cursor), hello.cursor.seq);
                return Ok(());
            }
            (Item::Hello(_), Some(_)) => return Err(Malformed("a second HELLO").into()),
            (_, None) => return Err(Malformed("something comes before HELLO").into()),
            (item, Some(position)) => (item.cursor(), position),
        };
        let Some(cursor) = cursor else { return Ok(()) };
        let order = ReceiveError::Order { after: position, got: cursor };
        match item {
            Item::Event(event) => {
                if cursor.epoch != position.epoch || cursor.seq <= position.seq {
                    return Err(order);
                }
                match event.prev {
                    Some(prev) if prev != self.chain => {
                        return Err(ReceiveError::Skipped { after: self.chain, prev, got: cursor });
                    }
                    _ => self.chain = cursor.seq,
                }
            }
            Item::Gap(_) => {
                if cursor.epoch == position.epoch && cursor.seq < position.seq {
                    return Err(order);
                }
                self.chain = cursor.seq;
            }
            // A watermark may be older than the last event: it says nothing then.
            _ if cursor.epoch != position.epoch => return Err(order),
            _ if cursor.seq < position.seq => return Ok(()),
            _ => {}
        }
        self.position = Some(cursor);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanwire_protocol::{
        Data, Draft, Epoch, Topic,
        message::{GapReason, Verdict},
    };

    fn cursor(seq: u64) -> Cursor {
        Cursor { epoch: Epoch::from_bits(1), seq: Seq(seq) }
    }

    fn hello(seq: u64) -> Item {
        Item::Hello(Hello { version: 1, cursor: cursor(seq), verdict: Verdict::Live, heartbeat_ms: 1 })
    }

    fn event(prev: Option<u64>, seq: u64) -> Item {
        let draft = Draft::new(vec![Topic::new("t").unwrap()], Data::text("")).unwrap();
        Item::Event(FeedEvent { prev: prev.map(Seq), event: Event { cursor: cursor(seq), at_ms: 0, draft } })
    }

    fn gap(to: u64) -> Item {
        Item::Gap(Gap { reason: GapReason::Evicted, from: None, to, cursor: cursor(to) })
    }

    fn ping(seq: u64) -> Item {
        Item::Ping(Ping { watermark: cursor(seq) })
    }

    fn run(items: &[Item]) -> Result<Option<Cursor>, ReceiveError> {
        let mut order = Order::default();
        items.iter().try_for_each(|item| order.check(item))?;
        Ok(order.position())
    }

    #[test]
    fn a_watermark_moves_the_position_and_not_the_chain() {
        let items = [hello(4), event(Some(4), 5), ping(9), event(Some(5), 10), gap(20), event(Some(20), 22), ping(21)];
        assert_eq!(run(&items).unwrap(), Some(cursor(22)));
    }

    #[test]
    fn repeats_skips_and_strangers_are_errors() {
        let bad: [&[Item]; 8] = [
            &[event(None, 1)],
            &[ping(1)],
            &[hello(1), hello(1)],
            &[hello(5), event(None, 5)],
            &[hello(5), ping(9), event(None, 9)],
            &[hello(5), event(Some(4), 6)],
            &[hello(5), event(Some(5), 7), event(Some(6), 8)],
            &[hello(5), gap(4)],
        ];
        for items in bad {
            assert!(run(items).is_err(), "{items:?}");
        }
    }
}
