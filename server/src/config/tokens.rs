//! Whose tokens are taken, and where.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::{IssuerRule, Layer, Listeners};
use crate::auth;

/// Who may sign tokens, and what they have to be.
pub(super) fn resolve_auth(layer: &Layer) -> Result<auth::Config> {
    let defaults = auth::Config::default();
    let mercure_0x = layer.token_mercure_0x.clone().unwrap_or_default();
    let unnamed = (!mercure_0x.is_empty()).then(String::new);
    let one = match layer.token_issuer.clone().or(unnamed) {
        Some(iss) => Some(IssuerRule {
            iss,
            secret: layer.token_secret.clone(),
            secret_file: None,
            pem: layer.token_pem.clone(),
            jwks: layer.token_jwks.clone(),
            jwks_ca: None,
            algorithms: layer.token_algorithms.clone().unwrap_or_default(),
            mercure_0x,
        }),
        None => {
            let lonely = layer.token_secret.is_some() || layer.token_pem.is_some() || layer.token_jwks.is_some();
            ensure!(!lonely, "a key is given without token_issuer: whose is it?");
            None
        }
    };
    let rules = one.iter().chain(layer.issuer.iter().flatten());
    let issuers = rules.map(IssuerRule::resolve).collect::<Result<Vec<_>>>()?;
    let resource = layer.resource.clone().unwrap_or_default();
    ensure!(
        issuers.iter().all(|issuer| issuer.name.is_empty()) || !resource.is_empty(),
        "resource is missing: the hub's own name, which tokens have in aud, like https://hub.example/.well-known/mercure"
    );
    let cookie = layer.cookie.clone().unwrap_or(defaults.cookie);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    ensure!(!cookie.is_empty() && cookie.bytes().all(plain), "cookie: {cookie:?} is no name of a cookie");
    let clock_skew = layer.clock_skew.map_or(defaults.clock_skew, |value| value.0);
    ensure!(clock_skew <= CLOCK_SKEW_MAX, "clock_skew is {CLOCK_SKEW_MAX:?} at the most, not {clock_skew:?}");
    let feed_lifetime_max = layer.feed_lifetime_max.map(|value| value.0);
    ensure!(feed_lifetime_max.is_none_or(|life| life >= SECOND), "feed_lifetime_max is a second at least");
    let allow_anonymous = layer.allow_anonymous.unwrap_or(false);
    Ok(auth::Config { issuers, resource, allow_anonymous, clock_skew, cookie, feed_lifetime_max, ..defaults })
}

/// Where Mercure 0.x is spoken; there have to be keys for it, or nobody's tokens would be good.
pub(super) fn resolve_mercure0(layer: &Layer, auth: &auth::Config, (http, https): (bool, bool)) -> Result<Listeners> {
    let mut listeners = Listeners::default();
    for name in layer.mercure_0x.iter().flatten() {
        match name.as_str() {
            "http" if http => listeners.http = true,
            "https" if https => listeners.https = true,
            "http" | "https" => bail!("mercure_0x: {name} is off"),
            other => bail!("mercure_0x: {other:?} is no listener: there are http and https"),
        }
    }
    let spoken = listeners != Listeners::default();
    let mut keys = auth.issuers.iter().map(|issuer| !issuer.mercure0.is_empty());
    let (wanted, are_there) = (!auth.issuers.is_empty() && !auth.allow_anonymous, keys.any(|it| it));
    ensure!(
        spoken || !are_there,
        "keys are for tokens of Mercure 0.x, which no listener takes: say with mercure_0x which"
    );
    ensure!(
        !spoken || !wanted || are_there,
        "mercure_0x: no key is for its tokens: say with token_mercure_0x, or mercure_0x of an issuer, what they are for"
    );
    Ok(listeners)
}

const SECOND: Duration = Duration::from_secs(1);
/// More than that is a clock to be set. [RFC 7519 §4.1.5]
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);
