//! One QUIC connection, from its handshake to its end.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use h3::{error::StreamError, ext::Protocol, frame::FrameStream, quic::SendStream as _, stream::BufRecvStream};
use http::{Method, Request};
use quinn_proto::VarInt;
use thiserror::Error;
use tokio::{
    task::{JoinError, JoinSet, spawn_local},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    backend::{Backend, BidiStream, Handed, RequestStream},
    body::RequestBody,
    code, link,
    outgoing::Outgoing,
    response::ResponseSender,
    webtransport::{self, Answer, Routes, SessionOffer},
};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address at the handshake; it may migrate later.
    pub address: SocketAddr,
}

/// What requests and sessions are given to. Its futures run on tasks of their own, on the connection's shard: a panic
/// in one ends that request or session only.
pub trait Handler: Clone + 'static {
    /// Answers an ordinary request. A CONNECT that isn't for WebTransport comes here as well.
    fn request(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
        response: ResponseSender,
    ) -> impl Future<Output = ()> + 'static + use<Self>;

    /// Answers a CONNECT for WebTransport, and serves the session if it accepts. Should return when the session has
    /// ended; it is aborted when it hasn't a while later.
    fn webtransport(&self, peer: Peer, offer: SessionOffer) -> impl Future<Output = ()> + 'static + use<Self>;

    /// Told when a connection comes to a limit.
    fn reached(&self, limit: Limit) {
        let _ = limit;
    }
}

/// One of [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::head_bytes_max`].
    HeadBytes,
    /// [`Limits::head`], or [`Limits::first_request`].
    HeadTime,
    /// [`Limits::idle`].
    IdleTime,
    /// [`Limits::bidi_streams_max`]: all of them are in use.
    Streams,
}

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a handshake may take, and then the opening of HTTP/3's own streams.
    pub handshake: Duration,
    /// How long the head of a request, or the type of any stream, may take to arrive, and a stream may wait for its
    /// session.
    pub head: Duration,
    /// How long a connection may take to its first request.
    pub first_request: Duration,
    /// How long it may stay without one after that.
    pub idle: Duration,
    /// The most bytes of a request's head as HTTP/3 counts them: names and values and 32 for each
    /// [RFC 9114 §4.2.2]. Beyond it a request is answered with 431, and beyond 32 KiB reset
    /// whatever this says.
    pub head_bytes_max: u64,
    /// The most requests, sessions and their streams that a peer may have open at a time. It begins with
    /// [`endpoint::Config::bidi_streams_max`](super::endpoint::Config) and is raised once a connection is busy, since quinn-proto has room for allowed
    /// streams ahead: some 5 KiB for 100, which only a busy connection takes.
    pub bidi_streams_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            first_request: Duration::from_secs(30),
            idle: Duration::from_secs(120),
            head_bytes_max: 16 * 1024,
            bidi_streams_max: 100,
        }
    }
}

