//! A feed on a stream and in datagrams beside it. [PROTOCOL §5.7]

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use fanwire_protocol::{
    Epoch,
    frame::{self, Decoder, Malformed, get_varint},
};

use web_transport_quinn::Session;

use super::{Feed, Reader, chunk, read};
use crate::{Item, ReceiveError, newest::Newest};

/// Reads one feed from its stream and from datagrams.
#[derive(Debug)]
pub(crate) struct Datagrams {
    feed: Feed,
    reader: Reader,
    /// Of the log that the stream says.
    epoch: Option<Epoch>,
    /// History is through, as the first PING says.
    has_begun: bool,
    /// Datagrams that came before that.
    early: VecDeque<Bytes>,
    /// The last `retry` of an event in a datagram.
    retry: Option<Duration>,
    arrived: VecDeque<Item>,
    newest: Newest,
    /// How many datagrams were taken since the stream was looked at.
    in_a_row: usize,
}

/// What there is more of.
enum More {
    Chunk(Option<Bytes>),
    Datagram(Bytes),
}

impl Datagrams {
    pub(crate) fn new(feed: Feed, event_bytes_max: usize) -> Self {
        Self {
            feed,
            reader: Reader::new(event_bytes_max),
            epoch: None,
            has_begun: false,
            early: VecDeque::new(),
            retry: None,
            arrived: VecDeque::new(),
            newest: Newest::default(),
            in_a_row: 0,
        }
    }

    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    pub(crate) fn feed_mut(&mut self) -> &mut Feed {
        &mut self.feed
    }

    pub(crate) fn newest(&self) -> &Newest {
        &self.newest
    }

    /// The last `retry` of an event.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry.or(self.reader.retry())
    }

    /// The next item, of what has come.
    pub(crate) fn pop(&mut self) -> Result<Option<Item>, ReceiveError> {
        while let Some(item) = self.arrived.pop_front() {
            if let Some(item) = self.newest.take(item)? {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// Waits for more. Cancel-safe.
    pub(crate) async fn fill(&mut self) -> Result<(), ReceiveError> {
        match self.more().await? {
            More::Chunk(Some(bytes)) => {
                let known = self.arrived.len();
                let read = self.reader.feed(&bytes, &mut self.arrived);
                let heard = self.arrived.range(known..);
                self.epoch = heard.clone().filter_map(Item::cursor).last().map(|cursor| cursor.epoch).or(self.epoch);
                let begins = !self.has_begun && heard.clone().any(|item| matches!(item, Item::Ping(_)));
                read?;
                if begins {
                    self.has_begun = true;
                    std::mem::take(&mut self.early).into_iter().try_for_each(|datagram| self.take(datagram))?;
                }
                Ok(())
            }
            More::Chunk(None) if !self.reader.is_empty() => Err(Malformed("the feed ends inside a frame").into()),
            More::Chunk(None) => Err(ReceiveError::Ended),
            More::Datagram(datagram) if self.has_begun => self.take(datagram),
            More::Datagram(datagram) => {
                if self.early.len() >= EARLY_MAX {
                    self.early.pop_front();
                }
                self.early.push_back(datagram);
                Ok(())
            }
        }
    }

    /// The next datagram as it came, or the next bytes of the stream; none at its end. Cancel-safe.
    pub(crate) async fn next_bytes(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        match self.more().await? {
            More::Chunk(chunk) => Ok(chunk),
            More::Datagram(datagram) => Ok(Some(datagram)),
        }
    }

    /// Datagrams come before what the stream has, as the bye is the last word, but not for ever. The end of either, and of the session, is
    /// told when there is nothing else.
    async fn more(&mut self) -> Result<More, ReceiveError> {
        let Feed { session, stream, .. } = &mut self.feed;
        let session: &Session = session;
        // The connection's: the library takes the whole id of a session for what is a quarter of it. [RFC 9297 §2.1]
        let mut datagram = pin!(quinn::Connection::read_datagram(session));
        let mut chunk = pin!(chunk(session, stream));
        let stream_first = self.in_a_row >= DATAGRAMS_IN_A_ROW_MAX;
        let more = poll_fn(|cx| {
            if !stream_first && let Poll::Ready(Ok(datagram)) = datagram.as_mut().poll(cx) {
                return Poll::Ready(Ok(More::Datagram(datagram)));
            }
            let end = match chunk.as_mut().poll(cx) {
                Poll::Ready(Ok(Some(bytes))) => return Poll::Ready(Ok(More::Chunk(Some(bytes)))),
                Poll::Ready(end) => Poll::Ready(end.map(More::Chunk)),
                Poll::Pending => Poll::Pending,
            };
            if stream_first && let Poll::Ready(Ok(datagram)) = datagram.as_mut().poll(cx) {
                return Poll::Ready(Ok(More::Datagram(datagram)));
            }
            end
        });
        let more = more.await?;
        self.in_a_row =
            if let More::Datagram(_) = more { (self.in_a_row + 1) % (DATAGRAMS_IN_A_ROW_MAX + 1) } else { 0 };
        Ok(more)
    }

    /// Takes the events of a datagram.
    fn take(&mut self, datagram: Bytes) -> Result<(), ReceiveError> {
        let mut input = &datagram[..];
        if get_varint(&mut input) != Some(SESSION_QUARTER_ID) {
            // Of nobody here. [RFC 9297 §2.1]
            return Ok(());
        }
        let mut decoder = Decoder::new(input.len());
        decoder.feed(input);
        while let Some(frame) = decoder.next()? {
            if matches!(frame.kind, frame::HELLO | frame::GAP | frame::CHANGED | frame::PING | frame::BYE) {
                return Err(Malformed("something else than an event in a datagram").into());
            }
            if let Some(item) = read::item(frame, &mut self.epoch)? {
                if let Item::Event(event) = &item {
                    self.retry = event.event.draft.retry.or(self.retry);
                }
                self.arrived.push_back(item);
            }
        }
        if decoder.is_empty() { Ok(()) } else { Err(Malformed("a datagram ends inside a frame").into()) }
    }
}

/// The session is the first request of a connection of its own.
const SESSION_QUARTER_ID: u64 = 0;
/// After so many the stream has its turn.
const DATAGRAMS_IN_A_ROW_MAX: usize = 64;
/// The most datagrams that wait for the end of history; then the oldest goes.
const EARLY_MAX: usize = 1024;
