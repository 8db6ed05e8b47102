//! What the integration tests share: a hub of their own, and ways to it.
//!
//! Every test has its hub, on ports that the system picks, in its own process; nothing is mocked.

pub mod checker;
mod http;
pub mod http2;
mod hub;
mod initials;
mod keys;
mod mount;
mod panics;
mod process;
pub mod raw_http3;
mod recorder;
mod story;
mod tls;
mod way;
mod wire;

pub use http::{Answer, Ask, Version, Whole};
pub use hub::{TestHub, identity};
pub use initials::{Initials, Reply};
pub use keys::{ISSUER, Issuer, OTHER_ISSUER, RESOURCE, now_ms};
pub use mount::Mount;
pub use panics::{panics, watch_for_panics};
pub use process::{HubProcess, hub_binary, run};
pub use recorder::{Load, Manner, Recorder};
pub use story::{Story, seen};
pub use way::Way;
pub use wire::{Wire, WireAnswer, tcp};

use std::{
    future::{Future, poll_fn},
    task::Poll,
    time::Duration,
};

/// Waits for something that should come soon. A test that waits for ever is a test that says nothing.
///
/// # Panics
/// If it doesn't come in 20 seconds.
pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it didn't come in 20 seconds")
}

/// Runs all of them at the same time.
pub fn all<F: Future<Output = ()>>(of: impl IntoIterator<Item = F>) -> impl Future<Output = ()> {
    let mut left: Vec<_> = of.into_iter().map(Box::pin).collect();
    poll_fn(move |cx| {
        left.retain_mut(|one| one.as_mut().poll(cx).is_pending());
        if left.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// Whether the long forms are asked for: `tests/run --full`, `tests/durability --full`.
pub fn is_full() -> bool {
    std::env::var_os("TESTS_FULL").is_some_and(|full| full == "1")
}
