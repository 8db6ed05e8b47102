//! Who may sign tokens, and with which keys. A key verifies its own issuer's tokens and nobody else's.

use std::sync::Arc;

use super::{
    Config, Identity, Jwks, Key, Rights, TokenError,
    jwks::{KeysUrl, Told},
    mercure0::{Action, Actions},
    pass::TokenKind,
    token::{Rules, Unverified},
};

/// Keys of an issuer, as they were configured. One issuer may have several of these.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// The issuer's `iss`; empty for keys of tokens of Mercure 0.x alone, which name nobody.
    pub name: String,
    /// Where its keys are from.
    pub keys: KeySource,
    /// What tokens of Mercure 0.x may be for that these keys have signed; nothing: they are none of its.
    pub mercure0: Actions,
}

/// Where keys are from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// They are in the configuration.
    Given(Vec<Arc<Key>>),
    /// They are published at a URL.
    Url(KeysUrl),
}

/// Somebody whose tokens are taken.
#[derive(Debug)]
pub struct Issuer {
    name: String,
    given: Vec<(Arc<Key>, Actions)>,
    published: Vec<(Arc<Jwks>, Actions)>,
}

impl Issuer {
    /// Puts the keys of each issuer together, and begins to fetch those that are published.
    /// Those of `before` that are still published go on.
    pub(super) fn start_all(auth: &Config, before: &[Self], told: &Told) -> Vec<Self> {
        let mut issuers: Vec<Self> = Vec::new();
        for config in &auth.issuers {
            let known = issuers.iter().position(|issuer| issuer.name == config.name);
            let at = known.unwrap_or_else(|| {
                issuers.push(Self { name: config.name.clone(), given: vec![], published: vec![] });
                issuers.len() - 1
            });
            match &config.keys {
                KeySource::Given(keys) => {
                    issuers[at].given.extend(keys.iter().map(|key| (key.clone(), config.mercure0)));
                }
                KeySource::Url(published) => {
                    let same_issuer = before.iter().filter(|issuer| issuer.name == config.name);
                    let mut known = same_issuer.flat_map(|issuer| &issuer.published).map(|(set, _)| set);
                    let known = known.find(|set| set.is_of(published)).cloned();
                    let start = || Jwks::start(published.clone(), auth.jwks, told.clone());
                    issuers[at].published.push((known.unwrap_or_else(|| Arc::new(start())), config.mercure0));
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
        let keys = self.keys(|_| true);
        token.verify(&token.candidates(&keys), rules)
    }

    /// Whether a token that was of this kind, and signed by this key, is still one of its.
    pub(super) fn holds(&self, key: &Key, kind: TokenKind) -> bool {
        let keys = match kind {
            TokenKind::Access => self.keys(|_| true),
            TokenKind::Mercure0(action) => self.keys_of_mercure0(action),
        };
        keys.iter().any(|its| **its == *key)
    }

    /// Whether some keys of it sign tokens of Mercure 0.x for this.
    pub(super) fn is_for_mercure0(&self, action: Action) -> bool {
        let given = self.given.iter().map(|(_, actions)| actions);
        given.chain(self.published.iter().map(|(_, actions)| actions)).any(|actions| actions.contain(action))
    }

    /// Its keys that sign tokens of Mercure 0.x for this.
    pub(super) fn keys_of_mercure0(&self, action: Action) -> Vec<Arc<Key>> {
        self.keys(|actions| actions.contain(action))
    }

    fn keys(&self, wanted: impl Fn(Actions) -> bool) -> Vec<Arc<Key>> {
        let given = self.given.iter().filter(|(_, actions)| wanted(*actions)).map(|(key, _)| key.clone());
        let published = self.published.iter().filter(|(_, actions)| wanted(*actions));
        let published = published.filter_map(|(set, _)| set.keys()).flat_map(|set| set.to_vec());
        given.chain(published).collect()
    }

    /// Fetches the keys that are published, if it may be time. False if there are none to fetch.
    pub(super) async fn refresh(&self) -> bool {
        for (set, _) in &self.published {
            set.refresh().await;
        }
        !self.published.is_empty()
    }

    /// Whether keys are to be had somewhere that never were.
    pub(super) fn lacks_keys(&self) -> bool {
        self.published.iter().any(|(set, _)| set.keys().is_none())
    }
}
