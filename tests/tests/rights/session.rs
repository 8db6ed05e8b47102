//! Tokens on the control stream of a WebTransport session.

use std::time::{Duration, Instant};

use fanwire_client::{Connection, ControlError, Item, Publication};
use fanwire_protocol::message::ByeCode;
use fanwire_tests::{ISSUER, OTHER_ISSUER, TestHub, Way, now_ms, soon};
use serde_json::json;

fn private(topic: &str, text: &str) -> Publication {
    Publication { private: true, ..Publication::text(topic, text) }
}

async fn next_but_pings(feed: &mut Connection) -> Item {
    loop {
        match soon(feed.next()).await.unwrap() {
            Item::Ping(_) => {}
            item => break item,
        }
    }
}

#[tokio::test]
async fn nothing_is_delivered_before_auth_and_the_wait_is_short() {
    let hub = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    let mut options = Way::WebTransport.options(&hub).topic("a").unwrap();
    options.url.set_query(Some("auth=inband"));
    let begin = Instant::now();
    let mut feed = Way::WebTransport.connect(&options).await;
    let mut publisher = hub.publisher_with(ISSUER.token(&["*"], &[]));
    publisher.publish(&Publication::text("a", "x")).await.unwrap();
    match soon(feed.next()).await.unwrap() {
        Item::Bye(bye) => assert_eq!((bye.code, bye.retry_ms), (ByeCode::Unauthorized as u32, None)),
        other => panic!("{other:?}"),
    }
    let waited = begin.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(10)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn auth_begins_the_feed() {
    let hub = TestHub::with_keys(|_| ());
    let mut options = Way::WebTransport.options(&hub).topic("a").unwrap();
    options.url.set_query(Some("auth=inband"));
    let mut feed = Way::WebTransport.connect(&options).await;
    let control = feed.control().unwrap();
    soon(control.authenticate(&ISSUER.token(&["a"], &["a"]))).await.unwrap();
    assert!(matches!(next_but_pings(&mut feed).await, Item::Hello(_)));
    soon(control.publish(&private("a", "mine"))).await.unwrap();
    assert!(matches!(next_but_pings(&mut feed).await, Item::Event(event) if event.event.draft.data.bytes() == "mine"));
}

#[tokio::test]
async fn the_first_request_is_auth() {
    let hub = TestHub::with_keys(|config| config.auth.allow_anonymous = true);
    let mut options = Way::WebTransport.options(&hub).topic("a").unwrap();
    options.url.set_query(Some("auth=inband"));
    let mut feed = Way::WebTransport.connect(&options).await;
    let answer = soon(feed.control().unwrap().publish(&Publication::text("a", "x"))).await;
    assert_eq!(answer.unwrap_err(), ControlError::Closed);
    match soon(feed.next()).await.unwrap() {
        Item::Bye(bye) => assert_eq!(bye.code, ByeCode::Unauthorized as u32),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_feed_goes_on_with_another_token() {
    let hub = TestHub::with_keys(|_| ());
    let mut publisher = hub.publisher_with(ISSUER.token(&["*"], &[]));
    let mut claims = ISSUER.claims(&[], &["a"]);
    claims["exp"] = json!((now_ms() + 2_500) as f64 / 1000.0);
    let options = Way::WebTransport.options(&hub).topic("a").unwrap().topic("b").unwrap();
    let mut feed = Way::WebTransport.connect(&options.token(ISSUER.sign(&claims))).await;
    assert!(matches!(next_but_pings(&mut feed).await, Item::Hello(_)));
    publisher.publish(&private("a", "1")).await.unwrap();
    publisher.publish(&private("b", "2")).await.unwrap();
    let control = feed.control().unwrap();
    let from = soon(control.authenticate(&ISSUER.token(&[], &["b"]))).await.unwrap();
    publisher.publish(&private("a", "3")).await.unwrap();
    publisher.publish(&private("b", "4")).await.unwrap();
    assert!(matches!(next_but_pings(&mut feed).await, Item::Event(event) if event.event.draft.data.bytes() == "1"));
    assert!(matches!(next_but_pings(&mut feed).await, Item::Changed(changed) if changed.from_seq == from.0));
    assert!(matches!(next_but_pings(&mut feed).await, Item::Event(event) if event.event.draft.data.bytes() == "4"));
    // The first token's end is nobody's any more.
    tokio::time::sleep(Duration::from_millis(3_000)).await;
    publisher.publish(&private("b", "5")).await.unwrap();
    assert!(matches!(next_but_pings(&mut feed).await, Item::Event(event) if event.event.draft.data.bytes() == "5"));
}

#[tokio::test]
async fn a_token_that_is_refused_changes_nothing() {
    let hub = TestHub::with(|config| {
        config.auth.issuers = vec![ISSUER.config(), OTHER_ISSUER.config()];
        config.auth.resource = fanwire_tests::RESOURCE.to_owned();
    });
    let mut publisher = hub.publisher_with(ISSUER.token(&["*"], &[]));
    let options = Way::WebTransport.options(&hub).topic("a").unwrap();
    let mut feed = Way::WebTransport.connect(&options.token(ISSUER.token(&[], &["a"]))).await;
    assert!(matches!(next_but_pings(&mut feed).await, Item::Hello(_)));
    let control = feed.control().unwrap();
    let mut expired = ISSUER.claims(&[], &["*"]);
    expired["exp"] = json!(now_ms() / 1000 - 1);
    let mut other_subject = ISSUER.claims(&[], &["*"]);
    other_subject["sub"] = json!("somebody else");
    for (token, code) in [
        (ISSUER.sign(&expired), "invalid_token"),
        ("not.a.token".parse().unwrap(), "invalid_token"),
        (ISSUER.sign(&other_subject), "other_subject"),
        (OTHER_ISSUER.token(&[], &["*"]), "other_subject"),
    ] {
        let refused = soon(control.authenticate(&token)).await;
        assert!(matches!(&refused, Err(ControlError::Refused { code: got, .. }) if got == code), "{refused:?}");
    }
    publisher.publish(&private("a", "still")).await.unwrap();
    assert!(matches!(next_but_pings(&mut feed).await, Item::Event(event) if event.event.draft.data.bytes() == "still"));
}

#[tokio::test]
async fn a_hub_without_keys_looks_at_no_tokens() {
    let hub = TestHub::start();
    for way in Way::EVERY {
        for in_band in [false, true] {
            let mut options = way.options(&hub).topic("a").unwrap().token("anything".parse().unwrap());
            options.auth_in_band = in_band;
            let mut feed = way.connect(&options).await;
            assert!(matches!(next_but_pings(&mut feed).await, Item::Hello(_)), "{way:?}");
            hub.publish(&private("a", "nobody's")).await;
            hub.publish(&Publication::text("a", "everybody's")).await;
            let next = next_but_pings(&mut feed).await;
            assert!(matches!(next, Item::Event(event) if event.event.draft.data.bytes() == "everybody's"), "{way:?}");
        }
    }
}
