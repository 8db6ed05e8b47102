//! `delivery=ordered`: a feed on one stream.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use fanwire_protocol::{frame, message::Bye};

use super::bye_after;
use crate::{
    core::{Item, Taken},
    fanout::{Connection, Feed, Form, Room},
    transport::{
        pieces::{JOINED_BYTES_MAX, Pieces},
        quic::{SendStream, WriteError},
        sse::{EVENT_BYTES_USUAL, ITEMS_A_TURN},
    },
};

/// The stream of a feed, and what it hasn't taken yet.
pub(super) struct Ordered {
    feed: Rc<Feed>,
    stream: SendStream,
    chunks: Vec<Bytes>,
    written: usize,
    /// The feed gives nothing more; with the bye that it said, if it said one.
    end: Option<Option<Bye>>,
}

impl Ordered {
    pub(super) fn new(feed: Rc<Feed>, stream: SendStream) -> Self {
        Self { feed, stream, chunks: Vec::new(), written: 0, end: None }
    }

    /// Writes the feed as frames, until its bye, which is returned, or until nobody reads it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bye>> {
        self.poll_feed(cx, &mut Vec::new())
    }

    pub(super) fn into_stream(self) -> SendStream {
        self.stream
    }

    fn poll_feed(&mut self, cx: &mut Context<'_>, items: &mut Vec<Item>) -> Poll<Option<Bye>> {
        loop {
            if let Err(error) = ready!(self.poll_write(cx)) {
                return Poll::Ready(bye_after(error));
            }
            if let Some(bye) = &self.end {
                return Poll::Ready(bye.clone());
            }
            let taken = ready!(self.feed.poll_take(cx, ITEMS_A_TURN, items));
            match self.join(items) {
                Some(frames) => {
                    items.clear();
                    self.chunks.push(frames);
                    self.end = (taken == Taken::Ended).then_some(None);
                }
                None => self.put(items, taken),
            }
        }
    }

    /// Ready once nothing waits here.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        while self.written < self.chunks.len() {
            self.written += ready!(self.stream.poll_write_chunks(cx, &mut self.chunks[self.written..]))?;
        }
        // An idle feed keeps no buffers: there may be tens of thousands.
        self.chunks = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Several events as one piece, which others may get as well, if they aren't too long for that.
    fn join(&self, items: &[Item]) -> Option<Bytes> {
        // Each of them comes behind the one before it here, so it is the first one's that is the feed's own.
        let [Item::Event { prev: first, .. }, _, ..] = items else { return None };
        let events = || {
            items.iter().filter_map(|item| match item {
                Item::Event { prev, event, .. } => Some((*prev, event.frame_body())),
                _ => None,
            })
        };
        self.feed.joined(Form::Frames { after: *first }, items, || {
            let bytes = events().map(|(prev, body)| frame::event_bytes(prev, body.len())).sum();
            if bytes > JOINED_BYTES_MAX {
                return None;
            }
            let mut frames = BytesMut::with_capacity(bytes);
            for (prev, body) in events() {
                frame::put_event_head(&mut frames, prev, body.len());
                frames.extend_from_slice(body);
            }
            Some(frames.freeze())
        })
    }

    /// Makes what was taken frames that are to be written.
    fn put(&mut self, items: &mut Vec<Item>, taken: Taken) {
        let mut pieces = Pieces::with_capacity(items.len() * EVENT_BYTES_USUAL);
        let mut said = None;
        for item in items.drain(..) {
            let encoded = match item {
                Item::Event { prev, event, .. } => {
                    let body = event.frame_body();
                    frame::put_event_head(pieces.own(), prev, body.len());
                    pieces.put(body, &mut self.chunks);
                    continue;
                }
                Item::Hello(hello) => frame::json(frame::HELLO, &hello),
                Item::Gap(gap) => frame::json(frame::GAP, &gap),
                Item::Changed(changed) => frame::json(frame::CHANGED, &changed),
                Item::Ping(ping) => frame::json(frame::PING, &ping),
                Item::Bye(bye) => {
                    let encoded = frame::json(frame::BYE, &bye);
                    said = Some(*bye);
                    encoded
                }
            };
            pieces.put(&encoded, &mut self.chunks);
        }
        pieces.flush(&mut self.chunks);
        if said.is_some() || taken == Taken::Ended {
            self.end = Some(said);
        }
    }
}

impl Connection for Ordered {
    fn feed(&self) -> &Feed {
        &self.feed
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>, room: &mut Room) -> Poll<()> {
        // Of an end the task finds out when it looks.
        self.poll_feed(cx, &mut room.items).map(drop)
    }

    fn touch(&self) -> usize {
        Rc::strong_count(&self.feed) + self.stream.touch()
    }
}
