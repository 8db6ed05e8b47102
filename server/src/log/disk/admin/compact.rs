//! What compacting a log's file brought.

use serde::{Deserialize, Serialize};

/// A log's file before and after it was compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Its length before, in bytes.
    pub bytes_before: u64,
    /// Its length after.
    pub bytes_after: u64,
}
