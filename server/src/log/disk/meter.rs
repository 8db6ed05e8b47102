//! What a database does to its medium, for whoever waits for it: how much of a long work is done, and whether it is to go on.
//!
//! The database compacts in one call, which tells nothing and can't be ended. But it reads and writes through us. To end it, we let it
//! fail, as a disk may at any time: nothing is lost by that, and it is opened again.

use std::{
    io,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use redb::{BackendError, StorageBackend};

use super::admin::{Progress, Stage};

/// Where what is read and written is counted, while somebody watches.
#[derive(Debug, Default)]
pub(super) struct Meter {
    is_watched: AtomicBool,
    watch: Mutex<Option<Watch>>,
}

/// Somebody who waits for a database to be compacted.
#[derive(Debug)]
pub(super) struct Watch {
    progress: Progress,
    done: u64,
    total: u64,
    /// The length at which the rest isn't worth its time.
    enough_bytes: u64,
    /// The least that there was of the file.
    shortest_bytes: u64,
    end: Option<End>,
    /// It is given up when so much is done.
    #[cfg(test)]
    given_up_at: u64,
}

/// Why a work was ended before the database would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The file is about as long as what is in it.
    Enough,
    /// Nobody waits for it any more.
    GivenUp,
}

/// A backend that is counted.
#[derive(Debug)]
pub(super) struct Metered<B> {
    pub(super) backend: B,
    pub(super) meter: Arc<Meter>,
}

impl Watch {
    /// Watches a database of `bytes` being compacted, of which `used_bytes` are in use.
    ///
    /// It looks at every page that is in use, for each four GiB that it moves, and reads or writes what it moves about eight times: to make room, to
    /// copy it, and to sum it up. What it moves is at most what is in use, and at most what fits in the free space. So the total is an upper
    /// bound, and what is small enough for the database's cache is done before anybody looks.
    pub(super) fn new(progress: Progress, bytes: u64, used_bytes: u64) -> Self {
        let moved = used_bytes.min(bytes.saturating_sub(used_bytes));
        let looks = 1 + moved / MOVED_AT_A_TIME_BYTES;
        let total = used_bytes * (looks + LOOKS_TO_OPEN) + moved * PASSES;
        Self {
            progress,
            done: 0,
            total,
            enough_bytes: enough(used_bytes),
            shortest_bytes: bytes,
            end: None,
            #[cfg(test)]
            given_up_at: u64::MAX,
        }
    }

    /// The same, and it is given up when so much is read and written.
    #[cfg(test)]
    pub(super) fn given_up_at(self, bytes: u64) -> Self {
        Self { given_up_at: bytes, ..self }
    }

    /// The same, when the work has ended and the database is opened again: it isn't ended any more.
    pub(super) fn only_counting(self) -> Self {
        Self { enough_bytes: 0, end: None, ..self }
    }

    /// Why the work was ended, if it was.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// How much is done, and of how much at the most.
    #[cfg(test)]
    pub(super) fn done_of(&self) -> (u64, u64) {
        (self.done, self.total)
    }

    /// How short the file has become.
    pub(super) fn shortest_bytes(&self) -> u64 {
        self.shortest_bytes
    }

    /// The same, and before it every page is checked.
    pub(super) fn with_check(self, used_bytes: u64) -> Self {
        Self { total: self.total + used_bytes * LOOKS_TO_OPEN, ..self }
    }
}

/// The length at which a file is compact: compacting it further would take as long as it did until here, for next to nothing.
pub(super) fn enough(used_bytes: u64) -> u64 {
    used_bytes + used_bytes / 64 + 64 * 1024
}

impl Meter {
    /// Counts, tells, and ends what is done from now on.
    pub(super) fn watch(&self, watch: Watch) {
        *self.lock() = Some(watch);
        self.is_watched.store(true, Relaxed);
    }

    /// Counts no more. Returns who watched.
    pub(super) fn leave(&self) -> Option<Watch> {
        self.is_watched.store(false, Relaxed);
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Watch>> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is done to the medium. An error if it isn't to be, since the work has ended.
    fn count(&self, bytes: usize, is_read: bool) -> io::Result<()> {
        if !self.is_watched.load(Relaxed) {
            return Ok(());
        }
        let mut watch = self.lock();
        let Some(watch) = watch.as_mut() else { return Ok(()) };
        watch.done += bytes as u64;
        let step = watch.done.min(watch.total);
        if watch.progress.report_stage(Stage::Compacting, step, Some(watch.total)).is_err() {
            watch.end.get_or_insert(End::GivenUp);
        }
        #[cfg(test)]
        if watch.done > watch.given_up_at {
            watch.end.get_or_insert(End::GivenUp);
        }
        match watch.end {
            Some(End::GivenUp) => Err(io::Error::other("it was given up")),
            // What it has begun to write, it completes; then it looks for more.
            Some(End::Enough) if is_read => Err(io::Error::other("it is compact")),
            _ => Ok(()),
        }
    }

    /// The medium has this length.
    fn shrunk(&self, bytes: u64) {
        if self.is_watched.load(Relaxed)
            && let Some(watch) = self.lock().as_mut()
        {
            watch.shortest_bytes = watch.shortest_bytes.min(bytes);
            if bytes <= watch.enough_bytes {
                watch.end.get_or_insert(End::Enough);
            }
        }
    }
}

impl<B: StorageBackend> StorageBackend for Metered<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.meter.count(out.len(), true)?;
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.backend.len()?;
        self.backend.set_len(len)?;
        if len < before {
            self.meter.shrunk(len);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.meter.count(0, false)?;
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.meter.count(data.len(), false)?;
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}

/// See [`Watch::new`]; measured with redb 4.5, and a cache that is small beside the file.
const PASSES: u64 = 8;
/// For the checksums, and for what is free.
const LOOKS_TO_OPEN: u64 = 2;
const MOVED_AT_A_TIME_BYTES: u64 = 1_000_000 * 4096;
