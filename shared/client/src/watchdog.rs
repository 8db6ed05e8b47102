//! Two heartbeats without a byte mean that a connection is dead. [PROTOCOL §3.3]

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::ReceiveError;

/// Watches over the reads of one connection.
///
/// Its timer isn't touched when bytes come: it runs out, sees that they came, and is set anew.
#[derive(Debug)]
pub(crate) struct Watchdog {
    patience: Duration,
    last_byte: Instant,
    /// When the reader last stopped waiting.
    left: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    /// A watchdog for a heartbeat.
    pub(crate) fn new(heartbeat: Duration) -> Self {
        let now = Instant::now();
        Self { patience: patience(heartbeat), last_byte: now, left: now, timer: None }
    }

    /// The hub says how often it beats.
    pub(crate) fn set_heartbeat(&mut self, heartbeat: Duration) {
        self.patience = patience(heartbeat);
        self.timer = None;
    }

    /// Waits for a read, or for the connection to be taken for dead. A reader that has been away for long itself doesn't count
    /// that time: it couldn't have seen a byte.
    pub(crate) async fn watch<T>(&mut self, read: impl Future<Output = T>) -> Result<T, ReceiveError> {
        let now = Instant::now();
        if now - self.left > self.patience / 2 {
            self.last_byte = now;
        }
        let attending = Attending(self);
        let dog = &mut *attending.0;
        let mut read = pin!(read);
        poll_fn(|cx| {
            if let Poll::Ready(done) = read.as_mut().poll(cx) {
                dog.last_byte = Instant::now();
                return Poll::Ready(Ok(done));
            }
            let deadline = dog.last_byte + dog.patience;
            let timer = dog.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            while timer.as_mut().poll(cx).is_ready() {
                if timer.deadline() >= deadline {
                    return Poll::Ready(Err(ReceiveError::Silent { after: dog.patience }));
                }
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

/// Takes note of when a wait ends or is given up.
struct Attending<'a>(&'a mut Watchdog);

impl Drop for Attending<'_> {
    fn drop(&mut self) {
        self.0.left = Instant::now();
    }
}

fn patience(heartbeat: Duration) -> Duration {
    heartbeat.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX) * 2
}

/// What a hub may say is clamped to these.
const HEARTBEAT_MIN: Duration = Duration::from_millis(50);
const HEARTBEAT_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::{advance, sleep};

    const HEARTBEAT: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn two_heartbeats_of_silence_are_death() {
        let begin = Instant::now();
        let mut dog = Watchdog::new(HEARTBEAT);
        for _ in 0..10 {
            dog.watch(sleep(HEARTBEAT)).await.unwrap();
        }
        assert!(matches!(dog.watch(pending::<()>()).await, Err(ReceiveError::Silent { .. })));
        assert_eq!(begin.elapsed().as_secs(), 15 * 12);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_is_given_up_again_and_again_is_watched_too() {
        let begin = Instant::now();
        let mut dog = Watchdog::new(HEARTBEAT);
        let silent = loop {
            tokio::select! {
                result = dog.watch(pending::<()>()) => break result,
                () = sleep(Duration::from_secs(1)) => {}
            }
        };
        assert!(silent.is_err());
        assert_eq!(begin.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_was_away_starts_anew() {
        let mut dog = Watchdog::new(HEARTBEAT);
        advance(Duration::from_secs(600)).await;
        let begin = Instant::now();
        assert!(dog.watch(pending::<()>()).await.is_err());
        assert_eq!(begin.elapsed().as_secs(), 30);
    }
}
