//! Who may sign tokens, and with which keys. A key verifies its own issuer's tokens and nobody else's.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use url::Url;

use super::{
    Identity, Jwks, JwksLimits, Key, Rights, TokenError,
    token::{Rules, Unverified},
};

/// Keys of an issuer, as they were configured. One issuer may have several of these.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// The issuer's `iss`.
    pub name: String,
    /// Where its keys are from.
    pub keys: KeySource,
}

/// Where keys are from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// They are in the configuration.
    Given(Vec<Arc<Key>>),
    /// They are published at a URL; algorithms: empty for every one that a key's kind has.
    Url(Url, Vec<Algorithm>),
}

/// Somebody whose tokens are taken.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    given: Vec<Arc<Key>>,
    published: Vec<Jwks>,
}

impl Issuer {
    /// Puts the keys of each issuer together, and begins to fetch those that are published.
    pub(super) fn start_all(configs: &[IssuerConfig], limits: JwksLimits) -> Vec<Self> {
        let mut issuers: Vec<Self> = Vec::new();
        for config in configs {
            let known = issuers.iter().position(|issuer| issuer.name == config.name);
            let at = known.unwrap_or_else(|| {
                issuers.push(Self { name: config.name.clone(), given: vec![], published: vec![] });
                issuers.len() - 1
            });
            match &config.keys {
                KeySource::Given(keys) => issuers[at].given.extend_from_slice(keys),
                KeySource::Url(url, allowed) => {
                    issuers[at].published.push(Jwks::start(url.clone(), allowed.clone(), limits));
                }
            }
        }
        issuers
    }

    /// Its `iss`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn verify(&self, token: &Unverified<'_>, rules: &Rules<'_>) -> Result<(Identity, Rights), TokenError> {
        let published: Vec<_> = self.published.iter().filter_map(Jwks::keys).collect();
        let keys = self.given.iter().chain(published.iter().flat_map(|set| set.iter()));
        token.verify(&token.candidates(keys), rules)
    }

    /// Fetches the keys that are published, if it may be time. False if there are none to fetch.
    pub(super) async fn refresh(&self) -> bool {
        for set in &self.published {
            set.refresh().await;
        }
        !self.published.is_empty()
    }

    /// Whether keys are to be had somewhere that never were.
    pub(super) fn lacks_keys(&self) -> bool {
        self.published.iter().any(|set| set.keys().is_none())
    }
}
