//! How fast each publisher may publish.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A bucket of tokens for each publisher, an event a token.
///
/// All that is kept of a bucket is when it will be full again (the generic cell rate algorithm); one that is full is forgotten.
#[derive(Debug)]
pub(super) struct Meter {
    /// Refill of one token; none: nothing is metered.
    token: Option<Duration>,
    /// From empty to full.
    bucket: Duration,
    began: Instant,
    /// Since `began`.
    full_at: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_publisher: HashMap<Box<str>, Duration>,
    /// Of all that find no place there.
    others: Duration,
    swept_at: Duration,
}

impl Meter {
    /// So many events a second, and so many at once; with a rate of 0 any number.
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let token = (rate > 0).then(|| Duration::from_secs(1) / rate);
        let bucket = token.unwrap_or_default() * burst;
        Self { token, bucket, began: now, full_at: Mutex::default() }
    }

    /// Whether anything is metered.
    pub(super) fn is_on(&self) -> bool {
        self.token.is_some()
    }

    /// Takes tokens for some events, all or none. Else it says in how long there will be enough.
    pub(super) fn take(&self, publisher: &str, events: usize, now: Instant) -> Result<(), Duration> {
        let Some(token) = self.token else { return Ok(()) };
        let now = now.saturating_duration_since(self.began);
        let cost = token * u32::try_from(events).unwrap_or(u32::MAX);
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = buckets.of(publisher, now);
        let then = now.max(*full_at) + cost;
        let late = then.saturating_sub(now + self.bucket);
        if !late.is_zero() {
            return Err(late);
        }
        *full_at = then;
        Ok(())
    }
}

impl Buckets {
    fn of(&mut self, publisher: &str, now: Duration) -> &mut Duration {
        let is_new = !self.by_publisher.contains_key(publisher);
        if is_new && self.by_publisher.len() >= PUBLISHERS_MAX && now.saturating_sub(self.swept_at) >= SWEEP_PAUSE {
            self.swept_at = now;
            self.by_publisher.retain(|_, full_at| *full_at > now);
        }
        if is_new && self.by_publisher.len() >= PUBLISHERS_MAX {
            return &mut self.others;
        }
        self.by_publisher.entry(publisher.into()).or_default()
    }
}

/// Publishers that have a bucket of their own at a time, some 100 bytes each. More share one.
const PUBLISHERS_MAX: usize = 65_536;
/// A sweep looks at all of them.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let began = Instant::now();
        let meter = Meter::new(10, 20, began);
        let at = |ms: u64| began + Duration::from_millis(ms);
        assert_eq!(meter.take("a", 20, at(0)), Ok(()));
        assert_eq!(meter.take("a", 1, at(0)), Err(Duration::from_millis(100)));
        assert_eq!(meter.take("b", 20, at(0)), Ok(()), "each has its own");
        assert_eq!(meter.take("a", 1, at(99)), Err(Duration::from_millis(1)));
        assert_eq!(meter.take("a", 1, at(100)), Ok(()));
        assert_eq!(meter.take("a", 5, at(300)), Err(Duration::from_millis(300)), "all or none");
        assert_eq!(meter.take("a", 2, at(300)), Ok(()));
        assert_eq!(meter.take("a", 20, at(60_000)), Ok(()), "never more than full");
        assert_eq!(meter.take("a", 1, at(60_000)), Err(Duration::from_millis(100)));
    }

    #[test]
    fn a_rate_of_nothing_is_no_limit() {
        let meter = Meter::new(0, 0, Instant::now());
        assert_eq!(meter.take("a", usize::MAX, Instant::now()), Ok(()));
    }

    #[test]
    fn publishers_without_end_share_a_bucket_and_are_forgotten() {
        let began = Instant::now();
        let meter = Meter::new(10, 10, began);
        for publisher in 0..PUBLISHERS_MAX {
            assert_eq!(meter.take(&publisher.to_string(), 10, began), Ok(()));
        }
        assert_eq!(meter.take("x", 10, began), Ok(()));
        assert!(meter.take("y", 1, began).is_err(), "the others' bucket is empty");
        assert_eq!(meter.full_at.lock().unwrap().by_publisher.len(), PUBLISHERS_MAX);
        let later = began + Duration::from_secs(2);
        assert_eq!(meter.take("y", 10, later), Ok(()));
        assert_eq!(meter.full_at.lock().unwrap().by_publisher.len(), 1);
    }
}
