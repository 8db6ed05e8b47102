//! A copy of one moment of a log, in a data directory of its own.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    TableDefinition, TableHandle as _, Value, WriteTransaction,
};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        FILE, OpenError,
        medium::StoreFile,
        meter::Watch,
        store::{self, BACKUP_AT, Failure},
    },
    AdminError, Progress,
};

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The directory.
    pub path: String,
    /// How many events are in it.
    pub events: u64,
    /// The length of its file.
    pub bytes: u64,
}

/// Copies what `source` holds at this moment into a new directory, which is there under its name only once it is whole and synced.
///
/// The copy is marked: the hub that opens it goes on with numbers that the original can't have shown to anyone.
pub(super) fn backup(
    source: &Database,
    destination: &Path,
    now_ms: u64,
    compacting: Progress,
    mut progress: impl FnMut(u64, u64) -> Result<(), AdminError>,
) -> Result<Backup, AdminError> {
    let failed =
        |source: io::Error| AdminError::Backup { destination: destination.to_owned(), why: source.to_string() };
    let (parent, name) = place(destination)?;
    let prefix = format!(".{name}.partial-");
    let private = Permissions::from_mode(0o700);
    let partial = tempfile::Builder::new().prefix(&prefix).permissions(private).tempdir_in(&parent).map_err(failed)?;
    let path = partial.path().join(FILE);
    let events = copy_to(source, &path, now_ms, compacting, &mut progress).map_err(|error| match error {
        CopyError::Stopped(error) => error,
        CopyError::Failed(error) => AdminError::Backup { destination: destination.to_owned(), why: error.to_string() },
    })?;
    // redb syncs what it holds; the names are what is left.
    File::open(&path).and_then(|file| file.sync_all()).map_err(failed)?;
    File::open(partial.path()).and_then(|directory| directory.sync_all()).map_err(failed)?;
    let bytes = fs::metadata(&path).map_err(failed)?.len();
    // Fails where there is something by now, unless it is an empty directory.
    fs::rename(partial.path(), destination).map_err(failed)?;
    // It has no file left to remove.
    let _ = partial.keep();
    File::open(&parent).and_then(|directory| directory.sync_all()).map_err(failed)?;
    Ok(Backup { path: destination.display().to_string(), events, bytes })
}

/// The directory that is to hold the backup, and the backup's name.
fn place(destination: &Path) -> Result<(PathBuf, String), AdminError> {
    if destination.symlink_metadata().is_ok() {
        return Err(AdminError::Exists { path: destination.to_owned() });
    }
    match (destination.parent(), destination.file_name()) {
        (Some(parent), Some(name)) if destination.is_absolute() => {
            Ok((parent.to_owned(), name.to_string_lossy().into_owned()))
        }
        _ => Err(AdminError::Backup {
            destination: destination.to_owned(),
            why: "it is no absolute path of a directory to make".to_owned(),
        }),
    }
}

enum CopyError {
    Stopped(AdminError),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for CopyError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Returns how many events there are.
fn copy_to(
    source: &Database,
    path: &Path,
    now_ms: u64,
    compacting: Progress,
    progress: &mut dyn FnMut(u64, u64) -> Result<(), AdminError>,
) -> Result<u64, CopyError> {
    let from = source.begin_read()?;
    create_private(path)?;
    let copy = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
    let to = copy.begin_write()?;
    let mut total = 0;
    for table in from.list_tables()? {
        if !TABLES.contains(&table.name()) {
            let message = format!("its table {} isn't one that this program knows", table.name());
            return Err(redb::Error::Corrupted(message).into());
        }
        total += from.open_untyped_table(table)?.len()?;
    }
    let mut done = 0;
    let mut tick = || {
        done += 1;
        if done % PROGRESS_STEP == 0 { progress(done, total).map_err(CopyError::Stopped) } else { Ok(()) }
    };
    copy_table(&from, &to, store::META, &mut tick)?;
    copy_table(&from, &to, store::EVENTS, &mut tick)?;
    copy_table(&from, &to, store::TOPICS, &mut tick)?;
    copy_table(&from, &to, store::IDS, &mut tick)?;
    copy_table(&from, &to, store::CLASSES, &mut tick)?;
    copy_table(&from, &to, store::STATS, &mut tick)?;
    copy_table(&from, &to, store::NAMES, &mut tick)?;
    copy_table(&from, &to, store::KEYS, &mut tick)?;
    copy_table(&from, &to, store::KEY_ORDER, &mut tick)?;
    to.open_table(store::META)?.insert(BACKUP_AT, now_ms)?;
    to.commit()?;
    let (bytes, used_bytes) = (fs::metadata(path)?.len(), store::used_bytes(&copy)?);
    copy.close()?;
    // A file grows in large steps.
    let watch = Watch::new(compacting, bytes, used_bytes);
    match store::compact_file(&StoreFile::new(path), false, CACHE_BYTES, watch) {
        Ok(true) => {}
        Ok(false) => return Err(CopyError::Stopped(AdminError::Cancelled)),
        Err(OpenError::Database(error)) => return Err(error.into()),
        Err(error) => return Err(io::Error::other(error).into()),
    }
    // Once more: whether all of it was of one moment.
    progress(total, total).map_err(CopyError::Stopped)?;
    Ok(from.open_table(store::EVENTS)?.len()?)
}

fn create_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    to: &WriteTransaction,
    definition: TableDefinition<'static, K, V>,
    tick: &mut impl FnMut() -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let source = from.open_table(definition)?;
    let mut copy = to.open_table(definition)?;
    for entry in source.iter()? {
        let (key, value) = entry?;
        copy.insert(key.value(), value.value())?;
        tick()?;
    }
    Ok(())
}

/// Everything that is copied.
const TABLES: [&str; 9] =
    ["meta", "events", "topics", "ids", "classes", "stats", "class_names", "idempotency_keys", "idempotency_key_order"];
const PROGRESS_STEP: u64 = 1000;
/// What redb keeps of the copy in memory; the rest is on the disk.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
