//! A CONNECT for a session, before it is answered.

use std::rc::Rc;

use bytes::Bytes;
use h3::error::StreamError;
use http::{HeaderValue, Request, Response, StatusCode};
use quinn_proto::VarInt;
use thiserror::Error;
use tokio::sync::oneshot;

use super::{driver::Driver, routes::Claim, session::Session, state::State};
use crate::transport::quic::{
    backend::{self, RequestStream},
    link,
    outgoing::Outgoing,
};

/// A client that asks for a session. Dropped without an answer, the request is reset.
pub struct SessionOffer {
    request: Request<()>,
    stream: h3::server::RequestStream<backend::BidiStream, Bytes>,
    outgoing: Rc<Outgoing>,
    claim: Claim,
    connection: link::Connection,
    answer: oneshot::Sender<Answer>,
}

/// What became of an offer, for the task that serves the request.
pub(in super::super) enum Answer {
    Accepted(Box<Driver>),
    Refused(Rc<Outgoing>),
}

/// Why a session couldn't be accepted.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// The subprotocol holds characters that can't be in a header.
    #[error("the subprotocol can't be sent in a header")]
    Protocol,
    /// The client has gone.
    #[error("the client has gone")]
    Gone(#[source] Option<StreamError>),
}

pub(in super::super) fn offer(
    request: Request<()>,
    stream: h3::server::RequestStream<backend::BidiStream, Bytes>,
    RequestStream { outgoing, claim }: RequestStream,
    connection: link::Connection,
) -> (SessionOffer, oneshot::Receiver<Answer>) {
    let (answer, answered) = oneshot::channel();
    (SessionOffer { request, stream, outgoing, claim, connection, answer }, answered)
}

impl SessionOffer {
    /// The CONNECT itself. `wt-available-protocols` holds the subprotocols on offer [draft-ietf-webtrans-http3-14
    /// §3.3].
    pub fn request(&self) -> &Request<()> {
        &self.request
    }

    /// Opens the session, with a subprotocol if one was picked. Streams that came early are there to be accepted.
    pub async fn accept(mut self, protocol: Option<&str>) -> Result<Session, AcceptError> {
        let mut head = Response::builder().status(StatusCode::OK).header(DRAFT_HEADER, DRAFT_SPOKEN);
        if let Some(protocol) = protocol {
            head = head.header(PROTOCOL_HEADER, quoted(protocol).ok_or(AcceptError::Protocol)?);
        }
        let head = head.body(()).map_err(|_| AcceptError::Protocol)?;
        let id = VarInt::from_u64(self.claim.id()).map_err(|_| AcceptError::Gone(None))?;
        let state = Rc::new(State::new(id, self.connection));
        // The client may open streams the moment it has the answer.
        self.claim.open(state.clone());
        self.stream.send_response(head).await.map_err(|error| AcceptError::Gone(Some(error)))?;
        let driver = Driver::new(state.clone(), self.stream, self.outgoing, self.claim);
        self.answer.send(Answer::Accepted(Box::new(driver))).map_err(|_| AcceptError::Gone(None))?;
        Ok(Session::new(state))
    }

    /// Answers with a status other than 2xx. A page can't see it.
    pub async fn refuse(mut self, status: StatusCode) {
        let mut head = Response::new(());
        *head.status_mut() = status;
        // Fails when the client has gone, and then there is nobody to refuse.
        if self.stream.send_response(head).await.is_ok() {
            self.outgoing.finish();
        }
        let _ = self.answer.send(Answer::Refused(self.outgoing));
    }
}

/// A string of structured headers [RFC 8941 §3.3.3].
fn quoted(text: &str) -> Option<HeaderValue> {
    let printable = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::try_from(format!("\"{escaped}\"")).ok().filter(|_| printable)
}

/// Says which draft is spoken; the browsers that ship WebTransport want it [draft-ietf-webtrans-http3-02 §3.3].
const DRAFT_HEADER: &str = "sec-webtransport-http3-draft";
const DRAFT_SPOKEN: &str = "draft02";
/// [draft-ietf-webtrans-http3-14 §3.3]
const PROTOCOL_HEADER: &str = "wt-protocol";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subprotocol_is_quoted_or_refused() {
        assert_eq!(quoted("fanwire-1").unwrap(), "\"fanwire-1\"");
        assert_eq!(quoted("a\"b\\c").unwrap(), "\"a\\\"b\\\\c\"");
        assert_eq!(quoted("a\nb"), None);
        assert_eq!(quoted("é"), None);
    }
}
