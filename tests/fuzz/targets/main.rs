//! Bytes of a peer, made up and made wrong: nothing panics, what is taken is taken rightly, and everything else is refused.
//!
//! `cargo test -p fanwire-fuzz` makes inputs at random, for some seconds a target; `tests/fuzz/run` has them guided by what code they
//! reach, for hours. ARCHITECTURE.md says how to run a finding again.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod events;
mod hub;
mod input;
mod patterns;
mod publications;
mod streams;
mod template;
mod tokens;
mod tokens_of_0x;
mod wire;

use std::{panic::AssertUnwindSafe, time::Duration};

use bolero::{BorrowedInput, ByteSliceGenerator, DefaultEngine, TestTarget};

use crate::input::{Choices, Input, Inputs};

/// Runs a target with inputs that are made of these, for as long as is asked for. `at` is `bolero::check!()`, which tells where the target is.
fn fuzz(
    at: TestTarget<ByteSliceGenerator, DefaultEngine, BorrowedInput>,
    seeds: &[&[u8]],
    target: impl FnMut(&[u8], &mut Choices),
) {
    input::keep(seeds);
    let mut target = AssertUnwindSafe(target);
    at.with_generator(Inputs(seeds)).with_test_time(TEST_TIME).with_shrink_time(SHRINK_TIME).for_each(
        move |input: &Input| {
            let AssertUnwindSafe(target) = &mut target;
            target(input.bytes(), &mut input.choices());
        },
    );
}

/// Unless `BOLERO_RANDOM_TEST_TIME_MS` says otherwise.
const TEST_TIME: Duration = Duration::from_secs(3);

/// Long enough for what waits for a network.
const SHRINK_TIME: Duration = Duration::from_secs(10);
