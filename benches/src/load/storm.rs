//! All but some lose their connections at once.

use tokio::sync::watch;

use super::{Job, Kind, SLICE_MS};
use crate::stamp::now_ns;

/// Cuts the subscribers off when it is time.
pub(super) struct Trigger {
    after_ms: Option<u64>,
    cut: watch::Sender<Option<u64>>,
}

impl Trigger {
    pub(super) fn new(job: &Job, cut: watch::Sender<Option<u64>>) -> Self {
        let after_ms = match job.kind {
            Kind::Storm { after_ms, .. } => Some(after_ms),
            _ => None,
        };
        Self { after_ms, cut }
    }

    /// To be called now and then. `began_ns`: when the first measured event was meant to be sent, if it is not 0.
    pub(super) fn look(&mut self, began_ns: u64) {
        let now_ns = now_ns();
        if let Some(after_ms) = self.after_ms
            && began_ns > 0
            && now_ns >= began_ns + after_ms * 1_000_000
            && self.cut.borrow().is_none()
        {
            self.cut.send_replace(Some(now_ns));
        }
    }

    /// The slice of the timeline in which they were cut off.
    pub(super) fn cut_slice(&self) -> usize {
        (self.after_ms.unwrap_or(0) / SLICE_MS) as usize
    }
}
