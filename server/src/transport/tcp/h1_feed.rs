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
    fanout::{Feed, LocalShard},
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
    let (items, state) = (Vec::new(), State::Open);
    let mut connection = Connection { stream, feed, writer, chunked, unwritten, items, state, _seat: seat };
    poll_fn(move |cx| connection.poll(cx))
}

struct Connection<S> {
    stream: S,
    feed: Feed,
    writer: Writer,
    chunked: bool,
    unwritten: VecDeque<Bytes>,
    /// Kept empty between turns.
    items: Vec<Item>,
    state: State,
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

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_gone(cx)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            if self.poll_write(cx)?.is_pending() {
                // A peer that reads nothing for too long is cut off; all others are waited for.
                return self.feed.poll_cut(cx).map(Ok);
            }
            match self.state {
                State::Open => ready!(self.poll_feed(cx)),
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

    /// Takes what the feed has, as text to be written.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let taken = ready!(self.feed.poll_take(cx, ITEMS_A_TURN, &mut self.items));
        self.writer.items(&mut self.items, &mut self.unwritten);
        // An idle connection keeps no buffers.
        self.items = Vec::new();
        if taken == Taken::Ended {
            self.state = State::Ending;
        }
        Poll::Ready(())
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
