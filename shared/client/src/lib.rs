//! The Rust client of a Fanwire hub: one feed, the same on every transport.
//!
//! - [`Connection`]: one connection, over a [`Transport`] of the caller's choice, without retries. What tests and benches use.
//! - [`Feed`]: a feed that comes back by itself after a cut, with its cursor, so that no event is lost or repeated.
//! - [`Publisher`]: publishing over HTTP.
//! - [`discover()`]: what a hub offers.
//!
//! The wire is specified in `shared/PROTOCOL.md`. Everything runs on tokio, and the hub's certificate is checked with aws-lc-rs,
//! whatever provider the process has installed.
//!
//! ```no_run
//! use fanwire_client::{Choice, Feed, Item, Options, Update};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut feed = Feed::new(Choice::Auto, Options::new("http://127.0.0.1:8080/events")?.topic("orders/42")?);
//! loop {
//!     match feed.next().await? {
//!         Update::Connected { transport, .. } => eprintln!("connected over {transport}"),
//!         Update::Disconnected { error, retry_in } => eprintln!("{error}; again in {retry_in:?}"),
//!         Update::Item(Item::Event(event)) => println!("{:?}", event.event.draft.data),
//!         Update::Item(Item::Gap(gap)) => eprintln!("events up to {} may be missing", gap.to),
//!         Update::Item(_) => {}
//!     }
//! }
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that can't go on fails"))]

mod backoff;
mod chain;
mod connection;
mod dial;
mod discover;
mod error;
mod feed;
mod http;
mod item;
mod newest;
mod options;
mod publication;
mod publish;
mod race;
mod sse;
mod target;
mod tls;
mod token;
mod transport;
mod watchdog;
mod webtransport;

pub use backoff::Retry;
pub use connection::{Connection, Times};
pub use discover::{Offer, OfferedHash, OfferedWebTransport, discover};
pub use error::{ConnectError, HubError, ReceiveError, Source};
pub use fanwire_protocol::Delivery;
pub use feed::{Feed, FeedError, Update};
pub use item::{FeedEvent, Item, PlainEvent};
pub use options::{Options, OptionsError};
pub use publication::{Body, Publication, Published};
pub use publish::{HttpAnswer, PublishError, Publisher};
pub use tls::{CertificateHash, CertificateHashError, Trust};
pub use token::{NotAToken, Token};
pub use transport::{Choice, HttpVersion, Transport, UnknownTransport};
pub use webtransport::{Control, ControlError};
