//! A feed on several streams. [PROTOCOL §5.6]

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use fanwire_protocol::{
    Cursor, Epoch, Seq,
    frame::{self, Decoder, Frame, Malformed},
    message::Verdict,
};
use web_transport_quinn::{ReadError, RecvStream};

use super::{CHUNK_BYTES_MAX, Feed, read, read_error, session_error};
use crate::{Item, ReceiveError, chain::Chain};

/// Reads one feed from all of its streams.
#[derive(Debug)]
pub(crate) struct Lanes {
    feed: Feed,
    streams: Vec<Stream>,
    /// Where to look first for more, so that each stream has its turn.
    turn: usize,
    event_bytes_max: usize,
    epoch: Option<Epoch>,
    /// HELLO has come, and the GAP behind it where its verdict says that there is one: what is on the lanes comes after them.
    has_begun: bool,
    retry: Option<Duration>,
    /// What came, and what comes before it in the feed where the frame says so.
    arrived: VecDeque<(Item, Option<Seq>)>,
    chain: Chain,
}

#[derive(Debug)]
struct Stream {
    incoming: RecvStream,
    decoder: Decoder,
    /// None before its first frame.
    role: Option<Role>,
    is_over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The feed's own stream.
    Feed,
    /// Events only, up to this one so far.
    Lane(Seq),
}

/// What there is more of.
enum More {
    Stream(RecvStream),
    Bytes(usize, Bytes),
    End(usize),
}

