//! What a measured event carries: its number and when it was meant to be sent.
//!
//! A stamp stands in the data of an event as plain text, and no transport changes that. So whoever counts events looks for stamps in
//! the bytes of a feed, whatever frames or fields are around them, and costs next to nothing itself.

use memchr::memmem;

/// One event of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Counts up from 0, in its topic or in the whole run, as the scenario has it.
    pub number: u32,
    /// When it was meant to be sent, on the system's monotonic clock, in nanoseconds.
    pub intended_ns: u64,
}

impl Stamp {
    /// How many bytes one takes: the least that an event of a run has.
    pub const BYTES: usize = MARK.len() + 8 + 16;

    /// Appends a stamp, and filling up to `bytes` in all.
    pub fn write(self, out: &mut String, bytes: usize) {
        use std::fmt::Write as _;
        let begin = out.len();
        out.push_str(MARK);
        let _ = write!(out, "{:08x}{:016x}", self.number, self.intended_ns);
        out.extend(std::iter::repeat_n('.', bytes.saturating_sub(out.len() - begin)));
    }

    fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text.get(MARK.len()..Self::BYTES)?).ok()?;
        let number = u32::from_str_radix(&text[..8], 16).ok()?;
        Some(Self { number, intended_ns: u64::from_str_radix(&text[8..], 16).ok()? })
    }
}

/// Finds the stamps in one stream of bytes, however it is cut up.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The end of what came, if a stamp may have begun there.
    tail: Vec<u8>,
}

impl Scanner {
    /// Takes the next bytes, and hands out the stamps that they complete.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(Stamp)) {
        let mut from = 0;
        if !self.tail.is_empty() {
            let before = self.tail.len();
            self.tail.extend_from_slice(&bytes[..bytes.len().min(Stamp::BYTES - 1)]);
            // One that begins in the tail ends in what was added, or later.
            if let Some(at) = memmem::find(&self.tail, MARK.as_bytes()).filter(|at| *at < before) {
                if self.tail.len() - at < Stamp::BYTES {
                    self.tail.drain(..at);
                    return;
                }
                if let Some(stamp) = Stamp::read(&self.tail[at..]) {
                    found(stamp);
                }
                from = at + Stamp::BYTES - before;
            } else if bytes.len() < Stamp::BYTES {
                let cut = self.tail.len().saturating_sub(Stamp::BYTES - 1);
                self.tail.drain(..cut);
                // A mark that began before is no mark, or it would have been found: only what may still become one is kept.
                return;
            }
            self.tail.clear();
        }
        let mut rest = &bytes[from..];
        while let Some(at) = memmem::find(rest, MARK.as_bytes()) {
            let Some(stamp) = rest.get(at..at + Stamp::BYTES) else {
                self.tail.extend_from_slice(&rest[at..]);
                return;
            };
            if let Some(stamp) = Stamp::read(stamp) {
                found(stamp);
            }
            rest = &rest[at + Stamp::BYTES..];
        }
        self.tail.extend_from_slice(&rest[rest.len().saturating_sub(MARK.len() - 1)..]);
    }
}

/// The system's monotonic clock, which is the same in every process, in nanoseconds.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nothing else in a feed looks like it.
const MARK: &str = "~fw~";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stamps_are_found_however_the_stream_is_cut(
            events in proptest::collection::vec((any::<u32>(), any::<u64>(), 0usize..60, "[ -~]{0,8}"), 0..12),
            cuts in proptest::collection::vec(1usize..50, 1..40),
        ) {
            let (mut stream, mut sent) = (String::new(), Vec::new());
            for (number, intended_ns, bytes, between) in events {
                prop_assume!(!between.contains("~fw"));
                let stamp = Stamp { number, intended_ns };
                stream.push_str(&between);
                stream.push('\n');
                stamp.write(&mut stream, bytes);
                stream.push('\n');
                sent.push(stamp);
            }
            let (mut scanner, mut got) = (Scanner::default(), Vec::new());
            let (mut rest, mut cuts) = (stream.as_bytes(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                scanner.feed(now, |stamp| got.push(stamp));
                rest = later;
            }
            prop_assert_eq!(got, sent);
        }
    }

    #[test]
    fn an_event_has_the_size_that_was_asked_for() {
        let mut out = String::new();
        Stamp { number: 1, intended_ns: 2 }.write(&mut out, 128);
        assert_eq!(out.len(), 128);
    }
}
