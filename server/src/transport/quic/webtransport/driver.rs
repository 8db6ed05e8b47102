//! Runs a session's CONNECT stream: capsules in, capsules out, and its end.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use h3::error::StreamError;
use quinn_proto::VarInt;
use tokio::time::timeout;

use super::{
    Close, Ended,
    capsule::{self, Parser},
    routes::Claim,
    state::{Orders, State},
};
use crate::transport::quic::{
    backend, code,
    outgoing::Outgoing,
    response::{BodyError, BodyWriter},
};

/// Owns the CONNECT stream of one session.
pub(in super::super) struct Driver {
    state: Rc<State>,
    stream: h3::server::RequestStream<backend::BidiStream, Bytes>,
    writer: BodyWriter,
    claim: Claim,
}

/// What a driver waits for.
enum Next {
    Ordered(Orders),
    Written(Result<(), BodyError>),
    Received(Result<Option<Bytes>, StreamError>),
}

/// What to do with the CONNECT stream after the session.
enum Farewell {
    /// The peer has ended it, or is about to: finish it likewise.
    Answer,
    /// Tell the peer.
    Tell(Close),
    Reset(VarInt),
    /// There is nobody to tell.
    Nothing,
}

impl Driver {
    pub(super) fn new(
        state: Rc<State>,
        stream: h3::server::RequestStream<backend::BidiStream, Bytes>,
        outgoing: Rc<Outgoing>,
        claim: Claim,
    ) -> Self {
        Self { state, stream, writer: BodyWriter::new(outgoing), claim }
    }

    /// Runs until the session has ended and the peer knows. Dropped before, the session is lost.
    pub(in super::super) async fn run(mut self: Box<Self>) {
        let (ended, farewell) = self.session().await;
        self.state.end(ended);
        self.claim.release();
        // Whatever the last words take, they must not hold the connection's other business up. Boxed, since a session is idle until then.
        let _ = Box::pin(timeout(FAREWELL_MAX, self.farewell(farewell))).await;
    }

    async fn session(&mut self) -> (Ended, Farewell) {
        let mut parser = Parser::default();
        loop {
            let received = match poll_fn(|cx| self.poll_next(cx)).await {
                Next::Ordered(orders) => {
                    if orders.abort {
                        return (Ended::Lost, Farewell::Reset(code::H3_INTERNAL_ERROR));
                    }
                    if let Some(close) = orders.close {
                        return (Ended::Local(close.clone()), Farewell::Tell(close));
                    }
                    if orders.drain {
                        self.writer.push(&mut [capsule::drain()]);
                    }
                    continue;
                }
                Next::Written(Ok(())) => continue,
                Next::Written(Err(_)) => return (Ended::Lost, Farewell::Nothing),
                Next::Received(received) => received,
            };
            let closed = match received {
                Ok(Some(data)) => parser.push(&data).transpose(),
                Ok(None) => Some(parser.finish()),
                Err(_) => return (Ended::Lost, Farewell::Reset(code::H3_NO_ERROR)),
            };
            match closed {
                None => {}
                Some(Ok(close)) => return (Ended::Peer(close), Farewell::Answer),
                Some(Err(error)) => {
                    tracing::debug!(session = self.claim.id(), %error, "malformed capsule");
                    return (Ended::Malformed, Farewell::Reset(code::H3_MESSAGE_ERROR));
                }
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Poll::Ready(orders) = self.state.poll_orders(cx) {
            return Poll::Ready(Next::Ordered(orders));
        }
        if self.writer.has_pending()
            && let Poll::Ready(written) = self.writer.poll_flush(cx)
        {
            return Poll::Ready(Next::Written(written));
        }
        let received = ready!(self.stream.poll_recv_data(cx));
        Poll::Ready(Next::Received(received.map(|data| data.map(|mut data| data.copy_to_bytes(data.remaining())))))
    }

    async fn farewell(&mut self, farewell: Farewell) {
        match farewell {
            Farewell::Answer => {}
            Farewell::Tell(close) => self.writer.push(&mut [capsule::close(&close)]),
            Farewell::Reset(code) => {
                self.writer.outgoing().reset(code);
                self.stream.stop_sending(code.into_inner().into());
                return;
            }
            Farewell::Nothing => return,
        }
        if self.writer.flush().await.is_err() {
            return;
        }
        self.writer.outgoing().finish();
        // A browser takes the close for sure only if the stream isn't stopped under it: wait for its end.
        while let Ok(Some(_)) = self.stream.recv_data().await {}
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.state.end(Ended::Lost);
        self.state.finish_driving();
    }
}

/// How long a peer may take to acknowledge a close by ending its side. Browsers do so within a round trip.
const FAREWELL_MAX: Duration = Duration::from_secs(3);