impl Lanes {
    pub(crate) fn new(feed: Feed, event_bytes_max: usize) -> Self {
        Self {
            feed,
            streams: Vec::new(),
            turn: 0,
            event_bytes_max,
            epoch: None,
            has_begun: false,
            retry: None,
            arrived: VecDeque::new(),
            chain: Chain::default(),
        }
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    pub(crate) fn feed_mut(&mut self) -> &mut Feed {
        &mut self.feed
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The last `retry` of an event.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The next item, of what has come.
    pub(crate) fn pop(&mut self) -> Result<Option<Item>, ReceiveError> {
        loop {
            if let Some(item) = self.chain.release()? {
                return Ok(Some(item));
            }
            let Some((item, prev)) = self.arrived.pop_front() else { return Ok(None) };
            if let Some(item) = self.chain.take(item, prev)? {
                return Ok(Some(item));
            }
        }
    }

    /// The bye, where the rest of what it waits for won't come any more.
    pub(crate) fn last_word(&mut self) -> Option<Item> {
        self.chain.last_word()
    }

    /// Waits for more. Cancel-safe.
    pub(crate) async fn fill(&mut self) -> Result<(), ReceiveError> {
        match self.more().await? {
            More::Stream(incoming) => self.add(incoming)?,
            More::Bytes(index, bytes) => {
                self.streams[index].decoder.feed(&bytes);
                let had_begun = self.has_begun;
                self.decode(index)?;
                if !had_begun && self.has_begun {
                    (0..self.streams.len()).try_for_each(|index| self.decode(index))?;
                }
            }
            More::End(index) => {
                let stream = &mut self.streams[index];
                stream.is_over = true;
                if !stream.decoder.is_empty() {
                    return Err(Malformed("a stream of the feed ends inside a frame").into());
                }
                if stream.role == Some(Role::Feed) && !self.chain.is_holding() && self.arrived.is_empty() {
                    return Err(ReceiveError::Ended);
                }
            }
        }
        Ok(())
    }

    /// The payload of the next frame of any stream, neither read nor joined with the others. For measuring. Cancel-safe.
    pub(crate) async fn next_payload(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        loop {
            for stream in &mut self.streams {
                if let Some(frame) = stream.decoder.next()? {
                    self.has_begun |= frame.kind == frame::HELLO;
                    return Ok(Some(frame.payload));
                }
            }
            match self.more().await? {
                More::Stream(incoming) => self.add(incoming)?,
                More::Bytes(index, bytes) => self.streams[index].decoder.feed(&bytes),
                More::End(index) => self.streams[index].is_over = true,
            }
            if !self.streams.is_empty() && self.streams.iter().all(|stream| stream.is_over) {
                return Ok(None);
            }
        }
    }

    fn add(&mut self, incoming: RecvStream) -> Result<(), ReceiveError> {
        if self.streams.len() >= STREAMS_MAX {
            return Err(Malformed("a feed on more streams than it may have").into());
        }
        let decoder = Decoder::new(self.event_bytes_max);
        self.streams.push(Stream { incoming, decoder, role: None, is_over: false });
        Ok(())
    }

    /// The end of the session is the last that is told: what came before it may still wait in the streams.
    async fn more(&mut self) -> Result<More, ReceiveError> {
        let Self { feed, streams, turn, has_begun, .. } = self;
        let mut accept = pin!(feed.session.accept_uni());
        poll_fn(|cx| {
            let mut over = match accept.as_mut().poll(cx) {
                Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(More::Stream(stream))),
                Poll::Ready(Err(error)) => Some(error),
                Poll::Pending => None,
            };
            let count = streams.len();
            for index in (0..count).map(|i| (*turn + i) % count) {
                let stream = &mut streams[index];
                if stream.is_over || !*has_begun && stream.is_lane() {
                    continue;
                }
                let more = match stream.poll_read(cx) {
                    Poll::Pending => continue,
                    Poll::Ready(Ok(Some(bytes))) => Ok(More::Bytes(index, bytes)),
                    Poll::Ready(Ok(None)) => Ok(More::End(index)),
                    Poll::Ready(Err(ReadError::SessionError(error))) => {
                        over.get_or_insert(error);
                        continue;
                    }
                    Poll::Ready(Err(error)) => Err(read_error(error)),
                };
                *turn = index + 1;
                return Poll::Ready(more);
            }
            over.map_or(Poll::Pending, |error| Poll::Ready(Err(session_error(error))))
        })
        .await
    }

    fn decode(&mut self, index: usize) -> Result<(), ReceiveError> {
        loop {
            let stream = &mut self.streams[index];
            if stream.is_lane() && !self.has_begun {
                return Ok(());
            }
            let Some(frame) = stream.decoder.next()? else { return Ok(()) };
            self.take(index, frame)?;
        }
    }

    fn take(&mut self, index: usize, frame: Frame) -> Result<(), ReceiveError> {
        let role = match (self.streams[index].role, frame.kind) {
            (Some(role), _) => role,
            (None, frame::LANE) => {
                self.streams[index].role = Some(Role::Lane(Seq::default()));
                return Ok(());
            }
            (None, frame::HELLO | frame::BYE) => {
                if self.streams.iter().any(|stream| stream.role == Some(Role::Feed)) {
                    return Err(Malformed("a second feed").into());
                }
                *self.streams[index].role.insert(Role::Feed)
            }
            (None, _) => return Err(Malformed("a stream begins with neither HELLO nor LANE").into()),
        };
        if let Role::Lane(_) = role
            && matches!(frame.kind, frame::HELLO | frame::GAP | frame::CHANGED | frame::PING | frame::BYE)
        {
            return Err(Malformed("something else than an event beside the feed").into());
        }
        let prev = frame::read_prev(&frame.payload).filter(|_| frame.kind != frame::EVENT);
        let Some(item) = read::item(frame, &mut self.epoch)? else { return Ok(()) };
        self.has_begun |= match &item {
            Item::Hello(hello) => !matches!(hello.verdict, Verdict::NewEpoch | Verdict::UnknownCursor),
            item => matches!(item, Item::Gap(_)),
        };
        if let Item::Event(event) = &item {
            self.retry = event.event.draft.retry.or(self.retry);
            if let Role::Lane(after) = role {
                let (after, got) = (Cursor { seq: after, ..event.event.cursor }, event.event.cursor);
                if got.seq <= after.seq {
                    return Err(ReceiveError::Order { after, got });
                }
                self.streams[index].role = Some(Role::Lane(got.seq));
            }
        }
        self.arrived.push_back((item, prev));
        Ok(())
    }
}

impl Stream {
    fn is_lane(&self) -> bool {
        matches!(self.role, Some(Role::Lane(_)))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        // The wish to be woken is the stream's, and outlives this future.
        let read = pin!(self.incoming.read_chunk(CHUNK_BYTES_MAX, true)).poll(cx);
        read.map_ok(|chunk| chunk.map(|chunk| chunk.bytes))
    }
}

/// The feed's own, 16 lanes [PROTOCOL §5.6], and some that a later hub may think of.
const STREAMS_MAX: usize = 64;
