//! Tokens of Mercure 0.x that are changed: none is taken for more than was signed, nor for an access token.

use fanwire::auth::{Action, Actions, Auth, Config, IssuerConfig, Shown};
use fanwire_protocol::{HubUrl, Matcher, Topic};
use fanwire_tests::{ISSUER, RESOURCE};
use serde_json::Value;

use crate::{fuzz, tokens::Members};

const NOW_MS: u64 = 1_800_000_000_000;
/// And whether it is that of an access token.
const HEADERS: [(&[u8], bool); 4] = [
    (br#"{"alg":"HS256","typ":"JWT"}"#, false),
    (br#"{"alg":"HS256"}"#, false),
    (br#"{"alg":"HS256","typ":"application/jwt"}"#, false),
    (br#"{"alg":"HS256","typ":"at+jwt"}"#, true),
];

#[test]
fn what_is_signed_for_0x_counts_as_it_is_written_or_not_at_all() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let issuer = IssuerConfig { mercure0: Actions { publish: true, subscribe: true }, ..ISSUER.config() };
    let config = Config { issuers: vec![issuer], resource: RESOURCE.to_owned(), ..Config::default() };
    let auth = runtime.block_on(async { Auth::new(config) });
    let signing = ISSUER.signing();
    let seeds: [&[u8]; 6] = [
        br#"{"mercure":{"publish":["*"],"subscribe":["a","https://example.com/{b,c}{?d}"],"payload":{"n":[1,null]}}}"#,
        br#"{"iss":"https://app.example","aud":["x","https://hub.example/.well-known/mercure"],"exp":1800000060,"nbf":1799999000,"sub":"x","mercure":{"subscribe":["*"]}}"#,
        br#"{"https://mercure.rocks/":{"publish":["a"],"subscribe":null},"mercure":{"publish":["*"],"subscribe":["*"]}}"#,
        br#"{"iss":"https://other.example","exp":1,"aud":"x","mercure":{"publish":["a{","{a:9999}",""],"subscribe":"*"}}"#,
        br#"{"aud":[],"exp":1800000060,"jti":"1","mercure":{"publish":["c"],"subscribe":["{x}"]}}"#,
        br#""iss":null,"aud":null,"exp":null,"https://mercure.rocks/":null,"mercure":null,"mercure":{},"payload":null"#,
    ];
    let base = HubUrl::new(RESOURCE.parse().unwrap()).unwrap();
    let mut taken = 0;
    fuzz(bolero::check!(), &seeds, |bytes, choices| {
        let (header, is_access_token) = HEADERS[choices.among(0..=HEADERS.len() - 1)];
        let token = signing.sign_bytes(header, bytes).unwrap();
        let admitted = runtime.block_on(auth.admit(Shown::Token(&token), NOW_MS));
        assert!(is_access_token || admitted.is_err(), "it is no access token");
        for action in [Action::Publish, Action::Subscribe] {
            let Ok(pass) = runtime.block_on(auth.admit_mercure0(Some(&token), action, NOW_MS)) else { continue };
            assert!(!is_access_token, "an access token is none of 0x");
            taken += 1;
            let claims = Members::of(bytes);
            let (iss, aud) = (claims.get("iss"), claims.get("aud"));
            assert!(iss.is_null() || iss == ISSUER.name, "{iss}");
            let named = aud.is_null()
                || aud == RESOURCE
                || aud.as_array().is_some_and(|all| all.iter().any(|one| one == RESOURCE));
            assert!(named, "{aud}");
            assert!(claims.get("exp").as_f64().is_none_or(|exp| exp * 1000.0 > NOW_MS as f64));
            assert!(claims.get("nbf").as_f64().is_none_or(|nbf| nbf * 1000.0 < (NOW_MS + 30_001) as f64));
            let grants = match claims.get("https://mercure.rocks/") {
                Value::Null => claims.get("mercure"),
                grants => grants,
            };
            assert!(grants.is_object(), "{grants}");
            // What a template takes is looked at elsewhere.
            let takes = |selector: &Value, topic: &Topic| {
                Matcher::selector(selector.as_str().unwrap(), &base).unwrap().matches(topic)
            };
            let granted = |name: &str, topic: &Topic| {
                grants[name].as_array().is_some_and(|all| all.iter().any(|selector| takes(selector, topic)))
            };
            let (its, other) = match action {
                Action::Publish => ((&pass.rights.publish, "publish"), &pass.rights.subscribe),
                Action::Subscribe => ((&pass.rights.subscribe, "subscribe"), &pass.rights.publish),
            };
            assert!(other.is_empty() && !pass.rights.revoke, "for what it was shown for, and nothing else");
            for topic in ["a", "c", "https://example.com/x"] {
                let topic = Topic::new(topic).unwrap();
                assert_eq!(its.0.covers(&topic), granted(its.1, &topic), "{grants} {topic}");
            }
            let identity = pass.identity.unwrap();
            let named = |name: &str| claims.get(name).as_str().map(Box::from);
            assert_eq!((identity.subject, identity.id), (named("sub"), named("jti")));
        }
    });
    assert!(taken > 0, "a run that lets nobody in proves nothing");
}
