//! The task that drives a shard's connections.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::{IntoFuture, poll_fn},
    io::{self, IoSliceMut},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use quinn_proto::{
    self as proto, ConnectionError, ConnectionHandle, DatagramEvent, EcnCodepoint, EndpointEvent, Transmit, VarInt,
};
use quinn_udp::{self as udp, BATCH_SIZE, RecvMeta};
use tokio::{
    task::{spawn_local, unconstrained},
    time::{Instant, Sleep, sleep_until},
};

use super::{
    agenda::Agenda,
    connection::{Connecting, Connection, Link},
    timers::Timers,
};
use crate::{
    fanout::Newcomer,
    telemetry::{Limit, Metrics},
    transport::quic::socket::Socket,
};

/// A UDP socket and the connections on it, all on one thread.
pub struct Endpoint {
    inner: Rc<Inner>,
}

struct Inner {
    proto: RefCell<proto::Endpoint>,
    wire: RefCell<Wire>,
    links: RefCell<Links>,
    timers: RefCell<Timers>,
    agenda: Rc<Agenda>,
    newcomers: RefCell<Newcomers>,
    /// Told when the last connection is gone, or nobody has one any more.
    idle: RefCell<Option<Waker>>,
    handles: Cell<usize>,
    metrics: Arc<Metrics>,
}

/// By their numbers, of which the protocol gives the lowest that are free. After a peak the places stay: one takes 8 bytes, and the
/// protocol keeps one of its own for it, of many times that.
#[derive(Default)]
struct Links {
    all: Vec<Option<Rc<Link>>>,
    count: usize,
}

/// Handshakes that wait to be taken.
struct Newcomers {
    waiting: VecDeque<proto::Incoming>,
    waiting_max: usize,
    acceptor: Option<Waker>,
    /// Nobody is let in any more.
    is_closed: bool,
}

/// The way out.
struct Wire {
    socket: Socket,
    /// What goes out next, of whichever connection.
    packets: Vec<u8>,
    /// What the socket had no room for; until it has, nothing else is sent.
    unsent: Option<Transmit>,
    /// Connections that have something to send meanwhile.
    blocked: Vec<usize>,
    /// What the endpoint says by itself: that a handshake is refused, or a packet belongs to nothing.
    response: Vec<u8>,
}

impl Endpoint {
    /// An endpoint, and what drives its connections. `waiting_max` handshakes may wait to be taken; first packets of more are dropped, and
    /// counted.
    pub(in super::super) fn new(
        proto: proto::Endpoint,
        socket: Socket,
        waiting_max: usize,
        metrics: Arc<Metrics>,
    ) -> (Self, LocalBoxFuture<'static, ()>) {
        let received =
            vec![0; proto.config().get_max_udp_payload_size() as usize * socket.max_receive_segments() * BATCH_SIZE];
        let wire = Wire { socket, packets: Vec::new(), unsent: None, blocked: Vec::new(), response: Vec::new() };
        let newcomers = Newcomers { waiting: VecDeque::new(), waiting_max, acceptor: None, is_closed: false };
        let inner = Rc::new(Inner {
            proto: RefCell::new(proto),
            wire: RefCell::new(wire),
            links: RefCell::default(),
            timers: RefCell::default(),
            agenda: Rc::default(),
            newcomers: RefCell::new(newcomers),
            idle: RefCell::default(),
            handles: Cell::new(0),
            metrics,
        });
        let endpoint = Self::of(inner.clone());
        let mut driver = Driver { inner, received: received.into_boxed_slice(), sleep: None, retry_at: None };
        // What it does in a turn is bounded by itself.
        (endpoint, Box::pin(unconstrained(poll_fn(move |cx| driver.poll(cx)))))
    }

    fn of(inner: Rc<Inner>) -> Self {
        inner.handles.set(inner.handles.get() + 1);
        Self { inner }
    }

