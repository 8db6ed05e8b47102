//! What comes over QUIC: ordinary requests, feeds over SSE, and WebTransport sessions, on one connection.

use std::{future::poll_fn, net::SocketAddr, rc::Rc, sync::Arc};

use axum::body::Body;
use bytes::Bytes;
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
            newcomer.turn().await;
            drop(waits);
            let connection = match incoming.accept(Some(newcomer)) {
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
        async move {
            if let Err(error) = answer((shard, newcomer), service, (peer, request), response).await {
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

async fn answer(
    (shard, newcomer): (Rc<LocalShard>, Newcomer),
    service: Rc<Service>,
    (peer, request): (PeerAddress, Request<RequestBody>),
    response: ResponseSender,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Boxed: a feed isn't to take the memory that its request's handler would.
    let answered = Box::pin(service.site.answer(peer, Box::new(request.map(Body::new))));
    let (mut head, mut body) = newcomer.clone().gate(answered).await.into_parts();
    newcomer.settle();
    let open = head.extensions.remove::<OpenFeed>();
    strip_connection_fields(&mut head.headers);
    let Some(open) = open else {
        let mut stream = response.send_response(Response::from_parts(head, ())).await?;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                stream.send_data(data).await?;
            }
        }
        return Ok(stream.finish().await?);
    };
    head.headers.remove(header::CONTENT_LENGTH);
    let writer = Writer::new(&open, false);
    let opening = writer.opening(&open);
    let (subscription, holder, _seat) = open.grant.into_feed();
    let feed = shard.open(subscription, holder, Transport::SseH3);
    let gone = response.closed();
    let write = async {
        let mut stream = response.send_response(Response::from_parts(head, ())).await?;
        stream.send_data(opening).await?;
        write_feed(&mut stream, writer, &feed).await?;
        Ok(stream.finish().await?)
    };
    tokio::select! {
        _ = gone => Ok(()),
        // Whatever the response waits for.
        () = poll_fn(|cx| feed.poll_cut(cx)) => Ok(()),
        written = write => written,
    }
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
