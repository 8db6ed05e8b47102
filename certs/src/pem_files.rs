//! A real certificate: chain and key from PEM files.

use crate::{Identity, IdentityError};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _, SectionKind},
};
use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Where a certificate chain (leaf first) and its key are. Both may be in one file.
///
/// The key is PKCS#8, SEC1 or PKCS#1, and not encrypted; of several the first counts. [RFC 7468]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// Why a certificate and its key can't be had from their files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no such file.
    #[error("there is no file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file can't be read.
    #[error("can't read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is larger than [`PEM_BYTES_MAX`].
    #[error("{} is larger than {PEM_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file has nothing of PEM in it; it may be DER.
    #[error("{} is not a PEM file: it has no -----BEGIN line", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
    },
    /// The file begins as PEM and is damaged.
    #[error("{} is a damaged PEM file: {reason}", path.display())]
    BadPem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is PEM and holds no certificate.
    #[error("{} holds no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file is PEM and holds no private key.
    #[error("{} holds no private key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is under a passphrase, which a server can't be asked for.
    #[error("the private key in {} is encrypted; decrypt it with `openssl pkey`", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// Each file is well-formed, and what they hold makes no identity.
    #[error("the certificate in {} and the key in {} can't be used together", certificate.display(), key.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
    /// A certificate in the file is damaged.
    #[error("{} holds a certificate that can't be used", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Which one, and what is wrong.
        source: IdentityError,
    },
    /// The key in the file is damaged or not supported.
    #[error("{} holds a private key that can't be used", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
}

impl PemFiles {
    /// Names the two files; they are read by [`PemFiles::load`].
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into() }
    }

    /// The file of the certificate chain.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The file of the private key.
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Reads both files. A certificate that has expired is no error here: see [`Identity::warning`].
    pub fn load(&self) -> Result<Identity, LoadError> {
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        Identity::new(chain, key).map_err(|source| match source {
            IdentityError::Empty | IdentityError::BadCertificate { .. } => {
                LoadError::BadCertificate { path: self.certificate.clone(), source }
            }
            IdentityError::BadKey(_) => LoadError::BadKey { path: self.key.clone(), source },
            IdentityError::LeafNotFirst { .. } | IdentityError::KeyMismatch => {
                LoadError::Mismatch { certificate: self.certificate.clone(), key: self.key.clone(), source }
            }
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let text = read(path)?;
    let sections = sections(&text, path)?;
    let chain: Vec<_> = sections.into_iter().filter_map(|(kind, der)| CertificateDer::from_pem(kind, der)).collect();
    if chain.is_empty() {
        return Err(LoadError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LoadError> {
    let text = read(path)?;
    // Asked first: the parser passes over the one form and stumbles on the headers of the other.
    // [RFC 5958 §3, RFC 1421 §4.6.1.1]
    if ENCRYPTED.iter().any(|mark| contains(&text, mark)) {
        return Err(LoadError::EncryptedKey { path: path.to_owned() });
    }
    let sections = sections(&text, path)?;
    let key = sections.into_iter().find_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    key.ok_or_else(|| LoadError::NoKey { path: path.to_owned() })
}

fn sections(text: &[u8], path: &Path) -> Result<Vec<(SectionKind, Vec<u8>)>, LoadError> {
    if !contains(text, b"-----BEGIN ") {
        return Err(LoadError::NotPem { path: path.to_owned() });
    }
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| LoadError::BadPem { path: path.to_owned(), reason: reason(&error) })
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LoadError::Missing { path: path.to_owned() },
        _ => LoadError::Read { path: path.to_owned(), source },
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fail)?;
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(LoadError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// The parser's own text shows lines as lists of byte values.
fn reason(error: &pem::Error) -> String {
    match error {
        // The label alone, whatever the field's name says.
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("the section {:?} has no end", String::from_utf8_lossy(end_marker))
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("the line {:?} is not well-formed", String::from_utf8_lossy(line).trim_end())
        }
        other => other.to_string(),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The largest file that is read, 1 MiB: hundreds of certificates.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// How an encrypted key shows: PKCS#8, and OpenSSL's older form.
const ENCRYPTED: [&[u8]; 2] = [b"-----BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];

#[cfg(test)]
mod tests;
