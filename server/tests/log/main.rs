//! `fanwire log`, as people run it: on logs that a hub serves and on logs that none does.

#![allow(clippy::disallowed_methods, reason = "there is no shard in this thread")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod access;
mod export;
mod maintain;
mod support;
