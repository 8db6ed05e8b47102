//! Makes a development identity.

use crate::{Identity, IdentityError, SubjectName};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

/// Why an identity can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The clock shows a time that no certificate can tell.
    #[error("the clock shows a time before 1970 or after 9999")]
    Clock,
    /// More names than [`NAMES_MAX`].
    #[error("{count} names are more than the {NAMES_MAX} that a development identity can have")]
    TooManyNames {
        /// How many there were.
        count: usize,
    },
    /// The certificate can't be made.
    #[error("can't make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// What was made can't be understood again.
    #[error("can't use the certificate just made: {reason}")]
    Reread {
        /// What is wrong with it.
        reason: String,
    },
}

/// Makes a development identity that is kept nowhere, with these names besides `localhost`, `127.0.0.1` and `::1`:
/// ECDSA P-256, self-signed, valid from an hour before `now` until 13 days after.
///
/// Its hash holds for as long as somebody holds the value; to keep one between runs, see
/// [`DevDirectory`](crate::DevDirectory).
pub fn issue_dev_identity(names: &[SubjectName], now: SystemTime) -> Result<Identity, IssueError> {
    Ok(Pair::issue(&with_names_of_this_machine(names), now)?.identity)
}

/// An identity with the PEM text that it came from.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) identity: Identity,
    /// The certificate, then the key.
    pub(super) pem: String,
}

/// Why a text is no such pair.
#[derive(Debug, thiserror::Error)]
pub(super) enum PairError {
    #[error("not a certificate and a key in PEM: {0}")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Pair {
    pub(super) fn issue(names: &[SubjectName], now: SystemTime) -> Result<Self, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params(names, now)?.self_signed(&key)?;
        Self::parse(&(certificate.pem() + &key.serialize_pem()))
            .map_err(|error| IssueError::Reread { reason: error.to_string() })
    }

    pub(super) fn parse(pem: &str) -> Result<Self, PairError> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())?;
        let pem = format!("{}\n", pem.trim());
        Ok(Self { identity: Identity::new(vec![certificate], key)?, pem })
    }
}

/// These names and those that every development identity has, in order, each once.
pub(super) fn with_names_of_this_machine(names: &[SubjectName]) -> Vec<SubjectName> {
    let mut all: Vec<_> = SubjectName::of_this_machine().into_iter().chain(names.iter().cloned()).collect();
    all.sort();
    all.dedup();
    all
}

fn params(names: &[SubjectName], now: SystemTime) -> Result<CertificateParams, IssueError> {
    if names.len() > NAMES_MAX {
        return Err(IssueError::TooManyNames { count: names.len() });
    }
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = validity(now)?;
    params.subject_alt_names = names.iter().map(san).collect::<Result<_, _>>()?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Fanwire development");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn validity(now: SystemTime) -> Result<(OffsetDateTime, OffsetDateTime), IssueError> {
    let now = now.duration_since(UNIX_EPOCH).map_err(|_| IssueError::Clock)?;
    let at = |since: Option<Duration>| {
        let unix_s = i64::try_from(since.ok_or(IssueError::Clock)?.as_secs()).map_err(|_| IssueError::Clock)?;
        OffsetDateTime::from_unix_timestamp(unix_s).map_err(|_| IssueError::Clock)
    };
    Ok((at(now.checked_sub(BACKDATED))?, at(now.checked_add(LIFETIME))?))
}

fn san(name: &SubjectName) -> Result<SanType, rcgen::Error> {
    Ok(match name.ip() {
        Some(address) => SanType::IpAddress(address),
        None => SanType::DnsName(name.to_string().try_into()?),
    })
}

/// How many names a development identity can have: 64, a certificate of 2 KiB or so.
pub const NAMES_MAX: usize = 64;

/// How far back validity reaches, for clients whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// How far ahead it reaches. Both together stay below 14 days by 23 hours.
const LIFETIME: Duration = Duration::from_secs(13 * 24 * 60 * 60);
