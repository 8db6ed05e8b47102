//! The disk fails under a running hub, or was tampered with while it was down: nothing acknowledged is lost, feeds go on, and an
//! operator is told what to do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod full;
mod large;
mod read_only;
mod refusals;
mod watched;
