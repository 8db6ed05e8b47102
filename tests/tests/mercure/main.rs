//! The Mercure protocol, as a hub has to keep it: `server/MERCURE.md` names the row of each test.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod discovery;
mod kept;
mod matching;
mod patterns;
mod query;
mod subscriptions;
mod zero;
