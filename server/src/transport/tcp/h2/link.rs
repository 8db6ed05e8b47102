//! An HTTP/2 connection between its task, which reads it, and its feeds, which write to it on the walk.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use ::h2::{
    PingPong, RecvStream,
    server::{Connection, SendResponse},
};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::Error,
    credit::{Besides, Credit},
    frames,
    outgoing::{Outgoing, Piece, Text},
    signals::{Signals, Write},
    wire::{Told, Wire},
};

/// A connection. Whoever has it is in its shard's thread, and borrows it for a call only.
pub(super) struct Link<S> {
    signals: Arc<Signals>,
    /// The signals, as h2 has them.
    waker: Waker,
    /// What the connection ended with, where its task hasn't seen it.
    ended: RefCell<Option<Result<(), Error>>>,
    wire: Rc<RefCell<Wire<S>>>,
    credit: Rc<Credit>,
    /// How many heads of answers h2 was given, and those that it had of itself.
    heads: Cell<u64>,
    refused: Cell<u64>,
    connection: RefCell<Connection<Told<S>, Piece>>,
}

/// A request, and what answers it.
pub(super) type Incoming = (Request<RecvStream>, SendResponse<Piece>);

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// A connection over a wire, which has its signals.
    pub(super) fn new(
        connection: Connection<Told<S>, Piece>,
        wire: Rc<RefCell<Wire<S>>>,
        signals: Arc<Signals>,
    ) -> Self {
        let (waker, credit) = (Waker::from(signals.clone()), wire.borrow().credit().clone());
        let (heads, refused) = Default::default();
        let connection = RefCell::new(connection);
        Self { signals, waker, ended: RefCell::default(), wire, credit, heads, refused, connection }
    }

    /// See [`crate::fanout::Connection::touch`].
    pub(super) fn touch(&self) -> usize {
        self.signals.touch() + usize::from(self.wire.borrow().is_free()) + Rc::strong_count(&self.credit)
    }

    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// The task's turn: reads, writes what waits, and gives the next request; none once the connection has ended in order.
    pub(super) fn poll_accept(&self, cx: &Context<'_>) -> Poll<Option<Result<Incoming, Error>>> {
        if let Some(ended) = self.ended.take() {
            return Poll::Ready(ended.err().map(Err));
        }
        self.signals.begin_turn(cx);
        self.connection.borrow_mut().poll_accept(&mut Context::from_waker(&self.waker)).map_err(Error::from)
    }

    /// h2 was given the head of an answer.
    pub(super) fn head_given(&self) {
        self.heads.set(self.heads.get() + 1);
    }

    /// How many requests h2 has refused since it was asked last: it answers 431 to a head that is too large and says nothing, but the answer is
    /// one that it wasn't given. Where a client has reset a request before its answer was written, one less is seen.
    pub(super) fn newly_refused(&self) -> u64 {
        let refused = self.wire.borrow().heads().saturating_sub(self.heads.get());
        refused.saturating_sub(self.refused.replace(refused.max(self.refused.get())))
    }

    /// Takes no further requests, and ends once those that there are have been answered. The task is to go on.
    pub(super) fn graceful_shutdown(&self) {
        self.connection.borrow_mut().graceful_shutdown();
    }

    /// What pings the peer; once.
    pub(super) fn ping_pong(&self) -> Option<PingPong> {
        self.connection.borrow_mut().ping_pong()
    }

    /// Lets a feed give h2 what it has, and has it written: right here, if nothing speaks against it.
    pub(super) fn send<T>(&self, give: impl FnOnce() -> T) -> T {
        match self.signals.write() {
            Write::ByTask => give(),
            Write::Later => self.signals.held(give),
            Write::AtOnce => {
                let given = self.signals.held(give);
                self.write();
                given
            }
        }
    }

    /// Writes the text of a feed that is alone on the connection past h2. False if it is to be sent through h2.
    pub(super) fn write_past(&self, stream: &mut Outgoing, text: &Text) -> Result<bool, Error> {
        let (id, bytes) = (stream.id(), text.bytes());
        let may = || self.signals.write() == Write::AtOnce && self.wire.borrow().is_free();
        if bytes.is_empty() || bytes.len() > frames::PAYLOAD_BYTES_MAX || !stream.is_written() || !may() {
            return Ok(false);
        }
        if self.credit.of(id) < bytes.len() {
            if !self.credit.may_ask(id) || !stream.has_room(CREDIT_BYTES) {
                return Ok(false);
            }
            self.credit.ask(id, CREDIT_BYTES);
            self.send(|| stream.send(Text::Counted { bytes: CREDIT_BYTES, credit: self.credit.clone() }, false))?;
            if self.credit.of(id) < bytes.len() || !may() {
                return Ok(false);
            }
        }
        let written = self.wire.borrow_mut().write_past(&mut Context::from_waker(&self.waker), id, bytes);
        written.map(|()| true).map_err(|error| {
            let told = error.to_string();
            self.end(Err(error.into()));
            told.into()
        })
    }

    /// Gives back what may still be sent past h2.
    pub(super) fn give_back(&self) {
        if self.credit.give_back() {
            // Which reads it, as if the client had sent it.
            self.signals.wake();
        }
    }

    /// Something is sent besides a feed.
    pub(super) fn besides(&self) -> Rc<Besides> {
        self.give_back();
        Rc::new(Besides::new(self.credit.clone()))
    }

    fn write(&self) {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // Nothing comes in here that the task would have to look at.
            let write = || self.connection.borrow_mut().poll_closed(&mut Context::from_waker(&self.waker));
            self.signals.without_reading(write)
        }));
        let ended = match polled {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(ended)) => ended.map_err(Error::from),
            Err(_) => Err("the connection panicked as it was written to".into()),
        };
        self.end(ended);
    }

    /// The task finds it.
    fn end(&self, ended: Result<(), Error>) {
        self.ended.replace(Some(ended));
        self.signals.wake();
    }
}

/// How much a feed may send past h2 before h2 is asked again: a frame that every client takes.
const CREDIT_BYTES: usize = frames::PAYLOAD_BYTES_MAX;
