//! What test hubs say.

use std::time::Duration;

use bytes::Bytes;
use fanwire_client::{FeedEvent, Item};
use fanwire_protocol::{
    Cursor, Data, Draft, Event, EventId, EventType, Seq, Topic,
    message::{Bye, Changed, Gap, GapReason, Hello, Message, Ping, Verdict},
};

use crate::hub::Say;

pub(crate) const EPOCH: &str = "0a1b2c3d4e";

pub(crate) fn cursor(seq: u64) -> Cursor {
    Cursor { epoch: EPOCH.parse().unwrap(), seq: Seq(seq) }
}

pub(crate) fn hello(seq: u64, verdict: Verdict) -> Say {
    Say::Message(Message::Hello(Hello { version: 1, cursor: cursor(seq), verdict, heartbeat_ms: 15_000 }))
}

pub(crate) fn ping(seq: u64) -> Say {
    Say::Message(Message::Ping(Ping { watermark: cursor(seq) }))
}

pub(crate) fn bye(bye: Bye) -> Say {
    Say::Message(Message::Bye(bye))
}

pub(crate) fn gap(from: u64, to: u64) -> Say {
    Say::Message(Message::Gap(Gap { reason: GapReason::Evicted, from: Some(from), to, cursor: cursor(to) }))
}

pub(crate) fn changed(request_id: u64, from_seq: u64) -> Say {
    Say::Message(Message::Changed(Changed { request_id, from_seq }))
}

/// Events of every kind, by their number.
pub(crate) fn event(seq: u64) -> Event {
    let data = match seq % 4 {
        0 => Data::text(&format!("größe {seq} 🎉日本語\nline two\n")),
        1 => Data::Binary(Bytes::from(vec![0, 0xff, b'\n', seq as u8])),
        2 => Data::text(""),
        _ => Data::text(&format!(" data: {seq}\n\n: x")),
    };
    let mut draft = Draft::new(vec![Topic::new("größe;b c%d").unwrap()], data).unwrap();
    if seq.is_multiple_of(3) {
        draft.id = Some(EventId::new("urn:uuid:1 mine").unwrap());
        draft.kind = Some(EventType::new("update").unwrap());
        draft.retry = Some(Duration::from_millis(1));
    }
    Event { cursor: cursor(seq), at_ms: 1_763_757_945_123, draft }
}

pub(crate) fn says(prev: u64, seq: u64) -> Say {
    Say::Event { prev: Seq(prev), event: event(seq) }
}

/// A feed with everything in it, and what a client is to make of it.
pub(crate) fn everything() -> Vec<Say> {
    let mut says = vec![
        hello(3, Verdict::Resumed),
        self::says(3, 4),
        self::says(4, 5),
        ping(9),
        gap(10, 12),
        self::says(12, 14),
        changed(7, 14),
        self::says(14, 15),
        ping(15),
    ];
    says.push(bye(Bye::retry(fanwire_protocol::message::ByeCode::Drain, "später", 1200)));
    says
}

/// What a client is to make of it; `prev` is told only on WebTransport.
pub(crate) fn items(says: &[Say], with_prev: bool) -> Vec<Item> {
    says.iter()
        .filter_map(|say| match say {
            Say::Message(message) => Some(Item::from(message.clone())),
            Say::Event { prev, event } => {
                Some(Item::Event(FeedEvent { prev: with_prev.then_some(*prev), event: event.clone() }))
            }
            Say::Raw(_) => None,
        })
        .collect()
}
