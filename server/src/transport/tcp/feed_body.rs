//! A feed as the body of an HTTP/2 response.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use axum::body::Body as PlainBody;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::{
    core::{Item, Taken},
    fanout::Feed,
    http::OpenFeed,
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
    open: OpenFeed,
    items: Vec<Item>,
    opened: bool,
    ended: bool,
}

impl ResponseBody {
    pub(super) fn feed(open: OpenFeed, feed: Rc<Feed>) -> Self {
        let writer = Writer::new(&open, false);
        Self::Feed { feed: FeedBody { feed, writer, open, items: Vec::new(), opened: false, ended: false } }
    }
}

impl FeedBody {
    fn poll_text(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if !std::mem::replace(&mut self.opened, true) {
            return Poll::Ready(Some(self.writer.opening(&self.open)));
        }
        while !self.ended {
            let taken = ready!(self.feed.poll_take(cx, ITEMS_A_TURN, &mut self.items));
            self.ended = taken == Taken::Ended;
            let mut texts = self.items.drain(..).filter_map(|item| self.writer.item(item));
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
