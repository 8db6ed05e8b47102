//! `delivery=datagram`: what is live comes in datagrams, of which some may be lost. [PROTOCOL §5.7]

use bytes::{Bytes, BytesMut};
use fanwire_protocol::{
    Seq, frame,
    message::{Bye, ByeCode},
};

use super::linked::Linked;
use crate::{
    core::{Item, Taken},
    fanout::Feed,
    transport::{
        pieces::Pieces,
        quic::{DatagramError, SendStream, Session, WriteError},
    },
};

/// A feed's stream, and the datagrams beside it.
///
/// The newest of a topic wins where events wait to be taken, so little is taken ahead of what is sent: a turn's worth waits here, and
/// what the connection keeps. Both go at the pace of the path.
pub(super) struct Datagrams<'a> {
    session: &'a Session,
    /// What isn't an event comes here, and history, and events that are too large for a datagram.
    stream: SendStream,
    /// The number of the last event or gap that was taken, or where the feed starts.
    prev: Seq,
}

/// What goes out of one turn.
struct Turn {
    /// The most bytes of frames in a datagram.
    room: usize,
    /// Of whole frames, as many in each as find room.
    datagrams: Vec<Bytes>,
    open: BytesMut,
    open_room: usize,
    pieces: Pieces,
    chunks: Vec<Bytes>,
    said: Option<Bye>,
}

impl<'a> Datagrams<'a> {
    /// The way of a feed that starts after a number; its stream is open.
    pub(super) fn new(session: &'a Session, stream: SendStream, start: Seq) -> Self {
        Self { session, stream, prev: start }
    }

    /// Writes the feed until its bye, which is returned, or until nobody reads it.
    pub(super) async fn write_feed(&mut self, feed: &Feed) -> Option<Bye> {
        let mut items = Vec::new();
        loop {
            let taken = feed.take(ITEMS_A_TURN, &mut items).await;
            let mut turn = self.encode(&mut items);
            for datagram in turn.datagrams.drain(..) {
                match self.session.send_datagram(datagram).await {
                    Ok(()) => {}
                    Err(DatagramError::TooLong(frames)) => turn.chunks.push(frames),
                    Err(DatagramError::SessionEnded) => return None,
                }
            }
            match self.stream.write_all_chunks(&mut turn.chunks).await {
                Ok(()) => {}
                Err(WriteError::Stopped(_)) => return Some(Bye::terminal(ByeCode::Closed, "the feed was stopped")),
                Err(_) => return None,
            }
            if turn.said.is_some() || taken == Taken::Ended {
                return turn.said;
            }
        }
    }

    pub(super) fn into_stream(self) -> SendStream {
        self.stream
    }

    fn encode(&mut self, items: &mut Vec<Item>) -> Turn {
        let mut turn = Turn::new(self.session.datagram_bytes_max());
        let is_alone = items.len() == 1;
        for item in items.drain(..) {
            match Linked::take(item, &mut self.prev) {
                Linked::Event { prev, event, lossy } => {
                    let body = event.frame_body();
                    let bytes = frame::event_bytes(prev, body.len());
                    if lossy && bytes <= turn.room {
                        let out = turn.datagram(self.session, bytes, is_alone);
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
        turn
    }
}

impl Turn {
    fn new(room: usize) -> Self {
        Self {
            room,
            datagrams: Vec::new(),
            open: BytesMut::new(),
            open_room: 0,
            pieces: Pieces::default(),
            chunks: Vec::new(),
            said: None,
        }
    }

    /// A datagram with room for so many bytes, which have to follow.
    fn datagram(&mut self, session: &Session, bytes: usize, is_alone: bool) -> &mut BytesMut {
        if self.open_room < bytes {
            self.close_datagram();
            self.open_room = if is_alone { bytes } else { self.room };
            self.open = session.begin_datagram(self.open_room);
        }
        self.open_room -= bytes;
        &mut self.open
    }

    fn close_datagram(&mut self) {
        self.open_room = 0;
        if !self.open.is_empty() {
            self.datagrams.push(std::mem::take(&mut self.open).freeze());
        }
    }
}

/// Few, since what was taken can't be replaced by what is newer; some, since a packet has room for several.
const ITEMS_A_TURN: usize = 16;
