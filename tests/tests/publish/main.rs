//! What a hub answers over HTTP, exactly: what it takes and what it refuses, and what a feed's head and opening say.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod access;
mod batch;
mod feed;
mod http2;
mod http2_windows;
mod idempotency;
mod refusals;
mod shutdown;

use fanwire_client::Publication;
use fanwire_tests::TestHub;

/// Checks that so many events were ever stored: the next one's number tells.
async fn stored(hub: &TestHub, count: u64) {
    let published = hub.publish(&Publication::text("counted", "")).await;
    assert_eq!(published.cursor.expect("JSON tells it").seq.0, count + 1);
}
