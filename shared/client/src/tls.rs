//! Whom to trust, and how a stranger is named.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};

use crate::{ConnectError, target::Place};

/// Which certificates are the hub's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Those that the system's roots vouch for, and that name the host.
    #[default]
    System,
    /// Those with one of these hashes, whoever signed them, whatever they name and however old they are.
    Pinned(Vec<CertificateHash>),
    /// Any. Whoever sits in between can read and change everything.
    Insecure,
}

/// The SHA-256 hash of a whole certificate, in DER; what browsers call a server certificate hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificateHash(pub [u8; 32]);

impl CertificateHash {
    /// The hash of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CertificateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CertificateHash {
    type Err = CertificateHashError;

    /// Reads 64 hexadecimal digits, with or without colons, or base64.
    fn from_str(text: &str) -> Result<Self, CertificateHashError> {
        let digits: Option<Vec<u8>> =
            text.chars().filter(|&c| c != ':').map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
        let bytes = match digits {
            Some(digits) if digits.len() == 64 => digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect(),
            _ => BASE64_STANDARD.decode(text).map_err(|_| CertificateHashError)?,
        };
        bytes.try_into().map(Self).map_err(|_| CertificateHashError)
    }
}

/// A text is no SHA-256 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate's sha-256 hash is 64 hexadecimal digits, or 44 characters of base64")]
pub struct CertificateHashError;

/// The provider and the roots, made once.
#[derive(Debug, Default)]
pub(crate) struct Authorities {
    provider: OnceLock<Arc<CryptoProvider>>,
    system: OnceLock<Option<Arc<WebPkiServerVerifier>>>,
}

impl Authorities {
    fn provider(&self) -> Arc<CryptoProvider> {
        self.provider.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())).clone()
    }

    /// None if the system has no roots.
    fn system(&self) -> Option<Arc<WebPkiServerVerifier>> {
        self.system
            .get_or_init(|| {
                let loaded = rustls_native_certs::load_native_certs();
                for error in &loaded.errors {
                    tracing::warn!(%error, "a root certificate can't be loaded");
                }
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(loaded.certs);
                WebPkiServerVerifier::builder_with_provider(roots.into(), self.provider()).build().ok()
            })
            .clone()
    }

    /// A configuration for one handshake. Sessions aren't resumed: every connection stands for itself.
    pub(crate) fn handshake(&self, place: &Place, trust: &Trust, alpn: &[&[u8]]) -> Result<Handshake, ConnectError> {
        let system = match trust {
            Trust::System => Some(
                self.system()
                    .ok_or_else(|| ConnectError::tls(place, "the system has no root certificates", "no roots"))?,
            ),
            _ => None,
        };
        let provider = self.provider();
        let verifier =
            Arc::new(Verifier { trust: trust.clone(), system, provider: provider.clone(), refused: OnceLock::new() });
        let versions: &[_] = if alpn == [b"h3"] {
            &[&rustls::version::TLS13]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| ConnectError::tls(place, "the cryptography lacks what tls needs", error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::disabled();
        Ok(Handshake { config: Arc::new(config), verifier })
    }
}

/// What one TLS handshake needs, and what came of it.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

impl Handshake {
    /// The certificate was the reason why the handshake failed.
    pub(crate) fn untrusted(&self, place: &Place) -> Option<ConnectError> {
        let Refused { why, hash } = self.verifier.refused.get()?.clone();
        Some(ConnectError::Untrusted { place: place.to_string(), why, hash })
    }
}

/// Checks a certificate, and keeps why it was refused: QUIC would only hand a text on.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    system: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    refused: OnceLock<Refused>,
}

#[derive(Debug, Clone)]
struct Refused {
    why: String,
    hash: CertificateHash,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash = CertificateHash::of(end_entity);
        let verdict = match (&self.trust, &self.system) {
            (Trust::Insecure, _) => return Ok(ServerCertVerified::assertion()),
            (Trust::Pinned(hashes), _) if hashes.contains(&hash) => return Ok(ServerCertVerified::assertion()),
            (Trust::System, Some(system)) => {
                system.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            _ => Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        };
        verdict.inspect_err(|error| {
            let why = match error {
                rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
                    "it has none of the pinned hashes".to_owned()
                }
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    "no root of this system signed it".to_owned()
                }
                other => other.to_string(),
            };
            self.refused.get_or_init(|| Refused { why, hash });
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_as_people_write_them() {
        let hash = CertificateHash::of(b"x");
        let hex = hash.to_string();
        let colons =
            hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect::<Vec<_>>().join(":");
        for text in [hex.clone(), hex.to_uppercase(), colons, BASE64_STANDARD.encode(hash.0)] {
            assert_eq!(text.parse(), Ok(hash), "{text}");
        }
        for bad in ["", "00", &hex[1..], "ümlaut", &BASE64_STANDARD.encode([0; 31])] {
            assert_eq!(bad.parse::<CertificateHash>(), Err(CertificateHashError), "{bad}");
        }
    }
}
