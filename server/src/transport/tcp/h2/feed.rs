//! A feed on a stream of its own: what the feed gives is written right on the walk, as on HTTP/1.

use std::{
    collections::VecDeque,
    future::poll_fn,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Context, Poll, ready},
};

use ::h2::Reason;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::Error,
    link::Link,
    outgoing::{Outgoing, Text},
};
use crate::{
    core::{Item, Taken},
    fanout::{Connection, Feed, LocalShard, Outlet, Room},
    http::OpenFeed,
    hub::Seat,
    telemetry::Transport,
    transport::sse::{ITEMS_A_TURN, Writer},
};

/// A response whose body is a feed, on its stream.
pub(super) struct Opened<S> {
    pub(super) stream: Outgoing,
    pub(super) link: Weak<Link<S>>,
    pub(super) open: OpenFeed,
}

/// Opens the feed. What is returned writes it, until either side ends it; it holds no more than that takes, since tens of thousands may
/// be idle.
pub(super) fn serve<S>(
    shard: &Rc<LocalShard>,
    opened: Opened<S>,
) -> impl Future<Output = Result<(), Error>> + 'static + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let Opened { stream, link, open } = opened;
    let writer = Writer::new(&open, false);
    let unsent = VecDeque::from([writer.opening(&open)]);
    let control = open.control;
    let (subscription, holder, seat) = open.grant.into_feed();
    let feed = shard.open(subscription, holder, Transport::SseH2);
    let on = On::new(link);
    let outlet = Outlet::new(FeedStream { stream, on, feed, writer, control, unsent, has_ended: false, _seat: seat });
    poll_fn(move |cx| outlet.poll(cx, FeedStream::poll))
}

struct FeedStream<S: AsyncRead + AsyncWrite + Unpin> {
    stream: Outgoing,
    on: On<S>,
    feed: Feed,
    writer: Writer,
    control: bool,
    unsent: VecDeque<Bytes>,
    /// The feed has ended; what is unsent is still to go out.
    has_ended: bool,
    _seat: Arc<Seat>,
}

/// Counts a feed as one of its connection.
struct On<S: AsyncRead + AsyncWrite + Unpin>(Weak<Link<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection for FeedStream<S> {
    fn feed(&self) -> &Feed {
        &self.feed
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>, room: &mut Room) -> Poll<()> {
        // Of an end the task finds out when it looks.
        self.poll_send_feed(cx, room).map(drop)
    }

    fn touch(&self) -> usize {
        self.unsent.len() + self.stream.touch() + self.on.0.upgrade().map_or(0, |link| link.touch())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FeedStream<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(error) = self.stream.poll_reset(cx) {
            return Poll::Ready(Err(error));
        }
        let mut items = Vec::new();
        loop {
            if self.poll_send(cx)?.is_pending() {
                // A client that reads nothing for too long is cut off; all others are waited for.
                ready!(self.feed.poll_cut(cx));
                self.stream.reset(Reason::CANCEL);
                return Poll::Ready(Ok(()));
            }
            if self.has_ended {
                return Poll::Ready(self.send(Text::Own(Bytes::new()), true));
            }
            let taken = ready!(self.feed.poll_take(cx, ITEMS_A_TURN, &mut items));
            self.put(&mut items, taken);
        }
    }

    /// Sends what the feed has. Ready when the task is to go on, which waits for everything else.
    fn poll_send_feed(&mut self, cx: &mut Context<'_>, Room { items }: &mut Room) -> Poll<Result<(), Error>> {
        loop {
            ready!(self.poll_send(cx))?;
            if self.has_ended {
                return Poll::Ready(Ok(()));
            }
            let taken = ready!(self.feed.poll_take(cx, ITEMS_A_TURN, items));
            if let [Item::Event { event, .. }] = &**items {
                // As it is most of the time.
                let text = Text::Event { event: event.clone(), control: self.control };
                items.clear();
                self.send(text, false)?;
            }
            self.put(items, taken);
            if taken == Taken::All {
                // There is nothing more to take, and the task needn't know.
                while !self.unsent.is_empty() {
                    ready!(self.poll_send_one(cx))?;
                }
                return Poll::Pending;
            }
        }
    }

    /// Makes what was taken text that is to be sent.
    fn put(&mut self, items: &mut Vec<Item>, taken: Taken) {
        self.writer.items(items, &self.feed, &mut self.unsent);
        self.has_ended |= taken == Taken::Ended;
    }

    /// Ready once nothing waits here, and all that was sent is written.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.unsent.is_empty() {
            ready!(self.poll_send_one(cx))?;
        }
        if self.unsent.capacity() > 0 {
            // An idle feed keeps no buffer.
            self.unsent = VecDeque::new();
        }
        self.poll_written(cx).map(Ok)
    }

    fn poll_send_one(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_written(cx));
        match self.unsent.pop_front() {
            Some(text) => Poll::Ready(self.send(Text::Own(text), false)),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let written = self.stream.poll_written(cx);
        if written.is_pending()
            && let Some(link) = self.on.0.upgrade()
        {
            link.give_back();
        }
        written
    }

    fn send(&mut self, text: Text, is_last: bool) -> Result<(), Error> {
        let link = self.on.0.upgrade().ok_or("the connection is gone")?;
        if !is_last && link.write_past(&mut self.stream, &text)? {
            return Ok(());
        }
        // It may be what h2 needs for this.
        link.give_back();
        link.send(|| self.stream.send(text, is_last))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> On<S> {
    fn new(link: Weak<Link<S>>) -> Self {
        if let Some(link) = link.upgrade() {
            link.signals().feed_begins();
        }
        Self(link)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Drop for On<S> {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.signals().feed_ends();
            link.give_back();
        }
    }
}
