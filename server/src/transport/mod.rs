//! The transports: each translates one protocol, and none holds policy.
//!
//! A connection is served on its shard from its first byte to its last. [`tcp`] carries HTTP/1.x and HTTP/2, [`http3`] what comes over
//! [`quic`]; [`sse`] is what a feed looks like on each, and [`webtransport`] what it looks like in a session.

mod head;
pub mod http3;
mod pieces;
pub mod quic;
mod sse;
pub mod tcp;
mod webtransport;
