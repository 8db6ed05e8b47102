//! Fanwire's certificates: identities and where they come from.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod crypto;
mod dev;
mod fingerprint;
mod identity;
mod pem_files;
mod subject_name;
#[cfg(test)]
mod testing;

pub use crypto::install_crypto_provider;
pub use dev::{
    ANNOUNCED_BEFORE_END, DevDirectory, DevError, DevIdentity, IssueError, NAMES_MAX,
    ROTATED_BEFORE_END, issue_dev_identity,
};
pub use fingerprint::Fingerprint;
pub use identity::{Identity, IdentityError, PINNED_PERIOD_MAX, ValidityWarning};
pub use pem_files::{LoadError, PEM_BYTES_MAX, PemFiles};
pub use subject_name::{BadSubjectName, SubjectName};
