//! QUIC's connections on one shard: quinn-proto, which is the protocol without sockets, clocks or tasks, and one task that drives it.
//!
//! ```text
//!  socket ─► endpoint ─► the connection that the packet is of ─► who waits for it
//!               ▲ drives each connection that has something to do: sends what it has, and looks when its next time comes
//!               └───────────────────────── who writes to a stream, reads from it, or ends it
//! ```
//!
//! Everything of a connection is in its thread: nothing is locked, and a packet goes to its connection, and a write to the socket, without a
//! task being woken between. What quinn has for each connection, the endpoint has once: the task, the timer, the buffer for what is sent.

mod agenda;
mod connection;
#[cfg(test)]
mod counted;
mod endpoint;
mod streams;
mod timers;
mod waits;

use quinn_proto::{ConnectionError, VarInt};
use thiserror::Error;

pub use connection::{Connecting, Connection};
pub use endpoint::{Endpoint, Incoming};
pub use streams::{RecvStream, SendStream};

/// Why nothing can be written to a stream.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// The peer wants no more of it.
    #[error("the peer stopped the stream with code {0}")]
    Stopped(VarInt),
    /// The connection is gone.
    #[error("the connection is gone")]
    ConnectionLost(#[from] ConnectionError),
    /// It was finished or reset before.
    #[error("the stream was ended")]
    ClosedStream,
}

/// Why nothing can be read from a stream.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// The peer has reset it.
    #[error("the peer reset the stream with code {0}")]
    Reset(VarInt),
    /// The connection is gone.
    #[error("the connection is gone")]
    ConnectionLost(#[from] ConnectionError),
    /// It was stopped before.
    #[error("the stream was stopped")]
    ClosedStream,
}

/// Why a datagram can't be sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SendDatagramError {
    /// It is too long for the path, or the peer takes none.
    #[error("the datagram has no place in a packet")]
    TooLarge,
    /// The connection is gone.
    #[error("the connection is gone")]
    ConnectionLost(#[from] ConnectionError),
}
