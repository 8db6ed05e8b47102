//! Tokens that aren't what they say: those that RFC 8725 warns of, as far as Mercure 0.x leaves anything to be held to.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use fanwire::auth::{Algorithm, Key, KeySource};
use fanwire_tests::{ISSUER, OTHER_ISSUER, RESOURCE, Version, now_ms};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::value::RawValue;

use super::*;

fn claims(change: Value) -> Value {
    let mut claims = grants(&["*"], &["*"]);
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims
}

fn with_header(header: Value) -> String {
    SigningKey::secret(SECRET).sign_raw(&header, &claims(json!({}))).unwrap()
}

fn part(json: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json.to_string())
}

/// A name, a token, and whether it is good.
fn cases(rsa: &KeyPair) -> Vec<(&'static str, String, bool)> {
    let good = claims(json!({}));
    let signed = sign(&good);
    let [header, payload, signature] = signed.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let now = now_ms() / 1000;
    let by_rsa = SigningKey::pem(rsa.serialize_pem().as_bytes()).unwrap();
    let pem = rsa.public_key_pem();
    let twice = format!("{{\"mercure\":{{}},{}", &good.to_string()[1..]);
    let twice = RawValue::from_string(twice).unwrap();
    let hs256 = json!({ "alg": "HS256" });
    vec![
        ("as it should be", signed.clone(), true),
        ("no typ", with_header(hs256.clone()), true),
        ("typ in another case", with_header(json!({ "alg": "HS256", "typ": "jwt" })), true),
        ("no exp", sign(&json!({ "mercure": { "publish": ["*"], "subscribe": ["*"] } })), true),
        ("rsa", by_rsa.sign_raw(&json!({ "alg": "RS256", "typ": "JWT" }), &good).unwrap(), true),
        ("an iss that nobody else has", sign(&claims(json!({ "iss": "https://old.example" }))), true),
        ("aud is this hub's", sign(&claims(json!({ "aud": ["x", RESOURCE] }))), true),
        (
            "a payload",
            sign(&claims(json!({ "mercure": { "publish": ["*"], "subscribe": ["*"], "payload": [1] } }))),
            true,
        ),
        // [RFC 8725 §2.1, §3.1]
        ("alg none", format!("{}.{payload}.", part(&json!({ "alg": "none" }))), false),
        ("alg nOnE", format!("{}.{payload}.", part(&json!({ "alg": "nOnE" }))), false),
        ("alg none with a signature", format!("{}.{payload}.{signature}", part(&json!({ "alg": "none" }))), false),
        ("the rsa key's pem as a secret", SigningKey::secret(pem.as_bytes()).sign_raw(&hs256, &good).unwrap(), false),
        ("an algorithm that its key isn't for", by_rsa.sign_raw(&json!({ "alg": "RS512" }), &good).unwrap(), false),
        (
            "rs512, which the configuration doesn't name",
            SigningKey::pem(rsa.serialize_pem().as_bytes())
                .unwrap()
                .with_algorithm(Algorithm::RS512)
                .sign_raw(&json!({ "alg": "RS512" }), &good)
                .unwrap(),
            false,
        ),
        ("another alg than was signed with", with_header(json!({ "alg": "HS512" })), false),
        // §2.2, §2.3, §2.6
        ("a weak secret", SigningKey::secret(b"secret").sign_raw(&hs256, &good).unwrap(), false),
        ("no signature", format!("{header}.{payload}."), false),
        ("another payload", format!("{header}.{}.{signature}", part(&claims(json!({ "sub": "admin" })))), false),
        ("garbage", "garbage".to_owned(), false),
        ("too long", sign(&claims(json!({ "x": "y".repeat(7_000) }))), false),
        // §2.7, §3.8: an issuer's name is believed, and held to.
        ("a key that isn't for 0.x", OTHER_ISSUER.signing().sign_raw(&hs256, &good).unwrap(), false),
        (
            "the name of another issuer, by whose keys it isn't signed",
            OTHER_ISSUER.signing().sign_raw(&hs256, &claims(json!({ "iss": ISSUER.name }))).unwrap(),
            false,
        ),
        ("iss is a list", sign(&claims(json!({ "iss": ["x"] }))), false),
        // §2.7, §3.9: nobody has to say for whom it is, and whoever does is held to it.
        ("another aud", sign(&claims(json!({ "aud": "https://other.example/.well-known/mercure" }))), false),
        ("an empty list as aud", sign(&claims(json!({ "aud": [] }))), false),
        // §2.8, §3.11, §3.12: one kind of token is never taken for another.
        ("typ of an access token", with_header(json!({ "alg": "HS256", "typ": "at+jwt" })), false),
        ("an access token", ISSUER.token(&["*"], &["*"]).as_str().to_owned(), false),
        ("another application's typ", with_header(json!({ "alg": "HS256", "typ": "secevent+jwt" })), false),
        ("no mercure claim", sign(&json!({ "exp": now + 60, "sub": "a session of the application" })), false),
        ("the mercure claim twice", SigningKey::secret(SECRET).sign_raw(&hs256, &twice).unwrap(), false),
        // §3.10
        ("a jku", with_header(json!({ "alg": "RS256", "jku": "http://127.0.0.1:1/keys" })), false),
        (
            "what must be understood and isn't",
            with_header(json!({ "alg": "HS256", "crit": ["b64"], "b64": false })),
            false,
        ),
        // What it does say of its time is held to.
        ("expired", sign(&claims(json!({ "exp": now - 1 }))), false),
        ("exp is a text", sign(&claims(json!({ "exp": (now + 60).to_string() }))), false),
        ("not yet valid", sign(&claims(json!({ "nbf": now + 60 }))), false),
        // Grants that can't be understood.
        (
            "publish and subscribe are no lists",
            sign(&json!({ "mercure": { "publish": "*", "subscribe": "*" } })),
            false,
        ),
        ("selectors that are none", sign(&json!({ "mercure": { "publish": ["a\nb"], "subscribe": [""] } })), false),
        ("numbers", sign(&json!({ "mercure": { "publish": [1], "subscribe": [1] } })), false),
        ("a text", sign(&json!({ "mercure": "*" })), false),
        (
            "more than there may be",
            sign(&json!({ "mercure": { "publish": vec!["a"; 1_001], "subscribe": vec!["a"; 1_001] } })),
            false,
        ),
    ]
}

