//! Tokens of Mercure 0.x that are changed: none is taken for more than was signed, nor for an access token.

use fanwire::auth::{Action, Actions, Auth, Config, IssuerConfig, Shown};
use fanwire_protocol::Topic;
use fanwire_tests::{ISSUER, RESOURCE};
use serde_json::Value;

use crate::{fuzz, tokens::Members};

const NOW_MS: u64 = 1_800_000_000_000;

#[test]
fn what_is_signed_for_0x_counts_as_it_is_written_or_not_at_all() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let issuer = IssuerConfig { mercure0: Actions { publish: true, subscribe: true }, ..ISSUER.config() };
    let config = Config { issuers: vec![issuer], resource: RESOURCE.to_owned(), ..Config::default() };
    let auth = runtime.block_on(async { Auth::new(config) });
    let signing = ISSUER.signing();
    let seeds: [&[u8]; 5] = [
        br#"{"mercure":{"publish":["*"],"subscribe":["a","https://example.com/{b,c}{?d}"],"payload":{"n":[1,null]}}}"#,
        br#"{"iss":"https://app.example","aud":["x","https://hub.example/.well-known/mercure"],"exp":1800000060,"nbf":1799999000,"sub":"x","mercure":{"subscribe":["*"]}}"#,
        br#"{"https://mercure.rocks/":{"publish":["a"],"subscribe":null},"mercure":{"publish":["*"],"subscribe":["*"]}}"#,
        br#"{"iss":"https://other.example","exp":1,"aud":"x","mercure":{"publish":["a{","{a:9999}",""],"subscribe":"*"}}"#,
        br#""iss":null,"aud":null,"exp":null,"https://mercure.rocks/":null,"mercure":null,"mercure":{},"payload":null"#,
    ];
    let mut taken = 0;
    fuzz(bolero::check!(), &seeds, |bytes, _| {
        let token = signing.sign_bytes(br#"{"alg":"HS256","typ":"JWT"}"#, bytes).unwrap();
        assert!(runtime.block_on(auth.admit(Shown::Token(&token), NOW_MS)).is_err(), "it is no access token");
        for action in [Action::Publish, Action::Subscribe] {
            let Ok(pass) = runtime.block_on(auth.admit_mercure0(Some(&token), action, NOW_MS)) else { continue };
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
            let granted = |name: &str, matches: &dyn Fn(&str) -> bool| {
                grants[name].as_array().is_some_and(|all| all.iter().any(|one| one.as_str().is_some_and(matches)))
            };
            let (its, other) = match action {
                Action::Publish => ((&pass.rights.publish, "publish"), &pass.rights.subscribe),
                Action::Subscribe => ((&pass.rights.subscribe, "subscribe"), &pass.rights.publish),
            };
            assert!(other.is_empty() && !pass.rights.revoke, "for what it was shown for, and nothing else");
            for topic in ["a", "c"] {
                let covers = its.0.covers(&Topic::new(topic).unwrap());
                let expected = granted(its.1, &|selector| selector == topic || selector == "*");
                // What a template takes is looked at elsewhere.
                assert!(
                    covers == expected || covers && granted(its.1, &|selector| selector.contains('{')),
                    "{grants} {topic}"
                );
            }
        }
    });
    assert!(taken > 0, "a run that lets nobody in proves nothing");
}
