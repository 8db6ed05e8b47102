//! A certificate chain with its key.

use crate::{Fingerprint, SubjectName, crypto};
use rustls::{InconsistentKeys, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::{
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY},
    prelude::{FromDer as _, X509Certificate},
};

/// What a server shows in a handshake: a certificate, its chain, and the private key that belongs to it.
///
/// The key is known to match (where its algorithm lets that be told), and every certificate to be well-formed. Whether
/// the time is right is left open, for that changes: ask [`Identity::warning`]. A clone shares everything.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
    not_before: SystemTime,
    not_after: SystemTime,
    pinnable: bool,
}

/// Why a chain and a key make no identity. Positions count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The chain has no certificate.
    #[error("there is no certificate")]
    Empty,
    /// One of the certificates can't be understood.
    #[error("certificate number {position} can't be understood: {reason}")]
    BadCertificate {
        /// Which one.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is damaged, or of an algorithm that is not supported.
    #[error("the private key is damaged or of a kind that is not supported")]
    BadKey(#[source] rustls::Error),
    /// The key is that of another certificate in the chain than the first.
    #[error("the private key belongs to certificate number {position}, which must come first")]
    LeafNotFirst {
        /// Where the key's certificate stands.
        position: usize,
    },
    /// The key belongs to none of the certificates.
    #[error("the private key doesn't belong to the certificate")]
    KeyMismatch,
}

/// Why clients will refuse a certificate at some time. Serving it is still possible, and sometimes meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValidityWarning {
    /// Its end has passed.
    #[error("the certificate expired at {}", rfc3339(*not_after))]
    Expired {
        /// Its last second.
        not_after: SystemTime,
    },
    /// Its beginning lies ahead, or this machine's clock is behind.
    #[error("the certificate isn't valid before {}", rfc3339(*not_before))]
    NotYetValid {
        /// Its first second.
        not_before: SystemTime,
    },
}

impl Identity {
    /// Puts a chain (leaf first) and a key together.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, IdentityError> {
        for (index, certificate) in chain.iter().enumerate() {
            parse(certificate, index + 1)?;
        }
        let leaf = parse(chain.first().ok_or(IdentityError::Empty)?, 1)?;
        let identity = Self {
            fingerprint: Fingerprint::of(&chain[0]),
            not_before: system_time(leaf.validity().not_before.timestamp()),
            not_after: system_time(leaf.validity().not_after.timestamp()),
            pinnable: is_pinnable(&leaf),
            certified: Arc::new(certify(&chain, key)?),
        };
        Ok(identity)
    }

    /// The chain, leaf first, never empty.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Chain and key as rustls wants them.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// The SHA-256 of the leaf certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The leaf's first second.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The leaf's last second.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The host names and addresses that the leaf is valid for, wildcards left out.
    pub fn names(&self) -> Vec<SubjectName> {
        SubjectName::all_of(&self.certified.cert[0])
    }

    /// Whether clients need the certificate's hash and browsers will take it: it is self-signed, ECDSA P-256, and
    /// valid for no longer than [`PINNED_PERIOD_MAX`] in all.
    // [W3C WebTransport §Verify a certificate hash, Custom certificate requirements]
    pub fn is_pinnable(&self) -> bool {
        self.pinnable
    }

    /// Why clients refuse the leaf at `now`, if they do.
    pub fn warning(&self, now: SystemTime) -> Option<ValidityWarning> {
        if now > self.not_after {
            Some(ValidityWarning::Expired { not_after: self.not_after })
        } else if now < self.not_before {
            Some(ValidityWarning::NotYetValid { not_before: self.not_before })
        } else {
            None
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("fingerprint", &self.fingerprint)
            .field("certificates", &self.certified.cert.len())
            .field("not_after", &rfc3339(self.not_after))
            .finish_non_exhaustive()
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>, position: usize) -> Result<X509Certificate<'a>, IdentityError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        Ok(_) => Err(IdentityError::BadCertificate { position, reason: "bytes follow it".to_owned() }),
        Err(error) => Err(IdentityError::BadCertificate { position, reason: error.to_string() }),
    }
}

