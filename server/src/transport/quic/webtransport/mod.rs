//! WebTransport over HTTP/3 [draft-ietf-webtrans-http3-02, which browsers ship], many sessions to a connection.
//!
//! A session lives on the stream of its CONNECT. [`SessionOffer`] is that request, to be accepted or refused;
//! [`Session`] is what an accepted one becomes. `driver` runs the CONNECT stream, `routes` finds a session for a stream
//! that the peer opens, and `state` owns the streams of a session, so that they all end with it.

mod capsule;
mod datagram;
mod driver;
mod offer;
mod routes;
mod session;
mod state;
mod stream;

pub use capsule::CapsuleError;
pub use datagram::{DatagramError, DatagramSender};
pub use offer::{AcceptError, SessionOffer};
pub use session::{OpenError, Session};
pub use stream::{ReadError, RecvStream, SendStream, WriteError};
pub(super) use {
    capsule::Parser as CapsuleParser,
    offer::{Answer, offer},
    routes::{Claim, PeerStream, Routes},
};

/// A code and a reason that a session ends with. Without a capsule they are 0 and empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Close {
    /// The application's code.
    pub code: u32,
    reason: Box<str>,
}

impl Close {
    /// A reason longer than the 1,024 bytes that fit on the wire is cut before a character.
    pub fn new(code: u32, reason: &str) -> Self {
        let mut end = reason.len().min(capsule::REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self { code, reason: reason[..end].into() }
    }

    /// What the page sees as `reason`.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// How a session came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed it.
    Peer(Close),
    /// It was closed here.
    Local(Close),
    /// The peer broke the rules of capsules; the session was reset.
    Malformed,
    /// The peer reset it, the connection is gone, or its handler panicked.
    Lost,
}
