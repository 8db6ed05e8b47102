//! Who may sign tokens, and with which keys. A key verifies its own issuer's tokens and nobody else's.

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use tokio::sync::Notify;
use url::Url;

use super::{
    Config, Identity, Jwks, Key, Rights, TokenError,
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
    published: Vec<Arc<Jwks>>,
}

impl Issuer {
    /// Puts the keys of each issuer together, and begins to fetch those that are published.
    /// Those of `before` that are still published go on.
    pub(super) fn start_all(auth: &Config, before: &[Self], keys_lost: &Arc<Notify>) -> Vec<Self> {
        let mut issuers: Vec<Self> = Vec::new();
        for config in &auth.issuers {
            let known = issuers.iter().position(|issuer| issuer.name == config.name);
            let at = known.unwrap_or_else(|| {
                issuers.push(Self { name: config.name.clone(), given: vec![], published: vec![] });
                issuers.len() - 1
            });
            match &config.keys {
                KeySource::Given(keys) => issuers[at].given.extend_from_slice(keys),
                KeySource::Url(url, allowed) => {
                    let same_issuer = before.iter().filter(|issuer| issuer.name == config.name);
                    let known = same_issuer.flat_map(|issuer| &issuer.published).find(|set| set.is_of(url, allowed));
                    let start = || Jwks::start(url.clone(), allowed.clone(), auth.jwks, keys_lost.clone());
                    issuers[at].published.push(known.cloned().unwrap_or_else(|| Arc::new(start())));
                }
            }
        }
        issuers
    }

    /// Its `iss`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether keys of it are published at a URL.
    pub(super) fn publishes_keys(&self) -> bool {
        !self.published.is_empty()
    }

    pub(super) fn verify(&self, token: &Unverified<'_>, rules: &Rules<'_>) -> Result<(Identity, Rights), TokenError> {
        let published: Vec<_> = self.published.iter().filter_map(|set| set.keys()).collect();
        let keys = self.given.iter().chain(published.iter().flat_map(|set| set.iter()));
        token.verify(&token.candidates(keys), rules)
    }

    /// Whether a key is one of its.
    pub(super) fn holds(&self, key: &Key) -> bool {
        let published = self.published.iter().filter_map(|set| set.keys());
        self.given.iter().any(|given| **given == *key) || published.flat_map(|set| set.to_vec()).any(|its| *its == *key)
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
