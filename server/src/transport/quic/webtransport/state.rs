//! What a session's handle, its streams and its driver share.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quinn_proto::VarInt;
use slab::Slab;
use smallvec::SmallVec;

use super::{Close, Ended, routes::PeerStream};
use crate::transport::quic::{
    code, link,
    outgoing::{self, StreamEnd},
};

/// The streams live here, and their handles are keys: so they all end when the session does, whoever holds the handles.
pub(super) struct State {
    pub(super) id: VarInt,
    pub(super) connection: link::Connection,
    ended: RefCell<Option<Ended>>,
    /// Rung with its end, for what waits on its streams.
    over: Bell,
    /// The driver has nothing left to do for it.
    is_finished: Cell<bool>,
    finished: Bell,
    /// Those given since the driver has looked.
    orders: RefCell<Option<Orders>>,
    ordered: Bell,
    incoming_bi: Queue<(link::SendStream, link::RecvStream)>,
    incoming_uni: Queue<link::RecvStream>,
    sending: RefCell<Slab<Sending>>,
    receiving: RefCell<Slab<link::RecvStream>>,
}

/// What the session's owner wants done on the CONNECT stream.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) drain: bool,
    pub(super) close: Option<Close>,
    /// Its owner panicked.
    pub(super) abort: bool,
}

struct Sending {
    stream: link::SendStream,
    finished: bool,
}

impl State {
    pub(super) fn new(id: VarInt, connection: link::Connection) -> Self {
        Self {
            id,
            connection,
            ended: RefCell::default(),
            over: Bell::default(),
            is_finished: Cell::new(false),
            finished: Bell::default(),
            orders: RefCell::default(),
            ordered: Bell::default(),
            incoming_bi: Queue::default(),
            incoming_uni: Queue::default(),
            sending: RefCell::default(),
            receiving: RefCell::default(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.borrow().is_some()
    }

    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended.borrow().clone()
    }

    /// Ends the session and every stream of it [draft-ietf-webtrans-http3-02 §5]. What was finished is still delivered.
    pub(super) fn end(&self, how: Ended) {
        if self.is_over() {
            return;
        }
        self.ended.replace(Some(how));
        for mut sending in self.sending.take() {
            if !sending.1.finished {
                let _ = sending.1.stream.reset(code::SESSION_GONE);
            }
        }
        for (_, mut stream) in self.receiving.take() {
            let _ = stream.stop(code::SESSION_GONE);
        }
        let incoming_bi = self.incoming_bi.take().into_iter().map(|(send, recv)| PeerStream::Bi(send, recv));
        let incoming_uni = self.incoming_uni.take().into_iter().map(PeerStream::Uni);
        incoming_bi.chain(incoming_uni).for_each(|stream| stream.reject(code::SESSION_GONE));
        self.over.ring();
    }

    /// Ready once the session has ended.
    pub(super) fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        self.over.hear(cx);
        Poll::Pending
    }

    /// The driver has nothing left to do for the session.
    pub(super) fn finish_driving(&self) {
        self.is_finished.set(true);
        self.finished.ring();
    }

    /// Ready once the driver has nothing left to do for the session.
    pub(super) fn poll_finished(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_finished.get() {
            return Poll::Ready(());
        }
        self.finished.hear(cx);
        Poll::Pending
    }

    /// Queues a stream of the peer's to be accepted; gives it back when the queue is full.
    pub(super) fn offer(&self, stream: PeerStream) -> Result<(), PeerStream> {
        if self.is_over() {
            return Err(stream);
        }
        match stream {
            PeerStream::Uni(recv) => self.incoming_uni.push(recv).map_err(PeerStream::Uni),
            PeerStream::Bi(send, recv) => {
                self.incoming_bi.push((send, recv)).map_err(|(send, recv)| PeerStream::Bi(send, recv))
            }
        }
    }

    pub(super) async fn accept_bi(&self) -> Option<(usize, usize)> {
        let (send, recv) = self.unless_over(|cx| self.incoming_bi.poll_pop(cx)).await?;
        Some((self.insert_sending(send), self.insert_receiving(recv)))
    }

    pub(super) async fn accept_uni(&self) -> Option<usize> {
        let recv = self.unless_over(|cx| self.incoming_uni.poll_pop(cx)).await?;
        Some(self.insert_receiving(recv))
    }

