//! Tokens that aren't what they say: those that RFC 8725 warns of, on every transport.

use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use fanwire::auth::{Actions, Algorithm, IssuerConfig, Key, KeySource, mint::SigningKey};
use fanwire_client::{ControlError, Item, Publication};
use fanwire_protocol::message::ByeCode;
use fanwire_tests::{Ask, ISSUER, OTHER_ISSUER, RESOURCE, TestHub, Version, Way, now_ms, soon};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json, value::RawValue};

use crate::subscribe::refusal;

const RSA: &str = "https://rsa.example";
const EC: &str = "https://ec.example";
/// Its keys are for one algorithm each, though they could verify others.
const NARROW: &str = "https://narrow.example";
const NARROW_SECRET: &[u8] = b"a secret that is long enough for every algorithm that takes secrets";

struct Keys {
    rsa: KeyPair,
    ec: KeyPair,
}

impl Keys {
    fn new() -> Self {
        Self {
            rsa: KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
            ec: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        }
    }

    fn hub(&self) -> TestHub {
        let issuer = |name: &str, key: &KeyPair| {
            let key = Key::pem(key.public_key_pem().as_bytes(), &[]).unwrap();
            IssuerConfig {
                name: name.to_owned(),
                keys: KeySource::Given(vec![Arc::new(key)]),
                mercure0: Actions::default(),
            }
        };
        let narrow = [
            Key::secret(NARROW_SECRET, &[Algorithm::HS256]),
            Key::pem(self.rsa.public_key_pem().as_bytes(), &[Algorithm::RS256]),
        ];
        let narrow = KeySource::Given(narrow.map(|key| Arc::new(key.unwrap())).into());
        TestHub::with(|config| {
            config.auth.issuers =
                vec![ISSUER.config(), OTHER_ISSUER.config(), issuer(RSA, &self.rsa), issuer(EC, &self.ec)];
            config.auth.issuers.push(IssuerConfig {
                name: NARROW.to_owned(),
                keys: narrow,
                mercure0: Actions::default(),
            });
            config.auth.resource = RESOURCE.to_owned();
            config.auth.allow_anonymous = true;
        })
    }
}

fn claims(change: Value) -> Value {
    let mut claims = ISSUER.claims(&["*"], &["*"]);
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

fn part(json: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json.to_string())
}

/// Signed by [`ISSUER`]'s secret, whatever the header says.
fn with_header(header: Value, claims: &Value) -> String {
    ISSUER.signing().sign_raw(&header, claims).unwrap()
}

fn issued_by(key: &SigningKey, claims: &Value) -> String {
    key.sign(claims, None).unwrap()
}

