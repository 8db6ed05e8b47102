//! How far a long work is.

use std::{
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::AdminError;

/// How much of a work is done, in whatever it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// So much.
    pub done: u64,
    /// Of so much, where that is known.
    pub total: Option<u64>,
    /// What is being done.
    pub stage: Stage,
}

/// What a long work does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// What was asked for, counted in what it is about.
    Itself,
    /// Making a file smaller, counted in bytes that are read and written; the total is an upper bound.
    Compacting,
}

/// Tells whoever waits for a work how far it is.
#[derive(Debug, Clone)]
pub struct Progress {
    steps: mpsc::Sender<Step>,
    began: Instant,
    /// When the next step may be told, in milliseconds since `began`.
    next_ms: Arc<AtomicU64>,
}

impl Progress {
    /// A pair: what the work tells, and what is heard of it. The work is given up when nobody hears.
    pub fn channel() -> (Self, mpsc::Receiver<Step>) {
        let (steps, heard) = mpsc::channel(1);
        (Self { steps, began: Instant::now(), next_ms: Arc::default() }, heard)
    }

    /// Tells a step, unless another was told just before.
    pub fn report(&self, done: u64, total: Option<u64>) -> Result<(), AdminError> {
        self.report_stage(Stage::Itself, done, total)
    }

    /// The same, of a certain stage.
    pub fn report_stage(&self, stage: Stage, done: u64, total: Option<u64>) -> Result<(), AdminError> {
        if self.steps.is_closed() {
            return Err(AdminError::Cancelled);
        }
        let now_ms = self.began.elapsed().as_millis() as u64;
        if now_ms >= self.next_ms.load(Relaxed) {
            self.next_ms.store(now_ms + PAUSE.as_millis() as u64, Relaxed);
            // Who hasn't heard the last one yet doesn't miss this one.
            let _ = self.steps.try_send(Step { done, total, stage });
        }
        Ok(())
    }
}

const PAUSE: Duration = Duration::from_millis(100);