    /// Polls `work` until it is ready, as long as the session lasts.
    pub(super) fn unless_over<T>(
        &self,
        mut work: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> impl Future<Output = Option<T>> {
        // The work first: on the way of an event it is ready at once, and nothing is registered elsewhere.
        poll_fn(move |cx| match work(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll_over(cx).map(|()| None),
        })
    }

    pub(super) fn insert_sending(&self, stream: link::SendStream) -> usize {
        self.sending.borrow_mut().insert(Sending { stream, finished: false })
    }

    fn insert_receiving(&self, stream: link::RecvStream) -> usize {
        self.receiving.borrow_mut().insert(stream)
    }

    /// Pending for ever when the session is over: the caller watches for that.
    pub(super) fn poll_write_chunks(
        &self,
        key: usize,
        cx: &mut Context<'_>,
        chunks: &mut [Bytes],
    ) -> Poll<Result<usize, link::WriteError>> {
        match self.sending.borrow_mut().get_mut(key) {
            Some(sending) => sending.stream.poll_write_chunks(cx, chunks),
            None => Poll::Pending,
        }
    }

    /// Pending for ever when the session is over: the caller watches for that.
    pub(super) fn poll_read(
        &self,
        key: usize,
        cx: &mut Context<'_>,
        bytes_max: usize,
    ) -> Poll<Result<Option<Bytes>, link::ReadError>> {
        match self.receiving.borrow_mut().get_mut(key) {
            Some(stream) => stream.poll_read(cx, bytes_max),
            None => Poll::Pending,
        }
    }

    pub(super) fn touch(&self, key: usize) -> usize {
        self.sending.borrow().get(key).map_or(0, |sending| sending.stream.touch())
    }

    pub(super) fn finish(&self, key: usize) {
        if let Some(sending) = self.sending.borrow_mut().get_mut(key) {
            // Fails only on a stream that has ended.
            let _ = sending.stream.finish();
            sending.finished = true;
        }
    }

    pub(super) fn stream_end(&self, key: usize) -> Option<impl Future<Output = StreamEnd> + 'static + use<>> {
        self.sending.borrow().get(key).map(|sending| outgoing::stream_end(&sending.stream))
    }

    /// Takes the stream out, and resets it unless it was finished.
    pub(super) fn drop_sending(&self, key: usize, code: VarInt) {
        let sending = self.sending.borrow_mut().try_remove(key);
        if let Some(mut sending) = sending.filter(|sending| !sending.finished) {
            let _ = sending.stream.reset(code);
        }
    }

    /// Takes the stream out, and stops it unless it has ended.
    pub(super) fn drop_receiving(&self, key: usize, code: VarInt) {
        let stream = self.receiving.borrow_mut().try_remove(key);
        if let Some(mut stream) = stream {
            let _ = stream.stop(code);
        }
    }

    pub(super) fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(self.orders.borrow_mut().get_or_insert_default());
        self.ordered.ring();
    }

    /// The orders given since the last time, once there are any.
    pub(super) fn poll_orders(&self, cx: &Context<'_>) -> Poll<Orders> {
        if let Some(orders) = self.orders.take() {
            return Poll::Ready(orders);
        }
        self.ordered.hear(cx);
        Poll::Pending
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.end(Ended::Lost);
    }
}

/// Wakes tasks. Each is there once, whatever it waits for in how many places: for as long as a session is idle that takes no memory of its own.
#[derive(Default)]
struct Bell(RefCell<SmallVec<[Waker; 1]>>);

impl Bell {
    /// Wakes the task when it is rung the next time.
    fn hear(&self, cx: &Context<'_>) {
        let mut hearers = self.0.borrow_mut();
        if !hearers.iter().any(|hearer| hearer.will_wake(cx.waker())) {
            hearers.push(cx.waker().clone());
        }
    }

    fn ring(&self) {
        self.0.take().into_iter().for_each(Waker::wake);
    }
}

/// Streams that wait to be accepted.
struct Queue<T> {
    items: RefCell<VecDeque<T>>,
    pushed: Bell,
    closed: Cell<bool>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: RefCell::default(), pushed: Bell::default(), closed: Cell::new(false) }
    }
}

impl<T> Queue<T> {
    fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.items.borrow_mut();
        if self.closed.get() || items.len() >= INCOMING_STREAMS_MAX {
            return Err(item);
        }
        items.push_back(item);
        drop(items);
        self.pushed.ring();
        Ok(())
    }

    fn poll_pop(&self, cx: &Context<'_>) -> Poll<T> {
        let mut items = self.items.borrow_mut();
        let Some(item) = items.pop_front() else {
            self.pushed.hear(cx);
            return Poll::Pending;
        };
        if items.is_empty() {
            // Most sessions have one stream of the peer's, or none.
            *items = VecDeque::new();
        }
        Poll::Ready(item)
    }

    fn take(&self) -> VecDeque<T> {
        self.closed.set(true);
        self.items.take()
    }
}

/// Streams of one direction that may wait to be accepted, a session. Each can take a stream's receive window.
const INCOMING_STREAMS_MAX: usize = 16;
