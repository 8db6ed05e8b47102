//! Tickets: a token's rights for one feed, for clients that can't send headers.

use fanwire_client::{Connection, Item, Options, Publication};
use fanwire_protocol::message::ByeCode;
use fanwire_tests::{Ask, ISSUER, TestHub, Version, Way, soon};
use http::Method;
use serde_json::json;

use crate::subscribe::refusal;

const JSON: &str = "application/json";

fn ask() -> Ask {
    Ask { path: "/events/ticket".to_owned(), ..Ask::post(JSON, "") }
}

async fn open(options: &Options, way: Way) -> Connection {
    let mut feed = way.connect(options).await;
    let first = soon(feed.next()).await.unwrap();
    assert!(matches!(first, Item::Hello(_)), "{way:?}: {first:?}");
    feed
}

/// The feed gets what is private.
async fn sees_private(hub: &TestHub, feed: &mut Connection, way: Way) {
    let private = Publication { private: true, ..Publication::text("a", "for you") };
    hub.publisher_with(ISSUER.token(&["*"], &[])).publish(&private).await.unwrap();
    let event = loop {
        match soon(feed.next()).await.unwrap() {
            Item::Ping(_) => {}
            item => break item,
        }
    };
    assert!(matches!(event, Item::Event(event) if event.event.draft.data.bytes() == "for you"), "{way:?}");
}

#[tokio::test]
async fn a_ticket_is_good_for_one_feed() {
    let hub = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    assert_eq!(ask().whole(Version::H1, &hub).await.status.as_u16(), 401, "a stranger gets none");
    let bearer = format!("Bearer {}", ISSUER.token(&["a"], &["a"]).as_str());
    for way in Way::EVERY {
        let answer = ask().header("authorization", &bearer).whole(Version::H2Tls, &hub).await;
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"));
        let answer = answer.json();
        let ticket = answer["ticket"].as_str().unwrap();
        assert_eq!(answer["expires_in_ms"], 10_000);
        // It is nothing to publish with.
        let post = Ask { path: format!("/events?ticket={ticket}"), ..Ask::post(JSON, r#"{"topic": "a"}"#) };
        assert_eq!(post.whole(Version::H1, &hub).await.code(), "invalid_request");
        let mut options = way.options(&hub).topic("a").unwrap();
        options.url.set_query(Some(&format!("ticket={ticket}")));
        let mut feed = open(&options, way).await;
        sees_private(&hub, &mut feed, way).await;
        // Not again, though strangers are let in; nor one that was changed.
        let expected = if way.is_session() { ByeCode::Unauthorized as u32 } else { 401 };
        assert_eq!(refusal(way, &options).await, expected, "{way:?}");
        options.url.set_query(Some(&format!("ticket={}x", ticket)));
        assert_eq!(refusal(way, &options).await, expected, "{way:?}");
    }
}

#[tokio::test]
async fn a_ticket_is_for_a_get_or_a_connect_and_others_dont_use_it_up() {
    let hub = TestHub::with_keys(|config| {
        config.auth.allow_anonymous = true;
        config.subscriptions_max = Some(10);
    });
    let claims = ISSUER.claims(&[], &["*"]);
    let mut revoke = claims["authorization_details"][0].clone();
    (revoke["actions"], revoke["topics"]) = (json!(["subscribe", "revoke"]), json!([{ "match": "*" }]));
    let mut claims = claims;
    claims["authorization_details"] = json!([revoke]);
    let bearer = format!("Bearer {}", ISSUER.sign(&claims).as_str());
    let subscription = "/events/subscriptions/exact/a/urn%3Auuid%3A00000000-0000-4000-8000-000000000000";
    let delete = Ask::get(subscription).method(Method::DELETE).header("authorization", &bearer);
    assert_eq!(delete.whole(Version::H1, &hub).await.status.as_u16(), 404, "the token may");
    let query = || Method::from_bytes(b"QUERY").unwrap();
    for version in Version::ALL {
        let answer = ask().header("authorization", &bearer).whole(version, &hub).await;
        let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
        for (method, path) in [
            (Method::DELETE, subscription),
            (Method::HEAD, "/events"),
            (Method::HEAD, "/events/subscriptions"),
            (query(), "/events"),
            (Method::POST, "/events"),
            (Method::POST, "/events/ticket"),
            (Method::POST, "/events/revocations"),
        ] {
            let path = format!("{path}?topic=a&ticket={ticket}");
            let form = Ask { path, ..Ask::post("application/x-www-form-urlencoded", "topic=a") };
            let form = if method == Method::HEAD { Ask { body: "".into(), headers: vec![], ..form } } else { form };
            let answer = form.method(method.clone()).whole(version, &hub).await;
            let challenge = "Bearer error=\"invalid_request\"";
            assert_eq!((answer.status.as_u16(), answer.challenge()), (400, challenge), "{version:?} {method}");
        }
        let mut feed = Ask::get(format!("/events?topic=a&ticket={ticket}")).over(version, &hub).await;
        assert_eq!(feed.status.as_u16(), 200, "{version:?}: it is as good as new");
        feed.until("\n").await;
    }
}

#[tokio::test]
async fn a_cookie_gets_a_ticket_only_for_pages_that_may() {
    let hub = TestHub::with_keys(|config| {
        config.auth.allow_anonymous = true;
        config.allowed_origins = vec!["https://app.example".parse().unwrap()];
    });
    let cookie = format!("__Secure-mercure_access_token={}", ISSUER.token(&[], &["a"]).as_str());
    let mut ways = Way::EVERY.into_iter().cycle();
    for version in Version::ALL {
        for (name, value, may) in [
            ("accept", "*/*", false),
            ("sec-fetch-site", "same-origin", false),
            ("origin", "https://evil.example", false),
            ("origin", "https://app.example.evil.example", false),
            ("origin", "http://app.example", false),
            ("origin", "null", false),
            ("referer", "https://evil.example/https://app.example/", false),
            ("origin", "https://app.example", true),
            ("referer", "https://app.example/some/page", true),
        ] {
            let answer = ask().header("cookie", cookie.as_str()).header(name, value).whole(version, &hub).await;
            if !may {
                let got = (answer.status.as_u16(), answer.code());
                assert_eq!(got, (403, "foreign_origin".to_owned()), "{version:?} {name}: {value}");
                assert!(!answer.text().contains("ticket"), "{version:?} {name}: {value}");
                continue;
            }
            assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "no-store"), "{version:?}");
            let way = ways.next().unwrap();
            let mut options = way.options(&hub).topic("a").unwrap();
            options.url.set_query(Some(&format!("ticket={}", answer.json()["ticket"].as_str().unwrap())));
            sees_private(&hub, &mut open(&options, way).await, way).await;
        }
        let bad = ask().header("cookie", format!("{cookie}x")).header("origin", "https://app.example");
        let bad = bad.whole(version, &hub).await;
        assert_eq!((bad.status.as_u16(), bad.code()), (401, "invalid_token".to_owned()), "{version:?}");
    }
}

