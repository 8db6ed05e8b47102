//! What an operator does to a log on disk: the same whether a hub serves it ([`ServedLog`]) or not ([`StoppedLog`]).

mod backup;
mod compact;
mod online;
mod progress;
mod stat;
mod stopped;
mod verify;

use std::{path::PathBuf, sync::Arc};

use fanwire_protocol::{Epoch, Seq};
use futures_util::future::BoxFuture;

use crate::{
    core::{Floors, Page, Read},
    log::{AppendError, Appended, DiskLogError, LogError, Stamped},
};

pub use backup::Backup;
pub use compact::Compacted;
pub use online::ServedLog;
pub use progress::{Progress, Stage, Step};
pub use stat::{ClassStat, FileStat, LimitsStat, Stat};
pub use stopped::StoppedLog;
pub use verify::Verdict;

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

    /// Reads everything of one moment, and says what is wrong. Space that is freed meanwhile isn't used again before it is done.
    fn verify(self: Arc<Self>, progress: Progress) -> BoxFuture<'static, Result<Verdict, AdminError>>;

    /// Gives the free space in the file back. Publishers and readers wait, and live feeds stay.
    fn compact(self: Arc<Self>, progress: Progress) -> BoxFuture<'static, Result<Compacted, AdminError>>;

    /// Copies what the log holds at this moment into a new data directory, an absolute path. Space that is freed meanwhile isn't used again
    /// before it is done.
    fn backup(
        self: Arc<Self>,
        destination: PathBuf,
        progress: Progress,
    ) -> BoxFuture<'static, Result<Backup, AdminError>>;
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
    /// It holds what no hub wrote.
    #[error("the log is damaged: {0}. Restore a backup; `fanwire log verify` tells what of it can be read")]
    Damaged(String),
    /// The log can't be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log can't be compacted now.
    #[error("{0}")]
    Compact(String),
    /// One work at a time.
    #[error("the log is being backed up, checked or compacted already; try again when that is done")]
    Busy,
    /// What is to be made is there.
    #[error("{path} exists", path = .path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The backup can't be made. Nothing is left of it.
    #[error("the backup {destination} can't be made: {why}", destination = .destination.display())]
    Backup {
        /// Where.
        destination: PathBuf,
        /// Why not.
        why: String,
    },
    /// Nobody waits for it any more.
    #[error("it was given up")]
    Cancelled,
}

impl From<super::store::Failure> for AdminError {
    fn from(error: super::store::Failure) -> Self {
        match error {
            super::store::Failure::Corrupted(why) => Self::Damaged(why),
            error => Self::Read(LogError::Unavailable(error.to_string())),
        }
    }
}
