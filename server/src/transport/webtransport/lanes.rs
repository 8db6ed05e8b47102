//! `delivery=per-topic`: a feed on several streams, so that what is lost of one topic holds up no other. [PROTOCOL §5.6]

use std::{
    collections::VecDeque,
    future::poll_fn,
    mem,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use fanwire_protocol::{
    Seq, Topic, frame,
    message::{Bye, Lane},
};

use super::{bye_after, linked::Linked};
use crate::{
    core::{Item, Taken},
    fanout::Feed,
    transport::{
        quic::{SendStream, Session, WriteError},
        sse::ITEMS_A_TURN,
    },
};

/// The streams of one feed: its own, and the lanes beside it, which are opened as their topics come.
///
/// They are written as the client takes them, each by itself. What waits to be written is bounded over all of them, so a lane that
/// doesn't move holds the others up only once they are far ahead of it.
pub(super) struct Lanes<'a> {
    session: &'a Session,
    /// The feed's own stream comes first: it carries what isn't an event, and the topics for which the client allows no further stream.
    streams: Vec<Stream>,
    /// Which stream each group of topics has: the same for as long as the session lives, or its order would be lost.
    groups: [Option<usize>; LANES_MAX],
    hasher: ahash::RandomState,
    /// The number of the last event or gap that was taken, or where the feed starts.
    prev: Seq,
    /// How many items were taken.
    taken: u64,
    items: Vec<Item>,
    /// The feed gives nothing more; with the bye that it said, if it said one.
    end: Option<Option<Bye>>,
}

struct Stream {
    stream: SendStream,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// How many items had been taken when something began to wait here. Something of them waits, or has waited since.
    behind_since: u64,
}

impl<'a> Lanes<'a> {
    /// The streams of a feed that starts after a number; its own is open.
    pub(super) fn new(session: &'a Session, feed_stream: SendStream, start: Seq) -> Self {
        Self {
            session,
            streams: vec![Stream::new(feed_stream)],
            groups: [None; LANES_MAX],
            // Where topics go is no secret, and the same everywhere.
            hasher: ahash::RandomState::with_seeds(1, 2, 3, 4),
            prev: start,
            taken: 0,
            items: Vec::new(),
            end: None,
        }
    }

    /// Writes the feed until its bye, which is returned, or until nobody reads it.
    pub(super) async fn write_feed(&mut self, feed: &Feed) -> Option<Bye> {
        poll_fn(|cx| self.poll_write_feed(cx, feed)).await.unwrap_or_else(bye_after)
    }

    pub(super) fn into_streams(self) -> impl Iterator<Item = SendStream> {
        self.streams.into_iter().map(|stream| stream.stream)
    }

    fn poll_write_feed(&mut self, cx: &mut Context<'_>, feed: &Feed) -> Poll<Result<Option<Bye>, WriteError>> {
        loop {
            let mut is_written = true;
            for stream in &mut self.streams {
                is_written &= stream.poll_write(cx)?.is_ready();
            }
            if is_written && let Some(bye) = self.end.take() {
                return Poll::Ready(Ok(bye));
            }
            let room = self.room();
            if self.end.is_some() || room == 0 {
                return Poll::Pending;
            }
            let taken = ready!(feed.poll_take(cx, room.min(ITEMS_A_TURN), &mut self.items));
            self.deal(taken);
        }
    }

    /// How many more items may be taken.
    fn room(&self) -> usize {
        let waiting = self.streams.iter().filter(|stream| !stream.waiting.is_empty());
        let (mut chunks, mut bytes, mut oldest) = (0, 0, self.taken);
        for stream in waiting {
            chunks += stream.waiting.len();
            bytes += stream.waiting_bytes;
            oldest = oldest.min(stream.behind_since);
        }
        if chunks >= WAITING_CHUNKS_MAX || bytes >= WAITING_BYTES_MAX {
            return 0;
        }
        AHEAD_ITEMS_MAX.saturating_sub((self.taken - oldest) as usize)
    }

    /// Gives what was taken to the streams.
    fn deal(&mut self, taken: Taken) {
        let mut items = mem::take(&mut self.items);
        let mut heads = BytesMut::with_capacity(items.len() * EVENT_HEAD_BYTES_MAX);
        let mut said = None;
        for item in items.drain(..) {
            match Linked::take(item, &mut self.prev) {
                Linked::Event { prev, event, .. } => {
                    let body = event.frame_body();
                    frame::put_event_head(&mut heads, prev, body.len());
                    let stream = self.stream_of(event.draft.canonical());
                    self.push(stream, heads.split().freeze());
                    self.push(stream, body.clone());
                }
                Linked::Frame(frame, bye) => {
                    self.push(FEED_STREAM, frame);
                    said = said.or(bye);
                }
            }
            self.taken += 1;
        }
        self.items = items;
        if said.is_some() || taken == Taken::Ended {
            self.end = Some(said);
        }
    }

    fn push(&mut self, stream: usize, chunk: Bytes) {
        let stream = &mut self.streams[stream];
        if stream.waiting.is_empty() {
            stream.behind_since = self.taken;
        }
        stream.waiting_bytes += chunk.len();
        stream.waiting.push_back(chunk);
    }

    /// The stream of a topic.
    fn stream_of(&mut self, topic: &Topic) -> usize {
        let group = self.hasher.hash_one(topic) as usize % LANES_MAX;
        if let Some(stream) = self.groups[group] {
            return stream;
        }
        let stream = match self.session.try_open_uni() {
            Some((stream, header)) => {
                let mut stream = Stream::new(stream);
                stream.waiting_bytes = header.len();
                stream.behind_since = self.taken;
                stream.waiting.push_back(header);
                self.streams.push(stream);
                let stream = self.streams.len() - 1;
                self.push(stream, frame::json(frame::LANE, &Lane { lane: group as u64 }));
                stream
            }
            None => FEED_STREAM,
        };
        self.groups[group] = Some(stream);
        stream
    }
}

impl Stream {
    fn new(stream: SendStream) -> Self {
        Self { stream, waiting: VecDeque::new(), waiting_bytes: 0, behind_since: 0 }
    }

    /// Ready once nothing waits here.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        while !self.waiting.is_empty() {
            match self.stream.poll_write_chunks(cx, self.waiting.make_contiguous()) {
                Poll::Ready(written) => drop(self.waiting.drain(..written?)),
                Poll::Pending => {
                    self.waiting_bytes = self.waiting.iter().map(Bytes::len).sum();
                    return Poll::Pending;
                }
            }
        }
        // An idle feed keeps no buffers: there may be tens of thousands.
        self.waiting = VecDeque::new();
        self.waiting_bytes = 0;
        Poll::Ready(Ok(()))
    }
}

const FEED_STREAM: usize = 0;
/// How many streams a feed opens beside its own. A client pays some hundred bytes for each, and allows a hundred or so.
const LANES_MAX: usize = 16;
/// What waits to be written in all lanes together, two chunks an event; what is taken in one go may exceed both.
const WAITING_CHUNKS_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// How far a feed goes on beyond what it couldn't write. A client remembers what is above a hole, so it needs a bound. [PROTOCOL §5.6]
const AHEAD_ITEMS_MAX: usize = 1024;

/// A type of one byte, a length of up to four, and a seq of up to eight.
const EVENT_HEAD_BYTES_MAX: usize = 13;
