//! Keys that tokens are verified with, each with the algorithms that it is for.

use std::fmt;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};

/// A key of one issuer. It verifies the algorithms that were allowed for it and that its kind has, and no other, whatever a token says.
#[derive(Clone)]
pub struct Key {
    /// As the key's set names it.
    pub(super) id: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) decoding: DecodingKey,
}

/// Why something is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A secret that can be guessed. [RFC 7518 §3.2, RFC 8725 §3.5]
    #[error("a secret has at least {SECRET_BYTES_MIN} bytes")]
    ShortSecret,
    /// What signs is nothing for who verifies.
    #[error("it is a private key: the hub wants the public one (`openssl pkey -in private.pem -pubout`)")]
    Private,
    /// No PEM of a key.
    #[error("it is no public key in PEM (`-----BEGIN PUBLIC KEY-----`) for RSA, ECDSA on P-256 or P-384, or Ed25519")]
    Pem,
    /// Algorithms that the key can't verify.
    #[error("a key of this kind can't verify {0}")]
    Algorithms(String),
    /// A JWK that isn't understood.
    #[error("a jwk that is no key for signatures")]
    Jwk,
}

impl Key {
    /// A secret that the issuer shares. `allowed`: empty for HS256, HS384 and HS512.
    pub fn secret(secret: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::ShortSecret);
        }
        Self::new(None, DecodingKey::from_secret(secret), allowed)
    }

    /// A public key in PEM. `allowed`: empty for every algorithm of its kind.
    pub fn pem(pem: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyError> {
        if pem.windows(PRIVATE.len()).any(|window| window == PRIVATE) {
            return Err(KeyError::Private);
        }
        if pem.windows(CERTIFICATE.len()).any(|window| window == CERTIFICATE) {
            return Err(KeyError::Pem);
        }
        let key = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem));
        Self::new(None, key.map_err(|_| KeyError::Pem)?, allowed)
    }

    /// A key of a JWK set. [RFC 7517]
    pub fn jwk(jwk: &Jwk, allowed: &[Algorithm]) -> Result<Self, KeyError> {
        let common = &jwk.common;
        let for_signatures = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
        let verifies = |operations: &Vec<KeyOperations>| operations.contains(&KeyOperations::Verify);
        if !for_signatures || !common.key_operations.as_ref().is_none_or(verifies) {
            return Err(KeyError::Jwk);
        }
        let curve = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(parameters) => Some(&parameters.curve),
            AlgorithmParameters::OctetKeyPair(parameters) => Some(&parameters.curve),
            _ => None,
        };
        if !matches!(curve, None | Some(EllipticCurve::P256 | EllipticCurve::P384 | EllipticCurve::Ed25519)) {
            return Err(KeyError::Jwk);
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| KeyError::Jwk)?;
        if key.family() == AlgorithmFamily::Hmac && key.try_get_as_bytes().is_ok_and(|it| it.len() < SECRET_BYTES_MIN) {
            return Err(KeyError::ShortSecret);
        }
        let mut key = Self::new(common.key_id.clone(), key, allowed)?;
        if let Some(named) = &common.key_algorithm {
            key.algorithms.retain(|&algorithm| KeyAlgorithm::from(algorithm) == *named);
        }
        if key.algorithms.is_empty() { Err(KeyError::Jwk) } else { Ok(key) }
    }

    /// Whether it is a secret, and no public key.
    pub fn is_secret(&self) -> bool {
        self.decoding.family() == AlgorithmFamily::Hmac
    }

    fn new(id: Option<String>, decoding: DecodingKey, allowed: &[Algorithm]) -> Result<Self, KeyError> {
        let possible = possible(&decoding);
        let wanted = |algorithm: &&Algorithm| allowed.is_empty() || allowed.contains(algorithm);
        let algorithms: Vec<Algorithm> = possible.iter().filter(wanted).copied().collect();
        if algorithms.is_empty() {
            return Err(KeyError::Algorithms(format!("{allowed:?}")));
        }
        Ok(Self { id, algorithms, decoding })
    }
}

/// What a key can verify: of the elliptic curves' algorithms the one of its own curve.
fn possible(key: &DecodingKey) -> &'static [Algorithm] {
    match key.family() {
        AlgorithmFamily::Hmac => &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
        AlgorithmFamily::Rsa => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmFamily::Ed => &[Algorithm::EdDSA],
        AlgorithmFamily::Ec => match key.try_get_as_bytes().map(<[u8]>::len) {
            Ok(P256_POINT_BYTES) => &[Algorithm::ES256],
            Ok(P384_POINT_BYTES) => &[Algorithm::ES384],
            _ => &[],
        },
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let kind = match (self.decoding.kind(), other.decoding.kind()) {
            (DecodingKeyKind::SecretOrDer(ours), DecodingKeyKind::SecretOrDer(theirs)) => ours == theirs,
            (
                DecodingKeyKind::RsaModulusExponent { n, e },
                DecodingKeyKind::RsaModulusExponent { n: their_n, e: their_e },
            ) => (n, e) == (their_n, their_e),
            _ => false,
        };
        kind && self.decoding.family() == other.decoding.family()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// As many bits as the weakest of HMAC's hashes has.
const SECRET_BYTES_MIN: usize = 32;
const PRIVATE: &[u8] = b"PRIVATE KEY";
const CERTIFICATE: &[u8] = b"CERTIFICATE";
/// Uncompressed: a byte and two coordinates.
const P256_POINT_BYTES: usize = 65;
const P384_POINT_BYTES: usize = 97;
