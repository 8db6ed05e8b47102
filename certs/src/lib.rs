//! Fanwire's certificates.
//!
//! A hub needs one identity, a certificate chain and its key, and serves it on TCP and on QUIC alike. It comes from
//! one of two places:
//!
//! - [`DevDirectory`] keeps a **development identity**: self-signed, short-lived, accepted by browsers because its
//!   SHA-256 is given to them (`serverCertificateHashes`). It is kept between runs and replaced before it ends, and the
//!   hash of its successor is told ahead, so that nobody's hash goes stale unannounced.
//! - [`PemFiles`] reads a **real certificate** and its key, and says precisely what is wrong where it can't.
//!
//! [`CertResolver`] holds whichever it is and hands it to rustls. [`CertResolver::reload`] replaces it while handshakes
//! go on; connections that stand keep what they were opened with. [`tcp_server_config`] and [`quic_server_config`] make
//! the two TLS configurations that share one resolver.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use fanwire_certs::{ALPN_TCP, CertResolver, DevDirectory, Source, quic_server_config, tcp_server_config};
//! use std::{sync::Arc, time::SystemTime};
//!
//! fanwire_certs::install_crypto_provider();
//! let source = Source::Dev(DevDirectory::new("/home/me/.local/state/fanwire"));
//! let certificates = Arc::new(CertResolver::open(source, SystemTime::now())?);
//! let tcp = tcp_server_config(certificates.clone(), ALPN_TCP)?;
//! let quic = quic_server_config(certificates.clone())?;
//! // Every hour, and when asked to: the old identity stays where this fails.
//! certificates.reload(SystemTime::now())?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here reads a clock: every operation that depends on the time takes it. All file access blocks, for a few
//! milliseconds as a rule and for two seconds at the worst (see [`DevError::Busy`]).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod crypto;
mod dev;
mod fingerprint;
mod identity;
mod pem_files;
mod resolver;
mod server_config;
mod subject_name;
#[cfg(test)]
mod testing;

pub use crypto::install_crypto_provider;
pub use dev::{
    ANNOUNCED_BEFORE_END, DevDirectory, DevError, DevIdentity, IssueError, NAMES_MAX, ROTATED_BEFORE_END,
    issue_dev_identity,
};
pub use fingerprint::Fingerprint;
pub use identity::{Identity, IdentityError, PINNED_PERIOD_MAX, ValidityWarning};
pub use pem_files::{LoadError, PEM_BYTES_MAX, PemFiles};
pub use resolver::{CertResolver, Reload, ReloadError, Source};
pub use server_config::{ALPN_QUIC, ALPN_TCP, ServerConfigError, quic_server_config, tcp_server_config};
pub use subject_name::{BadSubjectName, SubjectName};
