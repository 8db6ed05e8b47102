//! What makes a token good. [RFC 9068 §4; RFC 8725; Mercure, Token Validation]
//!
//! Pure: the keys and the time come in. Whoever showed a token learns only that it isn't good; why is for the log.

use std::{sync::Arc, time::Duration};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use fanwire_protocol::HubUrl;
use jsonwebtoken::{Header, Validation, decode, decode_header, errors::ErrorKind};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Identity, Key, Rights, details, pass::TokenKind};

/// A token of which nothing is known yet but what it says itself.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    signed: Signed<'a>,
    /// Whose it says it is.
    pub(super) issuer: String,
}

/// A JWS whose signature wasn't looked at yet.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    text: &'a str,
    pub(super) header: Header,
    /// As they came.
    claims: String,
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
    /// The claim that tokens of Mercure 0.x have isn't there, or can't be understood.
    #[error("its mercure claim: {0}")]
    Mercure0(String),
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

/// For whom a token is. [RFC 7519 §4.1.3]
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(super) fn names(&self, resource: &str) -> bool {
        match self {
            Self::One(audience) => audience == resource,
            Self::Many(audiences) => audiences.iter().any(|audience| audience == resource),
        }
    }
}

impl<'a> Signed<'a> {
    /// Reads the header, and refuses what is no signed JWT that the hub can understand.
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let mut parts = text.split('.');
        // The header's text is looked at for its bytes only: it is read below.
        let (_, claims) = (json_text(parts.next())?, json_text(parts.next())?);
        let header = decode_header(text).map_err(malformed)?;
        if header.crit.is_some() {
            return Err(TokenError::Critical);
        }
        Ok(Self { text, header, claims })
    }

    /// What the token says, whoever wrote it.
    pub(super) fn unchecked<C: DeserializeOwned>(&self) -> Result<C, TokenError> {
        serde_json::from_str(&self.claims).map_err(|error| TokenError::Malformed(error.to_string()))
    }

    /// The keys that the token may have been signed with. A `kid` chooses among the keys that have one; it can't bring in another.
    pub(super) fn candidates<'k>(&self, keys: &'k [Arc<Key>]) -> Vec<&'k Arc<Key>> {
        let able = keys.iter().filter(|key| key.algorithms.contains(&self.header.alg));
        let (named, unnamed): (Vec<_>, Vec<_>) = able.partition(|key| key.id.is_some());
        match &self.header.kid {
            None => named.into_iter().chain(unnamed).collect(),
            Some(kid) => {
                let named: Vec<_> = named.into_iter().filter(|key| key.id.as_ref() == Some(kid)).collect();
                if named.is_empty() { unnamed } else { named }
            }
        }
    }

    /// The claims, by the first key whose signature this is.
    pub(super) fn verify<'k, C: DeserializeOwned>(
        &self,
        candidates: &[&'k Arc<Key>],
    ) -> Result<(C, &'k Arc<Key>), TokenError> {
        let mut failed = TokenError::NoKey;
        for &key in candidates {
            match self.claims(key) {
                Ok(claims) => return Ok((claims, key)),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn claims<C: DeserializeOwned>(&self, key: &Key) -> Result<C, TokenError> {
        let mut validation = Validation::new(self.header.alg);
        // Here only the signature: the claims are checked against the rules, and the time that comes with them.
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        validation.required_spec_claims.clear();
        let data = decode::<C>(self.text, &key.decoding, &validation);
        data.map(|data| data.claims).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => TokenError::Signature,
            _ => malformed(error),
        })
    }
}

impl<'a> Unverified<'a> {
    /// Reads what a token says of itself, and refuses what can't be an access token.
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Issuer {
            iss: String,
        }
        let signed = Signed::parse(text)?;
        if !signed.header.typ.as_deref().is_some_and(|typ| is_media_type(typ, "at+jwt")) {
            return Err(TokenError::Type);
        }
        let Issuer { iss } = signed.unchecked()?;
        Ok(Self { signed, issuer: iss })
    }

    /// The keys that the token may have been signed with.
    pub(super) fn candidates<'k>(&self, keys: &'k [Arc<Key>]) -> Vec<&'k Arc<Key>> {
        self.signed.candidates(keys)
    }

    /// Checks the signature and the claims.
    pub(super) fn verify(&self, candidates: &[&Arc<Key>], rules: &Rules<'_>) -> Result<(Identity, Rights), TokenError> {
        let (claims, key) = self.signed.verify(candidates)?;
        self.check(claims, key, rules)
    }

    fn check(&self, claims: Claims, key: &Arc<Key>, rules: &Rules<'_>) -> Result<(Identity, Rights), TokenError> {
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        if !claims.aud.names(rules.resource) {
            return Err(TokenError::Audience);
        }
        let expires_at_ms = rules.check_time(Some(claims.exp), claims.nbf)?;
        let rights = details::rights(claims.authorization_details.as_ref(), rules.base)?;
        let identity = Identity {
            issuer: claims.iss.into(),
            subject: claims.sub,
            client_id: claims.client_id,
            id: claims.jti,
            issued_at_ms: claims.iat.map(milliseconds),
            expires_at_ms,
            kind: TokenKind::Access,
            key: key.clone(),
        };
        Ok((identity, rights))
    }
}

impl Rules<'_> {
    /// When a token with these claims expires, in milliseconds since the Unix epoch, unless it has or its time hasn't come.
    pub(super) fn check_time(&self, exp: Option<f64>, nbf: Option<f64>) -> Result<Option<u64>, TokenError> {
        let expires_at_ms = exp.map(milliseconds);
        if expires_at_ms.is_some_and(|expires| expires <= self.now_ms) {
            return Err(TokenError::Expired);
        }
        let skew_ms = self.clock_skew.as_millis() as u64;
        if nbf.is_some_and(|nbf| milliseconds(nbf) > self.now_ms + skew_ms) {
            return Err(TokenError::NotYet);
        }
        Ok(expires_at_ms)
    }
}

/// Compares a `typ` as a media type, whose `application/` may be left out. [RFC 7515 §4.1.9]
pub(super) fn is_media_type(typ: &str, wanted: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ) == wanted
}

/// A NumericDate, which may have a fraction. [RFC 7519 §2]
pub(super) fn milliseconds(seconds: f64) -> u64 {
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
