//! How long an HTTP/1 connection waits for the head of a request.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time;

/// The alarm of a connection. hyper sets one for each request, and nearly all come long before it goes off. So this one is set once, and, when it
/// goes off, for the time that is due by then; to set one and take it back each time changes the lists of all of a thread's timers twice.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadTimer(Arc<Mutex<Option<Pin<Box<time::Sleep>>>>>);

/// One wait: of a connection's one is under way at a time, and none is due earlier than those before it.
struct Wait {
    alarm: HeadTimer,
    until: time::Instant,
}

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Wait { alarm: self.clone(), until: deadline.into() })
    }

    fn now(&self) -> Instant {
        time::Instant::now().into_std()
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.alarm.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sleep = alarm.get_or_insert_with(|| Box::pin(time::sleep_until(self.until)));
        while sleep.as_mut().poll(cx).is_ready() {
            if time::Instant::now() >= self.until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(self.until);
        }
        Poll::Pending
    }
}

impl hyper::rt::Sleep for Wait {}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_time() {
        let (timer, began) = (HeadTimer::default(), time::Instant::now());
        let mut first = timer.sleep(Duration::from_secs(30));
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        time::advance(Duration::from_secs(20)).await;
        timer.sleep(Duration::from_secs(30)).await;
        assert_eq!(began.elapsed().as_secs(), 50);
        time::advance(Duration::from_secs(100)).await;
        timer.sleep(Duration::from_secs(30)).await;
        assert_eq!(began.elapsed().as_secs(), 180, "it had gone off long before");
    }
}
