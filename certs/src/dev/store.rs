//! The files of a development identity.
//!
//! One file holds everything, so that one rename changes everything: a reader without the lock sees a whole state, the
//! old or the new. Writers take turns by a lock on a file of its own, which the system frees if they die.

use super::{
    DevError,
    issue::{Pair, PairError},
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

pub(super) struct Store<'a> {
    directory: &'a Path,
}

/// What the file held.
#[derive(Default)]
pub(super) struct Stored {
    /// The current identity, then the next.
    pub(super) pairs: Vec<Pair>,
    /// Why the file is to be written anew.
    pub(super) flaws: Vec<Flaw>,
}

/// What is wrong with a file that could be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Flaw {
    #[error("it is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is not text")]
    NotText,
    #[error("an identity in it is damaged: {0}")]
    Damaged(#[source] PairError),
    #[error("a certificate in it is none that browsers accept by its hash")]
    NotPinnable,
    #[error("its mode {0:03o} lets others at the key")]
    Exposed(u32),
}

/// Writers wait for each other while one of these exists.
pub(super) struct Lock {
    _file: File,
}

impl<'a> Store<'a> {
    pub(super) fn new(directory: &'a Path) -> Self {
        Self { directory }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.directory.join("dev-identity.pem")
    }

    /// A missing file is an empty one.
    pub(super) fn read(&self) -> Result<Stored, DevError> {
        let fail = |source| DevError::Read { path: self.file(), source };
        let file = match File::open(self.file()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stored::default()),
            Err(error) => return Err(fail(error)),
        };
        let mode = exposed_mode(&file).map_err(fail)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
        let mut stored = parse(bytes);
        stored.flaws.extend(mode.map(Flaw::Exposed));
        Ok(stored)
    }

    /// Waits for its turn to write, making the directory if need be.
    #[expect(
        clippy::disallowed_methods,
        reason = "reading and writing files blocks as well; callers keep it off the shards"
    )]
    pub(super) fn lock(&self) -> Result<Lock, DevError> {
        self.create_directory()?;
        let path = self.directory.join("dev-identity.lock");
        let file = match private().create(true).truncate(false).open(&path) {
            Ok(file) => file,
            Err(source) => return Err(DevError::Lock { path, source }),
        };
        for _ in 0..LOCK_ATTEMPTS_MAX {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_RETRY),
                Err(TryLockError::Error(source)) => return Err(DevError::Lock { path, source }),
            }
        }
        Err(DevError::Busy { path })
    }

    /// Replaces the file. To be called under the lock, for the temporary file has a fixed name.
    pub(super) fn write(&self, pairs: &[Pair]) -> Result<(), DevError> {
        let text: String = pairs.iter().map(|pair| pair.pem.as_str()).collect();
        let temporary = self.directory.join("dev-identity.pem.tmp");
        write_new(&temporary, text.as_bytes()).map_err(|source| DevError::Write { path: temporary.clone(), source })?;
        fs::rename(&temporary, self.file()).map_err(|source| DevError::Write { path: self.file(), source })
    }

    fn create_directory(&self) -> Result<(), DevError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(self.directory)
            .map_err(|source| DevError::CreateDirectory { path: self.directory.to_owned(), source })
    }
}

fn parse(bytes: Vec<u8>) -> Stored {
    let mut stored = Stored::default();
    if bytes.len() as u64 > FILE_BYTES_MAX {
        stored.flaws.push(Flaw::TooLarge);
        return stored;
    }
    let Ok(text) = String::from_utf8(bytes) else {
        stored.flaws.push(Flaw::NotText);
        return stored;
    };
    // Each identity by itself: a damaged one doesn't take the other with it.
    let parts = text.split_inclusive(KEY_END).filter(|part| !part.trim().is_empty());
    for part in parts {
        match Pair::parse(part) {
            Ok(pair) if pair.identity.is_pinnable() => stored.pairs.push(pair),
            Ok(_) => stored.flaws.push(Flaw::NotPinnable),
            Err(error) => stored.flaws.push(Flaw::Damaged(error)),
        }
    }
    stored
}

/// Writes a file that must not be there, gone from an earlier attempt if need be, down to the disk.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private().create_new(true).open(path)?;
    file.write_all(bytes)?;
    // Or a crash after the rename could leave an empty file in the place of a good one.
    file.sync_all()
}

/// To write a file that only its owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// The file's mode, if it lets anybody in but its owner.
#[cfg(unix)]
fn exposed_mode(file: &File) -> io::Result<Option<u32>> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(not(unix))]
fn exposed_mode(_: &File) -> io::Result<Option<u32>> {
    Ok(None)
}

/// Two identities with 64 names each take less than 16 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// With the wait between two attempts, two seconds in all.
const LOCK_ATTEMPTS_MAX: u32 = 200;
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The key comes last in each identity.
const KEY_END: &str = "-----END PRIVATE KEY-----";