#[tokio::test]
async fn a_token_of_0x_is_good_or_it_is_invalid() {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let hub = hub(|config| {
        let key = Key::pem(rsa.public_key_pem().as_bytes(), &[Algorithm::RS256]).unwrap();
        let of_rsa = unnamed(Actions { publish: true, subscribe: true });
        config.auth.issuers.push(IssuerConfig { keys: KeySource::Given(vec![Arc::new(key)]), ..of_rsa });
        config.auth.issuers.push(OTHER_ISSUER.config());
        config.auth.allow_anonymous = true;
    });
    let mut count = 0;
    for (name, token, good) in cases(&rsa) {
        for version in Version::ALL {
            let subscribed = ask(&["a"]).header("authorization", bearer(&token)).method("HEAD".parse().unwrap());
            let subscribed = subscribed.whole(version, &hub).await;
            let in_query = Ask::get(format!("{HUB}?topic=a&authorization={token}")).method("HEAD".parse().unwrap());
            let in_query = in_query.whole(version, &hub).await;
            let published = post(&hub, version, Some(&token), &[("topic", "a")]).await;
            if good {
                let statuses = [subscribed.status.as_u16(), in_query.status.as_u16(), published.status.as_u16()];
                assert_eq!(statuses, [200; 3], "{name}: {version:?}");
                count += 1;
                continue;
            }
            for answer in [subscribed, in_query, published] {
                let got = (answer.status.as_u16(), answer.challenge());
                assert_eq!(got, (401, "Bearer error=\"invalid_token\""), "{name}: {version:?}");
            }
        }
    }
    let last = publish(&hub, &[("topic", "a")]).await;
    assert!(last.ends_with(&format!(":{}", count + 1)), "nothing was published that wasn't answered 200: {last}");
}
