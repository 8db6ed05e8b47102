//! A feed on an HTTP/1 socket of its own: what the feed gives is written straight to it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    core::{Item, Taken},
    fanout::{self, Feed, LocalShard, Outlet, Room},
    http::OpenFeed,
    hub::Seat,
    telemetry::Transport,
    transport::sse::{ITEMS_A_TURN, Writer},
};

/// A response whose body is a feed, on the socket that it was asked for on.
pub(super) struct Opened<S> {
    pub(super) stream: S,
    pub(super) head: Bytes,
    pub(super) open: OpenFeed,
    pub(super) chunked: bool,
}

/// Opens the feed. What is returned writes the response's head and then the feed, until either side ends it; it holds no more than that
/// takes, since tens of thousands may be idle.
pub(super) fn serve<S>(
    shard: &Rc<LocalShard>,
    opened: Opened<S>,
) -> impl Future<Output = io::Result<()>> + 'static + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let Opened { stream, head, open, chunked } = opened;
    let writer = Writer::new(&open, chunked);
    let unwritten = VecDeque::from([head, writer.opening(&open)]);
    let (subscription, holder, seat) = open.grant.into_feed();
    let feed = shard.open(subscription, holder, Transport::SseH1);
    let (state, failed) = (State::Open, None);
    let connection = Connection { stream, feed, writer, chunked, unwritten, state, failed, _seat: seat };
    let outlet = Outlet::new(connection);
    poll_fn(move |cx| outlet.poll(cx, Connection::poll))
}

struct Connection<S> {
    stream: S,
    feed: Feed,
    writer: Writer,
    chunked: bool,
    unwritten: VecDeque<Bytes>,
    state: State,
    /// What became of writing on the walk over the feeds, for the task to end with.
    failed: Option<io::Error>,
    _seat: Arc<Seat>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The feed has ended; what is unwritten is still to go out.
    Ending,
    /// Everything went out.
    Closing,
}

impl<S: AsyncRead + AsyncWrite + Unpin> fanout::Connection for Connection<S> {
    fn feed(&self) -> &Feed {
        &self.feed
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>, room: &mut Room) -> Poll<()> {
        if self.failed.is_some() {
            // Its task knows, and may have to wait for its turn.
            return Poll::Pending;
        }
        self.poll_write_feed(cx, room).map(|written| self.failed = written.err())
    }

    fn touch(&self) -> usize {
        self.unwritten.len() + usize::from(self.chunked)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        if self.poll_gone(cx)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut items = Vec::new();
        loop {
            if self.poll_write(cx)?.is_pending() {
                // A peer that reads nothing for too long is cut off; all others are waited for.
                return self.feed.poll_cut(cx).map(Ok);
            }
            match self.state {
                State::Open => {
                    let taken = ready!(self.feed.poll_take(cx, ITEMS_A_TURN, &mut items));
                    self.put(&mut items, taken);
                }
                State::Ending => {
                    if self.chunked {
                        self.unwritten.push_back(Bytes::from_static(b"0\r\n\r\n"));
                    }
                    self.state = State::Closing;
                }
                State::Closing => return Pin::new(&mut self.stream).poll_shutdown(cx),
            }
        }
    }

    /// Writes what the feed has. Ready when the task is to go on, which waits for everything else.
    fn poll_write_feed(&mut self, cx: &mut Context<'_>, Room { items }: &mut Room) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_write(cx))?;
            if self.state != State::Open {
                return Poll::Ready(Ok(()));
            }
            let taken = ready!(self.feed.poll_take(cx, ITEMS_A_TURN, items));
            if let ([Item::Event { event, .. }], true) = (&**items, self.chunked) {
                // As it is most of the time: no reference is counted.
                let chunk = self.writer.chunk(event).framed();
                let written = match Pin::new(&mut self.stream).poll_write(cx, chunk) {
                    Poll::Ready(written) => written?,
                    Poll::Pending => 0,
                };
                if written < chunk.len() {
                    self.unwritten.push_back(chunk.slice(written..));
                }
                items.clear();
            }
            self.put(items, taken);
            if taken == Taken::All {
                // There is nothing more to take, and the task needn't know.
                ready!(self.poll_write(cx))?;
                return Poll::Pending;
            }
        }
    }

    /// Makes what was taken text that is to be written.
    fn put(&mut self, items: &mut Vec<Item>, taken: Taken) {
        self.writer.items(items, &self.feed, &mut self.unwritten);
        if taken == Taken::Ended {
            self.state = State::Ending;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unwritten.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let mut written = match self.unwritten.len() {
                1 => ready!(stream.poll_write(cx, &self.unwritten[0]))?,
                _ => {
                    let slices: SmallVec<[IoSlice<'_>; ITEMS_A_TURN]> =
                        self.unwritten.iter().take(ITEMS_A_TURN).map(|bytes| IoSlice::new(bytes)).collect();
                    ready!(stream.poll_write_vectored(cx, &slices))?
                }
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            while let Some(first) = self.unwritten.front_mut() {
                let count = first.len().min(written);
                first.advance(count);
                written -= count;
                if !first.is_empty() {
                    break;
                }
                self.unwritten.pop_front();
            }
        }
        if self.unwritten.capacity() > 0 {
            self.unwritten = VecDeque::new();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ready when the client has closed its side. What it sends otherwise is read and forgotten.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS_A_TURN {
            let mut room = [std::mem::MaybeUninit::uninit(); 256];
            let mut buffer = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        // There is more, and others want their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// How much a client may send in a turn, in buffers of 256 bytes.
const READS_A_TURN: usize = 16;
