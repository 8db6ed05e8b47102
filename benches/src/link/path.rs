//! When a packet comes out of a link, if it does: plain arithmetic.

use std::time::Duration;

use super::{Direction, Link};

/// One direction of a link.
#[derive(Debug)]
pub(super) struct Path {
    delay: Duration,
    queue_max: Duration,
    nanoseconds_per_byte: f64,
    loss: f64,
    /// When the line has sent all that it was given, on the caller's clock.
    free_at: Duration,
    random: u64,
    counts: Direction,
}

impl Path {
    pub(super) fn new(link: &Link, seed: u64) -> Self {
        Self {
            delay: Duration::from_secs_f64(link.round_trip_ms / 2_000.0),
            queue_max: Duration::from_secs_f64(link.queue_ms / 1_000.0),
            nanoseconds_per_byte: 8_000.0 / link.megabits,
            loss: link.loss_percent / 100.0,
            free_at: Duration::ZERO,
            random: seed,
            counts: Direction::default(),
        }
    }

    /// When a packet of so many bytes that is put in now comes out; none if it is lost. What is lost at random was on the line before, and takes its time.
    pub(super) fn put(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        let begins = self.free_at.max(now);
        if begins - now > self.queue_max {
            self.counts.overflowed += 1;
            return None;
        }
        self.free_at = begins + Duration::from_nanos((bytes as f64 * self.nanoseconds_per_byte) as u64);
        if self.chance() < self.loss {
            self.counts.lost += 1;
            return None;
        }
        Some(self.free_at + self.delay)
    }

    pub(super) fn counts(&self) -> Direction {
        self.counts
    }

    /// From 0 to 1; SplitMix64.
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link { loss_percent: 0.0, round_trip_ms: 20.0, megabits: 8.0, queue_ms: 5.0, tcp_congestion: None }
    }

    #[test]
    fn a_packet_takes_its_place_in_the_queue_its_bytes_and_the_way() {
        let mut path = Path::new(&link(), 1);
        let at = |milliseconds| Duration::from_millis(milliseconds);
        // A byte takes a microsecond.
        assert_eq!(path.put(at(0), 1_000), Some(at(11)));
        assert_eq!(path.put(at(0), 1_000), Some(at(12)));
        assert_eq!(path.put(at(100), 1_000), Some(at(111)));
    }

    #[test]
    fn what_would_wait_too_long_is_dropped() {
        let mut path = Path::new(&link(), 1);
        let came = (0..100).filter(|_| path.put(Duration::ZERO, 1_000).is_some()).count();
        // The sixth finds 5 ms of others before it, which is as long as may be.
        assert_eq!(came, 6);
        assert_eq!(path.counts(), Direction { packets: 100, bytes: 100_000, lost: 0, overflowed: 94 });
    }

    #[test]
    fn as_many_are_lost_as_was_asked_for_and_the_same_by_the_same_seed() {
        let run = |seed| {
            let mut path = Path::new(&Link { loss_percent: 5.0, ..link() }, seed);
            (0..20_000).map(|nth| path.put(Duration::from_millis(nth * 10), 100).is_none()).collect::<Vec<_>>()
        };
        let lost = run(7).into_iter().filter(|lost| *lost).count();
        assert!((900..1_100).contains(&lost), "{lost}");
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
