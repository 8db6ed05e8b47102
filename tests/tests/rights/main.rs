//! Who may publish and see what, on every transport.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod algorithms;
mod key_servers;
mod metadata;
mod misuse;
mod publish;
mod published_keys;
mod reference;
mod session;
mod subscribe;
mod tickets;
mod time;
mod withdrawn;
