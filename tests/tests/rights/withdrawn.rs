//! What was let in is closed when what had let it in is withdrawn: a token, a subject, a key, an origin, strangers.

use std::time::Duration;

use fanwire::auth::mint::Claims;
use fanwire_client::{Connection, Item, Options, Publication};
use fanwire_protocol::message::{Bye, ByeCode};
use fanwire_tests::{Ask, ISSUER, OTHER_ISSUER, RESOURCE, TestHub, Version, Way, now_ms, soon};
use serde_json::json;

use crate::subscribe::refusal;

const JSON: &str = "application/json";

fn revoker(issuer: &fanwire_tests::Issuer) -> String {
    let (issuer_name, resource) = (issuer.name.to_owned(), RESOURCE.to_owned());
    let claims = Claims { issuer: issuer_name, resource, revoke: true, ..Claims::default() };
    let claims = claims.to_json(now_ms(), Duration::from_secs(60));
    format!("Bearer {}", issuer.sign(&claims).as_str())
}

async fn revoke(hub: &TestHub, token: String, body: &str) -> (u16, serde_json::Value) {
    let ask = Ask { path: "/events/revocations".to_owned(), ..Ask::post(JSON, body.to_owned()) };
    let answer = ask.header("authorization", token).whole(Version::H1, hub).await;
    (answer.status.as_u16(), answer.json())
}

async fn feed(options: &Options, way: Way) -> Connection {
    let mut feed = way.connect(options).await;
    let first = soon(feed.next()).await.unwrap();
    assert!(matches!(first, Item::Hello(_)), "{way:?}: {first:?}");
    feed
}

async fn bye(feed: &mut Connection) -> Bye {
    loop {
        match soon(feed.next()).await.unwrap() {
            Item::Ping(_) => {}
            Item::Bye(bye) => break bye,
            other => panic!("{other:?}"),
        }
    }
}

