//! HTTP/1.x and HTTP/2 over TCP, in cleartext or in TLS.

mod feed_body;
mod h1;
mod h1_feed;
mod h2;
mod preface;

use std::{io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::Response};
use futures_util::future::LocalBoxFuture;
use http::{HeaderValue, Request, header};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::fanout::LocalShard;

/// What serves the connections of one listener.
#[derive(Debug, Clone)]
pub struct Service {
    /// What each path does.
    pub router: Router,
    /// TLS, or cleartext.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where the same is to be had over HTTP/3, told in each answer. [RFC 7838 §3]
    pub alt_svc: Option<HeaderValue>,
    /// What a connection may do.
    pub limits: Limits,
}

/// What a TCP connection may do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take to arrive, and an idle connection may stay.
    pub head: Duration,
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
            head_bytes_max: 16 * 1024,
            h2_streams_max: 100,
            unacknowledged: Duration::from_secs(30),
        }
    }
}

impl Service {
    /// Serves an accepted connection on this thread's shard until it ends.
    pub async fn serve(self, shard: Rc<LocalShard>, stream: std::net::TcpStream, peer: SocketAddr) {
        // A box for the steps up to a feed, and another for the feed: an idle one isn't to take the memory of TLS handshakes and HTTP.
        let result = match self.prepare(stream) {
            Ok(stream) => match Box::pin(self.serve_stream(shard, stream)).await {
                Ok(Some(rest)) => rest.await.map_err(Error::from),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            Err(error) => Err(error.into()),
        };
        // A client that goes away is an ordinary end, and a client's mistakes are its own.
        if let Err(error) = result {
            tracing::debug!(%peer, error = &*error, "connection ended");
        }
    }

    fn prepare(&self, stream: std::net::TcpStream) -> io::Result<TcpStream> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.limits.unacknowledged))?;
        TcpStream::from_std(stream)
    }

    async fn serve_stream(self, shard: Rc<LocalShard>, stream: TcpStream) -> Result<Option<Rest>, Error> {
        match &self.tls {
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls.clone()).accept(stream);
                let stream = begin(&shard, self.limits.handshake, handshake).await?;
                if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return self.serve_http(shard, stream, false).await;
                }
                // hyper waits for a preface as long as it takes.
                let (stream, h2) = begin(&shard, self.limits.head, preface::sniff(stream)).await?;
                if !h2 {
                    return Err("the preface of HTTP/2 didn't come".into());
                }
                self.serve_http(shard, stream, true).await
            }
            None => {
                let (stream, h2) = begin(&shard, self.limits.head, preface::sniff(stream)).await?;
                self.serve_http(shard, stream, h2).await
            }
        }
    }

    async fn serve_http<S>(self, shard: Rc<LocalShard>, stream: S, h2: bool) -> Result<Option<Rest>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        if !h2 {
            return h1::serve(self, shard, stream).await;
        }
        h2::serve(self, shard, stream).await?;
        Ok(None)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let Ok(mut response) = self.router.clone().oneshot(request.map(Body::new)).await;
        if let Some(alt_svc) = &self.alt_svc {
            response.headers_mut().insert(header::ALT_SVC, alt_svc.clone());
        }
        response
    }
}

/// Awaits a step that comes before any request, within a bound. A drain doesn't wait for it: browsers open connections ahead of
/// need.
async fn begin<T>(shard: &LocalShard, bound: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, Error> {
    tokio::select! {
        done = tokio::time::timeout(bound, step) => Ok(done??),
        () = shard.draining().cancelled() => Err("the hub is shutting down".into()),
    }
}

/// What is left of a connection that became a feed's own.
type Rest = LocalBoxFuture<'static, io::Result<()>>;

type Error = Box<dyn std::error::Error + Send + Sync>;