/// Why a connection ended otherwise than by being closed in order.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The handshake failed.
    #[error("the handshake failed")]
    Handshake(#[source] quinn_proto::ConnectionError),
    /// The handshake took too long.
    #[error("the handshake took too long")]
    HandshakeTimeout,
    /// The peer has vanished: nothing came for as long as the idle timeout.
    #[error("the peer has vanished")]
    Lost,
    /// The peer closed it, and not because it was done.
    #[error("the peer closed the connection")]
    Peer(#[source] quinn_proto::ConnectionError),
    /// The peer broke a rule of HTTP/3, and it was closed.
    #[error("the peer broke a rule")]
    Http3(#[source] h3::error::ConnectionError),
}

/// Serves a connection, a [`link::Incoming`] or what becomes of one, until it ends. Must run on a [`tokio::task::LocalSet`].
///
/// When `drain` is cancelled the client is told to open no more (GOAWAY), what runs is let run to its end, and the
/// connection is closed. There is no deadline to that: dropping the future aborts everything at once and closes the
/// connection, too.
pub async fn serve<H: Handler>(
    handshake: impl IntoFuture<Output = Result<link::Connection, quinn_proto::ConnectionError>>,
    handler: H,
    limits: Limits,
    drain: CancellationToken,
) -> Result<(), ConnectionError> {
    // Boxed, like other steps that are soon past: a connection's memory is that of its largest step otherwise.
    let handshake = Box::pin(timeout(limits.handshake, handshake.into_future()));
    let too_late = Box::pin(too_late(&drain));
    let connection = tokio::select! {
        connection = handshake => match connection {
            Ok(connection) => connection.map_err(ConnectionError::Handshake)?,
            Err(_) => return Err(ConnectionError::HandshakeTimeout),
        },
        () = too_late => return Ok(()),
    };
    Connection { peer: Peer { address: connection.remote_address() }, connection, handler, limits }.run(&drain).await
}

struct Connection<H> {
    peer: Peer,
    connection: link::Connection,
    handler: H,
    limits: Limits,
}

type Http3 = h3::server::Connection<Backend, Bytes>;
type Http3Stream = h3::server::RequestStream<BidiStream, Bytes>;
type Resolver = h3::server::RequestResolver<Backend, Bytes>;

impl<H: Handler> Connection<H> {
    async fn run(self, drain: &CancellationToken) -> Result<(), ConnectionError> {
        let Some((mut http3, handed)) = Box::pin(self.open(drain)).await? else { return Ok(()) };
        let mut tasks = JoinSet::new();
        let mut raised = false;
        let mut draining = false;
        let mut asked = false;
        // Heads may come whole in another order than their streams: the one that was taken last, and the newest of all, counted from 0.
        let (mut last, mut newest) = (0, 0);
        let mut idle_until = Instant::now() + self.limits.first_request;
        let result = loop {
            if draining && tasks.is_empty() {
                break Ok(());
            }
            let idle_for_too_long = async {
                // Boxed, like what else takes a timer: most connections are in use as long as they are there, and never begin with this.
                Box::pin(sleep_until(idle_until)).await;
                self.handler.reached(if asked { Limit::IdleTime } else { Limit::HeadTime });
            };
            tokio::select! {
                () = drain_or(drain, idle_for_too_long, tasks.is_empty()), if !draining => {
                    draining = true;
                    // Names the stream after the newest that was taken, by its distance from the last: what is below it is answered
                    // [RFC 9114 §5.2]. A peer that reads no GOAWAY must not hold this up.
                    let _ = Box::pin(timeout(GOAWAY_MAX, http3.shutdown(newest - last + 1))).await;
                }
                Some(ended) = tasks.join_next() => {
                    report(ended, self.peer);
                    idle_until = Instant::now() + self.limits.idle;
                }
                // And not `accept`, whose future has room for its GOAWAY.
                accepted = poll_fn(|cx| http3.poll_accept_request_stream(cx)) => match accepted {
                    Ok(Some(bidi)) => match handed.take() {
                        Some(stream) if draining => stream.outgoing.reset(code::H3_REQUEST_REJECTED),
                        Some(stream) => {
                            last = (bidi.send_id().into_inner() / 4) as usize;
                            newest = newest.max(last);
                            let resolver = http3.create_resolver(FrameStream::new(BufRecvStream::new(bidi)));
                            self.spawn(&mut tasks, resolver, stream);
                            asked = true;
                            if tasks.len() == self.limits.bidi_streams_max as usize {
                                self.handler.reached(Limit::Streams);
                            }
                            if !raised && tasks.len() >= BUSY_REQUESTS {
                                raised = true;
                                // In one step: quinn-proto keeps a raise by an eighth or less to itself.
                                let streams = VarInt::from_u32(self.limits.bidi_streams_max);
                                self.connection.set_max_concurrent_bi_streams(streams);
                            }
                        }
                        None => {}
                    },
                    // The client has said that it asks for nothing more, and has everything.
                    Ok(None) => {
                        let told = Box::pin(timeout(GOAWAY_MAX, http3.shutdown(newest - last))).await;
                        break if let Ok(Err(error)) = told { self.ended(error) } else { Ok(()) };
                    }
                    Err(error) => break self.ended(error),
                },
            }
        };
        // Tasks find their streams dead, if the connection is, and end; one that doesn't is aborted.
        let _ = Box::pin(timeout(HANDLER_GRACE, join(&mut tasks, self.peer))).await;
        Box::pin(tasks.shutdown()).await;
        if draining && result.is_ok() {
            // The close of the connection would overtake the closes of its sessions on their way to the page.
            let _ = Box::pin(timeout(LINGER, self.connection.closed())).await;
        }
        let dropped = self.connection.datagrams_dropped();
        if dropped > 0 {
            tracing::debug!(peer = %self.peer.address, dropped, "datagrams dropped");
        }
        drop(http3);
        result
    }

    /// Opens HTTP/3's own streams. None if there is nothing to go on with, and that is in order.
    async fn open(&self, drain: &CancellationToken) -> Result<Option<(Box<Http3>, Handed)>, ConnectionError> {
        let settings = vec![(SETTINGS_WEBTRANSPORT_MAX_SESSIONS, VarInt::from_u32(SESSIONS_MAX))];
        let backend = Backend::new(self.connection.clone(), settings, self.limits.head, Routes::default());
        let handler = self.handler.clone();
        let backend = backend.telling(move |limit| handler.reached(limit));
        let handed = backend.handed();
        let mut builder = h3::server::builder();
        builder
            .enable_webtransport(true)
            .enable_extended_connect(true)
            .enable_datagram(true)
            .max_webtransport_sessions(u64::from(SESSIONS_MAX))
            .max_field_section_size(self.limits.head_bytes_max)
            .send_grease(false);
        tokio::select! {
            biased;
            // A peer that allows no unidirectional stream keeps HTTP/3 from beginning.
            opened = timeout(self.limits.handshake, builder.build(backend)) => match opened {
                Ok(Ok(http3)) => Ok(Some((Box::new(http3), handed))),
                Ok(Err(error)) => self.ended(error).map(|()| None),
                Err(_) => Err(ConnectionError::HandshakeTimeout),
            },
            () = too_late(drain) => Ok(None),
        }
    }

    /// What became of the connection, according to QUIC, where HTTP/3 can only say that it is gone.
    fn ended(&self, error: h3::error::ConnectionError) -> Result<(), ConnectionError> {
        match self.connection.close_reason() {
            Some(quinn_proto::ConnectionError::TimedOut | quinn_proto::ConnectionError::Reset) => {
                Err(ConnectionError::Lost)
            }
            Some(quinn_proto::ConnectionError::ApplicationClosed(close)) if is_regular(close.error_code) => Ok(()),
            Some(quinn_proto::ConnectionError::ConnectionClosed(close)) if u64::from(close.error_code) == 0 => Ok(()),
            None | Some(quinn_proto::ConnectionError::LocallyClosed) => Err(ConnectionError::Http3(error)),
            Some(reason) => Err(ConnectionError::Peer(reason)),
        }
    }

    fn spawn(&self, tasks: &mut JoinSet<()>, resolver: Resolver, stream: RequestStream) {
        let request = RequestTask {
            peer: self.peer,
            connection: self.connection.clone(),
            handler: self.handler.clone(),
            head_timeout: self.limits.head,
        };
        tasks.spawn_local(request.run(resolver, stream));
    }
}

/// One request, from its head to the delivery of its response.
struct RequestTask<H> {
    peer: Peer,
    connection: link::Connection,
    handler: H,
    head_timeout: Duration,
}

impl<H: Handler> RequestTask<H> {
    /// Boxes what is soon past: a task has the memory of its largest step, and of what it began with.
    fn run(self, resolver: Resolver, stream: RequestStream) -> impl Future<Output = ()> {
        let outgoing = stream.outgoing.clone();
        let head = Box::pin(timeout(self.head_timeout, resolver.resolve_request()));
        async move {
            let work = match head.await {
                Ok(Ok((request, http3))) => Some(self.answer(request, http3, stream)),
                // h3 has answered with 431, and it is to arrive.
                Ok(Err(StreamError::HeaderTooBig { .. })) => {
                    self.handler.reached(Limit::HeadBytes);
                    outgoing.finish();
                    None
                }
                Ok(Err(error)) => {
                    tracing::debug!(peer = %self.peer.address, %error, "malformed request");
                    None
                }
                // The head was whole, but that answer found no room.
                Err(_) => None,
            };
            if let Some(work) = work {
                work.await;
            }
            Box::pin(deliver(outgoing)).await;
        }
    }

    /// Boxed: a session is not to take the memory that a request's handler would.
    fn answer(&self, request: Request<()>, http3: Http3Stream, stream: RequestStream) -> LocalBoxFuture<'_, ()> {
        let protocol = request.extensions().get::<Protocol>();
        if request.method() == Method::CONNECT && protocol == Some(&Protocol::WEB_TRANSPORT) {
            return Box::pin(self.webtransport(request, http3, stream));
        }
        // No session will ever be found here.
        drop(stream.claim);
        let (send, recv) = http3.split();
        let response = ResponseSender::new(send, stream.outgoing);
        Box::pin(self.handler.request(self.peer, request.map(|()| RequestBody::new(recv)), response))
    }

    /// What a future is given it keeps for as long as it lasts: so it is given nothing that is soon past.
    fn webtransport(
        &self,
        request: Request<()>,
        http3: Http3Stream,
        stream: RequestStream,
    ) -> impl Future<Output = ()> + use<'_, H> {
        let (offer, answered) = webtransport::offer(request, http3, stream, self.connection.clone());
        // A task of its own: it is woken for every event, and the CONNECT stream needn't be looked at then.
        let mut serving = AbortOnDropHandle::new(spawn_local(self.handler.webtransport(self.peer, offer)));
        async move {
            match answered.await {
                Ok(Answer::Accepted(driver)) => driver.run().await,
                Ok(Answer::Refused(outgoing)) => Box::pin(deliver(outgoing)).await,
                // Dropped without an answer.
                Err(_) => {}
            }
            match Box::pin(timeout(HANDLER_GRACE, &mut serving)).await {
                Ok(ended) => report(ended, self.peer),
                Err(_) => {
                    tracing::warn!(peer = %self.peer.address, "a session's handler outlives its session: aborted")
                }
            }
        }
    }
}

