//! The HTTP/3 and WebTransport layer against clients that others have made.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod endpoints;
mod requests;
mod sessions;
mod support;