/// A name, a token, and whether it is good.
fn cases(keys: &Keys) -> Vec<(&'static str, String, bool)> {
    let good = claims(json!({}));
    let issuer = ISSUER.signing();
    let rsa = SigningKey::pem(keys.rsa.serialize_pem().as_bytes()).unwrap();
    let ec = SigningKey::pem(keys.ec.serialize_pem().as_bytes()).unwrap();
    let attacker = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let attackers = SigningKey::pem(attacker.serialize_pem().as_bytes()).unwrap();
    let now = now_ms() / 1000;
    let (from_rsa, from_ec) = (claims(json!({"iss": RSA})), claims(json!({"iss": EC})));
    let from_narrow = claims(json!({"iss": NARROW}));
    let narrow = |algorithm| issued_by(&SigningKey::secret(NARROW_SECRET).with_algorithm(algorithm), &from_narrow);
    let rsa_with = |algorithm, claims: &Value| {
        issued_by(&SigningKey::pem(keys.rsa.serialize_pem().as_bytes()).unwrap().with_algorithm(algorithm), claims)
    };
    let pem = keys.rsa.public_key_pem();
    let signed = issued_by(&issuer, &good);
    let [header, payload, signature] = signed.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let typ = |typ: Value| with_header(json!({"alg": "HS256", "typ": typ}), &good);
    let point = attacker.public_key_raw();
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "kid": "mine",
        "x": BASE64_URL_SAFE_NO_PAD.encode(&point[1..33]), "y": BASE64_URL_SAFE_NO_PAD.encode(&point[33..65]),
    });
    let embedded = |name: &str, value: Value| {
        let mut header = header_of(Algorithm::ES256);
        header[name] = value;
        attackers.sign_raw(&header, &from_ec).unwrap()
    };
    let twice = format!("{{\"aud\": \"elsewhere\", {}", &good.to_string()[1..]);
    let twice = RawValue::from_string(twice).unwrap();
    let details = |details: Value| issued_by(&issuer, &claims(json!({"authorization_details": details})));
    let zeros = BASE64_URL_SAFE_NO_PAD.encode([0; 64]);
    let ec_signed = issued_by(&ec, &from_ec);
    vec![
        ("as it should be", signed.clone(), true),
        ("typ in another case", typ(json!("AT+JWT")), true),
        ("typ as a media type", typ(json!("application/at+jwt")), true),
        ("aud is a list", issued_by(&issuer, &claims(json!({"aud": ["x", RESOURCE]}))), true),
        ("nbf within the skew", issued_by(&issuer, &claims(json!({"nbf": now + 10}))), true),
        ("rsa", issued_by(&rsa, &from_rsa), true),
        ("rsa with another padding", rsa_with(Algorithm::PS512, &from_rsa), true),
        ("ecdsa", ec_signed.clone(), true),
        ("the one algorithm of a secret", narrow(Algorithm::HS256), true),
        ("the one algorithm of an rsa key", rsa_with(Algorithm::RS256, &from_narrow), true),
        (
            "an action that isn't known",
            details(json!([{"type": fanwire::auth::DETAIL_TYPE, "actions": ["fly"], "topics": [{"match": "*"}]}])),
            true,
        ),
        // [RFC 8725 §2.1, §3.1]
        ("alg none", format!("{}.{payload}.", part(&json!({"alg": "none", "typ": "at+jwt"}))), false),
        ("alg nOnE", format!("{}.{payload}.", part(&json!({"alg": "nOnE", "typ": "at+jwt"}))), false),
        (
            "alg none with a signature",
            format!("{}.{payload}.{signature}", part(&json!({"alg": "none", "typ": "at+jwt"}))),
            false,
        ),
        ("an algorithm that its secret isn't for", narrow(Algorithm::HS512), false),
        ("an algorithm that its rsa key isn't for", rsa_with(Algorithm::PS256, &from_narrow), false),
        ("the rsa key's pem as a secret", issued_by(&SigningKey::secret(pem.as_bytes()), &from_rsa), false),
        ("the rsa key's der as a secret", issued_by(&SigningKey::secret(keys.rsa.public_key_raw()), &from_rsa), false),
        ("another alg than was signed with", with_header(json!({"alg": "HS512", "typ": "at+jwt"}), &good), false),
        ("an ecdsa signature of zeros", format!("{}.{zeros}", ec_signed.rsplit_once('.').unwrap().0), false),
        (
            "alg twice",
            issuer.sign_bytes(br#"{"alg":"none","alg":"HS256","typ":"at+jwt"}"#, good.to_string().as_bytes()).unwrap(),
            false,
        ),
        // §2.2, §3.5
        ("a weak secret", issued_by(&SigningKey::secret(b"secret"), &good), false),
        // §2.3
        ("no signature", format!("{header}.{payload}."), false),
        ("no signature and no dot", format!("{header}.{payload}"), false),
        // §2.4, §3.6: what is encrypted or compressed isn't taken at all.
        (
            "an encrypted token",
            format!(
                "{}.{payload}.{payload}.{payload}.{signature}",
                part(&json!({"alg": "dir", "enc": "A128GCM", "zip": "DEF", "typ": "at+jwt"}))
            ),
            false,
        ),
        // §2.6, §3.7
        ("claims that aren't utf-8", issuer.sign_bytes(HEADER, &not_utf8(&good)).unwrap(), false),
        ("a claim that means nothing and isn't utf-8", issuer.sign_bytes(HEADER, &strange(&good)).unwrap(), false),
        (
            "a header that isn't utf-8 where it means nothing",
            issuer
                .sign_bytes(b"{\"alg\":\"HS256\",\"typ\":\"at+jwt\",\"x\":\"\xff\"}", good.to_string().as_bytes())
                .unwrap(),
            false,
        ),
        ("claims in utf-16", issuer.sign_bytes(HEADER, &utf16(&good)).unwrap(), false),
        ("four parts", format!("{signed}.{signature}"), false),
        ("another payload", format!("{header}.{}.{signature}", part(&claims(json!({"sub": "admin"})))), false),
        ("half a signature", signed[..signed.len() - 20].to_owned(), false),
        ("padded base64", format!("{signed}="), false),
        ("garbage", "garbage".to_owned(), false),
        // §2.7, §3.8
        ("an issuer that nobody knows", issued_by(&issuer, &claims(json!({"iss": "https://evil.example"}))), false),
        ("the other issuer's name", issued_by(&issuer, &claims(json!({"iss": OTHER_ISSUER.name}))), false),
        ("the other issuer's key", issued_by(&OTHER_ISSUER.signing(), &good), false),
        ("no iss", issued_by(&issuer, &claims(json!({"iss": null}))), false),
        ("iss is a list", issued_by(&issuer, &claims(json!({"iss": [ISSUER.name]}))), false),
        // §2.7, §3.9
        ("no aud", issued_by(&issuer, &claims(json!({"aud": null}))), false),
        ("another aud", issued_by(&issuer, &claims(json!({"aud": "https://hub.example/"}))), false),
        ("an aud that begins so", issued_by(&issuer, &claims(json!({"aud": format!("{RESOURCE}/x")}))), false),
        ("an empty list as aud", issued_by(&issuer, &claims(json!({"aud": []}))), false),
        ("aud twice", issuer.sign_raw(&header_of(Algorithm::HS256), &twice).unwrap(), false),
        // §2.8, §3.11
        ("typ JWT", typ(json!("JWT")), false),
        ("another application's typ", typ(json!("application/jwt")), false),
        ("typ of a request", typ(json!("oauth-authz-req+jwt")), false),
        ("no typ", with_header(json!({"alg": "HS256"}), &good), false),
        // §3.10
        (
            "a kid that isn't there, of a key that is no trusted one",
            attackers.sign(&from_ec, Some("../../../dev/null")).unwrap(),
            false,
        ),
        ("the kid of another issuer", OTHER_ISSUER.signing().sign(&good, Some(OTHER_ISSUER.name)).unwrap(), false),
        ("an embedded jwk", embedded("jwk", jwk), false),
        ("a jku", embedded("jku", json!("http://127.0.0.1:1/keys")), false),
        ("an x5u", embedded("x5u", json!("http://127.0.0.1:1/cert")), false),
        (
            "what must be understood and isn't",
            with_header(json!({"alg": "HS256", "typ": "at+jwt", "crit": ["b64"], "b64": false}), &good),
            false,
        ),
        // [RFC 9068 §4]
        ("no exp", issued_by(&issuer, &claims(json!({"exp": null}))), false),
        ("expired", issued_by(&issuer, &claims(json!({"exp": now - 1}))), false),
        ("exp is a text", issued_by(&issuer, &claims(json!({"exp": (now + 60).to_string()}))), false),
        ("exp before the epoch", issued_by(&issuer, &claims(json!({"exp": -1}))), false),
        ("not yet valid", issued_by(&issuer, &claims(json!({"nbf": now + 60}))), false),
        // [Mercure, Authorization Details]
        ("details that are no list", details(json!({})), false),
        (
            "a detail that can't be understood",
            details(
                json!([{"type": fanwire::auth::DETAIL_TYPE, "actions": ["subscribe"], "topics": [{"match": "a", "match_type": "glob"}]}]),
            ),
            false,
        ),
        (
            "a pattern that isn't one",
            details(
                json!([{"type": fanwire::auth::DETAIL_TYPE, "actions": ["subscribe"], "topics": [{"match": "/(", "match_type": "urlpattern"}]}]),
            ),
            false,
        ),
        (
            "a pattern that looks back",
            details(
                json!([{"type": fanwire::auth::DETAIL_TYPE, "actions": ["subscribe"], "topics": [{"match": "/:a((a)\\1)", "match_type": "urlpattern"}]}]),
            ),
            false,
        ),
        ("too long", issued_by(&issuer, &claims(json!({"x": "y".repeat(7_000)}))), false),
    ]
}

