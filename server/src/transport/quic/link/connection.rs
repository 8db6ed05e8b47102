//! One connection.

use std::{
    cell::{Cell, RefCell, RefMut},
    collections::VecDeque,
    fmt,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quinn_proto::{
    self as proto, ConnectionError, Dir, Event, StreamEvent, StreamId, TransportError, TransportErrorCode, VarInt,
};
use tokio::time::Instant;

use super::{
    SendDatagramError,
    agenda::Agenda,
    streams::{RecvStream, SendStream},
    waits::{On, Waits},
};

/// A connection, for whoever uses it. Closed with code 0 when the last of its handles and streams is dropped.
pub struct Connection {
    link: Rc<Link>,
}

/// What the endpoint and the owners of a connection share.
pub(super) struct Link {
    pub(super) number: usize,
    agenda: Rc<Agenda>,
    proto: RefCell<proto::Connection>,
    waits: RefCell<Waits>,
    is_connected: Cell<bool>,
    /// Set from its end on.
    error: RefCell<Option<ConnectionError>>,
    /// The protocol has panicked: it isn't asked anything more.
    is_broken: Cell<bool>,
    /// The endpoint knows nothing of it any more: its number may be another's.
    pub(super) is_gone: Cell<bool>,
    /// It is on the agenda, or whoever drives it is told.
    is_marked: Cell<bool>,
    /// It has something to send, and the socket had no room.
    pub(super) waits_for_room: Cell<bool>,
    owners: Cell<usize>,
    datagrams_dropped: Cell<u64>,
    /// While it is new, and not the endpoint's task drives it.
    alone: RefCell<Option<Box<Alone>>>,
}

/// Of a connection that is driven by a task of its own.
#[derive(Default)]
struct Alone {
    task: Option<Waker>,
    packets: VecDeque<proto::ConnectionEvent>,
}

impl Link {
    pub(super) fn new(number: usize, agenda: Rc<Agenda>, proto: proto::Connection, is_alone: bool) -> Self {
        Self {
            number,
            agenda,
            proto: RefCell::new(proto),
            waits: RefCell::default(),
            is_connected: Cell::new(false),
            error: RefCell::default(),
            is_broken: Cell::new(false),
            is_gone: Cell::new(false),
            is_marked: Cell::new(false),
            waits_for_room: Cell::new(false),
            owners: Cell::new(0),
            datagrams_dropped: Cell::new(0),
            alone: RefCell::new(is_alone.then(Box::default)),
        }
    }

    pub(super) fn proto(&self) -> RefMut<'_, proto::Connection> {
        self.proto.borrow_mut()
    }

    pub(super) fn touch(&self) -> usize {
        let proto = self.proto.borrow();
        let (window, trip) = (proto.congestion_state().window(), proto.rtt().subsec_nanos());
        window as usize + trip as usize + usize::from(proto.is_closed()) + usize::from(self.error.borrow().is_some())
    }

    pub(super) fn waits(&self) -> RefMut<'_, Waits> {
        self.waits.borrow_mut()
    }

    pub(super) fn error(&self) -> Option<ConnectionError> {
        self.error.borrow().clone()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.get()
    }

    pub(super) fn is_owned(&self) -> bool {
        self.owners.get() > 0
    }

    /// It has something to do: whoever drives it is told, once until it does.
    pub(super) fn mark(&self) {
        if self.is_marked.replace(true) {
            return;
        }
        match &*self.alone.borrow() {
            None => self.agenda.add(self.number),
            Some(alone) => {
                if let Some(task) = &alone.task {
                    task.wake_by_ref();
                }
            }
        }
    }

    /// What it had to do is about to be done.
    pub(super) fn unmark(&self) {
        self.is_marked.set(false);
    }

    /// Takes in a packet. One of a new connection waits for its task's turn; more than a few are lost, as on any way that is too narrow, and
    /// then this is false.
    pub(super) fn take_in(&self, packet: proto::ConnectionEvent) -> bool {
        match &mut *self.alone.borrow_mut() {
            Some(alone) if alone.packets.len() < PACKETS_WAITING_MAX => alone.packets.push_back(packet),
            Some(_) => return false,
            None => self.proto().handle_event(packet),
        }
        self.mark();
        true
    }

    /// The turn of a new connection's own task: it takes in what has come.
    pub(super) fn take_turn(&self, task: &Waker) {
        loop {
            let packet = match &mut *self.alone.borrow_mut() {
                Some(alone) => {
                    if !alone.task.as_ref().is_some_and(|known| known.will_wake(task)) {
                        alone.task = Some(task.clone());
                    }
                    alone.packets.pop_front()
                }
                None => None,
            };
            match packet {
                Some(packet) => self.proto().handle_event(packet),
                None => return,
            }
        }
    }

    /// From now on the endpoint's task drives it.
    pub(super) fn join(&self) {
        self.alone.replace(None);
        if self.is_marked.get() {
            self.agenda.add(self.number);
        }
    }

    /// Tells those who wait of what has happened.
    pub(super) fn tell(&self) {
        loop {
            let Some(event) = self.proto().poll() else { return };
            match event {
                Event::HandshakeDataReady => {}
                Event::Connected => {
                    self.is_connected.set(true);
                    self.wake(On::Connected);
                }
                Event::ConnectionLost { reason } => self.end(reason),
                Event::Stream(StreamEvent::Opened { dir }) => self.wake(On::Accept(dir)),
                Event::Stream(StreamEvent::Readable { id }) => self.wake(On::Read(id)),
                Event::Stream(StreamEvent::Writable { id }) => self.wake(On::Write(id)),
                Event::Stream(StreamEvent::Finished { id }) => self.wake(On::End(id)),
                Event::Stream(StreamEvent::Stopped { id, .. }) => {
                    self.wake(On::End(id));
                    self.wake(On::Write(id));
                }
                Event::Stream(StreamEvent::Available { dir }) => self.wake(On::Open(dir)),
                Event::DatagramReceived => {
                    while self.proto().datagrams().recv().is_some() {
                        self.datagrams_dropped.set(self.datagrams_dropped.get() + 1);
                    }
                }
                Event::DatagramsUnblocked => self.wake(On::DatagramRoom),
            }
        }
    }

    /// Nothing is borrowed while somebody is told: to drop a waker can be to drop who waited.
    fn wake(&self, on: On) {
        loop {
            let Some(waker) = self.waits().take(on) else { return };
            waker.wake();
        }
    }

    /// It has ended; what has come is still there to be read.
    fn end(&self, reason: ConnectionError) {
        self.error.borrow_mut().get_or_insert(reason);
        loop {
            let Some(waker) = self.waits().take_any() else { return };
            waker.wake();
        }
    }

    pub(super) fn close(&self, code: VarInt, reason: Bytes) {
        if self.is_broken.get() {
            return;
        }
        self.proto().close(Instant::now().into_std(), code, reason);
        self.end(ConnectionError::LocallyClosed);
        self.mark();
    }

    /// The protocol has panicked in the midst of something.
    pub(super) fn break_off(&self) {
        self.is_broken.set(true);
        let error = TransportError {
            code: TransportErrorCode::INTERNAL_ERROR,
            frame: None,
            reason: "the connection's protocol panicked".to_owned(),
        };
        self.end(ConnectionError::TransportError(error));
    }
}