#[tokio::test]
async fn a_ticket_is_no_token_and_a_token_no_ticket() {
    // [RFC 8725 §3.12]
    let hub = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    let token = ISSUER.token(&["a"], &["a"]);
    let bearer = format!("Bearer {}", token.as_str());
    let ticket = async || {
        let answer = ask().header("authorization", &bearer).whole(Version::H1, &hub).await;
        answer.json()["ticket"].as_str().unwrap().to_owned()
    };
    for way in Way::EVERY {
        let expected = if way.is_session() { ByeCode::Unauthorized as u32 } else { 401 };
        for in_band in [false, true] {
            let mut options = way.options(&hub).topic("a").unwrap().token(ticket().await.parse().unwrap());
            options.auth_in_band = in_band && way.is_session();
            assert_eq!(refusal(way, &options).await, expected, "{way:?}: a ticket as a token, in band: {in_band}");
        }
        let mut options = way.options(&hub).topic("a").unwrap();
        options.url.set_query(Some(&format!("ticket={}", token.as_str())));
        assert_eq!(refusal(way, &options).await, expected, "{way:?}: a token as a ticket");
    }
    for version in Version::ALL {
        for path in ["/events", "/events/ticket", "/events/revocations"] {
            let post = Ask { path: path.to_owned(), ..Ask::post(JSON, r#"{"topic": "a", "jti": "x"}"#) };
            let answer = post.header("authorization", format!("Bearer {}", ticket().await)).whole(version, &hub).await;
            let got = (answer.status.as_u16(), answer.code());
            assert_eq!(got, (401, "invalid_token".to_owned()), "{version:?} {path}");
        }
    }
}