fn certify(chain: &[CertificateDer<'static>], key: PrivateKeyDer<'static>) -> Result<CertifiedKey, IdentityError> {
    let key = crypto::provider().key_provider.load_private_key(key).map_err(IdentityError::BadKey)?;
    let certified = CertifiedKey::new(chain.to_vec(), Arc::clone(&key));
    match certified.keys_match() {
        // rustls can't tell for every key; those of our provider can, so this is the exception.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let matches = |other: &CertificateDer<'static>| {
                CertifiedKey::new(vec![other.clone()], Arc::clone(&key)).keys_match().is_ok()
            };
            Err(match chain.iter().position(matches) {
                Some(index) => IdentityError::LeafNotFirst { position: index + 1 },
                None => IdentityError::KeyMismatch,
            })
        }
        Err(error) => Err(IdentityError::BadCertificate { position: 1, reason: error.to_string() }),
    }
}

fn is_pinnable(leaf: &X509Certificate<'_>) -> bool {
    let algorithm = &leaf.public_key().algorithm;
    let is_p256 = algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.as_oid().ok())
            .is_some_and(|curve| curve == OID_EC_P256);
    let period_s = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    let is_short = u64::try_from(period_s).is_ok_and(|period_s| period_s <= PINNED_PERIOD_MAX.as_secs());
    is_p256 && is_short && leaf.subject().as_raw() == leaf.issuer().as_raw()
}

fn system_time(unix_s: i64) -> SystemTime {
    let distance = Duration::from_secs(unix_s.unsigned_abs());
    let time = if unix_s < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    // An X.509 time has a year of four digits, which every platform can count but for the far past on some.
    time.unwrap_or(UNIX_EPOCH)
}

pub(crate) fn rfc3339(time: SystemTime) -> String {
    let unix_s = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    };
    let date = OffsetDateTime::from_unix_timestamp(unix_s).ok().and_then(|date| date.format(&Rfc3339).ok());
    date.unwrap_or_else(|| format!("second {unix_s} of the unix epoch"))
}

/// The longest validity, first to last second, with which browsers take a certificate by its hash: 14 days.
pub const PINNED_PERIOD_MAX: Duration = Duration::from_secs(14 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DAY, ec_fixture, fixture, self_signed, start};
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn fingerprints_are_those_that_openssl_computes() {
        let identity = ec_fixture();
        assert_eq!(identity.fingerprint().to_string(), EC_CERTIFICATE);
    }

    #[test]
    fn a_year_is_too_long_to_be_pinned() {
        assert!(!ec_fixture().is_pinnable());
        assert!(self_signed(&rcgen::PKCS_ECDSA_P256_SHA256, 14 * DAY).is_pinnable());
        assert!(!self_signed(&rcgen::PKCS_ECDSA_P256_SHA256, 14 * DAY + Duration::from_secs(1)).is_pinnable());
    }

    #[test]
    fn only_p256_can_be_pinned() {
        assert!(!self_signed(&rcgen::PKCS_ECDSA_P384_SHA384, DAY).is_pinnable());
        assert!(!self_signed(&rcgen::PKCS_ED25519, DAY).is_pinnable());
    }

    #[test]
    fn the_time_makes_a_warning_not_an_error() {
        let identity = self_signed(&rcgen::PKCS_ECDSA_P256_SHA256, DAY);
        assert_eq!(identity.warning(start()), None);
        assert_eq!(identity.warning(start() + DAY), None);
        let expired = identity.warning(start() + DAY + Duration::from_secs(1)).unwrap();
        assert_eq!(expired.to_string(), "the certificate expired at 2026-01-02T00:00:00Z");
        let early = identity.warning(start() - Duration::from_secs(1)).unwrap();
        assert_eq!(early.to_string(), "the certificate isn't valid before 2026-01-01T00:00:00Z");
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", ec_fixture());
        assert!(shown.starts_with("Identity { fingerprint: ") && shown.len() < 200, "{shown}");
    }

    #[test]
    fn bytes_after_a_certificate_are_refused() {
        let mut der = ec_fixture().chain()[0].to_vec();
        der.push(0);
        let key = PrivateKeyDer::from_pem_slice(fixture("ec.pkcs8.pem").as_bytes()).unwrap();
        let error = Identity::new(vec![der.into()], key).unwrap_err();
        assert!(matches!(error, IdentityError::BadCertificate { position: 1, .. }), "{error}");
    }

    #[test]
    fn an_empty_chain_is_refused() {
        let key = PrivateKeyDer::from_pem_slice(fixture("ec.pkcs8.pem").as_bytes()).unwrap();
        assert!(matches!(Identity::new(Vec::new(), key), Err(IdentityError::Empty)));
    }

    /// `openssl x509 -in ec.cert.pem -outform der | openssl dgst -sha256 -binary | base64`
    const EC_CERTIFICATE: &str = "JS74YwPgNeWjJhbwTqFqs1YiPxOUYG5Z7pCQXbK4QJc=";
}
