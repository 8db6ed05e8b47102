//! What makes a token of Mercure 0.x good: one with a `mercure` claim, which needn't say whose it is, whom it is for, or when it ends.
//!
//! So it is weaker than an access token, and taken only by keys that are marked for it, each for what it is marked for. What a token does say
//! is held to: `exp`, `nbf`, and that `iss` and `aud` fit. An access token is none of these, and these are no access tokens. [RFC 8725 §3.12]

use std::sync::Arc;

use fanwire_protocol::{HubUrl, Matcher, SelectorError};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Identity, Issuer, Payload, Rights, TokenError,
    pass::TokenKind,
    token::{Audience, Rules, Signed, is_media_type, milliseconds},
};
use crate::core::Scope;

/// What somebody comes for: tokens of Mercure 0.x are signed with a key for each, or one for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To publish.
    Publish,
    /// To subscribe.
    Subscribe,
}

/// Some of the [`Action`]s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Actions {
    /// [`Action::Publish`] is one of them.
    pub publish: bool,
    /// [`Action::Subscribe`] is one of them.
    pub subscribe: bool,
}

impl Actions {
    /// Whether this is one of them.
    pub fn contain(self, action: Action) -> bool {
        match action {
            Action::Publish => self.publish,
            Action::Subscribe => self.subscribe,
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// A token of which nothing is known yet but what it says itself.
#[derive(Debug)]
pub(super) struct Unverified0<'a> {
    signed: Signed<'a>,
    /// Whose it says it is, if it does.
    pub(super) issuer: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Claims {
    iss: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    sub: Option<Box<str>>,
    jti: Option<Box<str>>,
    mercure: Option<Grants>,
    /// The same, as claims are called that nobody else may have. [RFC 7519 §4.2]
    #[serde(rename = "https://mercure.rocks/")]
    namespaced: Option<Grants>,
}

#[derive(Debug, Deserialize)]
struct Grants {
    publish: Option<Vec<String>>,
    subscribe: Option<Vec<String>>,
    payload: Option<Box<RawValue>>,
}

impl<'a> Unverified0<'a> {
    /// Reads what a token says of itself, and refuses what can't be one of Mercure 0.x.
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Issuer {
            iss: Option<String>,
        }
        let signed = Signed::parse(text)?;
        if !signed.header.typ.as_deref().is_none_or(|typ| is_media_type(typ, "jwt")) {
            return Err(TokenError::Type);
        }
        let Issuer { iss } = signed.unchecked()?;
        Ok(Self { signed, issuer: iss })
    }

    /// Checks the signature, by the keys of these issuers that are for this, and the claims.
    pub(super) fn verify(
        &self,
        issuers: &[&Issuer],
        action: Action,
        rules: &Rules<'_>,
    ) -> Result<(Identity, Rights), TokenError> {
        let mut failed = TokenError::NoKey;
        for issuer in issuers {
            let keys = issuer.keys_of_mercure0(action);
            match self.signed.verify::<Claims>(&self.signed.candidates(&keys)) {
                Ok((claims, key)) => {
                    if claims.iss != self.issuer {
                        return Err(TokenError::Issuer);
                    }
                    let rights = claims.check(rules)?.rights(action, rules.base)?;
                    let Claims { iat, exp, sub, jti, .. } = claims;
                    let identity = Identity {
                        issuer: issuer.name().into(),
                        subject: sub,
                        client_id: None,
                        id: jti,
                        issued_at_ms: iat.map(milliseconds),
                        expires_at_ms: exp.map(milliseconds),
                        kind: TokenKind::Mercure0(action),
                        key: key.clone(),
                    };
                    return Ok((identity, rights));
                }
                Err(TokenError::NoKey) => {}
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl Claims {
    /// What is granted, if the rest is as it has to be.
    fn check(&self, rules: &Rules<'_>) -> Result<&Grants, TokenError> {
        if self.aud.as_ref().is_some_and(|aud| !aud.names(rules.resource)) {
            return Err(TokenError::Audience);
        }
        rules.check_time(self.exp, self.nbf)?;
        let grants = self.namespaced.as_ref().or(self.mercure.as_ref());
        grants.ok_or_else(|| TokenError::Mercure0("there is none".to_owned()))
    }
}

impl Grants {
    fn rights(&self, action: Action, base: &HubUrl) -> Result<Rights, TokenError> {
        let scope =
            |selectors: &Option<Vec<String>>| scope(selectors.as_deref().unwrap_or_default(), base).map(Arc::new);
        let json = self.payload.clone().map(Arc::from);
        Ok(match action {
            Action::Publish => Rights { publish: scope(&self.publish)?, ..Rights::default() },
            Action::Subscribe => {
                let of_all = Payload { scope: Scope::from_iter([Matcher::Any]), json };
                Rights { subscribe: scope(&self.subscribe)?, payloads: vec![of_all], ..Rights::default() }
            }
        })
    }
}

/// Templates are compiled for this token alone, some 20 µs each, as the patterns of access tokens are.
fn scope(selectors: &[String], base: &HubUrl) -> Result<Scope, TokenError> {
    if selectors.len() > SELECTORS_MAX {
        return Err(TokenError::Mercure0(format!("more than {SELECTORS_MAX} selectors")));
    }
    let bad = |error: SelectorError| TokenError::Mercure0(error.to_string());
    let matchers = selectors.iter().map(|text| Matcher::selector(text, base).map_err(bad));
    let mut templates = 0;
    let counted = matchers.map(|matcher| {
        templates += usize::from(matches!(matcher, Ok(Matcher::Pattern(_))));
        let few = templates <= TEMPLATES_MAX;
        if few { matcher } else { Err(TokenError::Mercure0(format!("more than {TEMPLATES_MAX} templates"))) }
    });
    counted.collect()
}

/// Of one list; a token has room for some more.
const SELECTORS_MAX: usize = 1_000;
/// Of the selectors of one list: each is compiled, and compared with what the others don't take.
const TEMPLATES_MAX: usize = 100;
