//! What comes over QUIC: ordinary requests, feeds over SSE, and WebTransport sessions, on one connection.

use std::{future::poll_fn, net::SocketAddr, rc::Rc, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{Request, Response, header};
use http_body_util::BodyExt;

use super::{
    head::strip_connection_fields,
    quic::{
        self, BodyError, ConnectionError, Handler, Peer, RequestBody, ResponseSender, ResponseStream, SessionOffer,
    },
    sse::{ITEMS_A_TURN, Writer},
    webtransport,
};
use crate::{
    core::Taken,
    fanout::{Feed, LocalShard, Newcomer},
    http::{Edge, OpenFeed, PeerAddress, Site},
    telemetry::{Limit, Transport},
};

/// What serves the connections of a QUIC endpoint.
#[derive(Debug, Clone)]
pub struct Service {
    /// What each path does.
    pub site: Site,
    /// What WebTransport sessions work with.
    pub edge: Arc<Edge>,
    /// What a connection may do.
    pub limits: quic::connection::Limits,
}

impl Service {
    /// Serves a connection on this thread's shard, from its handshake to its end.
    /// `waits` is dropped once the handshake begins, and `under_way` once it is over.
    pub fn serve(
        self: Rc<Self>,
        shard: Rc<LocalShard>,
        incoming: quic::link::Incoming,
        (waits, under_way): (impl Sized + 'static, impl Sized + 'static),
    ) -> impl Future<Output = ()> + 'static {
        let peer: SocketAddr = incoming.remote_address();
        // Boxed, and out of what follows: it is soon past.
        let newcomer = shard.newcomer();
        let handler = Connection { shard, newcomer: newcomer.clone(), service: self };
        let connection = Box::pin(async move {
            // The first step is the dearest: keys are agreed on, and a signature made.
            let first = Box::pin({
                let newcomer = newcomer.clone();
                async move {
                    drop(waits);
                    incoming.accept(Some(newcomer))
                }
            });
            let connection = match newcomer.gate(first).await {
                Ok(connecting) => connecting.await,
                Err(error) => Err(error),
            };
            drop(under_way);
            connection
        });
        serve_connection(peer, connection, handler)
    }
}

async fn serve_connection(
    peer: SocketAddr,
    connection: impl Future<Output = Result<quic::link::Connection, quinn_proto::ConnectionError>>,
    handler: Connection,
) {
    let (limits, drain) = (handler.service.limits, handler.shard.draining().clone());
    let metrics = handler.service.edge.hub.metrics().clone();
    if let Err(error) = quic::serve(connection, handler, limits, drain).await {
        match error {
            ConnectionError::HandshakeTimeout => metrics.reached(Limit::HandshakeTime),
            ConnectionError::Http3(_) => metrics.reached(Limit::Frames),
            _ => {}
        }
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "connection ended");
    }
}

#[derive(Clone)]
struct Connection {
    shard: Rc<LocalShard>,
    newcomer: Newcomer,
    service: Rc<Service>,
}

impl Handler for Connection {
    fn request(
        &self,
        peer: Peer,
        request: Request<RequestBody>,
        response: ResponseSender,
    ) -> impl Future<Output = ()> + 'static + use<> {
        let Self { shard, newcomer, service } = self.clone();
        let peer = PeerAddress(peer.address.ip());
        // Boxed, and out of what follows, as what it has in its hands is: a feed isn't to take the memory that its request's handler would.
        let answered = Box::pin(async move { service.site.answer(peer, Box::new(request.map(Body::new))).await });
        let (answered, response) = (newcomer.clone().gate(answered), Box::new(response));
        async move {
            let answer = answered.await;
            newcomer.settle();
            if let Err(error) = respond(&shard, answer, response).await {
                tracing::debug!(error = &*error, "request ended");
            }
        }
    }

    fn webtransport(&self, peer: Peer, offer: SessionOffer) -> impl Future<Output = ()> + 'static + use<> {
        let Self { shard, newcomer, service } = self.clone();
        webtransport::serve((shard, newcomer), service.edge.clone(), peer.address, offer)
    }

    fn reached(&self, limit: quic::Limit) {
        self.service.edge.hub.metrics().reached(match limit {
            quic::Limit::HeadBytes => Limit::HeadBytes,
            quic::Limit::HeadTime => Limit::HeadTime,
            quic::Limit::IdleTime => Limit::IdleTime,
            quic::Limit::Streams => Limit::Streams,
        });
    }
}

type Responding = LocalBoxFuture<'static, Result<(), Box<dyn std::error::Error + Send + Sync>>>;

/// Sends an answer, or opens the feed that it grants and sends that.
fn respond(shard: &Rc<LocalShard>, answer: Response<Body>, response: Box<ResponseSender>) -> Responding {
    let (mut head, mut body) = answer.into_parts();
    strip_connection_fields(&mut head.headers);
    if let Some(open) = head.extensions.remove::<OpenFeed>() {
        head.headers.remove(header::CONTENT_LENGTH);
        return send_feed(shard, head, open, response);
    }
    Box::pin(async move {
        let mut stream = response.send_response(Response::from_parts(head, ())).await?;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                stream.send_data(data).await?;
            }
        }
        Ok(stream.finish().await?)
    })
}

fn send_feed(
    shard: &Rc<LocalShard>,
    head: http::response::Parts,
    open: OpenFeed,
    response: Box<ResponseSender>,
) -> Responding {
    let writer = Writer::new(&open, false);
    let opening = writer.opening(&open);
    let (subscription, holder, seat) = open.grant.into_feed();
    let feed = shard.open(subscription, holder, Transport::SseH3);
    let gone = response.closed();
    let begin = Box::pin(async move {
        let mut stream = response.send_response(Response::from_parts(head, ())).await?;
        stream.send_data(opening).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(stream)
    });
    Box::pin(async move {
        let _seat = seat;
        let write = async {
            let mut stream = begin.await?;
            write_feed(&mut stream, writer, &feed).await?;
            Ok(Box::pin(stream.finish()).await?)
        };
        tokio::select! {
            _ = gone => Ok(()),
            // Whatever the response waits for.
            () = poll_fn(|cx| feed.poll_cut(cx)) => Ok(()),
            written = write => written,
        }
    })
}

async fn write_feed(stream: &mut ResponseStream, writer: Writer, feed: &Feed) -> Result<(), BodyError> {
    let (mut items, mut texts) = (Vec::new(), Vec::<Bytes>::new());
    loop {
        let taken = feed.take(ITEMS_A_TURN, &mut items).await;
        writer.items(&mut items, feed, &mut texts);
        if !texts.is_empty() {
            stream.send_chunks(&mut texts).await?;
            texts.clear();
        }
        if taken == Taken::Ended {
            return Ok(());
        }
    }
}
