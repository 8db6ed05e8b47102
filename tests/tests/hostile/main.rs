//! Peers that break the rules, or off: the hub goes on serving everybody else, and keeps nothing of them.
//!
//! A test that measures memory has a process of its own ([`Witnesses::apart`]), so that all run side by side: most of them wait.

#![allow(clippy::disallowed_methods, reason = "there is no shard in this thread")]
#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod apart;
mod counted;
mod handshakes;
mod http2;
mod http3;
mod limits;
mod memory;
mod quic;
mod session;
mod tcp;
mod witnesses;

pub(crate) use memory::Memory;
pub(crate) use witnesses::Witnesses;

use std::time::Duration;

use fanwire::config::Config;

/// Half a second where the hub would wait for a peer much longer.
fn impatient(config: &mut Config) {
    let soon = Duration::from_millis(500);
    (config.tcp.handshake, config.tcp.head) = (soon, soon);
    (config.quic.handshake, config.quic.head) = (soon, soon);
}

/// Bytes without a meaning, the same in every run.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}
