//! HTTP/3 and WebTransport on one UDP port: the protocol, and no policy.
//!
//! ```text
//! endpoint ─► link::Incoming ─► connection::serve, on a shard
//!                                   │ h3 on backend: whose streams are these?
//!                 ┌─────────────────┴──────────────┐
//!        Handler::request                 Handler::webtransport
//!   RequestBody, ResponseSender            SessionOffer ─► Session
//! ```
//!
//! A connection lives on one single-threaded runtime; only [`RequestBody`] can leave it. h3 does the framing, QPACK and
//! the rules of HTTP/3; `backend` puts it on `link`, which drives QUIC's connections, and keeps WebTransport's streams from it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod body;
mod code;
pub mod connection;
pub mod endpoint;
mod frames;
#[doc(hidden)]
pub mod fuzzing;
pub mod link;
mod outgoing;
mod response;
mod socket;
mod spread;
mod varint;
mod webtransport;

pub use body::{RequestBody, RequestBodyError};
pub use code::{from_http3, to_http3};
pub use connection::{ConnectionError, Handler, Limit, Peer, serve};
pub use outgoing::StreamEnd;
pub use response::{BodyError, HeadError, ResponseSender, ResponseStream};
pub use webtransport::{
    AcceptError, CapsuleError, Close, DatagramError, DatagramSender, Ended, OpenError, ReadError, RecvStream,
    SendStream, Session, SessionOffer, WriteError,
};
