//! What an operator does to a log on disk: the same whether a hub serves it ([`ServedLog`]) or not ([`StoppedLog`]).

mod online;
mod progress;
mod stat;
mod stopped;

use std::{path::PathBuf, sync::Arc};

use fanwire_protocol::{Epoch, Seq};
use futures_util::future::BoxFuture;

use crate::{
    core::{Floors, Page, Read},
    log::{AppendError, Appended, DiskLogError, LogError, Stamped},
};

pub use online::ServedLog;
pub use progress::{Progress, Step};
pub use stat::{ClassStat, FileStat, LimitsStat, Stat};
pub use stopped::StoppedLog;

/// What an operator does to a log.
pub trait Admin: std::fmt::Debug + Send + Sync + 'static {
    /// How the log is and what is in it. Reads the whole index of topics and visits every page: seconds for gigabytes.
    fn stat(self: Arc<Self>) -> BoxFuture<'static, Result<Stat, AdminError>>;

    /// Where the log begins and ends now.
    fn bounds(&self) -> BoxFuture<'_, Result<Bounds, AdminError>>;

    /// Reads a bounded piece of history.
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, AdminError>>;

    /// Appends events, in order, all that are new or none; they keep their times.
    fn append(&self, events: Vec<Stamped>) -> BoxFuture<'_, Result<Vec<Appended>, AdminError>>;
}

/// Where a log begins and ends.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The log's random name.
    pub epoch: Epoch,
    /// The newest number that was shown to anyone.
    pub head: Seq,
    /// What was evicted, by class.
    pub floors: Floors,
}

/// Why an operator's work isn't done.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// There is nothing to work on.
    #[error("there is no log in {directory}", directory = .directory.display())]
    NoLog {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The log can't be opened.
    #[error(transparent)]
    Open(#[from] DiskLogError),
    /// The log can't be read.
    #[error(transparent)]
    Read(#[from] LogError),
    /// The log can't be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Nobody waits for it any more.
    #[error("it was given up")]
    Cancelled,
}

impl From<super::store::Failure> for AdminError {
    fn from(error: super::store::Failure) -> Self {
        Self::Read(LogError::Unavailable(error.to_string()))
    }
}
