//! Issuers of tokens for tests, and hubs that trust them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fanwire::{
    auth::{
        Actions, Config, DETAIL_TYPE, IssuerConfig, Key, KeySource,
        mint::{Claims, SigningKey},
    },
    config::Config as HubConfig,
};
use fanwire_client::Token;
use serde_json::{Value, json};

use crate::TestHub;

/// An issuer with a secret.
#[derive(Debug)]
pub struct Issuer {
    /// Its `iss`.
    pub name: &'static str,
    secret: &'static [u8],
}

/// The issuer that [`TestHub::with_keys`] trusts.
pub const ISSUER: Issuer =
    Issuer { name: "https://app.example", secret: b"a secret of the tests, long enough to be one" };
/// Another one, with another key.
pub const OTHER_ISSUER: Issuer =
    Issuer { name: "https://other.example", secret: b"the other's secret, which is as long as the first" };
/// What tokens for the tests' hubs have in `aud`.
pub const RESOURCE: &str = "https://hub.example/.well-known/mercure";

impl Issuer {
    /// What signs its tokens.
    pub fn signing(&self) -> SigningKey {
        SigningKey::secret(self.secret)
    }

    /// Its key, as a hub has it.
    pub fn config(&self) -> IssuerConfig {
        let key = Key::secret(self.secret, &[]).expect("a key");
        IssuerConfig {
            name: self.name.to_owned(),
            keys: KeySource::Given(vec![Arc::new(key)]),
            mercure0: Actions::default(),
        }
    }

    /// Claims of a token that is good for an hour.
    pub fn claims(&self, publish: &[&str], subscribe: &[&str]) -> Value {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let claims = Claims {
            issuer: self.name.to_owned(),
            resource: RESOURCE.to_owned(),
            subject: "somebody".to_owned(),
            id: "one".to_owned(),
            publish: texts(publish),
            subscribe: texts(subscribe),
            ..Claims::default()
        };
        claims.to_json(now_ms(), Duration::from_secs(3600))
    }

    /// A token that is good for an hour, and grants what URL patterns take besides exact topics.
    pub fn token_with_patterns(&self, publish: (&[&str], &[&str]), subscribe: (&[&str], &[&str])) -> Token {
        let mut claims = self.claims(publish.0, subscribe.0);
        let details = claims["authorization_details"].as_array_mut().expect("a list");
        for (action, patterns) in [("publish", publish.1), ("subscribe", subscribe.1)] {
            for pattern in patterns {
                details.push(json!({
                    "type": DETAIL_TYPE,
                    "actions": [action],
                    "topics": [{ "match": pattern, "match_type": "urlpattern" }],
                }));
            }
        }
        self.sign(&claims)
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> Token {
        self.signing().sign(claims, None).expect("signed").parse().expect("a token")
    }

    /// A token that is good for an hour.
    pub fn token(&self, publish: &[&str], subscribe: &[&str]) -> Token {
        self.sign(&self.claims(publish, subscribe))
    }
}

impl TestHub {
    /// A hub that wants tokens of [`ISSUER`] from everyone, with a configuration that is changed first.
    pub fn with_keys(change: impl FnOnce(&mut HubConfig)) -> Self {
        Self::with(|config| {
            config.auth = Self::auth_with_keys();
            change(config);
        })
    }

    /// The keys of [`ISSUER`], for tokens of [`RESOURCE`].
    pub fn auth_with_keys() -> Config {
        Config { issuers: vec![ISSUER.config()], resource: RESOURCE.to_owned(), ..Config::default() }
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