    /// The next client that wants a connection; none once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        poll_fn(|cx| {
            let mut newcomers = self.inner.newcomers.borrow_mut();
            if let Some(incoming) = newcomers.waiting.pop_front() {
                let endpoint = self.clone();
                return Poll::Ready(Some(Incoming { endpoint, incoming: Some(incoming) }));
            }
            if newcomers.is_closed {
                return Poll::Ready(None);
            }
            newcomers.acceptor = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Refuses who comes from now on.
    pub fn refuse_newcomers(&self) {
        let mut newcomers = self.inner.newcomers.borrow_mut();
        newcomers.is_closed = true;
        let waiting = std::mem::take(&mut newcomers.waiting);
        let acceptor = newcomers.acceptor.take();
        drop(newcomers);
        for incoming in waiting {
            self.inner.refuse(incoming);
        }
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
    }

    /// Closes all connections, and refuses who comes from now on.
    pub fn close(&self, code: VarInt, reason: &[u8]) {
        self.refuse_newcomers();
        let reason = Bytes::copy_from_slice(reason);
        let links: Vec<_> = self.inner.links.borrow().all.iter().flatten().cloned().collect();
        links.iter().for_each(|link| link.close(code, reason.clone()));
    }

    /// Resolves when nobody has a connection any more. What is left of them may still have to be told to their peers.
    pub async fn wait_disowned(&self) {
        self.wait(|inner| !inner.links.borrow().all.iter().flatten().any(|link| link.is_owned())).await;
    }

    /// Resolves when there is no connection, not even one that was closed just now.
    pub async fn wait_idle(&self) {
        self.wait(|inner| inner.links.borrow().count == 0).await;
    }

    async fn wait(&self, is_over: impl Fn(&Inner) -> bool) {
        poll_fn(|cx| {
            if is_over(&self.inner) {
                return Poll::Ready(());
            }
            self.inner.idle.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// How many connections there are.
    pub fn open_connections(&self) -> usize {
        self.inner.links.borrow().count
    }
}

impl Clone for Endpoint {
    fn clone(&self) -> Self {
        Self::of(self.inner.clone())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.inner.handles.set(self.inner.handles.get() - 1);
        // The task ends with the last connection when nobody else is there.
        self.inner.agenda.tell();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("connections", &self.open_connections()).finish_non_exhaustive()
    }
}

/// A client that wants a connection. Dropped, it is refused.
#[derive(Debug)]
pub struct Incoming {
    endpoint: Endpoint,
    /// None once it was decided on.
    incoming: Option<proto::Incoming>,
}

impl Incoming {
    /// Where it comes from.
    ///
    /// # Panics
    /// Never: it is there until it is decided on, which takes this.
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming().remote_address()
    }

    /// Whether it has proved that it is there. [RFC 9000 §8.1]
    pub fn remote_address_validated(&self) -> bool {
        self.incoming().remote_address_validated()
    }

    fn incoming(&self) -> &proto::Incoming {
        self.incoming.as_ref().expect("there until it is decided on")
    }

    /// Begins the handshake. While it is a newcomer, what the connection does passes the shard's turnstile.
    pub fn accept(mut self, newcomer: Option<Newcomer>) -> Result<Connecting, ConnectionError> {
        let inner = self.endpoint.inner.clone();
        if inner.newcomers.borrow().is_closed {
            // Who has waited for a turn meanwhile is refused as well.
            return Err(ConnectionError::LocallyClosed);
        }
        match self.incoming.take() {
            Some(incoming) => inner.accept(incoming, newcomer).map(Connecting::new),
            None => Err(ConnectionError::LocallyClosed),
        }
    }

    /// Has the client prove its address first. One that has done so is refused.
    pub fn retry(mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        let inner = &self.endpoint.inner;
        let mut wire = inner.wire.borrow_mut();
        wire.response.clear();
        let retried = inner.proto.borrow_mut().retry(incoming, &mut wire.response);
        match retried {
            Ok(transmit) => wire.respond(&transmit),
            Err(error) => {
                drop(wire);
                inner.refuse(error.into_incoming());
            }
        }
    }

    /// Tells the client that it isn't let in.
    pub fn refuse(self) {}

    /// Forgets about it: the client may send its packet again.
    pub fn ignore(mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.endpoint.inner.proto.borrow_mut().ignore(incoming);
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.endpoint.inner.refuse(incoming);
        }
    }
}

impl IntoFuture for Incoming {
    type Output = Result<Connection, ConnectionError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.accept(None)?.await })
    }
}

