//! A feed as the text of an event stream.

use bytes::{Bytes, BytesMut};
use fanwire_protocol::{
    message::Message,
    sse::{comment, control_message, id_block},
};

use super::pieces::{JOINED_BYTES_MAX, Pieces};
use crate::{
    core::{Chunk, Committed, Item},
    fanout::{Feed, Form},
    http::OpenFeed,
};

/// Writes the items of one feed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer {
    control: bool,
    /// Each piece is a chunk of HTTP/1.1's chunked coding.
    chunked: bool,
}

impl Writer {
    pub(super) fn new(open: &OpenFeed, chunked: bool) -> Self {
        Self { control: open.control, chunked }
    }

    /// What a stream begins with, at once: neither proxies nor front ends should wait for an event to see it open.
    pub(super) fn opening(self, open: &OpenFeed) -> Bytes {
        let mut text = format!("retry: {}\n", open.retry_ms).into_bytes();
        text.extend_from_slice(&comment("fanwire"));
        if open.browser && !self.control {
            // A reconnect before the first event then loses nothing. Others may take the blank line for an event.
            text.extend_from_slice(&id_block(open.grant.cursor));
        }
        self.piece(text.into())
    }

    /// The texts of a feed's items that came together, as few pieces as may be. Leaves `items` empty.
    pub(super) fn items(self, items: &mut Vec<Item>, feed: &Feed, out: &mut impl Extend<Bytes>) {
        if items.len() <= 1 {
            return out.extend(items.pop().and_then(|item| self.item(item)));
        }
        let form = Form::Text { control: self.control, chunked: self.chunked };
        if let Some(text) = feed.joined(form, items, || self.join(items)) {
            items.clear();
            return out.extend([text]);
        }
        let mut pieces = Pieces::with_capacity(items.len() * EVENT_BYTES_USUAL);
        for item in items.drain(..) {
            match item {
                Item::Event { event, .. } if self.chunked => pieces.put(event.sse(self.control).framed(), out),
                item => self.item(item).iter().for_each(|text| pieces.put(text, out)),
            }
        }
        pieces.flush(out);
    }

    /// Events as one text, if they are small.
    fn join(self, items: &[Item]) -> Option<Bytes> {
        let chunks = || {
            items.iter().filter_map(|item| match item {
                Item::Event { event, .. } => Some(event.sse(self.control)),
                _ => None,
            })
        };
        let bytes: usize = chunks().map(|chunk| chunk.as_text().len()).sum();
        if bytes > JOINED_BYTES_MAX {
            return None;
        }
        let mut joined = BytesMut::with_capacity(bytes + CHUNK_BYTES_MAX);
        if self.chunked {
            joined.extend_from_slice(format!("{bytes:x}\r\n").as_bytes());
        }
        chunks().for_each(|chunk| joined.extend_from_slice(chunk.as_text()));
        if self.chunked {
            joined.extend_from_slice(b"\r\n");
        }
        Some(joined.freeze())
    }

    /// An event's text.
    pub(super) fn chunk(self, event: &Committed) -> &Chunk {
        event.sse(self.control)
    }

    /// The text of an item; none where this client isn't told of such a thing.
    pub(super) fn item(self, item: Item) -> Option<Bytes> {
        let message = match item {
            Item::Event { event, .. } => {
                let chunk = event.sse(self.control);
                return Some(if self.chunked { chunk.framed().clone() } else { chunk.text() });
            }
            Item::Hello(hello) => Message::Hello(*hello),
            Item::Gap(gap) => Message::Gap(*gap),
            Item::Changed(changed) => Message::Changed(changed),
            Item::Ping(ping) => Message::Ping(ping),
            Item::Bye(bye) => Message::Bye(*bye),
        };
        if self.control {
            return Some(self.piece(control_message(&message)));
        }
        let text = match message {
            Message::Ping(_) => comment("ping"),
            Message::Gap(gap) => comment(&format!("events up to {} may be missing", gap.cursor)),
            Message::Bye(bye) => format!("retry: {}\n", bye.retry_ms?).into(),
            Message::Hello(_) | Message::Changed(_) => return None,
        };
        Some(self.piece(text))
    }

    fn piece(self, text: Bytes) -> Bytes {
        if self.chunked { Chunk::new(&text).framed().clone() } else { text }
    }
}

/// What a chunk takes besides its text: a length, and two ends of lines.
const CHUNK_BYTES_MAX: usize = 20;
/// What is set aside for each event that is copied; more is got where it is needed.
pub(super) const EVENT_BYTES_USUAL: usize = 192;
/// How many items are taken from a feed at a time.
pub(super) const ITEMS_A_TURN: usize = 128;
