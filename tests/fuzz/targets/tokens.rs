//! Tokens that are changed: none is taken for more than was signed.

use std::collections::HashMap;

use fanwire::auth::{Auth, Config, DETAIL_TYPE, Pass, Shown};
use fanwire_protocol::{HubUrl, Pattern, Topic, TopicUrl};
use fanwire_tests::{ISSUER, RESOURCE};
use serde_json::{Value, value::RawValue};

use crate::fuzz;

const NOW_MS: u64 = 1_800_000_000_000;
const HEADER: &[u8] = br#"{"alg":"HS256","typ":"at+jwt"}"#;
const CLAIMS: &[u8] = br#"{"iss":"https://app.example","aud":"https://hub.example/.well-known/mercure","sub":"x","jti":"1","iat":1799999000,"nbf":1799999000,
    "exp":1800000060,"authorization_details":[{"type":"https://mercure.rocks/authorization-detail","actions":["publish","subscribe"],
    "topics":[{"match":"a"},{"match":"*"},{"match":"/b/:id","match_type":"urlpattern"}],"payload":{"n":[1,null]}}]}"#;

struct Door {
    runtime: tokio::runtime::Runtime,
    auth: Auth,
}

impl Door {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = Config { issuers: vec![ISSUER.config()], resource: RESOURCE.to_owned(), ..Config::default() };
        let auth = runtime.block_on(async { Auth::new(config) });
        Self { runtime, auth }
    }

    fn admits(&self, token: &str) -> Option<Pass> {
        self.runtime.block_on(self.auth.admit(Shown::Token(token), NOW_MS)).ok()
    }
}

#[test]
fn a_token_that_was_changed_lets_nobody_in() {
    let door = Door::new();
    let signing = ISSUER.signing();
    let good = signing.sign_bytes(HEADER, CLAIMS).unwrap();
    let other = signing.sign_bytes(HEADER, &CLAIMS.replacing(b"\"x\"", b"\"y\"")).unwrap();
    let none = good.replacen("eyJhbGciOiJIUzI1NiI", "eyJhbGciOiJub25lIiw", 1);
    assert!(door.admits(&good).is_some() && door.admits(&other).is_some());
    fuzz(bolero::check!(), &[good.as_bytes(), other.as_bytes(), none.as_bytes()], |text, _| {
        let text = String::from_utf8_lossy(text);
        assert_eq!(door.admits(&text).is_some(), *text == good || *text == other, "{text}");
    });
}

#[test]
fn what_an_issuer_signs_counts_as_it_is_written_or_not_at_all() {
    let door = Door::new();
    let signing = ISSUER.signing();
    let seeds: [&[u8]; 6] = [
        CLAIMS,
        br#"{"iss":"https://app.example","aud":["x","https://hub.example/.well-known/mercure"],"exp":1.8000001e9,"nbf":null}"#,
        br#"{"iss":"https://app.example","aud":"https://hub.example/.well-known/mercure","exp":1e300,"authorization_details":[]}"#,
        br#"{"type":"https://mercure.rocks/authorization-detail","actions":["fly",1],"topics":[]},{"type":"x"}"#,
        br#"{"iss":"https://app.example","aud":["https://hub.example/.well-known/mercure"],"exp":1800000060,"client_id":"c",
            "authorization_details":[{"type":"https://mercure.rocks/authorization-detail","actions":["subscribe","revoke"],"topics":[{"match":"a"}]},
            {"type":"https://mercure.rocks/authorization-detail","actions":["publish"],"topics":[{"match":"c","match_type":"exact"},{"match":"/:b/1","match_type":"urlpattern"}]}]}"#,
        br#""exp":-1,"exp":0,"aud":{},"authorization_details":null,"match_type":"exact","match":"a""#,
    ];
    let mut taken = 0;
    fuzz(bolero::check!(), &seeds, |claims, _| {
        let Some(pass) = door.admits(&signing.sign_bytes(HEADER, claims).unwrap()) else { return };
        taken += 1;
        let claims = Members::of(claims);
        assert_eq!(claims.get("iss"), ISSUER.name);
        let aud = claims.get("aud");
        assert!(aud == RESOURCE || aud.as_array().is_some_and(|all| all.iter().any(|one| one == RESOURCE)), "{aud}");
        assert!(claims.get("exp").as_f64().unwrap() * 1000.0 > NOW_MS as f64);
        assert!(claims.get("nbf").as_f64().is_none_or(|nbf| nbf * 1000.0 < (NOW_MS + 30_001) as f64));
        let details = match claims.get("authorization_details") {
            Value::Null => vec![],
            details => details.as_array().expect("a list").clone(),
        };
        let granted = |action: &str, topic: &str| details.iter().any(|detail| grants(detail, action, topic));
        for (action, scope) in [("publish", &pass.rights.publish), ("subscribe", &pass.rights.subscribe)] {
            for topic in ["a", "c", "/b/1"] {
                let covers = scope.covers(&Topic::new(topic).unwrap());
                assert_eq!(covers, granted(action, topic), "{action} {topic}: {details:?}");
            }
        }
        // Which is for those alone who may revoke everything.
        assert_eq!(pass.rights.revoke, granted("revoke", "\n"));
        let identity = pass.identity.unwrap();
        let named = |name: &str| claims.get(name).as_str().map(Box::from);
        assert_eq!(
            (identity.subject, identity.client_id, identity.id),
            (named("sub"), named("client_id"), named("jti"))
        );
    });
    assert!(taken > 0, "a run that lets nobody in proves nothing");
}

