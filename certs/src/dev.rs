//! The development identity: self-signed, accepted by browsers by its hash, and always with enough of its life left.
//!
//! Browsers take a certificate by its hash only while it is valid for at most 14 days, so it changes often, and a
//! client that fetched the hashes before a change must not be left outside after it. The life of one, in days:
//!
//! ```text
//! 0                                  9            10                       13
//! ├──────────── current ─────────────┼── current ─┤                        end
//!                                    └── next ────┼──────── current ───────────…
//!                hashes: [this]        [this, next]  [next]
//! ```
//!
//! From [`ANNOUNCED_BEFORE_END`] on there is a successor, and its hash is told; [`ROTATED_BEFORE_END`] it takes over.
//! A directory that nobody opened in between gets a new identity at once.

mod issue;
mod store;

pub use issue::{IssueError, NAMES_MAX, issue_dev_identity};

use crate::{Fingerprint, Identity, SubjectName, identity::rfc3339};
use issue::{Pair, with_names_of_this_machine};
use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use store::{Store, Stored};

/// The directory in which a development identity is kept between runs, and the names it shall have.
///
/// It holds `dev-identity.pem` (certificate and key of the current identity, then of the next; mode 0600) and
/// `dev-identity.lock`. Several processes may share it: they come to share one identity. A file that is damaged is
/// replaced with a warning, for a development identity is worth nothing; one that can't be read or written is an error.
#[derive(Debug, Clone)]
pub struct DevDirectory {
    path: PathBuf,
    names: Vec<SubjectName>,
}

/// What a [`DevDirectory`] held, or was given, at one time.
#[derive(Debug, Clone)]
pub struct DevIdentity {
    current: Identity,
    next: Option<Identity>,
}

/// Why a directory yields no development identity. Each names the path in question.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevError {
    /// The directory isn't there and can't be made.
    #[error("can't create the directory {}", path.display())]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file of the identity is there and can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file can't be written, or not put in its place.
    #[error("can't write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The lock can't be had at all.
    #[error("can't lock {}", path.display())]
    Lock {
        /// The lock's file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process has held the lock for two seconds; it needs milliseconds, so it hangs.
    #[error("another process holds the lock {}", path.display())]
    Busy {
        /// The lock's file.
        path: PathBuf,
    },
    /// A new identity can't be made.
    #[error("can't make a development identity for {}", path.display())]
    Issue {
        /// The file it was meant for.
        path: PathBuf,
        /// What is wrong.
        source: IssueError,
    },
}

