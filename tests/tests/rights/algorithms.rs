//! Every algorithm that a hub takes, with keys as a configuration names them: files of secrets, of PEM and of JWK sets.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use fanwire::{
    auth::{Algorithm, mint::SigningKey},
    config::{Config, Layer},
};
use fanwire_tests::{Ask, ISSUER, RESOURCE, TestHub, Version};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

const SECRET: &str = "a secret that is long enough for the longest of the hashes, HS512's";

/// An issuer's name, the `kid` of its key, what signs (none: the secret), and with what.
type Case<'a> = (&'static str, Option<&'static str>, Option<&'a KeyPair>, &'static [Algorithm]);

#[tokio::test]
async fn each_verifies_with_a_key_from_a_file() {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let [p256, p384, ed] = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519]
        .map(|algorithm| KeyPair::generate_for(algorithm).unwrap());
    let hub = hub(&[("rsa", &rsa), ("p256", &p256), ("p384", &p384), ("ed", &ed)]);
    let cases: [Case<'_>; 8] = [
        ("secret", None, None, &[HS256, HS384, HS512]),
        ("rsa", None, Some(&rsa), &[RS256, RS384, RS512, PS256, PS384, PS512]),
        ("p256", None, Some(&p256), &[ES256]),
        ("p384", None, Some(&p384), &[ES384]),
        ("ed", None, Some(&ed), &[EdDSA]),
        ("set", Some("p256"), Some(&p256), &[ES256]),
        ("set", Some("p384"), Some(&p384), &[ES384]),
        ("set", Some("ed"), Some(&ed), &[EdDSA]),
    ];
    for (issuer, kid, pair, algorithms) in cases {
        for &algorithm in algorithms {
            let key = match pair {
                None => SigningKey::secret(SECRET.as_bytes()),
                Some(pair) => SigningKey::pem(pair.serialize_pem().as_bytes()).unwrap(),
            };
            let mut claims = ISSUER.claims(&["a"], &[]);
            claims["iss"] = json!(issuer);
            let token = key.with_algorithm(algorithm).sign(&claims, kid).unwrap();
            let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
            let header: Value = serde_json::from_slice(&header).unwrap();
            assert_eq!(header["alg"], format!("{algorithm:?}"));
            assert_eq!(publish(&hub, &token).await, 200, "{algorithm:?} of {issuer}");
            assert_eq!(publish(&hub, &forged(&token)).await, 401, "{algorithm:?} of {issuer}, with another signature");
        }
    }
}

/// A hub that is configured by a file, with an issuer for the secret, for each of the keys, and for the set of all that aren't RSA.
fn hub(pairs: &[(&str, &KeyPair)]) -> TestHub {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let mut toml = format!("https = \"off\"\nresource = {RESOURCE:?}\n");
    let mut issuer = |name: &str, key: &str, path: std::path::PathBuf| {
        toml += &format!("[[issuer]]\niss = {name:?}\n{key} = {path:?}\n");
    };
    issuer("secret", "secret_file", file("secret", format!("{SECRET}\n")));
    for (name, pair) in pairs {
        issuer(name, "pem", file(name, pair.public_key_pem()));
    }
    let set: Vec<Value> = pairs.iter().filter_map(|(name, pair)| jwk(name, pair)).collect();
    issuer("set", "jwks", file("set", json!({"keys": set}).to_string()));
    let layer = Layer { config: Some(file("fanwire.toml", toml)), ..Layer::default() };
    let auth = Config::load(layer).unwrap().auth;
    TestHub::with(|config| config.auth = auth)
}

fn jwk(name: &str, pair: &KeyPair) -> Option<Value> {
    let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let raw = pair.public_key_raw();
    let curve = match name {
        "p256" => "P-256",
        "p384" => "P-384",
        "ed" => return Some(json!({"kty": "OKP", "crv": "Ed25519", "kid": name, "x": text(raw)})),
        _ => return None,
    };
    // Uncompressed: a byte and two coordinates.
    let (x, y) = raw[1..].split_at(raw.len() / 2);
    Some(json!({"kty": "EC", "crv": curve, "kid": name, "x": text(x), "y": text(y)}))
}

fn forged(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
    signature[9] ^= 1;
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

async fn publish(hub: &TestHub, token: &str) -> u16 {
    let post = Ask::post("application/x-www-form-urlencoded", "topic=a");
    post.header("authorization", format!("Bearer {token}")).whole(Version::H1, hub).await.status.as_u16()
}