impl Connection {
    pub(super) fn new(link: Rc<Link>) -> Self {
        link.owners.set(link.owners.get() + 1);
        Self { link }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// The next bidirectional stream that the peer opens.
    pub fn poll_accept_bi(&self, cx: &mut Context<'_>) -> Poll<Result<(SendStream, RecvStream), ConnectionError>> {
        self.poll_accept(Dir::Bi, cx)
            .map_ok(|id| (SendStream::new(self.clone(), id), RecvStream::new(self.clone(), id)))
    }

    /// The next unidirectional stream that the peer opens.
    pub fn poll_accept_uni(&self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, ConnectionError>> {
        self.poll_accept(Dir::Uni, cx).map_ok(|id| RecvStream::new(self.clone(), id))
    }

    fn poll_accept(&self, dir: Dir, cx: &mut Context<'_>) -> Poll<Result<StreamId, ConnectionError>> {
        let accepted = if self.link.is_broken() { None } else { self.link.proto().streams().accept(dir) };
        if let Some(id) = accepted {
            // The peer may open another one for it, and is to be told.
            self.link.mark();
            return Poll::Ready(Ok(id));
        }
        if let Some(error) = self.link.error() {
            return Poll::Ready(Err(error));
        }
        self.link.waits().set(On::Accept(dir), cx.waker());
        Poll::Pending
    }

    /// The next bidirectional stream that the peer opens.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        poll_fn(|cx| self.poll_accept_bi(cx)).await
    }

    /// Opens a stream to send on, if the peer allows another one now.
    pub fn try_open_uni(&self) -> Option<Result<SendStream, ConnectionError>> {
        if let Some(error) = self.link.error() {
            return Some(Err(error));
        }
        let id = self.link.proto().streams().open(Dir::Uni)?;
        Some(Ok(SendStream::new(self.clone(), id)))
    }

    /// Opens a stream to send on. Waits while the peer allows no more of them.
    pub async fn open_uni(&self) -> Result<SendStream, ConnectionError> {
        if let Some(opened) = self.try_open_uni() {
            return opened;
        }
        let connection = self.clone();
        Waiting::new(connection.clone(), On::Open(Dir::Uni)).until(|_| connection.try_open_uni()).await
    }

    /// The most bytes that a datagram may have now; none where the peer takes none.
    pub fn max_datagram_size(&self) -> Option<usize> {
        if self.link.is_broken() { None } else { self.link.proto().datagrams().max_size() }
    }

    /// Sends a datagram, once those before it leave room.
    pub async fn send_datagram_wait(&self, datagram: Bytes) -> Result<(), SendDatagramError> {
        let mut waits = Some(datagram);
        let mut send = |link: &Link| {
            if let Some(error) = link.error() {
                return Some(Err(error.into()));
            }
            let sent = link.proto().datagrams().send(waits.take()?, false);
            match sent {
                Ok(()) => {
                    link.mark();
                    Some(Ok(()))
                }
                Err(proto::SendDatagramError::Blocked(datagram)) => {
                    waits = Some(datagram);
                    None
                }
                Err(_) => Some(Err(SendDatagramError::TooLarge)),
            }
        };
        match send(&self.link) {
            Some(sent) => sent,
            None => Waiting::new(self.clone(), On::DatagramRoom).until(send).await,
        }
    }

    /// How many datagrams have come: nobody reads them.
    pub fn datagrams_dropped(&self) -> u64 {
        self.link.datagrams_dropped.get()
    }

    /// Allows the peer so many bidirectional streams at a time.
    pub fn set_max_concurrent_bi_streams(&self, count: VarInt) {
        if !self.link.is_broken() {
            self.link.proto().set_max_concurrent_streams(Dir::Bi, count);
            self.link.mark();
        }
    }

    /// Where the peer is now.
    pub fn remote_address(&self) -> SocketAddr {
        self.link.proto().remote_address()
    }

    /// Why it has ended, if it has.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.link.error()
    }

