//! What makes a token good. [RFC 9068 §4; RFC 8725; Mercure, Token Validation]
//!
//! Pure: the keys and the time come in. Whoever showed a token learns only that it isn't good; why is for the log.

use std::{sync::Arc, time::Duration};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use fanwire_protocol::HubUrl;
use jsonwebtoken::{Header, Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use serde_json::Value;

use super::{Identity, Key, Rights, details};

/// A token of which nothing is known yet but what it says itself.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    text: &'a str,
    pub(super) header: Header,
    /// Whose it says it is.
    pub(super) issuer: String,
}

/// What tokens have to be.
#[derive(Debug, Clone)]
pub(super) struct Rules<'a> {
    /// One of these is in `aud`.
    pub(super) resource: &'a str,
    /// How far `nbf` may be ahead of the hub's clock. `exp` is never stretched: feeds end with it.
    pub(super) clock_skew: Duration,
    /// What relative patterns are resolved against.
    pub(super) base: &'a HubUrl,
    pub(super) now_ms: u64,
}

/// Why a token is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than the hub takes.
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It is no JWS in compact serialization, with an algorithm that is known.
    #[error("it is no signed jwt: {0}")]
    Malformed(String),
    /// It is a token for something else.
    #[error("its typ isn't at+jwt")]
    Type,
    /// It demands what the hub doesn't know.
    #[error("it has critical extensions")]
    Critical,
    /// Nobody the hub trusts.
    #[error("its issuer isn't one of the hub's")]
    Issuer,
    /// No key of its issuer fits its algorithm and its kid.
    #[error("its issuer has no key for it")]
    NoKey,
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// It is for another hub.
    #[error("it isn't for this hub: its aud doesn't name the hub's resource")]
    Audience,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time hasn't come.
    #[error("it isn't valid yet")]
    NotYet,
    /// Its grants can't be understood.
    #[error("its authorization_details: {0}")]
    Details(#[from] details::DetailsError),
}

/// The claims that matter.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: String,
    exp: f64,
    aud: Audience,
    nbf: Option<f64>,
    iat: Option<f64>,
    sub: Option<Box<str>>,
    client_id: Option<Box<str>>,
    jti: Option<Box<str>>,
    authorization_details: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl<'a> Unverified<'a> {
    /// Reads what a token says of itself, and refuses what can't be an access token.
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Issuer {
            iss: String,
        }
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let mut parts = text.split('.');
        // The header's text is looked at for its bytes only: it is read below.
        let (_, claims) = (json_text(parts.next())?, json_text(parts.next())?);
        let header = decode_header(text).map_err(malformed)?;
        if !header.typ.as_deref().is_some_and(is_access_token) {
            return Err(TokenError::Type);
        }
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        let wrong = |error: serde_json::Error| TokenError::Malformed(error.to_string());
        let Issuer { iss } = serde_json::from_str(&claims).map_err(wrong)?;
        Ok(Self { text, header, issuer: iss })
    }

    /// The keys that the token may have been signed with. A `kid` chooses among the keys that have one; it can't bring in another.
    pub(super) fn candidates<'k>(&self, keys: impl IntoIterator<Item = &'k Arc<Key>>) -> Vec<&'k Arc<Key>> {
        let able = keys.into_iter().filter(|key| key.algorithms.contains(&self.header.alg));
        let (named, unnamed): (Vec<_>, Vec<_>) = able.partition(|key| key.id.is_some());
        match &self.header.kid {
            None => named.into_iter().chain(unnamed).collect(),
            Some(kid) => {
                let named: Vec<_> = named.into_iter().filter(|key| key.id.as_ref() == Some(kid)).collect();
                if named.is_empty() { unnamed } else { named }
            }
        }
    }

    /// Checks the signature and the claims.
    pub(super) fn verify(&self, candidates: &[&Arc<Key>], rules: &Rules<'_>) -> Result<(Identity, Rights), TokenError> {
        let mut failed = TokenError::NoKey;
        for &key in candidates {
            match self.claims(key) {
                Ok(claims) => return self.check(claims, key, rules),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn claims(&self, key: &Arc<Key>) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(self.header.alg);
        // Here only the signature: the claims are checked against the rules, and the time that comes with them.
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        validation.required_spec_claims.clear();
        let data = decode::<Claims>(self.text, &key.decoding, &validation);
        data.map(|data| data.claims).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => TokenError::Signature,
            _ => malformed(error),
        })
    }

    fn check(&self, claims: Claims, key: &Arc<Key>, rules: &Rules<'_>) -> Result<(Identity, Rights), TokenError> {
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        let named = match &claims.aud {
            Audience::One(audience) => audience == rules.resource,
            Audience::Many(audiences) => audiences.iter().any(|audience| audience == rules.resource),
        };
        if !named {
            return Err(TokenError::Audience);
        }
        let expires_at_ms = milliseconds(claims.exp);
        if expires_at_ms <= rules.now_ms {
            return Err(TokenError::Expired);
        }
        let skew_ms = rules.clock_skew.as_millis() as u64;
        if claims.nbf.is_some_and(|nbf| milliseconds(nbf) > rules.now_ms + skew_ms) {
            return Err(TokenError::NotYet);
        }
        let rights = details::rights(claims.authorization_details.as_ref(), rules.base)?;
        let identity = Identity {
            issuer: claims.iss.into(),
            subject: claims.sub,
            client_id: claims.client_id,
            id: claims.jti,
            issued_at_ms: claims.iat.map(milliseconds),
            expires_at_ms,
            key: key.clone(),
        };
        Ok((identity, rights))
    }
}

/// Compared as a media type, whose `application/` may be left out. [RFC 7515 §4.1.9]
fn is_access_token(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ) == "at+jwt"
}

/// A NumericDate, which may have a fraction. [RFC 7519 §2]
fn milliseconds(seconds: f64) -> u64 {
    // A float that is too big, negative or no number ends at the bounds.
    (seconds * 1000.0) as u64
}

/// One of a token's parts, which is UTF-8 in what means nothing here, too. [RFC 7519 §7.2, RFC 8725 §3.7]
fn json_text(part: Option<&str>) -> Result<String, TokenError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part.unwrap_or_default());
    let bytes = bytes.map_err(|error| TokenError::Malformed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| TokenError::Malformed(error.to_string()))
}

fn malformed(error: jsonwebtoken::errors::Error) -> TokenError {
    TokenError::Malformed(error.to_string())
}

/// The longest token, in bytes. Heads of requests have 16 KiB.
pub(super) const TOKEN_BYTES_MAX: usize = 8 * 1024;
