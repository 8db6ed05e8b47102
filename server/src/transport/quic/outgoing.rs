//! The sending half of a request's stream.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Poll},
};

use bytes::Bytes;
use quinn_proto::VarInt;

use super::{code, link};

/// Shared between h3, which writes the response's head on it, and whoever writes the body: an owner of each at most.
pub(super) struct Outgoing {
    stream: RefCell<link::SendStream>,
    /// Finished or reset: nothing is left to be done when it is dropped.
    ended: Cell<bool>,
}

/// How the sending half of a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The peer wants no more of it, and says so with a code of HTTP/3.
    Stopped(VarInt),
    /// It was finished, and the peer has acknowledged all of it.
    Delivered,
    /// The connection is gone.
    Lost,
}

impl Outgoing {
    pub(super) fn new(stream: link::SendStream) -> Self {
        Self { stream: RefCell::new(stream), ended: Cell::new(false) }
    }

    pub(super) fn id(&self) -> quinn_proto::StreamId {
        self.stream.borrow().id()
    }

    /// Writes as much of `chunks` as fits, emptying what is written; returns how many chunks were written in full.
    pub(super) fn poll_write_chunks(
        &self,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<usize, link::WriteError>> {
        self.stream.borrow_mut().poll_write_chunks(cx, chunks)
    }

    pub(super) fn finish(&self) {
        if !self.ended.replace(true) {
            // Fails only on a stream that has ended.
            let _ = self.stream.borrow_mut().finish();
        }
    }

    /// Ends it at once, unless it was finished: then what was written is still delivered.
    pub(super) fn reset(&self, code: VarInt) {
        if !self.ended.replace(true) {
            let _ = self.stream.borrow_mut().reset(code);
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.get()
    }

    /// Resolves when the peer stops it, has all of it, or is gone.
    pub(super) fn closed(&self) -> impl Future<Output = StreamEnd> + 'static + use<> {
        stream_end(&self.stream.borrow())
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // Dropped, it would be finished: a response that was cut off must not look whole.
        self.reset(code::H3_INTERNAL_ERROR);
    }
}

pub(super) fn stream_end(stream: &link::SendStream) -> impl Future<Output = StreamEnd> + 'static + use<> {
    let stopped = stream.stopped();
    async move {
        match stopped.await {
            Ok(Some(code)) => StreamEnd::Stopped(code),
            Ok(None) => StreamEnd::Delivered,
            Err(_) => StreamEnd::Lost,
        }
    }
}
