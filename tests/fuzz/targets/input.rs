//! What a target is given: bytes that a peer might send, and what is left to chance besides.

use std::{
    fmt,
    ops::{Range, RangeInclusive},
    path::PathBuf,
};

use bolero::{Driver, ValueGenerator};

/// The numbers behind choices.
type Numbers = [u32; 8];

/// One input.
#[derive(Clone)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    numbers: Numbers,
}

impl Input {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn choices(&self) -> Choices {
        Choices { numbers: self.numbers, taken: 0 }
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\" and {:?}", self.bytes.escape_ascii(), self.numbers)
    }
}

/// What a target leaves to chance: where bytes are cut, which way they go. The numbers come again and again.
pub(crate) struct Choices {
    numbers: Numbers,
    taken: usize,
}

impl Choices {
    /// One of a range.
    pub(crate) fn among(&mut self, range: RangeInclusive<usize>) -> usize {
        range.start() + round(self.number(), range.end() - range.start())
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.number() & 1 == 1
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from(self.number()) << 32 | u64::from(self.number())
    }

    fn number(&mut self) -> u32 {
        let number = self.numbers[self.taken % self.numbers.len()];
        self.taken += 1;
        number
    }
}

/// Makes inputs: of a good one, with edits; or as they come, which is what an engine that is guided by coverage changes byte by byte.
pub(crate) struct Inputs<'a>(pub(crate) &'a [&'a [u8]]);

impl ValueGenerator for Inputs<'_> {
    type Output = Input;

    fn generate<D: Driver>(&self, driver: &mut D) -> Option<Input> {
        // Whole numbers only: bolero shrinks an input with another driver than made it, and only of these both take the same bytes.
        let mut next = || driver.produce::<u32>();
        let start = round(next()?, self.0.len());
        let mut numbers = Numbers::default();
        for number in &mut numbers {
            *number = next()?;
        }
        let Some(seed) = start.checked_sub(1) else {
            let random = || (0, Some(RANDOM_BYTES_MAX));
            let bytes = driver.gen_from_bytes(random, |bytes| Some((bytes.len(), bytes.to_vec())))?;
            return Some(Input { bytes, numbers });
        };
        let mut bytes = self.0[seed].to_vec();
        for _ in 0..round(next()?, EDITS_MAX) {
            let edit = Edit { how: next()?, at: next()?, length: next()?, what: next()? };
            edit.apply(&mut bytes, self.0);
        }
        Some(Input { bytes, numbers })
    }
}

/// Puts what a run that is guided by coverage begins with into the directory that it is told of: the good ones as they are.
pub(crate) fn keep(seeds: &[&[u8]]) {
    let Some(corpus) = std::env::var_os("FUZZ_CORPUS").map(PathBuf::from) else { return };
    for (number, seed) in seeds.iter().enumerate() {
        // All zero: where it starts, and its numbers.
        let whole = [&[0; size_of::<u32>() + size_of::<Numbers>()], *seed].concat();
        std::fs::write(corpus.join(format!("seed-{number}")), whole).expect("a directory to write to");
    }
}

/// A change of what is good.
struct Edit {
    how: u32,
    at: u32,
    length: u32,
    what: u32,
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[&[u8]]) {
        let at = round(self.at, bytes.len());
        let end = at + round(self.length, bytes.len() - at);
        match self.how % 9 {
            0 => bytes[at..].iter_mut().take(1).for_each(|byte| *byte ^= 1 << (self.what % 8)),
            // A letter in its other case.
            1 => bytes[at..].iter_mut().take(1).for_each(|byte| *byte ^= b' '),
            2 => bytes[at..].iter_mut().take(1).for_each(|byte| *byte = self.what.to_le_bytes()[0]),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            5 => {
                let part = bytes[at..end].repeat(1 + round(self.what, REPEATED_MAX));
                bytes.splice(at..at, part);
            }
            6 => {
                // One word is another.
                let seed = seeds[round(self.what, seeds.len() - 1)];
                let word = &seed[word_at(seed, round(self.what.rotate_left(16), seed.len()))];
                bytes.splice(word_at(bytes, at), word.iter().copied());
            }
            7 => {
                let seed = seeds[round(self.what, seeds.len() - 1)];
                let from = round(self.what.rotate_left(16), seed.len());
                let part = &seed[from..][..round(self.length, seed.len() - from)];
                bytes.splice(at..at, part.iter().copied());
            }
            _ => {
                let word = WORDS[round(self.what, WORDS.len() - 1)];
                bytes.splice(at..at, word.iter().copied());
            }
        }
        bytes.truncate(BYTES_MAX);
    }
}

/// Where the word is that begins, goes on or ends here; an empty one where there is none.
fn word_at(bytes: &[u8], at: usize) -> Range<usize> {
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+.\\".contains(byte) || !byte.is_ascii();
    let before = bytes[..at].iter().rev().take_while(|byte| in_word(byte)).count();
    let behind = bytes[at..].iter().take_while(|byte| in_word(byte)).count();
    at - before..at + behind
}

/// A number from 0 to `max`, which others count round to.
fn round(number: u32, max: usize) -> usize {
    number as usize % (max + 1)
}

/// What means something to one reader or another.
const WORDS: [&[u8]; 9] =
    [b"%0D%0A", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\\u0000", b"%00", b": "];

/// Some are as they are written.
const EDITS_MAX: usize = 7;

const REPEATED_MAX: usize = 20;

/// Of bytes that are random altogether, few come far.
const RANDOM_BYTES_MAX: usize = 256;

/// Repetitions of repetitions aren't to fill the memory.
const BYTES_MAX: usize = 64 * 1024;
