//! Mercure 0.x, on every version of HTTP.

mod feeds;
mod misuse;
mod subscriptions;
mod templates;
mod tokens;

use std::sync::Arc;

use fanwire::{
    auth::{Actions, IssuerConfig, Key, KeySource, mint::SigningKey},
    config::{Config, Listeners},
};
use fanwire_tests::{Answer, Ask, ISSUER, TestHub, Version, Whole, now_ms};
use serde_json::{Value, json};

const HUB: &str = "/.well-known/mercure";
const FORM: &str = "application/x-www-form-urlencoded";
/// Of an issuer without a name.
const SECRET: &[u8] = b"!ChangeThisMercureHubJWTSecretKey!";
const EVERYWHERE: Listeners = Listeners { http: true, https: true };

/// A hub that speaks 0.x on all its listeners, to whoever has a token that [`SECRET`] has signed, or [`ISSUER`] for who subscribes.
fn hub(change: impl FnOnce(&mut Config)) -> TestHub {
    TestHub::with_keys(|config| {
        config.mercure0 = EVERYWHERE;
        config.auth.issuers[0].mercure0 = Actions { subscribe: true, ..Actions::default() };
        config.auth.issuers.push(unnamed(Actions { publish: true, subscribe: true }));
        change(config);
    })
}

fn unnamed(mercure0: Actions) -> IssuerConfig {
    let key = Key::secret(SECRET, &[]).unwrap();
    IssuerConfig { name: String::new(), keys: KeySource::Given(vec![Arc::new(key)]), mercure0 }
}

/// As the libraries of 0.x write them: no `iss`, no `aud`, and `exp` where somebody thought of it.
fn grants(publish: &[&str], subscribe: &[&str]) -> Value {
    json!({ "mercure": { "publish": publish, "subscribe": subscribe }, "exp": now_ms() / 1000 + 60 })
}

fn sign(claims: &Value) -> String {
    SigningKey::secret(SECRET).sign_raw(&json!({ "alg": "HS256", "typ": "JWT" }), claims).unwrap()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A feed of these selectors.
fn ask(selectors: &[&str]) -> Ask {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(selectors.iter().map(|selector| ("topic", selector)));
    Ask::get(format!("{HUB}?{}", query.finish()))
}

/// The feed, which has begun.
async fn open(ask: Ask, version: Version, hub: &TestHub) -> Answer {
    let mut answer = ask.over(version, hub).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/event-stream"), "{version:?}");
    assert_eq!(answer.header("cache-control"), "private, no-store");
    answer.until("\n").await;
    answer
}

async fn post(hub: &TestHub, version: Version, token: Option<&str>, fields: &[(&str, &str)]) -> Whole {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let mut ask = Ask { path: HUB.to_owned(), ..Ask::post(FORM, body) };
    if let Some(token) = token {
        ask = ask.header("authorization", bearer(token));
    }
    ask.whole(version, hub).await
}

/// Publishes, and gives the id.
async fn publish(hub: &TestHub, fields: &[(&str, &str)]) -> String {
    let answer = post(hub, Version::H1, Some(&sign(&grants(&["*"], &[]))), fields).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "text/plain; charset=utf-8"));
    answer.text().to_owned()
}

/// The data of the next events, up to the first that says `end`.
async fn data(answer: &mut Answer) -> Vec<String> {
    let text = answer.until("data: end\n\n").await;
    text.lines().filter_map(|line| Some(line.strip_prefix("data: ")?.to_owned())).collect()
}

fn of_issuer(claims: &Value) -> String {
    ISSUER.signing().sign_raw(&json!({ "alg": "HS256" }), claims).unwrap()
}