impl Inner {
    fn accept(
        self: &Rc<Self>,
        incoming: proto::Incoming,
        newcomer: Option<Newcomer>,
    ) -> Result<Connection, ConnectionError> {
        let accepted = {
            let mut wire = self.wire.borrow_mut();
            wire.response.clear();
            let now = Instant::now().into_std();
            let accepted = self.proto.borrow_mut().accept(incoming, now, &mut wire.response, None);
            accepted.map_err(|error| {
                if let Some(transmit) = error.response {
                    wire.respond(&transmit);
                }
                error.cause
            })
        };
        let (ConnectionHandle(number), proto) = accepted?;
        let link = Rc::new(Link::new(number, self.agenda.clone(), proto, newcomer.is_some()));
        self.links.borrow_mut().insert(link.clone());
        link.mark();
        if let Some(newcomer) = newcomer {
            let alone = Alone { inner: self.clone(), link: link.clone(), newcomer: newcomer.clone() };
            spawn_local(newcomer.gate(alone));
        }
        Ok(Connection::new(link))
    }

    fn refuse(&self, incoming: proto::Incoming) {
        let mut wire = self.wire.borrow_mut();
        wire.response.clear();
        let transmit = self.proto.borrow_mut().refuse(incoming, &mut wire.response);
        wire.respond(&transmit);
    }

