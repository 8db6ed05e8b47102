//! When to try again. The one layer that does is [`crate::Feed`].

use std::time::Duration;

/// How a feed comes back: after the n-th failure in a row it waits for a random time between 0 and `base` · 2ⁿ⁻¹, at most `max`
/// ("full jitter"), on top of what the hub asks for: `BYE`'s `retry_ms` or `Retry-After`, an hour at most, or SSE's `retry`, `max` at
/// most. A failure is in a row with the one before if the connection in between brought nothing but a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The longest first wait. Default: 500 ms.
    pub base: Duration,
    /// The longest wait. Default: 30 s.
    pub max: Duration,
    /// Give up after so many failures in a row; none: never. Default: none.
    pub attempts_max: Option<u32>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { base: Duration::from_millis(500), max: Duration::from_secs(30), attempts_max: None }
    }
}

/// Counts failures in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    retry: Retry,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(retry: Retry) -> Self {
        Self { retry, failures: 0 }
    }

    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed: how long to wait, or none to give up. `asked` is what the hub asks for, `random` a uniform number.
    pub(crate) fn fail(&mut self, asked: Option<Duration>, random: u64) -> Option<Duration> {
        let doublings = self.failures.min(DOUBLINGS_MAX);
        self.failures = self.failures.saturating_add(1);
        if self.retry.attempts_max.is_some_and(|max| self.failures > max) {
            return None;
        }
        let ceiling = self.retry.base.saturating_mul(1 << doublings).min(self.retry.max);
        // The upper 53 bits make a uniform number below 1.
        let jitter = ceiling.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64);
        Some(asked.unwrap_or_default().min(ASKED_MAX) + jitter)
    }
}

/// 2²⁰ times half a second is six days.
const DOUBLINGS_MAX: u32 = 20;
/// A hub can't send a client away for longer.
const ASKED_MAX: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most() {
        let mut backoff = Backoff::new(Retry::default());
        for ceiling_ms in [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000] {
            let wait = backoff.fail(None, u64::MAX).unwrap();
            let ceiling = Duration::from_millis(ceiling_ms);
            assert!(wait <= ceiling && wait > ceiling.mul_f64(0.999), "{wait:?}");
        }
        for _ in 0..100 {
            assert_eq!(backoff.fail(None, 0), Some(Duration::ZERO));
            assert!(backoff.fail(None, u64::MAX).unwrap() <= Duration::from_secs(30));
        }
        backoff.reset();
        assert!(backoff.fail(None, u64::MAX).unwrap() <= Duration::from_millis(500));
    }

    #[test]
    fn what_the_hub_asks_for_comes_first_and_has_an_end() {
        let mut backoff = Backoff::new(Retry::default());
        let asked = Duration::from_secs(7);
        assert_eq!(backoff.fail(Some(asked), 0), Some(asked));
        assert_eq!(backoff.fail(Some(Duration::MAX), 0), Some(ASKED_MAX));
    }

    #[test]
    fn it_gives_up_when_told_to() {
        let mut backoff = Backoff::new(Retry { attempts_max: Some(2), ..Retry::default() });
        assert!(backoff.fail(None, 1).is_some() && backoff.fail(None, 1).is_some());
        assert_eq!(backoff.fail(None, 1), None);
        let mut never = Backoff::new(Retry { attempts_max: Some(0), ..Retry::default() });
        assert_eq!(never.fail(None, 1), None);
    }
}
