//! Where tokens are, and what they grant.

use std::time::Duration;

use fanwire_tests::{Ask, ISSUER, Version, all, now_ms, soon};

use super::*;

/// What a subscriber is told who comes with these headers and this query: a status, and what it sees of two events.
async fn seen(hub: &TestHub, version: Version, query: &str, headers: &[(&'static str, String)]) -> (u16, Vec<String>) {
    let mut ask = Ask::get(format!("{HUB}?topic=a{query}"));
    ask.headers.extend_from_slice(headers);
    let mut feed = ask.over(version, hub).await;
    let status = feed.status.as_u16();
    if status != 200 {
        return (status, vec![]);
    }
    feed.until("\n").await;
    publish(hub, &[("topic", "a"), ("data", "secret"), ("private", "")]).await;
    publish(hub, &[("topic", "a"), ("data", "end")]).await;
    (status, data(&mut feed).await)
}

#[tokio::test]
async fn a_header_wins_over_the_query_and_that_over_a_cookie() {
    let hub = hub(|config| config.auth.allow_anonymous = true);
    let (may, may_not) = (sign(&grants(&[], &["a"])), sign(&grants(&[], &["b"])));
    let header = |token: &str| ("authorization", bearer(token));
    let cookie = |token: &str| ("cookie", format!("x=y; mercureAuthorization={token}"));
    let query = |token: &str| format!("&authorization={token}");
    for version in Version::ALL {
        for (query, headers, secret) in [
            (String::new(), vec![], false),
            (String::new(), vec![header(&may)], true),
            (query(&may), vec![], true),
            (String::new(), vec![cookie(&may)], true),
            (query(&may_not), vec![header(&may), cookie(&may_not)], true),
            (query(&may), vec![header(&may_not), cookie(&may)], false),
            (query(&may), vec![cookie(&may_not)], true),
            (query(&may_not), vec![cookie(&may)], false),
            // The cookie of 1.0 is none of 0.x.
            (String::new(), vec![("cookie", format!("__Secure-mercure_access_token={may}"))], false),
        ] {
            let expected: &[&str] = if secret { &["secret", "end"] } else { &["end"] };
            let (status, seen) = seen(&hub, version, &query, &headers).await;
            assert_eq!(
                (status, seen),
                (200, expected.iter().map(|text| (*text).to_owned()).collect()),
                "{version:?} {headers:?}"
            );
        }
        // What wins isn't passed over because it is no good.
        for (query, headers, status) in [
            (query("x"), vec![cookie(&may)], 401),
            (query(&may), vec![header("x")], 401),
            (format!("{0}{0}", query(&may)), vec![], 400),
            (query(&may), vec![("authorization", "Basic YTpi".to_owned())], 400),
            (String::new(), vec![cookie(&may), cookie(&may_not)], 400),
            (String::new(), vec![cookie(&may), ("sec-fetch-site", "cross-site".to_owned())], 403),
        ] {
            assert_eq!(seen(&hub, version, &query, &headers).await.0, status, "{version:?} {query} {headers:?}");
        }
    }
}

#[tokio::test]
async fn a_claim_grants_every_topic_or_nothing_is_published() {
    let hub = hub(|config| config.auth.allow_anonymous = true);
    let token = |claims: Value| sign(&claims);
    let both = [("topic", "a"), ("topic", "b"), ("data", "x")];
    let mut expected = 0;
    for version in Version::ALL {
        for (token, status) in [
            (None, 401),
            (Some(token(grants(&["*"], &[]))), 200),
            (Some(token(grants(&["a", "b"], &[]))), 200),
            (Some(token(grants(&["a"], &["*"]))), 403),
            (Some(token(grants(&[], &["*"]))), 403),
            (Some(token(json!({ "mercure": { "subscribe": ["*"] } }))), 403),
            (Some(token(json!({ "mercure": { "publish": ["*"] } }))), 200),
            (Some(token(json!({ "https://mercure.rocks/": { "publish": ["*"] } }))), 200),
            (
                Some(token(json!({ "https://mercure.rocks/": { "publish": ["a"] }, "mercure": { "publish": ["*"] } }))),
                403,
            ),
            // Its keys are for subscribing alone.
            (Some(of_issuer(&grants(&["*"], &["*"]))), 401),
        ] {
            let answer = post(&hub, version, token.as_deref(), &both).await;
            assert_eq!(answer.status.as_u16(), status, "{version:?} {token:?}");
            assert_eq!(answer.headers.contains_key("www-authenticate"), status != 200, "{version:?}");
            expected += u64::from(status == 200);
        }
        // A page's cookie, from the page that may.
        let cookie = format!("mercureAuthorization={}", sign(&grants(&["a"], &[])));
        let ask = Ask { path: HUB.into(), ..Ask::post(FORM, "topic=a") }.header("cookie", cookie);
        assert_eq!(ask.clone().whole(version, &hub).await.code(), "foreign_origin", "{version:?}");
        let own = if version.is_tls() { hub.running().https() } else { hub.running().http() };
        let referer = format!("http://{}/page", own.unwrap());
        assert_eq!(ask.header("referer", referer).whole(version, &hub).await.status.as_u16(), 200, "{version:?}");
        expected += 1;
    }
    let last = publish(&hub, &[("topic", "a")]).await;
    assert!(last.ends_with(&format!(":{}", expected + 1)), "nothing was published that wasn't answered 200: {last}");
}

#[tokio::test]
async fn strangers_are_let_in_where_the_hub_allows_it() {
    let closed = hub(|_| ());
    for version in Version::ALL {
        let answer = ask(&["a"]).whole(version, &closed).await;
        assert_eq!((answer.status.as_u16(), answer.challenge()), (401, "Bearer"), "{version:?}");
        assert_eq!(seen(&closed, version, "", &[("authorization", bearer(&sign(&grants(&[], &[]))))]).await.1, ["end"]);
        let of_named = of_issuer(&grants(&[], &["a"]));
        assert_eq!(seen(&closed, version, "", &[("authorization", bearer(&of_named))]).await.1, ["secret", "end"]);
    }
}

#[tokio::test]
async fn a_feed_ends_with_its_token_its_revocation_or_its_key() {
    let hub = hub(|_| ());
    let its = &hub;
    all(Version::ALL.map(|version| async move {
        let begun = now_ms();
        let mut claims = grants(&[], &["a"]);
        claims["exp"] = json!((begun + 2_500) as f64 / 1000.0);
        let expiring = ask(&["a"]).header("authorization", bearer(&sign(&claims)));
        let mut feed = open(expiring, version, its).await;
        feed.rest().await;
        // The next heartbeat would be in 15 s.
        assert!((1_500..=7_500).contains(&(now_ms() - begun)), "{version:?}");
    }))
    .await;
    let mut claims = grants(&[], &["a"]);
    claims["sub"] = json!("somebody");
    claims["iss"] = json!(ISSUER.name);
    let token = of_issuer(&claims);
    let mut revoked = open(ask(&["a"]).header("authorization", bearer(&token)), Version::H1, &hub).await;
    let mut without_exp = open(
        ask(&["a"]).header("authorization", bearer(&sign(&json!({ "mercure": { "subscribe": ["a"] } })))),
        Version::H2Tls,
        &hub,
    )
    .await;
    let revoker = fanwire::auth::mint::Claims {
        issuer: ISSUER.name.to_owned(),
        resource: fanwire_tests::RESOURCE.to_owned(),
        revoke: true,
        ..Default::default()
    };
    let revoker = ISSUER.sign(&revoker.to_json(now_ms(), Duration::from_secs(60)));
    let order = Ask { path: "/events/revocations".into(), ..Ask::post("application/json", r#"{"sub":"somebody"}"#) };
    let answer = order.header("authorization", bearer(revoker.as_str())).whole(Version::H1, &hub).await;
    assert_eq!((answer.status.as_u16(), answer.json()["closed"].as_u64()), (200, Some(1)));
    revoked.rest().await;
    let again = ask(&["a"]).header("authorization", bearer(&token)).whole(Version::H1, &hub).await;
    assert_eq!(again.status.as_u16(), 401);
    // A key that isn't for subscribing any more.
    let mut config = config_of(&hub);
    config.auth.issuers.push(unnamed(Actions { publish: true, subscribe: false }));
    assert_eq!(hub.running().reload(&config).await, 1);
    soon(without_exp.rest()).await;
}

/// As the hub was configured, without the issuer that has no name.
fn config_of(hub: &TestHub) -> Config {
    let layer = fanwire::config::Layer {
        http: hub.running().http().map(|address| address.to_string()),
        https: Some("off".to_owned()),
        ..Default::default()
    };
    let mut config = Config::load(layer).unwrap();
    config.auth.issuers = vec![ISSUER.config()];
    config.auth.resource = fanwire_tests::RESOURCE.to_owned();
    config
}
