//! The hub's one totally ordered sequence of events.
//!
//! A log takes drafts, gives them numbers, and feeds the hub with what it has **committed**, through its [`Tail`]: nothing is
//! delivered that a crash could take back. Everything is asynchronous, so that a remote log fits behind the same interface.

mod disk;
mod history;
mod idempotency;
mod memory;
mod page;
mod retention;
mod tail;

use std::sync::Arc;

use fanwire_protocol::{Cursor, Draft, Epoch, LastEventId, Matchers, Topic};
use futures_util::future::BoxFuture;

use crate::core::{Committed, Page, Read, Rights, Start};

pub use disk::admin;
pub use disk::{DiskLog, DiskLogError, Fsync, OpenError};
pub use history::History;
pub use idempotency::{IdempotencyKey, KeyWindow};
pub use memory::MemoryLog;
pub use retention::{Class, Retention, TopicRule};
pub use tail::{Tail, TailBuffer, TailStep};

/// Where events are kept.
pub trait Log: std::fmt::Debug + Send + Sync + 'static {
    /// The log's random name.
    fn epoch(&self) -> Epoch;

    /// Appends events, in order, and says what became of each once they are committed. All that are new, or none.
    fn append(&self, events: Vec<Stamped>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>>;

    /// Finds where a feed starts that has these rights. A `last_event_id` wins over `replay`.
    fn resolve<'a>(
        &'a self,
        last_event_id: Option<&'a LastEventId>,
        replay: Replay,
        matchers: &'a Matchers,
        rights: &'a Rights,
    ) -> BoxFuture<'a, Result<Start, LogError>>;

    /// Reads a bounded piece of history.
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, LogError>>;

    /// The newest event of each topic that begins so, in the order of the topics: of those behind `after`, `count_max` at the most.
    fn newest_under<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<Topic>,
        count_max: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<Committed>>, LogError>>;

    /// What is committed from now on.
    fn tail(&self) -> Tail;

    /// Lets go of what is older than its class allows. Called about once a second.
    fn expire(&self, now_ms: u64);

    /// The newest committed position.
    fn head(&self) -> Cursor;
}

/// A log, shared.
pub type SharedLog = Arc<dyn Log>;

/// What a feed that has no position begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Replay {
    /// Nothing: it starts now.
    #[default]
    Nothing,
    /// The newest event of each topic that its matchers take, of those that are kept and that it may see: at most 1,000 events, the newest.
    Latest,
}

/// A draft, and when the hub took it.
#[derive(Debug, Clone)]
pub struct Stamped {
    /// The event.
    pub draft: Draft,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What makes a second append of it be none.
    pub key: Option<IdempotencyKey>,
}

/// What became of an event that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is new, and has this position.
    New(Cursor),
    /// Its key had been given to the same event before, which has this position. Nothing was appended.
    Repeated(Cursor),
    /// Its key had been given to another event. Nothing was appended.
    KeyReused,
}

impl Stamped {
    /// An event without a key.
    pub fn new(draft: Draft, at_ms: u64) -> Self {
        Self { draft, at_ms, key: None }
    }
}

/// Why nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log can't be written now; it may be later.
    #[error("the log can't be written now: {0}")]
    Unavailable(String),
    /// The log has no numbers left.
    #[error("the log has used up its 2^53 - 1 numbers")]
    Exhausted,
}

/// Why history can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The log can't be read now; it may be later.
    #[error("the log can't be read now: {0}")]
    Unavailable(String),
}