/// Resolves when a drain begins, or when a connection that is idle has been so for too long.
async fn drain_or(drain: &CancellationToken, idle_for_too_long: impl Future<Output = ()>, idle: bool) {
    tokio::select! {
        () = drain.cancelled() => {}
        () = idle_for_too_long, if idle => {}
    }
}

/// Resolves when a drain has gone on for longer than a peer that lives needs to come to its first request.
async fn too_late(drain: &CancellationToken) {
    drain.cancelled().await;
    tokio::time::sleep(OPENING_GRACE).await;
}

/// A connection that is closed takes with it what the peer hasn't acknowledged: waits for that, a while.
async fn deliver(outgoing: Rc<Outgoing>) {
    if outgoing.is_ended() {
        let _ = timeout(DELIVERY_MAX, outgoing.closed()).await;
    }
}

/// Whether a peer that closes with this code is merely done. Clients that know of sessions only close the connection
/// with the session's code, and some with 0.
fn is_regular(code: VarInt) -> bool {
    code == code::H3_NO_ERROR || code == VarInt::from_u32(0) || code::from_http3(code).is_some()
}

/// How long a connection outlives its last session in a drain, unless the peer closes it.
const LINGER: Duration = Duration::from_millis(250);
/// With so many the first allowance may soon be used up: a session takes up to two streams.
const BUSY_REQUESTS: usize = 3;

async fn join(tasks: &mut JoinSet<()>, peer: Peer) {
    while let Some(ended) = tasks.join_next().await {
        report(ended, peer);
    }
}

fn report(ended: Result<(), JoinError>, peer: Peer) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(peer = %peer.address, %error, "a handler panicked");
    }
}

/// Sessions that a connection is said to take: the streams that the transport allows are the bound that holds.
const SESSIONS_MAX: u32 = 64;

/// SETTINGS_WEBTRANSPORT_MAX_SESSIONS as of draft-ietf-webtrans-http3-07: Safari refuses a server without it.
const SETTINGS_WEBTRANSPORT_MAX_SESSIONS: VarInt = VarInt::from_u32(0xc671_706a);

/// How long a drain waits for a connection that is being opened, so that it ends with a close that its peer understands.
const OPENING_GRACE: Duration = Duration::from_secs(1);

/// How long writing a GOAWAY may take.
const GOAWAY_MAX: Duration = Duration::from_secs(1);

/// How long a handler may go on when its session or connection has ended: for a publish that was taken to get its
/// answer.
const HANDLER_GRACE: Duration = Duration::from_secs(10);

/// How long a peer may take to acknowledge the end of a response.
const DELIVERY_MAX: Duration = Duration::from_secs(5);
