//! Bytes of a peer, made up and made wrong: nothing panics, what is taken is taken rightly, and everything else is refused.
//!
//! Each target runs for three seconds; `FUZZ_SECONDS=3600 cargo test --release -p fanwire-tests --test fuzz` for an hour. A failure prints its
//! seed, and `FUZZ_SEED=…` begins with it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod events;
mod hub;
mod queries;
mod streams;
mod tokens;
mod tokens_of_0x;

use std::time::{Duration, Instant};

use fastrand::Rng;

/// Runs a target with inputs that are made of these, for as long as is asked for.
fn fuzz(seeds: &[&[u8]], mut target: impl FnMut(&[u8], &mut Rng)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(3));
    let first = number("FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..1 << 48));
    for seed in first.. {
        let mut rng = Rng::with_seed(seed);
        let mut input = seeds[rng.usize(..seeds.len())].to_vec();
        // The first of a run is as it is written.
        for _ in 0..rng.usize(..8) {
            mutate(&mut input, seeds, &mut rng);
        }
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&input, &mut rng)));
        if let Err(panic) = ran {
            eprintln!("FUZZ_SEED={seed} with {:?}", String::from_utf8_lossy(&input));
            std::panic::resume_unwind(panic);
        }
        if Instant::now() > end {
            return;
        }
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[&[u8]], rng: &mut Rng) {
    let at = rng.usize(..=input.len());
    match rng.u8(..7) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 => {
            let end = rng.usize(at..=input.len());
            input.drain(at..end);
        }
        3 => input.truncate(at),
        4 => {
            let part = input[at..rng.usize(at..=input.len())].repeat(rng.usize(1..20));
            input.splice(at..at, part);
        }
        5 => {
            let other = seeds[rng.usize(..seeds.len())];
            let from = rng.usize(..other.len());
            input.splice(at..at, other[from..].iter().copied());
        }
        _ => {
            let what: [&[u8]; 9] =
                [b"%0D%0A", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\\u0000", b"%00", b": "];
            input.splice(at..at, what[rng.usize(..what.len())].iter().copied());
        }
    }
}
