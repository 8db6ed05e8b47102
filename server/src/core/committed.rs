//! An event of the log together with its encodings.

use std::{ops::Deref, sync::OnceLock};

use bytes::Bytes;
use fanwire_protocol::{Event, frame, sse};

/// An event that the log has committed. It is encoded at most once per wire format; every delivery hands out the same bytes.
#[derive(Debug)]
pub struct Committed {
    event: Event,
    cost: usize,
    sse: OnceLock<Chunk>,
    sse_control: OnceLock<Chunk>,
    frame_body: OnceLock<Bytes>,
}

/// A piece of an event stream, with and without HTTP/1.1's chunk framing around it, in one allocation.
#[derive(Debug, Clone)]
pub struct Chunk {
    framed: Bytes,
    head_bytes: usize,
}

impl Committed {
    /// Takes an event over from the log.
    pub fn new(event: Event) -> Self {
        let cost = event.draft.cost();
        Self { event, cost, sse: OnceLock::new(), sse_control: OnceLock::new(), frame_body: OnceLock::new() }
    }

    /// [`Draft::cost`](fanwire_protocol::Draft::cost), which looks at the event's parts, and those are far away in memory by the time that it
    /// is let go of.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// The event as SSE text, for clients with `control=1` or without.
    pub fn sse(&self, control: bool) -> &Chunk {
        if control {
            self.sse_control.get_or_init(|| Chunk::new(&sse::event_with_control_id(&self.event)))
        } else {
            self.sse.get_or_init(|| Chunk::new(&sse::event(&self.event)))
        }
    }

    /// The event as the shared part of a WebTransport frame: see [`frame::event_body`].
    pub fn frame_body(&self) -> &Bytes {
        self.frame_body.get_or_init(|| frame::event_body(&self.event))
    }
}

impl Deref for Committed {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

impl Chunk {
    /// Frames a text, which must not be empty: an empty chunk ends a response. [RFC 9112 §7.1]
    pub fn new(text: &[u8]) -> Self {
        debug_assert!(!text.is_empty());
        let head = format!("{:x}\r\n", text.len());
        let mut framed = Vec::with_capacity(head.len() + text.len() + 2);
        framed.extend_from_slice(head.as_bytes());
        framed.extend_from_slice(text);
        framed.extend_from_slice(b"\r\n");
        Self { framed: framed.into(), head_bytes: head.len() }
    }

    /// As a chunk of HTTP/1.1's chunked coding.
    pub fn framed(&self) -> &Bytes {
        &self.framed
    }

    /// As it is.
    pub fn text(&self) -> Bytes {
        self.framed.slice_ref(self.as_text())
    }

    /// As it is, where it lies.
    pub fn as_text(&self) -> &[u8] {
        &self.framed[self.head_bytes..self.framed.len() - 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_has_its_text_inside() {
        let chunk = Chunk::new(&[b'x'; 17]);
        assert_eq!(&chunk.framed()[..4], b"11\r\n");
        assert_eq!(&chunk.framed()[21..], b"\r\n");
        assert_eq!(chunk.text(), &[b'x'; 17][..]);
    }
}