/// It gets an event: nobody has closed it.
async fn is_open(hub: &TestHub, feed: &mut Connection) {
    hub.publisher_with(ISSUER.token(&["*"], &[])).publish(&Publication::text("a", "still")).await.unwrap();
    loop {
        match soon(feed.next()).await.unwrap() {
            Item::Ping(_) => {}
            Item::Event(_) => break,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_revoked_token_and_a_revoked_subject_lose_their_feeds() {
    for body in [r#"{"jti": "bad"}"#, r#"{"sub": "bad", "exp": 9999999999}"#] {
        let hub = TestHub::with(|config| {
            config.auth.issuers = vec![ISSUER.config(), OTHER_ISSUER.config()];
            config.auth.resource = RESOURCE.to_owned();
        });
        let with = |issuer: &fanwire_tests::Issuer, jti: &str, sub: &str| {
            let mut claims = issuer.claims(&[], &["*"]);
            (claims["jti"], claims["sub"]) = (json!(jti), json!(sub));
            issuer.sign(&claims)
        };
        let (mut bad, mut good) = (vec![], vec![]);
        for way in Way::EVERY {
            let options = |token| way.options(&hub).topic("a").unwrap().token(token);
            let revoked = options(with(&ISSUER, "bad", "bad"));
            bad.push((way, feed(&revoked, way).await, revoked));
            // One that shares neither, and one that shares both, of another issuer.
            good.push(feed(&options(with(&ISSUER, "good", "good")), way).await);
            good.push(feed(&options(with(&OTHER_ISSUER, "bad", "bad")), way).await);
        }
        // Whoever may do everything else may not do this.
        let all = ISSUER.token(&["*"], &["*"]);
        assert_eq!(revoke(&hub, format!("Bearer {}", all.as_str()), body).await.0, 403);
        assert_eq!(revoke(&hub, "Bearer x".to_owned(), body).await.0, 401);
        assert_eq!(revoke(&hub, revoker(&ISSUER), "{}").await.0, 400);
        assert_eq!(revoke(&hub, revoker(&ISSUER), body).await, (200, json!({"closed": Way::EVERY.len()})));
        for (way, mut feed, options) in bad {
            let bye = bye(&mut feed).await;
            assert_eq!((bye.code, bye.retry_ms), (ByeCode::Revoked as u32, None), "{way:?}");
            let expected = if way.is_session() { ByeCode::Unauthorized as u32 } else { 401 };
            assert_eq!(refusal(way, &options).await, expected, "{way:?}");
        }
        for mut feed in good {
            is_open(&hub, &mut feed).await;
        }
        // A subject may come back with a token that was issued later.
        let mut claims = ISSUER.claims(&[], &["*"]);
        (claims["jti"], claims["sub"]) = (json!("newer"), json!("bad"));
        claims["iat"] = json!(now_ms() / 1000 + 1);
        let options = Way::SseH1.options(&hub).topic("a").unwrap().token(ISSUER.sign(&claims));
        let mut newer = feed(&options, Way::SseH1).await;
        is_open(&hub, &mut newer).await;
    }
}

#[tokio::test]
async fn a_feed_that_loses_its_token_does_not_go_on_as_a_strangers() {
    let hub = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    let mut stranger = feed(&Way::SseH1.options(&hub).topic("a").unwrap(), Way::SseH1).await;
    let mut lost = vec![];
    for way in Way::EVERY {
        for (id, life_ms, code) in [("revoked", 3_600_000, ByeCode::Revoked), ("expires", 3_000, ByeCode::Expired)] {
            let mut claims = ISSUER.claims(&[], &["a"]);
            (claims["jti"], claims["exp"]) = (json!(id), json!((now_ms() + life_ms) as f64 / 1000.0));
            let options = way.options(&hub).topic("a").unwrap().token(ISSUER.sign(&claims));
            lost.push((way, code, feed(&options, way).await));
        }
    }
    let closed = revoke(&hub, revoker(&ISSUER), r#"{"jti": "revoked"}"#).await;
    assert_eq!(closed, (200, json!({"closed": Way::EVERY.len()})));
    for (way, code, feed) in &mut lost {
        assert_eq!(bye(feed).await.code, *code as u32, "{way:?}");
    }
    // What is public is for whoever shows nothing, and still not for them.
    is_open(&hub, &mut stranger).await;
    for (way, code, mut feed) in lost {
        let next = soon(feed.next()).await;
        assert!(next.is_err(), "{way:?} after {code:?}: {next:?}");
    }
}

#[tokio::test]
async fn a_reload_closes_what_it_wouldnt_let_in() {
    let mut config = None;
    let hub = TestHub::with(|with| {
        with.auth.issuers = vec![ISSUER.config(), OTHER_ISSUER.config()];
        with.auth.resource = RESOURCE.to_owned();
        with.auth.allow_anonymous = true;
        with.allowed_origins = vec!["https://app.example".parse().unwrap(), "https://old.example".parse().unwrap()];
        config = Some(with.clone());
    });
    let mut config = config.unwrap();
    let (mut bad, mut good) = (vec![], vec![]);
    for way in Way::EVERY {
        let options = || way.options(&hub).topic("a").unwrap();
        let from = |origin: &str| {
            let mut options = options().token(ISSUER.token(&[], &[]));
            options.headers.insert("origin", origin.parse().unwrap());
            options
        };
        bad.push((way, feed(&options(), way).await));
        bad.push((way, feed(&options().token(OTHER_ISSUER.token(&[], &[])), way).await));
        bad.push((way, feed(&from("https://old.example"), way).await));
        good.push(feed(&options().token(ISSUER.token(&[], &[])), way).await);
        good.push(feed(&from("https://app.example"), way).await);
    }
    assert_eq!(hub.running().reload(&config).await, 0, "nothing has changed");
    config.auth.issuers.pop();
    config.auth.allow_anonymous = false;
    config.allowed_origins.pop();
    assert_eq!(hub.running().reload(&config).await, bad.len());
    for (way, mut feed) in bad {
        assert_eq!(bye(&mut feed).await.code, ByeCode::Revoked as u32, "{way:?}");
    }
    for mut feed in good {
        is_open(&hub, &mut feed).await;
    }
    let old = Ask::get("/events?topic=a").header("origin", "https://old.example");
    assert_eq!(old.whole(Version::H1, &hub).await.code(), "foreign_origin");
}

#[tokio::test]
async fn as_many_revocations_as_may_be_are_kept() {
    let hub = TestHub::with_keys(|config| config.auth.revocations_max = 3);
    let now = now_ms() / 1000;
    let over = json!({"sub": "over", "exp": now - 1}).to_string();
    for body in [r#"{"jti": "1"}"#, r#"{"sub": "1"}"#, over.as_str()] {
        assert_eq!(revoke(&hub, revoker(&ISSUER), body).await.0, 200, "{body}");
    }
    // What has expired makes room.
    assert_eq!(revoke(&hub, revoker(&ISSUER), r#"{"jti": "2"}"#).await.0, 200);
    let (status, answer) = revoke(&hub, revoker(&ISSUER), r#"{"jti": "3"}"#).await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("too_busy")));
    // One that is there already needs none.
    assert_eq!(revoke(&hub, revoker(&ISSUER), r#"{"jti": "1", "exp": 9999999999}"#).await.0, 200);
    let with = |jti: &str| {
        let mut claims = ISSUER.claims(&[], &["a"]);
        (claims["jti"], claims["sub"]) = (json!(jti), json!("somebody"));
        Way::SseH1.options(&hub).topic("a").unwrap().token(ISSUER.sign(&claims))
    };
    for jti in ["1", "2"] {
        assert_eq!(refusal(Way::SseH1, &with(jti)).await, 401, "{jti}");
    }
    is_open(&hub, &mut feed(&with("3"), Way::SseH1).await).await;
    let text = hub.running().hub().metrics().to_text();
    assert!(text.contains("fanwire_refusals_total{code=\"too_busy\"} 1\n"), "{text}");
}
