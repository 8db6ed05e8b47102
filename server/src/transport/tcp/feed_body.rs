//! A feed as the body of an HTTP/2 response.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body as PlainBody;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::{
    core::Taken,
    fanout::Feed,
    hub::Seat,
    transport::sse::{ITEMS_A_TURN, Writer},
};

pin_project_lite::pin_project! {
    /// The body of a response: of a handler's, or a feed.
    #[project = ResponseBodyProjected]
    pub(super) enum ResponseBody {
        Plain { #[pin] body: PlainBody },
        Feed { feed: FeedBody },
    }
}

pub(super) struct FeedBody {
    feed: Rc<Feed>,
    writer: Writer,
    /// None once the stream has begun with it.
    opening: Option<Bytes>,
    ended: bool,
    _seat: Arc<Seat>,
}

impl ResponseBody {
    /// A feed that begins with `opening`; the seat is kept for as long as it is open.
    pub(super) fn feed(feed: Rc<Feed>, writer: Writer, opening: Bytes, seat: Arc<Seat>) -> Self {
        Self::Feed { feed: FeedBody { feed, writer, opening: Some(opening), ended: false, _seat: seat } }
    }
}

impl FeedBody {
    fn poll_text(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(opening));
        }
        // An idle feed keeps no buffer.
        let mut items = Vec::new();
        while !self.ended {
            let taken = ready!(self.feed.poll_take(cx, ITEMS_A_TURN, &mut items));
            self.ended = taken == Taken::Ended;
            let mut texts = items.drain(..).filter_map(|item| self.writer.item(item));
            let Some(first) = texts.next() else { continue };
            // One DATA frame for what came together: a frame's way through HTTP/2 costs more than a copy.
            let Some(second) = texts.next() else { return Poll::Ready(Some(first)) };
            let mut joined = BytesMut::from(&first[..]);
            joined.extend_from_slice(&second);
            texts.for_each(|text| joined.extend_from_slice(&text));
            return Poll::Ready(Some(joined.freeze()));
        }
        Poll::Ready(None)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.project() {
            ResponseBodyProjected::Plain { body } => body.poll_frame(cx),
            ResponseBodyProjected::Feed { feed } => {
                feed.poll_text(cx).map(|text| text.map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain { body } => body.is_end_stream(),
            Self::Feed { feed } => feed.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain { body } => body.size_hint(),
            Self::Feed { .. } => SizeHint::default(),
        }
    }
}