impl DevDirectory {
    /// A directory, made by [`DevDirectory::load`] with mode 0700 where there is none.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), names: with_names_of_this_machine(&[]) }
    }

    /// Names that the identity shall have besides `localhost`, `127.0.0.1` and `::1`.
    ///
    /// An identity without them is replaced at once. A new one keeps the names of the one before, so that processes
    /// with different names can share a directory.
    #[must_use]
    pub fn with_names(mut self, names: impl IntoIterator<Item = SubjectName>) -> Self {
        self.names.extend(names);
        self.names.sort();
        self.names.dedup();
        self
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that holds certificate and key, for clients that want to trust it (`curl --cacert`).
    pub fn file(&self) -> PathBuf {
        Store::new(&self.path).file()
    }

    /// Reads what is there, and makes what is missing or due at `now`.
    ///
    /// Call it again, hourly say, for as long as the identity is served. It writes only where something changes.
    pub fn load(&self, now: SystemTime) -> Result<DevIdentity, DevError> {
        let store = Store::new(&self.path);
        if let Some(settled) = self.settled(store.read()?, now) {
            return Ok(settled);
        }
        let lock = store.lock()?;
        // Read again: another process may have been here first.
        let stored = store.read()?;
        for flaw in &stored.flaws {
            tracing::warn!(path = %store.file().display(), %flaw, "replacing the development identity's file");
        }
        let pairs = self.renewed(&stored, now).map_err(|source| DevError::Issue { path: store.file(), source })?;
        if !stored.flaws.is_empty() || !same(&pairs, &stored.pairs) {
            store.write(&pairs)?;
        }
        drop(lock);
        Ok(DevIdentity::of(pairs).expect("renewed() makes a current identity where there is none"))
    }

    /// What was stored, if it can stay as it is.
    fn settled(&self, stored: Stored, now: SystemTime) -> Option<DevIdentity> {
        let kept = self.kept(&stored, now);
        let stays =
            stored.flaws.is_empty() && same(&kept, &stored.pairs) && !kept.is_empty() && !is_next_due(&kept, now);
        stays.then(|| DevIdentity::of(kept)).flatten()
    }

    /// What can still be served: the current one first, and never more than that and its successor.
    fn kept(&self, stored: &Stored, now: SystemTime) -> Vec<Pair> {
        let is_fit = |pair: &&Pair| {
            let names = pair.identity.names();
            pair.identity.warning(now).is_none()
                && remaining(&pair.identity, now) >= ROTATED_BEFORE_END
                && self.names.iter().all(|name| names.contains(name))
        };
        stored.pairs.iter().filter(is_fit).take(2).cloned().collect()
    }

    fn renewed(&self, stored: &Stored, now: SystemTime) -> Result<Vec<Pair>, IssueError> {
        let mut pairs = self.kept(stored, now);
        let names = self.names_to_issue(stored);
        if pairs.is_empty() {
            pairs.push(issue_and_tell(&names, now, "current")?);
        }
        if is_next_due(&pairs, now) {
            pairs.push(issue_and_tell(&names, now, "next")?);
        }
        Ok(pairs)
    }

    fn names_to_issue(&self, stored: &Stored) -> Vec<SubjectName> {
        let before = stored.pairs.iter().flat_map(|pair| pair.identity.names());
        let mut all: Vec<_> = self.names.iter().cloned().chain(before).collect();
        all.sort();
        all.dedup();
        if all.len() <= NAMES_MAX { all } else { self.names.clone() }
    }
}

impl DevIdentity {
    /// The identity to serve.
    pub fn current(&self) -> &Identity {
        &self.current
    }

    /// Its successor, from [`ANNOUNCED_BEFORE_END`] on.
    pub fn next(&self) -> Option<&Identity> {
        self.next.as_ref()
    }

    /// The hashes of the certificates that clients should accept: the current one's and, if there is one, its
    /// successor's.
    pub fn hashes(&self) -> Vec<Fingerprint> {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten().map(Identity::fingerprint).collect()
    }

    /// The first, the second.
    fn of(pairs: Vec<Pair>) -> Option<Self> {
        let mut identities = pairs.into_iter().map(|pair| pair.identity);
        Some(Self { current: identities.next()?, next: identities.next() })
    }
}

fn is_next_due(pairs: &[Pair], now: SystemTime) -> bool {
    matches!(pairs, [current] if remaining(&current.identity, now) < ANNOUNCED_BEFORE_END)
}

fn issue_and_tell(names: &[SubjectName], now: SystemTime, role: &str) -> Result<Pair, IssueError> {
    let pair = Pair::issue(names, now)?;
    let identity = &pair.identity;
    let not_after = rfc3339(identity.not_after());
    tracing::info!(role, sha256 = %identity.fingerprint(), not_after, "made a development identity");
    Ok(pair)
}

fn same(some: &[Pair], others: &[Pair]) -> bool {
    let fingerprints = |pairs: &[Pair]| pairs.iter().map(|pair| pair.identity.fingerprint()).collect::<Vec<_>>();
    fingerprints(some) == fingerprints(others)
}

fn remaining(identity: &Identity, now: SystemTime) -> Duration {
    identity.not_after().duration_since(now).unwrap_or_default()
}

/// How long before its end an identity's successor is made and its hash told: 4 days.
pub const ANNOUNCED_BEFORE_END: Duration = Duration::from_secs(4 * 24 * 60 * 60);

/// How long before its end an identity is replaced by its successor: 3 days.
pub const ROTATED_BEFORE_END: Duration = Duration::from_secs(3 * 24 * 60 * 60);

#[cfg(test)]
mod tests;
