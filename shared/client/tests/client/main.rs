//! The client against small real servers, which speak the protocol byte by byte as a test tells them.
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod control;
mod datagrams;
mod feed;
mod hub;
mod publish;
mod sample;
mod transports;
mod trust;
