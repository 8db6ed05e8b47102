//! The body of a request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use h3::error::StreamError;
use http_body::{Body, Frame};
use thiserror::Error;

use super::backend;

/// What the client sends. `Send`, so that it can be the body of a request for axum, though it is read on its shard.
/// Trailers are not read. Dropped before its end, the client is told to send no more.
pub struct RequestBody {
    stream: h3::server::RequestStream<backend::RecvStream, Bytes>,
    failed: Option<StreamError>,
    ended: bool,
}

/// The body broke off, or broke HTTP/3's rules.
#[derive(Debug, Error)]
#[error("the request's body broke off")]
pub struct RequestBodyError(#[from] StreamError);

impl RequestBody {
    pub(super) fn new(stream: h3::server::RequestStream<backend::RecvStream, Bytes>) -> Self {
        Self { stream, failed: None, ended: false }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match ready!(self.stream.poll_recv_data(cx)) {
            Ok(Some(mut piece)) => return Poll::Ready(Some(piece.copy_to_bytes(piece.remaining()))),
            Ok(None) => {}
            Err(error) => self.failed = Some(error),
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
            return Poll::Ready(self.failed.take().map(|error| Err(error.into())));
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
