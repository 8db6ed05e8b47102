//! `delivery=datagram`: what is live comes in datagrams, of which some may be lost. [PROTOCOL §5.7]

use std::{
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use fanwire_protocol::{Seq, frame, message::Bye};

use super::{bye_after, linked::Linked};
use crate::{
    core::{Item, Taken},
    fanout::{Connection, Feed, Room},
    transport::{
        pieces::Pieces,
        quic::{DatagramError, DatagramSender, SendStream, Session, WriteError},
    },
};

/// A feed's stream, and the datagrams beside it.
///
/// The newest of a topic wins where events wait to be taken, so little is taken ahead of what is sent: a turn's worth waits here, and
/// what the connection keeps. Both go at the pace of the path.
pub(super) struct Datagrams {
    feed: Rc<Feed>,
    sender: DatagramSender,
    /// What isn't an event comes here, and history, and events that are too large for a datagram.
    stream: SendStream,
    /// The number of the last event or gap that was taken, or where the feed starts.
    prev: Seq,
    /// What was taken and isn't sent.
    datagrams: VecDeque<Bytes>,
    chunks: Vec<Bytes>,
    written: usize,
    /// The feed gives nothing more; with the bye that it said, if it said one.
    end: Option<Option<Bye>>,
}

/// What goes out of one turn.
struct Turn {
    /// The most bytes of frames in a datagram.
    room: usize,
    /// Of whole frames, as many in each as find room.
    datagrams: VecDeque<Bytes>,
    open: BytesMut,
    open_room: usize,
    pieces: Pieces,
    chunks: Vec<Bytes>,
    said: Option<Bye>,
}

impl Datagrams {
    /// The way of a feed that starts after a number; its stream is open.
    pub(super) fn new(feed: Rc<Feed>, session: &Session, stream: SendStream, start: Seq) -> Self {
        Self {
            feed,
            sender: session.datagrams(),
            stream,
            prev: start,
            datagrams: VecDeque::new(),
            chunks: Vec::new(),
            written: 0,
            end: None,
        }
    }

    /// Writes the feed until its bye, which is returned, or until nobody reads it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bye>> {
        self.poll_feed(cx, &mut Vec::new())
    }

    pub(super) fn into_stream(self) -> SendStream {
        self.stream
    }

    fn poll_feed(&mut self, cx: &mut Context<'_>, items: &mut Vec<Item>) -> Poll<Option<Bye>> {
        loop {
            while let Some(datagram) = self.datagrams.front() {
                match ready!(self.sender.poll_send(cx, datagram)) {
                    Ok(()) => {}
                    Err(DatagramError::TooLong(frames)) => self.chunks.push(frames),
                    Err(DatagramError::SessionEnded) => return Poll::Ready(None),
                }
                self.datagrams.pop_front();
            }
            // An idle feed keeps no buffers: there may be tens of thousands.
            self.datagrams = VecDeque::new();
            if let Err(error) = ready!(self.poll_write(cx)) {
                return Poll::Ready(bye_after(error));
            }
            if let Some(bye) = &self.end {
                return Poll::Ready(bye.clone());
            }
            let taken = ready!(self.feed.poll_take(cx, ITEMS_A_TURN, items));
            self.put(items, taken);
        }
    }

    /// Ready once nothing waits for the stream.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        while self.written < self.chunks.len() {
            self.written += ready!(self.stream.poll_write_chunks(cx, &mut self.chunks[self.written..]))?;
        }
        (self.chunks, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Makes what was taken datagrams and frames that are to be sent.
    fn put(&mut self, items: &mut Vec<Item>, taken: Taken) {
        let mut turn = Turn::new(self.sender.bytes_max());
        let is_alone = items.len() == 1;
        for item in items.drain(..) {
            match Linked::take(item, &mut self.prev) {
                Linked::Event { prev, event, lossy } => {
                    let body = event.frame_body();
                    let bytes = frame::event_bytes(prev, body.len());
                    if lossy && bytes <= turn.room {
                        let out = turn.datagram(&self.sender, bytes, is_alone);
                        frame::put_event_head(out, prev, body.len());
                        out.extend_from_slice(body);
                    } else {
                        frame::put_event_head(turn.pieces.own(), prev, body.len());
                        turn.pieces.put(body, &mut turn.chunks);
                    }
                }
                Linked::Frame(frame, bye) => {
                    turn.pieces.put(&frame, &mut turn.chunks);
                    turn.said = turn.said.take().or(bye);
                }
            }
        }
        turn.close_datagram();
        turn.pieces.flush(&mut turn.chunks);
        (self.datagrams, self.chunks) = (turn.datagrams, turn.chunks);
        if turn.said.is_some() || taken == Taken::Ended {
            self.end = Some(turn.said);
        }
    }
}

impl Connection for Datagrams {
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

impl Turn {
    fn new(room: usize) -> Self {
        Self {
            room,
            datagrams: VecDeque::new(),
            open: BytesMut::new(),
            open_room: 0,
            pieces: Pieces::default(),
            chunks: Vec::new(),
            said: None,
        }
    }

    /// A datagram with room for so many bytes, which have to follow.
    fn datagram(&mut self, sender: &DatagramSender, bytes: usize, is_alone: bool) -> &mut BytesMut {
        if self.open_room < bytes {
            self.close_datagram();
            self.open_room = if is_alone { bytes } else { self.room };
            self.open = sender.begin(self.open_room);
        }
        self.open_room -= bytes;
        &mut self.open
    }

    fn close_datagram(&mut self) {
        self.open_room = 0;
        if !self.open.is_empty() {
            self.datagrams.push_back(std::mem::take(&mut self.open).freeze());
        }
    }
}

/// Few, since what was taken can't be replaced by what is newer; some, since a packet has room for several.
const ITEMS_A_TURN: usize = 16;
