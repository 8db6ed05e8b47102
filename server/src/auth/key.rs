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
    /// An RSA key that can be broken. [RFC 7518 §3.3, RFC 8725 §3.5]
    #[error("an rsa key has at least 2048 bits")]
    ShortRsa,
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
        if decoding.family() == AlgorithmFamily::Rsa && modulus_bytes(&decoding) < MODULUS_BYTES_MIN {
            return Err(KeyError::ShortRsa);
        }
        let possible = possible(&decoding);
        let wanted = |algorithm: &&Algorithm| allowed.is_empty() || allowed.contains(algorithm);
        let algorithms: Vec<Algorithm> = possible.iter().filter(wanted).copied().collect();
        if algorithms.is_empty() {
            return Err(KeyError::Algorithms(format!("{allowed:?}")));
        }
        Ok(Self { id, algorithms, decoding })
    }
}

/// How long an RSA key's modulus is, or in DER the modulus and its few bytes more.
fn modulus_bytes(key: &DecodingKey) -> usize {
    match key.kind() {
        DecodingKeyKind::SecretOrDer(der) => der.len(),
        DecodingKeyKind::RsaModulusExponent { n, .. } => n.iter().skip_while(|byte| **byte == 0).count(),
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
const MODULUS_BYTES_MIN: usize = 256;
const PRIVATE: &[u8] = b"PRIVATE KEY";
const CERTIFICATE: &[u8] = b"CERTIFICATE";
/// Uncompressed: a byte and two coordinates.
const P256_POINT_BYTES: usize = 65;
const P384_POINT_BYTES: usize = 97;

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::{Actions, Auth, Config, Denied, IssuerConfig, KeySource, Shown, mint::SigningKey};

    /// 1,024 bits, by openssl.
    const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDVXXyt8fJMZ4oIxQx/1EvWYAnB
vI5WfnNx8I2O6FtJxW80+Cg9TnBVwwXcnT76HXSyTmaEPZ/1XF9y08jqtMhyb5Wt
uDEAztMOR/cyXNarX51v2RSRtT5f/XX2ukh7lhNs+huyOn4KTzxugU2V6lpz9nyA
jYDps0byZGAUxleKewIDAQAB
-----END PUBLIC KEY-----
";

    fn jwk(json: Value) -> Result<Key, KeyError> {
        Key::jwk(&serde_json::from_value(json).unwrap(), &[])
    }

    #[test]
    fn keys_that_can_be_guessed_or_broken_are_refused() {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        assert!(matches!(Key::secret(&[7; 31], &[]), Err(KeyError::ShortSecret)));
        assert!(matches!(jwk(json!({"kty": "oct", "k": text(&[7; 31])})), Err(KeyError::ShortSecret)));
        assert!(matches!(Key::pem(SHORT_RSA.as_bytes(), &[]), Err(KeyError::ShortRsa)));
        let rsa = |modulus: &[u8]| jwk(json!({"kty": "RSA", "n": text(modulus), "e": "AQAB"}));
        assert!(matches!(rsa(&[0xd5; 128]), Err(KeyError::ShortRsa)));
        // It isn't made longer by zeros before it.
        assert!(matches!(rsa(&[&[0; 200][..], &[0xd5; 128]].concat()), Err(KeyError::ShortRsa)));
        assert!(rsa(&[0xd5; 256]).is_ok());
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        assert!(Key::pem(pair.public_key_pem().as_bytes(), &[]).is_ok());
    }

    #[tokio::test]
    async fn a_point_that_isnt_on_its_curve_verifies_nothing() {
        // [RFC 8725 §3.4]
        let pair = KeyPair::generate().unwrap();
        let point = pair.public_key_raw();
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signing = SigningKey::pem(pair.serialize_pem().as_bytes()).unwrap();
        let claims = json!({"iss": "x", "aud": "r", "exp": 4_000_000_000_u64, "authorization_details": []});
        let token = signing.sign(&claims, None).unwrap();
        for (y, good) in [(point[33..65].to_vec(), true), (vec![1; 32], false), (vec![0; 32], false)] {
            let key = jwk(json!({"kty": "EC", "crv": "P-256", "x": text(&point[1..33]), "y": text(&y)}));
            let Ok(key) = key else {
                assert!(!good);
                continue;
            };
            let keys = KeySource::Given(vec![std::sync::Arc::new(key)]);
            let issuers = vec![IssuerConfig { name: "x".to_owned(), keys, mercure0: Actions::default() }];
            let auth = Auth::new(Config { issuers, resource: "r".to_owned(), ..Config::default() });
            let admitted = auth.admit(Shown::Token(&token), 0).await;
            assert_eq!(admitted.map(drop), if good { Ok(()) } else { Err(Denied::InvalidToken) }, "{y:?}");
        }
    }
}
