//! stub

pub mod transport;