    /// Takes in one packet.
    fn packet(&self, now: std::time::Instant, meta: &RecvMeta, packet: &[u8]) {
        let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
        let handle = || {
            let response = &mut self.wire.borrow_mut().response;
            response.clear();
            self.proto.borrow_mut().handle(now, meta.addr, meta.dst_ip, ecn, BytesMut::from(packet), response)
        };
        // It changes the endpoint last of all, if at all. Anybody can send any packet: none is to end more than itself.
        let Ok(event) = catch_unwind(AssertUnwindSafe(handle)) else {
            return tracing::error!("the endpoint's protocol panicked at a packet, which is lost");
        };
        match event {
            Some(DatagramEvent::ConnectionEvent(ConnectionHandle(number), event)) => {
                if let Some(link) = self.link(number) {
                    self.contain(&link, || {
                        if !link.take_in(event) {
                            self.metrics.reached(Limit::HandshakesWaiting);
                        }
                    });
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.newcomer(incoming),
            Some(DatagramEvent::Response(transmit)) => self.wire.borrow_mut().respond(&transmit),
            None => {}
        }
    }

    fn newcomer(&self, incoming: proto::Incoming) {
        let mut newcomers = self.newcomers.borrow_mut();
        if newcomers.is_closed {
            drop(newcomers);
            return self.refuse(incoming);
        }
        if newcomers.waiting.len() >= newcomers.waiting_max {
            // Its client sends the packet again, when there may be room.
            self.proto.borrow_mut().ignore(incoming);
            return self.metrics.reached(Limit::HandshakesWaiting);
        }
        newcomers.waiting.push_back(incoming);
        if let Some(acceptor) = newcomers.acceptor.take() {
            acceptor.wake();
        }
    }

    fn link(&self, number: usize) -> Option<Rc<Link>> {
        self.links.borrow().all.get(number).cloned().flatten()
    }

    /// Does with a connection what may panic, which then ends that connection and nothing else.
    fn contain(&self, link: &Link, act: impl FnOnce()) {
        if link.is_gone.get() {
            return;
        }
        if catch_unwind(AssertUnwindSafe(act)).is_err() {
            tracing::error!("a connection's protocol panicked; the connection is lost");
            link.break_off();
            if !link.is_gone.replace(true) {
                // The endpoint knows nothing of it yet, and would give its packets to whoever has its number next.
                self.proto.borrow_mut().handle_event(ConnectionHandle(link.number), EndpointEvent::drained());
            }
            self.remove(link);
        }
    }

    /// Does what a connection has to do.
    fn drive(&self, link: &Link) {
        link.unmark();
        self.contain(link, || {
            let now = Instant::now().into_std();
            if link.proto().poll_timeout().is_some_and(|due| due <= now) {
                link.proto().handle_timeout(now);
            }
            self.forward(link);
            link.tell();
            let has_more = self.transmit(link, now);
            if self.forward(link) || has_more {
                link.mark();
            }
            link.tell();
            if link.is_gone.get() {
                return self.remove(link);
            }
            let due = link.proto().poll_timeout();
            self.timers.borrow_mut().set(link.number, due);
        });
        if !link.is_owned() {
            self.tell_idle();
        }
    }

    /// Tells the endpoint what a connection has for it; whether it has an answer.
    fn forward(&self, link: &Link) -> bool {
        let mut is_answered = false;
        while !link.is_gone.get() {
            let Some(event) = link.proto().poll_endpoint_events() else { break };
            // Not what the protocol says afterwards: a packet that comes after the connection's end can have it closed again.
            link.is_gone.set(event.is_drained());
            let answer = self.proto.borrow_mut().handle_event(ConnectionHandle(link.number), event);
            if let Some(answer) = answer {
                link.proto().handle_event(answer);
                is_answered = true;
            }
        }
        is_answered
    }

    /// Sends what a connection has to send; whether there is more than others should wait for.
    fn transmit(&self, link: &Link, now: std::time::Instant) -> bool {
        let mut wire = self.wire.borrow_mut();
        let Wire { socket, packets, unsent, blocked, .. } = &mut *wire;
        let segments_max = socket.max_transmit_segments().min(SEGMENTS_MAX);
        let mut sent = 0;
        while sent < DATAGRAMS_A_TURN {
            if unsent.is_some() {
                if !link.waits_for_room.replace(true) {
                    blocked.push(link.number);
                }
                return false;
            }
            packets.clear();
            let Some(transmit) = link.proto().poll_transmit(now, segments_max, packets) else { return false };
            sent += transmit.segment_size.map_or(1, |bytes| transmit.size.div_ceil(bytes));
            if is_refused(&socket.try_send(&to_udp(&transmit, packets))) {
                *unsent = Some(transmit);
                // The task asks for room as its turn begins, which is past, or this isn't its turn.
                self.agenda.tell();
            }
        }
        true
    }

    fn remove(&self, link: &Link) {
        self.timers.borrow_mut().forget(link.number);
        // Dropped when nothing is borrowed.
        let _link = self.links.borrow_mut().remove(link.number);
        self.tell_idle();
    }

    fn tell_idle(&self) {
        let idle = self.idle.take();
        if let Some(idle) = idle {
            idle.wake();
        }
    }
}

impl Links {
    fn insert(&mut self, link: Rc<Link>) {
        let number = link.number;
        if self.all.len() <= number {
            self.all.resize_with(number + 1, || None);
        }
        self.all[number] = Some(link);
        self.count += 1;
    }

    fn remove(&mut self, number: usize) -> Option<Rc<Link>> {
        let removed = self.all.get_mut(number)?.take();
        self.count -= usize::from(removed.is_some());
        removed
    }
}

impl Wire {
    /// What finds no room is lost: it answers a packet that its sender sends again.
    fn respond(&self, transmit: &Transmit) {
        if self.unsent.is_none() {
            self.socket.send_or_lose(&to_udp(transmit, &self.response));
        }
    }

    /// Sends what found no room, and returns who has waited since; nobody as long as there is none.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Vec<usize> {
        while let Some(transmit) = &self.unsent {
            if self.socket.poll_room(cx).is_pending() {
                return Vec::new();
            }
            if !is_refused(&self.socket.try_send(&to_udp(transmit, &self.packets))) {
                self.unsent = None;
            }
        }
        std::mem::take(&mut self.blocked)
    }
}

/// Any other failure is a packet that is lost.
fn is_refused(sent: &io::Result<()>) -> bool {
    sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn to_udp<'a>(transmit: &Transmit, packets: &'a [u8]) -> udp::Transmit<'a> {
    udp::Transmit {
        destination: transmit.destination,
        ecn: transmit.ecn.and_then(|ecn| udp::EcnCodepoint::from_bits(ecn as u8)),
        contents: &packets[..transmit.size],
        segment_size: transmit.segment_size,
        src_ip: transmit.src_ip,
    }
}

/// A new connection, which its own task drives as it passes the turnstile.
struct Alone {
    inner: Rc<Inner>,
    link: Rc<Link>,
    newcomer: Newcomer,
}

