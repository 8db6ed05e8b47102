//! Several ways, one after the other a little later, and the first that arrives. [RFC 8305 §5]

use std::{future::Future, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::sleep;

/// Begins an attempt, and another each time that the last one failed or `stagger` passed. Gives the first success and drops the
/// others, or else the last failure.
///
/// # Errors
/// The last attempt's; none if there are no attempts.
pub(crate) async fn staggered<A: Future<Output = Result<T, E>>, T, E>(
    attempts: impl IntoIterator<Item = A>,
    stagger: Duration,
) -> Result<T, Option<E>> {
    let mut attempts = attempts.into_iter().peekable();
    let mut running = FuturesUnordered::new();
    let mut last = None;
    loop {
        match attempts.next() {
            Some(attempt) => running.push(attempt),
            None if running.is_empty() => return Err(last),
            None => {}
        }
        let more = attempts.peek().is_some();
        tokio::select! {
            Some(result) = running.next() => match result {
                Ok(done) => return Ok(done),
                Err(error) => last = Some(error),
            },
            () = sleep(stagger), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const STAGGER: Duration = Duration::from_millis(250);

    async fn attempt(after_ms: u64, result: Result<u8, u8>) -> Result<u8, u8> {
        sleep(Duration::from_millis(after_ms)).await;
        result
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_wins() {
        let begin = Instant::now();
        let attempts = [attempt(9000, Ok(1)), attempt(9000, Err(2)), attempt(100, Ok(3))];
        assert_eq!(staggered(attempts, STAGGER).await, Ok(3));
        assert_eq!(begin.elapsed().as_millis(), 600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_at_once() {
        let begin = Instant::now();
        assert_eq!(staggered([attempt(1, Err(1)), attempt(1, Ok(2))], STAGGER).await, Ok(2));
        assert_eq!(begin.elapsed().as_millis(), 2);
        assert_eq!(staggered([attempt(1, Err(1)), attempt(1, Err(2))], STAGGER).await, Err(Some(2)));
        assert_eq!(staggered(std::iter::empty::<std::future::Ready<Result<u8, u8>>>(), STAGGER).await, Err(None));
    }
}