const HEADER: &[u8] = br#"{"alg":"HS256","typ":"at+jwt"}"#;

fn not_utf8(claims: &Value) -> Vec<u8> {
    let text = claims.to_string();
    let at = text.find("somebody").unwrap();
    let mut bytes = text.into_bytes();
    bytes[at] = 0xff;
    bytes
}

fn strange(claims: &Value) -> Vec<u8> {
    [b"{\"x\":\"\xff\",", &claims.to_string().as_bytes()[1..]].concat()
}

fn utf16(claims: &Value) -> Vec<u8> {
    claims.to_string().encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn header_of(algorithm: Algorithm) -> Value {
    json!({"alg": format!("{algorithm:?}"), "typ": "at+jwt"})
}

#[tokio::test]
async fn a_token_is_good_or_it_is_invalid_on_every_transport() {
    let keys = Keys::new();
    let hub = keys.hub();
    let mut count = 0;
    for (name, token, good) in cases(&keys) {
        for way in Way::EVERY {
            for in_band in [false, true] {
                if in_band && !way.is_session() {
                    continue;
                }
                let mut options = way.options(&hub).topic("a").unwrap().token(token.parse().unwrap());
                options.auth_in_band = in_band;
                if good {
                    let mut feed = way.connect(&options).await;
                    let first = soon(feed.next()).await.unwrap();
                    assert!(matches!(first, Item::Hello(_)), "{name}: {way:?} {first:?}");
                    continue;
                }
                let expected = if way.is_session() { ByeCode::Unauthorized as u32 } else { 401 };
                assert_eq!(refusal(way, &options).await, expected, "{name}: {way:?}, in band: {in_band}");
            }
        }
        for version in Version::ALL {
            let post = Ask::post("application/x-www-form-urlencoded", "topic=a");
            let answer = post.header("authorization", format!("Bearer {token}")).whole(version, &hub).await;
            if good {
                assert!(matches!(answer.status.as_u16(), 200 | 403), "{name}: {version:?}");
                count += u64::from(answer.status == 200);
                continue;
            }
            let got = (answer.status.as_u16(), answer.code(), answer.challenge().to_owned());
            let invalid = (401, "invalid_token".to_owned(), "Bearer error=\"invalid_token\"".to_owned());
            assert_eq!(got, invalid, "{name}: {version:?}");
            assert!(!answer.text().contains("expired"), "why it isn't good is nobody's business");
        }
    }
    let mut publisher = hub.publisher_with(ISSUER.token(&["*"], &[]));
    let last = publisher.publish(&Publication::text("a", "")).await.unwrap();
    assert_eq!(last.cursor.unwrap().seq.0, count + 1, "nothing was published that wasn't answered 200");
}

#[tokio::test]
async fn a_token_that_is_no_good_changes_nothing_in_a_session_and_opens_nothing_else() {
    let keys = Keys::new();
    let hub = keys.hub();
    let options = Way::WebTransport.options(&hub).topic("a").unwrap().token(ISSUER.token(&["a"], &["a"]));
    let mut feed = Way::WebTransport.connect(&options).await;
    assert!(matches!(soon(feed.next()).await.unwrap(), Item::Hello(_)));
    let control = feed.control().unwrap();
    for (name, token, good) in cases(&keys) {
        if good {
            continue;
        }
        let refused = soon(control.authenticate(&token.parse().unwrap())).await;
        assert!(
            matches!(&refused, Err(ControlError::Refused { code, .. }) if code == "invalid_token"),
            "{name}: {refused:?}"
        );
        for path in ["/events/ticket", "/events/revocations"] {
            let ask = Ask { path: path.to_owned(), ..Ask::post("application/json", r#"{"jti": "x"}"#) };
            let answer = ask.header("authorization", format!("Bearer {token}")).whole(Version::H1, &hub).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (401, "invalid_token".to_owned()), "{name}: {path}");
        }
        let cookie = format!("__Secure-mercure_access_token={token}");
        let ask = Ask::get("/events?topic=a").header("cookie", cookie).whole(Version::H1, &hub).await;
        assert_eq!((ask.status.as_u16(), ask.code()), (401, "invalid_token".to_owned()), "{name} in a cookie");
    }
    // Its first token counts as before.
    let private = Publication { private: true, ..Publication::text("a", "still") };
    soon(control.publish(&private)).await.unwrap();
    let event = loop {
        match soon(feed.next()).await.unwrap() {
            Item::Ping(_) => {}
            item => break item,
        }
    };
    assert!(matches!(&event, Item::Event(event) if event.event.draft.data.bytes() == "still"), "{event:?}");
}

#[tokio::test]
async fn a_huge_token_in_band_ends_the_session() {
    let hub = TestHub::with_keys(|_| ());
    let mut options = Way::WebTransport.options(&hub).topic("a").unwrap().token("x".repeat(1 << 20).parse().unwrap());
    options.auth_in_band = true;
    assert_eq!(refusal(Way::WebTransport, &options).await, ByeCode::Unauthorized as u32);
}
