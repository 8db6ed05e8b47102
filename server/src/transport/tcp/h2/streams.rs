//! How many streams a connection has.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::super::Limits;
use crate::telemetry::{Limit, Metrics};

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    open: Cell<usize>,
    open_max: usize,
    /// There was one.
    asked: Cell<bool>,
    idle_since: Cell<Instant>,
    metrics: Arc<Metrics>,
}

/// Counts a stream as open.
pub(super) struct OpenStream(Rc<Streams>);

impl Streams {
    pub(super) fn new(open_max: u32, metrics: Arc<Metrics>) -> Self {
        Self {
            open: Cell::new(0),
            open_max: open_max as usize,
            asked: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            metrics,
        }
    }

    pub(super) fn open(self: &Rc<Self>) -> OpenStream {
        self.asked.set(true);
        self.open.set(self.open.get() + 1);
        if self.open.get() == self.open_max {
            self.metrics.reached(Limit::Streams);
        }
        OpenStream(self.clone())
    }

    /// Resolves when the peer takes too long to ask for something.
    pub(super) async fn idle_for_too_long(&self, limits: &Limits) -> Limit {
        // The peer has to come to its first request sooner than to its next.
        sleep_until(self.idle_since.get() + limits.head).await;
        if !self.asked.get() {
            return Limit::HeadTime;
        }
        self.idle_for(limits.h2_idle).await;
        Limit::IdleTime
    }

    /// Resolves when there was no stream for so long.
    pub(super) async fn idle_for(&self, bound: Duration) {
        loop {
            let since = if self.open.get() > 0 { Instant::now() } else { self.idle_since.get() };
            if self.open.get() == 0 && since.elapsed() >= bound {
                return;
            }
            sleep_until(since + bound.max(LOOK_INTERVAL)).await;
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

/// How often a connection that is to end soon is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