#[test]
fn a_header_that_was_changed_is_one_of_an_access_token_or_none() {
    let door = Door::new();
    let signing = ISSUER.signing();
    let seeds: [&[u8]; 8] = [
        HEADER,
        br#"{"alg":"HS256","crit":["exp"],"exp":1,"typ":"at+jwt"}"#,
        br#"{"typ":"JWT","alg":"HS256"}"#,
        br#"{"alg":"HS256"}"#,
        br#"{"typ":"application/AT+JWT","alg":"HS256","kid":"one","cty":"x"}"#,
        br#"{"alg":"none","typ":"at+jwt","crit":["exp"],"b64":false}"#,
        br#"{"alg":"HS512","typ":"JWT","jku":"http://127.0.0.1:1/","x5u":"x","jwk":{"kty":"oct","k":"AA"}}"#,
        br#""alg":"HS256","typ":"at+jwt","zip":"DEF","enc":"A128GCM""#,
    ];
    fuzz(bolero::check!(), &seeds, |header, _| {
        if door.admits(&signing.sign_bytes(header, CLAIMS).unwrap()).is_none() {
            return;
        }
        let header = Members::of(header);
        let typ = header.get("typ").as_str().unwrap().to_ascii_lowercase();
        assert!(header.get("alg") == "HS256" && header.get("crit").is_null());
        assert!(typ == "at+jwt" || typ == "application/at+jwt", "{typ}");
    });
}

/// The members of an object, each as it is written: what is in those that mean nothing here needn't make sense.
pub(crate) struct Members(HashMap<String, Box<RawValue>>);

impl Members {
    pub(crate) fn of(json: &[u8]) -> Self {
        Self(serde_json::from_slice(json).expect("what is taken is an object"))
    }

    pub(crate) fn get(&self, name: &str) -> Value {
        self.0.get(name).map_or(Value::Null, |raw| serde_json::from_str(raw.get()).expect("what counts is JSON"))
    }
}

/// The reference: whether a detail grants an action on a topic. What a URL pattern takes is looked at elsewhere; no topic holds a line's end.
fn grants(detail: &Value, action: &str, topic: &str) -> bool {
    let any = |name: &str, is: &dyn Fn(&Value) -> bool| detail[name].as_array().is_some_and(|all| all.iter().any(is));
    let base = HubUrl::new(RESOURCE.parse().unwrap()).unwrap();
    let takes = |entry: &Value| match (entry["match"].as_str().unwrap(), &entry["match_type"]) {
        ("*", _) => true,
        (text, Value::Null) => text == topic,
        (text, kind) if kind == "exact" => text == topic,
        (text, kind) if kind == "urlpattern" => Topic::new(topic)
            .is_ok_and(|topic| Pattern::new(text, &base).unwrap().matches(&TopicUrl::new(&topic, &base))),
        (_, kind) => panic!("{kind} is no type of a matcher"),
    };
    detail["type"] == DETAIL_TYPE && any("actions", &|one| one == action) && any("topics", &takes)
}

trait Replacing {
    fn replacing(&self, what: &[u8], with: &[u8]) -> Vec<u8>;
}

impl Replacing for [u8] {
    fn replacing(&self, what: &[u8], with: &[u8]) -> Vec<u8> {
        let at = self.windows(what.len()).position(|part| part == what).unwrap();
        [&self[..at], with, &self[at + what.len()..]].concat()
    }
}
