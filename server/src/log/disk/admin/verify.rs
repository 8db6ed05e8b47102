//! Whether a log is whole.

use redb::{Database, ReadableDatabase as _};
use serde::{Deserialize, Serialize};

use super::{super::check, AdminError};
use crate::log::Retention;

/// What was found when a log was checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How many events are what was published.
    pub events: u64,
    /// How much is wrong.
    pub problems_count: u64,
    /// The first of it, each with what it is about.
    pub problems: Vec<String>,
    /// The file's own checksums were checked as well, which only somebody can do who has the log alone.
    pub has_checked_file: bool,
}

impl Verdict {
    /// The same of a log whose file doesn't agree with its own checksums, which is the first of what is wrong.
    pub(super) fn with_damaged_file(mut self, why: &str) -> Self {
        self.problems_count += 1;
        self.problems.insert(0, format!("the file: {why}"));
        Self { has_checked_file: true, ..self }
    }
}

/// Checks what a log holds at this moment, but not its file.
pub(super) fn verify(
    database: &Database,
    retention: &Retention,
    progress: impl FnMut(u64, u64) -> Result<(), AdminError>,
) -> Result<Verdict, AdminError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    let findings = check::check_stoppably(&transaction, Some(retention), progress)?;
    Ok(Verdict {
        events: findings.events,
        problems_count: findings.problems_count,
        problems: findings.problems,
        has_checked_file: false,
    })
}
