//! What a stream sends.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use ::h2::{Reason, SendStream};
use bytes::{Buf, Bytes};

use super::{
    super::Error,
    credit::{Besides, Credit},
    frames,
};
use crate::core::Shared;

/// The sending half of a stream. It is given the next piece once the last is written, so that no more than one waits for its client.
pub(super) struct Outgoing {
    stream: SendStream<Piece>,
    sent: Rc<Sent>,
}

/// What h2 is given to send: it is dropped once it is written.
pub(super) struct Piece {
    text: Text,
    /// How much of the text is written.
    at: usize,
    sent: Rc<Sent>,
}

/// What is sent.
pub(super) enum Text {
    /// Bytes.
    Own(Bytes),
    /// Bytes of a body that isn't a feed.
    Body {
        /// The bytes.
        bytes: Bytes,
        /// That they are sent.
        _besides: Rc<Besides>,
    },
    /// Bytes that h2 counts and nobody gets.
    Counted {
        /// How many.
        bytes: usize,
        /// Whose they become.
        credit: Rc<Credit>,
    },
    /// An event, where it lies: no reference is counted that cores share.
    Event {
        /// The event.
        event: Shared,
        /// As clients with `control=1` have it.
        control: bool,
    },
}

#[derive(Default)]
struct Sent {
    /// How many pieces h2 has.
    unwritten: Cell<usize>,
    /// Who waits for it to have none.
    waiting: RefCell<Option<Waker>>,
}

impl Outgoing {
    pub(super) fn new(stream: SendStream<Piece>) -> Self {
        Self { stream, sent: Rc::default() }
    }

    /// The stream's number.
    pub(super) fn id(&self) -> u32 {
        self.stream.stream_id().into()
    }

    /// See [`crate::fanout::Connection::touch`].
    pub(super) fn touch(&self) -> usize {
        self.sent.unwritten.get()
    }

    /// Whether the client takes so much at once.
    pub(super) fn has_room(&mut self, bytes: usize) -> bool {
        self.stream.reserve_capacity(bytes);
        let has_room = self.stream.capacity() >= bytes;
        if !has_room {
            // Others may use it.
            self.stream.reserve_capacity(0);
        }
        has_room
    }

    /// Whether all that was sent is written.
    pub(super) fn is_written(&self) -> bool {
        self.sent.unwritten.get() == 0
    }

    /// Ready once all that was sent is written. h2 could say whether there is room, too; but to ask it wakes this stream's task.
    pub(super) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_written() {
            return Poll::Ready(());
        }
        self.sent.waiting.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Sends something; nothing comes after it if it is the last.
    pub(super) fn send(&mut self, text: Text, is_last: bool) -> Result<(), Error> {
        self.sent.unwritten.set(self.sent.unwritten.get() + 1);
        let piece = Piece { text, at: 0, sent: self.sent.clone() };
        Ok(self.stream.send_data(piece, is_last)?)
    }

    /// Ready when the client wants nothing more, or the connection is gone.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.stream.poll_reset(cx).map(|reset| match reset {
            Ok(reason) => ::h2::Error::from(reason).into(),
            Err(error) => error.into(),
        })
    }

    /// Ends the stream, whatever waits in it.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}

impl Text {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) | Self::Body { bytes, .. } => bytes,
            Self::Counted { bytes, .. } => &NOTHING[..*bytes],
            Self::Event { event, control } => event.sse(*control).as_text(),
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.text.bytes().len() - self.at
    }

    fn chunk(&self) -> &[u8] {
        &self.text.bytes()[self.at..]
    }

    fn advance(&mut self, count: usize) {
        assert!(count <= self.remaining(), "more was written than there was");
        self.at += count;
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Text::Counted { credit, .. } = &self.text {
            credit.withdrawn(self.remaining());
        }
        self.sent.unwritten.set(self.sent.unwritten.get() - 1);
        if self.sent.unwritten.get() == 0
            && let Some(waiting) = self.sent.waiting.take()
        {
            waiting.wake();
        }
    }
}

/// What stands for bytes that nobody gets.
static NOTHING: [u8; frames::PAYLOAD_BYTES_MAX] = [0; frames::PAYLOAD_BYTES_MAX];
