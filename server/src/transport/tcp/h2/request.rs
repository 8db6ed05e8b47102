//! The body of a request.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use ::h2::{Reason, RecvStream};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body::{Body, Frame, SizeHint};

/// A body as it comes; the client may send more as it is read.
pub(super) struct RequestBody {
    stream: RecvStream,
    /// How much is still to come, where the client has said it.
    left: Option<u64>,
    /// Somebody waits for the body that the client sends once it is told to.
    wanted: Arc<AtomicBool>,
}

/// Whether a client that waits to be asked for its body is to be.
pub(super) struct Continue(Option<Arc<AtomicBool>>);

/// The request with its body to be read.
pub(super) fn with_body(request: Request<RecvStream>) -> (Request<RequestBody>, Continue) {
    let (head, stream) = request.into_parts();
    let wanted = Arc::<AtomicBool>::default();
    // [RFC 9110 §10.1.1]
    let expects = head.headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(CONTINUE));
    let asks = Continue(if expects && !stream.is_end_stream() { Some(wanted.clone()) } else { None });
    let left = if stream.is_end_stream() { Some(0) } else { content_length(&head.headers) };
    (Request::from_parts(head, RequestBody { stream, left, wanted }), asks)
}

/// h2 has seen to it that it is a number, and keeps the client to it. [RFC 9113 §8.1.1]
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH).map(HeaderValue::to_str)?.ok()?.parse().ok()
}

impl Continue {
    /// Whether the client is to be told to go on. True once.
    pub(super) fn take(&mut self) -> bool {
        let is_due = self.0.as_ref().is_some_and(|wanted| wanted.load(Ordering::Relaxed));
        is_due && self.0.take().is_some()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ::h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ::h2::Error>>> {
        let polled = self.stream.poll_data(cx);
        if polled.is_pending() {
            self.wanted.store(true, Ordering::Relaxed);
        }
        Poll::Ready(match ready!(polled) {
            Some(Ok(data)) => {
                // The stream may be gone: then nobody sends more.
                let _ = self.stream.flow_control().release_capacity(data.len());
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Some(Ok(Frame::data(data)))
            }
            // The client has its answer, and wants to send no more. [RFC 9113 §8.1]
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => None,
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

const CONTINUE: &[u8] = b"100-continue";