    /// Resolves when it has ended.
    pub async fn closed(&self) -> ConnectionError {
        Waiting::new(self.clone(), On::Closed).until(Link::error).await
    }

    /// Ends it at once.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        self.link.close(code, Bytes::copy_from_slice(reason));
    }
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        Self::new(self.link.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let owners = self.link.owners.get() - 1;
        self.link.owners.set(owners);
        if owners > 0 {
            return;
        }
        if self.link.error.borrow().is_none() {
            self.link.close(VarInt::from_u32(0), Bytes::new());
        }
        // Whoever waits for the last owner is told when it is driven.
        self.link.mark();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("number", &self.link.number).finish_non_exhaustive()
    }
}

/// A connection whose handshake is under way. Dropped before its end, it is closed.
#[derive(Debug)]
pub struct Connecting {
    connection: Option<Connection>,
}

impl Connecting {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection: Some(connection) }
    }
}

impl Future for Connecting {
    type Output = Result<Connection, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(connection) = &self.connection else { return Poll::Pending };
        let link = connection.link();
        if let Some(error) = link.error() {
            return Poll::Ready(Err(error));
        }
        if !link.is_connected.get() {
            link.waits().set(On::Connected, cx.waker());
            return Poll::Pending;
        }
        self.connection.take().map_or(Poll::Pending, |connection| Poll::Ready(Ok(connection)))
    }
}

/// One who waits for something that others may wait for, too.
pub(super) struct Waiting {
    connection: Connection,
    on: On,
    ticket: Option<u32>,
}

impl Waiting {
    pub(super) fn new(connection: Connection, on: On) -> Self {
        Self { connection, on, ticket: None }
    }

    /// Asks whenever it may have happened, until there is an answer.
    pub(super) async fn until<T>(&mut self, mut ask: impl FnMut(&Link) -> Option<T>) -> T {
        poll_fn(|cx| {
            let Self { connection, on, ticket } = self;
            if let Some(answer) = ask(connection.link()) {
                return Poll::Ready(answer);
            }
            connection.link().waits().add(*on, ticket, cx.waker());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let _waker = self.connection.link().waits().remove(self.on, ticket);
        }
    }
}

/// Packets of a new connection that wait for its turn, of 1,472 bytes at most; more are lost.
const PACKETS_WAITING_MAX: usize = 64;
