//! Makes tokens, for trying and for tests. A hub only takes them.

use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use serde_json::{Value, json};

use super::DETAIL_TYPE;

/// What signs tokens.
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
}

/// What a token says, in plain words.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub resource: String,
    /// `sub`.
    pub subject: String,
    /// `jti`.
    pub id: String,
    /// Topics, or `*`, that may be published on.
    pub publish: Vec<String>,
    /// Topics, or `*`, whose private events may be seen.
    pub subscribe: Vec<String>,
    /// URL patterns of topics that may be published on.
    pub publish_patterns: Vec<String>,
    /// URL patterns of topics whose private events may be seen.
    pub subscribe_patterns: Vec<String>,
    /// May revoke its issuer's tokens.
    pub revoke: bool,
}

/// A token can't be made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// No private key.
    #[error(
        "it is no private key in PEM (PKCS #8, `-----BEGIN PRIVATE KEY-----`) for RSA, ECDSA on P-256 or P-384, or Ed25519"
    )]
    Key,
    /// The key doesn't sign.
    #[error("the token can't be signed")]
    Sign(#[from] jsonwebtoken::errors::Error),
    /// The claims can't be written.
    #[error("the claims are no json")]
    Json(#[from] serde_json::Error),
}

impl SigningKey {
    /// Signs with HS256.
    pub fn secret(secret: &[u8]) -> Self {
        Self { key: EncodingKey::from_secret(secret), algorithm: Algorithm::HS256 }
    }

    /// Signs with what the kind of the key has: RS256, ES256 or ES384, EdDSA.
    pub fn pem(pem: &[u8]) -> Result<Self, MintError> {
        let keys = [
            (EncodingKey::from_rsa_pem(pem), Algorithm::RS256),
            (EncodingKey::from_ec_pem(pem), Algorithm::ES256),
            (EncodingKey::from_ec_pem(pem), Algorithm::ES384),
            (EncodingKey::from_ed_pem(pem), Algorithm::EdDSA),
        ];
        let signs = |key: &Self| key.sign(&json!({}), None).is_ok();
        let mut keys = keys.into_iter().filter_map(|(key, algorithm)| Some(Self { key: key.ok()?, algorithm }));
        keys.find(signs).ok_or(MintError::Key)
    }

    /// Signs with another algorithm of the key's kind.
    pub fn with_algorithm(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// Signs whatever claims, as an access token.
    pub fn sign(&self, claims: &impl Serialize, key_id: Option<&str>) -> Result<String, MintError> {
        self.sign_as("at+jwt", claims, key_id)
    }

    /// Signs whatever claims, as a token of Mercure 0.x.
    pub fn sign_mercure0(&self, claims: &impl Serialize, key_id: Option<&str>) -> Result<String, MintError> {
        self.sign_as("JWT", claims, key_id)
    }

    fn sign_as(&self, typ: &str, claims: &impl Serialize, key_id: Option<&str>) -> Result<String, MintError> {
        let (typ, kid) = (Some(typ.to_owned()), key_id.map(str::to_owned));
        let header = Header { typ, kid, ..Header::new(self.algorithm) };
        Ok(encode(&header, claims, &self.key)?)
    }

    /// Signs whatever claims under whatever header, whether they fit together or not.
    pub fn sign_raw(&self, header: &impl Serialize, claims: &impl Serialize) -> Result<String, MintError> {
        self.sign_bytes(&serde_json::to_vec(header)?, &serde_json::to_vec(claims)?)
    }

    /// Signs whatever bytes as header and claims.
    pub fn sign_bytes(&self, header: &[u8], claims: &[u8]) -> Result<String, MintError> {
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let message = format!("{}.{}", part(header), part(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm)?;
        Ok(format!("{message}.{signature}"))
    }
}

impl Claims {
    /// As a token has them. [RFC 9068 §2.2]
    pub fn to_json(&self, now_ms: u64, life: Duration) -> Value {
        let now = now_ms / 1000;
        let mut details = Vec::new();
        let mut grant = |action: &str, topics: &[String], patterns: &[String]| {
            let exact = topics.iter().map(|topic| json!({ "match": topic }));
            let patterns = patterns.iter().map(|pattern| json!({ "match": pattern, "match_type": "urlpattern" }));
            let topics: Vec<Value> = exact.chain(patterns).collect();
            if !topics.is_empty() {
                details.push(json!({ "type": DETAIL_TYPE, "actions": [action], "topics": topics }));
            }
        };
        grant("publish", &self.publish, &self.publish_patterns);
        grant("subscribe", &self.subscribe, &self.subscribe_patterns);
        grant("revoke", &self.revoke.then(|| "*".to_owned()).into_iter().collect::<Vec<_>>(), &[]);
        json!({
            "iss": self.issuer,
            "aud": self.resource,
            "sub": self.subject,
            "client_id": self.issuer,
            "jti": self.id,
            "iat": now,
            "exp": now + life.as_secs(),
            "authorization_details": details,
        })
    }

    /// As a token of Mercure 0.x has them: topics are selectors, and of issuer and resource what isn't empty. It has no patterns, and revokes
    /// nothing. [Mercure 0.x, Authorization]
    pub fn to_mercure0_json(&self, now_ms: u64, life: Duration) -> Value {
        let now = now_ms / 1000;
        let mut claims = json!({
            "mercure": { "publish": self.publish, "subscribe": self.subscribe },
            "sub": self.subject,
            "jti": self.id,
            "iat": now,
            "exp": now + life.as_secs(),
        });
        for (name, value) in [("iss", &self.issuer), ("aud", &self.resource)] {
            if !value.is_empty() {
                claims[name] = json!(value);
            }
        }
        claims
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
