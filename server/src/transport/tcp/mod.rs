//! HTTP/1.x and HTTP/2 over TCP, in cleartext or in TLS.

mod h1;
mod h1_feed;
mod h1_timer;
mod h2;
mod limit;
mod preface;
mod socket;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use axum::{body::Body, response::Response};
use futures_util::future::LocalBoxFuture;
use http::{HeaderValue, Request, Version, header};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use socket::Socket;

use crate::{
    fanout::{LocalShard, Newcomer},
    http::{OpenFeed, PeerAddress, Site, TurnedAway},
    hub::Refused,
    telemetry::{Limit, Metrics},
};

/// What serves the connections of one listener.
#[derive(Debug, Clone)]
pub struct Service {
    /// What each path does.
    pub site: Site,
    /// TLS, or cleartext.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where the same is to be had over HTTP/3, told in each answer. [RFC 7838 §3]
    pub alt_svc: Option<HeaderValue>,
    /// What a connection may do.
    pub limits: Limits,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Every request of these connections is refused so, and then they are closed: they are too many.
    pub turned_away: Option<Refused>,
}

/// What a TCP connection may do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take to arrive, the first request of an HTTP/2 connection, and an HTTP/1 connection stay
    /// without one.
    pub head: Duration,
    /// How long an HTTP/2 connection may stay without a request, after its first.
    pub h2_idle: Duration,
    /// The largest head of a request, in bytes: a buffer of this size may be held for each request under way.
    pub head_bytes_max: usize,
    /// Requests that an HTTP/2 connection may have open at a time.
    pub h2_streams_max: u32,
    /// How long sent bytes may stay unacknowledged before the peer is taken for gone (`TCP_USER_TIMEOUT`).
    pub unacknowledged: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            h2_idle: Duration::from_secs(120),
            head_bytes_max: 16 * 1024,
            h2_streams_max: 100,
            unacknowledged: Duration::from_secs(30),
        }
    }
}

impl Service {
    /// Serves an accepted connection on this thread's shard until it ends.
    pub async fn serve(self, shard: Rc<LocalShard>, stream: std::net::TcpStream, peer: SocketAddr) {
        let metrics = self.metrics.clone();
        let newcomer = shard.newcomer();
        // A box for the steps up to a feed, and another for the feed: an idle one isn't to take the memory of TLS handshakes and HTTP.
        let first = Box::pin(self.serve_stream(shard, stream, (peer.ip(), newcomer.clone())));
        let result = match newcomer.clone().gate(first).await {
            Ok(Some(rest)) => newcomer.gate(rest).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        // A client that goes away is an ordinary end, and a client's mistakes are its own.
        if let Err(error) = result {
            if let Some(limit) = limit::reached(&*error) {
                metrics.reached(limit);
            }
            tracing::debug!(%peer, error = &*error, "connection ended");
        }
    }

    /// The same for connections that are too many: each is told so, and soon closed.
    pub fn turning_away(self, refused: Refused) -> Self {
        let limits = Limits { handshake: TURN_AWAY, head: TURN_AWAY, h2_idle: Duration::ZERO, ..self.limits };
        Self { limits, turned_away: Some(refused), ..self }
    }

    fn prepare(&self, stream: std::net::TcpStream) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.limits.unacknowledged))?;
        TcpStream::from_std(stream).map(Socket)
    }

    async fn serve_stream(
        self,
        shard: Rc<LocalShard>,
        stream: std::net::TcpStream,
        peer: (IpAddr, Newcomer),
    ) -> Result<Option<Rest>, Error> {
        let stream = self.prepare(stream)?;
        match &self.tls {
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls.clone()).accept(stream);
                let stream = begin(&shard, self.limits.handshake, Limit::HandshakeTime, handshake).await?;
                if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return self.serve_http(shard, stream, peer, false).await;
                }
                // h2 waits for a preface as long as it takes.
                let (stream, h2) = begin(&shard, self.limits.head, Limit::HeadTime, preface::sniff(stream)).await?;
                if !h2 {
                    return Err("the preface of HTTP/2 didn't come".into());
                }
                self.serve_http(shard, stream, peer, true).await
            }
            None => {
                let (stream, h2) = begin(&shard, self.limits.head, Limit::HeadTime, preface::sniff(stream)).await?;
                self.serve_http(shard, stream, peer, h2).await
            }
        }
    }

    async fn serve_http<S>(
        self,
        shard: Rc<LocalShard>,
        stream: S,
        (peer, newcomer): (IpAddr, Newcomer),
        h2: bool,
    ) -> Result<Option<Rest>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let requests = Requests { service: self, peer, newcomer };
        if !h2 {
            return h1::serve(requests, shard, stream).await;
        }
        Ok(Some(Box::pin(h2::serve(requests, shard, stream))))
    }
}

/// The requests of one connection.
#[derive(Debug, Clone)]
struct Requests {
    service: Service,
    peer: IpAddr,
    newcomer: Newcomer,
}

impl Requests {
    async fn answer(&self, mut request: Box<Request<Body>>) -> Response<Body> {
        let version = request.version();
        if let Some(refused) = &self.service.turned_away {
            request.extensions_mut().insert(TurnedAway(refused.clone()));
        }
        let mut response = self.service.site.answer(PeerAddress(self.peer), request).await;
        if let Some(alt_svc) = &self.service.alt_svc {
            response.headers_mut().insert(header::ALT_SVC, alt_svc.clone());
        }
        if self.service.turned_away.is_some() && version <= Version::HTTP_11 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // A feed that has its connection for itself is written to on the walk. What is left to its task needn't be soon: to begin, and to find out
        // that the client is gone, as thousands may be at once.
        let is_alone = version <= Version::HTTP_11 && response.extensions().get::<OpenFeed>().is_some();
        if !is_alone {
            self.newcomer.settle();
        }
        response
    }
}

/// Awaits a step that comes before any request, within a bound. A drain doesn't wait for it: browsers open connections ahead of
/// need.
async fn begin<T>(
    shard: &LocalShard,
    bound: Duration,
    limit: Limit,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, Error> {
    tokio::select! {
        done = tokio::time::timeout(bound, step) => match done {
            Ok(done) => Ok(done?),
            Err(_) => Err(limit::Reached(limit).into()),
        },
        () = shard.draining().cancelled() => Err("the hub is shutting down".into()),
    }
}

/// How long each step of a connection may take that is turned away.
const TURN_AWAY: Duration = Duration::from_secs(3);
/// What is left of a connection that became a feed's own, or that is HTTP/2.
type Rest = LocalBoxFuture<'static, Result<(), Error>>;

type Error = Box<dyn std::error::Error + Send + Sync>;
