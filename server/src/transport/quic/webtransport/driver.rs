//! Runs a session's CONNECT stream: capsules in, capsules out, and its end.

use std::{rc::Rc, time::Duration};

use bytes::{Buf, Bytes};
use quinn_proto::VarInt;
use tokio::time::timeout;

use super::{
    Close, Ended,
    capsule::{self, Parser},
    routes::Claim,
    state::State,
};
use crate::transport::quic::{backend, code, outgoing::Outgoing, response::BodyWriter};

/// Owns the CONNECT stream of one session.
pub(in super::super) struct Driver {
    state: Rc<State>,
    stream: h3::server::RequestStream<backend::BidiStream, Bytes>,
    writer: BodyWriter,
    claim: Claim,
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
        // Whatever the last words take, they must not hold the connection's other business up.
        let _ = timeout(FAREWELL_MAX, self.farewell(farewell)).await;
    }

    async fn session(&mut self) -> (Ended, Farewell) {
        let mut parser = Parser::default();
        loop {
            let received = tokio::select! {
                biased;
                orders = self.state.orders() => {
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
                written = self.writer.flush(), if self.writer.has_pending() => match written {
                    Ok(()) => continue,
                    Err(_) => return (Ended::Lost, Farewell::Nothing),
                },
                received = self.stream.recv_data() => received,
            };
            let closed = match received {
                Ok(Some(mut data)) => push_all(&mut parser, &mut data).transpose(),
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
        self.state.finished.cancel();
    }
}

fn push_all(parser: &mut Parser, data: &mut impl Buf) -> Result<Option<Close>, capsule::CapsuleError> {
    while data.has_remaining() {
        let chunk = data.chunk();
        let len = chunk.len();
        if let Some(close) = parser.push(chunk)? {
            return Ok(Some(close));
        }
        data.advance(len);
    }
    Ok(None)
}

/// How long a peer may take to acknowledge a close by ending its side. Browsers do so within a round trip.
const FAREWELL_MAX: Duration = Duration::from_secs(3);
