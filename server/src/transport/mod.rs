//! The transports: each translates one protocol, and none holds policy.

pub mod quic;
