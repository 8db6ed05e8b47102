//! The body of a request.

use std::{
    cell::RefCell,
    pin::Pin,
    task::{Context, Poll, ready},
    thread::{self, ThreadId},
};

use bytes::{Buf, Bytes, BytesMut};
use h3::error::StreamError;
use http_body::{Body, Frame};
use slab::Slab;
use thiserror::Error;

use super::backend;

/// What the client sends. `Send`, so that it can be the body of a request for axum, though it can be read only on its shard's thread.
/// Trailers are not read. Dropped before its end, the client is told to send no more.
pub struct RequestBody {
    stream: Here,
    failed: Option<RequestBodyError>,
    ended: bool,
}

/// Why a body can't be read.
#[derive(Debug, Error)]
pub enum RequestBodyError {
    /// It broke off, or broke HTTP/3's rules.
    #[error("the request's body broke off")]
    Stream(#[from] StreamError),
    /// Somebody has taken it away from its shard.
    #[error("the request's body is read on another thread than its connection's")]
    Elsewhere,
}

type Stream = h3::server::RequestStream<backend::RecvStream, Bytes>;

thread_local! {
    static STREAMS: RefCell<Slab<Option<Stream>>> = const { RefCell::new(Slab::new()) };
}

/// A stream of this thread, where it stays when what stands for it is taken elsewhere.
struct Here {
    thread: ThreadId,
    key: usize,
}

impl Here {
    fn new(stream: Stream) -> Self {
        let key = STREAMS.with_borrow_mut(|streams| streams.insert(Some(stream)));
        Self { thread: thread::current().id(), key }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        if thread::current().id() != self.thread {
            return None;
        }
        // Others may be dropped meanwhile.
        let mut stream = STREAMS.with_borrow_mut(|streams| streams.get_mut(self.key)?.take())?;
        let result = act(&mut stream);
        STREAMS.with_borrow_mut(|streams| streams[self.key] = Some(stream));
        Some(result)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if thread::current().id() == self.thread {
            // What ends with its thread ends without this.
            let stream = STREAMS.try_with(|streams| streams.borrow_mut().try_remove(self.key));
            drop(stream);
        }
    }
}

impl RequestBody {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream: Here::new(stream), failed: None, ended: false }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = self.stream.with(|stream| {
            stream.poll_recv_data(cx).map_ok(|piece| piece.map(|mut piece| piece.copy_to_bytes(piece.remaining())))
        });
        match polled {
            Some(polled) => match ready!(polled) {
                Ok(Some(piece)) => return Poll::Ready(Some(piece)),
                Ok(None) => {}
                Err(error) => self.failed = Some(error.into()),
            },
            None => self.failed = Some(RequestBodyError::Elsewhere),
        }
        self.ended = true;
        Poll::Ready(None)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(first) = ready!(self.poll_piece(cx)) else {
            return Poll::Ready(self.failed.take().map(Err));
        };
        if first.len() >= PIECE_BYTES_MIN {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        // A piece holds on to the packet that it came in: a body of tiny ones would take a thousand times its size.
        let mut gathered = BytesMut::from(&first[..]);
        while gathered.len() < PIECE_BYTES_MIN {
            let Poll::Ready(Some(piece)) = self.poll_piece(cx) else { break };
            gathered.extend_from_slice(&piece);
        }
        Poll::Ready(Some(Ok(Frame::data(gathered.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.failed.is_none()
    }
}

/// Smaller pieces of a body are joined by copying, as far as they are there.
const PIECE_BYTES_MIN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_can_be_axums() {
        fn convert(body: RequestBody) -> axum::body::Body {
            axum::body::Body::new(body)
        }
        let _: fn(RequestBody) -> axum::body::Body = convert;
    }
}