impl Future for Alone {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { inner, link, newcomer } = &*self;
        inner.contain(link, || link.take_turn(cx.waker()));
        inner.drive(link);
        if newcomer.is_settled() || link.error().is_some() {
            link.join();
            return Poll::Ready(());
        }
        // Whatever there is to do from now on wakes it.
        Poll::Pending
    }
}

struct Driver {
    inner: Rc<Inner>,
    /// What one system call gives.
    received: Box<[u8]>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// When to read again from a socket that has failed.
    retry_at: Option<Instant>,
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.agenda.begin(cx.waker());
        let unblocked = self.inner.wire.borrow_mut().poll_room(cx);
        for link in unblocked.into_iter().filter_map(|number| self.inner.link(number)) {
            link.waits_for_room.set(false);
            link.mark();
        }
        let mut has_more = self.receive(cx);
        let now = Instant::now().into_std();
        for _ in 0..TIMERS_A_TURN {
            let due = self.inner.timers.borrow_mut().due(now);
            let Some(number) = due else { break };
            if let Some(link) = self.inner.link(number) {
                link.mark();
            }
        }
        for _ in 0..CONNECTIONS_A_TURN {
            let Some(number) = self.inner.agenda.next() else { break };
            if let Some(link) = self.inner.link(number) {
                self.inner.drive(&link);
            }
        }
        if self.inner.handles.get() == 0 && self.inner.links.borrow().count == 0 {
            return Poll::Ready(());
        }
        has_more |= !self.inner.agenda.is_empty();
        has_more |= self.sleep_until_next(cx).is_ready();
        if has_more {
            self.inner.agenda.tell();
        }
        Poll::Pending
    }

    /// Takes in what has come, a few system calls' worth; whether there is more.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return false;
        }
        self.retry_at = None;
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let each = self.received.len() / BATCH_SIZE;
        let (begun, mut count) = (Instant::now(), 0);
        while count < PACKETS_A_TURN && (count == 0 || begun.elapsed() < RECEIVE_A_TURN) {
            let received = {
                let mut buffers = self.received.chunks_exact_mut(each).map(IoSliceMut::new);
                let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
                    std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
                self.inner.wire.borrow().socket.poll_recv(cx, &mut buffers, &mut metas)
            };
            let received = match received {
                Poll::Pending => return false,
                Poll::Ready(Ok(received)) => received,
                // What somebody makes the system say of earlier packets means nothing here.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => continue,
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "the UDP socket can't be read; trying again");
                    self.retry_at = Some(Instant::now() + RETRY_PAUSE);
                    return false;
                }
            };
            let now = Instant::now().into_std();
            for (meta, buffer) in metas.iter().zip(self.received.chunks_exact(each)).take(received) {
                let packets = buffer[..meta.len].chunks(meta.stride.max(1));
                // One that is empty, or was passed on, takes time, too.
                count += packets.len().max(1);
                packets.for_each(|packet| self.inner.packet(now, meta, packet));
            }
        }
        true
    }

    /// Ready if it is time already. A timer that is early is as good as one in time, and cheaper than to set it anew for each packet.
    fn sleep_until_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let next = self.inner.timers.borrow().next().map(Instant::from_std);
        let Some(next) = next.into_iter().chain(self.retry_at).min() else { return Poll::Pending };
        match &mut self.sleep {
            Some(sleep) if !sleep.is_elapsed() && sleep.deadline() <= next => {}
            Some(sleep) => sleep.as_mut().reset(next),
            None => self.sleep = Some(Box::pin(sleep_until(next))),
        }
        self.sleep.as_mut().map_or(Poll::Pending, |sleep| sleep.as_mut().poll(cx))
    }
}

/// Datagrams that are sent in one go, at the most.
const SEGMENTS_MAX: usize = 10;

/// Datagrams of one connection before the next has its turn.
const DATAGRAMS_A_TURN: usize = 20;

/// What is done in one turn before other tasks have theirs: packets that are taken in, some microseconds each, first ones of newcomers ten times
/// that; and connections that are driven, each with a packet or two to send. What is marked by the first is done with the second.
const PACKETS_A_TURN: usize = 64;
const RECEIVE_A_TURN: Duration = Duration::from_micros(100);
const CONNECTIONS_A_TURN: usize = 64;
const TIMERS_A_TURN: usize = 128;

const RETRY_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
