//! An event hub: HTTP/3 and WebTransport streaming with SSE as the fallback.
//!
//! `ARCHITECTURE.md` beside this crate says which room holds what, and who may know whom.

pub mod admission;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod core;
pub mod demo;
pub mod fanout;
pub mod http;
pub mod hub;
pub mod local;
pub mod log;
pub mod subscriptions;
pub mod telemetry;
pub mod transport;
