//! What a store lies on: a file, or in tests a disk whose power fails.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Builder, Database, DatabaseError, StorageBackend, backends::FileBackend};
use rustix::fs::{Advice, fadvise};

use super::{
    meter::{Meter, Metered},
    overlay::Overlay,
};

/// Where the bytes of a store are.
pub(super) trait Medium: fmt::Debug + fmt::Display + Send + Sync {
    /// Opens the database as it is on the disk, or makes a new one.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Opens what there is of it, to be read: nothing is written, whatever is done to the database.
    fn open_frozen(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Counts what the databases on it read and write.
    fn meter(&self) -> &Meter;

    /// How much there is of it; none if nothing is there, as far as one can see.
    fn bytes(&self) -> io::Result<Option<u64>>;

    /// Keeps other programs away from it while it isn't open, if it can.
    fn lock(&self) -> Option<fs::File>;
}

/// A file on a file system.
#[derive(Debug)]
pub(super) struct StoreFile {
    path: PathBuf,
    meter: Arc<Meter>,
}

impl StoreFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), meter: Arc::default() }
    }
}

impl fmt::Display for StoreFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl Medium for StoreFile {
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        // The database locks it too, but only after what is done here.
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(DatabaseError::DatabaseAlreadyOpen),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        forget_cached(&file)?;
        let backend = FileBackend::new(file)?;
        discard_unfinished(&backend)?;
        builder.create_with_backend(Metered { backend, meter: self.meter.clone() })
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn open_frozen(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(Overlay::new(fs::File::open(&self.path)?)?)
    }

    fn bytes(&self) -> io::Result<Option<u64>> {
        match fs::metadata(&self.path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> Option<fs::File> {
        let file = fs::File::open(&self.path).ok()?;
        file.try_lock().is_ok().then_some(file)
    }
}

/// Makes the next reads of a file come from the disk.
///
/// After a sync that failed, Linux takes the pages that it couldn't write for clean: whoever reads the file is given what isn't on the
/// disk, and the next sync says that all is well. Recovery that trusted such pages would build on what the next loss of power
/// takes away. So what an earlier run or attempt left unwritten is written first, which a second sync is needed for and may fail; then
/// every page is clean, and is dropped. It costs a start with a cold cache.
fn forget_cached(file: &fs::File) -> io::Result<()> {
    file.sync_data()?;
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}

/// Empties a file that a power loss left before its making was complete. The database begins with a file of zeros, in which it writes a
/// header without its magic number, and that last; it takes a file without one for something else.
pub(super) fn discard_unfinished(backend: &impl StorageBackend) -> io::Result<()> {
    let len = backend.len()?;
    if len == 0 || len > UNFINISHED_BYTES_MAX {
        return Ok(());
    }
    let mut bytes = vec![0; len as usize];
    backend.read(0, &mut bytes)?;
    let (header, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES_MAX));
    let is_unfinished = header.iter().take(MAGIC_BYTES).chain(rest).all(|&byte| byte == 0);
    if is_unfinished { backend.set_len(0) } else { Ok(()) }
}

/// What the database's magic number takes.
const MAGIC_BYTES: usize = 9;
/// More than the header takes.
const HEADER_BYTES_MAX: usize = 4096;
/// More than a new database takes.
const UNFINISHED_BYTES_MAX: u64 = 4 * 1024 * 1024;
