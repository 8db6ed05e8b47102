//! Frames that say what comes before them, for feeds whose frames don't all come one behind the other. [PROTOCOL §5.6, §5.7]

use bytes::Bytes;
use fanwire_protocol::{Seq, frame, message::Bye};

use crate::core::{Item, Shared};

/// What an item is to be written as.
pub(super) enum Linked {
    /// An event, with the number before it in the feed.
    Event { prev: Seq, event: Shared, lossy: bool },
    /// A whole frame, and the bye if it is one.
    Frame(Bytes, Option<Bye>),
}

impl Linked {
    /// `prev`: the number of the last event or gap that was taken.
    pub(super) fn take(item: Item, prev: &mut Seq) -> Self {
        let before = *prev;
        let linked = match item {
            Item::Event { prev: before, event, lossy } => {
                *prev = event.seq();
                return Self::Event { prev: before, event, lossy };
            }
            Item::Hello(hello) => frame::json(frame::HELLO, &hello),
            Item::Gap(gap) => {
                *prev = gap.cursor.seq;
                frame::linked_json(frame::GAP, before, &gap)
            }
            Item::Changed(changed) => frame::linked_json(frame::CHANGED, before, &changed),
            Item::Ping(ping) => frame::linked_json(frame::PING, before, &ping),
            Item::Bye(bye) => return Self::Frame(frame::linked_json(frame::BYE, before, &bye), Some(*bye)),
        };
        Self::Frame(linked, None)
    }
}
