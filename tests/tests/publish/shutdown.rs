//! A hub that is full, or about to end.

use fanwire_tests::{Ask, Story, TestHub, Version, Way};
use http::StatusCode;

use crate::stored;

#[tokio::test]
async fn beyond_the_limit_browsers_are_shed_and_others_refused() {
    let hub = TestHub::with(|config| config.limits.subscribers_max = 1);
    let mut first = Way::SseH1.subscribe(&hub, &["a"]).await;
    Story::read(&mut first, 0).await;
    turned_away(&hub, "too_many_connections").await;
    hub.publish_numbers("a", 0..1).await;
    assert_eq!(Story::read(&mut first, 1).await.numbers(), [0]);
    stored(&hub, 1).await;
}

#[tokio::test]
async fn while_it_drains_nobody_gets_in() {
    let hub = TestHub::start();
    for version in Version::ALL {
        let answer = Ask::get("/readyz").whole(version, &hub).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "ready\n"), "{version:?}");
    }
    hub.running().hub().begin_drain();
    turned_away(&hub, "draining").await;
    for version in Version::ALL {
        let answer = Ask::get("/readyz").whole(version, &hub).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::SERVICE_UNAVAILABLE, "draining\n"), "{version:?}");
        let answer = Ask::get("/livez").whole(version, &hub).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "live\n"), "{version:?}");
        for (content_type, body) in [
            ("application/x-www-form-urlencoded", "topic=a"),
            ("application/json", "{\"topic\":\"a\"}"),
            ("application/x-ndjson", "{\"topic\":\"a\"}"),
        ] {
            let answer = Ask::post(content_type, body).whole(version, &hub).await;
            let got = (answer.status, answer.code(), answer.header("retry-after"));
            assert_eq!(got, (StatusCode::SERVICE_UNAVAILABLE, "draining".into(), "2"), "{version:?} {content_type}");
        }
    }
}

async fn turned_away(hub: &TestHub, code: &str) {
    for version in Version::ALL {
        let ask = Ask::get("/events?topic=a");
        let answer = ask.clone().whole(version, hub).await;
        let got = (answer.status, answer.code(), answer.header("retry-after"));
        assert_eq!(got, (StatusCode::SERVICE_UNAVAILABLE, code.to_owned(), "2"), "{version:?}");
        let answer = ask.header("sec-fetch-dest", "empty").whole(version, hub).await;
        let got = (answer.status, answer.header("content-type"), answer.text());
        assert_eq!(got, (StatusCode::OK, "text/event-stream", "retry: 2000\n\n"), "{version:?}");
    }
}
